"""Bootstrap samples of times, where runs share pretrained models."""

import numpy as np
import pytest

from meta_latent.ops import learning_speed as ls
from meta_latent.ops.resampling import clustered_rows

MODELS = np.array([7, 7, 7, 2, 9, 9])


def test_a_sample_holds_as_many_models_as_there_are_and_as_many_runs_as_each_has():
    rows = clustered_rows(MODELS, np.random.default_rng(0), 500)
    assert rows.shape == (500, 9)
    counts = {7: 3, 2: 1, 9: 2}
    for row in rows.reshape(500, 3, 3):
        for part in row:
            drawn = part[part >= 0]
            (model,) = set(MODELS[drawn])
            assert len(drawn) == counts[model]
    assert set(np.unique(rows)) == {-1, *range(6)}


def test_places_without_a_run_weigh_nothing():
    lower = np.array([300.0, 900.0, 500.0, 800.0, 700.0, 100.0])
    upper = np.array([300.0, np.inf, 500.0, np.inf, np.inf, 100.0])
    cut = np.array([False, True, False, True, False, False])
    low, high = ls.Times(lower, upper, cut, MODELS).resample(np.random.default_rng(3), 200)
    rows = clustered_rows(MODELS, np.random.default_rng(3), 200)
    for k, row in enumerate(rows):
        kept = row[row >= 0]
        assert (low[k], high[k]) == ls.Times(lower[kept], upper[kept], cut[kept]).median()
    assert (rows < 0).any() and np.isinf(high).any() and np.isfinite(high).any()


def test_the_luck_of_models_is_in_the_interval():
    # Each model's runs are alike: twelve runs tell no more than three models do.
    models, times = np.repeat([0, 1, 2], 4), np.repeat([100.0, 200.0, 300.0], 4)
    one, several = ls.Times(times, times), ls.Times(times, times, models=models)
    low, _ = several.resample(np.random.default_rng(0), 4000)
    assert np.mean(low == 100) == pytest.approx(7 / 27, abs=0.03)  # two or three draws of the first
    low, _ = one.resample(np.random.default_rng(0), 4000)
    assert np.mean(low == 100) < 0.1
    base = ls.Times(np.full(3, 400.0), np.full(3, 400.0))
    assert ls.speedup(several, base, np.random.default_rng(0)).interval == (400 / 300, 4.0)
