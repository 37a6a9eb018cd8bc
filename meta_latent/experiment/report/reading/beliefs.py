"""What a trained agent's belief expects to be paid, as maps over the workspace: kept beside `adaptation.json`."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meta_latent.experiment.report.reading import records
from meta_latent.experiment.report.reading.adaptations import FOLDER
from meta_latent.experiment.report.reading.pretrained import seed_order
from meta_latent.files import atomic_write_bytes, from_json

PREFIX, FORMAT = "belief_", 1
ARRAYS = {"observations": ("i", 1), "maps": ("f", 3), "paid": ("f", 2), "scenes": ("u", 4), "places": ("f", 2)}
"""Name -> kind of numbers, dimensions."""
LARGEST = 2**28
"""Bytes that a belief unpacks to."""


@dataclass(frozen=True)
class Facts:
    """Whose belief it is and of which trial, as JSON values.

    Attributes:
        arm, target, seed, task: names. below: how many of the `tasks` test tasks paid less in the first episode.
        returns: raw, per episode. lengths: observations per episode, T together. axes: two reward inputs.
        extent: left, right, bottom, top of the maps. goal: where on them the task is solved, None if unknown.
        told: name -> a number per observation, what the agent says of this trial (`Agent.inspect`).
    """

    arm: str
    target: str
    seed: int
    task: str
    below: int
    tasks: int
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    axes: tuple[str, str]
    extent: tuple[float, float, float, float]
    goal: tuple[float, float] | None
    told: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Belief:
    """What a belief expected along a trial of T observations.

    Attributes:
        observations: (M,) numbers of those that maps and scenes are of. maps: (M, G, G) expected rewards, row 0 lowest,
            NaN where nobody has been. paid: (G, G) the same of what the task pays. scenes: (M, H, W, 3) uint8 pictures,
            M = 0 where nothing is drawn. places: (T, 2) where the agent was, on the axes of the maps.
    """

    facts: Facts
    observations: np.ndarray
    maps: np.ndarray
    paid: np.ndarray
    scenes: np.ndarray
    places: np.ndarray

    def at(self, observations: Sequence[int]) -> Belief:
        """Maps and scenes of these observations alone, which are among its own."""
        chosen = np.searchsorted(self.observations, observations)
        scenes = self.scenes[chosen] if len(self.scenes) else self.scenes
        return dataclasses.replace(self, observations=self.observations[chosen], maps=self.maps[chosen], scenes=scenes)

    def time(self, observation: int) -> tuple[int, int]:
        """(episode, step), from 0 on, of an observation."""
        starts = np.cumsum((0, *self.facts.lengths))
        episode = int(np.searchsorted(starts, observation, "right")) - 1
        return episode, int(observation - starts[episode])

    def path(self, observation: int) -> np.ndarray:
        """Places (n, 2) where the agent was in the observation's episode, up to it."""
        return self.places[observation - self.time(observation)[1] : observation + 1]

    @property
    def place(self) -> tuple[str, ...]:
        """TARGET, ALGORITHM, START, SEED."""
        return self.facts.target, *self.facts.arm.split("/"), str(self.facts.seed)


def moments(lengths: Sequence[int]) -> list[int]:
    """The observations that tell a trial: before any reward, at a quarter, half and the end of the first episode, at
    half of the second.
    """
    last = lengths[0] - 1
    second = [lengths[0] + (lengths[1] - 1) // 2] if len(lengths) > 1 else []
    return sorted({0, last // 4, last // 2, last, *second})


def save(belief: Belief, path: Path) -> Path:
    """Write `belief` to `path`, returned; `read` reads it."""
    buffer = io.BytesIO()
    facts = json.dumps({"format": FORMAT, **dataclasses.asdict(belief.facts)})
    np.savez_compressed(buffer, facts=np.array(facts), **{name: getattr(belief, name) for name in ARRAYS})
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, buffer.getvalue())
    return path


def read(path: Path) -> Belief:
    """The belief in `path`. Raises OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, MemoryError or
    BadZipFile if it holds none.
    """
    packed = io.BytesIO(records.read_bytes(path))
    with zipfile.ZipFile(packed) as file:
        if sum(member.file_size for member in file.infolist()) > LARGEST:
            raise ValueError("it unpacks to more than a belief takes")
    with np.load(packed) as stored:
        facts = from_json(str(stored["facts"]))
        arrays = {name: stored[name] for name in ARRAYS}
    if facts.pop("format") != FORMAT:
        raise ValueError("another format")
    for name, (kinds, dimensions) in ARRAYS.items():
        if arrays[name].dtype.kind not in kinds or arrays[name].ndim != dimensions:
            raise ValueError(f"{name} is an array of another kind")
    kept = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    belief = Belief(Facts(**kept), **arrays)
    shown, frames = len(belief.observations), sum(belief.facts.lengths)
    series = [belief.places, *belief.facts.told.values()]
    if {len(belief.maps), len(belief.scenes) or shown} != {shown} or {len(one) for one in series} != {frames}:
        raise ValueError("arrays of different trials")
    return belief


def find(root: Path, notes: list[str]) -> list[tuple[Path, Belief]]:
    """Those of a run folder: of the first seed of every arm that has some, with their paths."""
    paths = (root / FOLDER).glob(f"*/*/*/*/{PREFIX}*.npz")
    found, first = [], {}
    for path in sorted(paths, key=lambda path: (path.parts[-5:-2], seed_order(path.parts[-2]), path.name)):
        if first.setdefault(path.parts[-5:-2], path.parts[-2]) == path.parts[-2]:
            try:
                found.append((path, read(path)))
            except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, MemoryError,
                    zipfile.BadZipFile) as error:  # fmt: skip
                notes.append(f"{path} is left out: it lacks what it should hold ({type(error).__name__}).")
    return found
