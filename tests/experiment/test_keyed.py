"""Mappings whose value type follows from the key: as strict as any other part of the configuration."""

import sys
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from meta_latent.errors import UserError
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.type_hints import Keyed


@dataclass(frozen=True)
class Adaptation:
    """A part with defaults of its own."""

    joint: float = 0.0
    transition: float = 1.0


@dataclass(frozen=True)
class Mine:
    """Settings of one key; its part's defaults differ from the part's own."""

    horizon: int = 5
    adaptation: Adaptation = field(default_factory=lambda: Adaptation(joint=3.0))


@dataclass(frozen=True)
class Other:
    """Settings of another key."""

    layers: tuple[int, ...] = (8, 8)
    width: int = 4


REGISTERED = {"mine": Mine, "other": Other}


def schema_of(key):
    try:
        return REGISTERED[key]
    except KeyError:
        raise KeyError(*REGISTERED) from None


@dataclass(frozen=True)
class Experiment:
    """The schema of these tests."""

    seed: int = 0
    imports: tuple[str, ...] = ()
    algorithms: Annotated[dict[str, Any], Keyed(schema_of)] = field(default_factory=dict)


def load(*overrides, **values):
    return config.load(Experiment, [values], list(overrides))


def message(*overrides, **values):
    with pytest.raises(UserError) as caught:
        load(*overrides, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_key_chooses_the_type_and_its_defaults_are_filled():
    made = load("algorithms.mine.horizon=7", algorithms={"other": {"width": 1}})
    assert made.algorithms == {"mine": Mine(7), "other": Other(width=1)}
    assert load().algorithms == {}  # a key that nobody mentions has no entry
    assert load("algorithms.other={}").algorithms == {"other": Other()}


def test_deep_overrides_keep_the_defaults_beside_them():
    made = load("algorithms.mine.adaptation.transition=2")
    assert made.algorithms == {"mine": Mine(adaptation=Adaptation(3.0, 2.0))}
    made = load("algorithms.mine.horizon=7", algorithms={"mine": {"adaptation": {"joint": 4}}})
    assert made.algorithms == {"mine": Mine(7, Adaptation(4.0))}
    assert load("algorithms.other.layers.1=2", algorithms={"other": {}}).algorithms["other"].layers == (8, 2)


def test_mistakes_are_as_clear_as_elsewhere():
    text = message("algorithms.mine.horizn=7")
    assert text == "unknown key 'algorithms.mine.horizn' (in the command line); did you mean 'algorithms.mine.horizon'?"
    assert message("algorithms.mien.horizon=7") == (
        "unknown key 'algorithms.mien' (in the command line); did you mean 'algorithms.mine'?"
    )
    assert "choose from mine, other" in message(algorithms={"zzz": {}})
    assert "algorithms.mine.horizon='far'" in message("algorithms.mine.horizon=far")
    assert "algorithms.mine=3" in message("algorithms.mine=3")
    assert "algorithms=[1] (in the command line) should be a mapping" in message("algorithms=[1]")


def test_a_string_names_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/algorithm").mkdir(parents=True)
    (tmp_path / "configs/algorithm/far.yaml").write_text("horizon: 50\n")
    assert load("algorithms.mine=far").algorithms == {"mine": Mine(50)}
    assert load("algorithms.mine.horizon=2", "algorithms.mine=far").algorithms == {"mine": Mine(2)}


def test_yaml_round_trip(tmp_path):
    made = load("algorithms.mine.adaptation.joint=1e-7", "algorithms.other.layers=[]")
    assert config.load(Experiment, [config.to_dict(made)]) == made
    (tmp_path / "config.yaml").write_text(config.to_yaml(made))
    assert config.load(Experiment, [tmp_path / "config.yaml"]) == made


def test_a_package_that_is_imported_may_register_keys(tmp_path, monkeypatch):
    (tmp_path / "registers_late.py").write_text(
        "from dataclasses import dataclass, field\n"
        "import sys\n"
        "tests = sys.keyed_tests\n"
        "@dataclass(frozen=True)\n"
        "class Late:\n"
        "    rate: float = 1.0\n"
        "    part: tests.Adaptation = field(default_factory=lambda: tests.Adaptation(joint=9.0))\n"
        "tests.REGISTERED['late'] = Late\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "keyed_tests", sys.modules[__name__], raising=False)
    monkeypatch.setattr(sys.modules[__name__], "REGISTERED", dict(REGISTERED))
    assert "'algorithms.late'" in message("algorithms.late.rate=2")
    made = load("algorithms.late.part.transition=2", "imports=[registers_late]").algorithms["late"]
    assert (made.rate, made.part) == (1.0, Adaptation(9.0, 2.0))
