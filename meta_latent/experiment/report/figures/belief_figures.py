"""Maps of expected rewards beside the scene: a strip of moments of a trial, and the frames of a film of it."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from meta_latent.experiment.report.figures.drawing import MUTED, SETTINGS, STYLES, styled
from meta_latent.experiment.report.reading.beliefs import Belief
from meta_latent.experiment.report.words.text import true_minus

COLOURS = "viridis"
_OUTLINED = {"path_effects": [withStroke(linewidth=3, foreground="#101418")]}
PATH = {"color": "white", "linewidth": 1.2, "label": "path in the episode", **_OUTLINED}
AGENT = {"color": "white", "linestyle": "", "marker": "o", "markersize": 5.5, "markeredgecolor": "#101418", "zorder": 4}
GOAL = {"color": "#ff5a3c", "linestyle": "", "marker": "o", "markersize": 11, "markeredgewidth": 1.8, "zorder": 3,
        "fillstyle": "none", "label": "goal", **_OUTLINED}  # fmt: skip
DARK, LIGHT = "#15171a", "#e6e8eb"
COLUMN, GAP = 1.6, 0.05
LEFT, RIGHT, ABOVE, BELOW = 0.55, 0.75, 0.45, 0.45
CURVE, NAMES = 0.95, 0.42
"""Inches: columns and what lies between them, margins, the curves' height, room for names between maps and curves."""
MOST_TOLD = 2.0
"""Curves are cut off above it: before there is any evidence a belief may be far off."""
FILM_INCHES, FILM_DPI = 3.0, 110


def label(belief: Belief) -> str:
    """What the strip shows, in words."""
    facts = belief.facts
    times = ", ".join(moment(belief, k).replace("\n", " ") for k in belief.observations)
    return (f"Rewards that the belief of {facts.arm} expects over the workspace of {facts.target}, {facts.task}: "
            f"{times}; beside them what the task pays")  # fmt: skip


def caption(belief: Belief) -> str:
    """Whose trial it is and what it paid."""
    facts = belief.facts
    paid = true_minus(", ".join(f"{value:.1f} in episode {e + 1}" for e, value in enumerate(facts.returns)))
    less = f"{facts.below or 'None'} of {facts.tasks} test tasks paid less in the first." if facts.tasks > 1 else ""
    return f"{facts.arm}, seed {facts.seed}, {facts.task}: the trial paid {paid}. {less}".rstrip()


def moment(belief: Belief, observation: int) -> str:
    """When an observation was made, in two short lines."""
    episode, step = belief.time(observation)
    when = "end" if step == belief.facts.lengths[episode] - 1 else f"step {step}"
    return f"episode {episode + 1}\n{when if observation else 'before any reward'}"


@styled
def strip(belief: Belief) -> Figure:
    """Per moment a column: the scene above the map of expected rewards, with the path so far in the episode; last what
    the task pays, on the same scale. Below, what the agent tells along the trial, the moments marked.
    """
    count, limits = len(belief.maps), _limits(belief)
    scene, height, curve = _heights(belief)
    low = BELOW + (curve + NAMES if curve else 0.0)
    size = (LEFT + count * (COLUMN + GAP) + 3 * GAP + COLUMN + RIGHT, low + height + scene + ABOVE)
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)

    def place(x: float, y: float, width: float, tall: float):
        return figure.add_axes((x / size[0], y / size[1], width / size[0], tall / size[1]))

    for k, observation in enumerate(belief.observations):
        x = LEFT + k * (COLUMN + GAP)
        panel = place(x, low, COLUMN, height)
        draw_map(panel, belief, belief.maps[k], limits, belief.path(observation))
        if k == 0:
            _name_axes(panel, belief)
        if scene:
            panel = place(x, low + height + GAP, COLUMN, scene - GAP)
            panel.imshow(belief.scenes[k], aspect="auto")
            _bare(panel)
        panel.set_title(moment(belief, observation), fontsize=9)
    x = LEFT + count * (COLUMN + GAP) + 3 * GAP
    truth = place(x, low, COLUMN, height)
    image = draw_map(truth, belief, belief.paid, limits)
    truth.set_title("what is paid", fontsize=9)
    _scale(figure.colorbar(image, cax=place(x + COLUMN + 0.08, low, 0.08, height)))
    if curve:
        _curves(place(LEFT, BELOW, count * (COLUMN + GAP) - GAP, curve), belief)
    return figure


def _heights(belief: Belief) -> tuple[float, float, float]:
    """Of scenes with the gap below them, maps and curves, in inches; 0 of what there is none."""
    left, right, bottom, top = belief.facts.extent
    scene = GAP + COLUMN * belief.scenes.shape[1] / belief.scenes.shape[2] if len(belief.scenes) else 0.0
    return scene, COLUMN * (top - bottom) / (right - left), CURVE if belief.facts.told else 0.0


def _scale(bar) -> None:
    """The look of the colour bar."""
    bar.set_label("reward expected", fontsize=8.5)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    bar.outline.set_visible(False)


def draw_map(axes, belief: Belief, values: np.ndarray, limits: tuple[float, float], path: np.ndarray | None = None):
    """Draw one map (G, G), its goal and the path (n, 2) that led to where the agent is; returns the image, blank where
    the map is.
    """
    low, high = limits
    image = axes.imshow(values, origin="lower", extent=belief.facts.extent, cmap=COLOURS, vmin=low, vmax=high,
                        interpolation="bilinear")  # fmt: skip
    if path is not None:
        axes.plot(*path.T, **PATH)
        axes.plot(*path[-1], **AGENT)
    if belief.facts.goal is not None:
        axes.plot(*belief.facts.goal, **GOAL)
    left, right, bottom, top = belief.facts.extent
    axes.set(xlim=(left, right), ylim=(bottom, top))
    _bare(axes)
    return image


def film(belief: Belief) -> Iterator[np.ndarray]:
    """Pictures (H, W, 3) uint8 of all moments of a belief: the scene on the left, the map on the right."""
    left, right, bottom, top = belief.facts.extent
    scenes = len(belief.scenes) > 0
    map_wide = (right - left) / (top - bottom)
    wide = belief.scenes.shape[2] / belief.scenes.shape[1] if scenes else 0.0
    size, split = (FILM_INCHES * (map_wide + wide), FILM_INCHES + 0.4), wide / (map_wide + wide)
    tall = FILM_INCHES / size[1] - 0.02
    for k, observation in enumerate(belief.observations):
        with matplotlib.rc_context(SETTINGS):
            figure = Figure(figsize=size, dpi=FILM_DPI, facecolor=DARK)
            canvas, said = FigureCanvasAgg(figure), {"color": LIGHT, "fontsize": 9.5, "va": "center"}
            if scenes:
                scene = figure.add_axes((0.01, 0.02, split - 0.015, tall))
                scene.imshow(belief.scenes[k])
                _bare(scene)
            panel = figure.add_axes((split + 0.005, 0.02, 0.985 - split, tall))
            draw_map(panel, belief, belief.maps[k], _limits(belief), belief.path(observation))
            figure.text(0.015, 0.94, moment(belief, observation).replace("\n", ", "), **said)
            if scenes:
                figure.text(split + 0.01, 0.94, "reward expected", **said)
            canvas.draw()
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _limits(belief: Belief) -> tuple[float, float]:
    """The range of what is paid, but for the lowest twentieth; what lies beyond it has the colour of its end."""
    return float(np.nanquantile(belief.paid, 0.05)), float(np.nanmax(belief.paid))


def _bare(axes) -> None:
    axes.set(xticks=[], yticks=[], facecolor="none")
    axes.spines[:].set_visible(False)


def _name_axes(axes, belief: Belief) -> None:
    """Names and ends of the axes, on the first map."""
    left, right, bottom, top = belief.facts.extent
    x, y = (name.replace("_", " ") for name in belief.facts.axes)
    axes.set(xticks=[left, right], yticks=[bottom, top])
    axes.tick_params(length=0, labelsize=7.5, labelcolor=MUTED, pad=2)
    for labels, side, ends in ((axes.get_xticklabels(), "ha", ("left", "right")),
                               (axes.get_yticklabels(), "va", ("bottom", "top"))):  # fmt: skip
        for text, end in zip(labels, ends, strict=True):
            text.set(**{side: end})
    axes.set_xlabel(x, fontsize=8.5, labelpad=-8)
    axes.set_ylabel(y, fontsize=8.5, labelpad=-8)


def _curves(axes, belief: Belief) -> None:
    """What the agent tells along the trial; dots are the moments shown, a dotted line lies between episodes."""
    for (name, values), (colour, _, dashes) in zip(belief.facts.told.items(), STYLES, strict=False):
        values = np.array(values, float)
        axes.plot(values, color=colour, linestyle=dashes, linewidth=1.6, label=name)
        axes.plot(belief.observations, values[belief.observations], "o", color=colour, markersize=5)
    for place in np.cumsum(belief.facts.lengths)[:-1]:
        axes.axvline(place - 0.5, color=MUTED, linewidth=0.8, linestyle=":")
    axes.set(xlabel="observation of the trial", xlim=(-0.8, len(belief.places) - 0.2))
    axes.set_ylim(0, min(axes.get_ylim()[1], MOST_TOLD))
    axes.tick_params(length=3, labelsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    shown = [PATH] if belief.facts.goal is None else [PATH, GOAL]
    handles = [*axes.get_legend_handles_labels()[0], *(Line2D([], [], **look) for look in shown)]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.4), frameon=False, fontsize=8)
