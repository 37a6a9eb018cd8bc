"""Runs many cells (subprocesses) side by side: dependencies, one thread each, progress, orderly Ctrl-C."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from meta_latent.errors import UserError
from meta_latent.experiment.runs import interrupts

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "20000000000", "MALLOC_TOP_PAD_": "268435456"}
"""glibc settings that save a third of a convolution's time (page faults); they count only if set before
Python starts.
"""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS")
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Cell:
    """One subprocess. name: unique. argv: its command. after: cells that must succeed first.

    log: file that its output is appended to.
    """

    name: str
    argv: tuple[str, ...]
    after: tuple[str, ...] = ()
    log: Path | None = None


@dataclass(frozen=True)
class Event:
    """What happened to a cell. kind: "started", "done", "failed" or "skipped" (a cell it needs failed).

    exit_status: of a finished cell (negative: killed by that signal). last_line: of its output; of a failed
    one the line that says why. seconds: it ran.
    """

    kind: str
    cell: Cell
    exit_status: int | None = None
    last_line: str = ""
    seconds: float = 0.0


@dataclass
class _Running:
    cell: Cell
    process: subprocess.Popen
    slot: int
    started: float = field(default_factory=time.monotonic)
    output: "_Output" = field(default_factory=lambda: _Output())
    reader: threading.Thread | None = None


def run_cells(
    cells: Sequence[Cell],
    workers: int,
    on_event: Callable[[Event], None] | None = None,
    progress: bool | None = None,
) -> dict[str, str]:
    """Run `cells` on `workers` processes and return {name: "done" | "failed" | "skipped"}.

    A failed cell does not stop the others; cells that need it are skipped. Ctrl-C, SIGTERM or a lost
    terminal passes SIGINT to the children, waits until they have saved, then raises `KeyboardInterrupt`; a
    second Ctrl-C kills them.
    progress: one line per worker and one in all on stderr; None: only on a terminal.
    Raises `UserError` for a repeated name, an unknown or circular dependency, or fewer than one worker.
    """
    _check(cells, workers)
    outcome: dict[str, str] = {}
    waiting, running = list(cells), []
    emit = on_event or (lambda event: None)
    with interrupts.raised(), _Display(len(cells), workers, progress) as display:
        try:
            while waiting or running:
                waiting = _skip(waiting, outcome, emit, display)
                _start_ready(waiting, running, outcome, workers, emit)
                display.show(running)
                time.sleep(_POLL_SECONDS)
                for item in [item for item in running if item.process.poll() is not None]:
                    running.remove(item)
                    _collect(item, outcome, emit, display)
        except KeyboardInterrupt:
            _interrupt(running)
            raise
        finally:
            for item in running:  # an error of ours, such as one from `on_event`, leaves no orphans
                if item.process.poll() is None:
                    item.process.kill()
                    item.process.wait()
    return outcome


def cell_environment() -> dict[str, str]:
    """Environment of a cell: ours, with one thread per process and the allocator settings of `ALLOCATOR`."""
    python = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}  # we read it, whatever our terminal is
    return {**os.environ, **dict.fromkeys(_THREADS, "1"), **ALLOCATOR, **python}


def _check(cells: Sequence[Cell], workers: int) -> None:
    if workers < 1:
        raise UserError(f"workers={workers}, expected at least 1")
    for cell in cells:
        for word in (*cell.argv, str(cell.log or "")):
            _check_encoding(word)
    names = [cell.name for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two cells are called {name!r}")
    for cell in cells:
        for needed in cell.after:
            if needed not in names:
                raise UserError(f"cell {cell.name!r} needs {needed!r}, which is not among the cells")
    settled: set[str] = set()
    while free := [c for c in cells if c.name not in settled and settled.issuperset(c.after)]:
        settled.update(cell.name for cell in free)
    if circle := [name for name in names if name not in settled]:
        raise UserError(f"cells wait for each other in a circle: {', '.join(circle)}")


def _check_encoding(word: str) -> None:
    try:
        os.fsencode(word)
    except UnicodeEncodeError as error:
        raise UserError(
            f"{word!a} cannot be written in this system's encoding, {error.encoding}: set LC_ALL=C.UTF-8 or "
            "use ASCII letters"
        ) from error


def _skip(waiting: list[Cell], outcome: dict[str, str], emit: Callable, display: "_Display") -> list[Cell]:
    keep = []
    for cell in waiting:
        if any(outcome.get(needed) in ("failed", "skipped") for needed in cell.after):
            outcome[cell.name] = "skipped"
            emit(Event("skipped", cell))
            display.advance()
        else:
            keep.append(cell)
    return keep


def _start_ready(
    waiting: list[Cell], running: list[_Running], outcome: dict[str, str], workers: int, emit: Callable
) -> None:
    for cell in list(waiting):
        if len(running) >= workers:
            return
        if all(outcome.get(needed) == "done" for needed in cell.after):
            waiting.remove(cell)
            slot = min(set(range(workers)) - {item.slot for item in running})
            running.append(_start(cell, slot))
            emit(Event("started", cell))


def command(*words: str) -> tuple[str, ...]:
    """The command line `meta-latent WORDS` for a cell, with this Python.

    -P: what lies in the working folder, such as a user's own queue.py, is not imported in place of what the
    cell needs (`imports=` looks there by itself).
    """
    return (sys.executable, "-P", "-m", "meta_latent", *words)


def _start(cell: Cell, slot: int) -> _Running:
    # A session of its own: a terminal's Ctrl-C reaches us alone, and we send the child exactly one SIGINT.
    process = subprocess.Popen(
        cell.argv,
        env=cell_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    item = _Running(cell, process, slot)
    item.reader = threading.Thread(target=_read_output, args=(item,), daemon=True)
    item.reader.start()
    return item


class _Output:
    """What is remembered of a cell's output: the last line, and the last one that says why it failed."""

    def __init__(self) -> None:
        self.last_line = self.error = ""
        self._in_traceback = self._ignored = False

    def add(self, line: str) -> None:
        """Take the next line."""
        if not line.strip():
            return
        self.last_line = line.strip()
        if line.startswith("meta-latent: "):
            self.error = self.last_line
        elif line.startswith("Exception ignored"):  # in a finalizer, after the error that matters
            self._ignored = True
        elif line.startswith("Traceback "):
            self._in_traceback = True
        elif self._in_traceback and not line[0].isspace():
            if not self._ignored:
                self.error = self.last_line
            self._in_traceback = self._ignored = False

    def reason(self, exit_status: int) -> str:
        """One line: why a cell with this exit status failed."""
        if exit_status < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-exit_status).name}; last line: {self.last_line}"
        return self.error or self.last_line or f"exit status {exit_status}, without any output"


def _read_output(item: _Running) -> None:
    assert item.process.stdout is not None
    with contextlib.ExitStack() as stack:
        output, log = stack.enter_context(item.process.stdout), None
        unwritten = ""
        if item.cell.log is not None:
            try:
                item.cell.log.parent.mkdir(parents=True, exist_ok=True)
                log = stack.enter_context(open(item.cell.log, "a", encoding="utf-8"))
            except OSError as error:
                unwritten = f"cannot write {item.cell.log}: {error.strerror}"
        for line in output:  # universal newlines: a progress bar's carriage returns end lines too
            item.output.add(line)
            if log is not None:
                try:
                    log.write(line)
                    log.flush()
                except OSError as error:  # a full disk must not stop the reading, which would block the child
                    unwritten, log = f"cannot write {item.cell.log}: {error.strerror}", None
        if unwritten:
            item.output.add(unwritten)


def _collect(item: _Running, outcome: dict[str, str], emit: Callable, display: "_Display") -> None:
    if item.reader is not None:
        item.reader.join(timeout=5)
    status, output = item.process.returncode, item.output
    kind = "done" if status == 0 else "failed"
    outcome[item.cell.name] = kind
    line = output.last_line if status == 0 else output.reason(status)
    emit(Event(kind, item.cell, status, line, time.monotonic() - item.started))
    display.advance()


def _interrupt(running: list[_Running]) -> None:
    interrupts.say("interrupted: waiting for the running cells to save (Ctrl-C again kills them)")
    for item in running:
        if item.process.poll() is None:
            item.process.send_signal(signal.SIGINT)
    try:
        for item in running:
            item.process.wait()
    except KeyboardInterrupt:
        for item in running:
            item.process.kill()


class _Display:
    """One tqdm line in all and one per worker, with the last line of its cell's output."""

    def __init__(self, total: int, workers: int, progress: bool | None):
        disable = None if progress is None else not progress
        self._total = tqdm(total=total, desc="cells", unit="cell", disable=disable, position=0)
        layout = {"bar_format": "{desc}", "disable": disable, "leave": False}
        self._lines = [tqdm(total=0, position=i + 1, **layout) for i in range(min(workers, total))]

    def __enter__(self) -> "_Display":
        return self

    def __exit__(self, *unused: object) -> None:
        for line in [*reversed(self._lines), self._total]:
            line.close()

    def show(self, running: list[_Running]) -> None:
        """Refresh every worker's line."""
        for slot, line in enumerate(self._lines):
            item = next((item for item in running if item.slot == slot), None)
            text = "idle"
            if item is not None:
                text = f"{item.cell.name} [{time.monotonic() - item.started:.0f} s] {item.output.last_line}"
            line.set_description_str(f"  {text[:100]}")

    def advance(self) -> None:
        """One cell less to go."""
        self._total.update()
