"""Medians of times some of which are known by a lower bound only, because watching ended before the event.

A run that was cut short, by whoever stopped it and not by how it did, tells that its time is above where it was cut,
and nothing more. Its weight is handed to the runs that were watched longer (Efron 1967, "redistribution to the
right"): the median is then that of the estimator of Kaplan & Meier 1958. Weight that nobody can take stays where it is.
"""

from __future__ import annotations

import numpy as np


def weights(until: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """(R, S) weights that sum to 1 in each row, of S runs that were watched ``until`` (R, S), their event or the end.

    ``cut`` (R, S) bool: cut short. Runs without one weigh the same; a run that is cut weighs nothing, unless no other
    was watched longer. Where an event and a cut fall together, the event came first.
    """
    runs = until.shape[1]
    order = np.lexsort((cut, until), axis=1)
    is_cut = np.take_along_axis(cut, order, axis=1)
    found = np.full(until.shape, 1.0 / runs)
    # Those to the right have been given the same so far, so each gets an equal share.
    for place in np.flatnonzero(is_cut[:, :-1].any(axis=0)):
        handed = np.where(is_cut[:, place], found[:, place], 0.0)
        found[:, place] -= handed
        found[:, place + 1 :] += handed[:, None] / (runs - place - 1)
    back = np.empty_like(found)
    np.put_along_axis(back, order, found, axis=1)
    return back


def median(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(R,) medians of ``values`` (R, S), inf allowed, under ``weight`` (R, S); with equal weights that of numpy, the
    mean of the middle two where their number is even.
    """
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    below = np.cumsum(np.take_along_axis(weight, order, axis=1), axis=1)
    ends = [np.argmax(below >= half, axis=1)[:, None] for half in (0.5 - 1e-9, 0.5 + 1e-9)]
    low, high = (np.take_along_axis(ordered, end, axis=1)[:, 0] for end in ends)
    return np.where(low == high, low, (low + high) / 2)
