"""Settings that differ: between the arms of a target, and between runs that are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meta_latent.errors import UserError
from meta_latent.experiment.report.arms import split
from meta_latent.experiment.report.sources import Cell, Run
from meta_latent.experiment.report.text import NOTHING
from meta_latent.experiment.runs.run_folder import CONFIG
from meta_latent.experiment.settings import config

PLACE = ("name", "out", "seed", "target", "arm", "task.")
"""Beginnings of keys that say which run it is, not how it learned."""


def stored(folder: Path) -> dict[str, Any]:
    """The settings that a run kept; {} where there are none to be read."""
    try:
        found = config.read_yaml(folder / CONFIG)
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` where it is a mapping, as settings should be; else {}."""
    return value if isinstance(value, Mapping) else {}


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested settings as dotted keys with values as text."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = f"{value:g}" if isinstance(value, float) else str(value)
    return found


def differing(columns: Mapping[str, Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """(key, a value per column) of every key that is not the same in all ``columns``; '–' where a column lacks it."""
    keys = dict.fromkeys(key for settings in columns.values() for key in settings)
    rows = [(key, [settings.get(key, NOTHING) for settings in columns.values()]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def between_arms(cells: Sequence[Cell]) -> dict[str, Any]:
    """Arms of one target, and the settings that differ between them; an algorithm's own are named without it, so that
    two algorithms can be set against each other.
    """
    columns: dict[str, dict[str, str]] = {}
    for cell in cells:
        if cell.arm not in columns and (found := flat(stored(cell.path))):
            own = f"algorithms.{split(cell.arm)[0]}."
            named = {f"algorithm: {key[len(own):]}" if key.startswith(own) else key: v for key, v in found.items()}
            columns[cell.arm] = {key: v for key, v in named.items() if not key.startswith(PLACE)}
    return {"heads": list(columns), "rows": differing(columns)}


def between_runs(runs: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    """Runs, and the settings that differ between them: of a run all values that its cells and pretrainings have, of
    algorithms those that all of the runs have.
    """
    columns = {}
    for run, name in zip(runs, names, strict=True):
        found: dict[str, dict[str, None]] = {}
        for part in (*run.pretraining, *run.cells):
            for key, value in flat(stored(part.path)).items():
                if not key.startswith(PLACE):
                    found.setdefault(key, {})[value] = None
        columns[name] = {key: " or ".join(values) for key, values in found.items()}
    shared = {"", *set.intersection(*({_algorithm(key) for key in settings} for settings in columns.values()))}
    columns = {n: {k: v for k, v in found.items() if _algorithm(k) in shared} for n, found in columns.items()}
    return {"heads": list(columns), "rows": differing(columns)}


def _algorithm(key: str) -> str:
    """The algorithm whose setting ``key`` is; "" = of none."""
    return key.split(".")[1] if key.startswith("algorithms.") else ""
