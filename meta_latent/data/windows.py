"""Windows of one length within sequences of several, drawn so that each is as likely."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np

from meta_latent.errors import UserError

TOLD_FROM = 0.1
"""Share of steps in no window from which on it is told."""
_TOLD: ContextVar[list[int] | None] = ContextVar("told", default=None)


@contextlib.contextmanager
def telling(told: list[int] | None) -> Iterator[None]:
    """Inside, `draw_windows` warns where many steps stand in no window, once for each length, which it adds to `told`,
    for the run to keep; None: it does not.

    It is a context as learners draw wherever they like; a pretraining knows its windows, and tells before it draws.
    """
    token = _TOLD.set(told)
    try:
        yield
    finally:
        _TOLD.reset(token)


def draw_windows(
    lengths: np.ndarray, length: int, count: int, rng: np.random.Generator, advice: str
) -> tuple[np.ndarray, np.ndarray]:
    """`count` windows of `length`, uniform over all windows within sequences of `lengths`: which (count,) and
    from where (count,). Raises UserError with `advice` if all are shorter; of some, see `telling`.
    """
    windows = np.maximum(lengths - length + 1, 0)
    if windows.sum() == 0:
        raise UserError(
            f"the longest stored episode has {lengths.max(initial=0)} observations, windows take {length}: {advice}"
        )
    told = _TOLD.get()
    if told is not None and length not in told and (lost := share_lost(lengths, length)) >= TOLD_FROM:
        told.append(int(length))  # a run saves it
        few, little = f"{100 * (lengths < length).mean():.0f} %", f"{100 * lost:.0f} %"
        said = (f"windows take {length} observations of an episode: {few} of the episodes so far are shorter, and "
                f"nothing is learned there from their {little} of all steps: {advice}")  # fmt: skip
        # `warnings.warn` would keep in mind what one run said, and say it in no other.
        warnings.warn_explicit(said, UserWarning, __file__, 0, module=__name__, registry=None)
    flat, ends = rng.integers(windows.sum(), size=count), windows.cumsum()
    which = np.searchsorted(ends, flat, side="right")
    return which, flat - (ends - windows)[which]


def share_lost(lengths: np.ndarray, length: int) -> float:
    """Share of the steps of episodes of `lengths` observations that stand in no window of `length`."""
    steps = lengths - 1
    return float(steps[lengths < length].sum() / max(1, steps.sum()))


def multiplicity(lengths: np.ndarray, length: int, offsets: np.ndarray) -> np.ndarray:
    """In how many windows of `length` a step stands that windows from `offsets` (n,) within sequences of `lengths` (n,)
    hold, other than as a window's first: (n, length), at least 1. A sequence's last step is in one alone.

    Windows are uniform, so that a step is drawn as often as this says: what is to count every step once divides by it.
    """
    at, count = offsets[:, None] + np.arange(length), lengths[:, None]
    return np.maximum(np.minimum(at - 1, count - length) - np.maximum(at - length + 1, 0) + 1, 1)
