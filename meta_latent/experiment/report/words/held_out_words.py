"""What the held-out metrics of a pretraining mean, for readers of a report."""

from __future__ import annotations

from typing import Any

from meta_latent.experiment.report.words import text

MEASURES = {
    "positions_1_minus_r2": (
        "share of the variance of objects’ positions that a linear read-out of the latent state leaves unexplained "
        "(0: it knows them exactly, 1: no better than their mean)", "lower"),
    "open_loop_r2": (
        "how well the same read-out follows objects that moved, after imagined steps without observations "
        "(1: exactly, 0: as if nothing had moved)", "higher"),
    "reward_1_minus_r2": (
        "share of the variance of the next step’s reward that the model leaves unexplained when it is told past "
        "rewards",
        "lower"),
    "reward_1_minus_r2_blind": ("the same when it is told no rewards and sees observations only", "lower"),
}  # fmt: skip
"""Metric -> its meaning and which direction is better."""


def table(cost: dict[str, Any] | None) -> dict[str, Any]:
    """Seeds, and per metric its name, meaning, better direction and a value per seed; of report.json's pretraining."""
    if cost is None:
        return {"seeds": [], "rows": []}
    names = sorted({metric for values in cost["held_out"].values() for metric in values})
    names = sorted(names, key=lambda name: list(MEASURES).index(name) if name in MEASURES else len(MEASURES))
    rows = []
    for name in names:
        meaning, better = MEASURES.get(name, ("", ""))
        values = [text.plain_number(cost["held_out"][seed].get(name)) for seed in cost["seeds"]]
        rows.append({"name": name, "meaning": meaning, "better": better, "values": values})
    return {"seeds": cost["seeds"], "rows": rows}
