"""Figures along a trial of several episodes: what an agent tells of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from meta_latent.experiment.report.drawing import MUTED, new_axes, styled
from meta_latent.experiment.report.figures import ArmMetric, thin_and_median


def series(style: int, rows: Sequence[Sequence[float | None]]) -> ArmMetric:
    """One arm's series along a trial, a row per seed, the shorter ones with gaps at their end."""
    values = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for row, given in zip(values, rows, strict=True):
        row[: len(given)] = [np.nan if value is None else value for value in given]
    return ArmMetric(style, np.arange(values.shape[1], dtype=float), values)


@styled
def along_trial(arms: Sequence[ArmMetric], lengths: Sequence[int]) -> Figure:
    """A small figure of numbers per observation of a trial: thin lines are seeds, bold is their median, vertical
    ones stand between episodes of these lengths, if they make up the trial.
    """
    figure, axes = new_axes(3.0, 1.9, "observation of the trial", "")
    if all(arm.places.size == sum(lengths) for arm in arms):
        between_episodes(axes, np.cumsum(lengths)[:-1] - 0.5)
    thin_and_median(axes, arms)
    axes.set_xlim(left=0)
    return figure


def between_episodes(axes, places: Sequence[float]) -> None:
    """Vertical lines where one episode of the trial ends and the next begins."""
    for place in places:
        axes.axvline(place, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
