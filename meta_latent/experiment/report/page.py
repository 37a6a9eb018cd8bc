"""The report as a page: the summary in words, numbers as text, figures, and the HTML around them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jinja2

from meta_latent.experiment.report import adaptations, drawing, pictures, plasticity, text
from meta_latent.experiment.report.arms import uses_pretraining
from meta_latent.experiment.report.figures import CLOCKS
from meta_latent.experiment.report.numbers import SUCCESS_LEVELS, Bootstrap, level
from meta_latent.experiment.report.pretrained import seed_order
from meta_latent.experiment.report.sources import Run
from meta_latent.experiment.report.text import NOTHING, count, duration, interval, score, times
from meta_latent.ops.learning_speed import FEW_SEEDS


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def summary(report: dict[str, Any]) -> str:
    """One paragraph of plain sentences about the primary pair, made of the numbers in ``report`` only."""
    done = sum(cell["status"] == "done" for cell in report["cells"])
    facts: dict[str, Any] = {"done": done, "total": len(report["cells"]), "places": []}
    if report["primary_pair"]:
        facts |= _told(report, *report["primary_pair"])
    facts |= {"few_seeds": FEW_SEEDS, "level": text.percent(report["bootstrap"]["level"])}
    facts |= {"cost": report["pretraining"], "times": times, "count": count, "duration": duration}
    said = _environment().get_template("summary.txt").render(facts)
    return " ".join(line.strip() for line in said.splitlines() if line.strip())


def _told(report: dict[str, Any], arm: str, base: str) -> dict[str, Any]:
    """What the summary tells of one pair."""
    shared = {n: t for n, t in report["targets"].items() if arm in t["arms"] and base in t["arms"]}
    most = max((len(target["thresholds"]) for target in shared.values()), default=0)
    seeds = [len(target["arms"][a]["seeds"]) for target in shared.values() for a in (arm, base)]
    units = {CLOCKS[target["clock"]] for target in shared.values()}
    by_threshold = report["aggregate"][arm]["by_threshold"]
    return {
        "arm": arm, "base": base, "seeds": (min(seeds, default=0), max(seeds, default=0)),
        "unit": units.pop() if len(units) == 1 else "steps",
        "places": [_place(shared, arm, base, place) for place in range(most)],
        "paid": by_threshold[0].get("break_even") if by_threshold else None,
    }  # fmt: skip


def _place(targets: dict[str, Any], arm: str, base: str, place: int) -> dict[str, Any]:
    """The claims about threshold number ``place`` of every target: all, those of a gain, the certain ones."""
    asked = {n: t["thresholds"][place] for n, t in targets.items() if place < len(t["thresholds"])}
    claims = {n: targets[n]["arms"][arm]["speedup"][level(at)][base] for n, at in asked.items()}
    faster = {name: claim for name, claim in claims.items() if claim["ratio"] and claim["ratio"] > 1}
    known = {name: claim["interval"] for name, claim in faster.items() if claim["interval"]}
    levels = sorted(set(asked.values()))
    return {
        "claims": claims, "faster": faster, "known": known,
        "sure": [name for name, (low, _) in known.items() if low and low > 1],
        "label": f"threshold {text.threshold(levels[0])}" if len(levels) == 1 else "threshold of each target",
    }  # fmt: skip


def _speed_row(arm: str, entry: dict[str, Any], style: int, at: str, cost: dict | None) -> dict[str, str]:
    """One arm at one threshold."""
    medians, intervals, base = entry["medians"], entry["intervals"], entry.get("base")
    claim = entry["speedup"][at].get(base, {})
    ratio, saved, paid = claim.get("ratio"), claim.get("saved_steps"), NOTHING
    if cost and saved is not None and uses_pretraining(arm):
        most = "≤ " if claim["lower_bound"] else ""
        paid = f"{most}{math.ceil(cost['env_steps'] / saved):,}" if saved > 0 else "never"
    return {
        "arm": arm, "style": str(style), "base": base or "",
        "steps": text.median(medians["steps_to_thresholds"][at]),
        "steps_interval": interval(intervals["steps_to_thresholds"][at], count),
        "reached": f"{entry['reached'][at]} / {len(entry['seeds'])}",
        "speedup": times(ratio, claim.get("lower_bound", False)), "reason": claim.get("reason", ""),
        "speedup_interval": interval(claim.get("interval"), times),
        "seconds": text.median(medians["seconds_to_thresholds"][at], duration),
        "seconds_interval": interval(intervals["seconds_to_thresholds"][at], duration),
        "break_even": paid,
    }  # fmt: skip


def _level_row(arm: str, entry: dict[str, Any], style: int) -> dict[str, Any]:
    """One arm by what it scored."""
    medians, intervals, base = entry["medians"], entry["intervals"], entry.get("base")
    return {
        "arm": arm, "style": str(style), "base": base or "",
        "final": score(entry["final_score_iqm"]), "final_interval": interval(intervals["final_score"]),
        "success": text.percent(entry["final_success_iqm"]),
        "jumpstart": score(medians.get("jumpstart")),
        "jumpstart_interval": interval(intervals.get("jumpstart")),
        "area": times(entry["area_ratio"].get(base)),
        "area_interval": interval(intervals.get("area_ratio"), times),
        "solved": [
            (text.median(medians["steps_to_success"].get(level(at))),
             interval(intervals["steps_to_success"].get(level(at)), count))
            for at in SUCCESS_LEVELS
        ],
    }  # fmt: skip


def _target(run: Run, report: dict[str, Any], name: str, styles: dict[str, int], draw) -> dict[str, Any]:
    """What the template shows of one target."""
    target = report["targets"][name]
    cost = report["pretraining"] if target["clock"] == "env_steps" else None
    arms = target["arms"].items()
    groups = [
        {
            "threshold": threshold,
            "rows": [_speed_row(arm, entry, styles[arm], level(threshold), cost) for arm, entry in arms],
        }
        for threshold in target["thresholds"]
    ]
    return target | {
        "name": name, "clock": CLOCKS[target["clock"]], "groups": groups,
        "figures": pictures.target_figures(run, name, target, styles, draw),
        "metrics": plasticity.figures_of(name, target, styles) + pictures.metric_figures(name, target, styles),
        "inspected": pictures.inspected_figures(name, target, styles),
        "adaptations": _adaptations(run, name, target, styles),
        "beliefs": pictures.belief_strips(run, name),
        "rows": [_level_row(arm, entry, styles[arm]) for arm, entry in arms],
    }  # fmt: skip


def _adaptations(run: Run, name: str, target: dict[str, Any], styles: dict[str, int]) -> list[dict[str, Any]]:
    """What the template shows of the trials that `meta-latent adapt` played on one target."""
    played = (line["arm"] for told in target["adaptations"] for line in told["lines"])
    styles = drawing.assign_styles(list(dict.fromkeys([*styles, *played])))
    drawn, found = pictures.adaptation_figures(run, name, target, styles), []
    for told, figures in zip(target["adaptations"], drawn, strict=True):
        groups = [
            (title, [_line_row(line, styles[line["arm"]], line[key], show) for line in told["lines"] if line[key]])
            for key, title, show in (("returns", "raw return", score), ("score", "score", score),
                                     ("success", "success", text.percent))
        ]  # fmt: skip
        heads = adaptations.moments(told["adapts"], told["episodes"])
        found.append(told | {"figures": figures, "heads": heads, "groups": [group for group in groups if group[1]]})
    return found


def _line_row(line: dict[str, Any], style: int, by_episode: list[dict[str, Any]], show) -> dict[str, Any]:
    """One arm by what it reached in every episode of the trial."""
    cells = [(show(entry["mean"]), interval(entry["interval"], show)) for entry in by_episode]
    return {"arm": line["label"], "style": str(style), "seeds": line["seeds"], "cells": cells}


def _held_out(report: dict[str, Any]) -> dict[str, Any]:
    cost = report["pretraining"] or {"seeds": [], "held_out": {}}
    metrics = sorted({metric for values in cost["held_out"].values() for metric in values})
    rows = [(m, [text.plain_number(cost["held_out"][s].get(m)) for s in cost["seeds"]]) for m in metrics]
    return {"seeds": cost["seeds"], "rows": rows}


def _provenance(run: Run) -> dict[str, Any]:
    """Commands, versions, commits and seeds that the runs recorded, each distinct value once."""
    commands, versions, commits = {}, {}, {}
    for facts in run.facts:
        commands[text.command(facts.get("command"))] = True
        if facts.get("commit"):
            commits[str(facts["commit"])] = True
        recorded = facts.get("versions")
        for name, version in recorded.items() if isinstance(recorded, dict) else ():
            versions.setdefault(str(name), {})[str(version)] = True
    seeds = {str(cell.seed) for cell in run.cells} | {p.seed for p in run.pretraining}
    return {
        "commands": [command for command in commands if command],
        "commits": list(commits),
        "seeds": sorted(seeds, key=seed_order),
        "versions": [(name, ", ".join(values)) for name, values in sorted(versions.items())],
    }


def _aggregate_row(arm: str, entry: dict[str, Any], style: int) -> dict[str, Any]:
    """One arm over all targets: final score, and a line per place in the lists of thresholds."""
    return {
        "arm": arm, "style": str(style), "targets": str(entry["targets"]),
        "final": score(entry["final_score_iqm"]), "final_interval": interval(entry["final_score_interval"]),
        "places": [_aggregate_place(found) for found in entry["by_threshold"]],
    }  # fmt: skip


def _aggregate_place(found: dict[str, Any]) -> dict[str, str]:
    chance, result = found.get("probability_of_being_faster"), found.get("break_even")
    paid = NOTHING
    if result:
        most = "≤ " if result.get("at_most") else ""
        paid = "not shown" if result["targets"] is None else most + count(result["targets"])
    told = found.get("probability_targets", found["targets"])
    where = f", {told} of {found['targets']} targets" if told < found["targets"] else ""
    return {
        "thresholds": ", ".join(map(text.threshold, found["thresholds"])),
        "reached": f"{found['reached']} / {found['runs']}",
        "chance": text.percent(chance), "against": f"against {found.get('base')}{where}",
        "break_even": paid, "reason": (result or {}).get("reason", ""),
    }  # fmt: skip


def render(run: Run, report: dict[str, Any], draw: Bootstrap) -> str:
    """The whole page as text; also writes figures to ``run.path/report/*.png``."""
    styles = drawing.assign_styles(list(report["aggregate"]))
    embedded, linked = pictures.videos(run)
    arms = [entry for target in report["targets"].values() for entry in target["arms"].values()]
    return _environment().get_template("report.html").render(
        report=report,
        targets=[_target(run, report, name, styles, draw) for name in report["targets"]],
        strips=pictures.strips(run),
        videos=embedded,
        linked_videos=linked,
        styles=drawing.STYLES,
        aggregate=[_aggregate_row(arm, entry, styles[arm]) for arm, entry in report["aggregate"].items()],
        held_out=_held_out(report),
        provenance=_provenance(run),
        success_heads=lambda clock: [(clock, f"to success {level(at)}") for at in SUCCESS_LEVELS],
        intervals=any(len(entry["seeds"]) > 1 for entry in arms),
        count=count,
        score=score,
        duration=duration,
        shown=text.threshold,
    )
