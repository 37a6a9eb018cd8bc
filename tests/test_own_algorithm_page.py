"""docs/own_algorithm_reference.md: its tables name what there is, and leave out nothing; the files of
docs/own_algorithm.md are those of examples/.
"""

import dataclasses
import importlib
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from meta_latent.data.latents import LatentCache
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.policies.latent_agent import AdaptationConfig, LatentAgent, LatentParts
from meta_latent.types import Spec

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "own_algorithm.md").read_text()
REFERENCE = (ROOT / "docs" / "own_algorithm_reference.md").read_text()
TABLES = re.findall(r"<!-- (some )?members: ([\w.]+):(\w+) -->\n\|.*\n\|[-|]+\n((?:\|.*\n)+)", REFERENCE)
FUNCTIONS = re.search(r"<!-- functions -->\n\|.*\n\|[-|]+\n((?:\|.*\n)+)", REFERENCE)[1]


def signature(function) -> str:
    """(batch_size, length, rng, images=True), as the page writes it."""
    parts, starred = [], False
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts, starred = [*parts, "*"], True
        default = parameter.default
        shown = "{}" if isinstance(default, Mapping) and not default else repr(default)
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        parts.append(star + name if default is parameter.empty else f"{name}={shown}")
    return f"({', '.join(parts)})"


class Nothing(LatentAgent):
    """To see what an agent on the model keeps."""

    def improve(self, steps, first, rng, metrics):
        """Nothing."""


def kept(subject: type) -> set[str]:
    """Public attributes that its instances get when they are made."""
    if subject is LatentAgent:
        agent = Nothing(LatentParts(SimpleNamespace(device="cpu"), None, AdaptationConfig(), None))
        return {*vars(agent), "average_actor"}
    if subject is SequenceReplay:
        return set(vars(SequenceReplay(Spec({}, 1, 1), ReplayConfig())))
    if subject is LatentCache:
        return set(vars(LatentCache()))
    return {"seed"} if subject.__name__ == "Streams" else set()


def members(subject: type) -> set[str]:
    """Public names of a class, those of `LatentAgent` without what it takes from `BaseAgent`; methods with their
    signature.
    """
    found = kept(subject)
    if dataclasses.is_dataclass(subject):
        found |= {field.name for field in dataclasses.fields(subject)}
    for name in vars(subject) if subject is LatentAgent else dir(subject):
        value = inspect.getattr_static(subject, name)
        value = getattr(value, "__func__", value)
        found.add(name + signature(value) if inspect.isfunction(value) else name)
    return {name for name in found if not name.startswith("_")}


def named(rows: str) -> set[str]:
    """What stands in backquotes in the first column."""
    return {name for row in rows.splitlines() for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


@pytest.mark.parametrize(("some", "module", "name", "rows"), TABLES, ids=[name for _, _, name, _ in TABLES])
def test_a_table_names_what_there_is_and_all_of_it(some, module, name, rows):
    there, said = members(getattr(importlib.import_module(module), name)), named(rows)
    assert said - there == set()
    assert some or there - said == set()


def test_the_tables_are_found():
    assert {name for _, _, name, _ in TABLES} >= {"SequenceReplay", "Step", "Setting", "LatentAgent", "BaseAgent",
                                                  "Algorithm", "LatentWindows", "LatentStateModel"}  # fmt: skip
    assert len(TABLES) == REFERENCE.count("members: ") and "members: " not in PAGE


def test_a_missing_method_and_a_wrong_default_are_seen():
    there = members(SequenceReplay)
    assert "sequences(batch_size, length, rng, images=True)" in there and "env_steps" in there
    assert "sequences(batch_size, length, rng, images=False)" not in there
    assert not any(name.startswith("_") for name in there)


def test_building_blocks_are_where_the_page_says():
    found = re.findall(r"^\| `([\w.]+)\.(\w+)(\([^`]*\))` \|", FUNCTIONS, re.M)
    assert len(found) == len(FUNCTIONS.splitlines())
    for module, name, said in found:
        assert signature(getattr(importlib.import_module(module), name)) == said, name


def test_files_on_the_page_are_those_of_the_examples():
    files = dict(re.findall(r"^Save it as `(\w+\.py)`[^\n]*:\n\n```python\n(.*?)^```$", PAGE, re.M | re.S))
    assert list(files) == ["my_planner.py", "my_pathwise.py", "my_reinforce.py"]
    for name, code in files.items():
        assert code == (ROOT / "examples" / name).read_text()


def test_scores_on_the_page_are_those_of_the_runs():
    runs = json.loads((ROOT / "docs" / "own_algorithm_tried.json").read_text())["runs"]
    text = " ".join(PAGE.split())
    for arm, said in (("planner/pretrained", "goes from {} after 80 steps to {} after 600;"),
                      ("pathwise/pretrained", "goes from {} to {}. `"),
                      ("planner/scratch", "goes from {} to {}: so")):  # fmt: skip
        curves = [run["curve"] for name, run in runs.items() if name.startswith(f"{arm}/")]
        assert len(curves) >= 2 and all((curve[0][0], curve[-1][0]) == (80, 600) for curve in curves)
        ends = ([f"{curve[place][1]:.2f}" for curve in curves] for place in (0, -1))
        words = said.format(*(" and ".join((", ".join(end[:-1]), end[-1])) for end in ends))
        assert words in text, words
