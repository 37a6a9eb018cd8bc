"""What the page about MB-MPO says of single runs is what they measured."""

import json
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PAGE = " ".join((ROOT / "docs" / "mb_mpo.md").read_text().split())
RUNS = json.loads((ROOT / "docs" / "mb_mpo_tried.json").read_text())["runs"]


def at(curve, steps):
    """(score, success) of the evaluation after so many steps."""
    return next((score, success) for count, score, success in curve if count == steps)


def test_what_stands_beside_it_from_pixels_is_what_was_measured():
    report = json.loads((ROOT / "docs" / "results" / "mb_mpo_pixels.json").read_text())["report"]["targets"]
    arms = ("mb_mpo/pretrained", "mb_mpo_alpha0/pretrained", "ivg/pretrained", "mb_mpo/scratch")

    def of(target, what, form):
        return [form(report[target]["arms"][arm][what]) for arm in arms]

    def score(value):
        return f"{value:.2f}"

    def percent(value):
        return f"{100 * value:.0f}"

    ours, plain, ivg, scratch = of("reach_red", "final_score_iqm", score)
    assert f"ends at {ours} with MB-MPO, at {plain} without adapting, at {ivg} with IVG and at {scratch}" in PAGE
    solved = of("reach_red", "final_success_iqm", percent)
    assert f"from scratch (success {', '.join(solved[:3])} and {solved[3]} %)" in PAGE
    lifted, solved = of("lift_red", "final_score_iqm", score), of("lift_red", "final_success_iqm", percent)
    assert f"`lift_red` at {', '.join(lifted[:3])} and {lifted[3]} (success {', '.join(solved[:3])}" in PAGE
    (faster,) = report["reach_red"]["arms"][arms[0]]["speedup"]["0.6"].values()
    assert f"over {faster['ratio']:.1f} times fewer steps with it (95 %: from {faster['interval'][0]:.2f})" in PAGE


def test_what_wider_reward_heads_bring_from_pixels_is_what_was_measured():
    late = [row for row in RUNS["px_all_heads_wide_reward"]["curve"] if row[0] >= 2_940]
    (least, most), (worst, best) = ((min(column), max(column)) for column in list(zip(*late, strict=True))[1:])
    assert f"do no better: {least:.2f} to {most:.2f} ({worst:.2f} to {best:.2f}) from 2,940 on" in PAGE


def test_what_longer_episodes_of_the_half_cheetah_bring_is_what_was_measured():
    said = [_words([at(RUNS[f"hc_200_steps_{arm}_seed_{seed}"]["curve"], 20000)[0] for seed in range(3)])
            for arm in ("mb_mpo", "mb_mpo_alpha0")]  # fmt: skip
    assert f"MB-MPO has {said[0]} after 20,000 steps (seeds 0 to 2), and without its inner step {said[1]}:" in PAGE
    run = RUNS["hc_200_steps_mb_mpo_seed_0"]
    late = [score for steps, score, _ in run["curve"] if steps >= 20000]
    peak, last = (f"{at(run['curve'], steps)[0]:.0f}" for steps in (32000, 76000))
    assert run["curve"][-1][0] == 76000 and f"it has {peak} after 32,000 and stays between {min(late):.0f} and" in PAGE
    assert f"{max(late):.0f} from 20,000 on, at {last} in the end, {run['cpu_seconds'] / 60:.0f} min of CPU" in PAGE


def test_what_changed_bodies_bring_is_what_was_measured():
    report = json.loads((ROOT / "docs" / "results" / "mb_mpo_bodies.json").read_text())["report"]
    arms = report["targets"]["reversed"]["arms"]
    gained = {arm: [f"{run[-1] - run[0]:.0f}" for run in entry["returns_by_episode"]] for arm, entry in arms.items()}
    least, most = ({arm: f(map(int, values)) for arm, values in gained.items()} for f in (min, max))
    assert f"MB-MPO's by {least['mb_mpo/scratch']} to {most['mb_mpo/scratch']} in three steps" in PAGE
    assert f"alone, by {least['mb_mpo_alpha0/scratch']} to {most['mb_mpo_alpha0/scratch']}." in PAGE
    ended = {arm: sorted(entry["final_score"])[1] for arm, entry in arms.items()}
    assert f"at {ended['mb_mpo/scratch']:.1f} and the control at {ended['mb_mpo_alpha0/scratch']:.1f};" in PAGE
    pilot = [score for _, score, _ in RUNS["bodies_mb_mpo_seed_10"]["curve"]]
    assert f"has {min(pilot[:-1]):.0f} to {max(pilot[:-1]):.0f} from 8,000 to 32,000 steps, and {pilot[-1]:.0f}" in PAGE


def test_where_adapting_pays_is_what_was_measured():
    """Within 1 rad the control needs no step; beyond, MB-MPO is ahead after three, on every seed."""
    targets = json.loads((ROOT / "docs" / "results" / "mb_mpo_angles.json").read_text())["report"]["targets"]
    returns = {(target, arm.split("/")[0]): np.array(entry["returns_by_episode"])
               for target, found in targets.items() for arm, entry in found["arms"].items()}  # fmt: skip
    ours, control = (np.median(returns["within_1_0", arm], 0).round(1) for arm in ("mb_mpo", "mb_mpo_alpha0"))
    assert f"the control has {control[0]} without a real episode, which MB-MPO has after a step of 20" in PAGE
    assert ours[0] < control[0] == ours[1] and f"and {ours[2]} after a second" in PAGE
    assert (np.diff(control) < 0).all()
    gained = []
    for target in ("within_1_5", "within_2_2", "inertia"):
        ours, control = (returns[target, arm] for arm in ("mb_mpo", "mb_mpo_alpha0"))
        assert ours.shape == control.shape == (3, 4) and ours[:, -1].min() > control[:, -1].max()
        gained.append(np.median(ours[:, -1]) - np.median(control[:, -1]))
    assert f"ahead by {gained[0]:.1f} and {gained[1]:.1f} after three steps, on every seed" in PAGE
    assert (np.diff(np.median(returns["inertia", "mb_mpo"], 0)) > 2).all() and "each still brings 2 or more" in PAGE


def test_what_wrong_models_leave_is_what_was_measured():
    report = json.loads((ROOT / "docs" / "results" / "mb_mpo_biased.json").read_text())["report"]
    best = {arm: [max(np.convolve(np.array(curve)[:, 1], np.ones(3) / 3, "valid")) for curve in entry["curve"]]
            for arm, entry in report["targets"]["run"]["arms"].items()}  # fmt: skip
    ours, control = (best[f"{arm}/scratch"] for arm in ("mb_mpo", "mb_mpo_alpha0"))
    assert _words(control) == "18, 24, 26, 24 and 8" in PAGE and f"MB-MPO has {_words(ours)}, more on" in PAGE
    assert len(ours) == len(control) == 5 and all(a > b for a, b in zip(ours, control, strict=True))
    one, ensemble = ([np.mean([score for _, score, _ in RUNS[f"hc_{name}_seed_{seed}"]["curve"][-3:]])
                      for seed in range(3)] for name in ("one_model", "biased_me_trpo"))  # fmt: skip
    assert f"ME-TRPO in such models ends at {_words(ensemble)} (" in PAGE
    assert f"three evaluations {', '.join(f'{x:.0f}' for x in one[:2])} and {one[2]:.0f} beside" in PAGE


def _words(values):
    *first, last = (f"{value:.0f}" for value in values)
    return f"{', '.join(first)} and {last}"


def test_what_a_learner_on_one_angle_alone_needs_is_what_was_measured():
    curves = [RUNS[f"one_angle_me_trpo_{k}"]["curve"] for k in range(3)]
    first = [f"{curve[0][1]:.2f}" for curve in curves]
    assert {curve[0][0] for curve in curves} == {400} and "the 400 steps of its first 20 random episodes" in PAGE
    assert f"alone, has {', '.join(first[:2])} and {first[2]} on three of them after" in PAGE
    assert {round(curve[-1][1] - curve[0][1], 2) for curve in curves} == {0.02} and "0.02 below where it ends" in PAGE


def test_what_other_changes_of_bodies_bring_is_what_was_measured():
    said = {}
    for change in ("disabled", "mass"):
        for arm in ("mb_mpo", "mb_mpo_alpha0"):
            last = RUNS[f"bodies_{change}_{arm}_seed_0"]["returns_by_episode"][-3:]
            said[change, arm] = "from {:.1f} to {:.1f}".format(*(sum(r[k] for r in last) / 3 for k in (0, -1)))
    assert f"off MB-MPO goes {said['disabled', 'mb_mpo']} in three" in PAGE
    assert f"steps, and its control {said['disabled', 'mb_mpo_alpha0']}; with masses" in PAGE
    assert f"small MB-MPO goes {said['mass', 'mb_mpo']}, and its control {said['mass', 'mb_mpo_alpha0']}." in PAGE
    ended = {change: [RUNS[f"bodies_{change}_{arm}_seed_0"]["returns_by_episode"][-1]
                      for arm in ("mb_mpo", "mb_mpo_alpha0")] for change in ("disabled", "mass")}  # fmt: skip
    (rising, fallen), (ours, control) = ended["disabled"], ended["mass"]
    assert f"evaluation has {rising[0]:.1f} before and {rising[-1]:.1f} after the steps" in PAGE
    assert f"fell back to {fallen[0]:.1f} and {fallen[-1]:.1f}" in PAGE
    assert f"with {control[-1]:.1f} beside {ours[-1]:.1f} after the steps" in PAGE
    for arm in ("mb_mpo", "mb_mpo_alpha0"):
        minutes = [RUNS[f"bodies_{change}_{arm}_seed_0"]["cpu_seconds"] / 60 for change in ("disabled", "mass")]
        assert f"{min(minutes):.1f} to {max(minutes):.1f}" in PAGE


def test_where_the_time_goes_is_what_was_measured():
    runs = json.loads((ROOT / "docs" / "mb_mpo_profile.json").read_text())["runs"]
    parts = ("Fisher products", "imagining", "model fit", "outer gradient", "line search")
    said = {name: [f"{100 * run['shares'][part]:.0f}" for part in parts] for name, run in runs.items()}
    cheetah, toy = runs["half_cheetah"], runs["rotated"]
    words = (
        "Of the half-cheetah's first 5,000 steps ({seconds:.0f} s) Fisher products take {0} %, imagining {1} %, the "
        "fit of the models {2} %, the outer gradient {3} % and the line search {4} %;"
    )
    assert words.format(*said["half_cheetah"], seconds=cheetah["cpu_seconds"]) in PAGE
    listed = f"{', '.join(said['rotated'][:4])} and {said['rotated'][4]} %"
    assert f"warm-up and first round ({toy['cpu_seconds']:.1f} s) {listed}." in PAGE
    steps = sum(cheetah["shares"][part] for part in ("Fisher products", "outer gradient", "line search"))
    each = steps * cheetah["cpu_seconds"] / cheetah["calls"]["outer gradient"]
    assert f"takes {each:.2f} s for 20,000 steps of rollouts" in PAGE
