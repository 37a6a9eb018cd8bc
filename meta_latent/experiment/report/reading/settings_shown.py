"""Settings that differ: between the arms of a target, and between runs that are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meta_latent.errors import UserError
from meta_latent.experiment.report.reading.arms import split
from meta_latent.experiment.report.reading.records import numbers
from meta_latent.experiment.report.reading.sources import Cell, Run
from meta_latent.experiment.runs import stored_cell, stored_pretraining
from meta_latent.experiment.runs.run_folder import CONFIG
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.experiments import FILE
from meta_latent.experiment.settings.listing import ABSENT, differing, flat
from meta_latent.files import leads_out

PLACE = ("name", "out", "seed", "target", "arm", "task.")
"""Beginnings of keys that say which run it is, not how it learned."""
OF_MODEL = "transfer.adaptation."
MODEL_METRICS = {"embedding", "transition"}
"""One of these is told by updates of a latent state model, and declared by algorithms that may have one."""


def stored(folder: Path, name: str = CONFIG) -> dict[str, Any]:
    """The settings that a run kept, or, with another ``name``, a folder of runs; {} where there are none to be read."""
    try:
        return {} if leads_out(folder / name, folder) else config.read_yaml(folder / name)
    except UserError:
        return {}


def of_cell(folder: Path) -> dict[str, Any]:
    """`stored` of a cell, as this version would write it: keys that were added since are at their defaults. Unchanged
    where this version cannot read it, as where its own algorithm was not imported.
    """
    return stored_cell.completed(stored(folder))


def of_pretraining(folder: Path) -> dict[str, Any]:
    """The same of a pretraining; {} stays {}."""
    found = stored(folder)
    return stored_pretraining.completed(found) if found else found


def planned(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """What the experiment in a folder of runs plans: target -> arms, and the seeds; empty where it is not told."""
    transfer = mapping(stored(folder, FILE).get("transfer"))
    own = {name: mapping(target).get("arms") for name, target in mapping(transfer.get("targets")).items()}
    found = {name: arms or transfer.get("arms") for name, arms in own.items()}
    seeds = transfer.get("seeds")
    named = {name: [arm for arm in arms if isinstance(arm, str)]
             for name, arms in found.items() if isinstance(arms, list)}  # fmt: skip
    return named, list(map(str, seeds)) if isinstance(seeds, list) else []


def uncounted(run: Run, target: str) -> list[float]:
    """The experiment's thresholds, which do not count on a target whose scores are raw and that has none of its own; []
    where they are not told.
    """
    whole = mapping(stored(run.path, FILE).get("transfer"))
    cells = [stored(cell.path) for cell in run.cells if cell.target == target]
    tasks = [mapping(mapping(whole.get("targets")).get(target)), *(mapping(cell.get("task")) for cell in cells)]
    if any(task.get("thresholds") is not None for task in tasks):
        return []
    every = [mapping(cell.get("transfer")).get("thresholds") for cell in cells] + [whole.get("thresholds")]
    return next((list(found) for one in every if (found := numbers(one))), [])


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` where it is a mapping, as settings should be; else {}."""
    return value if isinstance(value, Mapping) else {}


def correlated(cells: Sequence[Cell]) -> bool:
    """Whether the first of these cells that kept its settings had a warm-up whose actions hang on those before."""
    kept = next((found for cell in cells if (found := of_cell(cell.path))), {})
    persistences = mapping(kept.get("random")).get("persistences")
    return isinstance(persistences, list) and any(persistences)


def _learned_by(cell: Cell) -> dict[str, str]:
    """The settings that say how a run learned, those of a model where it has one; {} where it kept none."""
    kept = flat(of_cell(cell.path))
    left_out = PLACE if _has_model(cell, kept) else (*PLACE, OF_MODEL)
    return {key: value for key, value in kept.items() if not key.startswith(left_out)}


def _has_model(cell: Cell, kept: Mapping[str, str]) -> bool:
    """Whether a run has a latent state model: it started from one, or one learned; where nothing was measured yet,
    whether its algorithm may have one.
    """
    if cell.facts.get("model_sha256") or "model_sha256" in kept:
        return True
    declared = cell.facts.get("metrics")  # of older runs those that have not finished do not say
    if not isinstance(declared, dict):
        return True
    measured = declared.keys() & set().union(*cell.log.train)
    learned = not measured or bool(measured & (MODEL_METRICS | {"divergence"}))  # all that some models are told by
    return learned and bool(MODEL_METRICS & declared.keys())


def _differing(columns: Mapping[str, Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """`differing`, without settings of a model that only those lack which have no model."""
    rows = differing(columns)
    return [(key, values) for key, values in rows if not key.startswith(OF_MODEL) or len({*values} - {ABSENT}) > 1]


def between_arms(cells: Sequence[Cell]) -> dict[str, Any]:
    """Arms of one target, and the settings that differ between them; an algorithm's own are named without it, so that
    two algorithms can be set against each other.
    """
    columns: dict[str, dict[str, str]] = {}
    for cell in cells:
        if cell.arm not in columns and (found := _learned_by(cell)):
            own = f"algorithms.{split(cell.arm)[0]}."
            columns[cell.arm] = {f"algorithm: {key[len(own) :]}" if key.startswith(own) else key: v
                                 for key, v in found.items()}  # fmt: skip
    return {"heads": list(columns), "rows": _differing(columns)}


def between_runs(runs: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    """Runs, and the settings that differ between them: of a run all values that its cells and pretrainings have, of
    algorithms those that all of the runs have.
    """
    columns = {}
    for run, name in zip(runs, names, strict=True):
        found: dict[str, dict[str, None]] = {}
        kept = [flat(of_pretraining(part.path)) for part in run.pretraining] + [_learned_by(cell) for cell in run.cells]
        for key, value in (item for settings in kept for item in settings.items()):
            if not key.startswith(PLACE):
                found.setdefault(key, {})[value] = None
        columns[name] = {key: " or ".join(values) for key, values in found.items()}
    shared = {"", *set.intersection(*({_algorithm(key) for key in settings} for settings in columns.values()))}
    columns = {n: {k: v for k, v in found.items() if _algorithm(k) in shared} for n, found in columns.items()}
    return {"heads": list(columns), "rows": _differing(columns)}


def _algorithm(key: str) -> str:
    """The algorithm whose setting ``key`` is; "" = of none."""
    return key.split(".")[1] if key.startswith("algorithms.") else ""
