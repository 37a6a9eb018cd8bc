"""The numbers of a sweep: every variant's arms over all pretrainings and runs, and their comparisons.

A line is one arm of one group: a variant with all its seeds of pretraining. Runs that variants share count once. Runs
that are unfinished have no final score, and count in times to thresholds alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from meta_latent.experiment.report.reading.arms import compared, in_order, uses_pretraining
from meta_latent.experiment.report.reading.records import number
from meta_latent.experiment.report.reading.sources import UNFINISHED, Cell, read_run
from meta_latent.experiment.report.statistics import sweep_times
from meta_latent.experiment.report.statistics.numbers import FINAL_EVALUATIONS, Bootstrap, success_curves
from meta_latent.ops import hierarchical
from meta_latent.ops import learning_speed as ls

LEVELS = 101
"""At how many scores performance profiles are read."""


@dataclass(frozen=True)
class Group:
    """A variant with all its pretrainings: the cells of their folders, each run once."""

    name: str
    variants: tuple[str, ...]
    cells: tuple[Cell, ...]


def groups_of(root: Path, variants: Sequence[Mapping[str, Any]], warnings: list[str]) -> list[Group]:
    """The groups of the sweep in `root`, in the order of its `variants` (name, group, values of each)."""
    names: dict[str, list[str]] = {}
    for variant in variants:
        names.setdefault(variant["group"], []).append(variant["name"])
    found = []
    for group, members in names.items():
        cells: dict[Path, Cell] = {}
        for member in members:
            for cell in read_run(root / member).cells:
                if cell.path.resolve() not in cells:
                    cells[cell.path.resolve()] = cell
                    warnings.extend(f"{member}, {cell.target}, {cell.arm}, seed {cell.seed}: {note}."
                                    for note in cell.notes)  # fmt: skip
        found.append(Group(group, tuple(members), tuple(cells.values())))
    return found


def asked(groups: Sequence[Group], thresholds: Sequence[float]) -> list[Group]:
    """The same, asked about these thresholds: scores, where there are such, else raw returns."""
    scaled = any(_normalised([cell]) for group in groups for cell in group.cells)
    found = []
    for group in groups:
        cells = (replace(cell, facts=cell.facts | {"thresholds": list(thresholds)})
                 if _normalised([cell]) or not scaled else cell for cell in group.cells)  # fmt: skip
        found.append(replace(group, cells=tuple(cells)))
    return found


def levels(groups: Sequence[Group]) -> np.ndarray:
    """(LEVELS,) scores at which profiles are read: from 0 or the lowest final score to 1 or the highest."""
    cells = [cell for group in groups for cell in group.cells if cell.curve is not None and not cell.curve.unfinished]
    finals = [_final(cell) for cell in cells if _normalised([cell])]
    return np.linspace(min([0.0, *finals]), max([1.0, *finals]), LEVELS)


def group_numbers(group: Group, draw: Bootstrap, at: np.ndarray, warnings: list[str]) -> dict[str, Any]:
    """Of every arm of a group: what it scored per target and over all, with hierarchical intervals.

    at: the `levels` of the whole sweep.
    """
    result = {}
    for arm in in_order(compared(group.cells, [])):
        begun = [cell for cell in group.cells if cell.arm == arm and cell.curve is not None]
        own = [cell for cell in begun if not cell.curve.unfinished]
        if not own:
            if begun:
                are = "its 1 run is" if len(begun) == 1 else f"all of its {len(begun)} runs are"
                warnings.append(f"{group.name}, {arm}: {are} unfinished.")
            continue
        tasks, seen = tasks_of(own), by_target(begun)
        targets = {name: _target(name, cells, seen[name], draw, (group.name, arm))
                   for name, cells in by_target(own).items()}  # fmt: skip
        alike = len(targets) == 1 or all(target["normalised"] for target in targets.values())
        models = len({_model(cell) for cell in own})
        result[arm] = {
            "runs": len(own), "pretrainings": models if uses_pretraining(arm) else 0, "targets": targets,
            "final_score_iqm": float(hierarchical.iqm(hierarchical.as_samples(tasks))[0]) if alike else None,
            "final_score_interval": _iqm_interval(tasks, draw, group.name, arm, "all") if alike else None,
            "final_success_iqm": _success(own),
            "profile": _profile(tasks, draw, at, group.name, arm) if alike and _normalised(own) else None,
        }  # fmt: skip
        warnings += _warnings(f"{group.name}, {arm}", result[arm], begun)
    return result


def by_target(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Target -> its cells."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.target, []).append(cell)
    return found


def tasks_of(cells: Sequence[Cell], targets: Sequence[str] | None = None) -> list[list[np.ndarray]]:
    """Final scores per target and pretrained model, as `ops.hierarchical` takes them."""
    models = list(dict.fromkeys(map(_model, cells)))
    groups = by_target(cells)
    return [[np.array([_final(cell) for cell in groups[target] if _model(cell) == model]) for model in models]
            for target in (groups if targets is None else targets)]  # fmt: skip


def comparisons(groups: Sequence[Group], draw: Bootstrap) -> list[dict[str, Any]]:
    """How each arm compares with its base within a group, and with itself in the first group: the probability that it
    scores higher, and on each target how many times faster it reached thresholds (``speedup``).
    """
    found = []
    for group in groups:
        bases = compared(group.cells, [])
        for arm in in_order(bases):
            pairs = [((group, arm), (group, base)) for base in bases[arm][:1]]
            if group is not groups[0]:
                pairs.append(((group, arm), (groups[0], arm)))
            found += [told for pair in pairs if (told := _compare(*pair, draw))]
    return found


def _compare(learner: tuple[Group, str], base: tuple[Group, str], draw: Bootstrap) -> dict[str, Any] | None:
    """None where the two share no target, or all their runs."""
    begun = [[c for c in g.cells if c.arm == arm and c.curve is not None] for g, arm in (learner, base)]
    own, other = ([c for c in cells if not c.curve.unfinished] for cells in begun)
    shared = [target for target in by_target(own) if target in by_target(other)]
    if not shared or {c.path.resolve() for c in own} == {c.path.resolve() for c in other}:
        return None
    told = {"group": learner[0].name, "arm": learner[1], "base_group": base[0].name, "base": base[1]}
    names = tuple(told.values())
    seen = [by_target(cells) for cells in begun]
    faster = {target: sweep_times.speedups(*(cells[target] for cells in seen), draw, *names, target)
              for target in shared if seen[0][target][0].clock == seen[1][target][0].clock}  # fmt: skip
    pair = [tasks_of([c for c in cells if c.target in shared], shared) for cells in (own, other)]
    chance = hierarchical.improvement(*map(hierarchical.as_samples, pair))[0]
    return told | {"targets": len(shared), "probability": float(chance),
                   "interval": _chance_interval(pair, draw, told), "speedup": faster}  # fmt: skip


def _chance_interval(pair, draw: Bootstrap, told: Mapping[str, Any]) -> tuple[float, float] | None:
    if any(sum(map(np.size, task)) < 2 for tasks in pair for task in tasks):
        return None
    rng = draw.rng("improvement", *(str(told[key]) for key in ("group", "arm", "base_group", "base")))
    drawn = hierarchical.improvement(*(hierarchical.draws(tasks, rng, draw.resamples) for tasks in pair))
    drawn = drawn[np.isfinite(drawn)]
    return ls.percentile_interval(drawn) if drawn.size else None


def _target(
    name: str, cells: Sequence[Cell], seen: Sequence[Cell], draw: Bootstrap, line: tuple[str, str]
) -> dict[str, Any]:
    """One arm on one target. ``seen``: also the runs that are unfinished."""
    tasks = tasks_of(cells)
    result: dict[str, Any] = {
        "runs": [{"folder": cell.path.name, "variant": _variant(cell), "status": cell.status,
                  "final_score": _final(cell), "model_sha256": cell.facts.get("model_sha256")} for cell in cells],
        "normalised": _normalised(cells), "clock": cells[0].clock,
        "thresholds": sweep_times.times(seen, draw, *line, name),
        "final_score_iqm": float(hierarchical.iqm(hierarchical.as_samples(tasks))[0]),
        "final_score_interval": _iqm_interval(tasks, draw, *line, name), "final_success_iqm": _success(cells),
    }  # fmt: skip
    return result


def _iqm_interval(tasks, draw: Bootstrap, *names: str) -> tuple[float, float] | None:
    rng = draw.rng("sweep", *names)
    return hierarchical.bootstrap(tasks, hierarchical.iqm, rng, resamples=draw.resamples)


def _profile(tasks, draw: Bootstrap, at: np.ndarray, *names: str) -> dict[str, Any]:
    """Where profiles are read, the profile and its band (None: single runs)."""
    share = hierarchical.profile(hierarchical.as_samples(tasks), at)[0]
    band = hierarchical.profile_band(tasks, at, draw.rng("profile", *names), resamples=draw.resamples)
    low, high = (None, None) if band is None else band
    return {"levels": at, "share": share, "low": low, "high": high}


def _warnings(line: str, told: Mapping[str, Any], cells: Sequence[Cell]) -> list[str]:
    fewest = min(len(target["runs"]) for target in told["targets"].values())
    found = [ls.few_seeds_warning(fewest, line)]
    if told["pretrainings"] == 1:
        found.append(f"{line}: one pretrained model; its own luck is in no interval.")
    unfinished, failed = (sum(cell.status in statuses for cell in cells) for statuses in (UNFINISHED, ("failed",)))
    if unfinished:
        found.append(f"{line}: {unfinished} of {len(cells)} runs are unfinished and have no final score.")
    if failed:
        found.append(f"{line}: {failed} of {len(cells)} runs failed and count with what they showed.")
    return [text for text in found if text]


def _model(cell: Cell) -> str | None:
    return cell.facts.get("model_sha256")


def _final(cell: Cell) -> float:
    return ls.final_score(cell.curve, FINAL_EVALUATIONS)


def _success(cells: Sequence[Cell]) -> float | None:
    """Share of episodes that end solved, as the final score is made; None where a run did not record it."""
    curves = success_curves(cells)
    return float(ls.iqm([ls.final_score(curve, FINAL_EVALUATIONS) for curve in curves])) if curves else None


def _normalised(cells: Sequence[Cell]) -> bool:
    return all(number(cell.facts.get("reference")) is not None for cell in cells)


def _variant(cell: Cell) -> str:
    """The name of the variant in whose folder a cell stands."""
    return cell.path.parents[4].name


def counts(groups: Sequence[Group]) -> dict[str, int]:
    """Status -> number of runs."""
    statuses = [cell.status for cell in dict((c.path.resolve(), c) for g in groups for c in g.cells).values()]
    return {status: statuses.count(status) for status in sorted(set(statuses))}
