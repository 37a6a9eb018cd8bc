"""Learning curves: the evaluations of one run, and where they reach a threshold.

Larger scores are better; time is counted in ``env_steps``, ``updates`` or ``seconds``, as the name says, and in the
curve's own ``axis`` where none is named. Evaluations before the first update (``updates`` 0) show networks that have
learned nothing yet: they are neither a threshold crossing nor a jumpstart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNITS = ("env_steps", "updates", "seconds")
AXES = ("env_steps", "updates")


@dataclass(frozen=True)
class Curve:
    """One run's evaluations, in order; E of them.

    ``env_steps`` (E,), ``updates`` (E,), ``seconds`` (E,) non-decreasing, the one named by ``axis`` strictly
    increasing; ``scores`` (E,) finite. ``axis``: the clock that counts, "env_steps", or "updates" for
    learning from logged data. ``stopped_at``: the threshold whose holding ended the run before its budget;
    None = the run did not end so. ``unfinished``: it was interrupted or goes on. Raises ValueError when
    shapes differ, there is no evaluation, or the order or finiteness above does not hold.
    """

    env_steps: np.ndarray
    updates: np.ndarray
    seconds: np.ndarray
    scores: np.ndarray
    axis: str = "env_steps"
    stopped_at: float | None = None
    unfinished: bool = False

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise ValueError(f"axis: got {self.axis!r}, expected one of {AXES}")
        for name in (*UNITS, "scores"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, values)
            if values.ndim != 1 or values.size == 0 or values.shape != self.env_steps.shape:
                raise ValueError(f"{name}: got shape {values.shape}, expected the shape (E,) of env_steps with E >= 1")
            if not np.isfinite(values).all():
                raise ValueError(f"{name} holds a non-finite value; cut the curve before it")
        if (np.diff(self.at) <= 0).any():
            raise ValueError(f"{self.axis} must increase strictly from one evaluation to the next")
        if any((np.diff(getattr(self, name)) < 0).any() for name in UNITS):
            raise ValueError(f"{', '.join(UNITS)} must not decrease from one evaluation to the next")

    @property
    def at(self) -> np.ndarray:
        """(E,) places of the evaluations on the curve's own axis."""
        return getattr(self, self.axis)

    @property
    def trained(self) -> np.ndarray:
        """(E,) bool: which evaluations came after the first update."""
        return self.updates > 0


def threshold_index(scores: np.ndarray, threshold: float) -> int | None:
    """Index of the FIRST of two consecutive evaluations at or above ``threshold``; None = censored.

    ``min {i : s_i >= threshold and s_{i+1} >= threshold}``. One lucky evaluation, or a last one alone, does
    not count.
    """
    above = np.asarray(scores) >= threshold
    held = above[:-1] & above[1:]
    return int(np.argmax(held)) if held.any() else None


def crossing(curve: Curve, threshold: float) -> int | None:
    """Index of the evaluation at which ``curve`` reached ``threshold``, by :func:`threshold_index` over the
    evaluations after the first update; None = censored.
    """
    return threshold_index(np.where(curve.trained, curve.scores, -np.inf), threshold)


def held_at_first(curve: Curve, threshold: float) -> bool:
    """Whether ``curve`` reached ``threshold`` with no evaluation before that was below it: when is known from above
    only, and an agent that began there looks the same.
    """
    index = crossing(curve, threshold)
    return index is not None and not (curve.scores[:index] < threshold).any()


def time_to_threshold(curve: Curve, threshold: float, unit: str | None = None) -> float | None:
    """Time, in ``unit`` (None: the curve's axis), of the evaluation that :func:`crossing` names; None = censored.

    The resolution is the evaluation interval: the true crossing lies between that evaluation and the one before.
    """
    unit = unit or curve.axis
    if unit not in UNITS:
        raise ValueError(f"unit: got {unit!r}, expected one of {UNITS}")
    index = crossing(curve, threshold)
    return None if index is None else float(getattr(curve, unit)[index])
