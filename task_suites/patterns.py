"""Procedural pictures for distractors: smooth noise, stripes, checks, a moving plasma. No files needed."""

from __future__ import annotations

import colorsys

import numpy as np

SIZE = 64  # pixels, height and width of every pattern


def smooth_noise(rng: np.random.Generator, waves: float = 3.0) -> np.ndarray:
    """Return periodic noise (64, 64) in [0, 1] with about `waves` bumps along each side."""
    frequency = np.fft.fftfreq(SIZE) * SIZE
    weight = np.exp(-(frequency[:, None] ** 2 + frequency[None, :] ** 2) / (2 * waves**2))
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIZE, SIZE))) * weight).real
    return (field - field.min()) / (field.max() - field.min())


def pattern(rng: np.random.Generator) -> np.ndarray:
    """Return a still pattern (64, 64) in [0, 1]: checks, stripes or blobs."""
    kind, cells = rng.integers(3), int(rng.choice([4, 8]))
    y, x = np.mgrid[0:SIZE, 0:SIZE] * cells // SIZE
    if kind == 0:
        return ((x + y) % 2).astype(float)
    if kind == 1:
        return ((x if rng.random() < 0.5 else y) % 2).astype(float)
    return (smooth_noise(rng, cells / 2) > 0.5).astype(float)


def dull_colour(rng: np.random.Generator) -> np.ndarray:
    """Return an RGB colour (3,) in [0, 1] that is no block's: weak saturation, not too dark."""
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.1, 0.4), rng.uniform(0.3, 0.85)))


class Plasma:
    """A moving picture without end: two drifting noise fields index a periodic palette.

    Deterministic in (rng, step); some 30 microseconds a frame.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        fields = [smooth_noise(rng, 3.0), smooth_noise(rng, 2.0)]
        wrapped = [(field * 300).astype(np.int64).astype(np.uint8) for field in fields]
        self._fields = [np.tile(field, (2, 2)) for field in wrapped]  # a drifted field is then a slice
        self._drift = rng.uniform(0.7, 2.0, (2, 2)) * rng.choice([-1, 1], (2, 2))  # pixels per step
        phase = rng.uniform(0, 2 * np.pi, 3)
        turn = 2 * np.pi * np.arange(256)[:, None] / 256
        palette = 0.45 + 0.4 * np.sin(turn * np.array([1, 1, 2]) + phase)
        self._palette = (255 * palette).clip(0, 255).astype(np.uint8)

    def frame(self, step: int) -> np.ndarray:
        """Return the picture (64, 64, 3) uint8 at `step`."""
        shifts = (self._drift * step).astype(int) % SIZE
        first, second = (
            field[y : y + SIZE, x : x + SIZE] for field, (y, x) in zip(self._fields, shifts.tolist(), strict=True)
        )
        return self._palette.take(first + second, axis=0)
