"""A worker of a pretraining, a process of its own: it takes its share of every update of the model.

It is told what to do through one end of a socket pair that only its lead has the other end of (`team`), and ends when
the lead does. Gradients go from worker to worker: gloo on a CPU, nccl on GPUs.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import distributed

from meta_latent.errors import RunError, UserError, described
from meta_latent.experiment.runs.devices import repeatable
from meta_latent.experiment.settings.extensions import import_packages
from meta_latent.models.config import ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import LearnerConfig, ModelLearner
from meta_latent.ops.shares import Draws, Share
from meta_latent.rng import seeded_construction
from meta_latent.types import Metrics, Spec

PEER_LOST = 3
"""Exit status of a worker that stopped because another one had."""


@dataclass(frozen=True)
class Work:
    """What a worker is: number `rank` of `count`, on `device`; they find each other through the file `store`."""

    rank: int
    count: int
    device: str
    store: str
    imports: tuple[str, ...]
    spec: Spec
    model: ModelConfig
    task_rewards: tuple[str, ...]
    learner: LearnerConfig


def perform(learner: ModelLearner, kind: str, inputs: Mapping[str, Any], rng: Draws, scale: float) -> Metrics:
    """One update: `kind` is a method of `ModelLearner`, `inputs` are what it takes beside `rng` and `scale`."""
    found = getattr(learner, kind)(**inputs, rng=rng, scale=scale)
    return found[0] if isinstance(found, tuple) else found


def mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """A nest of mappings and dataclasses with every leaf of `kind` changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(item, kind, change) for key, item in value.items()}
    if is_dataclass(value):
        return replace(value, **{f.name: mapped(getattr(value, f.name), kind, change) for f in fields(value)})
    return value


def packed(value: Any) -> Any:
    """A nest of tensors as one of arrays: a message of tensors would be files in shared memory."""
    return mapped(value, torch.Tensor, lambda x: x.detach().cpu().numpy())


class Worker:
    """The methods that a lead calls."""

    def __init__(self, work: Work):
        self.device = torch.device(work.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        import_packages(work.imports)
        with seeded_construction(0):
            model = LatentStateModel(work.spec, work.model, work.task_rewards).to(self.device)
        self.learner = ModelLearner(model, work.learner)
        distributed.init_process_group(
            "nccl" if self.device.type == "cuda" else "gloo",
            store=distributed.FileStore(work.store, work.count),
            rank=work.rank,
            world_size=work.count,
        )

    def load(self, state: dict) -> None:
        """Go on from the packed state of a `ModelLearner`."""
        self.learner.load_state(mapped(state, np.ndarray, torch.from_numpy))

    def state(self) -> dict:
        """The packed state of its `ModelLearner`."""
        return packed(self.learner.state())

    def update(self, kind: str, inputs: dict, rows: tuple[int, int, int], draws: np.ndarray, scale: float):
        """One update with packed `inputs`, the rows (start, stop, size) of a batch -> metrics, and the state in which
        the generator, `draws` before, is now.
        """
        generator = torch.Generator()
        generator.set_state(torch.from_numpy(draws))
        inputs = mapped(inputs, np.ndarray, lambda x: torch.from_numpy(x).to(self.device))
        metrics = perform(self.learner, kind, inputs, Share(generator, *rows, self._total), scale)
        return metrics, generator.get_state().numpy()

    def _total(self, values: torch.Tensor) -> torch.Tensor:
        summed = values.to(self.device)
        try:
            distributed.all_reduce(summed)
        except RuntimeError:  # the lead finds out which one is gone, and says so
            os._exit(PEER_LOST)
        return summed.to(values.device)


def main(descriptor: int) -> None:
    """Serve the lead at the other end of the socket `descriptor` for as long as there is one."""
    lead = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        work = lead.recv()
        with repeatable(work.device):  # the lead's settings are those of its own process
            worker = _outcome(Worker, work)
            lead.send(worker if isinstance(worker, Exception) else None)
            while True:
                method, arguments = lead.recv()
                lead.send(_outcome(getattr(worker, method), *arguments))
    os._exit(0)  # without taking leave of the others, which may be gone


def _outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns, or the error that it ends with."""
    try:
        return call(*arguments)
    except (RunError, UserError) as error:
        return error
    except Exception as error:
        traceback.print_exc()
        return RunError(f"a worker failed: {described(error)}")
