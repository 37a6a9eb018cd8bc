"""How every figure of a report is drawn and saved: colours, fonts, axes, PNG and SVG (matplotlib, Agg).

A plot is a matplotlib Figure that is saved twice: as a PNG, and as an inline SVG whose colours are CSS
variables, so that one figure serves light and dark pages. Colours are those of Okabe & Ito, told apart by
colour-blind readers; arms differ in line style too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from meta_latent.files import atomic_write_bytes

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
PREFERRED = {  # by start, of arms without a colour of their own
    "pretrained": 0,
    "scratch": 1,
    "policy": 2,
    "pretrained+data": 3,
    "scratch+data": 4,
}
OWN = {
    "ivg/pretrained": 0, "ivg/scratch": 1, "ivg/policy": 2, "ivg/pretrained+data": 3, "ivg/scratch+data": 4,
    "sac/scratch": 5, "sac/pretrained": 6, "sb3_sac/scratch": 8,
    "cem/pretrained": 2, "cem/scratch": 4,
    "meld/pretrained": 0, "meld/scratch": 1, "meld/encoder": 8, "meld/sequence": 5,
    "slac/scratch": 4, "no_carry/scratch": 3, "oracle/scratch": 2, "rl2/scratch": 6, "pearl/scratch": 7,
    "mb_mpo/pretrained": 8, "mb_mpo/scratch": 7, "mb_mpo_alpha0/pretrained": 3, "mb_mpo_alpha0/scratch": 3,
    "mb_mpo_one_model/scratch": 6, "mb_mpo_first_order/scratch": 2, "me_trpo/scratch": 4, "me_ppo/scratch": 1,
    "trpo/scratch": 5, "ppo/scratch": 6,
}  # fmt: skip
"""Arm -> its colour in every report. There are more arms than colours that can be told apart: those that a preset shows
together differ."""
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
    """One index into STYLES per arm (``ALGORITHM/START``): its own, which no other arm takes from it; where it has
    none, the usual one for its start; else the next free one.
    """
    styles: dict[str, int] = {}
    for arm in sorted(arms, key=lambda arm: arm not in OWN):
        wanted = OWN.get(arm, PREFERRED.get(arm.rsplit("/", 1)[-1], 0))
        order = [wanted, *range(len(STYLES))]
        free = (index for index in order if index not in styles.values())
        styles[arm] = next(free, wanted)
    return {arm: styles[arm] for arm in arms}


def short(value: float, _=None) -> str:
    """1500 -> '1.5k', 2000000 -> '2M'; for axis labels."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def new_axes(width: float, height: float, xlabel: str, ylabel: str):
    """(figure, axes) of ``width`` x ``height`` inches, with a grid along y and short numbers along x."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(True, axis="y")
    axes.tick_params(length=3)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    return figure, axes


def logarithmic(axes) -> None:
    """Make the x axis of ``axes`` logarithmic, with short numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.xaxis.set_minor_formatter(NullFormatter())


def styled(build):
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
    as CSS variables, places to a hundredth of a point, which nobody sees. ``name`` keeps the ids of several figures on
    one page apart.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(SETTINGS | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r' (d|x|y)="[^"]*"', lambda m: re.sub(r"(\.\d\d)\d+", r"\1", m.group()), svg)
    svg = re.sub(r'(id="|href="#|url\(#)', lambda m: f"{m.group(1)}{name}-", svg)
    for colour, variable in THEME.items():
        svg = svg.replace(f"{colour};", f"var({variable});").replace(f'{colour}"', f'var({variable})"')
    return svg
