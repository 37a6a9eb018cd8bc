"""The numbers of one target: what is known of each arm by itself, and of each against the arm it is compared
with.

What each number means is defined in :mod:`meta_latent.ops.learning_speed`; which arms are compared, in
:mod:`meta_latent.experiment.report.reading.arms`. Whatever depends on a threshold is a mapping from the threshold,
written as text, to the value. A failed run counts with what it showed: censored at its last evaluation, which can
only weaken a claim. An unfinished one has no final score, and is left out of times from its last evaluation on.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from meta_latent.errors import counted
from meta_latent.experiment.report.reading.arms import Bases, in_order
from meta_latent.experiment.report.reading.records import number, numbers
from meta_latent.experiment.report.reading.sources import Cell
from meta_latent.ops import learning_speed as ls
from meta_latent.ops.learning_curve import UNITS, Curve, held_at_first

FINAL_EVALUATIONS = 2
SUCCESS_LEVELS = (0.5, 0.8)


class Bootstrap:
    """How intervals are drawn: ``resamples``, ``seed``; every quantity has a stream of its own, named by
    text, so that one more arm does not change another arm's interval."""

    def __init__(self, resamples: int = ls.RESAMPLES, seed: int = 0):
        self.resamples, self.seed = resamples, seed

    def rng(self, *names: str) -> np.random.Generator:
        """A fresh generator for the quantity called ``names``."""
        return np.random.default_rng([self.seed, zlib.crc32("\n".join(names).encode(errors="replace"))])

    def interval(self, strata: Sequence[Sequence[float]], statistic, *names: str):
        """Interval of ``statistic`` over ``strata`` of runs, one per task, without values that are None; None where it
        cannot be drawn.
        """
        arrays = [np.array([value for value in stratum if value is not None]) for stratum in strata]
        if not all(map(np.size, arrays)):
            return None
        return ls.stratified_bootstrap(arrays, statistic, self.rng(*names), resamples=self.resamples)


@dataclass(frozen=True)
class Question:
    """What is asked of one target: its name, clock, thresholds, and the raw returns that are 0 and 1 (None
    where the task has no scale: scores are then raw returns)."""

    target: str
    clock: str
    thresholds: tuple[float, ...]
    floor: float | None
    reference: float | None

    @property
    def normalised(self) -> bool:
        """Whether scores are normalised; raw returns otherwise."""
        return None not in (self.floor, self.reference) and self.floor != self.reference


def level(threshold: float) -> str:
    """A threshold as the key of a mapping: 0.5 -> '0.5'."""
    short = f"{threshold:g}"
    return short if float(short) == threshold else repr(float(threshold))


def budget_of(cells: Sequence[Cell]) -> float:
    """The largest recorded budget of ``cells``, in units of their clock; else how far the longest went."""
    return max((c.budget or 0.0 for c in cells), default=0.0) or max(float(c.curve.at[-1]) for c in cells)


def resolution(curves: Sequence[Curve], unit: str) -> float:
    """The evaluation interval: the smallest positive place, in ``unit``, at which an evaluation was made."""
    places = [getattr(curve, unit) for curve in curves]
    return min((float(at[at > 0][0]) for at in places if (at > 0).any()), default=0.0)


def _curve_table(cells: Sequence[Cell]) -> dict[str, Any]:
    """Raw evaluations on the union of the runs' places; null where a run was not evaluated, nothing
    interpolated. The clocks other than the curves' axis are medians over the runs.
    """
    grid = np.unique(np.concatenate([c.curve.at for c in cells]))
    names = (*UNITS, "scores")
    tables = {name: np.full((len(cells), grid.size), np.nan) for name in (*names, "success", "raw_return")}
    for row, cell in enumerate(cells):
        columns = np.searchsorted(grid, cell.curve.at)
        for name in names:
            tables[name][row, columns] = getattr(cell.curve, name)
        tables["success"][row, columns] = cell.log.success
        tables["raw_return"][row, columns] = cell.log.raw_return
    clocks = {name: np.nanmedian(tables[name], axis=0) for name in UNITS} | {cells[0].curve.axis: grid}
    shown = {"score": tables["scores"], "success": tables["success"], "raw_return": tables["raw_return"]}
    shown["seconds_per_seed"] = tables["seconds"]
    return clocks | shown


def _metrics(cells: Sequence[Cell], clock: str) -> dict[str, Any]:
    """Per declared metric its meaning, its mean over the last interval between evaluations, and over each."""
    declared: dict[str, str] = {}
    for cell in cells:
        named = cell.facts.get("metrics")
        declared |= {str(k): str(v) for k, v in named.items()} if isinstance(named, dict) else {}
    grid = sorted({record[clock] for cell in cells for record in cell.log.train})
    result = {}
    for name, meaning in declared.items():
        found = [{r[clock]: number(r.get(name)) for r in cell.log.train} for cell in cells]
        values = [[by_place.get(place) for place in grid] for by_place in found]
        last = [next((v for v in reversed(row) if v is not None), None) for row in values]
        if any(value is not None for value in last):
            result[name] = {"meaning": meaning, "last": last, "steps": grid, "values": values}
    return result


def _inspected(cells: Sequence[Cell]) -> dict[str, Any]:
    """Per name its meaning, and per run what its last evaluation told along a trial, one number per observation."""
    meanings: dict[str, str] = {}
    rows = []
    for cell in cells:
        declared, told = cell.facts.get("inspects"), cell.log.last.get("inspected")
        meanings |= {str(k): str(v) for k, v in declared.items()} if isinstance(declared, dict) else {}
        told = told if isinstance(told, dict) else {}
        rows.append({str(k): [number(v) for v in values] for k, values in told.items() if isinstance(values, list)})
    names = dict.fromkeys(name for row in rows for name in row)
    return {n: {"meaning": meanings.get(n, ""), "values": [row.get(n) for row in rows]} for n in names}


def success_curves(cells: Sequence[Cell]) -> list[Curve]:
    """Success as if it were the score; [] where a run did not record it."""
    whole = all(np.isfinite(cell.log.success).all() for cell in cells)
    return [dataclasses.replace(c.curve, scores=c.log.success) for c in cells] if whole else []


def cpu_curves(cells: Sequence[Cell]) -> list[Curve]:
    """CPU time as if it were the time that passed; [] where a run did not record it."""
    whole = all(np.isfinite(cell.log.cpu_seconds).all() for cell in cells)
    return [dataclasses.replace(c.curve, seconds=c.log.cpu_seconds) for c in cells] if whole else []


def _final(curve: Curve) -> float | None:
    """Of one run; None where its end is still to come."""
    return None if curve.unfinished else ls.final_score(curve, FINAL_EVALUATIONS)


def iqm(values: Sequence[float | None]) -> float | None:
    """Interquartile mean of those that have a value; None where none has."""
    known = [value for value in values if value is not None]
    return float(ls.iqm(np.array(known))) if known else None


def _final_raw_return(cells: Sequence[Cell]) -> list[float | None]:
    """Per run the mean raw return of its last evaluations, as many as make its final score; None = not recorded, or
    unfinished.
    """
    last = [(cell.log.raw_return[-FINAL_EVALUATIONS:], cell.curve.unfinished) for cell in cells]
    return [float(raw.mean()) if np.isfinite(raw).all() and not cut else None for raw, cut in last]


def _by_episode(cells: Sequence[Cell], key: str) -> list[tuple[float, ...] | None]:
    """Per run what its last evaluation recorded per episode of a trial, or per task."""
    return [numbers(cell.log.last.get(key)) for cell in cells]


def _arm(question: Question, arm: str, cells: Sequence[Cell], draw: Bootstrap) -> dict[str, Any]:
    """What is known of one arm on one target by itself."""
    curves, success = [cell.curve for cell in cells], success_curves(cells)
    final, solved = ([_final(c) for c in group] for group in (curves, success))
    raw, ended = _final_raw_return(cells), [cell for cell in cells if not cell.curve.unfinished]
    result: dict[str, Any] = {
        "seeds": [int(c.seed) if c.seed.isdecimal() else c.seed for c in cells],
        "budget": budget_of(cells),
        "budgets": [c.budget or budget_of(cells) for c in cells],
        "stopped_at": [curve.stopped_at for curve in curves],
        "unfinished": [curve.unfinished for curve in curves],
        "curve": _curve_table(cells),
        "reached": {},
        "at_first_evaluation": {level(t): [held_at_first(c, t) for c in curves] for t in question.thresholds},
        "jumpstart": [None] * len(cells),
        "first_score": [float(c.scores[c.trained][0]) if c.trained.any() else None for c in curves],
        "final_score": final,
        "final_score_iqm": iqm(final),
        "final_success": solved or [None] * len(cells),
        "final_success_iqm": iqm(solved),
        "final_raw_return": raw,
        "final_raw_return_iqm": None if None in _final_raw_return(ended) else iqm(raw),
        "area_ratio": {},
        "speedup": {level(threshold): {} for threshold in question.thresholds},
        "speedup_seconds": {level(threshold): {} for threshold in question.thresholds},
        "speedup_cpu_seconds": {level(threshold): {} for threshold in question.thresholds},
        "seconds": [float(c.seconds[-1]) for c in curves],
        "returns_by_episode": _by_episode(cells, "returns_by_episode"),
        "success_by_episode": _by_episode(cells, "success_by_episode") if success else [None] * len(cells),
        "score_by_task": _by_episode(cells, "score_by_task"),
        "metrics": _metrics(cells, question.clock),
        "inspected": _inspected(cells),
        "medians": {},
        "intervals": {"final_score": draw.interval([final], ls.iqm, question.target, arm, "final")},
    }
    name = (question.target, arm)
    for key, unit in (("steps_to_thresholds", question.clock), ("seconds_to_thresholds", "seconds")):
        _add_times(result, key, unit, curves, question.thresholds, draw, name)
    cpu = cpu_curves(cells)
    _add_times(result, "cpu_seconds_to_thresholds", "seconds", cpu, question.thresholds if cpu else (), draw, name)
    reached = {key: sum(t is not None for t in times) for key, times in result["steps_to_thresholds"].items()}
    result["reached"] = reached
    # The first threshold's times under the names that format 1 had.
    first = level(question.thresholds[0]) if question.thresholds else None
    for name_1, key in ((f"{question.clock}_to_threshold", "steps_to_thresholds"),
                        ("seconds_to_threshold", "seconds_to_thresholds")):  # fmt: skip
        result[name_1] = result[key].get(first, [None] * len(cells))
    result[f"budget_{question.clock}"] = result["budget"]
    levels = SUCCESS_LEVELS if success else ()
    _add_times(result, "steps_to_success", question.clock, success, levels, draw, name)
    return result


def _add_times(result, key: str, unit: str, curves, thresholds, draw: Bootstrap, name) -> None:
    """Add times to each threshold in ``unit``: per run (null = censored), median (low, high) and interval."""
    result[key], result["medians"][key], result["intervals"][key] = {}, {}, {}
    for threshold in thresholds:
        times, at = ls.Times.of(curves, threshold, unit), level(threshold)
        result[key][at] = [float(t) if math.isfinite(t) else None for t in times.upper]
        result["medians"][key][at] = times.median()
        result["intervals"][key][at] = times.interval(draw.rng(*name, key, at), resamples=draw.resamples)


def _compare(
    question: Question, result: dict[str, Any], pair: tuple[str, str], own: Sequence[Cell],
    other: Sequence[Cell], draw: Bootstrap,
) -> None:  # fmt: skip
    """Add to an arm's ``result`` what is known of it (``own``) against a base (``other``); ``pair``: both
    arms. The first base is the primary one, whose details are kept too.
    """
    name, base, primary = (question.target, *pair), pair[1], "base" not in result
    curves, base_curves = [c.curve for c in own], [c.curve for c in other]
    cpu, base_cpu = cpu_curves(own), cpu_curves(other)
    # Areas are averages over one range: within both budgets, and no further than every run is known.
    common = ls.common_range([*curves, *base_curves], min(budget_of(own), budget_of(other)))
    area, means = ls.Ratio(None), None
    if common and question.normalised:  # of raw returns the zero means nothing, so neither does a quotient
        means, base_means = ([ls.mean_score(c, *common) for c in group] for group in (curves, base_curves))
        area = ls.area_ratio(means, base_means, draw.rng(*name, "area"), resamples=draw.resamples)
    result["area_ratio"][base] = area.value
    for threshold in question.thresholds:
        for key, unit, saved in (("speedup", question.clock, "steps"), ("speedup_seconds", "seconds", "seconds")):
            found = claim(curves, base_curves, threshold, unit, draw, (*name, key, level(threshold)))
            result[key][level(threshold)][base] = found | {f"saved_{saved}": found.pop("saved")}
        if cpu and base_cpu:
            key = "speedup_cpu_seconds"
            found = claim(cpu, base_cpu, threshold, "seconds", draw, (*name, key, level(threshold)))
            result[key][level(threshold)][base] = found | {"saved_cpu_seconds": found.pop("saved")}
    if primary:
        result |= {"base": base, "mean_score": means, "common_range": common}
        result["intervals"]["area_ratio"] = area.interval
        _add_jumpstart(result, curves, base_curves, draw, name)


def claim(
    curves: Sequence[Curve], base_curves: Sequence[Curve], threshold: float, unit: str, draw: Bootstrap,
    names: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """How many times faster the runs of ``curves`` reached ``threshold``, and what that saved, both in ``unit``."""
    times, base_times = (ls.Times.of(group, threshold, unit) for group in (curves, base_curves))
    return claim_of(times, base_times, resolution([*curves, *base_curves], unit), draw, names)


def claim_of(
    times: ls.Times, base_times: ls.Times, resolution: float, draw: Bootstrap, names: tuple[str, ...]
) -> dict[str, Any]:
    """The same of times that are known already; ``resolution``: the evaluation interval."""
    ratio = ls.speedup(times, base_times, draw.rng(*names), resolution=resolution, resamples=draw.resamples)
    # The least that can have been saved: base at its earliest, learner at its latest (inf: no claim).
    saved = base_times.median()[0] - times.median()[1]
    known = math.isfinite(saved) and ratio.reason not in (ls.UNFINISHED, ls.AT_FIRST)
    found = {key: getattr(ratio, key) for key in ("lower_bound", "upper_bound", "interval", "reason")}
    return found | {"ratio": ratio.value, "saved": saved if known else None}


def _add_jumpstart(result: dict[str, Any], curves, base_curves, draw: Bootstrap, name) -> None:
    result["jumpstart"] = [ls.jumpstart(curve, base_curves) for curve in curves]
    if None not in result["jumpstart"]:
        result["medians"]["jumpstart"] = float(np.median(result["jumpstart"]))
        leads = np.stack([ls.leads(curve, base_curves) for curve in curves])
        result["intervals"]["jumpstart"] = ls.jumpstart_interval(
            leads, draw.rng(*name, "jump"), resamples=draw.resamples
        )


def target_numbers(
    question: Question, cells: Sequence[Cell], bases: Bases, warnings: list[str], draw: Bootstrap
) -> dict[str, Any]:
    """All that report.json says of one target; ``cells``: its runs, those without a curve are passed over."""
    arms: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.curve is not None:
            arms.setdefault(cell.arm, []).append(cell)
    names = [arm for arm in in_order(bases) if arm in arms]
    results = {arm: _arm(question, arm, arms[arm], draw) for arm in names}
    for arm in names:
        for base in (base for base in bases[arm] if base in arms):
            _compare(question, results[arm], (arm, base), arms[arm], arms[base], draw)
    warnings += _few_seeds(question.target, results)
    warnings += [text for arm in names for text in _unfinished(question, arm, results[arm])]
    warnings += [text for arm in names for text in _of_other_lengths(question, arm, results[arm])]
    warnings += [text for arm in names for text in _not_reached(question, arm, results[arm])]
    warnings += [text for arm in names for text in _at_first(question, arm, results[arm])]
    facts = dataclasses.asdict(question) | {"normalised": question.normalised}
    facts["threshold"] = next(iter(question.thresholds), None)
    del facts["target"]
    for key in ("episodes_per_trial", "test_tasks", "max_episode_steps", "evaluation_episodes"):
        facts[key] = max((number(c.facts.get(key)) or 0.0 for c in cells), default=0.0)
    random = [value for c in cells if (value := number(c.facts.get("random_return"))) is not None]
    facts["random_return"] = float(np.mean(random)) if random else None
    facts["adapts"] = any(cell.facts.get("adapts") is True for cell in cells)
    return facts | {"episodes_per_trial": max(facts["episodes_per_trial"], 1), "arms": results}


def _few_seeds(target: str, results: dict[str, Any]) -> list[str]:
    """One sentence per number of seeds that is too small, naming the arms that have no more."""
    by_count: dict[int, list[str]] = {}
    for arm, result in results.items():
        by_count.setdefault(len(result["seeds"]), []).append(arm)
    found = (ls.few_seeds_warning(count, f"{target}, {', '.join(arms)}") for count, arms in by_count.items())
    return [text for text in found if text]


def _unfinished(question: Question, arm: str, result: dict[str, Any]) -> list[str]:
    cut = result["unfinished"]
    if not any(cut):
        return []
    said = "are unfinished; they count up to their last evaluation and have"
    if sum(cut) == 1:
        said = "is unfinished; it counts up to its last evaluation and has"
    return [f"{question.target}, {arm}: {sum(cut)} of {counted(len(cut), 'run')} {said} no final score."]


def _of_other_lengths(question: Question, arm: str, result: dict[str, Any]) -> list[str]:
    budgets = sorted(set(result["budgets"]))
    if len(budgets) == 1:
        return []
    shown = " and ".join(f"{budget:,.0f}" for budget in budgets)
    return [f"{question.target}, {arm}: runs of {shown} {question.clock}: final scores of unequal lengths stand side "
            "by side; the command that gave some of them more budget goes on with the others."]  # fmt: skip


def _not_reached(question: Question, arm: str, result: dict[str, Any]) -> list[str]:
    """Per threshold how many finished runs did not reach it, and how many of these had stopped at a lower one."""
    found = []
    for threshold in question.thresholds:
        times = result["steps_to_thresholds"][level(threshold)]
        runs = zip(result["stopped_at"], times, result["unfinished"], strict=True)
        missed = [at for at, time, cut in runs if time is None and not cut]
        stopped = sorted({at for at in missed if at is not None and at < threshold})
        if not missed:
            continue
        text = f"{question.target}, {arm}: {len(missed)} of {len(times)} runs did not reach the threshold"
        text += f" {level(threshold)}"
        if stopped:
            count = sum(at is not None and at < threshold for at in missed)
            text += f"; {count} of them had stopped at {' or '.join(map(level, stopped))}"
            text += " and count as censored where they stopped"
        found.append(text + ".")
    return found


def _at_first(question: Question, arm: str, result: dict[str, Any]) -> list[str]:
    """Per threshold how many runs held it from their first evaluation on, which says little of how fast they were."""
    found = []
    for at, runs in result["at_first_evaluation"].items():
        if any(runs):
            which = f"{sum(runs)} of {len(runs)} runs held the threshold {at} at the first evaluation"
            found.append(f"{question.target}, {arm}: {which}; how much earlier is not known, and ratios to it are "
                         "bounds: a higher threshold or a shorter evaluation interval would tell.")  # fmt: skip
    return found
