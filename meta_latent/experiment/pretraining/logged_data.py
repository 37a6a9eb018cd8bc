"""Logged episodes as the data of a source: of a finished run's folder, or of a Minari data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from meta_latent import files
from meta_latent.data.minari_episodes import PREFIX, MinariEpisodes
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.data.segments import layout
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import model_folder, source_data
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.runs.run_folder import CHECKPOINT, CONFIG, read_record
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import SourceConfig
from meta_latent.experiment.settings.suites import BoundTask, open_distribution
from meta_latent.types import Spec
from task_suites import SuiteError


class Episodes(Protocol):
    """Episodes by place: arrays with leading T + 1, as `data.collect.play` returns them.

    reward_input_names: of their reward inputs; () where the data do not say.
    """

    @property
    def reward_input_names(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class ReplayEpisodes:
    """The episodes of a replay."""

    replay: SequenceReplay

    @property
    def reward_input_names(self) -> tuple[str, ...]:
        """See `Episodes`."""
        return self.replay.spec.reward_input_names

    def __len__(self) -> int:
        return len(self.replay.episodes)

    def __getitem__(self, place: int) -> dict[str, np.ndarray]:
        return self.replay.read(place)


@dataclass(frozen=True)
class LoggedSource:
    """The part of logged data that is one source's: every `stride`-th episode from `first` on, paid as its task pays.

    name: of the data, for errors.
    """

    name: str
    data: Episodes
    source: BoundTask
    first: int
    stride: int

    def __len__(self) -> int:
        return len(range(self.first, len(self.data), self.stride))

    def episode(self, turn: int) -> dict[str, np.ndarray]:
        """Episode number `turn` of the source's: a trial of its own, with the rewards of its task.

        Raises UserError if it does not fit the suite, or its reward cannot be computed.
        """
        place = self.first + turn * self.stride
        arrays, suite = dict(self.data[place]), self.source.distribution
        check(arrays, Spec.of(suite), f"episode {place} of {self.name}", self.source.name)
        try:
            paid = suite.reward(self.source.task, arrays["reward_inputs"], arrays["action"])
        except SuiteError as error:
            who = f"episode {place} of {self.name} cannot be paid as {self.source.name} pays"
            raise UserError(f"{who}: {error}") from error
        arrays["reward"] = np.asarray(paid, np.float32) * arrays["reward_present"]
        arrays["is_task_first"] = arrays["is_first"]
        return arrays


def of_sources(settings: Sequence[SourceConfig], sources: Sequence[BoundTask]) -> dict[int, LoggedSource]:
    """Number of a source -> its logged episodes, for those that have `data`; sources of the same data take its
    episodes in turn. Raises UserError where data cannot be opened, have too few episodes, or were played in another
    task than a source whose reward holds there alone.
    """
    found: dict[int, LoggedSource] = {}
    for name in dict.fromkeys(s.data for s in settings if s.data):
        data, sharing = open_data(name), [k for k, s in enumerate(settings) if s.data == name]
        if len(data) < len(sharing):
            raise UserError(f"{name} holds {len(data)} episodes for {len(sharing)} sources: give more data")
        for first, which in enumerate(sharing):
            source = sources[which]
            _refuse_other_inputs(name, data.reward_input_names, source)
            found[which] = LoggedSource(name, data, source, first, len(sharing))
            if not source.distribution.recomputes(source.task):
                for turn in range(len(found[which])):  # another task's are refused before the first step
                    found[which].episode(turn)
    return found


def _refuse_other_inputs(name: str, held: tuple[str, ...], source: BoundTask) -> None:
    read = source.distribution.reward_input_names
    if held and held != read:
        raise UserError(f"{name} does not fit {source.name}: its reward inputs are {', '.join(held)}, what that task "
                        f"pays reads {', '.join(read)}")  # fmt: skip


def open_data(name: str) -> Episodes:
    """The logged episodes `name`: "minari:ID", the folder of a finished run, or the model/ of a pretraining.

    Raises UserError if there is no such thing, or it is damaged.
    """
    if name.startswith(PREFIX):
        return MinariEpisodes(name.removeprefix(PREFIX))
    return ReplayEpisodes(open_run(Path(name)))


def open_run(folder: Path) -> SequenceReplay:
    """What the run in `folder` collected, to be read: a pretraining's source episodes (from its folder or from its
    model/), or the replay of a transfer. Raises UserError if it has not finished, or kept none.
    """
    if (folder / model_folder.CARD).is_file():
        return _of_model(folder)
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} is neither a run (runs/NAME/pretrain/SEED, runs/NAME/transfer/TARGET/ALGORITHM/"
                        "START/SEED) nor the model/ of a pretraining, and no minari:DATASET_ID")  # fmt: skip
    if read_record(folder).get("status") != "done":
        raise UserError(f"the run in {folder} has not finished: its episodes can be read once it has")
    stored = config.read_yaml(folder / CONFIG)
    return _of_transfer(folder, stored) if "arm" in stored else _of_model(folder / "model")


def _of_model(folder: Path) -> SequenceReplay:
    card = source_data.read_card(folder)
    return source_data.open_replay(folder, source_data.spec_of(card, folder), card["heads"], source_data.ALL)


def _of_transfer(folder: Path, stored: dict) -> SequenceReplay:
    task = stored["task"]
    spec = Spec.of(open_distribution(task["suite"], {**stored["suite"], **task["options"]}))
    files.refuse_links(folder / "replay", folder)
    with checkpoint.fitting(folder / CHECKPOINT) as state:
        if state["replay"] is None:
            raise UserError(f"the run in {folder} learned from logged data: it has no episodes of its own")
        replay = SequenceReplay(spec, ReplayConfig(memory_map=True), folder / "replay")
        replay.check(state["replay"])
        replay.read_state(state["replay"])
    return replay


def check(episode: dict[str, np.ndarray], spec: Spec, name: str, suite: str) -> None:
    """Raise UserError, in one line, if an episode's arrays do not fit what `suite` shows and takes, are not finite,
    or hold actions beyond [-1, 1].
    """
    wanted = {key: form for key, form in layout(spec).items() if key in episode or key.startswith("image_")}
    length = len(episode["reward"])
    extra = [key for key in episode if key.startswith("image_") and key not in wanted]
    missing = [key for key in wanted if key not in episode]
    if extra or missing:
        pictures = ", ".join(key for key in episode if key.startswith("image_")) or "no pictures"
        expected = ", ".join(key for key in wanted if key.startswith("image_")) or "none"
        raise UserError(f"{name} does not fit {suite}: it has {pictures}, expected {expected}")
    for key, (dtype, shape) in wanted.items():
        values = np.asarray(episode[key])
        if key == "task_index":
            continue
        if values.shape != (length, *shape) or (dtype == "uint8") != (values.dtype == np.uint8):
            raise UserError(f"{name} does not fit {suite}: {key} is {values.dtype} of shape {values.shape}, expected "
                            f"{dtype} of shape {(length, *shape)}")  # fmt: skip
        if not np.isfinite(values).all():
            raise UserError(f"{name} holds numbers in {key} that are not finite")
    if length < 2 or np.abs(episode["action"]).max(initial=0) > 1:
        largest = float(np.abs(episode["action"]).max(initial=0))
        raise UserError(f"{name} does not fit {suite}: {length - 1} steps with actions up to {largest:.3g}, expected "
                        "at least one, with actions in [-1, 1]")  # fmt: skip
