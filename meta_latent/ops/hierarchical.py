"""Intervals where several pretrained models stand behind the runs: models and the runs of each are both resampled.

Scores come as ``tasks``: per task a list of P arrays, the runs that started from each of the P pretrained models, in
the same order for every task (an empty array where a model was not tried; P = 1 for learners that need none). All
runs that start from one model share its luck: resampling runs alone (:mod:`learning_speed`) would call it certain.

A draw takes P models with replacement, the same for all tasks, and for each as many of its runs as it has, with
replacement (the cluster bootstrap with two stages; Davison & Hinkley 1997, section 3.8). Of a mean over equally many
runs per model its variance is that of the models' means plus the mean of the runs' variances over their number, both
with the denominator n, divided by P: of few models (P - 1) / P of what it should be where they
differ much, and up to 1.7 times as much where they hardly differ, as the spread of runs enters twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from meta_latent.ops.learning_speed import LEVEL, RESAMPLES, percentile_interval
from meta_latent.ops.resampling import picked_runs

Tasks = Sequence[Sequence[np.ndarray]]


def draws(tasks: Tasks, rng: np.random.Generator, resamples: int = RESAMPLES) -> list[np.ndarray]:
    """Bootstrap samples, per task (resamples, P * most runs), NaN where a drawn model has fewer runs than the most.

    Raises ValueError when tasks differ in P, or a task has no run.
    """
    models = {len(task) for task in tasks}
    if len(models) != 1 or any(sum(map(np.size, task)) == 0 for task in tasks):
        raise ValueError("every task needs runs, in as many groups (pretrained models) as every other")
    count = models.pop()
    chosen = rng.integers(0, count, size=(resamples, count))
    return [_draw_runs(task, chosen, rng) for task in tasks]


def _draw_runs(task: Sequence[np.ndarray], chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    counts = np.array([np.size(runs) for runs in task])
    picked = picked_runs(counts, chosen, rng)
    table = np.full((len(task), picked.shape[-1]), np.nan)
    for row, runs in zip(table, task, strict=True):
        row[: np.size(runs)] = runs
    return np.where(picked < 0, np.nan, table[chosen[..., None], picked]).reshape(len(chosen), -1)


def bootstrap(
    tasks: Tasks,
    statistic: Callable[[list[np.ndarray]], np.ndarray],
    rng: np.random.Generator,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """Interval of ``statistic``, which maps :func:`draws` to (resamples,); None where some task has a single run."""
    if any(sum(map(np.size, task)) < 2 for task in tasks):
        return None
    found = statistic(draws(tasks, rng, resamples))
    found = found[~np.isnan(found)]  # draws that took only models which were not tried on some task
    return percentile_interval(found, level) if found.size else None


def iqm(samples: Sequence[np.ndarray]) -> np.ndarray:
    """(resamples,) interquartile means over all runs of all tasks; NaN are no runs. With n runs the lowest and the
    highest ``floor(n / 4)`` are left out, as in :func:`learning_speed.iqm`.
    """
    ordered = np.sort(np.concatenate(samples, axis=1), axis=1)  # NaN last
    count = np.isfinite(ordered).sum(axis=1, keepdims=True)
    place = np.arange(ordered.shape[1])
    kept = (place >= count // 4) & (place < count - count // 4)
    with np.errstate(invalid="ignore"):
        return np.where(kept, ordered, 0.0).sum(axis=1) / kept.sum(axis=1)


def profile(samples: Sequence[np.ndarray], levels: np.ndarray) -> np.ndarray:
    """(resamples, L) performance profile: at each of ``levels`` (L,) the share of runs that score above it, averaged
    over tasks (the run-score distribution of Agarwal et al. 2021, rliable's ``run_score_deviation``).
    """
    shares = []
    for runs in samples:
        count = np.isfinite(runs).sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            above = np.stack([(runs > level).sum(axis=1) for level in levels], axis=1)
            shares.append(above / count)
    return np.mean(shares, axis=0)


def profile_band(
    tasks: Tasks, levels: np.ndarray, rng: np.random.Generator, *, level: float = LEVEL, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray] | None:
    """Pointwise interval (low (L,), high (L,)) of :func:`profile`; None where some task has a single run."""
    if any(sum(map(np.size, task)) < 2 for task in tasks):
        return None
    found = profile(draws(tasks, rng, resamples), levels)
    found = found[np.isfinite(found).all(axis=1)]
    ends = [percentile_interval(column, level) for column in found.T]
    return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def improvement(learner: Sequence[np.ndarray], base: Sequence[np.ndarray]) -> np.ndarray:
    """(resamples,) probability of improvement (:func:`learning_speed.probability_of_improvement`) in every draw of two
    learners on the same tasks; the two are drawn independently.
    """
    chances = []
    for x, y in zip(learner, base, strict=True):
        pairs = (np.isfinite(x).sum(axis=1) * np.isfinite(y).sum(axis=1)).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            wins = sum((x > y[:, [j]]).sum(axis=1) + 0.5 * (x == y[:, [j]]).sum(axis=1) for j in range(y.shape[1]))
            chances.append(wins / pairs)
    return np.mean(chances, axis=0)


def as_samples(tasks: Tasks) -> list[np.ndarray]:
    """``tasks`` as they are, in the form of :func:`draws` with one resample: for the statistics themselves."""
    return [np.concatenate([np.asarray(runs, dtype=np.float64) for runs in task])[None] for task in tasks]


def crossed_bootstrap(
    values: np.ndarray, rng: np.random.Generator, *, level: float = LEVEL, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """Interval of the mean of ``values`` (S, N), S runs on the same N tasks, when runs AND tasks are resampled: what
    new runs reach on new tasks (the pigeonhole bootstrap of Owen 2007). A side of one varies not at all, and with
    both there is no interval (None).
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size < 2:
        return None
    rows, columns = (rng.multinomial(n, np.full(n, 1 / n), resamples) / n for n in values.shape)
    return percentile_interval(np.einsum("rs,sn,rn->r", rows, values, columns), level)
