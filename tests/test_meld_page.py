"""What the page about MELD says of the reacher is what its runs say."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = " ".join((ROOT / "docs" / "meld.md").read_text().split())
RUNS = json.loads((ROOT / "docs" / "meld_tried.json").read_text())["runs"]


def at_the_end(run):
    """Second episode, mean of the last three evaluations."""
    return f"{sum(point[2] for point in run['curve'][-3:]) / 3:.1f}"


def first(run):
    return f"{next(steps for steps, _, second in run['curve'] if second >= -45):,}"


@pytest.mark.parametrize(("row", "names"), [
    ("0.48, the preset | 0, 1, 2", ["preset_seed_0", "preset_seed_1", "preset_seed_2"]),
    ("0.48, the pilot | 10", ["half"]), ("0.24 | 10", ["quarter"])])  # fmt: skip
def test_the_reacher_is_what_was_measured(row, names):
    runs = [RUNS[name] for name in names]
    assert all(run["curve"][-1][0] == 30_000 for run in runs)
    minutes = sorted({f"{run['cpu_seconds'] / 60:.0f}" for run in runs})
    assert f"| {row} | {', '.join(map(at_the_end, runs))} | {'; '.join(map(first, runs))} | " in PAGE
    assert f"| {'; '.join(map(first, runs))} | {' to '.join(minutes)} min |" in PAGE


def test_the_pretrained_run_is_told_as_far_as_it_went():
    steps, _, second = RUNS["half_pretrained"]["curve"][-1]
    there = next(point[2] for point in RUNS["half"]["curve"] if point[0] == steps)
    assert f"came to -45 after {first(RUNS['half_pretrained'])} steps, from scratch after {first(RUNS['half'])}" in PAGE
    assert f"was at {second} when it was stopped at {steps:,} (from scratch there: {there})" in PAGE


def test_the_second_episode_is_better_by_what_the_runs_say():
    gains = []
    for seed in range(3):
        late = [point for point in RUNS[f"preset_seed_{seed}"]["curve"] if point[0] > 15_000]
        assert len(late) == 10
        gains.append(f"{sum(second - first for _, first, second in late) / 10:.1f}")
    assert "second episodes are better than its first ones by {}, {} and {}.".format(*gains) in PAGE
    around = [RUNS["preset_seed_0"]["counterfactual_error"][at] for at in (25, 26, 27)]
    assert "is {:.2f} before it, {:.2f} at it and {:.2f} a step later".format(*around) in PAGE
