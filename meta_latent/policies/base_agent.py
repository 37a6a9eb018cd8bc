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
    own_heads = False
    """Whether member k learns from training tasks k, k + heads, ... alone, else from a random share of all episodes."""

    def begin_task(self, batch_size: int) -> Any:
        """The carry of B trials that begin: None, for there is nothing to remember.

        Else nested dicts, tuples, lists or dataclasses of tensors with a leading B. `act` takes it and gives the next
        one; nothing of a trial belongs into `self`, as evaluations play in between.
        """

    @abstractmethod
    def act(self, step: Step, carry: Any, rng: Streams, explore: bool) -> tuple[torch.Tensor, Any]:
        """Actions (B, A) in [-1, 1], float32 on the CPU without gradients, after one more step; and the new carry.

        step: what B environments show (`types.Step`), on the CPU. explore: while data are collected; else it is an
        evaluation, where the same observations should give the same actions. B differs from call to call of
        `begin_task`: mostly 1 while data are collected, many trials side by side in an evaluation. The last
        observation of an episode is shown only where another episode of the trial follows; its action is thrown away.
        """

    def wants(self) -> int | None:
        """Environment steps before the next update: n for at least n in whole trials (several side by side), 0 for one
        trial, None for nothing: an update goes on in slices, or logged data are all there is. Asked before every round.
        """
        return 0

    @abstractmethod
    def update(self, replay: Any, rng: Streams) -> Metrics:
        """Learn from the replay; returns what was measured, by names that the registration declares.

        Called once after every round, the random warm-up included, with all that the replay holds: `view(since=...)`
        gives what is new. Count `self.updates` up: an agent without updates has no score, its evaluations count for
        nothing. It should last less than a minute (Ctrl-C waits for it).
        """

    def adapt(self, trial: Any, rng: Streams) -> BaseAgent:
        """The agent for the next episode of a trial's task, after the episodes of that trial so far (a replay); only
        asked if the registration says `adapts`. Here the agent itself: it learns nothing of a task but by `update` and
        in its carry.
        """
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
        """What `load_state` needs to go on bit for bit: the number of updates.

        Whoever learns adds to it: nested dicts (string keys) and lists of tensors, arrays, numbers, strings, None.
        Generators are saved by the loop.
        """
        return {"updates": self.updates}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`, in an agent that was built anew; tensors come back on the CPU, tuples as lists."""
        self.updates = int(state["updates"])
