"""Ends worker processes that are stopped: they would never answer, and who waits for them would never learn why."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence

LOOK_SECONDS = 1.0
LOOKS = 30
"""A worker that is found stopped at so many looks in a row is ended. Looks are counted, not time: where the whole run
was stopped with its workers, as batch systems do, none is ended when it goes on."""


class Watch:
    """A thread that looks at child processes until `close`; `ended`: those that it killed because they were stopped.

    A process is stopped by SIGSTOP or SIGTSTP, not by being slow or busy. Killing it makes its lead's connection end,
    so that it is noticed wherever the lead is, in reading, writing or waiting.
    """

    def __init__(self, processes: Sequence[subprocess.Popen]):
        self.ended: set[int] = set()
        self._looks = {process.pid: (process, 0) for process in processes}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; call before somebody else waits for the processes."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """One look at all of them."""
        for pid, (process, before) in self._looks.items():
            looks = before + 1 if is_stopped(process) else 0
            self._looks[pid] = process, looks
            if looks == LOOKS:
                self.ended.add(pid)
                process.kill()


def is_stopped(process: subprocess.Popen) -> bool:
    """Whether a child process is stopped; never where the system cannot say so (macOS before Python 3.13). Changes
    nothing about what others learn of it.
    """
    if not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # it has ended, and somebody knows
        return False
