"""Raw returns of tasks on one scale."""

from __future__ import annotations

import numpy as np


def scores(returns: np.ndarray, floors: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Returns (N, ...) of N tasks, on a scale on which 0 is each task's floor and 1 lies the mean distance from floor
    to reference above it.

    The unit is one for all tasks (of one task, its own): floors and references (N,) of some tasks hardly differ, as
    where standing still is almost what a hidden speed asks for, and in a unit of its own such a task would outweigh
    all others.
    """
    unit = float(np.mean(references - floors))
    return (returns - floors.reshape(-1, *[1] * (returns.ndim - 1))) / unit
