"""Reading a run folder for a report: cells, curves and pretraining, however unfinished or damaged they are.

Nothing is written. Whatever is wrong with a cell becomes a sentence in its ``notes``, never an exception: a
report of nine good cells and a broken one shows nine cells and says what is wrong with the tenth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meta_latent.errors import UserError
from meta_latent.experiment.report.reading import adaptations, beliefs
from meta_latent.experiment.report.reading.adaptations import Adaptation
from meta_latent.experiment.report.reading.beliefs import Belief
from meta_latent.experiment.report.reading.pretrained import (
    Pretraining,
    Start,
    find_pretraining,
    read_pretraining,
    seed_order,
)
from meta_latent.experiment.report.reading.records import Log, media, number, numbers, read_json, read_log
from meta_latent.experiment.runs.run_folder import CONFIG, RECORD
from meta_latent.experiment.settings import config
from meta_latent.files import TEMPORARY
from meta_latent.ops.learning_curve import AXES, Curve, threshold_index

METRICS = "metrics.jsonl"
CELL_FILES = (RECORD, METRICS, CONFIG)
CELL_DEPTH = 4  # TARGET/ALGORITHM/START/SEED
UNFINISHED = ("running", "interrupted")
"""Statuses of runs whose end is still to come. One that failed has had its end, and counts with what it showed."""


@dataclass(frozen=True)
class Cell:
    """One learner on one target with one seed: folder, facts of run.json, what its log holds, notes."""

    path: Path
    target: str
    arm: str  # ALGORITHM/START
    seed: str
    status: str  # "done", "failed", "interrupted", "running" or "unknown"
    facts: dict[str, Any]
    clock: str = AXES[0]  # "env_steps" or "updates": what the curve runs over and the budget counts
    log: Log = field(default_factory=Log)
    videos: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def curve(self) -> Curve | None:
        """The learning curve; None = no evaluation."""
        return self.log.curve

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """The scores that the run was asked to reach; () = none, None = not recorded."""
        if "thresholds" in self.facts:
            return numbers(self.facts["thresholds"])
        if "threshold" in self.facts:
            one = self.facts["threshold"]
            return () if one is None else numbers([one])
        return None

    @property
    def budget(self) -> float | None:
        """In units of the clock; None where it is not recorded."""
        return number(self.facts.get("budget", self.facts.get("budget_env_steps")))


@dataclass(frozen=True)
class Run:
    """A whole run folder: ``runs/NAME``."""

    path: Path
    cells: tuple[Cell, ...] = ()
    pretraining: tuple[Pretraining, ...] = ()
    facts: tuple[dict[str, Any], ...] = ()  # run.json of every cell and pretraining, for provenance
    notes: tuple[str, ...] = ()
    adaptations: tuple[Adaptation, ...] = ()
    beliefs: tuple[tuple[Path, Belief], ...] = ()


def _read_cell(folder: Path, root: Path) -> Cell | None:
    """A cell without its log; None where the folder lies where no cell can lie."""
    parts = folder.relative_to(root).parts
    if len(parts) < CELL_DEPTH:
        return None
    notes: list[str] = []
    facts = read_json(folder / RECORD, notes)
    target = str(facts.get("target") or "/".join(parts[:-3]))
    arm = f"{facts.get('algorithm') or parts[-3]}/{facts.get('start') or parts[-2]}"
    status = str(facts.get("status", "unknown"))
    return Cell(folder, target, arm, parts[-1], status, facts, notes=tuple(notes))


def _with_log(cell: Cell, clock: str) -> Cell:
    notes = list(cell.notes)
    log = read_log(cell.path / METRICS, clock, number(cell.facts.get("stopped_at")), notes)
    if "stopped_at" not in cell.facts and log.curve is not None:
        log = dataclasses.replace(log, curve=_stopped(log.curve, cell.facts))
    if log.curve is not None and cell.status in UNFINISHED:
        log = dataclasses.replace(log, curve=dataclasses.replace(log.curve, unfinished=True))
    videos = media(cell.path / "videos", ".mp4", notes)
    return dataclasses.replace(cell, clock=clock, log=log, videos=videos, notes=tuple(notes))


def _stopped(curve: Curve, facts: dict[str, Any]) -> Curve:
    """An older run's curve with what its run.json did not say: a finished run that held its one threshold
    before its budget was spent stopped there.
    """
    budget, threshold = number(facts.get("budget_env_steps")), number(facts.get("threshold"))
    early = facts.get("status") == "done" and budget is not None and curve.at[-1] < budget
    if early and threshold is not None and threshold_index(curve.scores, threshold) is not None:
        return dataclasses.replace(curve, stopped_at=threshold)
    return curve


def _cell_folders(root: Path) -> list[Path]:
    """Folders under ``root`` that hold a cell's files, not looking inside a cell."""
    found, waiting = [], [root]
    while waiting:
        folder = waiting.pop()
        if folder != root and any((folder / name).is_file() for name in CELL_FILES):
            found.append(folder)
        elif folder.is_dir():
            waiting += [child for child in folder.iterdir() if child.is_dir() and TEMPORARY not in child.name]
    return found


def holds_runs(path: Path) -> bool:
    """Whether ``path`` is a run folder with at least one cell or one pretraining in it."""
    root = path / "transfer"
    cells = (len(f.relative_to(root).parts) >= CELL_DEPTH for f in _cell_folders(root))
    return any(cells) or any(read_pretraining(folder) for folder in (path / "pretrain").glob("*"))


def _start(cell: Cell) -> Start | None:
    """The model that a cell opened; None where it names none."""
    given, digest = cell.facts.get("pretrained"), cell.facts.get("model_sha256")
    if "model_sha256" not in cell.facts:  # older runs, and unfinished ones, say it in their settings only
        try:
            digest = config.read_yaml(cell.path / CONFIG).get("model_sha256")
        except UserError:
            digest = None
    given, digest = (value if isinstance(value, str) and value else None for value in (given, digest))
    return Start(given or "", digest, cell.path) if given or digest else None


def _overtaken(played: Sequence[Adaptation], cells: Sequence[Cell]) -> list[str]:
    """What was measured of agents whose runs have gone on since, as one that is given more budget does."""
    now = {(c.target, c.arm, c.seed): number(c.facts.get("updates")) or 0 for c in cells}
    return [
        f"{one.path}: {one.target}, {arm}, seed {seed} was measured after {then:,.0f} updates, its run has made "
        f"{now[one.target, arm, seed]:,.0f}; meta-latent adapt measures it again."
        for one in played for (arm, seed), then in one.updates.items()
        if then is not None and now.get((one.target, arm, seed), 0) > then
    ]  # fmt: skip


def read_run(path: str | Path) -> Run:
    """Everything a report needs from run folder ``path``; an empty Run when there is nothing."""
    path = Path(path)
    cells = [_read_cell(folder, path / "transfer") for folder in _cell_folders(path / "transfer")]
    cells = sorted((c for c in cells if c), key=lambda c: (c.target, c.arm, seed_order(c.seed)))
    # A run that has not finished records no clock: it has that of its arm's other runs.
    clocks = {c.arm: c.facts["clock"] for c in cells if c.facts.get("clock") in AXES}
    cells = [_with_log(c, clocks.get(c.arm, AXES[0])) for c in cells]
    starts = {(s.given, s.sha256): s for s in map(_start, cells) if s}
    pretraining, notes = find_pretraining(path, list(starts.values()))
    played, seen = adaptations.find(path, notes), beliefs.find(path, notes)
    notes += _overtaken(played, cells)
    facts = [p.facts for p in pretraining] + [c.facts for c in cells] + [dict(one.facts) for one in played]
    return Run(path, tuple(cells), tuple(pretraining), tuple(f for f in facts if f), tuple(notes), tuple(played),
               tuple(seen))  # fmt: skip
