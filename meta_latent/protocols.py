"""The contracts between rooms, each with its loop: what a world model, an agent and a replay can be asked.

Nothing inherits from these; whatever has the methods will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from meta_latent.rng import Streams
from meta_latent.types import Metrics, SequenceBatch, Spec, Step, Transitions


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

    Acting, for B trials in lockstep (`data.collect.play` is this loop)::

        carry = agent.begin_task(batch_size)                     # B tasks begin; rows may act differently
        while playing:
            action, carry = agent.act(step, carry, rng, explore=True)      # (B, A) in [-1, 1]
            step = ...                                                     # what the environments answer

    A belief survives an episode's end and dies at a trial's end. A carry is None or nested dicts, tuples, lists
    or dataclasses of tensors with a leading B.

    Learning (`experiment.learning.loop` is this loop)::

        while the budget lasts:
            if agent.wants() is not None:                        # env steps before the next update, 0: one trial
                ...                                              # play, replay.add_episode(...) each
            metrics = agent.update(replay, rng)                  # or a slice of one, at most a minute long
            checkpoint.save(folder, {"agent": agent.state(), ...})         # load_state goes on bit for bit

    `wants` is None while an update goes on in slices, and for ever where logged data are all there is.

    Adapting, for algorithms registered with `adapts`::

        for episode in trial:
            ...                                                  # play with `adapted`, a new carry each time
            adapted = adapted.adapt(trial_so_far, rng)           # another agent for this trial's task (its index
                                                                 # says nothing: it may be none of training's)

    Telling what was believed, for algorithms registered with `inspects`, of trials that were played on test tasks
    (a replay, task index -1; `whole_trials` says which episodes make up one, perhaps more than in training)::

        for name, values in agent.inspect(trials).items():       # names as registered; a mean over the trials
            assert len(values) == longest                        # one per observation of a trial, the last ones and
                                                                 # first ones of its inner episodes among them

    Telling what a belief expects elsewhere, for algorithms registered with `maps`::

        agent.believed_rewards(trials, frames)                   # trials (B, T), frames (1, N) -> rewards (B, T, N)

    `updates` counts the algorithm's updates; `heads` ensemble members whose data differ (1: none). Where an agent has
    `own_heads`, and it is true, member k learns from training tasks k, k + heads, ... alone.
    """

    updates: int

    @property
    def heads(self) -> int: ...

    def begin_task(self, batch_size: int) -> Any: ...

    def act(self, step: Step, carry: Any, rng: Streams, explore: bool) -> tuple[torch.Tensor, Any]: ...

    def wants(self) -> int | None: ...

    def update(self, replay: Any, rng: Streams) -> Metrics: ...

    def adapt(self, trial: Any, rng: Streams) -> Agent: ...

    def inspect(self, trials: Any) -> dict[str, list[float]]: ...

    def believed_rewards(self, trials: SequenceBatch, frames: SequenceBatch) -> torch.Tensor: ...

    def state(self) -> dict: ...

    def load_state(self, state: dict) -> None: ...


@runtime_checkable
class Replay(Protocol):
    """Whole episodes, from which windows, trials and transitions are drawn.

    The loop is::

        replay.add_episode(episode, head_mask, task_index)        # arrays of `data.collect.play`
        batch = replay.sequences(batch_size, length, rng)         # (B, T) windows, each within one episode
        batch = replay.trials(batch_size, episodes, rng)          # (B, T) whole trials of one task each
        fresh = replay.view(tasks=[3], since=seen).transitions()  # of one task, from episode number `seen` on
        replay.flush()                                            # a checkpoint may now name what is on disk
        checkpoint.save(folder, {"replay": replay.state(), ...})  # load_state(state) drops what came later
        replay.prune()                                            # evicted episodes are in no checkpoint now,
                                                                  # but those that prune(earlier_state) names

    `len(replay)` is the number of environment steps held, `env_steps` of those ever added, `added` of episodes;
    `evicted` of those that were forgotten; `ended`: whether one ever ended for good. `episodes` are records of those
    held, with `task`, `number` and `length`.
    """

    spec: Spec
    env_steps: int
    evicted: int
    ended: bool
    episodes: Sequence[Any]

    @property
    def added(self) -> int: ...

    def __len__(self) -> int: ...

    def add_episode(
        self, episode: dict[str, np.ndarray], head_mask: np.ndarray | None = None, task_index: int = 0
    ) -> None: ...

    def read(self, episode: int) -> dict[str, np.ndarray]: ...

    def lengths(self) -> np.ndarray: ...

    def view(self, tasks: Any = None, since: int = 0) -> Replay: ...

    def whole_trials(self) -> list[list[int]]: ...

    def sequences(
        self, batch_size: int, length: int, rng: np.random.Generator, images: bool = True
    ) -> SequenceBatch: ...

    def trials(
        self, batch_size: int | None, episodes: int, rng: np.random.Generator | None = None, mixed: bool = False,
        images: bool = True,
    ) -> SequenceBatch: ...  # fmt: skip

    def transitions(self) -> Transitions: ...

    def flush(self) -> None: ...

    def prune(self, *states: dict) -> None: ...

    def state(self) -> dict: ...

    def check(self, state: dict) -> None: ...

    def load_state(self, state: dict) -> None: ...
