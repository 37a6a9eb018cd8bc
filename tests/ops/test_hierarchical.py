"""Bootstrap over pretrained models and runs: against closed forms, plain loops and numbers of rliable."""

import numpy as np
import pytest

from meta_latent.ops import hierarchical
from meta_latent.ops import learning_speed as ls

# Rounded normal draws, and what rliable 1.2.0 says of them: 5 and 4 runs on 3 tasks, with one tie.
X = [[0.64, 0.56, 0.79], [0.63, 0.44, 0.71], [0.99, 0.88, 0.39], [0.22, 0.41, 0.61], [-0.1, 0.53, 0.23]]
Y = [[0.64, 0.24, 0.31], [0.52, 0.71, 0.36], [0.81, 0.2, 0.51], [0.67, 0.43, 0.18]]
RLIABLE = {"iqm": (0.5466666666666666, 0.46166666666666667), "improvement": 0.625,
           "levels": [-0.1, 0.25, 0.5, 0.56, 1.0],
           "profile": [0.9333333333333333, 0.8, 0.6, 0.4666666666666667, 0.0]}  # fmt: skip


def tasks(table):
    """Runs (S, N) as N tasks with one group of runs."""
    return [[column] for column in np.array(table).T]


def test_statistics_are_those_of_rliable():
    x, y = (hierarchical.as_samples(tasks(table)) for table in (X, Y))
    assert np.allclose([hierarchical.iqm(x)[0], hierarchical.iqm(y)[0]], RLIABLE["iqm"])
    assert hierarchical.improvement(x, y)[0] == pytest.approx(RLIABLE["improvement"])
    assert ls.probability_of_improvement(np.array(X).T, np.array(Y).T) == pytest.approx(RLIABLE["improvement"])
    assert np.allclose(hierarchical.profile(x, RLIABLE["levels"])[0], RLIABLE["profile"])


def test_improvement_by_hand():
    """3 beats 1 and 2 and ties 3: (1 + 1 + 0.5) / 3; 0 beats none."""
    chance = hierarchical.improvement([np.array([[3.0, 0.0]])], [np.array([[1.0, 2.0, 3.0]])])
    assert chance[0] == pytest.approx((2.5 + 0) / 6)


def test_the_variance_of_a_mean_is_the_closed_form():
    rng = np.random.default_rng(0)
    models = [rng.normal(level, 0.5, size=4) for level in (0.0, 1.0, 3.0)]
    drawn = hierarchical.draws([models], np.random.default_rng(1), 40_000)[0].mean(axis=1)
    between = np.var([runs.mean() for runs in models])
    within = np.mean([np.var(runs) / runs.size for runs in models])
    assert drawn.mean() == pytest.approx(np.mean(models), abs=0.02)
    assert drawn.var() == pytest.approx((between + within) / 3, rel=0.03)


def test_draws_are_those_of_a_plain_loop():
    """Uneven numbers of runs: the distribution of the mean against a loop that draws models, then runs."""
    models, rng = [np.array([0.0]), np.array([1.0, 2.0, 4.0]), np.array([5.0, 9.0])], np.random.default_rng(0)

    def once():
        chosen = [models[k] for k in rng.integers(0, 3, 3)]
        return np.concatenate([runs[rng.integers(0, runs.size, runs.size)] for runs in chosen]).mean()

    expected = np.array([once() for _ in range(10_000)])
    drawn = np.nanmean(hierarchical.draws([models], np.random.default_rng(1), 10_000)[0], axis=1)
    below = [[(values <= place).mean() for place in np.linspace(0, 9, 91)] for values in (expected, drawn)]
    assert np.abs(np.subtract(*below)).max() < 0.025


def test_one_model_is_the_bootstrap_over_runs():
    runs = np.random.default_rng(0).normal(size=12)
    ours = hierarchical.bootstrap([[runs]], hierarchical.iqm, np.random.default_rng(1), resamples=20_000)
    plain = ls.stratified_bootstrap([runs], ls.iqm, np.random.default_rng(2), resamples=20_000)
    assert np.allclose(ours, plain, atol=0.03)


def test_luck_of_the_model_widens_the_interval():
    """Negative control: runs that agree within each model, models that differ."""
    models = [np.full(5, level) for level in (0.2, 0.5, 0.8)]
    together = hierarchical.bootstrap([models], hierarchical.iqm, np.random.default_rng(0))
    as_runs = hierarchical.bootstrap([[np.concatenate(models)]], hierarchical.iqm, np.random.default_rng(0))
    assert together == pytest.approx((0.2, 0.8))
    assert as_runs[1] - as_runs[0] < 0.8 * (together[1] - together[0])


def test_the_same_models_are_drawn_for_all_tasks():
    models = [np.array([0.0, 0.0]), np.array([1.0, 1.0])]
    first, second = hierarchical.draws([models, models], np.random.default_rng(0), 500)
    assert np.array_equal(first, second) and 0.4 < (first.mean(axis=1) == 0.5).mean() < 0.6


def test_a_ragged_iqm_is_the_one_of_each_row():
    rng, rows = np.random.default_rng(0), np.full((40, 13), np.nan)
    for row in rows:
        row[: rng.integers(1, 14)] = rng.normal(size=1)
    rows = np.where(np.isnan(rows), np.nan, rng.normal(size=rows.shape))
    expected = [ls.iqm(row[np.isfinite(row)]) for row in rows]
    assert np.allclose(hierarchical.iqm([rows]), expected)


def test_the_band_holds_the_profile_and_narrows_with_runs():
    levels, rng = np.linspace(0, 1, 11), np.random.default_rng(0)
    widths = []
    for count in (5, 50):
        group = [[rng.random(count) for _ in range(8)]]
        share = hierarchical.profile(hierarchical.as_samples(group), levels)[0]
        low, high = hierarchical.profile_band(group, levels, np.random.default_rng(1))
        assert (low <= share).all() and (share <= high).all()
        widths.append((high - low).mean())
    assert widths[1] < widths[0]


def test_what_cannot_be_drawn():
    one = [[np.array([1.0])]]
    assert hierarchical.bootstrap(one, hierarchical.iqm, np.random.default_rng(0)) is None
    assert hierarchical.profile_band(one, np.array([0.5]), np.random.default_rng(0)) is None
    two = [[np.array([1.0]), np.array([2.0])]]
    assert hierarchical.bootstrap(two, hierarchical.iqm, np.random.default_rng(0)) == (1.0, 2.0)
    for wrong in ([[np.array([])]], [[np.ones(2)], [np.ones(2), np.ones(2)]]):
        with pytest.raises(ValueError, match="every task needs runs"):
            hierarchical.draws(wrong, np.random.default_rng(0))


def test_a_model_that_was_not_tried_on_a_task():
    group = [[np.array([1.0, 1.0]), np.array([])], [np.array([2.0]), np.array([4.0, 4.0])]]
    low, high = hierarchical.bootstrap(group, hierarchical.iqm, np.random.default_rng(0))
    assert 1.0 <= low <= high <= 4.0


def test_what_is_unknown_stays_unknown():
    rng = np.random.default_rng(0)
    assert hierarchical.bootstrap([[np.ones(1)], [np.array([1.0, 2.0])]], hierarchical.iqm, rng) is None
    gap = [[np.array([1.0, 1.0]), np.array([])], [np.array([2.0]), np.array([4.0, 4.0])]]
    assert np.isfinite(hierarchical.profile_band(gap, np.array([0.5, 3.0]), rng)).all()
    assert np.isnan(hierarchical.improvement([np.full((1, 2), np.nan), np.ones((1, 2))], [np.zeros((1, 2))] * 2)[0])
