"""Cells on a Ray cluster (extra `cluster`): each is a Ray task that runs the same command as a local cell.

The machines share the folder of the sweep and have the same installation; a lock on a network file system has to be
one that they all see.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from meta_latent.errors import UserError
from meta_latent.experiment.runs.processes import Cell, LocalProcess, Process

LOST = -signal.SIGKILL
"""Exit status of a cell whose machine or worker was lost."""
_POLL_SECONDS = 0.2


def connect(address: str | None, workers: int) -> Callable[[Cell], Process]:
    """A function that starts cells on the cluster at `address` (None: the one around us, which RAY_ADDRESS names; else
    one is started on this machine, for `workers` cells at once). Raises UserError without the package ray.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("sweep.executor=ray needs the extra cluster: pip install 'meta-latent[cluster]'") from error
    if not ray.is_initialized():
        here = address is None and "RAY_ADDRESS" not in os.environ
        sizes = {"num_cpus": workers, "include_dashboard": False} if here else {}
        ray.init(address=address, log_to_driver=False, configure_logging=False, **sizes)
    return _RayProcess


class _RayProcess:
    """`Process` as a Ray task; `last_line` is known once it has ended."""

    def __init__(self, cell: Cell):
        import ray

        self.last_line = ""
        self._ended: tuple[int, str] | None = None
        task = ray.remote(num_cpus=1, max_retries=0)(_work)
        self._task = task.remote(cell, os.getcwd(), dict(os.environ))

    def poll(self) -> int | None:
        """See `Process`."""
        import ray

        if self._ended is None and ray.wait([self._task], timeout=0)[0]:
            self._fetch()
        return None if self._ended is None else self._ended[0]

    def interrupt(self) -> None:
        """See `Process`."""
        import ray

        ray.cancel(self._task)

    def kill(self) -> None:
        """See `Process`."""
        import ray

        ray.cancel(self._task, force=True)

    def wait(self) -> None:
        """See `Process`."""
        while self.poll() is None:
            time.sleep(_POLL_SECONDS)

    def reason(self) -> str:
        """See `Process`."""
        return self._ended[1] if self._ended else ""

    def _fetch(self) -> None:
        import ray

        try:
            self._ended = ray.get(self._task)
        except ray.exceptions.TaskCancelledError:
            self._ended = (130, "interrupted")
        except ray.exceptions.RayError as error:
            self._ended = (LOST, f"lost: {' '.join(str(error).split())[:200]}")
        self.last_line = self._ended[1]


def _work(cell: Cell, folder: str, environment: dict[str, str]) -> tuple[int, str]:
    """On a machine of the cluster: run the cell, in the folder and the environment of the sweep."""
    os.chdir(folder)
    os.environ.update(environment)
    process = LocalProcess(cell)
    try:
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
    except BaseException:  # the sweep was interrupted: let the cell save
        process.interrupt()
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
        raise
    return process.poll(), process.reason()
