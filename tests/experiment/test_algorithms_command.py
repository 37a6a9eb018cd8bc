"""`meta-latent algorithms`: the table, one algorithm in words, a user's own, wrong input."""

import dataclasses
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meta_latent import cli
from meta_latent.algorithms import registry
from meta_latent.experiment.settings.listing import meanings
from meta_latent.ranges import count, counts, positive

PLANNER = Path(__file__).resolve().parents[2] / "examples" / "my_planner.py"


@pytest.fixture
def said(capsys, monkeypatch, tmp_path):
    """A function: what the command prints with these arguments, in a folder with my_planner.py."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    shutil.copy(PLANNER, tmp_path)

    def call(*arguments, status=0):
        capsys.readouterr()
        assert cli.main(["algorithms", *arguments]) == status
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    yield call
    sys.modules.pop("my_planner", None)


def row(table, name):
    return next(line.split() for line in table.splitlines() if line.startswith(f"{name} "))


def test_the_table_has_a_line_for_each(said):
    table = said()
    assert table.splitlines()[0].split() == ["algorithm", "arms", "sees", "needs", "clock", "extra"]
    assert [line.split()[0] for line in table.splitlines()[1:]] == registry.names()
    arms = [f"ivg/{start}" for start in registry.get("ivg").starts]
    assert row(table, "ivg") == ["ivg", *arms, "-", "-", "env_steps", "-"]
    assert row(table, "sb3_sac")[4:5] == ["env_steps"] and "baselines" in row(table, "sb3_sac")


def test_what_is_registered_shows_in_its_columns(said):
    entry = registry.get("sac")
    registry.register("told", dataclasses.replace(entry, starts=("scratch",), sees={"reward", "task"}, needs={"data"}))
    registry.register("broken", "my_nothing_at_all:ALGORITHM")
    table = said()
    assert row(table, "told") == ["told", "told/scratch", "reward,", "task", "data", "updates", "-"]
    assert "algorithm 'broken' cannot be imported from my_nothing_at_all:ALGORITHM" in table.splitlines()[-1]


def test_one_in_words(said):
    text = said("ivg")
    for words in (
        'Byravan et al., "Imagined Value Gradients", CoRL 2019 (arXiv 1910.04142)',
        "ivg/pretrained             compared with ivg/scratch\n",
        "ivg/pretrained+data        compared with ivg/scratch+data\n",
        "    ivg/scratch\n",
        "settings, algorithms.ivg.KEY=VALUE:",
        "horizon = 5                        a whole number from 1 to 1000\n        N, imagined steps\n",
        "reward_heads = 5                   a whole number from 2 to 64\n        the reward is the mean of this many",
        "reward_loss_imagined  the same on latents unrolled with the logged actions",
    ):
        assert words in text, text
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("    ") and " = " in line]
    assert shown == [field.name for field in dataclasses.fields(registry.get("ivg").config)]
    assert all(len(line) <= 120 for line in text.splitlines())


def test_what_it_tells_along_trials(said):
    told = {"spread": "of the belief, in nats"}
    registry.register("open", dataclasses.replace(registry.get("sac"), inspects=told))
    assert "shown along trials:\n    spread  of the belief, in nats" in said("open")
    assert "shown along trials" not in said("sac")


@pytest.mark.parametrize("name", registry.names())
def test_every_registered_algorithm_can_be_shown(said, name):
    assert f"algorithms.{name}.KEY=VALUE" in said(name)


def test_a_users_own(said):
    assert "planner/pretrained planner/scratch" in said("imports=[my_planner]")
    text = said("planner", "imports=[my_planner]")
    assert "tries actions in imagination" in text and "candidates = 64" in text
    assert "        actions that are tried at once\n" in text


def test_wrong_input_is_one_line(said):
    for arguments, words in (
        (["ivgg"], "there is no algorithm 'ivgg'; did you mean 'ivg'? imports=[my_package] registers your own"),
        (["ivg", "horizon=3"], "horizon= is nothing to show an algorithm with"),
        (["imports=[my_nothing]"], "there is no module 'my_nothing'"),
    ):
        (line,) = said(*arguments, status=2).splitlines()
        assert words in line


@dataclass
class Documented:
    """About rate, not to be taken for one: rate.rate: neither.

    Attributes:
        rate, other: of both. size: two
            lines; `more`: that too.
    """

    rate: float = positive(1.0)
    other: float = positive(1.0)
    size: int = count(1)
    more: tuple[int, ...] = counts((1,))
    silent: dict = field(default_factory=dict)


@dataclass
class Undocumented:
    """No setting is spoken of."""

    rate: float = positive(1.0)


def test_meanings_are_read_from_the_docstring():
    assert meanings(Undocumented) == {}
    assert meanings(Documented) == {"rate": "of both", "other": "of both", "size": "two lines", "more": "that too"}


@pytest.mark.parametrize("name", ["ivg", "oracle", "pearl", "rl2", "sac", "sb3_sac"])
def test_every_setting_has_a_meaning_of_its_own(name):
    said = meanings(registry.get(name).config)
    assert list(said) and set(said) == {field.name for field in dataclasses.fields(registry.get(name).config)}
    assert len(set(said.values())) == len(said) and all(said.values())
