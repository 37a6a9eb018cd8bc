"""The summary of a report: a paragraph of plain sentences, for the terminal, the page and committed results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from meta_latent.experiment.report.statistics.numbers import level
from meta_latent.experiment.report.words import lead, same_start, text
from meta_latent.experiment.report.words.text import CLOCKS, count, duration, times
from meta_latent.ops.learning_speed import FEW_SEEDS, MISSED

FINISHED, UNFINISHED, FAILED, NOT_BEGUN = ALL_WORDS = (
    ("has finished", "have finished"), ("is unfinished", "are unfinished"), ("failed", "failed"),
    ("has not begun", "have not begun"),
)  # fmt: skip
WORDS = {"done": FINISHED, "failed": FAILED, "missing": NOT_BEGUN}
"""Status of a cell -> what the summary says of one, and of several; of every other status they are unfinished."""


def environment() -> jinja2.Environment:
    """Templates of pages and of texts; what they are given is escaped in pages."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def summary(report: dict[str, Any]) -> str:
    """One paragraph of plain sentences about the primary pair, and algorithms beside it, made of the numbers in
    ``report`` only.
    """
    nobody = lead.unreached(report)
    facts: dict[str, Any] = {"standing": standing(report["cells"]), "places": [], "lead": lead.sentence(report)}
    if report["primary_pair"] and not nobody:
        facts |= _told(report, *report["primary_pair"])
    facts |= {"few_seeds": FEW_SEEDS, "level": text.percent(report["bootstrap"]["level"])}
    facts["alike"] = [] if nobody else same_start.sentences(report)
    runs = [*facts.get("seeds", ()), *(same_start.seeds(report) if facts["alike"] else ())]
    facts |= {"fewest": min(runs, default=0), "most": max(runs, default=0)}
    facts |= {"cost": report["pretraining"], "times": times, "count": count, "duration": duration}
    said = environment().get_template("summary.txt").render(facts)
    return " ".join(line.strip() for line in said.splitlines() if line.strip())


def standing(cells: Sequence[dict[str, Any]]) -> str:
    """'Of 6 cells, 2 have finished, 1 is unfinished and 3 have not begun.', 'The one cell is unfinished.'; "" where all
    have finished.
    """
    found = Counter(WORDS.get(cell["status"], UNFINISHED) for cell in cells)
    if found[FINISHED] == len(cells):
        return ""
    if len(cells) == 1:
        return f"The one cell {next(iter(found))[0]}."
    parts = [f"{found[words]} {words[found[words] != 1]}" for words in ALL_WORDS if found[words] or words == FINISHED]
    return f"Of {len(cells)} cells, {lead.listed(parts)}."


def _told(report: dict[str, Any], arm: str, base: str) -> dict[str, Any]:
    """What the summary tells of one pair."""
    shared = {n: t for n, t in report["targets"].items() if arm in t["arms"] and base in t["arms"]}
    most = max((len(target["thresholds"]) for target in shared.values()), default=0)
    seeds = [len(target["arms"][a]["seeds"]) for target in shared.values() for a in (arm, base)]
    units = {CLOCKS[target["clock"]] for target in shared.values()}
    by_threshold = report["aggregate"][arm]["by_threshold"]
    told = by_threshold and not lead.unsettled(shared, arm, base, 0)
    return {
        "arm": arm, "base": base, "seeds": (min(seeds, default=0), max(seeds, default=0)),
        "unit": units.pop() if len(units) == 1 else "steps",
        "places": [_place(shared, arm, base, place) | {"open": lead.open_question(report, arm, base, place)}
                   for place in range(most)],
        "paid": by_threshold[0].get("break_even") if told else None,
    }  # fmt: skip


def _place(targets: dict[str, Any], arm: str, base: str, place: int) -> dict[str, Any]:
    """The claims about threshold number ``place`` of every target: all, those of a gain, the certain ones."""
    asked = {n: t["thresholds"][place] for n, t in targets.items() if place < len(t["thresholds"])}
    claims = {n: targets[n]["arms"][arm]["speedup"][level(at)][base] for n, at in asked.items()}
    faster = {name: claim for name, claim in claims.items() if claim["ratio"] and claim["ratio"] > 1}
    known = {name: claim["interval"] for name, claim in faster.items() if claim["interval"]}
    levels = sorted(set(asked.values()))
    why = {name: f"the median run of {arm} did not reach it" if claim["reason"] == MISSED else claim["reason"]
           for name, claim in claims.items()}  # fmt: skip
    return {
        "claims": claims, "faster": faster, "known": known, "why": why,
        "sure": [name for name, (low, _) in known.items() if low and low > 1],
        "label": f"threshold {text.threshold(levels[0])}" if len(levels) == 1 else "threshold of each target",
    }  # fmt: skip
