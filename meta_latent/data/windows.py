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
