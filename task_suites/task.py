"""Tasks as values: frozen, hashable, JSON-able descriptions of what is to be learned."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from task_suites.errors import SuiteError, choose

DISTRACTOR_NAMES = ("camera", "colours", "lights", "objects", "textures", "video")
VERSION = 1  # of stored tasks; rises when a stored task would mean something else
Scalar = bool | int | float | str


def _plain(value: Scalar) -> Scalar:
    """Return the built-in number for one of numpy's that derives from it (np.float64 is), and 0 for -0."""
    return float(value) + 0.0 if isinstance(value, float) else value


def _told_apart(values: Mapping[str, Scalar]) -> dict[str, tuple[bool, Scalar]]:
    """Return `values` such that True, which equals 1 for Python, does not."""
    return {name: (isinstance(value, bool), value) for name, value in values.items()}


def _apart(name: Any, value: Any) -> str:
    """What to do where `value` is several numbers."""
    count = len(value) if isinstance(value, Sequence) or getattr(value, "ndim", 0) else 0
    if isinstance(name, str) and count > 1:
        ends = "xyz" if count <= len("xyz") else range(3)
        return f"; give {count} numbers: {', '.join([f'{name}_{end}' for end in ends][:count])}" + ", ..." * (count > 3)
    return ""


class Parameters(Mapping[str, Scalar]):
    """An immutable, hashable mapping from names to plain scalars (bool, int, finite float, str).

    Two are equal if their values are, but a bool equals no number.
    """

    __slots__ = ("_items",)

    def __init__(self, values: Mapping[str, Scalar] | None = None, /, **more: Scalar) -> None:
        if values is not None and not isinstance(values, Mapping):
            raise SuiteError(f"parameters are {values!r}: expected a mapping from names to plain scalars")
        merged = {**(values or {}), **more}
        for name, value in merged.items():
            if not isinstance(name, str) or not isinstance(value, bool | int | float | str):
                raise SuiteError(
                    f"parameter {name!r} is {value!r}: expected a str name and a plain scalar{_apart(name, value)}"
                )
            if isinstance(value, float) and not math.isfinite(value):
                raise SuiteError(f"parameter {name!r} is {value!r}: expected a finite number")
        self._items = {name: _plain(merged[name]) for name in sorted(merged)}

    def in_words(self) -> str:
        """Return the names with their values, "g=3, wind_x=0.08"; "" where there are none."""
        shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in self._items.items()}
        return ", ".join(f"{name}={value}" for name, value in shown.items())

    def __getitem__(self, name: str) -> Scalar:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(_told_apart(self._items).items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and _told_apart(self._items) == _told_apart(other)

    def __repr__(self) -> str:
        return f"Parameters({self._items!r})"

    def __reduce__(self):
        return Parameters, (dict(self._items),)


def read_parameters(values: Any, what: str) -> Parameters:
    """Return `values` as Parameters. SuiteError: names `what` and the parameter that is wrong."""
    try:
        return Parameters(values)
    except SuiteError as error:
        raise SuiteError(f"{what}: {error}") from error


@dataclass(frozen=True)
class Reward:
    """Which reward function of a family is paid: its `name` and `parameters` (units in their names)."""

    name: str
    parameters: Parameters = field(default_factory=Parameters)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise SuiteError(f"reward: name is {self.name!r}, expected a string")
        object.__setattr__(self, "parameters", Parameters(self.parameters))


@dataclass(frozen=True)
class Distractor:
    """A change of the picture only, never of the physics.

    name: one of DISTRACTOR_NAMES; intensity: 0 (nothing) to 1; seed: non-negative, which variation is shown.
    folder: of a user's own videos and images, for "video" only; "" shows a procedural one.
    Raises SuiteError naming the field that is wrong.
    """

    name: str
    intensity: float = 1.0
    seed: int = 0
    folder: str = ""

    def __post_init__(self) -> None:
        choose(self.name, DISTRACTOR_NAMES, "distractor name")
        number = isinstance(self.intensity, int | float) and not isinstance(self.intensity, bool)
        if not number or not 0.0 <= self.intensity <= 1.0:
            raise SuiteError(f"distractor {self.name!r}: intensity is {self.intensity!r}, expected 0 to 1")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise SuiteError(f"distractor {self.name!r}: seed is {self.seed!r}, expected an int >= 0")
        if not isinstance(self.folder, str) or (self.folder and self.name != "video"):
            raise SuiteError(f"distractor {self.name!r}: folder is {self.folder!r}, expected a path, for 'video' only")
        object.__setattr__(self, "intensity", float(self.intensity))

    def to_dict(self) -> dict[str, Scalar]:
        """Return its fields; a folder only where there is one."""
        fields = dataclasses.asdict(self)
        return fields if self.folder else {key: fields[key] for key in fields if key != "folder"}


def read_distractors(values: Any) -> tuple[Distractor, ...]:
    """Read distractors from Distractor values, `{"video": 0.5}` or `[{"name": "video", "seed": 1}]`.

    Raises SuiteError naming what is wrong. A folder of videos is not looked at.
    """
    if isinstance(values, Mapping):
        return tuple(Distractor(name, intensity) for name, intensity in values.items())
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise SuiteError(f"distractors: got {values!r}, expected a mapping from name to intensity or a sequence")
    found: list[Distractor] = []
    for item in values:
        if isinstance(item, Mapping):
            for key in item:
                choose(key, ("name", "intensity", "seed", "folder"), "distractor field")
            if "name" not in item:
                raise SuiteError(f"distractors: {dict(item)!r} has no name")
            item = Distractor(**item)
        if not isinstance(item, Distractor):
            raise SuiteError(f"distractors: got {item!r}, expected Distractor(name, intensity, seed)")
        if item.name in (other.name for other in found):
            raise SuiteError(f"distractors: {item.name!r} is given twice")
        found.append(item)
    return tuple(found)


@dataclass(frozen=True)
class Task:
    """One task of a family: a frozen, hashable, JSON-able value.

    Tasks of one family share observation and action spaces. `parameters` describe the scene, `reward` what is
    paid, `dynamics` the physics, `distractors` changes of the picture, also given as `read_distractors` takes
    them. Units are in the parameters' names.
    """

    family: str
    reward: Reward
    parameters: Parameters = field(default_factory=Parameters)
    dynamics: Parameters = field(default_factory=Parameters)
    distractors: tuple[Distractor, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.family, str):
            raise SuiteError(f"task: family is {self.family!r}, expected a string")
        if not isinstance(self.reward, Reward):
            raise SuiteError(f"task: reward is {self.reward!r}, expected Reward(name, parameters)")
        object.__setattr__(self, "parameters", Parameters(self.parameters))
        object.__setattr__(self, "dynamics", read_parameters(self.dynamics, "task: dynamics"))
        object.__setattr__(self, "distractors", read_distractors(self.distractors))

    def replace(self, **changes) -> Task:
        """Return a copy with fields changed, e.g. `task.replace(distractors=(Distractor("video", 0.5),))`."""
        valid = [item.name for item in dataclasses.fields(self)]
        for name in changes:
            choose(name, valid, "task field")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return its fields as plain values, without a version."""
        return {
            "family": self.family,
            "reward": {"name": self.reward.name, "parameters": dict(self.reward.parameters)},
            "parameters": dict(self.parameters),
            "dynamics": dict(self.dynamics),
            "distractors": [item.to_dict() for item in self.distractors],
        }

    def to_json(self) -> str:
        """Return the task as one line of JSON with sorted keys and a version; floats survive exactly."""
        return json.dumps({"version": VERSION, **self.to_dict()}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Return the task written by `to_json`, also by releases that wrote no version.

        Raises SuiteError naming the field if the text is no such task, or of another version.
        """
        try:
            value = json.loads(text)
        except (
            ValueError,
            TypeError,
            RecursionError,
        ) as error:  # also bytes that are no text, endless nesting
            raise SuiteError(f"not a task in JSON: {error}") from error
        version = _mapping(value, "task").pop("version", 1)
        if version != VERSION:
            raise SuiteError(f"task: version is {version!r}, this release reads {VERSION}")
        _check_fields(value, "task", [item.name for item in dataclasses.fields(cls)])
        reward = value["reward"]
        _check_fields(reward, "reward", ("name", "parameters"))
        return cls(
            family=value["family"],
            reward=Reward(reward["name"], _mapping(reward["parameters"], "reward: parameters")),
            parameters=_mapping(value["parameters"], "task: parameters"),
            dynamics=_mapping(value["dynamics"], "task: dynamics"),
            distractors=value["distractors"],
        )


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SuiteError(f"{what} is {value!r}, expected a JSON object")
    return value


def _check_fields(value: Any, what: str, required: Sequence[str]) -> None:
    for name in _mapping(value, what):
        choose(name, required, f"field of {what}")
    for name in required:
        if name not in value:
            raise SuiteError(f"{what}: {name} is missing")
