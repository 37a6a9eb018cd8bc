"""How fast the variants of a sweep reach thresholds, over all pretrained models and runs, and how they compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from meta_latent.experiment.report.reading.sources import Cell
from meta_latent.experiment.report.statistics.numbers import Bootstrap, claim_of, level, resolution
from meta_latent.ops import learning_speed as ls
from meta_latent.ops.learning_curve import held_at_first


def times_of(cells: Sequence[Cell], threshold: float) -> ls.Times:
    """Times of the runs, which know what pretrained models they started from where these are several."""
    names = [str(cell.facts.get("model_sha256")) for cell in cells]
    models = np.unique(names, return_inverse=True)[1] if len(set(names)) > 1 else None
    return ls.Times.of([cell.curve for cell in cells], threshold, models=models)


def thresholds_of(cells: Sequence[Cell]) -> tuple[float, ...]:
    """The thresholds that the runs were asked about."""
    return next((cell.thresholds for cell in cells if cell.thresholds), ())


def times(cells: Sequence[Cell], draw: Bootstrap, *names: str) -> dict[str, dict[str, Any]]:
    """Threshold, as text -> runs that reached it, the median of their times with its interval, and of every run its
    time (None: not reached), how long it was watched, whether it is unfinished, and whether it was there at its first
    evaluation.
    """
    found = {}
    for threshold in thresholds_of(cells):
        one, at = times_of(cells, threshold), level(threshold)
        found[at] = {
            "reached": int(one.reached.sum()), "median": one.median(),
            "interval": one.interval(draw.rng("sweep times", at, *names), resamples=draw.resamples),
            "steps": [float(t) if np.isfinite(t) else None for t in one.upper],
            "watched": [float(cell.curve.at[-1]) for cell in cells], "unfinished": one.unfinished,
            "at_first_evaluation": [held_at_first(cell.curve, threshold) for cell in cells],
        }  # fmt: skip
    return found


def speedups(learner: Sequence[Cell], base: Sequence[Cell], draw: Bootstrap, *names: str) -> dict[str, dict[str, Any]]:
    """Threshold, as text -> how many times faster ``learner`` reached it than ``base``, as in report.json; of the
    thresholds that both were asked about.
    """
    found, curves = {}, [cell.curve for cell in (*learner, *base)]
    for threshold in thresholds_of(learner):
        if threshold in thresholds_of(base):
            pair = (times_of(cells, threshold) for cells in (learner, base))
            at = level(threshold)
            found[at] = claim_of(*pair, resolution(curves, learner[0].clock), draw, ("sweep speed-up", at, *names))
    return found
