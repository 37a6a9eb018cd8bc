"""How fast a learner learns: times to a threshold, speed-ups, areas and intervals, on learning curves.

Conventions of every function here: larger scores are better, normalised (0 = floor, 1 = reference) where the
task has a scale, raw returns where it has none; time is counted in ``env_steps``, ``updates`` or ``seconds``,
as the name says, and in the curve's own ``axis`` where none is named; randomness comes from a passed
``numpy.random.Generator``; an interval is a percentile bootstrap interval at ``level`` (0.95), and None where
there is a single run, whose variation nobody has seen. With fewer than five seeds intervals are too narrow;
:func:`few_seeds_warning` says so.

Censoring. A run that was watched until ``c`` without holding the threshold has a time to threshold somewhere
in ``(c, inf]``. It is never given a number: medians are computed twice, with ``c`` and with ``inf`` in its
place, and a claim uses whichever of the two makes it weaker. A run that held it at its first evaluation has a time
somewhere in ``[0, c]``, and is treated alike. A run that is unfinished (interrupted, or still
running) tells nothing after ``c`` that the others do not tell: its weight goes to those that were watched
longer (:mod:`meta_latent.ops.survival`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.integrate
import scipy.stats

from meta_latent.ops import survival
from meta_latent.ops.learning_curve import Curve, held_at_first, time_to_threshold
from meta_latent.ops.resampling import clustered_rows

LEVEL = 0.95
RESAMPLES = 2000
FEW_SEEDS = 5
MISSED = "the median run of the arm that is asked about did not reach the threshold"
UNFINISHED = "too many runs are unfinished to tell"
AT_FIRST = "the threshold was held at a first evaluation, and how much earlier is not known"


@dataclass(frozen=True)
class Times:
    """Times to threshold of S runs: ``lower`` (S,) and ``upper`` (S,) bounds, equal where the run was seen reaching it.

    A run that held it at its first evaluation has ``lower`` = 0. A censored run has ``lower`` = how long it was watched
    and ``upper`` = inf. ``unfinished`` (S,) bool (None: none is): which of these were cut short, by nothing that they
    did. ``models`` (S,) ints: the pretrained model that each started from, where there are several; bootstrap samples
    then draw models first, and runs of each (:func:`meta_latent.ops.resampling.clustered_rows`). None: all runs are
    drawn alike.
    """

    lower: np.ndarray
    upper: np.ndarray
    unfinished: np.ndarray | None = None
    models: np.ndarray | None = None

    def __post_init__(self) -> None:
        cut = np.zeros(self.lower.shape, bool) if self.unfinished is None else self.unfinished
        object.__setattr__(self, "unfinished", cut & ~self.reached)

    @classmethod
    def of(
        cls, curves: Sequence[Curve], threshold: float, unit: str | None = None, models: np.ndarray | None = None
    ) -> Times:
        """Times of ``curves`` in ``unit`` (None: their axis); a censored run counts as watched until its last
        evaluation.
        """
        reached = [time_to_threshold(curve, threshold, unit) for curve in curves]
        watched = [float(getattr(curve, unit or curve.axis)[-1]) for curve in curves]
        at_first = [held_at_first(curve, threshold) for curve in curves]
        known = [0.0 if first else r for r, first in zip(reached, at_first, strict=True)]
        lower = [w if k is None else k for k, w in zip(known, watched, strict=True)]
        upper = [np.inf if r is None else r for r in reached]
        return cls(np.array(lower), np.array(upper), np.array([curve.unfinished for curve in curves]), models)

    @property
    def reached(self) -> np.ndarray:
        """(S,) bool: which runs reached the threshold."""
        return np.isfinite(self.upper)

    def median(self) -> tuple[float, float]:
        """``(low, high)`` around the median time; equal when censoring does not touch it, ``high`` inf when
        it is open.
        """
        return self._median

    @cached_property
    def _median(self) -> tuple[float, float]:
        low, high = self._medians(np.arange(self.lower.size)[None])
        return float(low[0]), float(high[0])

    def resample(self, rng: np.random.Generator, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
        """Medians ``(low, high)``, each (resamples,), of bootstrap samples of the runs."""
        if self.models is not None:
            return self._medians(clustered_rows(self.models, rng, resamples))
        rows = rng.integers(0, self.lower.size, size=(resamples, self.lower.size))
        return self._medians(rows)

    def _medians(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Medians ``(low, high)``, each (R,), of the runs in ``rows`` (R, n), of which -1 is none."""
        none = rows < 0
        lower, upper, cut = self.lower[rows], self.upper[rows], self.unfinished[rows] | none
        until = np.where(none, -np.inf, np.where(cut, lower, upper))  # a failed run holds its place as the last
        weight = survival.weights(until, cut)  # what is cut before all others weighs nothing
        low, high = survival.median(lower, weight), survival.median(upper, weight)
        # An open median is bounded by all runs that were watched, not by the one that was watched longest.
        watched = np.nanmedian(np.where(none, np.nan, lower), axis=1) if none.any() else np.median(lower, axis=1)
        return np.where(np.isinf(high), np.minimum(low, watched), low), high

    def interval(
        self, rng: np.random.Generator, level: float = LEVEL, resamples: int = RESAMPLES
    ) -> tuple[float, float] | None:
        """Interval of the median time, its upper end inf where censoring leaves it open; None: one run."""
        if self.lower.size < 2:
            return None
        low, high = self.resample(rng, resamples)
        return percentile_interval(low, level)[0], percentile_interval(high, level)[1]


def percentile_interval(samples: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Central ``level`` interval of bootstrap ``samples`` (R,), by order statistics rounded outwards.

    No interpolation, so infinite samples (open ends) stay infinite and never become NaN.
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    tail = (1.0 - level) / 2.0 * (ordered.size - 1)
    return float(ordered[int(np.floor(tail))]), float(ordered[int(np.ceil(ordered.size - 1 - tail))])


@dataclass(frozen=True)
class Ratio:
    """A ratio and what may be claimed of it.

    ``value``: None = no claim (``reason`` says why). ``lower_bound``: the true ratio is at least ``value``
    (written ``>``). ``upper_bound``: at most (``≤``). ``interval``: ``(low, high)``, ``high`` inf where it is open;
    None without a claim and where an arm has a single run.
    """

    value: float | None
    lower_bound: bool = False
    interval: tuple[float, float] | None = None
    reason: str = ""
    upper_bound: bool = False


def speedup(
    learner: Times,
    base: Times,
    rng: np.random.Generator,
    *,
    resolution: float = 0.0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Ratio:
    """How many times faster ``learner`` reached the threshold: ``median(base) / median(learner)``, > 1 is
    faster.

    - base's median censored: ``median(base with watched times) / median(learner)``, a lower bound, usually budget /
      median;
    - learner's median censored: no claim; nor where unfinished runs of base leave a bound that is not above 1.
    - learner's median run held it at its first evaluation: a lower bound; base's: an upper bound, where that is at
      most 1, and no claim otherwise.
    - ``resolution`` (the evaluation interval): a learner time below it, such as a threshold met before the
      first step, counts as ``resolution``, which makes the ratio a lower bound instead of infinite.

    Interval: runs are resampled within each arm, independently; its lower end uses each resample's weakest reading
    (learner censored = 0), its upper end the strongest (base censored = inf, open).
    """
    base_low, base_high = base.median()
    learner_low, learner_high = learner.median()
    if not np.isfinite(learner_high):
        at_best = np.median(np.where(learner.unfinished, learner.lower, learner.upper))
        return Ratio(None, reason=UNFINISHED if np.isfinite(at_best) else MISSED)
    if max(learner_high, resolution) <= 0.0:
        return Ratio(None, reason="the threshold held before the first step; a ratio needs the evaluation interval")
    # The weakest reading divides the least that base can have taken by the most that learner can have taken.
    value, upper_bound = base_low / max(learner_high, resolution), False
    # It is a bound, not a value, as soon as one of the medians is known by a bound only.
    bounded = base_low != base_high or learner_low != learner_high or learner_low < resolution
    if value <= 1.0 and base_low != base_high and base.unfinished.any():
        return Ratio(None, reason=UNFINISHED)
    if base_low <= 0.0 < base_high:
        if learner_low < max(resolution, base_high):
            return Ratio(None, reason=AT_FIRST)
        value, bounded, upper_bound = base_high / learner_low, False, True
    interval = None
    if min(learner.lower.size, base.lower.size) > 1:
        base_lows, base_highs = base.resample(rng, resamples)
        learner_lows, learner_highs = learner.resample(rng, resamples)
        with np.errstate(divide="ignore", invalid="ignore"):
            weakest = base_lows / np.maximum(learner_highs, resolution)  # learner censored: x / inf = 0
            # A time below the resolution may be any number down to 0, so the ratio has no upper end there.
            strongest = base_highs / np.where(learner_lows < resolution, 0.0, learner_lows)
        strongest[np.isnan(strongest)] = np.inf  # 0 / 0: both met it at once, anything is possible
        interval = (percentile_interval(weakest, level)[0], percentile_interval(strongest, level)[1])
    return Ratio(value, bool(bounded), interval, upper_bound=upper_bound)


def leads(curve: Curve, base: Sequence[Curve]) -> np.ndarray | None:
    """(S,) score at the first common evaluation after the first update, minus that of each of S base runs there.

    The common evaluation is the latest of all the runs' first ones (scores are interpolated linearly, which
    changes nothing when all evaluate at the same places). None when the runs do not overlap, or one of them
    was never evaluated after an update.
    """
    everyone = (curve, *base)
    if not base or not all(c.trained.any() for c in everyone):
        return None
    at = max(float(c.at[c.trained][0]) for c in everyone)
    if at > min(float(c.at[-1]) for c in everyone):
        return None
    return np.interp(at, curve.at, curve.scores) - np.array([np.interp(at, c.at, c.scores) for c in base])


def jumpstart(curve: Curve, base: Sequence[Curve]) -> float | None:
    """Mean of `leads`: what a run is ahead of the base runs at the start (Taylor & Stone 2009, eq. in 3); None where
    there are none.
    """
    found = leads(curve, base)
    return None if found is None else float(found.mean())


def jumpstart_interval(
    found: np.ndarray, rng: np.random.Generator, level: float = LEVEL, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """Interval of the median jumpstart of runs whose `leads` are ``found`` (L, S), when the L runs and the S base runs
    are resampled, independently; None where either is a single run.
    """
    if min(found.shape) < 2:
        return None
    runs, bases = found.shape
    shares = rng.multinomial(bases, np.full(bases, 1 / bases), resamples) / bases  # of each base run in a draw's mean
    jumps = np.take_along_axis(shares @ found.T, rng.integers(0, runs, size=(resamples, runs)), axis=1)
    return percentile_interval(np.median(jumps, axis=1), level)


def final_score(curve: Curve, last: int = 2) -> float:
    """Mean of the ``last`` evaluations (of all, when there are fewer).

    A run that stops once the threshold held ends on evaluations chosen for being high: its final score is
    biased upwards and says "solved", not "this is its asymptote".
    """
    if last < 1:
        raise ValueError(f"last: got {last}, expected >= 1")
    return float(curve.scores[-last:].mean())


def common_range(curves: Sequence[Curve], budget: float) -> tuple[float, float] | None:
    """``(start, end)`` on the curves' axis on which all ``curves`` can be compared; None when there is no
    such range.

    start: the latest first evaluation. end: the budget, or the last evaluation of the shortest run that did
    NOT end by holding a threshold (nothing is known of it beyond). Runs that ended so don't shorten the
    range.
    """
    start = max(float(c.at[0]) for c in curves)
    end = min([float(budget), *(float(c.at[-1]) for c in curves if c.stopped_at is None)])
    return (start, end) if end > start else None


def mean_score(curve: Curve, start: float, end: float) -> float:
    """Area under the curve on ``[start, end]`` of its axis divided by ``end - start`` (trapezoids), a score.

    A run that stopped early because it held a threshold is extended AT THAT THRESHOLD: the level it has shown
    twice, and no more. (Carrying its last score forward would credit a maximum chosen by the stopping rule;
    cutting both arms where the faster one stopped would compare only the part where the slower one has not
    yet begun to learn.) Raises ValueError when a run that did not stop so ends before ``end``.
    """
    last = float(curve.at[-1])
    if last < end and curve.stopped_at is None:
        raise ValueError(f"the run ends at {last:g}, before {end:g}, and did not stop at a threshold")
    stop = min(last, end)
    inside = curve.at[(curve.at > start) & (curve.at < stop)]
    at = np.concatenate([[start], inside, [stop]]) if stop > start else np.array([start])
    area = float(scipy.integrate.trapezoid(np.interp(at, curve.at, curve.scores), at))
    if last < end:
        area += float(curve.stopped_at) * (end - max(last, start))
    return area / (end - start)


def area_ratio(
    learner: Sequence[float],
    base: Sequence[float],
    rng: np.random.Generator,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Ratio:
    """``mean(learner areas) / mean(base areas)`` over the same range; 1 = no difference, > 1 = learner is
    better.

    Takes the per-run :func:`mean_score` values. Deviation from Taylor & Stone 2009, whose ratio is this minus
    1. No claim where the base's mean area is not positive: it never left the floor, and a quotient would mean
    nothing.
    """
    learner, base = np.asarray(learner, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if base.mean() <= 0.0:
        return Ratio(None, reason="the base arm's area is not above the floor")
    value = float(learner.mean() / base.mean())
    if min(learner.size, base.size) < 2:
        return Ratio(value)
    tops = learner[rng.integers(0, learner.size, (resamples, learner.size))].mean(axis=1)
    bottoms = base[rng.integers(0, base.size, (resamples, base.size))].mean(axis=1)
    samples = np.where(bottoms > 0.0, tops / np.where(bottoms > 0.0, bottoms, 1.0), np.inf)
    return Ratio(value, False, percentile_interval(samples, level))


def resample(curve: Curve, grid: np.ndarray, unit: str | None = None) -> np.ndarray:
    """Scores on ``grid`` (G,) in ``unit`` (None: the curve's axis), by linear interpolation; NaN where the
    run was not watched.
    """
    axis = getattr(curve, unit or curve.axis)
    return np.interp(np.asarray(grid, dtype=np.float64), axis, curve.scores, left=np.nan, right=np.nan)


def iqm(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean along ``axis``: drop ``floor(n / 4)`` values at each end, average the rest.

    The definition of rliable (Agarwal et al. 2021).
    """
    return scipy.stats.trim_mean(np.asarray(scores, dtype=np.float64), 0.25, axis=axis)


def stratified_bootstrap(
    strata: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """Interval of ``statistic`` when runs are resampled WITHIN each task (stratum), with replacement.

    ``strata``: one (S_n,) array of runs per task; tasks are fixed, so their differences don't widen the
    interval, and the numbers of runs may differ. ``statistic`` maps (R, sum of S_n) to (R,), e.g.
    :func:`iqm`. None where a task has a single run: it would look as if it could not have come out otherwise.
    """
    if not strata or any(np.size(stratum) == 0 for stratum in strata):
        raise ValueError("every stratum needs at least one run")
    if any(np.size(stratum) == 1 for stratum in strata):
        return None
    arrays = [np.asarray(stratum, dtype=np.float64) for stratum in strata]
    drawn = [a[rng.integers(0, a.size, size=(resamples, a.size))] for a in arrays]
    return percentile_interval(statistic(np.concatenate(drawn, axis=1)), level)


def probability_of_improvement(learner: Sequence[np.ndarray], base: Sequence[np.ndarray]) -> float:
    """Chance that a random run of ``learner`` beats one of ``base`` on the same task; a tie counts one half.

    ``mean_n mean_{i,j} (1[x_ni > y_nj] + 1[x_ni = y_nj] / 2)``: rliable's definition, larger is better. For
    times to threshold pass negated times with ``-inf`` for censored runs (two censored runs tie).
    """
    pairs = list(zip(learner, base, strict=True))
    if not pairs:
        raise ValueError("no task to compare on")
    chances = []
    for x, y in pairs:
        x, y = np.asarray(x, dtype=np.float64)[:, None], np.asarray(y, dtype=np.float64)[None, :]
        chances.append(float(np.mean((x > y) + 0.5 * (x == y))))
    return float(np.mean(chances))


def few_seeds_warning(seeds: int, what: str) -> str | None:
    """A sentence when ``seeds`` < 5, else None."""
    if seeds >= FEW_SEEDS:
        return None
    if seeds == 1:
        return f"{what}: only 1 seed; how much results vary from seed to seed is not known."
    reason = f"intervals from fewer than {FEW_SEEDS} seeds are too narrow to rely on"
    return f"{what}: only {seeds} seeds; {reason}."
