"""The contracts between rooms, each with its loop: what a world model, an agent and a replay can be asked.

Nothing inherits from these; whatever has the methods will do.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from meta_latent.rng import Streams
from meta_latent.types import Metrics, SequenceBatch, Spec, Step


@runtime_checkable
class WorldModel(Protocol):
    """Remembers what was seen (a latent), and imagines what actions would lead to.

    Filtering, one instant at a time::

        latent = model.initial(batch_size)
        for step in steps:                                   # a Step: observation, previous action, flags
            latent = model.observe(latent, step)
            action = policy(model.features(latent))          # (B, F) -> (B, A)

    Imagining (`ops.imagination.imagine` is this loop)::

        for k in range(horizon):
            action = policy(model.features(latent))
            following = model.transition(latent, action, head).mean()  # or .sample(rng), .log_prob(sample)
            prediction = model.predict(latent, action, following)      # reward, continuation
            latent = following
        images = model.decode(latent)                        # camera -> (B, H, W, 3) uint8

    `head` (B,) int64 says which of the `heads` ensemble members moves each row; `pack` and `unpack` turn a
    latent into one flat vector and back. A latent has `sample` (B, Z), `memory` (B, M) and `relations`
    (B, R), what is explicit about pairs in its sample.
    """

    spec: Spec

    @property
    def heads(self) -> int: ...

    def initial(self, batch_size: int) -> Any: ...

    def observe(self, latent: Any, step: Step, rng: torch.Generator | None = None) -> Any: ...

    def transition(self, latent: Any, action: torch.Tensor, head: torch.Tensor) -> Any: ...

    def predict(self, latent: Any, action: torch.Tensor, next_latent: Any) -> Any: ...

    def decode(self, latent: Any) -> dict[str, torch.Tensor]: ...

    def features(self, latent: Any, kind: str = "sample") -> torch.Tensor: ...

    def pack(self, latent: Any) -> torch.Tensor: ...

    def unpack(self, flat: torch.Tensor) -> Any: ...


@runtime_checkable
class Agent(Protocol):
    """Acts, and learns from a replay. All memory of a task is in the carry, all randomness in `rng`.

    Acting, for B environments in lockstep::

        carry = agent.begin_task(batch_size)
        while playing:
            action, carry = agent.act(step, carry, rng, explore=True)      # (B, A) in [-1, 1]
            step = ...                                                     # what the environments answer

    Learning, after each episode::

        replay.add_episode(episode)
        metrics = agent.update(replay, rng)                     # as many updates as the new steps are worth
        checkpoint.save(folder, {"agent": agent.state(), ...})  # load_state(state) goes on bit for bit

    `updates` counts the algorithm's updates.
    """

    updates: int

    def begin_task(self, batch_size: int) -> Any: ...

    def act(self, step: Step, carry: Any, rng: Streams, explore: bool) -> tuple[torch.Tensor, Any]: ...

    def update(self, replay: Any, rng: Streams) -> Metrics: ...

    def state(self) -> dict: ...

    def load_state(self, state: dict) -> None: ...


@runtime_checkable
class Replay(Protocol):
    """Whole episodes, from which windows are drawn.

    The loop is::

        replay.add_episode(episode, head_mask)                    # arrays of `data.collect.collect_episode`
        batch = replay.sequences(batch_size, length, rng)         # (B, T) windows, each within one episode
        replay.flush()                                            # a checkpoint may now name what is on disk
        checkpoint.save(folder, {"replay": replay.state(), ...})  # load_state(state) drops what came later
        replay.prune()                                            # evicted episodes are in no checkpoint now,
                                                                  # but those that prune(earlier_state) names

    `len(replay)` is the number of environment steps held, `env_steps` of those ever added.
    """

    env_steps: int

    def __len__(self) -> int: ...

    def add_episode(
        self, episode: dict[str, np.ndarray], head_mask: np.ndarray | None = None, task_index: int = 0
    ) -> None: ...

    def read(self, episode: int) -> dict[str, np.ndarray]: ...

    def lengths(self) -> np.ndarray: ...

    def sequences(
        self, batch_size: int, length: int, rng: np.random.Generator, among: Any = None, images: bool = True
    ) -> SequenceBatch: ...

    def flush(self) -> None: ...

    def prune(self, *states: dict) -> None: ...

    def state(self) -> dict: ...

    def check(self, state: dict) -> None: ...

    def load_state(self, state: dict) -> None: ...
