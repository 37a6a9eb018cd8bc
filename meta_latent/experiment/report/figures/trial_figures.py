"""Figures along trials of several episodes: what `meta-latent adapt` played, and what agents tell of their trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from meta_latent.experiment.report.figures.curve_figures import ArmMetric, legend, thin_and_median
from meta_latent.experiment.report.figures.drawing import MUTED, STYLES, new_axes, styled
from meta_latent.experiment.report.reading.adaptations import Adaptation, Line, padded

FILES = ("return_by_episode.png", "reward_by_step.png", "success_by_step.png", "inspected_*.png")
"""Names of the files of `figures_of`."""
MOST_TASKS = 40
"""Of more test tasks no thin lines are drawn."""
MOST_MARKED = 20
"""More episodes than these are not told apart by marks and lines."""


def figures_of(adaptation: Adaptation, told: Mapping[str, Any], styles: Mapping[str, int]) -> list[tuple]:
    """(kind, figure, label) of an adaptation with the numbers `told`: returns, course of a trial, what agents tell.
    None is of a success that the suite does not tell.
    """
    target, place = adaptation.target, "adaptation step" if adaptation.adapts else "episode of a trial"
    found = [("return_by_episode", return_by_episode(adaptation, told, styles),
              f"Return on {target} against the {place}")]  # fmt: skip
    for key, name, limits in (("reward_by_step", "reward", None), ("success_by_step", "success", (-0.04, 1.04))):
        if all(getattr(line, key) for line in adaptation.lines):
            figure = course(adaptation.lines, key, name, styles, limits)
            found.append((key, figure, f"{name.capitalize()} on {target} along a trial"))
    series = dict.fromkeys(name for arm in adaptation.inspected.values() for name in arm)
    for name in series:
        arms = {arm: entry[name]["values"] for arm, entry in adaptation.inspected.items() if name in entry}
        lengths = [values.shape[1] + 1 for values in adaptation.lines[0].reward_by_step]
        figure = along_trial(arms, styles, lengths, name)
        found.append((f"inspected_{name}", figure, f"Along trials of {target}: {name}"))
    return found


@styled
def return_by_episode(adaptation: Adaptation, told: Mapping[str, Any], styles: Mapping[str, int]) -> Figure:
    """Raw return against the episode of the trial, or the adaptation step, 0 before the first: thin lines are test
    tasks, bold is the mean with its interval; of a cleared belief the mean alone. Dotted and grey: the mean of what the
    tasks' references reach.
    """
    adapts, episodes, learned = adaptation.adapts, adaptation.facts["episodes"], adaptation.facts["episodes_per_trial"]
    figure, axes = new_axes(4.4, 3.3, "adaptation step" if adapts else "episode of the trial", "raw return")
    first = 0 if adapts else 1
    grid = np.arange(first, first + episodes)
    for line, numbers in zip(adaptation.lines, told["lines"], strict=True):
        style, tasks = styles[line.arm], line.returns.mean(axis=0)
        colour, look = STYLES[style][0], _look(line, style)
        if not line.cleared:
            if len(tasks) in range(2, MOST_TASKS + 1):
                axes.plot(grid, tasks.T, color=colour, alpha=0.3, linewidth=0.7)
            ends = [entry["interval"] or (np.nan, np.nan) for entry in numbers["returns"]]
            axes.fill_between(grid, *np.array(ends).T, color=colour, alpha=0.12, linewidth=0)
        mark = {"marker": "o", "markersize": 5} if episodes <= MOST_MARKED else {}
        axes.plot(grid, [entry["mean"] for entry in numbers["returns"]], color=colour, zorder=3, label=line.label,
                  **look, **mark)  # fmt: skip
    if adaptation.references is not None:
        reference = float(adaptation.references[:, 1].mean())
        axes.axhline(reference, color=MUTED, linewidth=1.2, linestyle=":", zorder=1, label="reference")
    if episodes > learned:
        label = (f"evaluated with {learned - 1} step{'s' * (learned != 2)}" if adapts
                 else f"learned with {learned} episode{'s' * (learned > 1)}")  # fmt: skip
        axes.axvline(first + learned - 0.5, color=MUTED, linewidth=0.8, zorder=1, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend(figure)
    return figure


@styled
def course(
    lines: Sequence[Line], key: str, ylabel: str, styles: Mapping[str, int], limits: tuple[float, float] | None
) -> Figure:
    """`key` of the lines, such as reward_by_step, against the step of the trial: thin lines are seeds, bold is their
    mean, vertical ones stand where episodes end; of a cleared belief the mean alone.
    """
    adapts = any(line.adapts for line in lines)
    places = "environment step; adapting at dotted lines" if adapts else "step of the trial"
    figure, axes = new_axes(4.4, 3.3, places, ylabel)
    lengths = [max(parts) for parts in zip(*([v.shape[1] for v in getattr(line, key)] for line in lines), strict=True)]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    for line in lines:
        style = styles[line.arm]
        colour, look = STYLES[style][0], _look(line, style)
        for e, values in enumerate(getattr(line, key)):  # nothing joins one episode's end to the next one's beginning
            grid = starts[e] + np.arange(1, values.shape[1] + 1)
            mark = {"marker": "o", "markersize": 3} if values.shape[1] == 1 else {}
            if len(values) > 1 and not line.cleared:
                axes.plot(grid, values.T, color=colour, alpha=0.4, linewidth=0.8)
            axes.plot(grid, np.nanmean(values, axis=0), color=colour, zorder=3, label=None if e else line.label,
                      **look, **mark)  # fmt: skip
    _between_episodes(axes, starts[1:-1] + 0.5)
    axes.set_xlim(0, starts[-1] + 1)
    axes.set_ylim(limits)
    legend(figure)
    return figure


@styled
def along_trial(
    arms: Mapping[str, Sequence], styles: Mapping[str, int], lengths: Sequence[int], ylabel: str = ""
) -> Figure:
    """Numbers per observation of a trial, of arms with a row per seed that has them: thin lines are seeds, bold is
    their median, vertical ones stand between episodes of these lengths, if they make up the trial. A small figure where
    no `ylabel` says what it shows, else one with a legend.
    """
    figure, axes = new_axes(*((4.4, 3.3) if ylabel else (3.0, 1.9)), "observation of the trial", ylabel)
    told = {arm: padded([row for row in rows if row]) for arm, rows in arms.items()}
    drawn = [ArmMetric(styles[arm], np.arange(rows.shape[1], dtype=float), rows, arm) for arm, rows in told.items()]
    if all(arm.places.size == sum(lengths) for arm in drawn):
        _between_episodes(axes, np.cumsum(lengths)[:-1] - 0.5)
    thin_and_median(axes, drawn)
    axes.set_xlim(left=0)
    if ylabel:
        legend(figure)
    return figure


def _look(line: Line, style: int) -> dict[str, Any]:
    """Bold, with the dashes of its arm; thinner, dotted and open where the belief is cleared."""
    if line.cleared:
        return {"linestyle": ":", "fillstyle": "none", "linewidth": 1.6}
    return {"linestyle": STYLES[style][2], "linewidth": 2.2}


def _between_episodes(axes, places: Sequence[float]) -> None:
    """Vertical lines where one episode of the trial ends and the next begins."""
    for place in places if len(places) < MOST_MARKED else ():
        axes.axvline(place, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
