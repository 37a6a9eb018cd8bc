"""Oracles: hand arithmetic, scipy, rliable's definitions, and coverage of the intervals on simulated runs."""

import math

import numpy as np
import pytest

from meta_latent.ops import hierarchical
from meta_latent.ops import learning_speed as ls
from meta_latent.ops.learning_curve import Curve, time_to_threshold


def curve(scores, every=100, start=0, seconds_per_step=0.5, **rest):
    """Evaluations from ``start`` on, all after an update."""
    steps = start + every * np.arange(len(scores))
    return Curve(steps, steps * 2 + 1, steps * seconds_per_step, np.array(scores), **rest)


def times(*values, watched=1000.0):
    """Times object; None = censored at ``watched``."""
    return ls.Times(
        np.array([watched if v is None else v for v in values], dtype=float),
        np.array([math.inf if v is None else v for v in values], dtype=float),
    )


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (
            [0.0, 0.9, 0.5, 0.9, 0.95, 0.2],
            300,
        ),  # the lone 0.9 at 100 doesn't count, the drop after 400 doesn't matter
        ([0.9, 0.9], 0),
        ([0.8, 0.8, 0.1], 0),  # at the threshold counts
        ([0.0, 0.5, 0.9], None),  # the last one alone doesn't count
        ([0.9], None),
        ([0.1, 0.9, 0.1, 0.9], None),
    ],
)
def test_threshold_is_the_first_of_two_consecutive_evaluations(scores, expected):
    got = time_to_threshold(curve(scores), 0.8)
    assert got == expected
    seconds = time_to_threshold(curve(scores), 0.8, "seconds")
    assert seconds == (None if expected is None else expected * 0.5)


def test_an_evaluation_before_any_update_is_no_crossing():
    steps, scores = [0, 100, 200, 300, 400], [0.9, 0.9, 0.1, 0.9, 0.9]
    untrained = Curve(steps, [0, 0, 5, 9, 9], steps, scores)
    assert time_to_threshold(untrained, 0.8) == 300
    assert time_to_threshold(Curve(steps, [0, 7, 8, 9, 9], steps, scores), 0.8) == 300
    assert time_to_threshold(Curve(steps, [1, 7, 8, 9, 9], steps, scores), 0.8) == 0
    assert time_to_threshold(Curve(steps, [0] * 5, steps, scores), 0.8) is None


def test_a_curve_over_updates_stands_still_in_env_steps():
    logged = {"env_steps": [500] * 3, "updates": [10, 20, 30], "seconds": [1, 2, 3], "scores": [0, 0.9, 0.9]}
    over = Curve(**logged, axis="updates")
    assert time_to_threshold(over, 0.8) == 20 and time_to_threshold(over, 0.8, "seconds") == 2
    assert ls.common_range([over], 25) == (10, 25)
    assert ls.mean_score(over, 10, 30) == pytest.approx((0.45 + 0.9) / 2)
    assert ls.Times.of([over], 1.5).lower == [30]
    np.testing.assert_allclose(ls.resample(over, [15]), [0.45])
    with pytest.raises(ValueError, match="env_steps must increase"):
        Curve(**logged)
    with pytest.raises(ValueError, match="axis"):
        Curve(**logged, axis="seconds")


def test_a_single_run_makes_no_interval():
    one, three = times(100), times(300, 400, 500)
    assert one.interval(rng()) is None and three.interval(rng()) is not None
    for learner, base in ((one, three), (three, one), (one, one)):
        ratio = ls.speedup(learner, base, rng())
        assert ratio.value and ratio.interval is None
    ratio = ls.area_ratio([0.6], [0.2, 0.3], rng())
    assert ratio.value == pytest.approx(2.4) and ratio.interval is None
    assert ls.stratified_bootstrap([np.zeros(3), np.zeros(1)], ls.iqm, rng()) is None


def test_numpy_1_26_is_enough(monkeypatch):
    monkeypatch.delattr(np, "trapezoid", raising=False)  # new in NumPy 2
    assert ls.mean_score(curve([0.0, 0.5, 1.0]), 0, 200) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "broken",
    [
        {"env_steps": [0, 0, 1]},
        {"seconds": [2, 1, 3]},
        {"scores": [0, math.nan, 1]},
        {"scores": [0, 1]},
        {"env_steps": [], "updates": [], "seconds": [], "scores": []},
    ],
)
def test_impossible_curves_are_refused(broken):
    good = {"env_steps": [0, 1, 2], "updates": [0, 1, 2], "seconds": [0, 1, 2], "scores": [0, 1, 2]}
    Curve(**good)
    with pytest.raises(ValueError):
        Curve(**{**good, **broken})


def test_speedup_is_the_ratio_of_medians():
    ratio = ls.speedup(times(100, 200, 300), times(600, 800, 700), rng())
    assert (ratio.value, ratio.lower_bound) == (3.5, False)
    low, high = ratio.interval
    assert 2.0 <= low < 3.5 < high <= 8.0  # between extreme medians: 600/300 and 800/100


def test_censored_base_gives_a_lower_bound_with_an_open_end():
    ratio = ls.speedup(times(100, 200, 300), times(900, None, None, watched=1000), rng())
    assert (ratio.value, ratio.lower_bound) == (1000 / 200, True)
    assert ratio.interval[0] > 2.9 and ratio.interval[1] == math.inf


def test_censored_runs_that_leave_the_median_alone_leave_the_claim_exact():
    ratio = ls.speedup(times(100, 200, 300), times(600, 700, None, watched=1000), rng())
    assert (ratio.value, ratio.lower_bound) == (3.5, False)


def test_run_that_stopped_early_without_the_threshold_cannot_improve_the_claim():
    """An interrupted base run (watched until 50 only) may hide any time above 50: the bound uses 50."""
    base = ls.Times(np.array([50.0, 600, 700]), np.array([math.inf, 600, 700]))
    ratio = ls.speedup(times(100, 200, 300), base, rng())
    assert (ratio.value, ratio.lower_bound) == (3.0, True)


def test_even_number_of_base_runs_uses_what_is_known_of_the_middle_pair():
    ratio = ls.speedup(times(100), times(300, 500, None, None, watched=1000), rng())
    assert (ratio.value, ratio.lower_bound) == ((500 + 1000) / 2 / 100, True)


def test_no_claim_when_the_learners_median_is_censored():
    ratio = ls.speedup(times(100, None, None), times(None, None, None), rng())
    assert ratio.value is None and ratio.interval is None and "asked about" in ratio.reason


def test_threshold_met_before_the_first_step_counts_as_one_evaluation_interval():
    ratio = ls.speedup(times(0, 0, 0), times(600, 600, 600), rng(), resolution=100)
    assert (ratio.value, ratio.lower_bound) == (6.0, True) and ratio.interval == (6.0, math.inf)
    assert ls.speedup(times(0, 0), times(5, 5), rng()).value is None


def test_what_is_held_at_the_first_evaluation_is_known_from_above_only():
    early, late, seen = curve([0.9, 0.9], start=240), curve([0.1, 0.1, 0.9, 0.9]), curve([0.1, 0.9, 0.9])
    lucky = Curve([0, 100, 200], [0, 5, 9], [0, 1, 2], [0.9, 0.9, 0.9])  # nothing was below before it either
    cold = Curve([0, 100, 200], [0, 5, 9], [0, 1, 2], [0.1, 0.9, 0.9])
    for one, (low, high) in ((early, (0, 240)), (late, (200, 200)), (seen, (100, 100)), (lucky, (0, 100)),
                             (cold, (100, 100))):  # fmt: skip
        found = ls.Times.of([one], 0.8)
        assert (found.lower[0], found.upper[0]) == (low, high) == found.median()
    at_first, slow, quick = (ls.Times.of([c] * 3, 0.8) for c in (early, curve([0.1] * 9 + [0.9] * 2), seen))
    ratio = ls.speedup(at_first, slow, rng(), resolution=100)
    assert (ratio.value, ratio.lower_bound, ratio.interval) == (900 / 240, True, (900 / 240, math.inf))
    ratio = ls.speedup(slow, at_first, rng(), resolution=100)
    assert (ratio.value, ratio.lower_bound, ratio.upper_bound) == (pytest.approx(240 / 900), False, True)
    assert ratio.interval == (0, 240 / 900)
    for learner in (at_first, quick):  # 1.00× and 2.4×, if 240 were when it was reached
        ratio = ls.speedup(learner, at_first, rng(), resolution=100)
        assert ratio.value is None and ratio.reason == ls.AT_FIRST


def test_interval_of_a_speedup_covers_the_true_ratio():
    """Log-normal times, true ratio of medians 3, 21 runs: a 95 % interval covers it about that often, a 50 %
    one doesn't.
    """
    generator, trials = rng(1), 300

    def coverage(level):
        hits = 0
        for _ in range(trials):
            fast = times(*np.exp(generator.normal(0, 0.4, 21)) * 100)
            slow = times(*np.exp(generator.normal(0, 0.4, 21)) * 300)
            low, high = ls.speedup(fast, slow, generator, level=level, resamples=300).interval
            hits += low <= 3.0 <= high
        return hits / trials

    slack = 4 * math.sqrt(0.95 * 0.05 / trials)
    assert 0.95 - slack < coverage(0.95) <= 1.0
    assert coverage(0.5) < 0.95 - slack


def test_interval_of_a_censored_median_is_open():
    low, high = times(100, 200, None, None, None).interval(rng())
    assert low >= 100 and high == math.inf
    assert times(100, 200, 300).interval(rng()) == (100, 300)


def test_mean_score_of_a_ramp():
    ramp = curve([0.0, 0.5, 1.0])  # 0, 100, 200
    assert ls.mean_score(ramp, 0, 200) == pytest.approx(0.5)
    assert ls.mean_score(ramp, 0, 100) == pytest.approx(0.25)
    assert ls.mean_score(ramp, 50, 150) == pytest.approx(0.5)


def test_run_that_stopped_solved_is_extended_at_the_threshold_not_at_its_last_score():
    solved = curve([0.0, 1.0, 1.0], stopped_at=0.8)  # held 0.8 from 100 on, stopped at 200
    by_hand = (50.0 + 100.0 + 0.8 * 200.0) / 400.0
    assert ls.mean_score(solved, 0, 400) == pytest.approx(by_hand)
    assert ls.mean_score(solved, 300, 400) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="did not stop at a threshold"):
        ls.mean_score(curve([0.0, 1.0, 1.0]), 0, 400)


def test_common_range_ends_where_the_shortest_run_that_did_not_stop_ends():
    solved, cut, full = curve([0, 1, 1], stopped_at=0.8), curve([0, 0, 0, 0]), curve([0] * 11, start=50)
    assert ls.common_range([solved, full], 1000) == (50, 1000)
    assert ls.common_range([solved, cut], 1000) == (0, 300)
    assert ls.common_range([curve([0, 1, 1]), full], 1000) == (50, 200)
    assert ls.common_range([curve([0.0]), full], 1000) is None


def test_area_ratio_by_hand_and_no_claim_without_a_base():
    ratio = ls.area_ratio([0.6, 0.8], [0.2, 0.2], rng())
    assert ratio.value == pytest.approx(3.5) and ratio.interval == (pytest.approx(3.0), pytest.approx(4.0))
    assert ls.area_ratio([0.6, 0.6], [0.0, -0.1], rng()).value is None


def test_jumpstart_is_the_difference_at_the_first_common_evaluation():
    base = [curve([0.1, 0.2, 0.3]), curve([0.3, 0.4, 0.5])]
    assert ls.jumpstart(curve([0.7, 0.8]), base) == pytest.approx(0.5)
    assert ls.jumpstart(curve([0.7, 0.8], start=100), base) == pytest.approx(0.4)
    assert ls.jumpstart(curve([0.7], start=900), base) is None
    assert ls.jumpstart(curve([0.7]), []) is None


def test_the_interval_of_a_jumpstart_holds_how_much_base_runs_vary():
    """Without that, no difference lay outside of a third of the intervals against two runs."""
    draws, covered = np.random.default_rng(0), 0
    for k in range(200):
        found = draws.normal(size=(10, 1)) - draws.normal(size=(1, 10))
        low, high = ls.jumpstart_interval(found, rng(k), resamples=300)
        covered += low <= 0 <= high
    assert covered / 200 > 0.9
    base = [curve([0.0, 0.8]), curve([1.0, 0.8])]
    found = np.stack([ls.leads(curve([0.5, 0.8]), base)] * 3)  # runs that do not vary, against such that do
    assert found.tolist() == [[0.5, -0.5]] * 3
    assert ls.jumpstart_interval(found, rng()) == (-0.5, 0.5)
    one_of_nine = np.where(np.arange(9) == 4, 100.0, 0.0)[:, None].repeat(2, axis=1)
    assert ls.jumpstart_interval(one_of_nine, rng()) == (0, 0)  # of the median
    assert ls.jumpstart_interval(found[:1], rng()) is None and ls.jumpstart_interval(found[:, :1], rng()) is None


def test_jumpstart_is_not_that_of_untrained_networks():
    steps = [0, 100, 200]
    first = Curve(steps, [0, 0, 9], steps, [0.9, 0.8, 0.5])
    base = [Curve(steps, [0, 4, 9], steps, [0.1, 0.2, 0.3])]
    assert ls.jumpstart(first, base) == pytest.approx(0.5 - 0.3)
    assert ls.jumpstart(Curve(steps, [0, 0, 0], steps, [0.9, 0.8, 0.5]), base) is None


def test_final_score_is_the_mean_of_the_last_evaluations():
    assert ls.final_score(curve([0.0, 0.6, 0.8])) == pytest.approx(0.7)
    assert ls.final_score(curve([0.0, 0.6, 0.8]), last=9) == pytest.approx(1.4 / 3)


def test_resample_curves_of_unequal_length():
    grid = np.array([0, 50, 200, 300])
    solved = curve([0.0, 1.0, 1.0], stopped_at=0.8)
    np.testing.assert_allclose(ls.resample(solved, grid), [0.0, 0.5, 1.0, np.nan])
    np.testing.assert_allclose(ls.resample(curve([1.0], start=100), grid), [np.nan] * 4)
    np.testing.assert_allclose(ls.resample(solved, [25.0], "seconds"), [0.5])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 30])
def test_iqm_drops_a_quarter_at_each_end(n):
    scores = rng(n).normal(size=(3, n))
    kept = np.sort(scores, axis=1)[:, n // 4 : n - n // 4]
    np.testing.assert_allclose(ls.iqm(scores), kept.mean(axis=1))
    np.testing.assert_allclose(ls.iqm(scores.T, axis=0), ls.iqm(scores))


def test_iqm_by_hand():
    assert ls.iqm(np.array([100.0, 1, 2, 3, 4, 5, 6, -100])) == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_probability_of_improvement_by_hand():
    assert ls.probability_of_improvement([np.array([1.0, 3.0])], [np.array([2.0, 3.0])]) == pytest.approx(1.5 / 4)
    two_tasks = ls.probability_of_improvement([np.array([1.0]), np.array([5.0])], [np.array([2.0]), np.array([1.0])])
    assert two_tasks == pytest.approx(0.5)
    censored = ls.probability_of_improvement([np.array([-10.0, -np.inf])], [np.array([-np.inf, -np.inf])])
    assert censored == pytest.approx((2 + 1) / 4)


def iqm_coverage(level, interval, trials=300, seeds=20):
    """Share of trials whose interval holds the true IQM (0.5) of two tasks with true means 0 and 1."""
    generator, hits = rng(2), 0
    for _ in range(trials):
        strata = [generator.normal(mean, 0.05, seeds) for mean in (0.0, 1.0)]
        low, high = interval(strata, generator, level)
        hits += low <= 0.5 <= high
    return hits / trials


def stratified(strata, generator, level):
    return ls.stratified_bootstrap(strata, lambda x: x.mean(axis=1), generator, level=level, resamples=300)


def test_stratified_bootstrap_covers_the_truth():
    slack = 4 * math.sqrt(0.95 * 0.05 / 300)  # standard error of a share from 300 trials; 20 seeds cost about 1 % more
    assert 0.95 - slack - 0.01 < iqm_coverage(0.95, stratified) <= 0.95 + slack
    assert iqm_coverage(0.5, stratified) < 0.95 - slack


def test_stratified_interval_has_the_width_of_the_runs_not_of_the_tasks():
    """Two tasks 1 apart, runs 0.05 apart: standard error of the mean is 0.05 / sqrt(40); pooled it would be
    0.5 / sqrt(40).
    """
    strata = [rng(3).normal(mean, 0.05, 20) for mean in (0.0, 1.0)]
    low, high = stratified(strata, rng(4), 0.95)
    expected = 2 * 1.96 * np.sqrt(np.mean([np.var(s) for s in strata]) / 40)
    assert high - low == pytest.approx(expected, rel=0.2)
    low, high = stratified([np.concatenate(strata)], rng(4), 0.95)  # negative control: tasks resampled too
    assert high - low > 5 * expected


def test_unequal_numbers_of_seeds_are_allowed_and_empty_ones_refused():
    low, high = ls.stratified_bootstrap([np.zeros(3), np.zeros(5)], ls.iqm, rng())
    assert low == high == 0.0
    with pytest.raises(ValueError):
        ls.stratified_bootstrap([np.zeros(3), np.zeros(0)], ls.iqm, rng())


def test_crossed_bootstrap_draws_seeds_and_tasks_anew():
    """Of seeds apart by a and tasks by b: standard error sqrt(a^2 / S + b^2 / N); of S N pairs drawn alike, less."""
    for a, b in ((0.0, 1.0), (1.0, 0.0), (0.5, 0.5)):
        seeds, tasks = (spread * generator.normal(size=40) for spread, generator in ((a, rng(1)), (b, rng(2))))
        values = seeds[:, None] + tasks
        expected = 2 * 1.96 * np.sqrt(np.var(seeds) / 40 + np.var(tasks) / 40)
        low, high = hierarchical.crossed_bootstrap(values, rng(3))
        assert high - low == pytest.approx(expected, rel=0.1) and low < values.mean() < high
        pooled = ls.stratified_bootstrap([values.ravel()], lambda x: x.mean(axis=1), rng(3), resamples=300)
        assert pooled[1] - pooled[0] < expected / 3


def test_crossed_bootstrap_of_a_single_seed_or_task():
    values = np.array([0.0, 1.0])
    for given in (values[None], values[:, None]):  # both drawn: 0, 1/2, 1 with 1/4, 1/2, 1/4
        assert hierarchical.crossed_bootstrap(given, rng()) == (0, 1)
        assert hierarchical.crossed_bootstrap(given, rng(), level=0.4) == (0.5, 0.5)
    assert hierarchical.crossed_bootstrap(np.ones((1, 1)), rng()) is None


def test_same_generator_same_interval():
    strata = [rng(5).normal(size=6)]
    assert ls.stratified_bootstrap(strata, ls.iqm, rng(7)) == ls.stratified_bootstrap(strata, ls.iqm, rng(7))
    assert ls.stratified_bootstrap(strata, ls.iqm, rng(7)) != ls.stratified_bootstrap(strata, ls.iqm, rng(8))


def test_few_seeds():
    assert ls.few_seeds_warning(5, "x") is None
    assert "only 4 seeds" in ls.few_seeds_warning(4, "x") and "only 1 seed;" in ls.few_seeds_warning(1, "x")
    assert "interval" not in ls.few_seeds_warning(1, "x")
