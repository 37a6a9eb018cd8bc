"""Data of a learner's own: plays what the agent wants, on the target's tasks in turn, into the replay."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch

from meta_latent.data import answers
from meta_latent.data.collect import Actor, Shown, head_mask, play
from meta_latent.data.repeated_noise import RepeatedNoise
from meta_latent.experiment.learning.environments import Environments
from meta_latent.experiment.settings.suites import BoundTarget
from meta_latent.protocols import Agent, Replay
from meta_latent.rng import Streams, derive


@dataclass(frozen=True)
class CollectorConfig:
    """How a target is played.

    Attributes:
        show: what the algorithm sees beside observations. task_vectors: (tasks, P).
        warmup_episodes: random ones that come first. head_share: probability that a head may train on one.
        side_by_side: environments at once. epsilon: see `RepeatedNoise`. own_heads: head k trains on tasks k, k + heads
            and so on alone. check: (task, arrays) of the first episode of each task; raises where it is wrong.
    """

    show: Collection[str]
    task_vectors: torch.Tensor
    warmup_episodes: int
    head_share: float
    side_by_side: int
    epsilon: float = 0.0
    own_heads: bool = False
    check: Callable[[int, dict[str, np.ndarray]], None] | None = None


class Collector:
    """Trials of the target's tasks, each task once before one comes again.

    Trial k starts from seeds that follow from the run's seed and k alone. `random_returns`: raw, of random episodes.

    Args:
        target: its tasks. seed: of the run. config: how it is played. warmup: who plays the random episodes.
    """

    def __init__(self, target: BoundTarget, seed: int, config: CollectorConfig, warmup: Actor):
        self.target, self.seed, self.config, self.warmup = target, seed, config, warmup
        self.trials = 0
        self.random_returns: list[float] = []
        self._envs = Environments()
        self._checked: set[int] = set()

    @property
    def episodes(self) -> int:
        """Episodes played so far."""
        return self.trials * self.target.episodes_per_trial

    def steps(self, wanted: int) -> tuple[int, int]:
        """Environment steps of the random episodes, and of each later round of at least `wanted`, where no episode ends
        early.
        """
        once = self._side_by_side(wanted) * self._longest
        first = math.ceil(self.config.warmup_episodes / self.target.episodes_per_trial) * self._longest
        return first, max(1, math.ceil(wanted / once)) * once

    def round(self, agent: Agent, replay: Replay, streams: Streams) -> None:
        """Add to the replay what `agent.wants()`: nothing, one trial, or at least so many environment steps.

        The first round is the random episodes alone.
        """
        wanted = answers.wanted(agent)
        if wanted is None:
            return
        if self.episodes < self.config.warmup_episodes:
            left = self.config.warmup_episodes - self.episodes
            for _ in range(math.ceil(left / self.target.episodes_per_trial)):
                self._trials(1, self.warmup, agent.heads, replay, streams)
            return
        count, before = self._side_by_side(wanted), replay.env_steps
        actor = RepeatedNoise(agent, self.config.epsilon) if self.config.epsilon else agent
        while True:
            self._trials(count, actor, agent.heads, replay, streams)
            if replay.env_steps - before >= wanted:
                return

    @property
    def _longest(self) -> int:
        """Environment steps of a trial whose episodes do not end early."""
        return self.target.distribution.max_episode_steps * self.target.episodes_per_trial

    def _side_by_side(self, wanted: int) -> int:
        """Trials at once, where `wanted` steps are."""
        return min(self.config.side_by_side, max(1, math.ceil(wanted / self._longest)))

    def _trials(self, count: int, actor: Actor, heads: int, replay: Replay, streams: Streams) -> None:
        which = [self._task(self.trials + b) for b in range(count)]
        episodes = self.target.episodes_per_trial
        seeds = np.array([[self._episode_seed(self.trials + b, e) for e in range(episodes)] for b in range(count)])
        with self._envs.rows([self.target.tasks[k] for k in which]) as rows:
            trials = torch.arange(self.trials, self.trials + count)
            shown = Shown(self.config.show, self.config.task_vectors[which], torch.tensor(which), trials)
            played = play(rows, actor, seeds, streams, explore=True, shown=shown, keep=True)
        if actor is self.warmup:
            self.random_returns += played.returns.ravel().tolist()
        for task, trial in zip(which, played.episodes, strict=True):
            if self.config.check and task not in self._checked:
                self.config.check(task, trial[0])
                self._checked.add(task)
            for episode in trial:
                owner = task if self.config.own_heads else None
                replay.add_episode(episode, head_mask(heads, self.config.head_share, streams, owner), task)
        self.trials += count

    def _task(self, trial: int) -> int:
        turn, place = divmod(trial, len(self.target.tasks))
        order = np.random.default_rng(derive(self.seed, "tasks", self.target.name, turn))
        return int(order.permutation(len(self.target.tasks))[place])

    def _episode_seed(self, trial: int, episode: int) -> int:
        number = (episode,) if episode else ()
        return derive(self.seed, "episode", self.target.name, trial, *number) % 2**31

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()

    def state(self) -> dict:
        """How many trials were played, and what random ones earned."""
        return {"trials": self.trials, "random_returns": list(self.random_returns)}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        self.trials = int(state["trials"])
        self.random_returns = list(state.get("random_returns", ()))  # older checkpoints have none
