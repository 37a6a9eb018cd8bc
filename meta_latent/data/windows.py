"""Windows of one length within sequences of several, drawn so that each is as likely."""

from __future__ import annotations

import numpy as np

from meta_latent.errors import UserError


def draw_windows(
    lengths: np.ndarray, length: int, count: int, rng: np.random.Generator, advice: str
) -> tuple[np.ndarray, np.ndarray]:
    """`count` windows of `length`, uniform over all windows within sequences of `lengths`: which (count,) and
    from where (count,). Raises UserError with `advice` if all are shorter.
    """
    windows = np.maximum(lengths - length + 1, 0)
    if windows.sum() == 0:
        raise UserError(
            f"the longest stored episode has {lengths.max(initial=0)} observations, windows take {length}: {advice}"
        )
    flat, ends = rng.integers(windows.sum(), size=count), windows.cumsum()
    which = np.searchsorted(ends, flat, side="right")
    return which, flat - (ends - windows)[which]


def multiplicity(lengths: np.ndarray, length: int, offsets: np.ndarray) -> np.ndarray:
    """In how many windows of `length` a step stands that windows from `offsets` (n,) within sequences of `lengths` (n,)
    hold, other than as a window's first: (n, length), at least 1. A sequence's last step is in one alone.

    Windows are uniform, so that a step is drawn as often as this says: what is to count every step once divides by it.
    """
    at, count = offsets[:, None] + np.arange(length), lengths[:, None]
    return np.maximum(np.minimum(at - 1, count - length) - np.maximum(at - length + 1, 0) + 1, 1)
