"""Where numbers come from: commands, commits, versions, machines and dates that runs recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meta_latent.experiment.report.reading.pretrained import seed_order
from meta_latent.experiment.report.reading.sources import Run
from meta_latent.experiment.report.words import text

OF_ONE_CELL = ("target", "arm", "run_seed")
"""Overrides that name one cell of a command that was typed for all."""


def of_run(run: Run) -> dict[str, Any]:
    """Each distinct value once; ``dates``: the first and the last day on which a run began or ended."""
    seeds = {str(cell.seed) for cell in run.cells} | {p.seed for p in run.pretraining}
    typed = _distinct(text.command(facts.get("command"), without=OF_ONE_CELL) for facts in run.facts)
    days = sorted(str(facts[key])[:10] for facts in run.facts for key in ("started", "updated") if facts.get(key))
    return {
        "commands": typed,
        "commits": _distinct(facts.get("commit") for facts in run.facts),
        "machines": _distinct(_machine(facts.get("machine")) for facts in run.facts),
        "dates": list(dict.fromkeys((days[0], days[-1]))) if days else [],
        "seeds": sorted(seeds, key=seed_order),
        "versions": versions(run),
    }


def versions(run: Run) -> list[tuple[str, str]]:
    """(package, its versions) of all packages that the runs recorded."""
    found: dict[str, dict[str, None]] = {}
    for facts in run.facts:
        recorded = facts.get("versions")
        for name, version in recorded.items() if isinstance(recorded, Mapping) else ():
            found.setdefault(str(name), {})[str(version)] = None
    return [(name, ", ".join(values)) for name, values in sorted(found.items())]


def _machine(recorded: Any) -> str:
    return ", ".join(str(value) for value in recorded.values() if value) if isinstance(recorded, Mapping) else ""


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))
