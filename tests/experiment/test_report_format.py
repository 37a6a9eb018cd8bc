"""What runs record and a report shows: thresholds, success, clocks, trials, metrics, raw scores, one seed.

Each test fabricates runs whose numbers are known.
"""

import json
import re

import pytest
from fabricated_runs import new_facts, numbers, pair, ramp, words, write_cell, write_pretraining

from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.words import lead
from meta_latent.experiment.report.words.summary import summary


def test_arms_are_compared_with_what_the_runs_say(tmp_path):
    report = numbers(pair(tmp_path))
    assert report["primary_pair"] == ["a/pretrained", "b/scratch"]
    claim = report["targets"]["t"]["arms"]["a/pretrained"]["speedup"]["0.8"]["b/scratch"]
    assert claim["ratio"] == 3
    assert any(text.startswith("t, a/pretrained, b/scratch: only 3 seeds") for text in report["warnings"])


def test_every_threshold_has_its_own_times_and_ratio(tmp_path):
    report = build(pair(tmp_path, thresholds=[0.5, 0.8]), resamples=50)
    target = report["targets"]["t"]
    fast, slow = target["arms"]["a/pretrained"], target["arms"]["b/scratch"]
    assert target["thresholds"] == [0.5, 0.8] and target["threshold"] == 0.5
    assert fast["steps_to_thresholds"] == {"0.5": [200] * 3, "0.8": [200] * 3}
    assert slow["steps_to_thresholds"] == {"0.5": [400] * 3, "0.8": [600] * 3}
    assert {at: claim["b/scratch"]["ratio"] for at, claim in fast["speedup"].items()} == {"0.5": 2, "0.8": 3}
    assert [p["thresholds"] for p in report["aggregate"]["a/pretrained"]["by_threshold"]] == [[0.5], [0.8]]
    assert "At the threshold 0.8 it was faster, too: 3.0× on t." in report["summary"]
    text = words(tmp_path)
    assert "Thresholds score 0.5 and score 0.8" in text
    table = text[text.index("How fast") :]
    assert table.index("threshold 0.5") < table.index("2.0×") < table.index("threshold 0.8") < table.index("3.0×")


def test_thresholds_can_be_given_anew_and_runs_that_stopped_below_are_censored_there(tmp_path):
    """Stopped at 0.8 with the scores 0.8 and 1.0 (fast), 0.8 and 0.93 (slow): nobody held 0.9 twice."""
    pair(tmp_path)
    write_cell(tmp_path, "t", "b/scratch", 3, ramp(750, stop=False), facts=new_facts)
    report = numbers(tmp_path, [0.5, 0.9])
    arms = report["targets"]["t"]["arms"]
    assert report["targets"]["t"]["thresholds"] == [0.5, 0.9] == report["thresholds_given"]
    assert arms["a/pretrained"]["steps_to_thresholds"]["0.9"] == [None] * 3
    assert arms["a/pretrained"]["medians"]["steps_to_thresholds"]["0.9"] == [300, None]
    assert arms["b/scratch"]["steps_to_thresholds"]["0.9"] == [None] * 3 + [700]
    said = "3 of 4 runs did not reach the threshold 0.9; 3 of them had stopped at 0.8 and count as censored"
    assert f"t, b/scratch: {said} where they stopped." in report["warnings"]
    assert arms["a/pretrained"]["speedup"]["0.5"]["b/scratch"]["ratio"] == 2
    assert not any("stopped" in text for text in numbers(tmp_path, [0.5])["warnings"])


def test_a_curve_is_extended_at_the_level_its_run_stopped_at_whatever_is_asked(tmp_path):
    pair(tmp_path)
    areas = [numbers(tmp_path, asked)["targets"]["t"]["arms"]["a/pretrained"] for asked in ((), [0.3])]
    assert areas[0]["area_ratio"] == areas[1]["area_ratio"] and areas[0]["common_range"] == [0, 1000]


def test_success_stands_beside_the_score(tmp_path):
    """Success is 0.6 from 300 on and 1 from 500 on."""

    def evaluation(steps, _):
        return {"success": 0.6 * (300 <= steps < 500) + (steps >= 500)}

    for seed in range(2):
        write_cell(tmp_path, "t", "a/scratch", seed, ramp(2000), facts=new_facts, evaluation=evaluation)
    arm = build(tmp_path, resamples=50)["targets"]["t"]["arms"]["a/scratch"]
    assert arm["steps_to_success"] == {"0.5": [300, 300], "0.8": [500, 500]}
    assert arm["curve"]["success"][0][:4] == [0, 0, 0, 0.6] and arm["final_success"] == [1, 1]
    assert arm["medians"]["steps_to_success"] == {"0.5": [300, 300], "0.8": [500, 500]}
    assert (tmp_path / "report" / "success_t.png").is_file() and "100 %" in words(tmp_path)
    write_cell(tmp_path, "t", "a/scratch", 2, ramp(2000), evaluation=lambda *_: {"success": None})
    arm = numbers(tmp_path)["targets"]["t"]["arms"]["a/scratch"]
    assert arm["steps_to_success"] == {} and arm["final_success_iqm"] is None


def test_steps_to_a_success_are_not_known_where_runs_stop_at_the_threshold_of_the_score(tmp_path):
    """Runs that stop at 0.8 after 600 steps, with a success of 0.6 from 300 on: 50 % was seen, 80 % had no time."""
    for arm, stopped in (("a/scratch", 0.8), ("b/scratch", None)):
        for seed in range(2):
            write_cell(tmp_path, "t", arm, seed, ramp(625), facts=new_facts, stopped_at=stopped,
                       evaluation=lambda steps, _: {"success": 0.6 * (steps >= 300)})  # fmt: skip
    build(tmp_path, resamples=50)
    text = words(tmp_path)
    table = text[text.index("How well") :]
    first, second = table[table.index("a/scratch") :].split("b/scratch", 2)[:2]
    assert "300 [300, 300] not known runs stop at the score’s threshold" in first and ">" not in first
    assert "300 [300, 300] &gt; 600 [600, ∞]" in second and "not known" not in second.partition("Status")[0][:200]


def write_logged(root, arm, seed, full_at, **facts):
    """A run on logged data: env_steps stand still, updates go on."""
    facts = {"clock": "updates", "budget": 3000, "thresholds": [0.5]} | facts
    folder = write_cell(root, "t", arm, seed, [], facts=new_facts, **facts)
    records = [
        {"kind": "evaluation", "env_steps": 900, "updates": u, "seconds": u / 10,
         "score": min(1, u / full_at), "raw_return": 0, "success": 0}
        for u in range(0, 3001, 500)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_learning_from_logged_data_is_counted_in_updates(tmp_path):
    write_pretraining(tmp_path)
    for seed in range(2):
        write_logged(tmp_path, "a/pretrained", seed, 1000, compared_with="a/scratch")
        write_logged(tmp_path, "a/scratch", seed, 8000)
    unfinished = tmp_path / "transfer" / "t" / "a" / "scratch" / "1" / "run.json"
    unfinished.write_text(json.dumps({"status": "interrupted"}))  # it records no clock yet
    report = build(tmp_path, resamples=50)
    target = report["targets"]["t"]
    assert target["clock"] == "updates" and target["arms"]["a/scratch"]["seeds"] == [0, 1]
    assert target["arms"]["a/pretrained"]["steps_to_thresholds"] == {"0.5": [500, 500]}
    assert target["arms"]["a/scratch"]["medians"]["steps_to_thresholds"] == {"0.5": [3000, None]}
    assert target["arms"]["a/scratch"]["budget"] == 3000
    curve = target["arms"]["a/pretrained"]["curve"]
    assert curve["updates"] == list(range(0, 3001, 500)) and curve["env_steps"] == [900] * 7
    assert "at least 6.0× on t" in report["summary"] and "in fewer updates than" in report["summary"]
    assert "break_even" not in report["aggregate"]["a/pretrained"]["by_threshold"][0]  # paid in env_steps
    assert (tmp_path / "report" / "curves_updates_t.png").is_file()
    assert "updates to threshold" in words(tmp_path)
    write_cell(tmp_path, "t", "a/policy", 0, ramp(300), facts=new_facts)
    report = numbers(tmp_path)
    assert "a/policy" not in report["targets"]["t"]["arms"]
    assert "t: 1 runs that do not count in updates are left out." in report["warnings"]


def test_trials_of_several_episodes_show_each_episode_and_task(tmp_path):
    def evaluation(steps, _):
        returns = [-10.0, 40.0, 90.0 * steps / 1000]
        return {"returns_by_episode": returns, "success_by_episode": [0, 0.5, 1], "score_by_task": [0.1, 0.9]}

    for seed in range(2):
        facts = {"episodes_per_trial": 3, "test_tasks": 2}
        rows = ramp(2000)
        write_cell(tmp_path, "t", "a/scratch", seed, rows, facts=new_facts, evaluation=evaluation, **facts)
    write_cell(tmp_path, "t", "a/scratch", 2, ramp(2000), facts=new_facts)
    target = build(tmp_path, resamples=50)["targets"]["t"]
    arm = target["arms"]["a/scratch"]
    assert (target["episodes_per_trial"], target["test_tasks"]) == (3, 2)
    assert arm["returns_by_episode"] == [[-10, 40, 90], [-10, 40, 90], None]  # of the last evaluation
    assert arm["success_by_episode"][0] == [0, 0.5, 1] and arm["score_by_task"][0] == [0.1, 0.9]
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"by_episode_t.png", "by_task_t.png"} <= names
    assert "A trial has 3 episodes" in words(tmp_path)


def test_training_metrics_reach_the_page_with_their_meaning(tmp_path):
    meanings = {"loss": "of <the> model", "entropy": "in nats", "never": "not logged"}
    for arm, factor in (("a/pretrained", 1), ("a/scratch", 2)):
        for seed in range(2):
            write_cell(
                tmp_path, "t", arm, seed, ramp(2000, budget=300), facts=new_facts, metrics=meanings,
                train=lambda steps, _, f=factor: {"loss": f * steps, "entropy": None if steps == 300 else 1.5,
                                                  "other": 7.0},
            )  # fmt: skip
    arm = build(tmp_path, resamples=50)["targets"]["t"]["arms"]["a/scratch"]
    assert set(arm["metrics"]) == {"loss", "entropy"}  # declared and logged
    loss = arm["metrics"]["loss"]
    assert (loss["meaning"], loss["last"]) == ("of <the> model", [600, 600])
    assert loss["steps"] == [0, 1, 100, 200, 300] and loss["values"] == [[0, 3, 200, 400, 600]] * 2
    assert arm["metrics"]["entropy"]["last"] == [1.5, 1.5]  # null at the end is no value
    text = (tmp_path / "report.html").read_text()
    assert "Training metrics (2)" in text and "of &lt;the&gt; model" in text
    assert text.count('aria-label="Training metric') == 2


def test_raw_scores_are_called_raw(tmp_path):
    facts = {"floor": None, "reference": None, "thresholds": [], "stopped_at": None}
    pair(tmp_path, target="raw", **facts)
    report = build(tmp_path, resamples=50)
    target, text = report["targets"]["raw"], words(tmp_path)
    assert target["normalised"] is False and target["threshold"] is None and target["thresholds"] == []
    assert target["arms"]["a/pretrained"]["area_ratio"] == {"b/scratch": None}
    assert not any("records a threshold" in warning for warning in report["warnings"])
    assert "Raw return, no reference: what the task pays, on no common scale. First evaluations, medians:" in text
    assert "Random actions" not in text and "Threshold none" in text and "normalised" not in text
    assert not (tmp_path / "report" / "times_to_threshold_raw.png").exists()
    assert "No threshold is set" in report["summary"]
    (tmp_path / "experiment.yaml").write_text("transfer: {thresholds: [0.8, 0.5], targets: {raw: {suite: toy/lqr}}}")
    assert build(tmp_path, resamples=50)["lead"].startswith(
        "Thresholds [0.5, 0.8] do not count: scores are raw returns; transfer.targets.raw.thresholds sets raw ones. "
    )
    (tmp_path / "experiment.yaml").write_text("transfer: {thresholds: [0.5], targets: {raw: {thresholds: []}}}")
    assert "No threshold is set" in build(tmp_path, resamples=50)["summary"]
    for cell in (tmp_path / "transfer" / "raw").glob("*/*/*"):  # of runs one by one there is no experiment.yaml
        (cell / "config.yaml").write_text("transfer: {thresholds: [0.7]}")
    (tmp_path / "experiment.yaml").unlink()
    assert "Thresholds [0.7] do not count" in build(tmp_path, resamples=50)["lead"]
    assert "raw score 0.5" in (build(tmp_path, thresholds=[0.5], resamples=50) and words(tmp_path))
    pair(tmp_path, target="scaled")
    everything = numbers(tmp_path)["aggregate"]["a/pretrained"]
    assert everything["final_score_iqm"] is None  # no common unit


def test_a_raw_score_has_random_actions_and_first_evaluations_for_a_floor(tmp_path):
    facts = {"floor": None, "reference": None, "thresholds": []}
    for seed, earned in enumerate((-150.0, -153.0)):
        write_cell(tmp_path, "t", "a/scratch", seed, [(100, -90.0 - seed), (200, -5.0)], facts=new_facts,
                   random_return=earned, **facts)  # fmt: skip
    report = build(tmp_path, resamples=50)
    assert report["targets"]["t"]["random_return"] == -151.5
    said = "Random actions (the warm-up) earn −151.5. First evaluations, medians: a/scratch −90.5"
    assert said in words(tmp_path)
    for persistences, kind in (("[0, 0.8]", ", correlated in time"), ("[0.0]", "")):
        kept = tmp_path / "transfer" / "t" / "a" / "scratch" / "0" / "config.yaml"
        kept.write_text(f"random: {{persistences: {persistences}}}\n")
        build(tmp_path, resamples=50)
        assert f"Random actions (the warm-up{kind}) earn −151.5" in words(tmp_path)


def test_one_seed_has_no_interval_and_no_sentence_about_intervals(tmp_path):
    root = pair(tmp_path / "x", seeds=1)
    write_pretraining(root)
    report = build(root, resamples=50)
    for arm in report["targets"]["t"]["arms"].values():
        ends = [v for e in arm["intervals"].values() for v in (e.values() if isinstance(e, dict) else [e])]
        assert ends and set(ends) == {None}
    assert report["aggregate"]["a/pretrained"]["final_score_interval"] is None
    said = " ".join([report["summary"], *report["warnings"], words(root)]).lower()
    assert "3.0× on t" in said and "interval" not in said and not re.search(r"\[\d", said)
    assert "interval" in summary(numbers(pair(root, seeds=3, target="u")))


def test_where_every_run_is_censored_nothing_is_said_of_who_is_faster(tmp_path):
    pair(tmp_path, fast=9000, slow=9000, stopped_at=None)
    place = numbers(tmp_path)["aggregate"]["a/pretrained"]["by_threshold"][0]
    assert "probability_of_being_faster" not in place
    pair(tmp_path, target="u")
    place = numbers(tmp_path)["aggregate"]["a/pretrained"]["by_threshold"][0]
    assert (place["probability_of_being_faster"], place["probability_targets"], place["targets"]) == (1, 1, 2)
    build(tmp_path, resamples=50)
    assert "against b/scratch, 1 of 2 targets" in words(tmp_path)


def test_nothing_before_the_first_update_counts(tmp_path):
    """Scores 0.9 at 0 and 100, before any update; then 0.1 and, from 300 on, 0.9."""
    rows = [(0, 0.9), (100, 0.9), (200, 0.1), (300, 0.9), (400, 0.9)]
    early = lambda steps, _: {"updates": 0 if steps <= 100 else steps}  # noqa: E731
    for seed in range(2):
        write_cell(tmp_path, "t", "a/pretrained", seed, rows, facts=new_facts, evaluation=early)
    arm = numbers(tmp_path)["targets"]["t"]["arms"]["a/pretrained"]
    assert arm["steps_to_thresholds"] == {"0.8": [300, 300]} and arm["first_score"] == [0.1, 0.1]


def test_the_score_is_named_as_it_is_computed(tmp_path):
    """Five runs that end on 0.1, 0.2, 0.3, 0.4 and 0.9: IQM of the means of the last two, no median."""
    for seed, score in enumerate((0.1, 0.2, 0.3, 0.4, 0.9)):
        rows = [(100, 0.0), (200, score), (300, score)]
        write_cell(tmp_path, "t", "a/scratch", seed, rows, facts=new_facts)
    arm = build(tmp_path, resamples=50)["targets"]["t"]["arms"]["a/scratch"]
    assert arm["final_score_iqm"] == pytest.approx(0.3) and "final_score" not in arm["medians"]
    assert "final score (IQM)" in words(tmp_path) and "mean of the last 2 evaluations" in words(tmp_path)


@pytest.mark.parametrize(("steps", "said"), [
    ((100, 200, 300, 400), "a/x reached 0.5 after 100 environment steps, b/x after 200 and 2 more arms later."),
    ((100, 200, 200, 300), "a/x reached 0.5 after 100 environment steps, b/x after 200 and 2 more arms."),
])  # fmt: skip
def test_only_arms_that_were_later_are_called_later(steps, said):
    arms = {f"{name}/x": {"medians": {"steps_to_thresholds": {"0.5": (at, at)}}, "unfinished": [False]}
            for name, at in zip("abcd", steps, strict=True)}  # fmt: skip
    told = lead._of_target("t", {"thresholds": [0.5], "clock": "env_steps", "arms": arms})
    assert told == f"On t, {said}"


def test_a_single_target_whose_interval_includes_1_says_so(tmp_path):
    for arm, ready in (("a/pretrained", (200, 400, 900)), ("a/scratch", (300, 700, 800))):
        for seed, at in enumerate(ready):
            write_cell(tmp_path, "t", arm, seed, ramp(at, stop=False))
    said = build(tmp_path, resamples=50)["summary"]
    assert " on t. Its 95 % interval includes 1: chance could explain it. Fewer" in said and "No 95" not in said
