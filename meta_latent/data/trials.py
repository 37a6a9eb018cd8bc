"""Trials: which episodes follow each other or are put together, and their arrays as one batch, padded with zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from meta_latent.errors import UserError

if TYPE_CHECKING:
    from meta_latent.data.replay import Episode


def whole_trials(held: Sequence[Episode]) -> list[list[int]]:
    """Places among the episodes `held` of those of every trial whose beginning is, in order."""
    found: list[list[int]] = []
    for i, episode in enumerate(held):
        if episode.begins_trial:
            found.append([i])
        elif found and held[found[-1][-1]].number == episode.number - 1:
            found[-1].append(i)
    return found


def draw_trials(
    held: Sequence[Episode], batch_size: int | None, episodes: int, rng: np.random.Generator | None, mixed: bool
) -> list[list[int]]:
    """Places of the `episodes` of each trial, drawn from the episodes `held` as `SequenceReplay.trials` says. Raises
    UserError if no trial is that long.
    """
    if mixed:
        by_task: dict[int, list[int]] = {}
        for i, e in enumerate(held):
            by_task.setdefault(e.task, []).append(i)
        pools = [places for _, places in sorted(by_task.items())]
    else:
        pools = whole_trials(held)
    pools = [places for places in pools if len(places) >= episodes]
    if not pools:
        raise UserError(f"no stored trial has {episodes} episodes; lower episodes_per_trial, or raise "
                        "transfer.replay.capacity if it is less than a trial")  # fmt: skip
    if batch_size is None:
        return [pool[:episodes] for pool in pools]
    drawn = [pools[k] for k in rng.integers(len(pools), size=batch_size)]
    return [rng.choice(pool, episodes, replace=False).tolist() if mixed else pool[:episodes] for pool in drawn]


def frames_of(trials: Sequence[Sequence[int]], lengths: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(B, T) int64: where the frames of trials of these episodes lie among all frames of episodes of `lengths`, zero
    where `valid` (B, T) is False.
    """
    starts, frames = lengths.cumsum() - lengths, np.zeros(valid.shape, np.int64)
    frames[valid] = np.concatenate([starts[i] + np.arange(lengths[i]) for trial in trials for i in trial])
    return frames


def joined(
    trials: Sequence[Sequence[Episode]], layout: Mapping[str, tuple[str, tuple[int, ...]]]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Arrays (B, T, ...) of `layout` (name -> dtype, shape of one step) of trials, zeros behind what is shorter than
    the longest; and (B, T) bool, where they are no such zeros.
    """
    lengths = np.array([sum(e.length for e in trial) for trial in trials])
    valid = np.arange(lengths.max()) < lengths[:, None]
    arrays = {key: np.zeros((*valid.shape, *shape), dtype) for key, (dtype, shape) in layout.items()}
    for b, trial in enumerate(trials):
        start = 0
        for e in trial:
            for key, whole in arrays.items():
                whole[b, start : start + e.length] = e.segment.read(key, e.start, e.stop)
            start += e.length
    return arrays, valid
