"""Episodes as Minari data sets (extra `offline`), bit for bit there and back.

A data set has a `Dict` of observations ("image_CAMERA" uint8, "proprio" float32) and actions in [-1, 1]; its infos
hold `reward_inputs`, from which the reward of any task follows, `is_task_first` and `task_index`. Minari keeps HDF5:
nothing is unpickled. Nothing is downloaded either.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from meta_latent.data.replay import FLAGS, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.types import Spec

PREFIX = "minari:"
"""What a data set's id follows, where a path could stand too."""
_INFOS = ("reward_inputs", "is_task_first", "task_index")


def write(replay: SequenceReplay, dataset_id: str, description: str) -> int:
    """Write the episodes of `replay` as the local data set `dataset_id`, such as "toy/lqr-v0"; returns how many.

    Raises UserError without Minari, for an id that Minari does not take, and where there is such a data set already.
    """
    minari, spec = _minari(), replay.spec
    try:
        minari.dataset.minari_dataset.parse_dataset_id(dataset_id)
        path = minari.storage.datasets_root_dir.get_dataset_path(dataset_id)
    except ValueError as error:
        raise UserError(f"{dataset_id!r} is no id of a data set, such as toy/lqr-v0: {error}") from error
    if path.exists():
        raise UserError(f"there is a data set {dataset_id} in {path} already; choose another id or version")
    try:
        minari.create_dataset_from_buffers(
            dataset_id, _buffers(minari, replay), observation_space=_observations(spec), action_space=_actions(spec),
            description=description, jpeg_encoding=False)  # fmt: skip
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)  # half a data set would look like a whole one
        raise
    return len(replay.episodes)


class MinariEpisodes:
    """The episodes of a local data set, read when asked for.

    Raises UserError without Minari, and where there is no such data set or it cannot be read.
    """

    def __init__(self, dataset_id: str):
        minari, self.name = _minari(), f"{PREFIX}{dataset_id}"
        try:
            self._dataset = minari.load_dataset(dataset_id)
        except FileNotFoundError as error:
            raise UserError(f"there is no local data set {dataset_id}; minari list local shows those there are, "
                            f"minari download {dataset_id} fetches one") from error  # fmt: skip
        except (ValueError, KeyError, OSError) as error:
            raise UserError(f"the data set {dataset_id} cannot be read: {error}") from error

    def __len__(self) -> int:
        return int(self._dataset.total_episodes)

    def __getitem__(self, place: int) -> dict[str, np.ndarray]:
        """The arrays of one episode with leading T + 1, as `data.collect.play` returns them, in the time convention
        of `types`. Its end is terminal where the data set says so. Raises UserError if there are no `reward_inputs`.
        """
        try:
            stored = self._dataset[int(self._dataset.episode_indices[place])]
        except (ValueError, KeyError, OSError) as error:
            raise UserError(f"episode {place} of {self.name} cannot be read: {error}") from error
        if "reward_inputs" not in stored.infos:
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
