"""Every number of every configuration states its range, and loading holds it to it: one line, never a
traceback.
"""

import dataclasses
import re
import typing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import meta_latent
from meta_latent import ranges
from meta_latent.algorithms import registry
from meta_latent.errors import UserError
from meta_latent.experiment.commands.adapt import AdaptConfig, FolderConfig
from meta_latent.experiment.commands.evaluate import EvaluateConfig
from meta_latent.experiment.settings import config, structure, type_hints
from meta_latent.experiment.settings.schema import ExperimentConfig, SourceConfig, TaskConfig

NONSENSE = ["-1", "0", ".nan", ".inf", "-.inf", "1e30", "-1e30", "1e400", "9" * 400, "word"]


def members(expected: Any) -> list[Any]:
    """`expected` and every type inside it."""
    parts = [part for part in typing.get_args(expected) if part is not Ellipsis]
    return [expected, *(inner for part in parts for inner in members(part))]


def schemas(root: type) -> list[type]:
    """`root` and every dataclass that a configuration of it may hold, those of `Keyed` mappings too."""
    found = [root]
    for schema in found:
        hints = typing.get_type_hints(schema, include_extras=True)
        for setting in type_hints.settings_of(schema):
            inside = members(hints[setting.name])
            for marker in [part for part in inside if isinstance(part, type_hints.Keyed)]:
                inside += [marker.schema_of(name) for name in marker.choices()]
            inside = [part for part in inside if isinstance(part, type) and dataclasses.is_dataclass(part)]
            found += [part for part in inside if part not in found]
    return found


def unlimited(root: type) -> list[str]:
    """Fields that hold numbers or lists without saying which."""
    problems = []
    for schema in schemas(root):
        hints = typing.get_type_hints(schema, include_extras=True)
        for setting in type_hints.settings_of(schema):
            inside = members(hints[setting.name])
            needs = {int, float, complex} & {part for part in inside if isinstance(part, type)}
            needs |= {list, tuple} & {typing.get_origin(part) or part for part in inside if part is not Any}
            if needs and ranges.limits_of(setting) is None:
                problems.append(f"{schema.__name__}.{setting.name}")
    return problems


def leaves(value: Any, key: str = "") -> list[str]:
    """Dotted keys of all numbers of a configuration in plain values, with one key of every mapping."""
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in leaves(item, f"{key}.{name}".strip("."))]
    if isinstance(value, list):
        return [leaf for place, item in enumerate(value) for leaf in leaves(item, f"{key}.{place}")]
    return [key] if isinstance(value, int | float) and not isinstance(value, bool) else []


def full() -> dict[str, Any]:
    """An experiment in which every number that a configuration can hold has a value."""
    task = {"suite": "toy/lqr", "distractors": [{"name": "video", "intensity": 0.5}]}
    return {
        "run_seed": 1,
        "random": {"drift": [0.1], "persistences": [0.5, 0.8]},
        "algorithms": {name: {} for name in registry.names()},
        "pretrain": {"sources": [{**task, "scripted": 0.2}]},
        "transfer": {"targets": {"goal": task}, "adaptation": {"scratch": {}}},
        "episodes": 3,
        "fresh": 5,
    }


def test_every_number_and_every_list_states_what_it_may_be():
    assert [unlimited(schema) for schema in (EvaluateConfig, AdaptConfig, FolderConfig)] == [[], [], []]
    names = {schema.__name__ for schema in schemas(ExperimentConfig)}
    assert {"IVGConfig", "AdaptationConfig", "EncoderConfig", "SourceConfig", "ReplayConfig"} <= names


@dataclass(frozen=True)
class Careless:
    """Settings whose author forgot the ranges."""

    rate: float = 0.1
    maybe: int | None = None
    by_name: dict[str, float] = field(default_factory=dict)
    sizes: tuple[int, ...] = (1,)
    words: list[str] = field(default_factory=list)
    on: bool = True
    word: str = ""
    good: float = ranges.positive(1.0)


@dataclass(frozen=True)
class Above:
    """A place for them that is easily overlooked."""

    parts: dict[str, tuple[Careless, ...] | None] = field(default_factory=dict)


def test_a_forgotten_range_is_found():
    names = ["rate", "maybe", "by_name", "sizes", "words"]
    assert unlimited(Above) == ["Above.parts", *(f"Careless.{name}" for name in names)]


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_no_number_of_a_setting_can_end_in_a_traceback(stride):
    # Every one is built whole, however many are wrong.
    start = config.to_dict(config.load(EvaluateConfig, [full()]))
    numbers = leaves(start)
    assert len(numbers) > 120 and "transfer.targets.goal.distractors.0.intensity" in numbers
    taken = set()
    for key in numbers[::stride]:
        for text in NONSENSE:
            value = config.parse_override(f"x={text}")[1]
            given = replaced(start, key.split("."), value)
            if accepted(lambda x=given: structure.build(EvaluateConfig, x, lambda _: "a test"), key, value):
                taken.add((key, text))
    texts = {text for _, text in taken}
    assert texts and texts <= {"-1", "0"}
    if stride == 1:
        assert {("algorithms.ivg.first_updates", "0"), ("algorithms.ivg.target_entropy", "-1")} <= taken


@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_nor_can_one_of_the_command_line(stride):
    # Numbers with one kind of nonsense each: merging takes most of the time.
    for place, key in enumerate(leaves(config.to_dict(config.load(EvaluateConfig, [full()])))[::stride]):
        text = NONSENSE[place % len(NONSENSE)]
        value = config.parse_override(f"x={text}")[1]
        made = accepted(lambda k=key, t=text: config.load(EvaluateConfig, [full()], [f"{k}={t}"]), key, value)
        assert not made or text in ("-1", "0")


def accepted(build, key: str, value: Any) -> bool:
    """Whether `build` takes the value; one line that names both where it does not."""
    try:
        build()
    except UserError as error:
        refused(str(error), key, value)
        return False
    return True


def replaced(node: Any, path: list[str], value: Any) -> Any:
    """`node` with another value at `path`, sharing all else."""
    if not path:
        return value
    if isinstance(node, list):
        return [replaced(item, path[1:], value) if str(i) == path[0] else item for i, item in enumerate(node)]
    return {**node, path[0]: replaced(node[path[0]], path[1:], value)}


def refused(text: str, key: str, value: Any) -> None:
    shown = {repr(value), f"{value:g}" if isinstance(value, int) and value < 1e300 else ""}
    assert "\n" not in text
    fields = "|".join(map(re.escape, [key, key.rpartition(".")[2]]))
    assert any(re.search(rf"({fields})={re.escape(part)}", text) for part in shown if part), (text, key)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("transfer.thresholds=[.nan]", "transfer.thresholds.0=nan (in the command line) should be a number from "),
        ("transfer.thresholds=[1e400]", "transfer.thresholds.0=inf"),
        ("transfer.evaluation.episodes=0", "should be a whole number from 1 to 100000"),
        ("transfer.evaluation.interval_env_steps=0", "interval_env_steps=0"),
        ("transfer.budget_env_steps.default=-5", "budget_env_steps.default=-5 (in the command line) should"),
        ("transfer.budget_env_steps={goal: 0}", "transfer.budget_env_steps.goal=0"),
        ("transfer.seeds=[]", "transfer.seeds=[] (in the command line) should be a list of at least one"),
        ("transfer.arms=[]", "transfer.arms=[]"),
        ("transfer.seeds=[1,2,1]", "transfer.seeds.2=1 (in the command line) should be in the list once"),
        ("transfer.seeds=[1,-2]", "transfer.seeds.1=-2"),
        ("transfer.arms=[ivg/scratch,ivg/scratch]", "transfer.arms.1='ivg/scratch'"),
        ("algorithms.ivg.reward_heads=1", "algorithms.ivg.reward_heads=1"),
        ("model.ensemble.heads=33", "should be a whole number from 1 to 32"),
        ("model.encoder.channels=[]", "model.encoder.channels=[]"),
        ("model.encoder.channels=[8,1e30]", "model.encoder.channels.1=1e+30"),
        ("algorithms.ivg.discount=1", "should be a number from 0 to below 1"),
        ("algorithms.ivg.policy_learning_rate=0", "should be a number above 0 to 10"),
        ("algorithms.ivg.min_stddev=2", "(in the command line and the defaults): min_stddev=2.0 is above"),
    ],
)
def test_what_lies_outside_is_named_with_key_value_range_and_origin(override, message):
    with pytest.raises(UserError) as caught:
        config.load(ExperimentConfig, [config.find("experiment", "toy")], [override])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_ends_of_a_range():
    assert [read(ranges.share(0.5), x) for x in (0, 0.3, 1)] == [0, 0.3, 1]
    for limits, value in [
        (ranges.share(0.5), 1.01),
        (ranges.share(0.5, above=True), 0),
        (ranges.share(0.5, below=True), 1),
        (ranges.positive(1.0), 0),
        (ranges.between(0, -1, 1), -1.5),
        (ranges.count(1, most=3), 4),
        (ranges.numbers((), -1, 1, may_be_empty=True), (0, 2)),
        (ranges.counts_by_name({}), {"a": 0}),
    ]:
        with pytest.raises(ranges.Outside):
            read(limits, value)
    assert read(ranges.numbers((), -1, 1, may_be_empty=True), ()) == ()
    assert read(ranges.count(None), None) is None


def read(setting, value):
    return ranges.limits_of(setting).read(value)


def test_what_code_fills_in_is_no_setting():
    with pytest.raises(UserError, match=r"unknown key 'algorithms.ivg.adaptation' \(in the command line\)"):
        config.load(ExperimentConfig, [], ["algorithms.ivg.adaptation.joint=1"])
    assert config.load(ExperimentConfig, [config.to_dict(ExperimentConfig())]) == ExperimentConfig()


def test_defaults_are_copied_for_every_instance():
    ExperimentConfig().transfer.targets["one"] = TaskConfig("toy/lqr")
    assert ExperimentConfig().transfer.targets == {}
    assert SourceConfig("toy/lqr").split == "train"  # fields keep their order and their own defaults


@pytest.mark.parametrize("wrong", [[0, 1], -1, "0", 1.5, True, 2**63])
def test_python_refuses_what_is_no_seed(tmp_path, wrong):
    made = meta_latent.configure("toy", f"out={tmp_path}")
    for call in (
        lambda: meta_latent.transfer(made, "goal", "sac/scratch", seed=wrong),
        lambda: meta_latent.evaluate(made, "goal", "sac/scratch", seed=wrong),
        lambda: meta_latent.evaluate(made, "goal", "sac/scratch", fresh=wrong),
        lambda: meta_latent.adapt(made, "goal", "sac/scratch", seed=wrong),
        lambda: meta_latent.player(tmp_path, seed=wrong),
        lambda: meta_latent.pretrain(dataclasses.replace(made, seed=wrong)),
    ):
        with pytest.raises(UserError, match=rf"(seed|fresh)={re.escape(repr(wrong))} should be a whole number from 0"):
            call()
    assert not list(tmp_path.iterdir())
    assert type(ranges.checked_seed(np.int64(3))) is int
