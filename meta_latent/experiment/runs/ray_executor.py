"""Cells on a Ray cluster (extra `cluster`): each is a Ray actor that runs the same command as a local cell.

The machines share the folder of the sweep and have the same installation; a lock on a network file system has to be
one that they all see.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping

from meta_latent.errors import UserError
from meta_latent.experiment.runs.processes import Cell, LocalProcess, Process

LOST = -signal.SIGKILL
"""Exit status of a cell whose machine or worker was lost."""
_POLL_SECONDS = 0.2


def connect(address: str | None, workers: int, cpus: int = 1) -> Callable[[Cell], Process]:
    """A function that starts cells on the cluster at `address` (None: the one around us, which RAY_ADDRESS names; else
    one is started on this machine, for `workers` cells at once). cpus: most that a cell takes, all on one machine.
    Raises UserError without the package ray, or where no machine of the cluster has as many CPUs.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("sweep.executor=ray needs the extra cluster: pip install 'meta-latent[cluster]'") from error
    if not ray.is_initialized():
        here = address is None and "RAY_ADDRESS" not in os.environ
        sizes = {"num_cpus": max(workers, cpus), "include_dashboard": False} if here else {}
        ray.init(address=address, log_to_driver=False, configure_logging=False, **sizes)
    most = int(max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0))
    if most < cpus:  # Ray would wait for such a machine for ever
        raise UserError(f"a cell takes {cpus} CPUs, one for each of its workers (pretrain.num_workers), and no machine "
                        f"of the Ray cluster has more than {most}")  # fmt: skip
    return _RayProcess


class _RayProcess:
    """`Process` in a Ray actor, which is asked again and again how the cell stands."""

    def __init__(self, cell: Cell):
        import ray

        self.last_line, self._status, self._reason = "", None, ""
        actor = ray.remote(num_cpus=cell.cpus, max_restarts=0)(_OnMachine)
        self._actor = actor.remote(cell, os.getcwd(), dict(os.environ))
        self._answer = self._actor.standing.remote()

    def poll(self) -> int | None:
        """See `Process`."""
        import ray

        if self._status is None and ray.wait([self._answer], timeout=0)[0]:
            try:
                self._status, self.last_line, self._reason = ray.get(self._answer)
            except ray.exceptions.RayError as error:
                self._status, self._reason = LOST, f"lost: {' '.join(str(error).split())[:200]}"
            if self._status is None:
                self._answer = self._actor.standing.remote()
            else:
                ray.kill(self._actor)  # frees its CPU
        return self._status

    def interrupt(self) -> None:
        """See `Process`."""
        self._actor.interrupt.remote()

    def kill(self) -> None:
        """See `Process`."""
        self._actor.kill.remote()

    def wait(self) -> None:
        """See `Process`."""
        while self.poll() is None:
            time.sleep(_POLL_SECONDS)

    def reason(self) -> str:
        """See `Process`."""
        return self._reason


class _OnMachine(LocalProcess):
    """On a machine of the cluster: the cell, in the folder and the environment of the sweep."""

    def __init__(self, cell: Cell, folder: str, environment: Mapping[str, str]):
        os.chdir(folder)
        os.environ.update(environment)
        # Ray's workers block SIGINT, and what they start would never hear of an interrupt.
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        super().__init__(cell)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def standing(self) -> tuple[int | None, str, str]:
        """Exit status (None: it runs), last line, and once it has ended its reason."""
        time.sleep(_POLL_SECONDS)
        status = self.poll()
        return status, self.last_line, "" if status is None else self.reason()
