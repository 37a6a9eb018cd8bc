"""Several runs that differ in how much they were pretrained: speed-up against the amount of pretraining."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

from meta_latent.errors import UserError
from meta_latent.experiment.report.figures import drawing, time_figures
from meta_latent.experiment.report.reading import settings_shown
from meta_latent.experiment.report.reading.sources import Cell, Run
from meta_latent.experiment.report.statistics.analysis import analyse, plain
from meta_latent.experiment.report.statistics.numbers import Bootstrap, level
from meta_latent.files import atomic_write_bytes
from meta_latent.ops import learning_speed as ls

GAIN = "gain_against_pretraining"
MEANING = (
    "Across: environment steps of source data that the run’s model was pretrained on. Up: speed-up, how many times "
    "fewer of its own steps the median run of the main pair’s pretrained arm took to the target’s first threshold "
    "than that of the same algorithm from scratch; equal distances are equal factors, the dotted line is no "
    "difference. A point is one of the runs compared, a line joins those of one target. A filled dot is a ratio. An "
    "open arrow is a bound. Pointing up: at least so much, as the median run from scratch did not arrive, or the "
    "pretrained one was there at its first evaluation. Pointing down: at most so much, as the median run from scratch "
    "was there at its first evaluation. A cross on the dotted line: nothing is known of which is faster, as where the "
    "median pretrained run did not arrive. A pale bar is the 95 % interval of a bootstrap over seeds; one that is "
    "open above is drawn to 1.6 times its point. A run without an arm from scratch is compared with that of another "
    "run of the same task and settings. The numbers are in gain_against_pretraining.json."
)
"""What the picture shows, in words."""


def with_scratch(runs: Sequence[Run]) -> list[Run]:
    """The runs, each with the scratch arms that its targets lack, from the first run that has them: those do
    not depend on pretraining. Only runs of the same task and settings lend to each other.
    """
    lenders: dict[tuple, list[Cell]] = {}
    for run in runs:
        own: dict[tuple, list[Cell]] = {}
        for cell in run.cells:
            if cell.arm.endswith("/scratch"):
                own.setdefault((*_terms(cell), cell.arm), []).append(cell)
        lenders = own | lenders
    whole = []
    for run in runs:
        wanted, present = {_terms(c) for c in run.cells}, {(c.target, c.arm) for c in run.cells}
        lent = [
            cell
            for (*known, arm), cells in lenders.items()
            if tuple(known) in wanted and (known[0], arm) not in present
            for cell in cells
        ]
        whole.append(dataclasses.replace(run, cells=(*run.cells, *lent)))
    return whole


def _terms(cell: Cell) -> tuple:
    """Target, thresholds, references and settings of a cell, but for its arm's own: what cells must share to
    be compared.
    """
    kept = settings_shown.of_cell(cell.path)
    settings = {key: kept.get(key) for key in ("task", "suite", "random", "model", "learner", "algorithms")}
    of_arm = ("budget_env_steps", "adaptation")
    settings |= {k: v for k, v in settings_shown.mapping(kept.get("transfer")).items() if k not in of_arm}
    facts = [cell.clock, cell.thresholds, *(cell.facts.get(key) for key in ("floor", "reference"))]
    return cell.target, *map(str, facts), json.dumps(settings, sort_keys=True, default=str)


def gain_points(runs: Sequence[Run], draw: Bootstrap, thresholds: Sequence[float] = ()) -> list[time_figures.GainPoint]:
    """The primary pair's speed-up per target (at its first threshold) of several runs, against how much
    pretraining each had. ``thresholds``: as in :func:`analyse`.
    """
    points = []
    for report in (analyse(run, draw, thresholds) for run in with_scratch(runs)):
        if not report["primary_pair"] or not report["pretraining"]:
            continue
        arm, base = report["primary_pair"]
        for name, target in report["targets"].items():
            claims = target["arms"].get(arm, {}).get("speedup", {})
            first = target["threshold"]
            claim = claims.get(level(first), {}).get(base) if first is not None else None
            if claim:
                ratio = ls.Ratio(claim["ratio"], claim["lower_bound"], _open(claim["interval"]),
                                 upper_bound=claim["upper_bound"])  # fmt: skip
                points.append(time_figures.GainPoint(report["pretraining"]["env_steps"], name, ratio))
    return points


def tells_of_amounts(points: Sequence[time_figures.GainPoint]) -> bool:
    """Whether a target was learned after different amounts of pretraining, and a speed-up is known after one."""
    amounts: dict[str, set[float]] = {}
    for point in points:
        amounts.setdefault(point.target, set()).add(point.pretraining_env_steps)
    return any(len(steps) > 1 for steps in amounts.values()) and any(p.ratio.value is not None for p in points)


def _open(interval: Sequence[float | None] | None) -> tuple[float, float] | None:
    """An interval of report.json with its open end as inf."""
    if interval is None:
        return None
    low, high = interval
    return low or 0.0, math.inf if high is None else high


def write_gain(points: Sequence[time_figures.GainPoint], runs: Sequence[Path], folder: Path) -> Path:
    """Write ``gain_against_pretraining.png`` and ``.json`` of ``runs`` into ``folder``; returns the picture's
    path. Raises UserError if ``folder`` cannot be written to.
    """
    path = folder / f"{GAIN}.png"
    found = {"runs": [str(run) for run in runs], "points": list(map(dataclasses.asdict, points))}
    try:
        drawing.save_png(time_figures.gain_against_pretraining(points), path)
        atomic_write_bytes(path.with_suffix(".json"), json.dumps(plain(found), indent=1).encode())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return path
