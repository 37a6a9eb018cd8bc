"""Reading a run folder for a report: cells, curves and pretraining, however unfinished or damaged they are.

Nothing is written. Whatever is wrong with a cell becomes a sentence in its ``notes``, never an exception: a
report of nine good cells and a broken one shows nine cells and says what is wrong with the tenth.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meta_latent.ops.learning_speed import Curve

CELL_FILES = ("run.json", "metrics.jsonl", "config.yaml")


@dataclass(frozen=True)
class Cell:
    """One learner on one target with one seed: folder, facts of run.json, curve (None = no evaluation),
    notes.
    """

    path: Path
    target: str
    arm: str  # ALGORITHM/START
    seed: str
    status: str  # "done", "failed", "interrupted", "running" or "unknown"
    facts: dict[str, Any]
    curve: Curve | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pretraining:
    """One pretraining run: seed, status, facts of pretraining.json, images and notes."""

    path: Path
    seed: str
    status: str
    facts: dict[str, Any]
    images: tuple[Path, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A whole run folder: ``runs/NAME``."""

    path: Path
    cells: tuple[Cell, ...] = ()
    pretraining: tuple[Pretraining, ...] = ()
    facts: tuple[dict[str, Any], ...] = field(
        default=()
    )  # run.json of every cell and pretraining, for provenance


def _natural(seed: str) -> tuple[int, str]:
    return (int(seed), "") if seed.isdigit() else (10**9, seed)


def read_json(path: Path, notes: list[str]) -> dict[str, Any]:
    """The object in ``path``; {} and a note when it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        notes.append(f"{path.name} is missing")
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__})")
    else:
        if isinstance(content, dict):
            return content
        notes.append(f"{path.name} does not hold an object")
    return {}


def _evaluations(path: Path, notes: list[str]) -> list[tuple[float, float, float, float]]:
    """(env_steps, updates, seconds, score) of every evaluation in metrics.jsonl, by env_steps, the last one
    winning.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        notes.append("metrics.jsonl is missing")
        return []
    rows: dict[float, tuple[float, float, float, float]] = {}
    damaged = 0
    for number, line in enumerate(lines):
        try:
            record = json.loads(line)
            if record.get("kind") == "evaluation":
                clocks = (float(record[key]) for key in ("env_steps", "updates", "seconds"))
                score = record["score"]  # null is how the log writes a non-finite number
                row = (*clocks, math.nan if score is None else float(score))
                rows[row[0]] = row
        except (ValueError, KeyError, TypeError, AttributeError):
            damaged += number < len(lines) - 1  # a run that is being written ends on half a line
    if damaged:
        notes.append(f"{damaged} damaged lines in metrics.jsonl were left out")
    return [rows[key] for key in sorted(rows)]


def read_curve(path: Path, notes: list[str]) -> Curve | None:
    """The learning curve in ``path`` (metrics.jsonl), cut before the first non-finite score; None = no
    evaluation.
    """
    rows = _evaluations(path, notes)
    for index, row in enumerate(rows):
        if not all(math.isfinite(value) for value in row):
            notes.append(f"non-finite evaluation at {row[0]:g} env_steps: the curve ends before it")
            rows = rows[:index]
            break
    if not rows:
        return None
    try:
        return Curve(*(list(column) for column in zip(*rows, strict=True)))
    except ValueError as error:
        notes.append(f"the evaluations make no curve: {error}")
        return None


def _read_cell(folder: Path, root: Path) -> Cell | None:
    parts = folder.relative_to(root).parts
    if len(parts) < 4:
        return None
    notes: list[str] = []
    facts = read_json(folder / "run.json", notes)
    curve = read_curve(folder / "metrics.jsonl", notes)
    status = str(facts.get("status", "unknown"))
    target = str(facts.get("target") or "/".join(parts[:-3]))
    arm = f"{facts.get('algorithm') or parts[-3]}/{facts.get('start') or parts[-2]}"
    return Cell(folder, target, arm, parts[-1], status, facts, curve, tuple(notes))


def _read_pretraining(folder: Path) -> Pretraining:
    notes: list[str] = []
    run = read_json(folder / "run.json", [])
    facts = read_json(folder / "pretraining.json", notes)
    status = str(run.get("status", "done" if facts else "unknown"))
    images = tuple(sorted((folder / "images").glob("*.png")))
    return Pretraining(folder, folder.name, status, {**run, **facts}, images, tuple(notes))


def _cell_folders(root: Path) -> list[Path]:
    """Folders under ``root`` that hold a cell's files, not looking inside a cell."""
    found, waiting = [], [root]
    while waiting:
        folder = waiting.pop()
        if folder != root and any((folder / name).is_file() for name in CELL_FILES):
            found.append(folder)
        elif folder.is_dir():
            waiting += [
                child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")
            ]
    return found


def _borrowed_pretraining(cells: list[Cell]) -> list[Pretraining]:
    """Pretraining that cells took from elsewhere: run.json names the model's folder under ``pretrained``."""
    folders = []
    for cell in cells:
        named = cell.facts.get("pretrained")
        if isinstance(named, str) and named:
            folders += [f for f in (Path(named), Path(named).parent) if (f / "pretraining.json").is_file()][
                :1
            ]
    return [_read_pretraining(folder) for folder in dict.fromkeys(folders)]


def read_run(path: str | Path) -> Run:
    """Everything a report needs from run folder ``path``; an empty Run when there is nothing."""
    path = Path(path)
    cells = [_read_cell(folder, path / "transfer") for folder in _cell_folders(path / "transfer")]
    cells = sorted((c for c in cells if c), key=lambda c: (c.target, c.arm, _natural(c.seed)))
    folders = sorted((p for p in (path / "pretrain").glob("*") if p.is_dir()), key=lambda p: _natural(p.name))
    pretraining = [_read_pretraining(folder) for folder in folders] or _borrowed_pretraining(cells)
    facts = [p.facts for p in pretraining] + [c.facts for c in cells]
    return Run(path, tuple(cells), tuple(pretraining), tuple(f for f in facts if f))
