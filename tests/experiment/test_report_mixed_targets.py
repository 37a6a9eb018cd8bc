"""Reports of targets that differ: in whether a threshold counts, and in what is known of the arms."""

import pytest
from fabricated_runs import new_facts, ramp, write_cell, write_pretraining
from report_pages import words

from meta_latent.experiment.report.build import build


def write_pair(root, target, algorithm, full, base_full, **facts):
    for seed in range(5):
        for start, base, at in (("pretrained", f"{algorithm}/scratch", full), ("scratch", None, base_full)):
            rows = ramp(at, stop="thresholds" not in facts)
            write_cell(root, target, f"{algorithm}/{start}", seed, rows, new_facts, compared_with=base, **facts)


RAW = {"thresholds": [], "floor": None, "reference": None}


@pytest.mark.parametrize(
    ("scored", "pair", "lead"),
    [
        (lambda root: write_pair(root, "scored", "meld", 300, 900), ["meld/pretrained", "meld/scratch"],
         "meld/pretrained reached score 0.8 in fewer environment steps than meld/scratch on scored."),
        (lambda root: write_cell(root, "scored", "sac/scratch", 0, ramp(300), new_facts), None,
         "On scored, sac/scratch reached 0.8 after 300 environment steps."),
    ],
)  # fmt: skip
def test_the_main_pair_is_one_that_a_threshold_is_asked_of(tmp_path, scored, pair, lead):
    write_pair(tmp_path, "raw", "ivg", 400, 400, **RAW)
    scored(tmp_path)
    report = build(tmp_path, resamples=50)
    assert (report["primary_pair"], report["lead"]) == (pair, lead)


def test_what_pretraining_saves_is_told_of_the_main_pair_whoever_else_met_on_raw_returns(tmp_path):
    arm, base = "ivg/pretrained+data", "ivg/scratch+data"
    for seed in range(5):
        write_cell(tmp_path, "raw", arm, seed, ramp(400, stop=False), new_facts, compared_with=base, **RAW)
        write_cell(tmp_path, "raw", base, seed, ramp(400, stop=False), new_facts, **RAW)
        write_cell(tmp_path, "scored", arm, seed, ramp(300), new_facts, compared_with=base)
        write_cell(tmp_path, "scored", "ivg/scratch", seed, ramp(900), new_facts)
    write_pretraining(tmp_path, env_steps=90_000)
    report = build(tmp_path, resamples=50)
    (found,) = report["aggregate"][arm]["by_threshold"]
    assert report["primary_pair"] == [arm, found["base"]] == [arm, "ivg/scratch"]
    assert found["break_even"]["targets"] == 180 and "paid back after about 180 such targets" in report["summary"]


def test_without_any_threshold_the_main_pair_is_one_of_raw_returns(tmp_path):
    write_pair(tmp_path, "raw", "ivg", 400, 400, **RAW)
    assert build(tmp_path, resamples=50)["primary_pair"] == ["ivg/pretrained", "ivg/scratch"]


def test_a_pay_back_is_at_most_where_a_target_lost_an_unknown_part_of_what_others_saved(tmp_path):
    write_pair(tmp_path, "slow", "ivg", 200, 900)
    for seed in range(5):
        write_cell(tmp_path, "fast", "ivg/pretrained", seed, ramp(300), new_facts, compared_with="ivg/scratch")
        write_cell(tmp_path, "fast", "ivg/scratch", seed, [(100, 0.9), (200, 0.95)], new_facts)
    write_pretraining(tmp_path, env_steps=90_000)
    report = build(tmp_path, resamples=50)
    assert report["targets"]["fast"]["arms"]["ivg/pretrained"]["speedup"]["0.8"]["ivg/scratch"]["upper_bound"]
    (found,) = report["aggregate"]["ivg/pretrained"]["by_threshold"]
    # 600 steps less on one, 200 to 300 more on the other.
    assert found["break_even"] == {"targets": 600, "at_most": True, "saved_env_steps_per_target": 150}
    assert "paid back after at most 600 such targets" in report["summary"]


def test_given_thresholds_are_no_raw_returns_where_a_target_has_a_scale(tmp_path):
    write_pair(tmp_path, "raw", "ivg", 400, 900, **RAW | {"thresholds": [-20]})
    write_pair(tmp_path, "scored", "ivg", 300, 900)
    report = build(tmp_path, thresholds=[0.9, 0.5, 0.9], resamples=50)
    assert {name: target["thresholds"] for name, target in report["targets"].items()} == {
        "raw": [-20], "scored": [0.5, 0.9]}  # fmt: skip
    said = words((tmp_path / "report.html").read_text())
    assert "given for this report: score 0.5 and score 0.9" in said and "Threshold raw score −20" in said


def test_given_thresholds_are_raw_returns_where_no_target_has_a_scale(tmp_path):
    write_pair(tmp_path, "raw", "ivg", 400, 900, **RAW)
    assert build(tmp_path, thresholds=[0.5], resamples=50)["targets"]["raw"]["thresholds"] == [0.5]
