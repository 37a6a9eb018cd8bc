"""Sequence replay: whole episodes in append-only segments, images in uint8, each frame stored once.

A segment is a folder with one raw file per array. Episodes never straddle segments. A checkpoint names the
segments and how many steps of each count (`state`); opening with that state drops whatever was written after
it. Old segments leave memory when the capacity is exceeded and leave the disk at `prune`, after the next
checkpoint.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from meta_latent import files
from meta_latent.errors import UserError
from meta_latent.ranges import count
from meta_latent.types import SequenceBatch, Spec

FLAGS = ("is_first", "is_last", "is_terminal", "is_task_first")


@dataclass(frozen=True)
class ReplayConfig:
    """capacity: environment steps kept. memory_map: read images from disk instead of memory. segment: steps
    a file.
    """

    capacity: int = count(100_000)
    memory_map: bool = False
    segment: int = count(10_000, most=1_000_000)


def layout(spec: Spec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """array name -> (dtype, shape of one step)."""
    arrays = {f"image_{camera}": ("uint8", shape) for camera, shape in spec.images.items()}
    return arrays | {
        "proprio": ("float32", (spec.proprio,)),
        "action": ("float32", (spec.action_size,)),
        "reward": ("float32", ()),
        "reward_present": ("float32", ()),
        "reward_inputs": ("float32", (spec.reward_inputs,)),
        "flags": ("uint8", ()),
        "task_index": ("int32", ()),
        "head_bits": ("uint32", ()),
    }


def predicted_bytes(spec: Spec, steps: int) -> int:
    """Bytes that `steps` stored steps take, in memory or on disk."""
    return steps * sum(
        np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in layout(spec).values()
    )


class _Segment:
    """`steps` steps in preallocated arrays (memory) or in growing files that are mapped for reading (memory
    map).
    """

    def __init__(self, spec: Spec, index: int, capacity: int, folder: Path | None, mapped: bool):
        self.spec, self.index, self.capacity, self.mapped = spec, index, capacity, mapped
        self.folder = None if folder is None else folder / f"segment_{index:06d}"
        self.steps = self.flushed = 0
        self.pending: list[dict[str, np.ndarray]] = []
        self.arrays: dict[str, np.ndarray] = {}
        if not mapped:
            self.arrays = {
                k: np.empty((capacity, *shape), dtype) for k, (dtype, shape) in layout(spec).items()
            }

    def add(self, episode: dict[str, np.ndarray]) -> None:
        count = len(episode["reward"])
        if not self.mapped:
            for key, values in episode.items():
                self.arrays[key][self.steps:self.steps + count] = values
        if self.folder is not None:
            self.pending.append(episode)
        self.steps += count
        if self.mapped and self.steps - self.flushed >= 500:
            self.flush()

    def flush(self) -> None:
        """Append what is pending to the files, synced; then it may be named by a checkpoint."""
        if self.folder is None or not self.pending:
            return
        if self.flushed == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        for key in layout(self.spec):
            files.append_bytes(self.folder / f"{key}.bin", b"".join(e[key].tobytes() for e in self.pending))
        self.pending, self.flushed = [], self.steps
        if self.mapped:
            self._map()

    def _map(self) -> None:
        self.arrays = {}
        for key, (dtype, shape) in layout(self.spec).items():
            if self.flushed and np.prod(shape, dtype=int):
                self.arrays[key] = np.memmap(
                    self.folder / f"{key}.bin", dtype, "r", shape=(self.flushed, *shape)
                )
            else:
                self.arrays[key] = np.empty((self.flushed, *shape), dtype)

    def open(self, steps: int) -> None:
        """Read `steps` steps of the files, cutting what lies beyond them."""
        for key, (dtype, shape) in layout(self.spec).items():
            path = self.folder / f"{key}.bin"
            wanted = steps * np.dtype(dtype).itemsize * int(np.prod(shape, dtype=int))
            found = path.stat().st_size if path.exists() else 0
            if found < wanted:
                raise UserError(
                    f"{path}: {found} bytes, the checkpoint counts on {wanted}; the replay was truncated, "
                    "start again in a new folder (out=...)"
                )
            if found > wanted:
                with path.open("r+b") as handle:
                    handle.truncate(wanted)
            if not self.mapped and wanted:
                self.arrays[key][:steps] = np.fromfile(path, dtype).reshape(steps, *shape)
        self.steps = self.flushed = steps
        if self.mapped:
            self._map()

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        """Steps start..stop of one array (a view where possible)."""
        if not self.mapped or stop <= self.flushed:
            return self.arrays[key][start:stop]
        begin = self.flushed
        for episode in self.pending:  # files grow by whole episodes, so a window lies in one of them
            values = episode[key]
            if start < begin + len(values):
                return values[start - begin:stop - begin]
            begin += len(values)
        raise IndexError(f"steps {start} to {stop} of a segment that holds {self.steps}")


class SequenceReplay:
    """Episodes of one spec. `env_steps`: steps ever added. `evicted`: episodes that were forgotten.

    Args:
        spec: shapes. config: `ReplayConfig`. folder: where segments are written (None: memory only).
        heads: K, for the heads' masks.
    """

    def __init__(self, spec: Spec, config: ReplayConfig, folder: Path | None = None, heads: int = 1):
        if config.memory_map and folder is None:
            raise UserError("memory_map=true needs a folder to write to")
        self.spec, self.config, self.heads = spec, config, heads
        self.folder = None if folder is None else Path(folder)
        self.segments: list[_Segment] = []
        self.episodes: list[tuple[_Segment, int, int]] = []
        self.env_steps = self.evicted = 0

    def __len__(self) -> int:
        """Environment steps held (observations minus episode starts); `env_steps` counts the evicted ones
        too.
        """
        return sum(stop - start - 1 for _, start, stop in self.episodes)

    @property
    def frames(self) -> int:
        """Observations held."""
        return sum(stop - start for _, start, stop in self.episodes)

    def add_episode(
        self, episode: dict[str, np.ndarray], head_mask: np.ndarray | None = None, task_index: int = 0
    ):
        """Append one episode: arrays with leading T + 1 (see `layout`); flags may be given as bools by name.

        head_mask: (K,) bool, the heads that may train on it (default all).
        """
        length = len(episode["reward"])
        flags = sum(np.asarray(episode[name], np.uint8) << bit for bit, name in enumerate(FLAGS))
        bits = (
            (1 << self.heads) - 1
            if head_mask is None
            else int(sum(1 << k for k in range(self.heads) if head_mask[k]))
        )
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
        self.episodes.append((segment, segment.steps, segment.steps + length))
        segment.add(stored)
        self.env_steps += length - 1
        self._evict()

    def _evict(self) -> None:
        """Forget whole segments from the oldest on, as long as `capacity` steps remain."""
        while len(self.segments) > 1:
            oldest = [e for e in self.episodes if e[0] is self.segments[0]]
            if len(self) - sum(stop - start - 1 for _, start, stop in oldest) < self.config.capacity:
                return
            self.segments.pop(0)
            self.episodes = self.episodes[len(oldest):]
            self.evicted += len(oldest)

    def _segment(self, index: int, capacity: int) -> _Segment:
        return _Segment(self.spec, index, capacity, self.folder, self.config.memory_map)

    def read(self, episode: int) -> dict[str, np.ndarray]:
        """All arrays of one episode (do not write to them)."""
        segment, start, stop = self.episodes[episode]
        return {key: segment.read(key, start, stop) for key in layout(self.spec)}

    def subset(self, episodes) -> SequenceReplay:
        """A replay of these episodes only, sharing the data; for reading, not for adding."""
        other = copy.copy(self)
        other.episodes, other.evicted = [self.episodes[int(i)] for i in episodes], 0
        return other

    def lengths(self) -> np.ndarray:
        """Observations per episode."""
        return np.array([stop - start for _, start, stop in self.episodes])

    def sequences(self, batch_size: int, length: int, rng: np.random.Generator, among=None,
                  images: bool = True) -> SequenceBatch:
        """(B, T) windows, each within one episode, uniform over all windows of the episodes `among` (default
        all).

        `images=False` leaves the images out, for learning on cached embeddings.

        Raises UserError if no episode is as long as `length`.
        """
        chosen = np.arange(len(self.episodes)) if among is None else np.asarray(among)
        windows = np.maximum(self.lengths()[chosen] - length + 1, 0)
        if windows.sum() == 0:
            raise UserError(
                f"the longest stored episode has {self.lengths()[chosen].max(initial=0)} observations, "
                f"training sequences take {length}: lower learner.length or learner.filter_length"
            )
        flat = rng.integers(windows.sum(), size=batch_size)
        ends = windows.cumsum()
        which = np.searchsorted(ends, flat, side="right")
        offset = flat - (ends - windows)[which]
        pieces = [(*self.episodes[chosen[e]][:2], int(o)) for e, o in zip(which, offset, strict=True)]
        before = self.lengths().cumsum() - self.lengths()
        return self._batch(pieces, length, before[chosen[which]] + offset, images)

    def _batch(self, pieces, length: int, first_frame: np.ndarray, images: bool) -> SequenceBatch:
        arrays = {
            key: np.stack([segment.read(key, start + o, start + o + length) for segment, start, o in pieces])
            for key in layout(self.spec)
            if images or not key.startswith("image_")
        }
        tensors = {k: torch.from_numpy(v) for k, v in arrays.items() if v.dtype != np.uint32}
        flags = tensors["flags"]
        mask = (arrays["head_bits"][:, :1] >> np.arange(self.heads, dtype=np.uint32)) & 1
        return SequenceBatch(
            images={c: tensors[f"image_{c}"] for c in self.spec.images if images}, proprio=tensors["proprio"],
            action=tensors["action"], reward=tensors["reward"], reward_present=tensors["reward_present"],
            **{name: (flags >> bit & 1).bool() for bit, name in enumerate(FLAGS)},
            reward_inputs=tensors["reward_inputs"], task_index=tensors["task_index"][:, 0].long(),
            head_mask=torch.from_numpy(mask.astype(bool)), first_frame=torch.from_numpy(first_frame))

    def flush(self) -> None:
        """Write and sync everything added so far; then a checkpoint may name it."""
        for segment in self.segments:
            segment.flush()

    def prune(self) -> None:
        """Delete evicted segments from the disk; call once a checkpoint that no longer names them is
        saved.
        """
        if self.folder is not None and self.folder.is_dir():
            kept = {segment.folder for segment in self.segments}
            for path in self.folder.glob("segment_*"):
                if path not in kept:
                    shutil.rmtree(path)

    def state(self) -> dict:
        """Names and lengths of what was flushed: {"segments": [[index, capacity, steps], ...], "episodes":
        [[segment, start, stop], ...]} and the counters."""
        return {"env_steps": self.env_steps, "evicted": self.evicted,
                "segments": [[s.index, s.capacity, s.steps] for s in self.segments],
                "episodes": np.array([[s.index, a, b] for s, a, b in self.episodes], np.int64).reshape(-1, 3)}

    def load_state(self, state: dict) -> None:
        """Reopen the segments of `state()`; later writes are cut off."""
        self.segments = []
        for index, capacity, steps in state["segments"]:
            self.segments.append(self._segment(int(index), int(capacity)))
            self.segments[-1].open(int(steps))
        self.env_steps, self.evicted = int(state["env_steps"]), int(state["evicted"])
        by_index = {segment.index: segment for segment in self.segments}
        self.episodes = [(by_index[int(i)], int(a), int(b)) for i, a, b in state["episodes"]]
