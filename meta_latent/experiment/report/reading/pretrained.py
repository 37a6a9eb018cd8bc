"""Which pretraining the runs of a report started from, so that its cost is charged to them and no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meta_latent.experiment.report.reading.records import media, read_json
from meta_latent.experiment.runs.run_folder import RECORD

FACTS = "pretraining.json"
TRACES = (FACTS, RECORD, "metrics.jsonl", "config.yaml")


@dataclass(frozen=True)
class Pretraining:
    """One pretraining run: seed, status, facts of pretraining.json, images and notes. ``charged``: as far as
    is known the report's runs started from its model, so they owe its cost.
    """

    path: Path
    seed: str
    status: str
    facts: dict[str, Any]
    images: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    charged: bool = True

    @property
    def sha256(self) -> str | None:
        """Of the model's weights; None until there is a model."""
        return self.facts.get("model_sha256")


@dataclass(frozen=True)
class Start:
    """What a run recorded of the model that it opened: ``given``, the path as it was told ("" = unknown),
    ``sha256`` of its weights (None = unknown), and ``cell``, the run's own folder.
    """

    given: str
    sha256: str | None
    cell: Path


def read_pretraining(folder: Path) -> Pretraining | None:
    """The pretraining run in ``folder``; None where there is no trace of one."""
    if not any((folder / name).is_file() for name in TRACES):
        return None
    notes: list[str] = []
    run = read_json(folder / RECORD, [])
    facts = read_json(folder / FACTS, notes)
    status = str(run.get("status", "done" if facts else "unknown"))
    images = media(folder / "images", ".png", notes)
    return Pretraining(folder, folder.name, status, {**run, **facts}, images, tuple(notes))


def seed_order(seed: str) -> tuple[int, str]:
    """Sort key: 2 before 10, numbers before other names."""
    return (int(seed), "") if seed.isdecimal() else (10**9, seed)


def find_pretraining(root: Path, starts: Sequence[Start]) -> tuple[list[Pretraining], list[str]]:
    """The pretraining runs under ``root``, those elsewhere that ``starts`` name, and what is unclear of them.

    A pretraining is charged only if it made the very model, by its sha256, that the runs opened.
    """
    folders = sorted((root / "pretrain").glob("*"), key=lambda folder: seed_order(folder.name))
    used = [found for found in map(read_pretraining, folders) if found]
    own, notes = bool(used), []
    for start in starts:
        if (start.sha256 is None and own) or (start.sha256 and start.sha256 in [p.sha256 for p in used]):
            continue
        found = _elsewhere(start)
        if found is None:
            notes.append(f"The pretraining of {_model(start)} was not found: its cost is not counted.")
        elif found.path not in [p.path for p in used]:
            used.append(found)
    opened = {start.sha256 for start in starts} - {None}
    if opened:
        used = [dataclasses.replace(p, charged=p.sha256 in (None, *opened)) for p in used]
        for idle in (p.path for p in used if not p.charged):
            notes.append(f"No run started from the model that {idle} made: its cost is not counted.")
    return used, list(dict.fromkeys(notes))


def _model(start: Start) -> str:
    digest = f"the model with sha256 {start.sha256[:12]}" if start.sha256 else "a model"
    return f"{digest} (pretrained={start.given})" if start.given else digest


def _elsewhere(start: Start) -> Pretraining | None:
    """The pretraining run that made the model of ``start``, outside the report's own folder.

    A relative path was relative to where the run was started, which is not recorded: every folder above the
    run's own is tried, the nearest first, then the present one. Without a sha256 there is nothing to know the
    right one by, and a relative path is not followed.
    """
    if not start.given:
        return None
    named = Path(start.given).expanduser()
    if not named.is_absolute() and start.sha256 is None:
        return None
    above = [Path()] if named.is_absolute() else [*start.cell.absolute().parents, Path()]
    for folder in (f for p in above for f in (p / named, (p / named).parent)):  # model/, or the run around it
        found = read_pretraining(folder) if (folder / FACTS).is_file() else None
        if found and start.sha256 in (None, found.sha256):
            return found
    return None
