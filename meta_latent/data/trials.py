"""Trials: which episodes follow each other or are put together, and their arrays as one batch, padded with zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from meta_latent.errors import UserError

if TYPE_CHECKING:
    from meta_latent.data.replay import Episode

ONCE = ("task_index", "head_mask")
"""Arrays that hold one value for a whole trial, that of its first episode."""


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


def joined(trials: Sequence[Sequence[dict[str, np.ndarray]]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Arrays (B, T, ...) of trials, given the arrays of each of their episodes, zeros behind what is shorter than the
    longest; and (B, T) bool, where they are no such zeros.
    """
    longest = max(sum(len(e["reward"]) for e in trial) for trial in trials)
    arrays, valid = {}, np.zeros((len(trials), longest), bool)
    for key, sample in trials[0][0].items():
        if key in ONCE:
            arrays[key] = np.stack([trial[0][key] for trial in trials])
        else:
            arrays[key] = np.zeros((len(trials), longest, *sample.shape[1:]), sample.dtype)
    for b, trial in enumerate(trials):
        start = 0
        for number, episode in enumerate(trial):
            stop = start + len(episode["reward"])
            for key, whole in arrays.items():
                if key not in ONCE:
                    whole[b, start:stop] = episode[key]
            arrays["is_task_first"][b, start] = number == 0  # recombined episodes began trials of their own
            start = stop
        valid[b, :start] = True
    return arrays, valid
