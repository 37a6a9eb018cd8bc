"""Pictures of points in the plane, shared by the toy tasks that show some."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WIDTH = 0.15  # of half the picture: a bell over some pixels, so that brightness tells parts of a pixel
_COLOUR = (200.0, 150.0, 40.0)


def blob(position: np.ndarray, pixels: int) -> np.ndarray:
    """Return uint8 pictures (..., pixels, pixels, 3) of a smooth blob on dark ground.

    position: (..., 2), x and y in [-1, 1]; row 0 of a picture is the top, y points up.
    """
    return blobs((position,), (_COLOUR,), (_WIDTH,), pixels)


def blobs(
    positions: Sequence[np.ndarray],
    colours: Sequence[tuple[float, float, float]],
    widths: Sequence[float],
    pixels: int,
) -> np.ndarray:
    """Return uint8 pictures (..., pixels, pixels, 3) of smooth blobs on dark ground, as in `blob`.

    One position (..., 2), colour (what it adds to the ground in its middle) and width (of half the picture) each.
    """
    centres, light = (np.arange(pixels) + 0.5) / pixels * 2 - 1, 0.0
    for position, colour, width in zip(positions, colours, widths, strict=True):
        x, y = np.asarray(position)[..., :1], np.asarray(position)[..., 1:]
        across = np.exp(-(((centres - x) / width) ** 2))
        down = np.exp(-(((-centres - y) / width) ** 2))
        bright = down[..., :, None] * across[..., None, :]
        light = light + bright[..., None] * np.array(colour)
    return (30 + light).clip(0, 255).astype(np.uint8)
