"""The numbers on the page about IVG are those of the runs that it names."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "ivg.md").read_text()
SECTION = re.search(r"^## What a fall changes\n(.*?)^## ", PAGE, re.M | re.S)[1]
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


TRIED = json.loads((ROOT / "docs" / "ivg_tried.json").read_text())


@pytest.mark.parametrize(("row", "name"), [
    ("seed 10, the pilot", "stack_values_stray_to_ends"), ("seed 0", "stack_preset_seed_0"),
    ("seed 1", "stack_preset_seed_1"), ("seed 2", "stack_preset_seed_2"),
    ("seed 3", "stack_preset_seed_3"), ("seed 10, values stray to anywhere in their range", "stack_values_stray"),
    ("seed 10, `pessimism` 0.25 in place of 1", "stack_values_stray_less_pessimism"),
    *((f"seed {seed}, the encoder learns on", f"stack_joint_seed_{seed}") for seed in (10, *range(5))),
    *((f"seed {seed}, from scratch", f"stack_scratch_seed_{seed}") for seed in range(3))])  # fmt: skip
def test_what_letting_go_takes_is_what_was_measured(row, name):
    curve = TRIED["runs"][name]["curve"]
    held = next(a[0] for a, b in zip(curve, curve[1:], strict=False) if min(a[1], b[1]) >= 0.7)
    success = ", ".join(f"{point[2]:.2f}" for point in curve[-4:])
    assert f"| {row} | {held:,} | {success} | {curve[-1][0]:,} |" in PAGE


def test_letting_go_with_an_encoder_that_learns_on_is_what_was_measured():
    text, runs, before = " ".join(PAGE.split()), TRIED["runs"], TRIED["before_letting_go"]
    curves = [runs[f"stack_joint_seed_{seed}"]["curve"] for seed in range(5)]
    assert f"have success {last(curves)} in the last evaluation, {last([c[:-1] for c in curves])} in the one" in text
    frozen = [p[2] for seed in range(4) for p in runs[f"stack_preset_seed_{seed}"]["curve"] if 11_500 < p[0] <= 15_000]
    assert len(frozen) == 16 and max(frozen) == 0.05
    assert f"0.7 is held from {listed([f'{steps:,}' for steps in held(curves, 0.7)])} steps on." in text
    after = listed([f"{point[2]:.2f}" for point in runs["stack_best_starts_seed_0"]["curve"][-3:]])
    assert f"had success {after} in the last three evaluations" in text
    counts = "Of {frames:,} frames {over} have the red block over the green one, {suction_off} of these with suction"
    assert f"{counts.format(**before)} off, {before['standing']} with a stack that stands." in text
    told = (listed([f"{reward:.2f}" for reward in before[key]]) for key in ("imagined", "true"))
    assert (
        f"of the {before['releases']} releases" in text and "rewards of {}, where they were {}.".format(*told) in text
    )
    assert f"(values of {before['value_standing']:.2f} and {before['value_holding']:.2f})" in text


def test_stacking_from_scratch_is_what_was_measured():
    text, runs = " ".join(PAGE.split()), TRIED["runs"]
    ours, other = ([runs[f"stack_{arm}_seed_{seed}"]["curve"] for seed in range(count)]
                   for arm, count in (("joint", 5), ("scratch", 3)))  # fmt: skip
    assert f"0.7 is held from {listed([f'{steps:,}' for steps in held(other, 0.7)])} steps on (seeds 0 to 2)" in text
    assert f"the latest pretrained run holds it from {max(held(ours, 0.7)):,} on" in text
    half = [listed([f"{steps:,}" for steps in held(curves, 0.5)]) for curves in (other, ours)]
    assert f"0.5 from {half[0]}, with pretraining from {half[1]}" in text
    times = [np.median(held(other, score)) / np.median(held(ours, score)) for score in (0.7, 0.5)]
    assert f"by the medians {times[0]:.1f} and {times[1]:.1f} times as many steps" in text
    assert f"Success is {last(other)} in the last evaluation and {last([c[:-1] for c in other])} in the one" in text
    assert max(point[2] for curve in other for point in curve) == 0.3
    assert sum(min(point[2] for point in curve[-2:]) > 0.3 for curve in ours) == 4
    ends = min(held(ours, 0.7)), max(held(ours, 0.7)), held(other, 0.7)[0]
    first, latest, scratch = (f"{steps:,}" for steps in ends)
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert (
        f"0.7 held from {first} to {latest} steps on; from scratch, three seeds, from {held(other, 0.7)[0]:,}" in readme
    )
    assert "stands in 25 to 55 % of the episodes, from scratch in 0 to 30 %" in readme


def test_longer_lifting_is_what_was_measured():
    curves = [TRIED["runs"][f"lift_longer_seed_{seed}"]["curve"] for seed in range(3, 8)]
    held = [next(a[0] for a, b in zip(curve, curve[1:], strict=False) if min(a[1], b[1]) >= 0.85) for curve in curves]
    told = [f"{sum(point[2] for point in curve[-10:]) / 10:.2f}" for curve in curves]
    text = " ".join(PAGE.split())
    assert "held 0.85 after {:,}, {:,}, {:,}, {:,} and {:,} of 6,000 steps".format(*held) in text
    assert "was {}, {}, {}, {} and {} over the last ten evaluations".format(*told) in text
    assert all(curve[-1][0] == 6000 and curve[-10][0] == 3300 for curve in curves)


def listed(values):
    """a, b and c."""
    *most, last = values
    return f"{', '.join(most)} and {last}"


def late(curves):
    """Success over the last ten evaluations of each curve, in words."""
    return listed([f"{sum(point[2] for point in curve[-10:]) / 10:.2f}" for curve in curves])


def last(curves):
    """Success in the last evaluation of each, in words."""
    return listed([f"{curve[-1][2]:.2f}" for curve in curves])


def held(curves, threshold=0.85):
    """When each first held it."""
    return [next(a[0] for a, b in zip(c, c[1:], strict=False) if min(a[1], b[1]) >= threshold) for c in curves]


def test_lifting_with_an_encoder_that_learns_on_is_what_was_measured():
    text, runs = " ".join(PAGE.split()), TRIED["runs"]
    ours, scratch = (
        [runs[f"lift_preset_{arm}_{seed}"]["curve"] for seed in range(20, 25)] for arm in ("pretrained", "scratch")
    )
    assert f"last ten evaluations was {late(ours)}, in the very last {last(ours)}; from scratch" in text
    assert f"from scratch {late(scratch)}, in the last {last(scratch)}." in text


def test_lifting_with_a_frozen_encoder_is_what_was_measured():
    text, runs = " ".join(PAGE.split()), TRIED["runs"]
    frozen = [runs[f"lift_frozen_seed_{seed}"] for seed in (20, 21, 22)]
    ours = [runs[f"lift_preset_pretrained_{seed}"] for seed in range(20, 25)]
    curves, theirs = [run["curve"] for run in frozen], held([run["curve"] for run in ours])
    assert f"seeds 20 to 22 had {late(curves)} over the last ten, in the last {last(curves)}, and held 0.85" in text
    after = listed([f"{steps:,}" for steps in held(curves)])
    assert f"after {after} steps, where with the encoder learning on they did after" in text
    first, rest = (listed([f"{steps:,}" for steps in some]) for some in (theirs[:3], theirs[3:]))
    assert f"they did after {first}, seeds 23 and 24 after {rest}." in text
    spent = [[round(run["cpu_seconds"] / 60) for run in some] for some in (frozen, ours)]
    assert (min(spent[0]), max(spent[0]), min(spent[1]), max(spent[1])) == (8, 11, 11, 12)
    assert "A frozen run takes 8 to 11 min of CPU, one that learns on 11 to 12" in text


def test_how_episodes_end_is_what_was_counted():
    counts = {key: value for key, value in TRIED["of_60_episodes"].items() if key not in ("what", "columns")}
    assert len(counts) == 6 and [sum(column) for column in zip(*counts.values(), strict=True)] == [60, 60, 60]
    for values in counts.values():
        assert f"| {' | '.join(map(str, values))} |" in PAGE


def test_stacking_behind_distractors_is_told_as_it_was_measured():
    facts = json.loads((ROOT / "docs" / "results" / "ivg_stack_distractors.json").read_text())["report"]
    arms = [facts["targets"]["stack_red_distractors"]["arms"][f"ivg/{start}"] for start in ("pretrained", "scratch")]
    held = [[f"{steps:,}" for steps in arm["steps_to_thresholds"]["0.7"]] for arm in arms]
    medians = [[f"{arm['medians']['steps_to_thresholds'][at][0]:,}" for arm in arms] for at in ("0.5", "0.7")]
    ends = [[math.floor(100 * end + 0.5) for end in arm["final_success"]] for arm in arms]
    page, readme, results = (" ".join((ROOT / name).read_text().split())
                             for name in ("docs/ivg.md", "README.md", "docs/results/README.md"))  # fmt: skip
    said = "0.7 is held from {}, {}, {}, {} and {} steps on, from scratch from {}, {}, {}, {} and {};"
    assert said.format(*held[0], *held[1]) in page
    said = (
        "last two evaluations is {:.2f}, {:.2f}, {:.2f}, {:.2f} and {:.2f}, from scratch 0.33 on seed 1 and 0.00 on the"
    )
    assert said.format(*(percent / 100 for percent in ends[0])) in page and ends[1] == [0, 33, 0, 0, 0]
    assert (
        f"in {min(ends[0])} to {max(ends[0])} % of the episodes of each of five seeds, from scratch in 33 %" in readme
    )
    said = "stands in {}, {}, {}, {} and {} % of the pretrained runs' episodes, and in 33 % of those of"
    assert said.format(*ends[0]) in results
    assert "0.5 is held after {} steps by the median and {} (1.68".format(*medians[0]) in readme
    assert "0.7 after {} and {}, which settles nothing".format(*medians[1]) in readme
