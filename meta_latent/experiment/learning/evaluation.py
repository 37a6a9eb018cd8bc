"""Fixed episodes of an agent, scored and never counted as data; over a target of many tasks, a meta-test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from meta_latent.algorithms.registry import Algorithm
from meta_latent.data.collect import Played, play
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.experiment.learning.environments import Environments
from meta_latent.experiment.learning.starts import task_vectors
from meta_latent.experiment.settings.schema import EvaluationConfig
from meta_latent.experiment.settings.suites import BoundTarget, BoundTask
from meta_latent.protocols import Agent
from meta_latent.rng import Streams, derive
from meta_latent.types import Spec

UNKNOWN = -1
"""Task index of a test task's episodes: it is none of the tasks that were trained on."""
SeedOf = Callable[[int, int], int]
"""(trial number, episode of the trial) -> the seed it starts from."""


def evaluation_seed(trial: int, episode: int = 0) -> int:
    """The seed from which episode `episode` of evaluation trial number `trial` starts, in every run."""
    return derive(0, "evaluation", trial, *((episode,) if episode else ())) % 2**31


@dataclass(frozen=True)
class Score:
    """What an evaluation found; scores are of a trial's last episode.

    Attributes:
        raw_return, success: means over tasks and trials; success is the share of episodes that end solved.
        score: normalised per test task, then averaged; the raw return where tasks have no references.
        returns_by_episode, success_by_episode: (E,) the same per episode of the trial.
        score_by_task: (N,) for targets of many tasks.
    """

    raw_return: float
    score: float
    success: float
    returns_by_episode: list[float]
    success_by_episode: list[float]
    score_by_task: list[float]


class Evaluation:
    """Plays the same trials each time it is asked: `repeats` of every test task.

    Args:
        target: its test tasks. entry: what the algorithm sees, and whether it adapts. config: how much is played;
            side_by_side: environments at once. repeats: trials of each test task, if not those of `config`.
        seed_of: where episodes start.
    """

    def __init__(self, target: BoundTarget, entry: Algorithm, config: EvaluationConfig, side_by_side: int,
                 repeats: int | None = None, seed_of: SeedOf = evaluation_seed):  # fmt: skip
        self.target, self.entry, self.config, self.side_by_side = target, entry, config, side_by_side
        self.repeats = repeats or (config.episodes if len(target.tasks) == 1 else config.trials)
        self.seed_of, self.references = seed_of, target.references()
        self.vectors = None
        if "task" in entry.sees:
            self.vectors = task_vectors(target.test_tasks)
        self._envs = Environments(max(side_by_side, 64))

    def play(self, agent: Agent, watch=None) -> tuple[np.ndarray, np.ndarray]:
        """Raw returns and success, each (N, R, E). It draws from streams of its own, the same each time.

        watch: see `data.collect.play`; of the first trial only.
        """
        tasks, rng = self.target.test_tasks, Streams(derive(0, "evaluation"))
        places = [(n, r) for n in range(len(tasks)) for r in range(self.repeats)]
        at_once = 1 if self.entry.adapts else self.side_by_side
        parts = []
        for start in range(0, len(places), at_once):
            numbers = range(start, min(start + at_once, len(places)))
            of = [places[k][0] for k in numbers]
            parts.append((self._adapting if self.entry.adapts else self._trials)(
                agent, of, list(numbers), rng, watch if start == 0 else None))  # fmt: skip
        shape = (len(tasks), self.repeats, self.target.episodes_per_trial)
        return tuple(np.concatenate([getattr(p, name) for p in parts]).reshape(shape)
                     for name in ("returns", "success"))  # fmt: skip

    def _trials(self, agent: Agent, of: Sequence[int], numbers: Sequence[int], rng: Streams, watch) -> Played:
        seeds = [[self.seed_of(k, e) for e in range(self.target.episodes_per_trial)] for k in numbers]
        return self._play([self.target.test_tasks[n] for n in of], of, agent, seeds, rng, False, watch)

    def _play(self, tasks: Sequence[BoundTask], of, agent, seeds, rng, explore, watch, keep=False) -> Played:
        task = None if self.vectors is None else self.vectors[torch.as_tensor(of)]
        with self._envs.rows(tasks) as rows:
            return play(rows, agent, np.array(seeds), rng, explore=explore, show=self.entry.sees, task=task,
                        keep=keep, watch=watch)  # fmt: skip

    def _adapting(self, agent: Agent, of, numbers, rng: Streams, watch) -> Played:
        """One trial of an algorithm that adapts: `rollouts` episodes, drawn from its policy, then `adapt`, ..."""
        (n,), (k,), rollouts = of, numbers, self.config.rollouts
        trial = SequenceReplay(Spec.of(self.target.distribution), ReplayConfig(), heads=agent.heads)
        returns, success = [], []
        for e in range(self.target.episodes_per_trial):
            seeds = [[self.seed_of(k * rollouts + j, e)] for j in range(rollouts)]
            played = self._play([self.target.test_tasks[n]] * rollouts, [n] * rollouts, agent, seeds, rng, True,
                                watch, keep=True)  # fmt: skip
            returns.append(played.returns.mean())
            success.append(played.success.mean())
            if e + 1 < self.target.episodes_per_trial:
                for (episode,) in played.episodes:
                    trial.add_episode(episode, task_index=UNKNOWN)
                agent = agent.adapt(trial, rng)
        return Played(np.array([returns]), np.array([success]))

    def score(self, agent: Agent, watch=None) -> Score:
        """Play every trial and average; without exploration, but for algorithms that adapt, whose episodes are
        drawn from their policies.
        """
        returns, success = self.play(agent, watch)
        last = self.normalised(returns[..., -1])
        return Score(
            float(returns[..., -1].mean()), float(last.mean()), float(success[..., -1].mean()),
            returns.mean((0, 1)).tolist(), success.mean((0, 1)).tolist(),
            last.mean(1).tolist() if len(returns) > 1 else [])  # fmt: skip

    def normalised(self, returns: np.ndarray) -> np.ndarray:
        """(N, ...) raw returns on the scale on which 0 is each task's floor and 1 its reference."""
        if self.references is None:
            return returns
        floor, reference = np.array(self.references).T.reshape(2, -1, *[1] * (returns.ndim - 1))
        return (returns - floor) / (reference - floor)

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()
