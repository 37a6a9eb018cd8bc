"""What most agents answer alike, so that a new one writes `act` and `update` and little else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

from meta_latent.errors import UserError
from meta_latent.rng import Streams
from meta_latent.types import Metrics, SequenceBatch, Step


class BaseAgent(ABC):
    """A `protocols.Agent` without memory, one ensemble member, that wants one trial before each update.

    `act` and `update` are left to write; whoever learns extends `state` and `load_state`. Every method may be
    replaced; nothing asks whether an agent inherits from here.
    """

    updates = 0
    """Updates so far; a subclass counts its own."""
    heads = 1
    """Ensemble members whose data differ."""

    def begin_task(self, batch_size: int) -> Any:
        """Nothing to remember: no carry."""

    @abstractmethod
    def act(self, step: Step, carry: Any, rng: Streams, explore: bool) -> tuple[torch.Tensor, Any]:
        """Actions (B, A) in [-1, 1] after one more step, and the new carry."""

    def wants(self) -> int | None:
        """Environment steps before the next update: 0 asks for one trial, None for nothing."""
        return 0

    @abstractmethod
    def update(self, replay: Any, rng: Streams) -> Metrics:
        """Learn from the replay; returns what was measured, by names that the registration declares."""

    def adapt(self, trial: Any, rng: Streams) -> BaseAgent:
        """The agent itself: it learns nothing of a task but by `update` and in its carry."""
        return self

    def inspect(self, trials: Any) -> dict[str, list[float]]:
        """Nothing: it tells of no belief. Else, by names that the registration declares, one number per observation
        of a trial (see `protocols.Agent`).
        """
        return {}

    def believed_rewards(self, trials: SequenceBatch, frames: SequenceBatch) -> torch.Tensor:
        """Rewards (B, T, N) that the beliefs along `trials` (B, T) expect in `frames` (1, N), for algorithms that are
        registered with `maps`; this one has none to tell.
        """
        raise UserError(f"{type(self).__name__} is registered with maps=True and has no believed_rewards")

    def state(self) -> dict:
        """What `load_state` needs to go on bit for bit: the number of updates."""
        return {"updates": self.updates}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        self.updates = int(state["updates"])
