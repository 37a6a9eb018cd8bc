"""What is said of algorithms that start alike: a few sentences for the summary, and a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meta_latent.experiment.report.reading.arms import split
from meta_latent.experiment.report.statistics.numbers import level
from meta_latent.experiment.report.words import text
from meta_latent.experiment.report.words.text import CLOCKS
from meta_latent.ops import learning_speed as ls

MOST = 6
"""Comparisons that the summary tells one by one, and rows of a table that lie open."""


def table(target: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows by start: ``start`` and ``rows``, each two ``algorithms`` and a cell per threshold, as `told`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for pair in target.get("same_start", ()):
        algorithms = " and ".join(split(arm)[0] for arm in pair["arms"])
        cells = [told(pair["speedup"][level(at)]) for at in target["thresholds"]]
        found.setdefault(pair["start"], []).append({"algorithms": algorithms, "cells": cells})
    return [{"start": start, "rows": rows} for start, rows in found.items()]


def told(claim: Mapping[str, Any]) -> tuple[str, str]:
    """(which algorithm was faster and how many times, its interval), or that it is unsettled, and by what medians."""
    said, detail = text.claim(claim)
    if claim["ratio"] is None:
        return said, "neither median run arrived" if claim["reason"] == ls.MISSED else detail
    name = f"{split(claim['arm'])[0]} " * (claim["ratio"] != 1)
    if _settled(claim):
        return name + said, detail
    by_medians = detail if said == text.UNSETTLED else f"{said} by the medians; {detail}"
    return text.UNSETTLED, name + by_medians


def sentences(report: dict[str, Any]) -> list[str]:
    """Per target what is known at its first threshold of algorithms that start alike, and of what pretraining gave
    those that the main pair is not about; of more than `MOST` comparisons how many are settled.
    """
    found = {name: compared for name, t in report["targets"].items() if (compared := _compared(report, t))}
    every = [claim for compared in found.values() for claim in compared]
    if len(every) > MOST:
        settled = sum(map(_settled, every))
        own = any(split(claim["arm"])[1] != split(claim["base"])[1] for claim in every)
        others = ", and of other algorithms with their own start from scratch," * own
        return [f"Of {len(every)} comparisons of algorithms that start alike{others} {settled} "
                f"{'is' if settled == 1 else 'are'} settled at the first threshold; the tables of each target say "
                "which."]  # fmt: skip
    said = []
    for name, compared in found.items():
        target = report["targets"][name]
        place = f"in {CLOCKS[target['clock']]} to score {text.threshold(target['thresholds'][0])}"
        said.append(f"On {name}, {place}: {'; '.join(map(_clause, compared))}.")
    return said


def seeds(report: dict[str, Any]) -> list[int]:
    """How many runs each of the arms has that `sentences` compares."""
    every = [(target, claim) for target in report["targets"].values() for claim in _compared(report, target)]
    return [len(target["arms"][claim[one]]["seeds"]) for target, claim in every for one in ("arm", "base")]


def _compared(report: dict[str, Any], target: dict[str, Any]) -> list[dict[str, Any]]:
    """Claims at the first threshold, each with its ``arm`` and ``base``."""
    found, pair = [], report["primary_pair"]
    alike = target.get("same_start", ())  # older reports have none
    if not alike or not target["thresholds"]:
        return []
    at, others = level(target["thresholds"][0]), {arm for two in alike for arm in two["arms"]}
    for arm, entry in target["arms"].items():
        if pair and arm in others and arm != pair[0] and split(arm)[1] == split(pair[0])[1] and "base" in entry:
            asked = {"arm": arm, "base": entry["base"], **entry["speedup"][at][entry["base"]]}
            found.append(target.get("base_speedup", {}).get(arm, {}).get(at, asked))
    return [*found, *(two["speedup"][at] for two in alike)]


def _clause(claim: Mapping[str, Any]) -> str:
    arm, base = claim["arm"], claim["base"]
    said, detail = text.claim(claim)
    if _settled(claim):
        return f"{arm} was {'faster' if claim['ratio'] > 1 else 'slower'} than {base}, {said} ({detail})"
    if claim["ratio"] is None:
        return f"whether {arm} or {base} is faster is not known"
    return f"whether {arm} or {base} is faster is unsettled ({told(claim)[1]})"


def _settled(claim: Mapping[str, Any]) -> bool:
    """Whether the interval excludes 1."""
    low, high = claim["interval"] or (None, None)
    return bool(low and low > 1) or (high is not None and high < 1)
