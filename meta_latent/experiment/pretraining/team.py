"""Updates of a pretraining's model that several processes share (`pretrain.num_workers`).

The lead, which is the process of the run, draws batches, logs and saves; workers (`worker`) hold copies of the model
and of its optimisers, and a share of every batch. A worker that dies or is stopped (`watch`) ends the run, and all
workers end with their lead.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from meta_latent.errors import RunError, UserError
from meta_latent.experiment.pretraining.watch import LOOK_SECONDS, LOOKS, Watch
from meta_latent.experiment.pretraining.worker import PEER_LOST, Work, mapped, packed, perform
from meta_latent.experiment.runs import interrupts
from meta_latent.experiment.runs.processes import cell_environment
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.models.learner import ModelLearner
from meta_latent.ops.shares import bounds
from meta_latent.types import Metrics

SIZES = {
    "joint": "batch_size",
    "filter": "filter_batch_size",
    "trials": "filter_batch_size",
    "transition": "transition_batch_size",
}
"""Kind of update -> the setting of `LearnerConfig` that says how many rows its batch has."""
_ENTRY = "import sys; from meta_latent.experiment.pretraining.worker import main; main(int(sys.argv[1]))"
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class _Member:
    process: subprocess.Popen
    connection: Connection


class Team:
    """A `ModelLearner` and those who share its updates; with `pretrain.num_workers=1` it does them itself.

    Raises UserError if the model cannot be shared.
    """

    def __init__(self, experiment: ExperimentConfig, learner: ModelLearner):
        self.learner, self.count = learner, experiment.pretrain.num_workers
        self._device, self._imports = experiment.device, experiment.imports
        self._members: list[_Member] = []
        self._watch: Watch | None = None
        self._store, self._current = "", False
        check_model(learner.model, self.count)

    def update(self, kind: str, rng: torch.Generator, scale: float, **inputs: Any) -> Metrics:
        """One update of the method `kind` of `ModelLearner`; `inputs`: what it takes, with the whole batch's rows."""
        if self.count == 1:
            return perform(self.learner, kind, inputs, rng, scale)
        if not self._current:
            self._begin()
        size, draws = getattr(self.learner.config, SIZES[kind]), rng.get_state().numpy()
        for member, (start, stop) in zip(self._members, bounds(size, self.count), strict=True):
            rows = packed(mapped(inputs, torch.Tensor, lambda x, a=start, b=stop: x[a:b]))
            self._send(member, ("update", (kind, rows, (start, stop, size), draws, scale)))
        metrics, after = self._answers(self._members)[0]
        rng.set_state(torch.from_numpy(after))
        return metrics

    @property
    def process_ids(self) -> list[int]:
        """Those of the workers that were started."""
        return [member.process.pid for member in self._members]

    def fetch(self) -> None:
        """Bring the lead's learner to where the workers are."""
        if self._current:
            self._send(self._members[0], ("state", ()))
            (state,) = self._answers(self._members[:1])
            self.learner.load_state(mapped(state, np.ndarray, torch.from_numpy))

    def finish(self) -> None:
        """`fetch`; the lead may then change its model: the next update begins with that."""
        self.fetch()
        self._current = False

    def close(self) -> None:
        """End the workers, whatever they are at."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        for member in self._members:
            member.process.kill()
            member.process.wait()
            member.connection.close()
        self._members, self._current = [], False
        if self._store:
            shutil.rmtree(self._store, ignore_errors=True)

    def _begin(self) -> None:
        """All workers to where the lead is."""
        if not self._members:
            self._start()
        state = packed(self.learner.state())
        for member in self._members:
            self._send(member, ("load", (state,)))
        self._answers(self._members)
        self._current = True

    def _start(self) -> None:
        self._store = tempfile.mkdtemp(prefix="meta-latent-")
        model, threads = self.learner.model, max(1, torch.get_num_threads() // self.count)
        for _ in range(self.count):
            with interrupts.held():  # between its start and its place in the list nobody would end it
                self._members.append(_launch(threads))
        self._watch = Watch([member.process for member in self._members])
        for rank, member in enumerate(self._members):
            device = f"cuda:{rank}" if self._device == "cuda" else self._device
            self._send(member, Work(rank, self.count, device, os.path.join(self._store, "store"), self._imports,
                                    model.spec, model.config, model.task_rewards, self.learner.config))  # fmt: skip
        self._answers(self._members)

    def _send(self, member: _Member, message: Any) -> None:
        try:
            member.connection.send(message)
        except OSError:
            raise self._lost() from None

    def _answers(self, members: Sequence[_Member]) -> list[Any]:
        """One answer of each. Raises RunError when a worker is gone, and what a worker raised."""
        waiting, found = {member.connection: member for member in members}, {}
        while waiting:
            for connection in wait(list(waiting)):
                try:
                    answer = connection.recv()
                except (EOFError, OSError):
                    raise self._lost() from None
                if isinstance(answer, Exception):
                    raise answer
                del waiting[connection]
                found[connection] = answer
        return [found[member.connection] for member in members]

    def _lost(self) -> RunError:
        """Which worker is gone, and why: not those that stopped because it was."""
        until, gone = time.monotonic() + _PATIENCE_SECONDS, None
        while gone is None and time.monotonic() < until:
            statuses = [(k, m, m.process.poll()) for k, m in enumerate(self._members, 1)]
            gone = next((found for found in statuses if found[2] not in (None, PEER_LOST)), None)
            time.sleep(0.02)
        what = "a worker was lost"
        if gone is not None:
            number, member, status = gone
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
            if self._watch is not None and member.process.pid in self._watch.ended:
                how = f"was stopped, as SIGSTOP does, for {LOOKS * LOOK_SECONDS:.0f} s, and ended"
            what = f"worker {number} of {self.count} (process {member.process.pid}) {how}"
        return RunError(f"{what}; the same command goes on from the last checkpoint")


def _launch(threads: int) -> _Member:
    ours, theirs = Pipe()
    with theirs:
        descriptor = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _ENTRY, str(descriptor)],
            env={"GLOO_SOCKET_IFNAME": "lo", **cell_environment(threads)},
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
            start_new_session=True,  # a terminal's Ctrl-C reaches the lead alone
        )
    return _Member(process, ours)


def check_sizes(experiment: ExperimentConfig) -> None:
    """Raise UserError, naming the key, if there are more workers than rows in the batch of a stage that is to run."""
    settings, count = experiment.pretrain, experiment.pretrain.num_workers
    kinds = [kind for kind in ("joint", "filter", "transition") if getattr(settings, f"{kind}_updates")]
    few = {f"learner.{SIZES[kind]}": getattr(experiment.learner, SIZES[kind]) for kind in kinds}
    small = [f"{key}={size}" for key, size in few.items() if size < count]
    if small:
        raise UserError(f"pretrain.num_workers={count} is more than {', '.join(small)}, whose sequences they share: "
                        "give fewer workers or larger batches")  # fmt: skip


def check_devices(device: str, count: int) -> None:
    """Raise UserError if `count` workers on CUDA lack a GPU each."""
    if count > 1 and device != "cpu":
        there = torch.cuda.device_count()
        if device != "cuda":
            raise UserError(f"pretrain.num_workers={count} takes a GPU for each worker, from the first on: give "
                            f"device=cuda, not {device}")  # fmt: skip
        if there < count:
            raise UserError(f"pretrain.num_workers={count}, but there are {there} GPUs: each worker takes one")


def check_model(model: torch.nn.Module, count: int) -> None:
    """Raise UserError if the model normalises over the rows of a batch, of which a worker sees its share alone."""
    for name, module in model.named_modules():
        if count > 1 and isinstance(module, _BatchNorm):
            kind = type(module).__name__
            raise UserError(f"pretrain.num_workers={count}: {name} of the model, a {kind}, averages over a batch, of "
                            "which a worker sees its share; use another one, or num_workers=1")  # fmt: skip
