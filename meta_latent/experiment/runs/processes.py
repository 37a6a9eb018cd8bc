"""Cells as processes: their command, environment and output, and how one is started, interrupted and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from meta_latent import files
from meta_latent.errors import visible

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "20000000000", "MALLOC_TOP_PAD_": "268435456"}
"""glibc settings that save a third of a convolution's time (page faults); they count only if set before
Python starts.
"""

IN_USE = "is in use by process"
"""What whoever asks for a folder that another process holds is told, with that one's number."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS")


@dataclass(frozen=True)
class Cell:
    """One subprocess. name: unique. argv: its command. after: cells that must succeed first.

    log: file that its output is appended to. cpus: that it keeps busy, with the processes that it starts.
    """

    name: str
    argv: tuple[str, ...]
    after: tuple[str, ...] = ()
    log: Path | None = None
    cpus: int = 1

    def lost_its_folder(self, line: str) -> bool:
        """Whether a line of its output says that another process holds its folder, where its log is."""
        folder = "" if self.log is None else f"{self.log.parent} "
        return f"{folder}{IN_USE}" in line


class Process(Protocol):
    """A cell that was started, here or on another machine. last_line: of its output so far."""

    last_line: str

    def poll(self) -> int | None:
        """Its exit status, negative where a signal or a lost machine ended it; None: it runs."""

    def interrupt(self) -> None:
        """Ask it to save and stop, as Ctrl-C does."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self) -> None:
        """Until it has ended."""

    def reason(self) -> str:
        """One line, once it has ended: its last one, or of a failed cell the one that says why."""


def command(*words: str) -> tuple[str, ...]:
    """The command line `meta-latent WORDS` for a cell, with this Python.

    -P: what lies in the working folder, such as a user's own queue.py, is not imported in place of what the
    cell needs (`imports=` looks there by itself).
    """
    return (sys.executable, "-P", "-m", "meta_latent", *words)


def cell_environment(threads: int = 1) -> dict[str, str]:
    """Environment of a cell: ours, with so many threads per process and the allocator settings of `ALLOCATOR`."""
    python = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}  # we read it, whatever our terminal is
    return {**os.environ, **dict.fromkeys(_THREADS, str(threads)), **ALLOCATOR, **python}


class LocalProcess:
    """`Process` on this machine."""

    def __init__(self, cell: Cell):
        self._cell, self._output = cell, Output()
        # A session of its own: a terminal's Ctrl-C reaches us alone, and we send the child exactly one SIGINT.
        self._process = subprocess.Popen(
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
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def last_line(self) -> str:
        """Of its output so far."""
        return self._output.last_line

    def poll(self) -> int | None:
        """See `Process`."""
        return self._process.poll()

    def interrupt(self) -> None:
        """See `Process`."""
        if self.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """See `Process`."""
        if self.poll() is None:
            self._process.kill()

    def wait(self) -> None:
        """See `Process`."""
        self._process.wait()

    def reason(self) -> str:
        """See `Process`."""
        self._reader.join(timeout=5)
        return self._output.reason(self._process.returncode)

    def _read(self) -> None:
        assert self._process.stdout is not None
        log = self._cell.log
        with contextlib.ExitStack() as stack:
            output, file = stack.enter_context(self._process.stdout), None
            unwritten = ""
            if log is not None:
                try:
                    log.parent.mkdir(parents=True, exist_ok=True)
                    file = stack.enter_context(open(log, "a", encoding="utf-8", opener=files.no_link))
                except OSError as error:
                    unwritten = f"cannot write {log}: {error.strerror}"
            for line in output:  # universal newlines: a progress bar's carriage returns end lines too
                self._output.add(line)
                if file is not None and not self._cell.lost_its_folder(line):  # the log is that of the other process
                    try:
                        file.write(line)
                        file.flush()
                    except OSError as error:  # a full disk must not stop the reading, which would block the child
                        unwritten, file = f"cannot write {log}: {error.strerror}", None
            if unwritten:
                self._output.add(unwritten)


class Output:
    """What is remembered of a cell's output: the last line, the last one that is no warning, and the last one that says
    why it failed.
    """

    def __init__(self) -> None:
        self.last_line = self.result = self.error = ""
        self._in_traceback = self._ignored = False

    def add(self, line: str) -> None:
        """Take the next line."""
        if not line.strip():
            return
        self.last_line = visible(line.strip())
        if not line.startswith("warning: "):
            self.result = self.last_line
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
        """The last line of a cell that succeeded, but for warnings; one line that says why another failed."""
        if exit_status == 0:
            return self.result
        if exit_status < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-exit_status).name}; last line: {self.last_line}"
        return self.error or self.last_line or f"exit status {exit_status}, without any output"
