"""Episodes as Minari data sets (extra `offline`), bit for bit there and back.

A data set has a `Dict` of observations ("image_CAMERA" uint8, "proprio" float32) and actions in [-1, 1]; its infos
hold `reward_inputs`, from which the reward of any task follows, `is_task_first` and `task_index`. Minari keeps HDF5:
nothing is unpickled. Nothing is downloaded either, and no environment is made: what `_refuse_hostile` lets through
reads no other file and runs nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from meta_latent import files
from meta_latent.data.replay import FLAGS, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.types import Spec

PREFIX = "minari:"
"""What a data set's id follows, where a path could stand too."""
LARGEST = 2**32
"""Bytes of one array of a data set."""
_DAMAGED = (ValueError, LookupError, OSError, TypeError, AttributeError, AssertionError, ArithmeticError, MemoryError,
            RecursionError)  # fmt: skip
_NAMES = "reward_input_names"
_INFOS = ("reward_inputs", "is_task_first", "task_index")


def write(replay: SequenceReplay, dataset_id: str, description: str) -> int:
    """Write the episodes of `replay` as the local data set `dataset_id`, such as "toy/lqr-v0"; returns how many.

    Raises UserError without Minari, for an id that Minari does not take, and where there is such a data set already,
    another process writes it, or nothing can be written; RunError if the disk is full.
    """
    minari, spec = _minari(), replay.spec
    path = _folder(minari, dataset_id)
    with _alone(_folder(minari), dataset_id):
        if path.exists():
            raise UserError(f"there is a data set {dataset_id} in {path} already; choose another id or version")
        try:
            made = minari.create_dataset_from_buffers(
                dataset_id, _buffers(minari, replay), observation_space=_observations(spec),
                action_space=_actions(spec), description=description, jpeg_encoding=False)  # fmt: skip
            made.storage.update_metadata({_NAMES: list(spec.reward_input_names)})
        except BaseException as error:
            shutil.rmtree(path, ignore_errors=True)  # half a data set would look like a whole one
            if isinstance(error, OSError):
                with files.full_disk_named(path):
                    raise
            raise
    return len(replay.episodes)


class MinariEpisodes:
    """The episodes of a local data set, read when asked for.

    Raises UserError without Minari, and where there is no such data set or it cannot be read.
    """

    def __init__(self, dataset_id: str):
        minari, self.name = _minari(), f"{PREFIX}{dataset_id}"
        folder = _folder(minari, dataset_id)
        if not (folder / "data").is_dir():
            raise UserError(f"there is no local data set {dataset_id}; minari list local shows those there are, "
                            f"minari download {dataset_id} fetches one")  # fmt: skip
        try:
            _refuse_hostile(folder)
            self._dataset = minari.load_dataset(dataset_id)
        except _DAMAGED as error:
            reason = str(error) or type(error).__name__
            raise UserError(f"the data set {dataset_id} cannot be read: {reason}") from error
        shown = self._dataset.observation_space
        pictures = isinstance(shown, gymnasium.spaces.Dict) and any(key.startswith("image_") for key in shown)
        if pictures and self._dataset.storage.metadata.get("jpeg_encoding"):
            warnings.warn(f"the pictures of {self.name} have lost detail: it was recorded with jpeg_encoding=True, "
                          "Minari's default", stacklevel=2)  # fmt: skip

    @property
    def reward_input_names(self) -> tuple[str, ...]:
        """What the numbers of `reward_inputs` are called, where the data set says so."""
        names = self._dataset.storage.metadata.get(_NAMES, ())
        return tuple(map(str, names)) if isinstance(names, list | tuple) else ()

    def __len__(self) -> int:
        return int(self._dataset.total_episodes)

    def __getitem__(self, place: int) -> dict[str, np.ndarray]:
        """The arrays of one episode with leading T + 1, as `data.collect.play` returns them, in the time convention
        of `types`. Its end is terminal where the data set says so. Raises UserError if there are no `reward_inputs`.
        """
        try:
            stored = self._dataset[int(self._dataset.episode_indices[place])]
        except _DAMAGED as error:
            reason = str(error) or type(error).__name__
            raise UserError(f"episode {place} of {self.name} cannot be read: {reason}") from error
        if "reward_inputs" not in (stored.infos or {}):
            raise UserError(f"{self.name} has no infos['reward_inputs'], from which the rewards of every source are "
                            "computed: record it in environments of the suite, whose info holds them")  # fmt: skip
        return _arrays(stored)


def _minari() -> ModuleType:
    try:
        import minari
        import minari.storage.datasets_root_dir
    except ImportError as error:
        raise UserError("minari data sets need the extra offline: pip install 'meta-latent[offline]'") from error
    return minari


def _folder(minari: ModuleType, dataset_id: str | None = None) -> Path:
    """Where a local data set is, or would be; None: all of them. Raises UserError for what is no id, or where Minari
    cannot make the folder of all.
    """
    try:
        if dataset_id is not None:
            minari.dataset.minari_dataset.parse_dataset_id(dataset_id)
            if {".", ".."} & set(dataset_id.split("/")) or dataset_id.startswith("/"):
                raise ValueError("it leads out of the folder of data sets")
        return minari.storage.datasets_root_dir.get_dataset_path(dataset_id)
    except (ValueError, TypeError) as error:  # TypeError: of an id without a version
        raise UserError(f"{dataset_id!r} is no id of a data set, such as toy/lqr-v0") from error
    except OSError as error:
        raise UserError(f"cannot make the folder of data sets {error.filename}: {error.strerror}; set "
                        "MINARI_DATASETS_PATH to another one") from error  # fmt: skip


@contextlib.contextmanager
def _alone(root: Path, dataset_id: str) -> Iterator[None]:
    """Context manager that keeps other exports of this id away: one that fails deletes what is there.

    Raises UserError if there is one at work, or nothing can be written in `root`, the folder of all data sets.
    """
    try:
        lock = root / f".{dataset_id.replace('/', '.')}.lock"
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UserError(f"cannot write data sets to {root}: {error.strerror}; set MINARI_DATASETS_PATH to another one"
                        ) from error  # fmt: skip
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process exports {dataset_id}; wait for it, or choose another id") from None
        yield
    finally:
        os.close(descriptor)


def _refuse_hostile(folder: Path) -> None:
    """Raise ValueError for a data set that would have Minari run or read something else than the data set.

    Without its spaces Minari makes the environment that the metadata name, which may be any function of any module.
    HDF5 can take groups and arrays from other files, and a group can hold itself.
    """
    import h5py

    metadata, data = folder / "data" / "metadata.json", folder / "data" / "main_data.hdf5"
    for path in (metadata, data):
        if files.leads_out(path, folder):
            raise ValueError(f"{path.name} is a link that leads out of its folder")
    found = files.from_json(files.read_bytes(metadata))
    if found["data_format"] != "hdf5":
        raise ValueError(f"its format is {found['data_format']!r}, expected hdf5")
    for key in ("observation_space", "action_space"):
        if not isinstance(found.get(key), str):
            raise ValueError(f"its metadata have no {key}")
    links = visited = 0

    def visit(name: str, item: Any) -> None:
        nonlocal links, visited
        visited += 1
        if isinstance(item, h5py.Group):
            links += _own_links(item)
        elif item.external or item.is_virtual:
            raise ValueError(f"{name} lies in another file")
        elif item.size is not None and item.size * item.dtype.itemsize > LARGEST:
            raise ValueError(f"{name} has more than {LARGEST:,} bytes")

    with h5py.File(data, "r") as file:
        links += _own_links(file)
        file.visititems(visit)  # each object once, and none behind a link of another kind
    if links != visited:
        raise ValueError("it holds a group or an array several times")


def _own_links(group: Any) -> int:
    """How many groups and arrays an HDF5 group holds. Raises ValueError for one that it takes from elsewhere."""
    import h5py

    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{group.name}/{name} is a link to something else")
    return len(group)


def _observations(spec: Spec) -> gymnasium.spaces.Dict:
    spaces: dict[str, Any] = {f"image_{camera}": gymnasium.spaces.Box(0, 255, shape, np.uint8)
                              for camera, shape in spec.images.items()}  # fmt: skip
    if spec.proprio:
        spaces["proprio"] = gymnasium.spaces.Box(-np.inf, np.inf, (spec.proprio,), np.float32)
    return gymnasium.spaces.Dict(spaces)


def _actions(spec: Spec) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-1.0, 1.0, (spec.action_size,), np.float32)


def _buffers(minari: ModuleType, replay: SequenceReplay) -> Iterator[Any]:
    """One episode after the other, so that one is in memory."""
    seen = [f"image_{camera}" for camera in replay.spec.images] + ["proprio"] * bool(replay.spec.proprio)
    for place in range(len(replay.episodes)):
        arrays = {key: np.array(values) for key, values in replay.read(place).items()}
        length, ended, terminal = len(arrays["reward"]), arrays["is_last"][1:], arrays["is_terminal"][1:]
        arrays["task_index"] = np.full(length, arrays["task_index"], np.int32)
        yield minari.data_collector.EpisodeBuffer(
            id=place, observations={key: arrays[key] for key in seen}, actions=arrays["action"][1:],
            rewards=arrays["reward"][1:], terminations=terminal, truncations=ended & ~terminal,
            infos={key: arrays[key] for key in _INFOS})  # fmt: skip


def _arrays(stored: Any) -> dict[str, np.ndarray]:
    length, seen = len(stored.rewards) + 1, stored.observations
    arrays = dict(seen) if isinstance(seen, dict) else {"proprio": seen}
    arrays.setdefault("proprio", np.zeros((length, 0), np.float32))
    arrays |= {name: np.zeros(length, bool) for name in FLAGS}
    arrays["is_first"][0] = arrays["is_task_first"][0] = arrays["is_last"][-1] = True
    arrays["is_terminal"][1:] = stored.terminations
    if "is_task_first" in stored.infos:
        arrays["is_task_first"] = np.asarray(stored.infos["is_task_first"], bool)
    arrays["action"] = _after_first(stored.actions)
    arrays["reward"] = _after_first(stored.rewards)
    arrays["reward_present"] = (~arrays["is_first"]).astype(np.float32)
    arrays["reward_inputs"] = np.asarray(stored.infos["reward_inputs"])
    arrays["task_index"] = np.asarray(stored.infos.get("task_index", [0]))[0]
    return arrays


def _after_first(values: np.ndarray) -> np.ndarray:
    """What led to observations 1, 2, ..., with zeros for the first, which nothing led to."""
    values = np.asarray(values, np.float32)
    return np.concatenate([np.zeros_like(values[:1]), values])
