"""What became of every cell of a sweep: one JSON line per attempt that ended, only ever appended to."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from meta_latent import files
from meta_latent.errors import UserError, visible

FAILED = "failed"


class Ledger:
    """Attempts in the file `path`, read when it is opened; a line that a kill cut short is passed over.

    `settings` of a cell is a checksum of what it does: a cell whose settings have changed has no past.
    """

    def __init__(self, path: Path):
        self._path = path
        self._last: dict[str, dict[str, Any]] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._spent: dict[tuple[str, str], float] = defaultdict(float)
        data = _content(path)
        self._torn = bool(data) and not data.endswith(b"\n")
        for line in data.splitlines():
            try:
                self._take(files.from_json(line))
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
                continue

    def add(self, cell: str, kind: str, settings: str, **told: Any) -> None:
        """Append an attempt at `cell`; kind: what finished cells are alike in their seconds. told: `outcome` (the kind
        of the scheduler's event: "done", "again", "failed", "interrupted", "stopped"), `seconds`, `status`, `line`.
        Raises `RunError` if the disk is full.
        """
        record = {"cell": cell, "kind": kind, "settings": settings, "at": round(time.time()), **told}
        files.append_bytes(self._path, b"\n" * self._torn + files.to_json(record) + b"\n")
        self._torn = False
        self._take(record)

    def failed(self, cell: str, settings: str) -> bool:
        """Whether the last that is known of `cell`, with these settings, is that it failed for good."""
        last = self._last.get(cell, {})
        return last.get("outcome") == FAILED and last.get("settings") == settings

    def status(self, cell: str) -> int | None:
        """The exit status that `cell` ended with last; None if nothing is known of it."""
        return self._last.get(cell, {}).get("status")

    def line(self, cell: str) -> str:
        """Why `cell` failed, in one line; "" if nothing is known of it."""
        return visible(str(self._last.get(cell, {}).get("line", "")))

    def seconds(self, kind: str) -> float | None:
        """Mean seconds of finished cells of one kind; None if there is none."""
        known = self._seconds.get(kind)
        return sum(known) / len(known) if known else None

    def _take(self, record: dict[str, Any]) -> None:
        key = (record["cell"], record["settings"])
        self._spent[key] += float(record["seconds"])  # over all attempts: each goes on where the last one stopped
        self._last[record["cell"]] = record
        if record["outcome"] == "done":
            self._seconds[record["kind"]].append(self._spent.pop(key))


def _content(path: Path) -> bytes:
    try:
        return files.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}; restore or remove it") from error
