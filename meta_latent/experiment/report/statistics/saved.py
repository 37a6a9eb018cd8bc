"""Reading ``report.json`` again, also that of an older version: always in the form of the present one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meta_latent import files
from meta_latent.errors import UserError
from meta_latent.experiment.report.statistics.analysis import FORMAT
from meta_latent.experiment.report.statistics.numbers import level


def read(path: str | Path) -> dict[str, Any]:
    """The content of the ``report.json`` at ``path``.

    Raises UserError if there is none, or it is damaged or of an unknown format.
    """
    path = Path(path)
    try:
        report = files.from_json(files.read_bytes(path))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run meta-latent report {path.parent} first") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): write it again, meta-latent report") from error
    try:
        return upgraded(report)
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}): write it again, meta-latent report") from error


def upgraded(report: dict[str, Any]) -> dict[str, Any]:
    """``report``, of format 1 or 2, in format 2; the argument is left as it is. Raises UserError."""
    if report.get("format") == FORMAT:
        return report
    if report.get("format") != 1:
        raise UserError(f"report.json has format {report.get('format')!r}, expected 1 or {FORMAT}")
    ends = {(c["target"], c["arm"], c["seed"]): c["env_steps"] for c in report["cells"] if c["status"] == "done"}
    targets = {name: _target(name, target, ends) for name, target in report["targets"].items()}
    places = {name: target["thresholds"] for name, target in targets.items()}
    aggregate = {
        arm: _aggregate(entry, sorted({t for n in places for t in places[n] if arm in targets[n]["arms"]}))
        for arm, entry in report["aggregate"].items()
    }
    cells = [_renamed(cell, {"env_steps": "steps"}) for cell in report["cells"]]
    changed = {"format": FORMAT, "targets": targets, "aggregate": aggregate, "cells": cells}
    return {**report, **changed, "thresholds_given": []}


def _renamed(entry: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in entry.items()}


Ends = dict[tuple[str, str, str], int]
"""The last step of every run that has finished, by target, arm and seed."""


def _target(name: str, target: dict[str, Any], ends: Ends) -> dict[str, Any]:
    thresholds = [] if target["threshold"] is None else [target["threshold"]]
    arms = {arm: _arm(entry, thresholds, [ends.get((name, arm, str(seed))) for seed in entry["seeds"]])
            for arm, entry in target["arms"].items()}  # fmt: skip
    facts = {"thresholds": thresholds, "clock": "env_steps", "episodes_per_trial": 1, "test_tasks": 0,
             "max_episode_steps": 0, "adaptations": []}  # fmt: skip
    facts["normalised"] = None not in (target["floor"], target["reference"])
    return {**target, **facts, "arms": arms}


def _stopped_at(arm: dict[str, Any], thresholds: list[float], ends: list[int | None]) -> list[float | None]:
    """What was not told: a finished run that held its one threshold before its budget was spent stopped there."""
    times, budget = arm["env_steps_to_threshold"], arm["budget_env_steps"]
    return [thresholds[0] if time is not None and end is not None and end < budget else None
            for time, end in zip(times, ends, strict=True)]  # fmt: skip


def _arm(arm: dict[str, Any], thresholds: list[float], ends: list[int | None]) -> dict[str, Any]:
    """One threshold's values become mappings from that threshold; what was not recorded is empty. ends: of each seed's
    run, None where it has not finished.
    """

    def at(value):
        return {level(threshold): value for threshold in thresholds}

    empty, medians = [None] * len(arm["seeds"]), dict(arm["medians"])
    intervals, names = dict(arm["intervals"]), {"budget_env_steps": "budget"}
    names["common_range_env_steps"] = "common_range"
    new = {**_renamed(arm, names), "budget_env_steps": arm["budget_env_steps"]}
    for old, key in (("env_steps", "steps_to_thresholds"), ("seconds", "seconds_to_thresholds")):
        exact = medians.pop(f"{old}_to_threshold", None)
        medians[key] = at([medians.pop(f"{old}_to_threshold_at_least", None), exact])
        intervals[key] = at(intervals.pop(f"{old}_to_threshold", None))
        new[key] = at(arm[f"{old}_to_threshold"])
    claims = {base: _renamed(c, {"saved_env_steps": "saved_steps"}) for base, c in arm["speedup"].items()}
    new |= {"speedup": at(claims), "reached": at(arm["reached"])}
    new["final_score_iqm"] = medians.pop("final_score")  # it was called a median and was none
    new |= {"steps_to_success": {}, "final_success": empty, "final_success_iqm": None, "metrics": {}}
    new |= {"inspected": {}}
    new |= {key: empty for key in ("returns_by_episode", "success_by_episode", "score_by_task")}
    if len(arm["seeds"]) == 1:  # it was given intervals of no width
        intervals = {key: at(None) if isinstance(ends, dict) else None for key, ends in intervals.items()}
        new["speedup"] = at({base: claim | {"interval": None} for base, claim in claims.items()})
    new |= {"stopped_at": _stopped_at(arm, thresholds, ends), "unfinished": [False] * len(arm["seeds"])}
    return new | {"medians": medians, "intervals": intervals}


def _aggregate(entry: dict[str, Any], thresholds: list[float]) -> dict[str, Any]:
    moved = ("reached", "base", "probability_of_being_faster", "break_even")
    found = {key: entry[key] for key in moved if key in entry}
    found |= {"thresholds": thresholds, "targets": entry["targets"], "runs": entry["runs"]}
    rest = {key: value for key, value in entry.items() if key not in moved}
    return rest | {"by_threshold": [found] if thresholds else []}
