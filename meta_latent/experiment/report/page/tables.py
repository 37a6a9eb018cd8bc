"""Rows of a page's tables: numbers of report.json as text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from meta_latent.experiment.report.reading.arms import uses_pretraining
from meta_latent.experiment.report.statistics.numbers import SUCCESS_LEVELS, level
from meta_latent.experiment.report.words import lead, text
from meta_latent.experiment.report.words.text import NOTHING, count, interval, score, times


def time_unit(arms: Iterable[dict[str, Any]]) -> text.Unit:
    """The unit of the columns of times to thresholds, wall-clock and CPU, of a table of these arms."""
    found = [bounds for entry in arms for key in ("seconds_to_thresholds", "cpu_seconds_to_thresholds")
             for bounds in entry["medians"].get(key, {}).values()]  # fmt: skip
    return text.unit([end for bounds in found for end in set(bounds or ()) if end])


def speed_row(
    arm: str, entry: dict[str, Any], style: int, at: str, cost: dict | None, clock: str, unit: text.Unit
) -> dict[str, Any]:
    """One arm at one threshold, times in ``unit``."""
    medians, intervals, base = entry["medians"], entry["intervals"], entry.get("base")
    claim, in_time = (entry[key][at].get(base, {}) for key in ("speedup", "speedup_seconds"))
    paid = (NOTHING, NOTHING)
    if cost and claim and uses_pretraining(arm) and not text.unsettled(claim):
        steps = _paid(claim, "saved_steps", cost["env_steps"]) if clock == "env_steps" else NOTHING
        paid = (steps, _paid(in_time, "saved_seconds", cost["seconds"]))
    return {
        "arm": arm, "style": str(style), "base": base or "",
        "steps": text.median(medians["steps_to_thresholds"][at]),
        "steps_interval": interval(intervals["steps_to_thresholds"][at], count),
        "reached": f"{entry['reached'][at]} / {len(entry['seeds'])}",
        "beside": ", ".join(_counted(entry, at)),
        "speedup": text.claim(claim), "speedup_seconds": text.claim(in_time if in_time.get("ratio") else {}),
        "seconds": text.median(medians["seconds_to_thresholds"][at], unit.show),
        "seconds_interval": interval(intervals["seconds_to_thresholds"][at], unit.show),
        "cpu": text.median(medians.get("cpu_seconds_to_thresholds", {}).get(at), unit.show),
        "cpu_interval": interval(intervals.get("cpu_seconds_to_thresholds", {}).get(at), unit.show),
        "break_even": paid,
    }  # fmt: skip


def _counted(entry: dict[str, Any], at: str) -> list[str]:
    """What is to be known of some of an arm's runs: how many are unfinished, or were there from the first."""
    found = ((sum(entry["unfinished"]), "unfinished"), (sum(lead.at_first(entry, at)), "at the first evaluation"))
    return [f"{count} {words}" for count, words in found if count]


def _paid(claim: dict[str, Any], saved: str, price: float) -> str:
    """After how many such targets so much is saved as pretraining took."""
    if claim[saved] is None or text.unsettled(claim):
        return NOTHING
    most = "≤ " if claim["lower_bound"] else ""
    return f"{most}{math.ceil(price / claim[saved]):,}" if claim[saved] > 0 else "never"


def level_row(arm: str, entry: dict[str, Any], style: int) -> dict[str, Any]:
    """One arm by what it scored."""
    medians, intervals, base = entry["medians"], entry["intervals"], entry.get("base")
    return {
        "arm": arm, "style": str(style), "base": base or "",
        "final": score(entry["final_score_iqm"]), "final_interval": interval(intervals["final_score"]),
        "success": text.percent(entry["final_success_iqm"]), "raw": score(entry["final_raw_return_iqm"]),
        "jumpstart": score(medians.get("jumpstart")),
        "jumpstart_interval": interval(intervals.get("jumpstart")),
        "area": times(entry["area_ratio"].get(base)),
        "area_interval": interval(intervals.get("area_ratio"), times),
        "solved": [to_success(entry, level(at)) for at in SUCCESS_LEVELS],
    }  # fmt: skip


def to_success(entry: dict[str, Any], at: str) -> tuple[str, str]:
    """Median steps to success ``at`` and its interval. Runs that stopped at the score's threshold ended before success
    could rise: where they leave the median open, it is no result.
    """
    median, ends = (entry[kind]["steps_to_success"].get(at) for kind in ("medians", "intervals"))
    times = entry["steps_to_success"].get(at, ())
    stopped = any(time is None and end is not None for time, end in zip(times, entry["stopped_at"], strict=False))
    if stopped and median[1] is None:
        return "not known", "runs stop at the score’s threshold"
    return text.median(median), interval(ends, count)


def first_score(entry: dict[str, Any]) -> float | None:
    """The median score of an arm's first evaluations after an update; None: there was none."""
    found = [value for value in entry["first_score"] if value is not None]
    return float(np.median(found)) if found else None


def line_row(line: dict[str, Any], style: int, by_episode: list[dict[str, Any]], show) -> dict[str, Any]:
    """One arm by what it reached in every episode of the trial."""
    cells = [(show(entry["mean"]), interval(entry["interval"], show)) for entry in by_episode]
    return {"arm": line["label"], "style": str(style), "seeds": line["seeds"], "cells": cells}


def aggregate_row(arm: str, entry: dict[str, Any], style: int, targets: dict[str, Any]) -> dict[str, Any]:
    """One arm over all ``targets``: final score, and a line per place in the lists of thresholds."""
    unsettled = [
        [lead.unsettled(targets, arm, found.get("base"), place, key) for key in ("speedup", "speedup_seconds")]
        for place, found in enumerate(entry["by_threshold"])
    ]
    return {
        "arm": arm, "style": str(style), "targets": str(entry["targets"]),
        "final": score(entry["final_score_iqm"]), "final_interval": interval(entry["final_score_interval"]),
        "places": [_aggregate_place(*both) for both in zip(entry["by_threshold"], unsettled, strict=True)],
    }  # fmt: skip


def _aggregate_place(found: dict[str, Any], unsettled: list[bool]) -> dict[str, str]:
    """``unsettled``: whether a target's speed-up is, in steps and in time."""
    chance = found.get("probability_of_being_faster")
    result = None if unsettled[0] else found.get("break_even")
    in_time = None if any(unsettled) else found.get("break_even_seconds")
    told = found.get("probability_targets", found["targets"])
    where = f", {told} of {found['targets']} targets" if told < found["targets"] else ""
    return {
        "thresholds": ", ".join(map(text.threshold, found["thresholds"])),
        "reached": f"{found['reached']} / {found['runs']}",
        "chance": ("unknown" if chance is None else text.percent(chance)) if "base" in found else NOTHING,
        "against": f"against {found.get('base')}{where}" if "base" in found else "",
        "break_even": _targets(result), "break_even_seconds": _targets(in_time),
        "reason": (result or {}).get("reason", ""), "reason_seconds": (in_time or {}).get("reason", ""),
    }  # fmt: skip


def _targets(paid: dict[str, Any] | None) -> str:
    if paid is None:
        return NOTHING
    most = "≤ " if paid.get("at_most") else ""
    return "not shown" if paid["targets"] is None else most + count(paid["targets"])
