"""How far adapting moves a policy against how far its models lie apart, for algorithms that log both.

Clavera et al. 2018 (MB-MPO, arXiv 1809.05214) relate the two over the course of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from meta_latent.experiment.report.figures import drawing, pictures
from meta_latent.experiment.report.figures.drawing import STYLES, new_axes, styled

ACROSS, UP = "disagreement", "plasticity"
MEANING = "one against the other, in the course of training: a ring where it begins, a dot where it ends; bold is the "\
    "median of all seeds"  # fmt: skip


def figures_of(name: str, target: Mapping[str, Any], styles: Mapping[str, int]) -> list[dict[str, Any]]:
    """The figure of a target as a page shows training metrics; none where no arm has both."""
    metrics = {arm: entry["metrics"] for arm, entry in target["arms"].items()}
    arms = {arm: [_column(found[key]) for key in (ACROSS, UP)]
            for arm, found in metrics.items() if found.keys() >= {ACROSS, UP}}  # fmt: skip
    if not arms:
        return []
    svg = drawing.inline_svg(phase(arms, styles), f"plasticity-{pictures.slug(name)}")
    return [{
        "svg": svg, "name": f"{UP} and {ACROSS}", "meaning": MEANING, "label": f"Plasticity on {name} by disagreement",
        "arms": [{"arm": arm, "style": str(styles[arm])} for arm in arms],
    }]  # fmt: skip


def _column(metric: Mapping[str, Any]) -> np.ndarray:
    """(S, G) values of S seeds, NaN where nothing was logged."""
    return np.array(metric["values"], dtype=float)


@styled
def phase(arms: Mapping[str, Sequence[np.ndarray]], styles: Mapping[str, int]) -> Figure:
    """Small: of each arm two (S, G), disagreement and plasticity of S seeds. Thin lines are seeds, bold is their median
    where all seeds have both.
    """
    figure, axes = new_axes(3.0, 1.9, "disagreement, deviations", "plasticity, nats")
    for arm, (across, up) in arms.items():
        colour, _, dashes = STYLES[styles[arm]]
        seen = np.isfinite(across) & np.isfinite(up)
        for x, y, there in zip(across, up, seen, strict=True):
            axes.plot(x[there], y[there], color=colour, alpha=0.4, linewidth=0.8)
        whole = seen.all(axis=0)
        x, y = np.median(across[:, whole], axis=0), np.median(up[:, whole], axis=0)
        axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.8)
        for place, fill in ((slice(0, 1), "none"), (slice(-1, None), "full")):
            axes.plot(x[place], y[place], "o", color=colour, markersize=4.5, fillstyle=fill)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    return figure
