"""Figures of time: how long arms took to thresholds, and the speed-up against the amount of pretraining."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from meta_latent.experiment.report.figures.curve_figures import WIDE
from meta_latent.experiment.report.figures.drawing import MUTED, STYLES, logarithmic, new_axes, styled
from meta_latent.experiment.report.words.text import CLOCKS
from meta_latent.ops import learning_speed as ls

Ends = Sequence[float | None]


class RunTime(NamedTuple):
    """When a run reached a threshold (None: it did not), how long it was watched, whether it is unfinished, and whether
    it was there at its first evaluation.
    """

    at: float | None
    watched: float
    unfinished: bool
    at_first: bool


@dataclass(frozen=True)
class TimeRow:
    """One row of :func:`times_to_threshold`. ``reached``: the runs' times; ``censored``: how long the others
    were watched; ``median``: ``(low, high)``; ``interval``: ``(low, high)`` or None; inf = open. ``unfinished``: how
    long those were watched that were interrupted, or go on. ``at_first``: times of runs that were there at their first
    evaluation, which are not in ``reached``.
    """

    label: str
    style: int
    reached: tuple[float, ...]
    censored: tuple[float, ...]
    median: tuple[float, float]
    interval: tuple[float, float] | None
    unfinished: tuple[float, ...] = ()
    at_first: tuple[float, ...] = ()

    @classmethod
    def of(cls, label: str, style: int, runs: Sequence[RunTime], median: Ends, interval: Ends | None) -> TimeRow:
        """The row of ``runs``. Ends of ``median`` and ``interval`` are as in report.json: None is open."""
        ends = [None if pair is None else tuple(math.inf if end is None else end for end in pair)
                for pair in (median, interval)]  # fmt: skip
        reached = [run for run in runs if run.at is not None]
        others = [run for run in runs if run.at is None]
        return cls(
            label, style, tuple(run.at for run in reached if not run.at_first),
            tuple(run.watched for run in others if not run.unfinished), *ends,
            unfinished=tuple(run.watched for run in others if run.unfinished),
            at_first=tuple(run.at for run in reached if run.at_first),
        )  # fmt: skip


@styled
def times_to_threshold(rows: Sequence[TimeRow], unit: str = "env_steps") -> Figure:
    """Time to threshold in ``unit``, one row per arm and threshold: bar = interval, diamond = median, small
    dots = runs.

    Censored: an open arrow points right from where the run was last seen; an open interval ends in an arrow
    too. Unfinished: a cross there. There at the first evaluation: an open arrow points left from it.
    """
    width = 4.4 + 0.07 * max(0, max(len(row.label) for row in rows) - 16)
    figure, axes = new_axes(width, 0.9 + 0.42 * len(rows), f"{CLOCKS[unit]} to threshold", "")
    told = [(*r.reached, *r.censored, *r.unfinished, *r.at_first, *r.median, *(r.interval or ())) for r in rows]
    shown = [v for values in told for v in values if np.isfinite(v)]
    seen = [v for row in rows for v in (*row.reached, *row.censored, *row.unfinished, *row.at_first)]
    right, least = max(shown, default=1.0) * 1.1 or 1.0, min((v for v in shown if v > 0), default=1.0)
    left = 0.8 * least if min(seen, default=0.0) > 0 and right >= WIDE * least else 0.0
    if left:
        logarithmic(axes)
    for y, row in enumerate(rows):
        colour = STYLES[row.style][0]
        _interval_bar(axes, y, row.interval, left, right, colour)
        runs = {"color": colour, "linestyle": ""}
        axes.plot(row.reached, np.full(len(row.reached), y + 0.2), "o", alpha=0.7, markersize=3.2,
                  markeredgewidth=0, **runs)  # fmt: skip
        axes.plot(row.censored, np.full(len(row.censored), y + 0.2), ">", fillstyle="none", markersize=5,
                  markeredgewidth=1, **runs)  # fmt: skip
        axes.plot(row.at_first, np.full(len(row.at_first), y + 0.2), "<", fillstyle="none", markersize=5,
                  markeredgewidth=1, **runs)  # fmt: skip
        axes.plot(row.unfinished, np.full(len(row.unfinished), y + 0.2), "x", markersize=4.5, markeredgewidth=1, **runs)
        low, high = row.median
        at_first = low <= 0 < high
        if np.isfinite(high) and not at_first:
            axes.plot(high, y, "D", color=colour, markersize=6.5, markeredgewidth=0, zorder=4)
        else:
            open_arrow = {"fillstyle": "none", "markersize": 9, "markeredgewidth": 1.6, "zorder": 4}
            end, arrow = (high, "<") if at_first and np.isfinite(high) else (low, ">")
            axes.plot(end, y, arrow, color=colour, **open_arrow)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left, right)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    return figure


def _interval_bar(axes, y: float, interval: tuple[float, float] | None, left: float, right: float, colour: str) -> None:
    """A horizontal bar within ``left`` and ``right``, with an arrow at ``right`` where ``interval`` is open; nothing
    without one.
    """
    if interval is None or not np.isfinite(interval[0]):
        return
    low, high = interval
    axes.plot([max(low, left), min(high, right)], [y, y], color=colour, alpha=0.35, linewidth=6, solid_capstyle="butt")
    if not np.isfinite(high):
        arrow = {"alpha": 0.5, "markersize": 7, "markeredgewidth": 0, "clip_on": False}
        axes.plot(right, y, ">", color=colour, **arrow)


@dataclass(frozen=True)
class GainPoint:
    """One point of :func:`gain_against_pretraining`: speed-up of one target after so much pretraining."""

    pretraining_env_steps: float
    target: str
    ratio: ls.Ratio


@styled
def gain_against_pretraining(points: Sequence[GainPoint]) -> Figure:
    """Speed-up to threshold (logarithmic) against pretraining env steps, one line per target, with intervals.

    Lower bounds are open upward triangles, upper bounds downward ones; points without a claim are crosses on the line
    of no difference.
    """
    figure, axes = new_axes(4.8, 3.5, "pretraining environment steps", "speed-up to the threshold")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.axhline(1.0, color=MUTED, linewidth=1.2, linestyle=":")
    for index, target in enumerate(dict.fromkeys(point.target for point in points)):
        colour, _, dashes = STYLES[index % len(STYLES)]
        own = sorted((p for p in points if p.target == target), key=lambda p: p.pretraining_env_steps)
        claimed = [p for p in own if p.ratio.value is not None]
        axes.plot(
            [p.pretraining_env_steps for p in claimed],
            [p.ratio.value for p in claimed],
            color=colour,
            linestyle=dashes,
            linewidth=1.8,
            label=target,
        )
        for point in own:
            x, ratio = point.pretraining_env_steps, point.ratio
            if ratio.value is None:
                axes.plot(x, 1.0, "x", color=colour, markersize=7)
                continue
            if ratio.interval is not None:
                low, high = ratio.interval
                ends = [max(low, 1 / 64), high if np.isfinite(high) else ratio.value * 1.6]
                axes.plot([x, x], ends, color=colour, alpha=0.4, linewidth=4, solid_capstyle="butt")
            marker, fill = ("^", "none") if ratio.lower_bound else ("v", "none") if ratio.upper_bound else ("o", "full")
            axes.plot(x, ratio.value, marker, color=colour, markersize=7, fillstyle=fill)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=8.5)
    return figure
