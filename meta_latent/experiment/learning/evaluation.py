"""Fixed episodes of an agent, scored and never counted as data; over a target of many tasks, a meta-test."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from meta_latent.algorithms.registry import Algorithm
from meta_latent.data.collect import Played, Shown, play
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.experiment.learning.environments import Environments
from meta_latent.experiment.learning.inspection import UNKNOWN, inspected
from meta_latent.experiment.learning.starts import task_vectors
from meta_latent.experiment.runs.video import Film
from meta_latent.experiment.settings.schema import EvaluationConfig
from meta_latent.experiment.settings.suites import BoundTarget
from meta_latent.ops.scores import scores
from meta_latent.protocols import Agent
from meta_latent.rng import Streams, derive
from meta_latent.types import Spec

SeedOf = Callable[[int, int], int]
"""(trial number, episode of the trial) -> the seed it starts from."""


def evaluation_seed(trial: int, episode: int = 0) -> int:
    """The seed from which episode `episode` of evaluation trial number `trial` starts, in every run."""
    return derive(0, "evaluation", trial, *((episode,) if episode else ())) % 2**31


@dataclass(frozen=True)
class Score:
    """What an evaluation found; scores are of a trial's last episode.

    Attributes:
        raw_return, success: means over tasks and trials; success is the share of episodes that end solved, NaN where
            the suite does not tell.
        score: mean of what `ops.scores` makes of returns; the raw return where tasks have no references.
        returns_by_episode, success_by_episode: (E,) the same per episode of the trial.
        score_by_task: (N,) for targets of many tasks.
        inspected: what the agent says of these trials: name -> a number per observation; {} where nothing is asked.
    """

    raw_return: float
    score: float
    success: float
    returns_by_episode: list[float]
    success_by_episode: list[float]
    score_by_task: list[float]
    inspected: dict[str, list[float]] = field(default_factory=dict)


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

    @property
    def adapts(self) -> bool:
        """Whether the agent takes steps within a trial. Where it has none to take, it plays what every arm plays."""
        return self.entry.adapts and self.target.episodes_per_trial > 1

    @property
    def inspects(self) -> bool:
        """Whether the agent is asked what it believed: where there is something to find out along a trial."""
        return bool(self.entry.inspects) and self.target.has_trials

    def play(self, agent: Agent, watch=None, keep: bool | Collection[str] = False) -> Played:
        """Raw returns and success, each (N, R, E); success is NaN where the suite does not tell (`tells_success`). It
        draws from streams of its own, the same each time.

        watch: see `data.collect.play`; of the first trial only. keep: also the episodes (see there), of all trials in
        one row, task by task; where the algorithm adapts, every rollout is a trial of its own.
        """
        tasks, rng = self.target.test_tasks, Streams(derive(0, "evaluation"))
        places = [(n, r) for n in range(len(tasks)) for r in range(self.repeats)]
        at_once = 1 if self.adapts else self.side_by_side
        parts = []
        for start in range(0, len(places), at_once):
            numbers = range(start, min(start + at_once, len(places)))
            of = [places[k][0] for k in numbers]
            parts.append((self._adapting if self.adapts else self._trials)(
                agent, of, list(numbers), rng, watch if start == 0 else None, keep))  # fmt: skip
        shape = (len(tasks), self.repeats, self.target.episodes_per_trial)
        returns, success = (np.concatenate([getattr(p, name) for p in parts]).reshape(shape)
                            for name in ("returns", "success"))  # fmt: skip
        if not self.target.distribution.tells_success:
            success = np.full(shape, np.nan)
        return Played(returns, success, tuple(trial for part in parts for trial in part.episodes))

    def _trials(self, agent: Agent, of: Sequence[int], numbers: Sequence[int], rng: Streams, watch, keep) -> Played:
        seeds = [[self.seed_of(k, e) for e in range(self.target.episodes_per_trial)] for k in numbers]
        return self._play(of, agent, seeds, rng, explore=False, watch=watch, keep=keep)

    def _play(self, of: Sequence[int], agent: Agent, seeds, rng: Streams, **how) -> Played:
        task = None if self.vectors is None else self.vectors[torch.as_tensor(of)]
        with self._envs.rows([self.target.test_tasks[n] for n in of]) as rows:
            return play(rows, agent, np.array(seeds), rng, shown=Shown(self.entry.sees, task), **how)

    def _adapting(self, agent: Agent, of, numbers, rng: Streams, watch, keep) -> Played:
        """One trial of an algorithm that adapts: `rollouts` episodes that are scored, as many drawn from its policy,
        then `adapt`, ...
        """
        (n,), (k,), rollouts = of, numbers, self.config.rollouts
        trial = SequenceReplay(Spec.of(self.target.distribution), ReplayConfig(), heads=agent.heads)
        returns, success, kept = [], [], []
        for e in range(self.target.episodes_per_trial):
            seeds = [[self.seed_of(k * rollouts + j, e)] for j in range(rollouts)]
            played = self._play([n] * rollouts, agent, seeds, rng, explore=False, watch=watch, keep=keep)
            returns.append(played.returns.mean())
            success.append(played.success.mean())
            kept.append([episode for (episode,) in played.episodes])
            if e + 1 < self.target.episodes_per_trial:
                drawn = self._play([n] * rollouts, agent, seeds, rng, explore=True, keep=True)
                for (episode,) in drawn.episodes:
                    trial.add_episode(episode, task_index=UNKNOWN)
                agent = agent.adapt(trial, rng)
        return Played(np.array([returns]), np.array([success]), tuple(zip(*kept, strict=True)) if keep else ())

    def score(self, agent: Agent, watch=None) -> Score:
        """Play every trial without exploration, and average. What algorithms adapt to are episodes beside these, which
        they draw from their policies.
        """
        played = self.play(agent, watch, keep=self.inspects)
        returns, success = played.returns, played.success
        last = self.normalised(returns[..., -1])
        return Score(
            float(returns[..., -1].mean()), float(last.mean()), float(success[..., -1].mean()),
            returns.mean((0, 1)).tolist(), success.mean((0, 1)).tolist(),
            last.mean(1).tolist() if len(returns) > 1 else [], self.inspected(agent, played))  # fmt: skip

    def inspected(self, agent: Agent, played: Played) -> dict[str, list[float]]:
        """What `agent` says of the trials that it played, whole episodes kept; {} where it is not asked."""
        if not self.inspects:
            return {}
        return inspected(agent, self.entry, Spec.of(self.target.distribution), played.episodes)

    def film(self, agent: Agent, number: int, path: Path) -> Path | None:
        """Play trial `number` of the first test task and write it as a video; None where nothing is drawn."""
        film = Film()
        self.again(agent, number, film)
        return film.write(path)

    def again(self, agent: Agent, number: int, watch, keep: bool | Collection[str] = False) -> Played:
        """Play one trial alone, from the start that it had in `play`, which counts trials task by task: `repeats` of
        each test task. Agents that draw while they act, such as planners, draw anew.
        """
        n = number // self.repeats
        one = dataclasses.replace(self.target, test_tasks=self.target.test_tasks[n : n + 1])
        first = number * (self.config.rollouts if self.adapts else 1)
        alone = Evaluation(one, self.entry, self.config, 1, 1, lambda k, episode: self.seed_of(first + k, episode))
        with contextlib.closing(alone):
            return alone.play(agent, watch, keep)

    def normalised(self, returns: np.ndarray) -> np.ndarray:
        """(N, ...) raw returns as scores, see `ops.scores`; as they are where tasks have no references."""
        return returns if self.references is None else scores(returns, *np.array(self.references).T)

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()
