"""From a run to the content of ``report.json``: every target by itself, and what they say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from meta_latent.experiment.report.reading import adaptations
from meta_latent.experiment.report.reading.arms import Bases, compared, in_order, primary_pair, uses_pretraining
from meta_latent.experiment.report.reading.pretrained import Pretraining
from meta_latent.experiment.report.reading.records import number
from meta_latent.experiment.report.reading.settings_shown import planned, uncounted
from meta_latent.experiment.report.reading.sources import Cell, Run
from meta_latent.experiment.report.statistics import same_start
from meta_latent.experiment.report.statistics.numbers import (
    FINAL_EVALUATIONS,
    Bootstrap,
    Question,
    iqm,
    level,
    target_numbers,
)
from meta_latent.ops import learning_speed as ls
from meta_latent.ops.learning_curve import AXES

FORMAT = 2
SAVED = {"env_steps": "break_even", "seconds": "break_even_seconds"}
"""What pretraining can pay for itself in, and under which key it is said when it has."""


def analyse(run: Run, draw: Bootstrap, thresholds: Sequence[float] = ()) -> dict[str, Any]:
    """The content of report.json for ``run``, plain JSON values. ``thresholds``: those to use instead of the
    ones that the runs recorded; of raw returns only where no target has a scale.
    """
    warnings = list(run.notes)
    bases = compared(run.cells, warnings)
    cells = _cell_table(run, bases, warnings)
    cost = _cost(run.pretraining)
    if cost is None and any(uses_pretraining(arm) for arm in bases):
        warnings.append("The cost of pretraining is not recorded in this folder; speed-ups below do not include it.")
    names = dict.fromkeys(cell.target for cell in run.cells)
    groups = {name: [cell for cell in run.cells if cell.target == name] for name in names}
    groups = {name: group for name, group in groups.items() if any(cell.curve for cell in group)}
    scaled = [name for name, group in groups.items() if _question(group, thresholds, [])[0].normalised]
    targets = {}
    for name, group in groups.items():
        question, group = _question(group, thresholds if not scaled or name in scaled else (), warnings)
        targets[name] = target_numbers(question, group, bases, warnings, draw)
        curves = {arm: [c.curve for c in group if c.arm == arm and c.curve] for arm in targets[name]["arms"]}
        compared_with = {arm: entry["base"] for arm, entry in targets[name]["arms"].items() if "base" in entry}
        targets[name] |= same_start.claims(question, curves, compared_with, draw)
        if not question.thresholds:
            targets[name]["uncounted_thresholds"] = [] if question.normalised else uncounted(run, name)
        played = [one for one in run.adaptations if one.target == name]
        targets[name]["adaptations"] = [adaptations.numbers(one, draw) for one in played]
    asked = {name: target for name, target in targets.items() if target["thresholds"]}
    meeting = _compared_somewhere(asked or targets, bases)
    result = {
        "format": FORMAT,
        "run": run.path.resolve().name,
        "targets": targets,
        "pretraining": cost,
        "aggregate": {arm: _aggregate(arm, targets, meeting, cost, draw) for arm in _shown(targets, bases)},
        "primary_pair": primary_pair(meeting, _runs(targets)),
        "cells": cells,
        "warnings": warnings,
        "bootstrap": {"level": ls.LEVEL, "resamples": draw.resamples, "seed": draw.seed},
        "final_score_evaluations": FINAL_EVALUATIONS,
        "thresholds_given": list(thresholds),
    }
    return plain(result)


def plain(value: Any) -> Any:
    """JSON values only: arrays to lists, whole floats to ints, None for NaN and for open (infinite) ends."""
    if isinstance(value, float):  # first, as nearly all are: the curves of a thousand runs are millions
        return None if not math.isfinite(value) else int(value) if value.is_integer() else float(value)
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return plain(value.tolist()) if isinstance(value, np.ndarray | np.generic) else value


def _shown(targets: dict[str, Any], bases: Bases) -> list[str]:
    return [arm for arm in in_order(bases) if any(arm in target["arms"] for target in targets.values())]


def _compared_somewhere(targets: dict[str, Any], bases: Bases) -> dict[str, list[str]]:
    """``bases`` without those that share no target with their arm."""
    together = [set(target["arms"]) for target in targets.values()]
    return {arm: [b for b in bases[arm] if any({arm, b} <= arms for arms in together)] for arm in bases}


def _runs(targets: dict[str, Any]) -> dict[str, int]:
    count: dict[str, int] = {}
    for target in targets.values():
        for arm, entry in target["arms"].items():
            count[arm] = count.get(arm, 0) + len(entry["seeds"])
    return count


def _question(cells: Sequence[Cell], asked: Sequence[float], warnings: list[str]) -> tuple[Question, list[Cell]]:
    """What is asked of a target, and the runs that can answer: those on the clock that most of them use."""
    target, clocks = cells[0].target, [cell.clock for cell in cells]
    clock = max(AXES, key=clocks.count)
    if others := len(cells) - clocks.count(clock):
        warnings.append(f"{target}: {others} runs that do not count in {clock} are left out.")
    cells = [cell for cell in cells if cell.clock == clock]
    floor, reference = (_agreed(cells, key, warnings) for key in ("floor", "reference"))
    thresholds = tuple(sorted(set(asked))) or _thresholds(cells, warnings)
    return Question(target, clock, thresholds, floor, reference), cells


def _agreed(cells: Sequence[Cell], key: str, warnings: list[str]) -> float | None:
    """The value of ``key`` that most runs of a target recorded; a warning if they disagree."""
    values = [number(cell.facts[key]) for cell in cells if key in cell.facts]
    return _most(cells[0].target, key, values, warnings)


def _thresholds(cells: Sequence[Cell], warnings: list[str]) -> tuple[float, ...]:
    """The thresholds that most runs of a target recorded, in order; () where there are none."""
    found = [cell.thresholds for cell in cells if cell.thresholds is not None]
    if not found:
        warnings.append(f"{cells[0].target}: no run records a threshold; nothing can be said about it.")
    return tuple(dict.fromkeys(_most(cells[0].target, "threshold", found, warnings) or ()))


def _most(target: str, key: str, values: list, warnings: list[str]):
    """The most frequent of ``values``, the smallest of equally frequent ones; None if there are none."""
    distinct = sorted(set(values), key=lambda value: (value is None, 0 if value is None else value))
    if len(distinct) > 1:
        shown = ", ".join(_as_text(value) for value in distinct)
        warnings.append(f"{target}: runs disagree about {key} ({shown}); the most frequent value is used.")
    return max(distinct, key=values.count, default=None)


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return " and ".join(map(level, value)) or "none"
    return "none" if value is None else level(value)


def _cost(runs: Sequence[Pretraining]) -> dict[str, Any] | None:
    """Cost of ONE pretraining run (median over its seeds), and what each one measured on held-out data."""
    known = [run for run in runs if run.charged and number(run.facts.get("env_steps")) is not None]
    if not known:
        return None
    result: dict[str, Any] = {
        key: float(np.median([number(run.facts.get(key)) or 0.0 for run in known]))
        for key in ("env_steps", "updates", "seconds")
    }
    hashes = [run.sha256 for run in known]
    cpu = [number(run.facts.get("cpu_seconds")) for run in known]
    result["cpu_seconds"] = None if None in cpu else float(np.median(cpu))
    result["model_sha256"] = hashes[0] if len(hashes) == 1 else hashes
    seeds = [run.seed for run in known]
    # Models from several folders may be of one seed.
    result["seeds"] = [run.seed if seeds.count(run.seed) == 1 else str(run.path) for run in known]
    measured = {name: run.facts.get("held_out") for name, run in zip(result["seeds"], known, strict=True)}
    result["held_out"] = {name: m if isinstance(m, dict) else {} for name, m in measured.items()}
    return result


def break_even(
    saved: Sequence[float | None], pretraining: float, bounded: bool, unit: str = "env_steps"
) -> dict[str, Any]:
    """After how many such targets pretraining has paid for itself: ``ceil(pretraining / mean saved)``.

    ``pretraining``: its cost in ``unit``, "env_steps" or "seconds". ``saved``: per target, base median minus learner
    median, None = no claim. ``targets`` is None, with a ``reason``, when a target has no claim or nothing is saved.
    ``at_most``: savings were lower bounds, as of every claim that is a bound the least that can have been saved counts.
    """
    if not saved or any(steps is None for steps in saved):
        return {"targets": None, "reason": "what was saved on a target is unknown"}
    mean = float(np.mean(saved))
    if mean <= 0:
        words = {"env_steps": "no environment steps were saved", "seconds": "no time was saved"}
        return {"targets": None, "reason": words[unit]}
    return {"targets": math.ceil(pretraining / mean), "at_most": bounded, f"saved_{unit}_per_target": mean}


def _aggregate(
    arm: str, targets: dict[str, Any], meeting: Bases, cost: dict[str, Any] | None, draw: Bootstrap
) -> dict[str, Any]:
    """One arm over all its targets: IQM of final scores, and per place in the lists of thresholds the runs
    that reached it, the chance to be faster, and when pretraining has paid for itself.
    """
    own = {name: target for name, target in targets.items() if arm in target["arms"]}
    strata = [target["arms"][arm]["final_score"] for target in own.values()]
    # Raw returns of different tasks have no common unit to be averaged in.
    # Nor can a target without a finished run be left out of one arm's mean and not of the other's.
    whole = all(any(score is not None for score in stratum) for stratum in strata)
    alike = whole and (len(own) == 1 or all(target["normalised"] for target in own.values()))
    result: dict[str, Any] = {
        "targets": len(own),
        "runs": sum(map(len, strata)),
        "final_score_iqm": iqm([score for stratum in strata for score in stratum]) if alike else None,
        "final_score_interval": draw.interval(strata, ls.iqm, arm, "all") if alike else None,
        "by_threshold": [],
    }
    base = next(iter(meeting[arm]), None)
    for place in range(max((len(target["thresholds"]) for target in own.values()), default=0)):
        found = _at(arm, base, place, own)
        result["by_threshold"].append(found)
        claims = {unit: found.pop(f"claims_{unit}", None) for unit in SAVED}
        for unit, key in SAVED.items() if cost and uses_pretraining(arm) else ():
            if claims[unit]:
                saved = [claim[f"saved_{'steps' if unit == 'env_steps' else unit}"] for claim in claims[unit]]
                bounded = any(claim["lower_bound"] or claim["upper_bound"] for claim in claims[unit])
                found[key] = break_even(saved, cost[unit], bounded, unit)
    return result


def _at(arm: str, base: str | None, place: int, targets: dict[str, Any]) -> dict[str, Any]:
    """What the targets that have a threshold number ``place`` say of ``arm`` against ``base`` there."""
    asked = [(t, t["thresholds"][place]) for t in targets.values() if place < len(t["thresholds"])]
    result: dict[str, Any] = {
        "thresholds": sorted({threshold for _, threshold in asked}),
        "targets": len(asked),
        "runs": sum(len(target["arms"][arm]["seeds"]) for target, _ in asked),
        "reached": sum(target["arms"][arm]["reached"][level(threshold)] for target, threshold in asked),
    }
    shared = [(target, level(threshold)) for target, threshold in asked if base in target["arms"]]
    if not shared:
        return result
    result["base"] = base
    groups = [(_negated_times(t, arm, base, at, failed=True), _negated_times(t, base, arm, at, failed=False))
              for t, at in shared]  # fmt: skip
    # Where no run of either arm arrived, all tie: nothing is known of which is faster.
    told = [pair for pair in groups if all(map(len, pair)) and np.isfinite(np.concatenate(pair)).any()]
    if told:
        result["probability_of_being_faster"] = ls.probability_of_improvement(*zip(*told, strict=True))
        result["probability_targets"] = len(told)
    if all(target["clock"] == "env_steps" for target, _ in shared):  # what pretraining is paid in
        result["claims_env_steps"] = [target["arms"][arm]["speedup"][at][base] for target, at in shared]
    result["claims_seconds"] = [target["arms"][arm]["speedup_seconds"][at][base] for target, at in shared]
    return result


def _negated_times(target: dict[str, Any], arm: str, other: str, at: str, failed: bool) -> np.ndarray:
    """Minus the time to threshold ``at`` within the budget that all runs of the two arms had, -inf = not reached; runs
    cut short left out. ``failed``: those that failed before are no such, as of the arm that is asked about: its few
    runs that are left would look as if all had arrived.
    """
    common = min(budget for name in (arm, other) for budget in target["arms"][name]["budgets"])
    entry, values = target["arms"][arm], []
    runs = (entry["steps_to_thresholds"][at], entry["curve"]["score"], entry["unfinished"], entry["stopped_at"])
    for time, scores, unfinished, stopped_at in zip(*runs, strict=True):
        watched = entry["curve"][target["clock"]][np.isfinite(scores)][-1]
        ended = watched >= common or (failed and not unfinished and stopped_at is None)
        if time is not None and time <= common:
            values.append(-time)
        elif time is not None or ended:
            values.append(-math.inf)
    return np.array(values)


def _cell_table(run: Run, bases: Bases, warnings: list[str]) -> list[dict[str, Any]]:
    """Status of every cell, those included that are missing: planned, or with a seed that another arm has there."""

    def row(target, arm, seed, status, steps=None, error=None, notes=()):
        cell = {"target": target, "arm": arm, "seed": seed, "status": status, "steps": steps}
        return cell | {"error": error, "notes": list(notes)}

    table = []
    for c in run.cells:
        steps, error = None if c.curve is None else c.curve.at[-1], c.facts.get("error")
        error = None if error is None else str(error)
        table.append(row(c.target, c.arm, c.seed, c.status, steps, error, c.notes))
        name = f"{c.target}, {c.arm}, seed {c.seed}"
        if c.status != "done":
            warnings.append(f"{name}: {c.status}" + (f" ({error})" if error else "") + ".")
        warnings.extend(f"{name}: {note}." for note in c.notes)
    present, (arms, planned_seeds) = {(c.target, c.arm, c.seed) for c in run.cells}, planned(run.path)
    every = in_order({**{arm: () for named in arms.values() for arm in named}, **bases})
    for target in dict.fromkeys([*(c.target for c in run.cells), *arms]):
        seeds = list(dict.fromkeys([*(c.seed for c in run.cells if c.target == target), *planned_seeds]))
        begun = {c.arm for c in run.cells if c.target == target}
        for arm in [arm for arm in every if arm in begun or arm in arms.get(target, bases)]:
            missing = [seed for seed in seeds if (target, arm, seed) not in present]
            table += [row(target, arm, seed, "missing") for seed in missing]
            if missing:
                warnings.append(f"{target}, {arm}: not run with seed {', '.join(missing)}.")
    return table
