"""Where a replay's steps lie: append-only segments, each a folder with one raw file per array."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from meta_latent import files
from meta_latent.errors import UserError
from meta_latent.types import Spec


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
    return steps * sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in layout(spec).values())


def in_megabytes(size: float) -> str:
    """So many bytes in words."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else "under 1 MB"


def segment_folder(folder: Path, index: int) -> Path:
    """Where segment number `index` of the replay in `folder` lies."""
    return folder / f"segment_{index:06d}"


class Segment:
    """`steps` steps in preallocated arrays (memory) or in growing files that are mapped for reading (memory
    map).
    """

    def __init__(self, spec: Spec, index: int, capacity: int, folder: Path | None, mapped: bool):
        self.spec, self.index, self.capacity, self.mapped = spec, index, capacity, mapped
        self.folder = None if folder is None else segment_folder(folder, index)
        self.steps = self.flushed = 0
        self.pending: list[dict[str, np.ndarray]] = []
        self.arrays: dict[str, np.ndarray] = {}
        if not mapped:
            self.arrays = {k: np.empty((capacity, *shape), dtype) for k, (dtype, shape) in layout(spec).items()}

    def add(self, episode: dict[str, np.ndarray]) -> None:
        count = len(episode["reward"])
        if not self.mapped:
            for key, values in episode.items():
                self.arrays[key][self.steps : self.steps + count] = values
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
                self.arrays[key] = np.memmap(self.folder / f"{key}.bin", dtype, "r", shape=(self.flushed, *shape))
            else:
                self.arrays[key] = np.empty((self.flushed, *shape), dtype)

    def check(self, steps: int) -> None:
        """Raise `UserError` if a file holds less than `steps` steps."""
        for key in layout(self.spec):
            path, wanted = self._file(key, steps)
            found = path.stat().st_size if path.exists() else 0
            if found < wanted:
                raise UserError(
                    f"{path}: {found} bytes, the checkpoint counts on {wanted}; the replay was truncated, "
                    "restore it or start in a new folder (out=...)"
                )

    def _file(self, key: str, steps: int) -> tuple[Path, int]:
        """An array's file and the bytes that `steps` steps of it take."""
        dtype, shape = layout(self.spec)[key]
        return self.folder / f"{key}.bin", steps * np.dtype(dtype).itemsize * int(np.prod(shape, dtype=int))

    def open(self, steps: int, cut: bool = True) -> None:
        """Read `steps` steps of the files; cut: what lies beyond them is cut off."""
        self.check(steps)  # all of them before the first is cut
        for key, (dtype, shape) in layout(self.spec).items():
            path, wanted = self._file(key, steps)
            if cut and path.exists() and path.stat().st_size > wanted:
                with path.open("r+b") as handle:
                    handle.truncate(wanted)
            if not self.mapped and wanted:
                found = np.fromfile(path, dtype, wanted // np.dtype(dtype).itemsize)
                self.arrays[key][:steps] = found.reshape(steps, *shape)
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
                return values[start - begin : stop - begin]
            begin += len(values)
        raise IndexError(f"steps {start} to {stop} of a segment that holds {self.steps}")

    def windows(self, key: str, starts: np.ndarray, length: int) -> np.ndarray:
        """Windows (n, length, ...) of one array, from each of `starts` (n,) on."""
        if not self.mapped or starts.max() + length <= self.flushed:
            return self.arrays[key][starts[:, None] + np.arange(length)]
        return np.stack([self.read(key, start, start + length) for start in starts])
