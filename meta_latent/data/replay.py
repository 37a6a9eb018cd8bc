"""Sequence replay: whole episodes in append-only segments, images in uint8, each frame stored once.

A segment is a folder with one raw file per array. Episodes never straddle segments. A checkpoint names the segments and
how many steps of each count (`state`); opening with that state drops whatever was written after it. Old segments leave
memory when the capacity is exceeded and leave the disk at `prune`, after the next checkpoint.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from meta_latent.data.segments import Segment, layout, segment_folder
from meta_latent.data.trials import draw_trials, frames_of, joined, whole_trials
from meta_latent.data.windows import draw_windows, multiplicity
from meta_latent.errors import UserError
from meta_latent.ranges import count
from meta_latent.types import SequenceBatch, Spec, Transitions

FLAGS = ("is_first", "is_last", "is_terminal", "is_task_first")
MOST_HEADS = 32
"""Ensemble members whose masks fit in what is stored of a step."""


@dataclass(frozen=True)
class ReplayConfig:
    """capacity: environment steps kept. memory_map: read images from disk, not from memory. segment: steps a file."""

    capacity: int = count(100_000)
    memory_map: bool = False
    segment: int = count(10_000, most=1_000_000)


@dataclass(frozen=True)
class Episode:
    """Where an episode is: rows start..stop of a segment; its task, and whether a trial begins with it.

    number: counted from the first episode ever added.
    """

    number: int
    segment: Segment
    start: int
    stop: int
    task: int
    begins_trial: bool

    @classmethod
    def of(cls, number: int, segment: Segment, start: int, stop: int) -> Episode:
        """The episode at rows start..stop, as its first row says."""
        task = int(segment.read("task_index", start, start + 1)[0])
        flags = int(segment.read("flags", start, start + 1)[0])
        return cls(number, segment, start, stop, task, bool(flags >> FLAGS.index("is_task_first") & 1))

    @property
    def length(self) -> int:
        """Observations."""
        return self.stop - self.start


class SequenceReplay:
    """Episodes of one spec. `env_steps`: steps ever added. `evicted`: episodes that were forgotten. `ended`: whether
    one that was ever added ended for good.

    Consecutive episodes form a trial, which the first observation of its first episode begins (`is_task_first`).

    Args:
        spec: shapes. config: `ReplayConfig`. folder: where segments are written (None: memory only).
        heads: K, for the heads' masks.
    """

    def __init__(self, spec: Spec, config: ReplayConfig, folder: Path | None = None, heads: int = 1):
        if config.memory_map and folder is None:
            raise UserError("memory_map=true needs a folder to write to")
        if heads > MOST_HEADS:
            raise UserError(f"an agent of {heads} heads: a replay keeps which episodes a head may train on for "
                            f"{MOST_HEADS} of them at most")  # fmt: skip
        self.spec, self.config, self.heads = spec, config, heads
        self.folder = None if folder is None else Path(folder)
        self.segments: list[Segment] = []
        self.episodes: list[Episode] = []
        self.env_steps = self.evicted = 0
        self.ended = False

    def __len__(self) -> int:
        """Environment steps held (observations minus episode starts); `env_steps` counts the evicted ones
        too.
        """
        return sum(e.length - 1 for e in self.episodes)

    @property
    def frames(self) -> int:
        """Observations held."""
        return sum(e.length for e in self.episodes)

    @property
    def added(self) -> int:
        """Episodes ever added: the number that the next one gets."""
        return self.evicted + len(self.episodes)

    def add_episode(
        self, episode: dict[str, np.ndarray], head_mask: np.ndarray | None = None, task_index: int = 0
    ) -> None:
        """Append one episode: arrays with leading T + 1 as `data.collect.play` returns them.

        head_mask: (K,) bool, the heads that may train on it (default all). task_index: which task it is of.
        """
        length = len(episode["reward"])
        flags = sum(np.asarray(episode[name], np.uint8) << bit for bit, name in enumerate(FLAGS))
        mask = np.ones(self.heads, bool) if head_mask is None else head_mask
        bits = int(sum(1 << k for k in range(self.heads) if mask[k]))
        stored = {
            "flags": flags,
            "task_index": np.full(length, task_index),
            "head_bits": np.full(length, bits),
        }
        stored |= {k: episode[k] for k in layout(self.spec) if k not in stored}
        stored = {
            k: np.ascontiguousarray(v, layout(self.spec)[k][0]).reshape(length, *layout(self.spec)[k][1])
            for k, v in stored.items()
        }
        if not self.segments or self.segments[-1].steps + length > self.segments[-1].capacity:
            index = self.segments[-1].index + 1 if self.segments else 0
            self.segments.append(self._segment(index, max(self.config.segment, length)))
        segment = self.segments[-1]
        start = segment.steps
        segment.add(stored)
        self.episodes.append(Episode.of(self.added, segment, start, start + length))
        self.env_steps += length - 1
        self.ended = self.ended or bool(np.any(episode["is_terminal"]))
        self._evict()

    def _evict(self) -> None:
        """Forget whole segments from the oldest on, as long as `capacity` steps remain."""
        while len(self.segments) > 1:
            oldest = [e for e in self.episodes if e.segment is self.segments[0]]
            if len(self) - sum(e.length - 1 for e in oldest) < self.config.capacity:
                return
            self.segments.pop(0)
            self.episodes = self.episodes[len(oldest) :]
            self.evicted += len(oldest)

    def _segment(self, index: int, capacity: int) -> Segment:
        return Segment(self.spec, index, capacity, self.folder, self.config.memory_map)

    # Views

    def view(self, tasks=None, since: int = 0) -> SequenceReplay:
        """A replay of the episodes of `tasks` (indices; None: all) from number `since` on, sharing the data.

        Numbers count from the first episode ever added, so `view(since=replay.added)` before a round holds what
        the round adds if it is called after it. For reading only.
        """
        wanted = None if tasks is None else set(np.atleast_1d(tasks).tolist())
        return self.subset(
            [i for i, e in enumerate(self.episodes) if e.number >= since and (wanted is None or e.task in wanted)]
        )

    def subset(self, episodes) -> SequenceReplay:
        """A replay of the episodes at these places (0: the oldest held) only, sharing the data; for reading."""
        other = copy.copy(self)
        other.episodes, other.evicted = [self.episodes[int(i)] for i in episodes], 0
        return other

    def relabel(self, reward: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        """Make all episodes those of one task, number 0, paid by `reward` (reward_inputs (n, R), action (n, A)).

        In memory; what is on the disk stays as it is.
        """
        for segment in self.segments:
            arrays = {key: segment.read(key, 0, segment.steps) for key in ("reward_inputs", "action", "reward_present")}
            paid = np.asarray(reward(arrays["reward_inputs"], arrays["action"]), np.float32)
            segment.arrays["reward"] = paid * arrays["reward_present"]
            segment.arrays["task_index"] = np.zeros(segment.steps, np.int32)
        self.episodes = [replace(episode, task=0) for episode in self.episodes]

    def beyond_ends(self, terminated: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> int:
        """How many steps end an episode by `terminated` (reward_inputs (n, R), action (n, A)), and go on here."""
        inputs, action, present, flags = map(self._column, ("reward_inputs", "action", "reward_present", "flags"))
        goes_on = (present > 0) & (flags >> FLAGS.index("is_terminal") & 1 == 0)
        return int((np.asarray(terminated(inputs, action)) & goes_on).sum())

    def lengths(self) -> np.ndarray:
        """Observations per episode held, (episodes,) int64: T + 1 for an episode of T steps."""
        return np.array([e.length for e in self.episodes], np.int64)

    def whole_trials(self) -> list[list[int]]:
        """Places of the episodes of every trial whose beginning is held, in order: [[0, 1], [2, 3], ...]."""
        return whole_trials(self.episodes)

    # Reading

    def read(self, episode: int) -> dict[str, np.ndarray]:
        """All arrays of the episode at place `episode` with leading T + 1 (do not write to them): those of
        `layout` and the flags as bools; "task_index" and "head_mask" (K,) stand once.
        """
        e = self.episodes[episode]
        return self._unpacked({key: e.segment.read(key, e.start, e.stop) for key in layout(self.spec)})

    def _unpacked(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Stored arrays (..., T, ...) with named flags, and with what is the same all along standing once."""
        flags, time = arrays.pop("flags"), arrays["reward"].ndim - 1
        arrays |= {name: (flags >> bit & 1).astype(bool) for bit, name in enumerate(FLAGS)}
        arrays["task_index"] = arrays["task_index"].take(0, time)
        bits = arrays.pop("head_bits").take(0, time)
        mask = (np.asarray(bits)[..., None] >> np.arange(self.heads, dtype=np.uint32)) & 1
        return arrays | {"head_mask": mask.astype(bool)}

    def sequences(self, batch_size: int, length: int, rng: np.random.Generator, images: bool = True) -> SequenceBatch:
        """(B, T) windows, each within one episode, uniform over all windows.

        length: observations T, so T - 1 transitions. `images=False` leaves the images out, for learning on cached
        embeddings.

        Raises UserError if no episode is as long as `length`.
        """
        lengths = self.lengths()
        episode, offset = draw_windows(
            lengths, length, batch_size, rng, "lower learner.length or learner.filter_length"
        )
        held = [self.episodes[e] for e in episode]
        starts = np.array([e.start for e in held]) + offset
        by_segment: dict[int, list[int]] = {}
        for row, e in enumerate(held):
            by_segment.setdefault(e.segment.index, []).append(row)
        arrays = {}
        for key, (dtype, shape) in layout(self.spec).items():
            if images or not key.startswith("image_"):
                arrays[key] = np.empty((batch_size, length, *shape), dtype)
                if key.startswith("image_"):  # large: copied once, where indexing by segment would copy twice
                    for row, e in enumerate(held):
                        arrays[key][row] = e.segment.read(key, starts[row], starts[row] + length)
                else:
                    for rows in by_segment.values():
                        arrays[key][rows] = held[rows[0]].segment.windows(key, starts[rows], length)
        first = (lengths.cumsum() - lengths)[episode] + offset
        batch = self._batch(self._unpacked(arrays))
        held_by = torch.from_numpy(multiplicity(lengths[episode], length, offset))
        return replace(batch, frames=torch.from_numpy(first[:, None] + np.arange(length)), multiplicity=held_by)

    def trials(
        self, batch_size: int | None, episodes: int, rng: np.random.Generator | None = None, mixed: bool = False,
        images: bool = True,
    ) -> SequenceBatch:  # fmt: skip
        """(B, T) trials of one task each: `episodes` of its episodes one after the other, zeros where `valid` is
        False.

        batch_size: drawn with replacement; None: every trial once, in order, without `rng`. mixed: any episodes
        of one task instead of those that were played after each other. images: False leaves them out. `head_mask` is
        that of a trial's first episode; the others may have been drawn for other heads.
        Raises UserError if no trial is that long.
        """
        chosen = draw_trials(self.episodes, batch_size, episodes, rng, mixed)
        read = {k: form for k, form in layout(self.spec).items() if images or not k.startswith("image_")}
        packed, valid = joined([[self.episodes[i] for i in places] for places in chosen], read)
        arrays = self._unpacked(packed)
        arrays["is_task_first"][:, 1:] = False  # recombined episodes began trials of their own
        arrays["is_task_first"][:, 0] = True
        frames = frames_of(chosen, self.lengths(), valid)
        return replace(self._batch(arrays), frames=torch.from_numpy(frames), valid=torch.from_numpy(valid))

    def _batch(self, arrays: dict[str, np.ndarray]) -> SequenceBatch:
        tensors = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
        plain = ("proprio", "action", "reward", "reward_present", "reward_inputs", "head_mask", *FLAGS)
        return SequenceBatch(
            images={c: tensors[f"image_{c}"] for c in self.spec.images if f"image_{c}" in tensors},
            task_index=tensors["task_index"].long(),
            **{name: tensors[name] for name in plain},
        )

    def transitions(self) -> Transitions:
        """Every transition in order, for models with their own split and early stop; no images."""
        lengths = self.lengths()
        follows = np.ones(lengths.sum(), bool)
        follows[lengths.cumsum() - lengths] = False
        after = np.flatnonzero(follows)
        proprio, inputs, flags = map(self._column, ("proprio", "reward_inputs", "flags"))
        found = {
            "proprio": proprio[after - 1], "next_proprio": proprio[after],
            "action": self._column("action")[after], "reward": self._column("reward")[after],
            "reward_inputs": inputs[after - 1], "next_reward_inputs": inputs[after],
            "terminal": (flags[after] >> FLAGS.index("is_terminal") & 1).astype(bool),
            "task_index": self._column("task_index")[after].astype(np.int64),
            "episode": np.repeat(np.array([e.number for e in self.episodes], np.int64), lengths - 1),
        }  # fmt: skip
        return Transitions(**{name: torch.from_numpy(values) for name, values in found.items()})

    def _column(self, key: str) -> np.ndarray:
        """One stored array of all episodes held, one after the other."""
        dtype, shape = layout(self.spec)[key]
        parts = [e.segment.read(key, e.start, e.stop) for e in self.episodes]
        return np.concatenate([np.empty((0, *shape), dtype), *parts])

    # Saving

    def flush(self) -> None:
        """Write and sync everything added so far; then a checkpoint may name it."""
        for segment in self.segments:
            segment.flush()

    def prune(self, *states: dict) -> None:
        """Delete evicted segments from the disk; call once a checkpoint that no longer names them is
        saved. states: earlier `state()`s whose segments stay too.
        """
        if self.folder is not None and self.folder.is_dir():
            kept = {segment.folder for segment in self.segments}
            kept |= {segment_folder(self.folder, int(row[0])) for s in states for row in s["segments"]}
            for path in self.folder.glob("segment_*"):
                if path not in kept:
                    shutil.rmtree(path)

    def state(self) -> dict:
        """Names and lengths of what was flushed: {"segments": [[index, capacity, steps], ...], "episodes":
        [[segment, start, stop], ...]} and the counters."""
        return {"env_steps": self.env_steps, "evicted": self.evicted, "ended": self.ended,
                "segments": [[s.index, s.capacity, s.steps] for s in self.segments],
                "episodes": np.array([[e.segment.index, e.start, e.stop] for e in self.episodes],
                                     np.int64).reshape(-1, 3)}  # fmt: skip

    def check(self, state: dict) -> None:
        """Raise `UserError` if the files are shorter than `state` says; nothing is changed."""
        for index, _, steps in state["segments"]:
            Segment(self.spec, int(index), 0, self.folder, mapped=True).check(int(steps))  # mapped: takes no memory

    def load_state(self, state: dict) -> None:
        """Reopen the segments of `state()`; later writes are cut off."""
        self._open(state, cut=True)

    def read_state(self, state: dict) -> None:
        """The same for a replay that is only read: nothing is changed on the disk."""
        self._open(state, cut=False)

    def _open(self, state: dict, cut: bool) -> None:
        self.segments = []
        for index, capacity, steps in state["segments"]:
            self.segments.append(self._segment(int(index), int(capacity)))
            self.segments[-1].open(int(steps), cut)
        self.env_steps, self.evicted = int(state["env_steps"]), int(state["evicted"])
        by_index = {segment.index: segment for segment in self.segments}
        self.episodes = [Episode.of(self.evicted + k, by_index[int(i)], int(a), int(b))
                         for k, (i, a, b) in enumerate(state["episodes"])]  # fmt: skip
        if "ended" in state:
            self.ended = bool(state["ended"])
        else:  # a checkpoint of before this was saved: what is held tells
            self.ended = bool((self._column("flags") >> FLAGS.index("is_terminal") & 1).any())
