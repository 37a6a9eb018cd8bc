"""Figures of a report (matplotlib, Agg): learning curves, times to threshold, gain against pretraining,
strips.

Every plot is a matplotlib Figure that is saved twice: as a PNG, and as an inline SVG whose colours are CSS
variables, so that one figure serves light and dark pages. Colours are those of Okabe & Ito, told apart by
colour-blind readers; arms differ in line style too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from meta_latent.files import atomic_write_bytes
from meta_latent.ops import learning_speed as ls

INK, MUTED, GRID = "#1d1f23", "#6b7078", "#e3e5e8"
# Per style: colour on white, colour on a dark page, line style. The order is the order of preference.
STYLES = (
    ("#0072b2", "#5ab4f0", "-"),
    ("#d55e00", "#ff8f4d", (0, (5, 1.5))),
    ("#009e73", "#35c99b", "-."),
    ("#b0609a", "#e2a0cd", (0, (1, 1))),
    ("#b8860b", "#f0c04a", (0, (3, 1, 1, 1))),
    ("#4a4f57", "#b4bac4", "--"),
    ("#5b4bb3", "#a99cf5", (0, (6, 1.5, 1, 1.5))),
    ("#8a4b20", "#d3a179", ":"),
    ("#0f7d8c", "#5ccbd9", (0, (8, 2))),
)
PREFERRED = {"pretrained": 0, "scratch": 1, "policy": 2, "pretrained+data": 3, "scratch+data": 4}
THEME = {INK: "--ink", MUTED: "--muted", GRID: "--line"} | {s[0]: f"--arm-{i}" for i, s in enumerate(STYLES)}
SETTINGS = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.parse_math": False,
    "svg.fonttype": "path",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.axisbelow": True,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
}


def assign_styles(arms: Sequence[str]) -> dict[str, int]:
    """One index into STYLES per arm (``ALGORITHM/START``): the usual one for its start, else the next free
    one.
    """
    styles: dict[str, int] = {}
    for arm in arms:
        wanted = PREFERRED.get(arm.rsplit("/", 1)[-1], 0)
        order = [wanted, *range(len(STYLES))]
        styles[arm] = next(
            (index for index in order if index not in styles.values()), len(styles) % len(STYLES)
        )
    return styles


def _short(value: float, _=None) -> str:
    """1500 -> '1.5k', 2000000 -> '2M'; for axis labels."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _axes(width: float, height: float, xlabel: str, ylabel: str):
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(True, axis="y")
    axes.tick_params(length=3)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    return figure, axes


def _styled(build):
    """Run a figure builder inside SETTINGS, without touching matplotlib's global settings."""

    def wrapped(*args, **kwargs):
        with matplotlib.rc_context(SETTINGS):
            figure = build(*args, **kwargs)
            figure.draw_without_rendering()  # lay out once, not again for every format it is saved in
            figure.set_layout_engine("none")
            return figure

    wrapped.__doc__, wrapped.__name__ = build.__doc__, build.__name__
    return wrapped


def save_png(figure: Figure, path: str | Path, dpi: int = 160) -> Path:
    """Write ``figure`` as a PNG on white, atomically; returns ``path``."""
    path, buffer = Path(path), io.BytesIO()
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, buffer.getvalue())
    return path


def inline_svg(figure: Figure, name: str) -> str:
    """``figure`` as an ``<svg>`` element for an HTML page: no references to anything outside, theme colours
    as CSS variables. ``name`` keeps the ids of several figures on one page apart.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(SETTINGS | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(id="|href="#|url\(#)', lambda m: f"{m.group(1)}{name}-", svg)
    for colour, variable in THEME.items():
        svg = svg.replace(f"{colour};", f"var({variable});").replace(f'{colour}"', f'var({variable})"')
    return svg


@dataclass(frozen=True)
class ArmCurves:
    """What :func:`learning_curves` draws of one arm: its name, its index into STYLES, one Curve per seed."""

    name: str
    style: int
    curves: tuple[ls.Curve, ...]


def central_line(
    curves: Sequence[ls.Curve],
    threshold: float | None,
    unit: str,
    rng: np.random.Generator,
    resamples: int = 500,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``(grid, iqm, low, high)``, each (G,): IQM over seeds and its pointwise bootstrap interval, where all
    count.

    Only points where every run was watched or had held the threshold (it then counts AT the threshold): a
    line over the runs that happen to be left would show a jump that no run made. NaN intervals below three
    runs.
    """
    ends = [float(getattr(c, unit)[-1]) for c in curves]
    grid = np.unique(np.concatenate([getattr(c, unit) for c in curves]))
    if grid.size > 400:
        grid = np.linspace(grid[0], grid[-1], 400)
    grid = grid[grid <= max(ends)]
    scores = np.stack([ls.resample(c, grid, threshold, unit) for c in curves])
    whole = np.isfinite(scores).all(axis=0)
    grid, scores = grid[whole], scores[:, whole]
    if len(curves) < 3 or grid.size == 0:
        blank = np.full(grid.shape, np.nan)
        return grid, ls.iqm(scores, axis=0) if grid.size else grid, blank, blank
    rows = rng.integers(0, len(curves), size=(resamples, len(curves)))
    drawn = np.sort(ls.iqm(scores[rows], axis=1), axis=0)
    tail = (1 - ls.LEVEL) / 2 * (resamples - 1)
    return grid, ls.iqm(scores, axis=0), drawn[int(tail)], drawn[int(np.ceil(resamples - 1 - tail))]


@_styled
def learning_curves(
    arms: Sequence[ArmCurves],
    threshold: float | None,
    unit: str,
    rng: np.random.Generator,
    normalised: bool = True,
) -> Figure:
    """Score against ``unit`` ("env_steps" or "seconds"): thin lines are seeds, bold is the IQM with its
    interval, dotted the threshold, and a dot marks where a run reached it.
    """
    label = {"env_steps": "environment steps", "seconds": "seconds", "updates": "updates"}[unit]
    figure, axes = _axes(4.4, 3.3, label, "normalised score" if normalised else "raw score")
    for arm in arms:
        colour, _, dashes = STYLES[arm.style]
        grid, line, low, high = central_line(arm.curves, threshold, unit, rng)
        axes.fill_between(grid, low, high, color=colour, alpha=0.16, linewidth=0)
        for curve in arm.curves:
            axes.plot(getattr(curve, unit), curve.scores, color=colour, alpha=0.4, linewidth=0.8)
            reached = None if threshold is None else ls.threshold_index(curve.scores, threshold)
            if reached is not None:
                at = getattr(curve, unit)[reached]
                axes.plot(
                    at, curve.scores[reached], "o", color=colour, markersize=4.5, markeredgewidth=0, zorder=4
                )
        axes.plot(grid, line, color=colour, linestyle=dashes, linewidth=2.2, label=arm.name, zorder=3)
    if threshold is not None:
        axes.axhline(
            threshold, color=MUTED, linewidth=1.2, linestyle=":", zorder=1, label=f"threshold {threshold:g}"
        )
    axes.set_xlim(left=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5, handlelength=2.6)
    return figure


@dataclass(frozen=True)
class TimeRow:
    """One row of :func:`times_to_threshold`. ``reached``: the runs' times; ``censored``: how long the others
    were watched; ``median``: ``(low, high)``; ``interval``: ``(low, high)``; inf = open.
    """

    label: str
    style: int
    reached: tuple[float, ...]
    censored: tuple[float, ...]
    median: tuple[float, float]
    interval: tuple[float, float]


@_styled
def times_to_threshold(rows: Sequence[TimeRow]) -> Figure:
    """Environment steps to threshold, one row per target and arm: bar = interval, diamond = median, small
    dots = runs.

    Censored: an open arrow points right from where the run was last seen; an open interval ends in an arrow
    too.
    """
    figure, axes = _axes(4.4, 0.9 + 0.42 * len(rows), "environment steps to threshold (fewer is better)", "")
    finite = [v for r in rows for v in (*r.reached, *r.censored, *r.median, *r.interval) if np.isfinite(v)]
    right = max(finite, default=1.0) * 1.1 or 1.0
    for y, row in enumerate(rows):
        colour = STYLES[row.style][0]
        low, high = row.interval
        if np.isfinite(low):
            axes.plot(
                [low, min(high, right)], [y, y], color=colour, alpha=0.35, linewidth=6, solid_capstyle="butt"
            )
            if not np.isfinite(high):
                axes.plot(
                    right, y, ">", color=colour, alpha=0.5, markersize=7, markeredgewidth=0, clip_on=False
                )
        axes.plot(
            row.reached,
            np.full(len(row.reached), y + 0.2),
            "o",
            color=colour,
            alpha=0.7,
            markersize=3.2,
            markeredgewidth=0,
        )
        axes.plot(
            row.censored,
            np.full(len(row.censored), y + 0.2),
            ">",
            color=colour,
            fillstyle="none",
            markersize=5,
            markeredgewidth=1,
        )
        if np.isfinite(row.median[1]):
            axes.plot(row.median[1], y, "D", color=colour, markersize=6.5, markeredgewidth=0, zorder=4)
        else:
            axes.plot(
                row.median[0],
                y,
                ">",
                color=colour,
                fillstyle="none",
                markersize=9,
                markeredgewidth=1.6,
                zorder=4,
            )
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, right)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    return figure


@dataclass(frozen=True)
class GainPoint:
    """One point of :func:`gain_against_pretraining`: speed-up of one target after so much pretraining."""

    pretraining_env_steps: float
    target: str
    ratio: ls.Ratio


@_styled
def gain_against_pretraining(points: Sequence[GainPoint]) -> Figure:
    """Speed-up to threshold (logarithmic) against pretraining env steps, one line per target, with intervals.

    Lower bounds are open upward triangles; points without a claim are crosses on the line of no difference.
    """
    figure, axes = _axes(
        4.8, 3.5, "pretraining environment steps", "times fewer environment steps to threshold"
    )
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
            low, high = ratio.interval
            top = high if np.isfinite(high) else ratio.value * 1.6
            axes.plot(
                [x, x], [max(low, 1 / 64), top], color=colour, alpha=0.4, linewidth=4, solid_capstyle="butt"
            )
            axes.plot(
                x,
                ratio.value,
                "^" if ratio.lower_bound else "o",
                color=colour,
                markersize=7,
                fillstyle="none" if ratio.lower_bound else "full",
            )
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
