"""What runs wrote, read with distrust: JSON files, metrics.jsonl, pictures and films, however unfinished or damaged
they are, and whatever else lies there under their names.

Nothing here raises for bad content: whatever is wrong becomes a sentence in ``notes``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from meta_latent import files
from meta_latent.ops.learning_curve import UNITS, Curve

LARGEST = 1e30
"""No return is as large; sums and figures of larger numbers overflow."""
LARGEST_LOG = LARGEST_MEDIA = 2**30
"""Bytes."""


def number(value: Any) -> float | None:
    """``value`` as a float; None for what is no number, or not within ±`LARGEST`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -LARGEST <= value <= LARGEST else None  # NaN fails both


def numbers(value: Any) -> tuple[float, ...] | None:
    """The numbers of a list; None if it is no list or holds anything else."""
    found = [number(entry) for entry in value] if isinstance(value, list) else [None]
    return None if None in found else tuple(found)


def read_bytes(path: Path, most: int = files.LARGEST, first: int = -1) -> bytes:
    """The content of a file of a run, or its `first` bytes.

    Raises OSError, and ValueError for what is none (`files.read_bytes`) or lies elsewhere: a page that is made to be
    passed on must not hold whatever a link leads to.
    """
    if files.leads_out(path, path.parent):
        raise ValueError("it is a link that leads out of its folder")
    return files.read_bytes(path, most, first)


MEDIA = {".png": (0, b"\x89PNG\r\n\x1a\n"), ".mp4": (4, b"ftyp")}
"""How such a file begins: from which byte on, with what."""


def media(folder: Path, suffix: str, notes: list[str]) -> tuple[Path, ...]:
    """The pictures (".png") or films (".mp4") in ``folder``, in order; notes of what is only called so."""
    found = []
    start, mark = MEDIA[suffix]
    if files.leads_out(folder, folder.parent):
        notes.append(f"{folder.name}/ is left out: it is a link that leads out of its run")
        return ()
    for path in sorted(folder.glob(f"*{suffix}")):
        try:
            is_one = read_bytes(path, LARGEST_MEDIA, start + len(mark))[start:] == mark
        except (OSError, ValueError):
            is_one = False
        if is_one:
            found.append(path)
        else:
            notes.append(f"{folder.name}/{path.name} is left out: it is no {suffix[1:].upper()}")
    return tuple(found)


def read_json(path: Path, notes: list[str]) -> dict[str, Any]:
    """The object in ``path``; {} and a note when it is missing or damaged."""
    try:
        content = files.from_json(read_bytes(path))
    except FileNotFoundError:
        notes.append(f"{path.name} is missing")
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__})")
    else:
        if isinstance(content, dict):
            return content
        notes.append(f"{path.name} does not hold an object")
    return {}


@dataclass(frozen=True)
class Log:
    """What metrics.jsonl holds of one run.

    ``curve``: its evaluations, E of them, cut before the first score that is no finite number; None = none.
    ``success`` (E,): share of episodes that ended solved, ``raw_return`` (E,): as the task pays it, ``cpu_seconds``
    (E,): of the process; all NaN where they were not known, or not recorded. ``last``: the last evaluation of the curve
    as it was recorded. ``train``: the records between evaluations, in order: clocks, and each metric's mean since the
    last one.
    """

    curve: Curve | None = None
    success: np.ndarray = field(default_factory=lambda: np.zeros(0))
    raw_return: np.ndarray = field(default_factory=lambda: np.zeros(0))
    cpu_seconds: np.ndarray = field(default_factory=lambda: np.zeros(0))
    last: dict[str, Any] = field(default_factory=dict)
    train: tuple[dict[str, Any], ...] = ()


def read_log(path: Path, clock: str, stopped_at: float | None, notes: list[str]) -> Log:
    """The log in ``path``; its curve runs over ``clock``. Of two records at one place the later counts."""
    records: dict[str, dict[float, dict[str, Any]]] = {"evaluation": {}, "train": {}}
    lines = _lines(path, notes)
    damaged = 0
    for position, line in enumerate(lines):
        try:
            record = files.from_json(line)
            if record.get("kind") in records:
                places = {name: float(record[name]) for name in UNITS}
                if record["kind"] == "evaluation":  # null is how the log writes a number that is not finite
                    record["score"] = math.nan if record["score"] is None else float(record["score"])
                records[record["kind"]][places[clock]] = record | places
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            damaged += position < len(lines) - 1  # a run that is being written ends on half a line
    if damaged:
        notes.append(f"{damaged} damaged lines in metrics.jsonl were left out")
    found, train = ([by_place[place] for place in sorted(by_place)] for by_place in records.values())
    found = _sound(found, clock, notes)
    curve = _curve(found, clock, stopped_at, notes)
    if curve is None:
        return Log(train=tuple(train))
    columns = (_column(found, key) for key in ("success", "raw_return", "cpu_seconds"))
    return Log(curve, *columns, last=found[-1], train=tuple(train))


def _column(records: list[dict[str, Any]], key: str) -> np.ndarray:
    values = [number(record.get(key)) for record in records]
    return np.array([math.nan if value is None else value for value in values])


def _lines(path: Path, notes: list[str]) -> list[str]:
    try:
        return read_bytes(path, LARGEST_LOG).decode(errors="replace").splitlines()
    except FileNotFoundError:
        notes.append("metrics.jsonl is missing")
    except (OSError, ValueError) as error:
        notes.append(f"metrics.jsonl cannot be read ({type(error).__name__})")
    return []


def _sound(records: list[dict[str, Any]], clock: str, notes: list[str]) -> list[dict[str, Any]]:
    """The evaluations before the first one that holds no number to count with."""
    columns = [[record[name] for record in records] for name in (*UNITS, "score")]
    wrong = np.flatnonzero((~(np.abs(columns) <= LARGEST)).any(axis=0))  # NaN is within nothing
    if not wrong.size:
        return records
    first = records[wrong[0]]
    what = "too large" if math.isfinite(first["score"]) else "non-finite"
    notes.append(f"{what} evaluation at {first[clock]:g} {clock}: the curve ends before it")
    return records[: wrong[0]]


def _curve(records: list[dict[str, Any]], clock: str, stopped_at: float | None, notes: list[str]) -> Curve | None:
    if not records:
        return None
    try:
        columns = {name: [record[name] for record in records] for name in UNITS}
        scores = [record["score"] for record in records]
        return Curve(**columns, scores=scores, axis=clock, stopped_at=stopped_at)
    except ValueError as error:
        notes.append(f"the evaluations make no curve: {error}")
        return None
