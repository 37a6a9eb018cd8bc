"""Figures of a sweep: performance profiles, final scores, probabilities of improvement; a line per variant and arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from meta_latent.experiment.report.figures.curve_figures import legend
from meta_latent.experiment.report.figures.drawing import GRID, MUTED, STYLES, new_axes, styled


@dataclass(frozen=True)
class ProfileLine:
    """A performance profile: places and shares (L,), low and high (L,) or None, its index into STYLES."""

    name: str
    style: int
    levels: np.ndarray
    share: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


@dataclass(frozen=True)
class Row:
    """A value with its interval (None: unknown), by name; style: index into STYLES."""

    name: str
    style: int
    value: float
    interval: tuple[float, float] | None


@styled
def profiles(lines: Sequence[ProfileLine]) -> Figure:
    """Share of runs above a score, against the score; bands are pointwise intervals."""
    figure, axes = new_axes(5.2, 3.6, "normalised final score", "share of runs above it")
    for line in lines:
        colour, _, dashes = STYLES[line.style]
        axes.step(line.levels, line.share, where="post", color=colour, linestyle=dashes, label=line.name, linewidth=1.8)
        if line.low is not None:
            axes.fill_between(line.levels, line.low, line.high, step="post", color=colour, alpha=0.15, linewidth=0)
    axes.set_ylim(-0.02, 1.02)
    legend(figure)
    return figure


@styled
def bars(rows: Sequence[Row], xlabel: str, at: float | None = None) -> Figure:
    """A point and its interval per row, from top to bottom; at: where a dotted line stands (0.5 of a chance)."""
    lines = [row.name.splitlines() for row in rows]
    longest, height = max(len(line) for name in lines for line in name), max(map(len, lines))
    figure, axes = new_axes(3.4 + 0.08 * longest, 0.9 + (0.12 + 0.18 * height) * len(rows), xlabel, "")
    for place, row in enumerate(rows):
        colour = STYLES[row.style][0]
        if row.interval is not None:
            axes.plot(row.interval, (place, place), color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
        axes.plot([row.value], [place], marker="o", color=colour, markersize=5, linestyle="")
    if at is not None:
        axes.axvline(at, color=MUTED, linestyle=":", linewidth=1.2, zorder=1)
    axes.grid(True, axis="x", color=GRID)
    axes.grid(False, axis="y")
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    return figure
