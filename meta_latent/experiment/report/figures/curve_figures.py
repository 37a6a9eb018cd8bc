"""Learning curves, scores by episode, training metrics, strips of frames."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from meta_latent.experiment.report.figures.drawing import INK, MUTED, STYLES, logarithmic, new_axes, styled
from meta_latent.experiment.report.words.text import CLOCKS
from meta_latent.files import atomic_write_bytes
from meta_latent.ops import learning_speed as ls
from meta_latent.ops.learning_curve import Curve, crossing

HELD = (0, (2, 1.6))
"""Dashes of a central line where some of its runs had stopped."""


@dataclass(frozen=True)
class ArmCurves:
    """What :func:`learning_curves` draws of one arm: its name, its index into STYLES, one Curve per seed."""

    name: str
    style: int
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Line:
    """What is drawn bold of several runs: ``grid``, ``middle``, ``low``, ``high`` (NaN below three runs), each (G,),
    and ``measured`` (G,) bool: where every run was watched.
    """

    grid: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray
    measured: np.ndarray


def central_line(curves: Sequence[Curve], unit: str, rng: np.random.Generator, resamples: int = 500) -> Line:
    """IQM over seeds and its pointwise bootstrap interval, where all seeds count: of runs that stopped because they
    held a threshold, the lower of the two scores that ended them stands for what follows, where ``measured`` is false.

    The line ends where the first run ends that did not stop so: a line over the runs that happen to be left would show
    a jump that no run made.
    """
    grid = np.unique(np.concatenate([getattr(c, unit) for c in curves]))
    if grid.size > 400:
        grid = np.linspace(grid[0], grid[-1], 400)
    scores = np.stack([ls.resample(c, grid, unit) for c in curves])
    measured = np.isfinite(scores).all(axis=0)
    for row, curve in zip(scores, curves, strict=True):
        if curve.stopped_at is not None:
            row[grid > getattr(curve, unit)[-1]] = curve.scores[-2:].min()
    whole = np.isfinite(scores).all(axis=0)
    return _with_band(grid[whole], scores[:, whole], rng, resamples, measured[whole])


def _with_band(
    grid: np.ndarray, scores: np.ndarray, rng: np.random.Generator, resamples: int = 500,
    measured: np.ndarray | None = None,
) -> Line:  # fmt: skip
    """``grid`` (G,), the IQM of ``scores`` (S, G) over runs, its bootstrap interval; ``measured``: all, by default."""
    blank = np.full(grid.shape, np.nan)
    measured = np.ones(grid.shape, bool) if measured is None else measured
    if grid.size == 0:
        return Line(grid, blank, blank, blank, measured)
    if len(scores) < 3:
        return Line(grid, ls.iqm(scores, axis=0), blank, blank, measured)
    rows = rng.integers(0, len(scores), size=(resamples, len(scores)))
    # Point by point: all at once, a thousand runs would fill gigabytes.
    drawn = np.sort(np.stack([ls.iqm(at_point[rows]) for at_point in scores.T], axis=1), axis=0)
    tail = (1 - ls.LEVEL) / 2 * (resamples - 1)
    low, high = drawn[int(tail)], drawn[int(np.ceil(resamples - 1 - tail))]
    return Line(grid, ls.iqm(scores, axis=0), low, high, measured)


def central(axes, name: str, style: int, line: Line, marker: str = "") -> None:
    """Draw band and bold line; where some runs had stopped, the line is thin and dashed and without a band."""
    (colour, _, dashes), seen = STYLES[style], line.measured
    axes.fill_between(line.grid[seen], line.low[seen], line.high[seen], color=colour, alpha=0.16, linewidth=0)
    bold = {"linewidth": 2.2, "marker": marker, "markersize": 5, "label": name, "zorder": 3}
    axes.plot(line.grid[seen], line.middle[seen], color=colour, linestyle=dashes, **bold)
    if not seen.all():
        held = ~seen
        held[:-1] |= held[1:]  # from the last point that was measured on
        axes.plot(line.grid[held], line.middle[held], color=colour, linestyle=HELD, linewidth=1.3, zorder=3)


def legend(figure: Figure) -> None:
    """The legend of all that is labelled, below the axes."""
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5, handlelength=2.6)


@dataclass(frozen=True)
class Frame:
    """What the axes of learning curves show: ``unit``, a key of CLOCKS; the name of the y axis and its ends (None: as
    far as the curves go); the ends of the x axis, which is logarithmic where its left end is not 0; and what random
    actions earn, where no scale says so (None: not known).
    """

    unit: str
    ylabel: str = "normalised score"
    limits: tuple[float | None, float | None] = (None, None)
    left: float = 0.0
    right: float | None = None
    random: float | None = None


WIDE = 8.0
"""Times that the longest arm's curve is as long as the shortest one's, from where on the x axis is logarithmic."""
MOST_POINTS, FEWEST_POINTS = 40_000, 40
"""Points of the thin lines of an arm, and of each of them: more are tens of megabytes of a page, and cannot be seen."""
LOWEST = -0.5
"""A normalised score below which a curve is cut off, unless some curve ends there: 0 is what acting at random earns."""


def frame_of(
    arms: Sequence[ArmCurves], unit: str, ylabel: str, normalised: bool = True, thresholds: Sequence[float] = (),
    random: float | None = None,
) -> Frame:  # fmt: skip
    """The frame that shows what is to be seen of ``arms``: not the depth of the pits that learning began in."""
    curves = [curve for arm in arms for curve in arm.curves]
    lengths = [max(float(getattr(curve, unit)[-1]) for curve in arm.curves) for arm in arms]
    thresholds = thresholds if random is None else (*thresholds, random)
    lowest = min(float(np.min([*curve.scores, *([] if random is None else [random])])) for curve in curves)
    ends = min(float(curve.scores[-1]) for curve in curves)
    bottom = min(LOWEST, ends - 0.1 * abs(ends))
    bottom = bottom if normalised and lowest < bottom else lowest
    highest = max([*thresholds, *(float(np.max(curve.scores)) for curve in curves)])
    room = 0.05 * ((highest - bottom) or 1.0)
    places = [at[at > 0][0] for at in (getattr(curve, unit) for curve in curves) if (at > 0).any()]
    wide = max(lengths) >= WIDE * min(lengths) > 0
    return Frame(unit, ylabel, (bottom - room, highest + room), 0.9 * float(min(places)) if wide else 0.0,
                 max(lengths) or None, random)  # fmt: skip


@styled
def learning_curves(
    arms: Sequence[ArmCurves], thresholds: Sequence[float], frame: Frame, rng: np.random.Generator
) -> Figure:
    """Scores against a clock: thin lines are seeds, bold is the IQM with its interval as far as all seeds went, dashed
    its continuation (see :func:`central_line`), dotted the thresholds, and a dot marks where a run reached one.
    """
    figure, axes = new_axes(4.4, 3.3, CLOCKS[frame.unit], frame.ylabel)
    for arm in arms:
        _seeds(axes, arm, thresholds, frame.unit)
        central(axes, arm.name, arm.style, central_line(arm.curves, frame.unit, rng))
    _thresholds(axes, thresholds)
    _framed(axes, frame, [curve for arm in arms for curve in arm.curves])
    legend(figure)
    return figure


@styled
def panel(
    arm: ArmCurves, others: Sequence[ArmCurves], thresholds: Sequence[float], frame: Frame, rng: np.random.Generator
) -> Figure:
    """One of several small figures in one frame: an arm as in :func:`learning_curves`, before the grey bold lines of
    the ``others``; without a legend.
    """
    figure, axes = new_axes(2.7, 2.0, CLOCKS[frame.unit], "")
    for other in others:
        line = central_line(other.curves, frame.unit, rng, resamples=1)
        axes.plot(line.grid, line.middle, color=MUTED, alpha=0.45, linewidth=0.9, zorder=1)
    _seeds(axes, arm, thresholds, frame.unit)
    central(axes, arm.name, arm.style, central_line(arm.curves, frame.unit, rng))
    _thresholds(axes, thresholds)
    _framed(axes, frame, arm.curves)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    return figure


def _seeds(axes, arm: ArmCurves, thresholds: Sequence[float], unit: str) -> None:
    """Draw every seed as a thin line, with dots where it reached a threshold."""
    colour, most = STYLES[arm.style][0], max(MOST_POINTS // len(arm.curves), FEWEST_POINTS)
    for curve in arm.curves:
        places, seen = getattr(curve, unit), thinned(curve.scores, most)
        axes.plot(places[seen], curve.scores[seen], color=colour, alpha=0.4, linewidth=0.8)
        reached = [crossing(curve, threshold) for threshold in thresholds]
        for index in {index for index in reached if index is not None}:
            dot = {"markersize": 4.5, "markeredgewidth": 0, "zorder": 4}
            axes.plot(places[index], curve.scores[index], "o", color=colour, **dot)


def thinned(scores: np.ndarray, most: int) -> np.ndarray:
    """Indices, in order, of about ``most`` of ``scores`` (E,), all where there are no more: of the two ends, and of the
    lowest and the highest of every stretch, so that no peak is lost.
    """
    everything = np.arange(scores.size)
    if scores.size <= most:
        return everything
    stretches = np.array_split(everything, most // 2)
    extremes = [stretch[pick(scores[stretch])] for stretch in stretches for pick in (np.argmin, np.argmax)]
    return np.unique([0, *extremes, scores.size - 1])


def _thresholds(axes, thresholds: Sequence[float]) -> None:
    for index, threshold in enumerate(thresholds):
        label = None if index else f"threshold {', '.join(f'{t:g}' for t in thresholds)}"
        axes.axhline(threshold, color=MUTED, linewidth=1.2, linestyle=":", zorder=1, label=label)


def _framed(axes, frame: Frame, curves: Sequence[Curve]) -> None:
    """Give ``axes`` the ends of ``frame``, and say in words how far down a curve went that is cut off."""
    if frame.left:
        logarithmic(axes)
    axes.set_xlim(frame.left, frame.right and frame.right * (1.12 if frame.left else 1.03))
    axes.set_ylim(frame.limits)
    if frame.random is not None:
        axes.axhline(frame.random, color=MUTED, linewidth=1.0, linestyle=(0, (6, 3)), zorder=1)
        axes.annotate("random actions", (1, frame.random), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                      textcoords="offset points", ha="right", color=MUTED, fontsize=7.5)  # fmt: skip
    lowest = min((float(np.min(curve.scores)) for curve in curves), default=0.0)
    if frame.limits[0] is not None and lowest < frame.limits[0]:
        said = f"▼ down to {lowest:.3g}, cut off".replace("-", "−")
        axes.set_title(said, color=MUTED, fontsize=7.5, loc="right", pad=3)


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
            central(axes, arm.name, arm.style, _with_band(grid, arm.values, rng), marker="o")
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
