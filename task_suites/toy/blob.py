"""The picture of a point in the plane, shared by the toy tasks that show one."""

from __future__ import annotations

import numpy as np

_WIDTH = 0.15  # of half the picture: a bell over some pixels, so that brightness tells parts of a pixel


def blob(position: np.ndarray, pixels: int) -> np.ndarray:
    """Return uint8 pictures (..., pixels, pixels, 3) of a smooth blob on dark ground.

    position: (..., 2), x and y in [-1, 1]; row 0 of a picture is the top, y points up.
    """
    x, y = np.asarray(position)[..., :1], np.asarray(position)[..., 1:]
    centres = (np.arange(pixels) + 0.5) / pixels * 2 - 1
    across = np.exp(-(((centres - x) / _WIDTH) ** 2))
    down = np.exp(-(((-centres - y) / _WIDTH) ** 2))
    bright = down[..., :, None] * across[..., None, :]
    return (30 + bright[..., None] * np.array([200.0, 150.0, 40.0])).astype(np.uint8)
