"""Runs that were interrupted or still run: what they tell counts, and nothing else (Kaplan & Meier, by hand)."""

import json
import math

import numpy as np
import pytest
from fabricated_runs import new_facts, ramp, write_cell

from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.figures.pictures import time_rows
from meta_latent.experiment.report.words import lead
from meta_latent.experiment.report.words.summary import standing
from meta_latent.ops import learning_speed as ls
from meta_latent.ops import survival


def times(reached=(), cut=(), censored=()):
    """Times of runs that reached the threshold, were cut short without it, or spent their budget."""
    lower = np.array([*reached, *cut, *censored], dtype=float)
    upper = np.array([*reached, *[math.inf] * (len(cut) + len(censored))])
    return ls.Times(lower, upper, np.array([False] * len(reached) + [True] * len(cut) + [False] * len(censored)))


def test_weights_are_those_of_kaplan_and_meier_by_hand():
    until, cut = np.array([[100.0, 200, 300, 400, 500]]), np.array([[False, True, False, True, False]])
    # 100: 1/5. The run cut at 200 hands 1/5 to three: 4/15 each. That cut at 400 hands all it has to the last.
    np.testing.assert_allclose(survival.weights(until, cut), [[1 / 5, 0, 4 / 15, 0, 8 / 15]])
    shuffled = [3, 0, 4, 2, 1]
    np.testing.assert_allclose(survival.weights(until[:, shuffled], cut[:, shuffled]),
                               [[0, 1 / 5, 8 / 15, 4 / 15, 0]])  # fmt: skip
    # An event at the place of a cut came first, so it gets nothing; the last run keeps what nobody can take.
    np.testing.assert_allclose(survival.weights(np.array([[200.0, 200]]), np.array([[True, False]])), [[0.5, 0.5]])


def test_without_cuts_the_median_is_that_of_numpy():
    generator = np.random.default_rng(0)
    for runs in range(1, 12):
        values = generator.integers(0, 9, size=(50, runs)).astype(float)
        values[generator.random(values.shape) < 0.2] = math.inf
        weight = survival.weights(values, np.zeros(values.shape, bool))
        np.testing.assert_array_equal(survival.median(values, weight), np.median(values, axis=1))


def test_a_run_that_was_cut_early_leaves_the_median_to_the_others():
    assert times([400, 500, 600], cut=[100, 100]).median() == (500, 500)
    assert times([400, 500, 600], censored=[100, 100]).median() == (400, 600)  # negative control: had they failed
    # Cut late they do tell something: of five, two had arrived at 600, and three had not at 1000.
    assert times([400, 600], cut=[1000, 1000, 1000]).median() == (1000, math.inf)
    assert times(cut=[100, 300]).median() == (200, math.inf)
    # One run that was watched for long is no bound for those that were hardly watched.
    assert times(cut=[0, 0, 0, 0, 1000]).median() == (0, math.inf)


def test_a_run_that_failed_early_counts_as_one_that_comes_last():
    """By hand: the run cut at 20 hands its fifth to the four others. If the failed ones come at 10, the middle two are
    at 10 and 30; if they never come, at 30 and never.
    """
    assert times([30, 30], cut=[20], censored=[10, 10]).median() == (20, math.inf)


def test_a_run_that_arrived_is_not_unfinished_though_it_goes_on():
    going_on = ls.Times(np.array([100.0, 300.0]), np.array([100.0, math.inf]), np.array([True, False]))
    assert going_on.median() == (200, math.inf) and not going_on.unfinished.any()


def test_no_bias_of_the_median_where_runs_are_cut_at_random():
    """Exponential times with median ln 2 in units of their mean, cut at independent ones."""
    generator, found, naive = np.random.default_rng(3), [], []
    for _ in range(200):
        real, end = generator.exponential(size=60), generator.exponential(2.0, size=60)
        seen = ls.Times(np.minimum(real, end), np.where(real <= end, real, math.inf), real > end)
        found.append(seen.median()[1])
        naive.append(np.median(real[real <= end]))
    assert np.mean(found) == pytest.approx(math.log(2), abs=0.05)
    assert np.mean(naive) < 0.55  # negative control: unfinished runs simply left out favour fast ones


def test_speedup_says_that_it_is_not_known_yet():
    rng = np.random.default_rng(0)
    fast = times([100, 200, 300])
    found = ls.speedup(fast, times(cut=[100, 150, 200]), rng)
    assert found.value is None and found.reason == ls.UNFINISHED
    assert ls.speedup(fast, times(censored=[100, 150, 200]), rng).value == 0.75  # negative control
    found = ls.speedup(fast, times(cut=[500, 600, 700]), rng)  # longer than the learner took: a bound
    assert (found.value, found.lower_bound) == (3.0, True)
    assert ls.speedup(fast, times(cut=[0, 0, 0, 0, 1000]), rng).reason == ls.UNFINISHED
    assert ls.speedup(times(cut=[100, 150]), fast, rng).reason == ls.UNFINISHED
    assert "did not reach" in ls.speedup(times(censored=[100, 150]), fast, rng).reason
    # What is open cannot change that most runs failed.
    assert "did not reach" in ls.speedup(times(cut=[50], censored=[100] * 4), fast, rng).reason


@pytest.mark.parametrize("status", ["interrupted", "running"])
def test_a_report_of_a_run_that_goes_on(tmp_path, status):
    for seed in range(3):
        write_cell(tmp_path, "t", "ivg/pretrained", seed, ramp(250))
    for seed, rows in enumerate((ramp(700), ramp(700, budget=200), ramp(700, budget=300))):
        write_cell(tmp_path, "t", "ivg/scratch", seed, rows, status="done" if seed == 0 else status)
    result = build(tmp_path, resamples=50)
    scratch = result["targets"]["t"]["arms"]["ivg/scratch"]
    assert scratch["unfinished"] == [False, True, True]
    assert scratch["medians"]["steps_to_thresholds"]["0.8"] == [600, 600] and scratch["reached"]["0.8"] == 1
    assert scratch["final_score"][1:] == scratch["final_raw_return"][1:] == [None, None]
    assert scratch["final_score_iqm"] == scratch["final_score"][0] and scratch["intervals"]["final_score"] is None
    warnings = "\n".join(result["warnings"])
    assert "ivg/scratch: 2 of 3 runs are unfinished" in warnings and "did not reach" not in warnings
    page = (tmp_path / "report.html").read_text()
    assert "2 unfinished" in page and "Kaplan" in page
    (row,) = (r for r in time_rows(result["targets"]["t"], 0.8, {"ivg/pretrained": 0, "ivg/scratch": 1})
              if r.label == "ivg/scratch")  # fmt: skip
    assert row.unfinished == (200, 300) and row.censored == ()


def test_the_lead_makes_no_claim_of_unfinished_runs(tmp_path):
    for seed in range(3):
        write_cell(tmp_path / "a", "t", "ivg/pretrained", seed, ramp(600))
        write_cell(tmp_path / "a", "t", "ivg/scratch", seed, ramp(700, budget=200), status="running")
        write_cell(tmp_path / "b", "t", "ivg/scratch", seed, ramp(700, budget=200), status="running")
        write_cell(tmp_path / "c", "t", "ivg/scratch", seed, ramp(4000))
    unknown, nobody, never = (build(tmp_path / name, resamples=50) for name in "abc")
    assert unknown["lead"].endswith("is not known yet: 3 of 6 evaluated runs are unfinished.")
    assert nobody["lead"] == "No run has reached the threshold 0.8 yet; 3 of 3 evaluated runs are unfinished."
    assert never["lead"] == "No arm reached the threshold 0.8."
    both = build(tmp_path / "c", thresholds=(0.8, 0.9), resamples=50)
    assert both["lead"] == "No arm reached the threshold 0.8 or 0.9."
    assert lead.headlines(nobody, {"ivg/scratch": 0})[0]["value"] == "not reached yet"


def test_what_is_known_before_all_runs_have_ended_is_so_far(tmp_path):
    for seed in range(3):
        write_cell(tmp_path, "t", "ivg/pretrained", seed, ramp(300))
        write_cell(tmp_path, "t", "ivg/scratch", seed, ramp(900))
    assert build(tmp_path, resamples=50)["lead"].startswith("ivg/pretrained reached score 0.8 in fewer")
    write_cell(tmp_path, "t", "ivg/scratch", 3, ramp(900, budget=200), status="running")
    assert build(tmp_path, resamples=50)["lead"].startswith("So far, ivg/pretrained reached score 0.8 in fewer")


def test_an_arm_whose_runs_of_one_target_are_all_unfinished_has_no_score_over_all(tmp_path):
    for arm in ("ivg/pretrained", "ivg/scratch"):
        for seed in range(2):
            write_cell(tmp_path, "easy", arm, seed, ramp(250))
            status = "done" if arm == "ivg/pretrained" else "running"
            write_cell(tmp_path, "hard", arm, seed, ramp(900, budget=300), status=status)
    over_all = build(tmp_path, resamples=50)["aggregate"]
    assert over_all["ivg/pretrained"]["final_score_iqm"] is not None
    assert over_all["ivg/scratch"]["final_score_iqm"] is over_all["ivg/scratch"]["final_score_interval"] is None


def test_of_an_experiment_all_cells_are_counted_those_too_that_have_not_begun(tmp_path):
    """Two targets, two arms, two seeds; nothing of one target and of one arm is there."""
    plan = {"targets": {"t": {}, "later": {"arms": ["sac/scratch"]}}, "arms": ["ivg/scratch", "sac/scratch"]}
    (tmp_path / "experiment.yaml").write_text(json.dumps({"transfer": {**plan, "seeds": [0, 1]}}))
    write_cell(tmp_path, "t", "ivg/scratch", 0, ramp(700), status="done")
    write_cell(tmp_path, "t", "ivg/scratch", 1, ramp(700, budget=200), status="running")
    result = build(tmp_path, resamples=50)
    assert result["summary"].endswith("Of 6 cells, 1 has finished, 1 is unfinished and 4 have not begun.")
    assert "later, sac/scratch: not run with seed 0, 1." in result["warnings"]
    assert "have not begun" in (tmp_path / "report.html").read_text()
    assert standing([{"status": "done"}]) == ""


def test_runs_of_unequal_budgets_are_compared_within_what_all_of_them_had(tmp_path):
    """As where giving them more was interrupted. Equal learners are equally fast."""
    for arm, base, longer in (("ivg/scratch", "sac/scratch", range(5)), ("sac/scratch", None, [0])):
        for seed, full_at in enumerate((500, 900, 900, 2000, 2000)):
            budget = 1000 if seed in longer else 500
            rows = ramp(full_at, stop=False, budget=budget)
            write_cell(tmp_path, "t", arm, seed, rows, facts=new_facts, budget=budget, compared_with=base)
    result = build(tmp_path, resamples=50)
    assert result["targets"]["t"]["arms"]["sac/scratch"]["budgets"] == [1000, 500, 500, 500, 500]
    (place,) = result["aggregate"]["ivg/scratch"]["by_threshold"]
    assert place["probability_of_being_faster"] == 0.5
    told = [text for text in result["warnings"] if "unequal lengths" in text]
    assert len(told) == 1 and told[0].startswith("t, sac/scratch: runs of 500 and 1,000 env_steps: ")


def test_what_is_said_of_unfinished_runs_agrees_with_their_number(tmp_path):
    one, both = "is unfinished; it counts up to its last evaluation and has", "are unfinished; they count up to their"
    for seed, said in enumerate((f"1 of 1 run {one} no final score.", f"2 of 2 runs {both}")):
        write_cell(tmp_path, "t", "ivg/scratch", seed, ramp(4000, budget=300), facts=new_facts, status="interrupted")
        assert any(f"t, ivg/scratch: {said}" in line for line in build(tmp_path, resamples=50)["warnings"])


@pytest.mark.parametrize(("more", "chance"), [
    ({"status": "failed", "error": "lost"}, 0.2), ({"status": "interrupted"}, 1), ({"stopped_at": 0.5}, 1),
])  # fmt: skip
def test_runs_that_failed_do_not_make_their_arm_look_faster(tmp_path, more, chance):
    """One of five arrived, and early; of the arm that it is compared with, all but one that failed. Of what was cut
    short in another way nothing is known.
    """
    for seed in range(5):
        for arm, base, full_at, fails in (("ivg/scratch", "sac/scratch", 250, seed > 0),
                                          ("sac/scratch", None, 700, seed > 3)):  # fmt: skip
            rows = ramp(2000, stop=False, budget=200) if fails else ramp(full_at)
            given = more if fails else {"stopped_at": 0.8}
            write_cell(tmp_path, "t", arm, seed, rows, facts=new_facts, compared_with=base, **given)
    result = build(tmp_path, resamples=50)
    (place,) = result["aggregate"]["ivg/scratch"]["by_threshold"]
    assert place["reached"] == 1 and place["probability_of_being_faster"] == chance
