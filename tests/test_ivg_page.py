"""The numbers on the page about IVG are those of the runs that it names."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECTION = re.search(r"^## What a fall changes\n(.*?)^## ", (ROOT / "docs" / "ivg.md").read_text(), re.M | re.S)[1]
RUNS = json.loads((ROOT / "docs" / "ivg_ends.json").read_text())["runs"]


def after(curve, steps):
    """The score nearest to so many steps."""
    return min(curve, key=lambda point: abs(point[0] - steps))[1]


@pytest.mark.parametrize(("name", "row"), [("ends_s10", "learned"), ("no_ends_s10", "ignored")])
def test_what_a_fall_changes_is_what_was_measured(name, row):
    run = RUNS[name]
    scores = ", ".join(f"{after(run['curve'], steps):.2f}" for steps in (2000, 5000, 9500))
    steps, length, whole = run["played"][-1]
    assert f"| {row} | {scores} | {run['curve'][-1][1]:.2f} | {length:.0f} steps long |" in SECTION
    assert steps == 10_000 and whole == 0 and ("changed" in run) == (row == "ignored")


def test_what_is_imagined_without_ends_is_what_was_measured():
    run, text = RUNS["no_ends_s10"], " ".join(SECTION.split())
    assert f"{run['imagined_reward']} a step and returns of {run['imagined_return']} are imagined" in text
    assert f"where episodes pay {run['curve'][-1][2]:.0f} in all" in text


def test_the_second_seed_is_told_as_far_as_it_went():
    text, learned, ignored = " ".join(SECTION.split()), RUNS["ends_s11"]["curve"], RUNS["no_ends_s11"]["curve"]
    best = max(score for _, score, _ in learned)
    assert f"after {learned[-1][0]:,} steps, at {learned[-1][1]:.2f} ({best:.2f} at best)" in text
    assert f"with ends ignored after {ignored[-1][0]:,}, too early" in text
    assert all("stopped" in RUNS[name] for name in ("ends_s11", "no_ends_s11"))
