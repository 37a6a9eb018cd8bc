"""Along trials that were played: what an agent says that it believed, and how a value went from step to step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meta_latent.algorithms.registry import Algorithm
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import RunError
from meta_latent.protocols import Agent
from meta_latent.types import Spec

UNKNOWN = -1
"""Task index of a test task's episodes: it is none of the tasks that were trained on."""
Trials = Sequence[Sequence[dict[str, np.ndarray]]]
"""B trials of E episodes each, as `data.collect.play` keeps them."""


def inspected(agent: Agent, entry: Algorithm, spec: Spec, trials: Trials) -> dict[str, list[float]]:
    """What `agent.inspect` says of `trials`: name -> one number per observation of the longest of them.

    Raises RunError for a name that the registration does not declare, or another number of numbers.
    """
    found = agent.inspect(replay_of(spec, trials, agent.heads))
    kind, longest = type(agent).__name__, max(sum(len(e["reward"]) for e in trial) for trial in trials)
    for name, values in found.items():
        if name not in entry.inspects:
            raise RunError(f"{kind}.inspect returns {name!r}, which its registration does not declare; add it to "
                           "Algorithm(inspects=...)")  # fmt: skip
        if len(values) != longest:
            raise RunError(f"{kind}.inspect returns {len(values)} numbers as {name!r}; these trials of "
                           f"{len(trials[0])} episodes have {longest} observations, each takes one")  # fmt: skip
    return {name: [float(value) for value in values] for name, values in found.items()}


def replay_of(spec: Spec, trials: Trials, heads: int) -> SequenceReplay:
    """A replay, in memory, that holds `trials` one after the other, of unknown tasks."""
    frames = sum(len(episode["reward"]) for trial in trials for episode in trial)
    replay = SequenceReplay(spec, ReplayConfig(capacity=frames, segment=frames), heads=heads)
    for trial in trials:
        for episode in trial:
            replay.add_episode(episode, task_index=UNKNOWN)
    return replay


def by_step(trials: Trials, name: str) -> list[list[float]]:
    """Per episode of a trial the mean of an array after its first step, its second, ...: over the trials whose
    episode is that long.
    """
    means = []
    for same in zip(*trials, strict=True):
        values = np.full((len(same), max(len(e[name]) for e in same) - 1), np.nan)
        for row, episode in zip(values, same, strict=True):
            row[: len(episode[name]) - 1] = episode[name][1:]
        means.append(np.nanmean(values, axis=0).tolist())
    return means
