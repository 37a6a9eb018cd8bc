"""The numbers of a report: from the cells of a run folder to the content of ``report.json``.

What each number means is defined in :mod:`meta_latent.ops.learning_speed`; this module says which runs
are compared. Every arm ``X/...`` is compared with ``X/scratch``; an arm that replays source data
(``X/...+data``) is compared with ``X/scratch+data`` first, where there is one. A failed or interrupted run
counts with what it showed: censored at its last evaluation, which can only weaken a claim.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from meta_latent.experiment.report.sources import Cell, Pretraining, Run
from meta_latent.ops import learning_speed as ls

FORMAT = 1
FINAL_EVALUATIONS = 2


class Bootstrap:
    """How intervals are drawn: ``resamples``, ``seed``; every quantity has a stream of its own, named by
    text, so that one more arm does not change another arm's interval."""

    def __init__(self, resamples: int = ls.RESAMPLES, seed: int = 0):
        self.resamples, self.seed = resamples, seed

    def rng(self, *names: str) -> np.random.Generator:
        """A fresh generator for the quantity called ``names``."""
        return np.random.default_rng([self.seed, zlib.crc32("\n".join(names).encode())])


def bases(arm: str, arms: Sequence[str]) -> list[str]:
    """The arms that ``arm`` is compared with, the primary one first; none for X/scratch and lone arms."""
    algorithm, start = arm.split("/", 1)
    wanted = [f"{algorithm}/scratch+data"] if start.endswith("+data") else []
    return [base for base in [*wanted, f"{algorithm}/scratch"] if base in arms and base != arm]


def primary_pair(arms: Sequence[str]) -> tuple[str, str] | None:
    """``ivg/pretrained`` and ``ivg/scratch`` where both ran, else another algorithm's pair, else any pair,
    else None.
    """
    pairs = [(arm, bases(arm, arms)[0]) for arm in arms if bases(arm, arms)]
    order = {"ivg/pretrained": 0}
    ranked = sorted(pairs, key=lambda p: (order.get(p[0], 1), not p[0].endswith("/pretrained"), p[0]))
    return ranked[0] if ranked else None


def _agreed(cells: Sequence[Cell], key: str, warnings: list[str], required: bool = True) -> float | None:
    """The value of ``key`` that the cells of one target share; a warning if they disagree or none has it."""
    values = [float(c.facts[key]) for c in cells if isinstance(c.facts.get(key), int | float)]
    distinct = sorted(set(values))
    target = cells[0].target
    if len(distinct) > 1:
        shown = ", ".join(f"{v:g}" for v in distinct)
        warnings.append(f"{target}: runs disagree about {key} ({shown}); the most frequent value is used.")
    if not values and required:
        warnings.append(f"{target}: no finished run records a {key}; nothing can be said about it.")
    return max(distinct, key=values.count) if values else None


def _budget(cells: Sequence[Cell]) -> float:
    named = [
        float(c.facts["budget_env_steps"])
        for c in cells
        if isinstance(c.facts.get("budget_env_steps"), int | float)
    ]
    return max(named, default=0.0) or max(float(c.curve.env_steps[-1]) for c in cells)


def _resolution(curves: Sequence[ls.Curve]) -> float:
    """The evaluation interval: the smallest positive env_steps at which an evaluation was made."""
    positive = [float(c.env_steps[c.env_steps > 0][0]) for c in curves if (c.env_steps > 0).any()]
    return min(positive, default=0.0)


def _curve_table(curves: Sequence[ls.Curve]) -> dict[str, Any]:
    """Raw evaluations on the union of the runs' env_steps; null where a run was not evaluated, nothing
    interpolated.
    """
    grid = np.unique(np.concatenate([c.env_steps for c in curves]))
    tables = {name: np.full((len(curves), grid.size), np.nan) for name in ("updates", "seconds", "scores")}
    for row, curve in enumerate(curves):
        columns = np.searchsorted(grid, curve.env_steps)
        for name, table in tables.items():
            table[row, columns] = getattr(curve, name)
    return {
        "env_steps": grid,
        "updates": np.nanmedian(tables["updates"], axis=0),
        "seconds": np.nanmedian(tables["seconds"], axis=0),
        "score": tables["scores"],
        "seconds_per_seed": tables["seconds"],
    }


def _arm(
    target: str, arm: str, cells: Sequence[Cell], threshold: float | None, draw: Bootstrap
) -> dict[str, Any]:
    """What is known of one arm on one target by itself."""
    curves = [cell.curve for cell in cells]
    final = [ls.final_score(curve, FINAL_EVALUATIONS) for curve in curves]
    result: dict[str, Any] = {
        "seeds": [int(c.seed) if c.seed.isdigit() else c.seed for c in cells],
        "budget_env_steps": _budget(cells),
        "curve": _curve_table(curves),
        "env_steps_to_threshold": [None] * len(cells),
        "seconds_to_threshold": [None] * len(cells),
        "reached": 0,
        "jumpstart": [None] * len(cells),
        "first_score": [float(c.scores[0]) for c in curves],
        "final_score": final,
        "area_ratio": {},
        "speedup": {},
        "medians": {"final_score": float(ls.iqm(np.array(final)))},
        "seconds": [float(c.seconds[-1]) for c in curves],
        "intervals": {
            "final_score": ls.stratified_bootstrap(
                [np.array(final)], ls.iqm, draw.rng(target, arm, "final"), resamples=draw.resamples
            )
        },
    }
    for unit in ("env_steps", "seconds") if threshold is not None else ():
        times, name = ls.Times.of(curves, threshold, unit), f"{unit}_to_threshold"
        result[name] = [float(t) if math.isfinite(t) else None for t in times.upper]
        result["reached"] = int(times.reached.sum())
        low, high = times.median()
        result["medians"][name] = high if low == high else None
        result["medians"][f"{name}_at_least"] = low
        result["intervals"][name] = times.interval(draw.rng(target, arm, name), resamples=draw.resamples)
    return result


def _compare(
    name: tuple[str, str, str],
    result: dict[str, Any],
    own: Sequence[Cell],
    other: Sequence[Cell],
    threshold: float | None,
    draw: Bootstrap,
    primary: bool,
) -> None:
    """Add to ``result`` what is known of one arm against one base arm (``name`` = target, arm, base)."""
    curves, base_curves = [c.curve for c in own], [c.curve for c in other]
    everyone, base = [*curves, *base_curves], name[-1]
    common = ls.common_range(everyone, threshold, min(_budget(own), _budget(other)))
    if common:
        areas = [[ls.mean_score(c, *common, threshold) for c in group] for group in (curves, base_curves)]
        ratio = ls.area_ratio(*areas, draw.rng(*name, "area"), resamples=draw.resamples)
        result["area_ratio"][base] = ratio.value
        if primary:
            result["mean_score"], result["common_range_env_steps"] = areas[0], common
            result["intervals"]["area_ratio"] = ratio.interval
    if primary:
        jumps = [ls.jumpstart(curve, base_curves) for curve in curves]
        result["jumpstart"] = jumps
        if None not in jumps:
            result["medians"]["jumpstart"] = float(np.median(jumps))
            result["intervals"]["jumpstart"] = ls.stratified_bootstrap(
                [np.array(jumps)],
                lambda x: np.median(x, axis=1),
                draw.rng(*name, "jump"),
                resamples=draw.resamples,
            )
        result["base"] = base
    if threshold is None:
        return
    times, base_times = ls.Times.of(curves, threshold), ls.Times.of(base_curves, threshold)
    ratio = ls.speedup(
        times,
        base_times,
        draw.rng(*name, "speedup"),
        resolution=_resolution(everyone),
        resamples=draw.resamples,
    )
    saved = base_times.median()[0] - times.median()[1]
    result["speedup"][base] = {
        "ratio": ratio.value,
        "lower_bound": ratio.lower_bound,
        "interval": ratio.interval,
        "reason": ratio.reason,
        "saved_env_steps": saved if math.isfinite(saved) else None,
    }
    if primary:
        result["intervals"]["speedup"] = ratio.interval


def _target(cells: Sequence[Cell], warnings: list[str], draw: Bootstrap) -> dict[str, Any]:
    target = cells[0].target
    threshold = _agreed(cells, "threshold", warnings)
    floor, reference = (_agreed(cells, key, warnings, required=False) for key in ("floor", "reference"))
    arms: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.curve is not None:
            arms.setdefault(cell.arm, []).append(cell)
    names = sorted(arms, key=arm_order)
    results = {arm: _arm(target, arm, arms[arm], threshold, draw) for arm in names}
    for arm in names:
        for index, base in enumerate(bases(arm, names)):
            _compare(
                (target, arm, base), results[arm], arms[arm], arms[base], threshold, draw, primary=index == 0
            )
        warning = ls.few_seeds_warning(len(arms[arm]), f"{target}, {arm}")
        warnings.extend([warning] if warning else [])
        censored = len(arms[arm]) - results[arm]["reached"]
        if threshold is not None and censored:
            warnings.append(
                f"{target}, {arm}: {censored} of {len(arms[arm])} runs did not reach the threshold."
            )
    return {"threshold": threshold, "floor": floor, "reference": reference, "arms": results}


def arm_order(arm: str) -> tuple:
    """Sort key: by algorithm (ivg first), pretrained before scratch, plain before +data."""
    algorithm, _, start = arm.partition("/")
    order = {"pretrained": 0, "scratch": 1, "policy": 2}
    return (
        algorithm != "ivg",
        algorithm,
        start.endswith("+data"),
        order.get(start.removesuffix("+data"), 3),
        start,
    )


def _pretraining(runs: Sequence[Pretraining]) -> dict[str, Any] | None:
    """Cost of ONE pretraining run (median over its seeds), and what each one measured on held-out data."""
    known = [run for run in runs if isinstance(run.facts.get("env_steps"), int | float)]
    if not known:
        return None
    result: dict[str, Any] = {
        key: float(np.median([float(run.facts.get(key) or 0) for run in known]))
        for key in ("env_steps", "updates", "seconds")
    }
    hashes = [run.facts.get("model_sha256") for run in known]
    result["model_sha256"] = hashes[0] if len(hashes) == 1 else hashes
    result["seeds"] = [run.seed for run in known]
    result["held_out"] = {run.seed: run.facts.get("held_out") or {} for run in known}
    return result


def break_even(
    saved_env_steps: Sequence[float | None], pretraining_env_steps: float, bounded: bool
) -> dict[str, Any]:
    """After how many such targets pretraining has paid for itself: ``ceil(pretraining / mean saved
    env_steps)``.

    ``saved_env_steps``: one per target, base median minus learner median, None = no claim. ``targets`` is
    None, with a ``reason``, when a target has no claim or nothing is saved. ``at_most``: savings were lower
    bounds.
    """
    if not saved_env_steps or any(saved is None for saved in saved_env_steps):
        return {"targets": None, "reason": "a target was not learned, so its saving is unknown"}
    mean = float(np.mean(saved_env_steps))
    if mean <= 0:
        return {"targets": None, "reason": "no environment steps were saved"}
    return {
        "targets": math.ceil(pretraining_env_steps / mean),
        "at_most": bounded,
        "saved_env_steps_per_target": mean,
    }


def _aggregate(
    targets: dict[str, Any], arms: Sequence[str], cost: dict[str, Any] | None, draw: Bootstrap
) -> dict[str, Any]:
    """Per arm over all its targets: IQM of final scores, runs that reached, chance to be faster, pay-back."""
    result = {}
    for arm in arms:
        own = {name: t["arms"][arm] for name, t in targets.items() if arm in t["arms"]}
        strata = [np.array(entry["final_score"]) for entry in own.values()]
        entry: dict[str, Any] = {
            "targets": len(own),
            "runs": sum(len(s) for s in strata),
            "reached": sum(e["reached"] for e in own.values()),
            "final_score_iqm": float(ls.iqm(np.concatenate(strata))),
            "final_score_interval": ls.stratified_bootstrap(
                strata, ls.iqm, draw.rng(arm, "all"), resamples=draw.resamples
            ),
        }
        base = next(iter(bases(arm, arms)), None)
        shared = [
            name for name in own if base in targets[name]["arms"] and targets[name]["threshold"] is not None
        ]
        if base and shared:
            entry["base"] = base
            groups = [[_negated_times(targets[n], a, base) for n in shared] for a in (arm, base)]
            if all(times.size for group in groups for times in group):
                entry["probability_of_being_faster"] = ls.probability_of_improvement(*groups)
            claims = [own[name]["speedup"][base] for name in shared]
            if cost and not arm.split("/", 1)[1].startswith("scratch"):
                bounded = any(claim["lower_bound"] for claim in claims)
                entry["break_even"] = break_even(
                    [c["saved_env_steps"] for c in claims], cost["env_steps"], bounded
                )
        result[arm] = entry
    return result


def _negated_times(target: dict[str, Any], arm: str, base: str) -> np.ndarray:
    """Minus env_steps to threshold within the two arms' common budget, -inf = not reached; runs cut short
    left out.
    """
    common = min(target["arms"][name]["budget_env_steps"] for name in (arm, base) if name in target["arms"])
    entry, values = target["arms"][arm], []
    for time, scores in zip(entry["env_steps_to_threshold"], entry["curve"]["score"], strict=True):
        watched = entry["curve"]["env_steps"][np.isfinite(scores)][-1]
        if time is not None and time <= common:
            values.append(-time)
        elif time is not None or watched >= common:
            values.append(-math.inf)
    return np.array(values)


def _cell_table(run: Run, warnings: list[str]) -> list[dict[str, Any]]:
    """Status of every cell, those included that are missing: a seed that another arm of the target has."""

    def row(target, arm, seed, status, env_steps=None, error=None, notes=()):
        cell = {"target": target, "arm": arm, "seed": seed, "status": status, "env_steps": env_steps}
        return cell | {"error": error, "notes": list(notes)}

    table = []
    for c in run.cells:
        steps = None if c.curve is None else c.curve.env_steps[-1]
        table.append(row(c.target, c.arm, c.seed, c.status, steps, c.facts.get("error"), c.notes))
        name = f"{c.target}, {c.arm}, seed {c.seed}"
        if c.status != "done":
            error = c.facts.get("error")
            warnings.append(f"{name}: {c.status}" + (f" ({error})" if error else "") + ".")
        warnings.extend(f"{name}: {note}." for note in c.notes)
    present = {(c.target, c.arm, c.seed) for c in run.cells}
    for target in dict.fromkeys(c.target for c in run.cells):
        seeds = list(dict.fromkeys(c.seed for c in run.cells if c.target == target))
        for arm in sorted({c.arm for c in run.cells}, key=arm_order):
            missing = [seed for seed in seeds if (target, arm, seed) not in present]
            table += [row(target, arm, seed, "missing") for seed in missing]
            if missing:
                warnings.append(f"{target}, {arm}: not run with seed {', '.join(missing)}.")
    return table


def plain(value: Any) -> Any:
    """JSON values only: arrays to lists, whole floats to ints, None for NaN and for open (infinite) ends."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return None if not math.isfinite(value) else int(value) if float(value).is_integer() else float(value)
    return value.item() if isinstance(value, np.generic) else value


def analyse(run: Run, draw: Bootstrap) -> dict[str, Any]:
    """The content of report.json for ``run``, plain JSON values."""
    warnings: list[str] = []
    by_target: dict[str, list[Cell]] = {}
    for cell in run.cells:
        by_target.setdefault(cell.target, []).append(cell)
    cells = _cell_table(run, warnings)
    cost = _pretraining(run.pretraining)
    if cost is None and any(not c.arm.split("/")[1].startswith("scratch") for c in run.cells):
        warnings.append(
            "The cost of pretraining is not recorded in this folder; speed-ups below do not include it."
        )
    targets = {
        name: _target(group, warnings, draw)
        for name, group in by_target.items()
        if any(c.curve for c in group)
    }
    arms = sorted({arm for target in targets.values() for arm in target["arms"]}, key=arm_order)
    result = {
        "format": FORMAT,
        "run": run.path.resolve().name,
        "targets": targets,
        "pretraining": cost,
        "aggregate": _aggregate(targets, arms, cost, draw),
        "primary_pair": primary_pair(arms),
        "cells": cells,
        "warnings": warnings,
        "bootstrap": {"level": ls.LEVEL, "resamples": draw.resamples, "seed": draw.seed},
        "final_score_evaluations": FINAL_EVALUATIONS,
    }
    return plain(result)
