"""The figures of a report: learning curves, times to threshold, scores by episode, training metrics, gain
against pretraining, strips of frames. How they are saved is in :mod:`meta_latent.experiment.report.drawing`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from meta_latent.experiment.report.drawing import INK, MUTED, STYLES, new_axes, styled
from meta_latent.files import atomic_write_bytes
from meta_latent.ops import learning_speed as ls

CLOCKS = {"env_steps": "environment steps", "updates": "updates", "seconds": "seconds"}


@dataclass(frozen=True)
class ArmCurves:
    """What :func:`learning_curves` draws of one arm: its name, its index into STYLES, one Curve per seed."""

    name: str
    style: int
    curves: tuple[ls.Curve, ...]


def central_line(
    curves: Sequence[ls.Curve], unit: str, rng: np.random.Generator, resamples: int = 500
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``(grid, iqm, low, high)``, each (G,): IQM over seeds and its pointwise bootstrap interval, where all
    count.

    Only points where every run was watched: the line ends where the first run ends. Whatever stood in for a
    run that is over would draw a level that no run has shown, and a line over the runs that happen to be left
    would show a jump that no run made. NaN intervals below three runs.
    """
    grid = np.unique(np.concatenate([getattr(c, unit) for c in curves]))
    if grid.size > 400:
        grid = np.linspace(grid[0], grid[-1], 400)
    scores = np.stack([ls.resample(c, grid, unit) for c in curves])
    whole = np.isfinite(scores).all(axis=0)
    return _with_band(grid[whole], scores[:, whole], rng, resamples)


def _with_band(grid: np.ndarray, scores: np.ndarray, rng: np.random.Generator, resamples: int = 500):
    """``grid`` (G,), the IQM of ``scores`` (S, G) over runs, and its bootstrap interval (low, high)."""
    blank = np.full(grid.shape, np.nan)
    if grid.size == 0:
        return grid, blank, blank, blank
    if len(scores) < 3:
        return grid, ls.iqm(scores, axis=0), blank, blank
    rows = rng.integers(0, len(scores), size=(resamples, len(scores)))
    drawn = np.sort(ls.iqm(scores[rows], axis=1), axis=0)
    tail = (1 - ls.LEVEL) / 2 * (resamples - 1)
    return grid, ls.iqm(scores, axis=0), drawn[int(tail)], drawn[int(np.ceil(resamples - 1 - tail))]


def _central(axes, name: str, style: int, line: Sequence[np.ndarray], marker: str = "") -> None:
    """Draw what :func:`central_line` gives: band and bold line."""
    (colour, _, dashes), (grid, middle, low, high) = STYLES[style], line
    axes.fill_between(grid, low, high, color=colour, alpha=0.16, linewidth=0)
    bold = {"linewidth": 2.2, "marker": marker, "markersize": 5, "label": name, "zorder": 3}
    axes.plot(grid, middle, color=colour, linestyle=dashes, **bold)


def legend(figure: Figure) -> None:
    """The legend of all that is labelled, below the axes."""
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5, handlelength=2.6)


@styled
def learning_curves(
    arms: Sequence[ArmCurves],
    thresholds: Sequence[float],
    unit: str,
    rng: np.random.Generator,
    ylabel: str = "normalised score",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Scores against ``unit`` (a key of CLOCKS): thin lines are seeds, bold is the IQM with its interval as
    far as all seeds went, dotted the thresholds, and a dot marks where a run reached one. ``limits``: of the
    y axis, None = what the scores need.
    """
    figure, axes = new_axes(4.4, 3.3, CLOCKS[unit], ylabel)
    for arm in arms:
        colour = STYLES[arm.style][0]
        for curve in arm.curves:
            places = getattr(curve, unit)
            axes.plot(places, curve.scores, color=colour, alpha=0.4, linewidth=0.8)
            reached = [ls.crossing(curve, threshold) for threshold in thresholds]
            for index in {index for index in reached if index is not None}:
                dot = {"markersize": 4.5, "markeredgewidth": 0, "zorder": 4}
                axes.plot(places[index], curve.scores[index], "o", color=colour, **dot)
        _central(axes, arm.name, arm.style, central_line(arm.curves, unit, rng))
    for index, threshold in enumerate(thresholds):
        label = None if index else f"threshold {', '.join(f'{t:g}' for t in thresholds)}"
        axes.axhline(threshold, color=MUTED, linewidth=1.2, linestyle=":", zorder=1, label=label)
    axes.set_xlim(left=0)
    axes.set_ylim(limits)
    legend(figure)
    return figure


@dataclass(frozen=True)
class ArmValues:
    """What :func:`by_number` draws of one arm: its name, its index into STYLES, values (S, E) of S runs."""

    name: str
    style: int
    values: np.ndarray


@styled
def by_number(
    arms: Sequence[ArmValues], xlabel: str, ylabel: str, rng: np.random.Generator, joined: bool = True,
    first: int = 1,
) -> Figure:  # fmt: skip
    """Values against a number from ``first`` on: the episode of a trial, an adaptation step, or a task (``joined``
    false: no line between tasks). Thin are seeds, bold is the IQM with its interval.
    """
    figure, axes = new_axes(4.4, 3.3, xlabel, ylabel)
    for arm in arms:
        grid = np.arange(first, first + arm.values.shape[1], dtype=float)
        if joined:
            thin = {"alpha": 0.4, "linewidth": 0.8}
            axes.plot(np.tile(grid, (len(arm.values), 1)).T, arm.values.T, color=STYLES[arm.style][0], **thin)
            _central(axes, arm.name, arm.style, _with_band(grid, arm.values, rng), marker="o")
        else:
            places = np.tile(grid + 0.12 * (arm.style % 5 - 2), len(arm.values))
            dots = {"linestyle": "", "marker": "o", "markersize": 4, "alpha": 0.7, "label": arm.name}
            axes.plot(places, arm.values.ravel(), color=STYLES[arm.style][0], **dots)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend(figure)
    return figure


@dataclass(frozen=True)
class ArmMetric:
    """What :func:`training_metric` draws of one arm: its index into STYLES, places (G,), values (S, G), its name for
    a legend.
    """

    style: int
    places: np.ndarray
    values: np.ndarray  # NaN where nothing was recorded
    name: str | None = None


@styled
def training_metric(arms: Sequence[ArmMetric], unit: str) -> Figure:
    """A small figure of one training metric against ``unit``: thin lines are seeds, bold is their median as
    far as all seeds went.
    """
    figure, axes = new_axes(3.0, 1.9, CLOCKS[unit], "")
    thin_and_median(axes, arms)
    axes.set_xlim(left=0)
    return figure


def thin_and_median(axes, arms: Sequence[ArmMetric]) -> None:
    """Draw every seed of the arms as a thin line, and their median as a bold one where all seeds have a value."""
    for arm in arms:
        colour, _, dashes = STYLES[arm.style]
        seen = np.isfinite(arm.values)
        for row, there in zip(arm.values, seen, strict=True):
            axes.plot(arm.places[there], row[there], color=colour, alpha=0.4, linewidth=0.8)
        whole = seen.all(axis=0)  # as in learning curves: only as far as every seed went
        middle = np.median(arm.values[:, whole], axis=0)
        axes.plot(arm.places[whole], middle, color=colour, linestyle=dashes, linewidth=1.8, label=arm.name)


@dataclass(frozen=True)
class TimeRow:
    """One row of :func:`times_to_threshold`. ``reached``: the runs' times; ``censored``: how long the others
    were watched; ``median``: ``(low, high)``; ``interval``: ``(low, high)`` or None; inf = open.
    """

    label: str
    style: int
    reached: tuple[float, ...]
    censored: tuple[float, ...]
    median: tuple[float, float]
    interval: tuple[float, float] | None


@styled
def times_to_threshold(rows: Sequence[TimeRow], unit: str = "env_steps") -> Figure:
    """Time to threshold in ``unit``, one row per arm and threshold: bar = interval, diamond = median, small
    dots = runs.

    Censored: an open arrow points right from where the run was last seen; an open interval ends in an arrow
    too.
    """
    figure, axes = new_axes(4.4, 0.9 + 0.42 * len(rows), f"{CLOCKS[unit]} to threshold", "")
    shown = (v for r in rows for v in (*r.reached, *r.censored, *r.median, *(r.interval or ())))
    right = max((v for v in shown if np.isfinite(v)), default=1.0) * 1.1 or 1.0
    for y, row in enumerate(rows):
        colour = STYLES[row.style][0]
        _interval_bar(axes, y, row.interval, right, colour)
        runs = {"color": colour, "linestyle": ""}
        axes.plot(row.reached, np.full(len(row.reached), y + 0.2), "o", alpha=0.7, markersize=3.2,
                  markeredgewidth=0, **runs)  # fmt: skip
        axes.plot(row.censored, np.full(len(row.censored), y + 0.2), ">", fillstyle="none", markersize=5,
                  markeredgewidth=1, **runs)  # fmt: skip
        low, high = row.median
        if np.isfinite(high):
            axes.plot(high, y, "D", color=colour, markersize=6.5, markeredgewidth=0, zorder=4)
        else:
            open_arrow = {"fillstyle": "none", "markersize": 9, "markeredgewidth": 1.6, "zorder": 4}
            axes.plot(low, y, ">", color=colour, **open_arrow)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, right)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    return figure


def _interval_bar(axes, y: float, interval: tuple[float, float] | None, right: float, colour: str) -> None:
    """A horizontal bar that ends in an arrow at ``right`` where ``interval`` is open; nothing without one."""
    if interval is None or not np.isfinite(interval[0]):
        return
    low, high = interval
    axes.plot([low, min(high, right)], [y, y], color=colour, alpha=0.35, linewidth=6, solid_capstyle="butt")
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

    Lower bounds are open upward triangles; points without a claim are crosses on the line of no difference.
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
            marker, fill = ("^", "none") if ratio.lower_bound else ("o", "full")
            axes.plot(x, ratio.value, marker, color=colour, markersize=7, fillstyle=fill)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=8.5)
    return figure


def strips(
    path: str | Path,
    real: np.ndarray,
    imagined: np.ndarray,
    labels: Sequence[str] = ("real", "imagined"),
    *,
    first_step: int = 0,
    frame_side: int = 96,
) -> Path:
    """Two rows of frames, real above imagined, with row labels and step numbers; a PNG at ``path``, returned.

    ``real`` and ``imagined``: uint8 (T, H, W, 3), the same shape; enlarged by a whole factor, pixels
    repeated, to at least ``frame_side``. ``first_step``: the number of the first column. Raises ValueError
    for other shapes.
    """
    from PIL import Image, ImageDraw, ImageFont

    rows = [np.asarray(real), np.asarray(imagined)]
    if any(r.dtype != np.uint8 or r.ndim != 4 or r.shape[-1] != 3 or r.shape != rows[0].shape for r in rows):
        got = ", ".join(f"{r.dtype} {r.shape}" for r in rows)
        raise ValueError(f"got {got}, expected two uint8 arrays of one shape (T, H, W, 3)")
    factor = max(1, -(-frame_side // min(rows[0].shape[1:3])))
    rows = [row.repeat(factor, axis=1).repeat(factor, axis=2) for row in rows]
    length, height, width = rows[0].shape[:3]
    font, gap, top = ImageFont.load_default(size=18), 3, 28
    left = int(max(font.getlength(label) for label in labels)) + 14
    canvas = Image.new("RGB", (left + length * (width + gap), top + 2 * (height + gap)), "white")
    draw = ImageDraw.Draw(canvas)
    for y, (row, label) in enumerate(zip(rows, labels, strict=True)):
        draw.text((left - 8, top + y * (height + gap) + height // 2), label, fill=INK, font=font, anchor="rm")
        for x, frame in enumerate(row):
            canvas.paste(Image.fromarray(frame), (left + x * (width + gap), top + y * (height + gap)))
    for x in range(length):
        draw.text(
            (left + x * (width + gap) + width // 2, top // 2),
            str(first_step + x),
            fill=MUTED,
            font=font,
            anchor="mm",
        )
    buffer, path = io.BytesIO(), Path(path)
    canvas.save(buffer, format="PNG", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, buffer.getvalue())
    return path
