"""The options that all suites with pictures share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from task_suites.distribution import as_distractors
from task_suites.errors import SuiteError, choose
from task_suites.values import flag, whole
from task_suites.views import Views


@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """Options of every suite with pictures; a suite's own subclass adds those that only it has.

    cameras: names, or one; None = the suite's choice; an empty tuple gives proprio only. image_size: 16 to
    512 pixels, height and width. antialias: smooth edges, slower. episode_steps: time limit, 1 to 100,000;
    None = the task's own. distractors: put on every sampled task, as `as_distractors` reads them; only where
    there are cameras. Raises SuiteError naming a wrong option.
    """

    cameras: Iterable[str] | str | None = None
    image_size: int = 64
    antialias: bool = False
    episode_steps: int | None = None
    distractors: Any = ()

    def __post_init__(self) -> None:
        self._whole("image_size", 16, 512)
        self._whole("episode_steps", 1, 100_000)
        flag(self.antialias, "antialias")
        object.__setattr__(self, "distractors", as_distractors(self.distractors))

    def _whole(self, name: str, low: int, high: int) -> None:
        """Hold the option `name` to whole numbers from `low` to `high`, or None where that is its default."""
        value = getattr(self, name)
        if value is not None or getattr(type(self), name) is not None:  # of the class: the default
            object.__setattr__(self, name, whole(value, name, low, high))

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Raise SuiteError if one of the options `names` is given: it would do nothing."""
        for name in names:
            if getattr(self, name) is not None:
                raise SuiteError(f"{name} is {getattr(self, name)!r}: {why}, leave it out")

    def views_among(self, valid: tuple[str, ...], default: tuple[str, ...]) -> Views:
        """Return what is shown: of the cameras, or of `default`.

        Raises SuiteError if one is not of `valid` or given twice, or if distractors have no pictures.
        """
        given = default if self.cameras is None else self.cameras
        if not isinstance(given, Iterable):
            raise SuiteError(f"cameras is {given!r}: expected names of cameras")
        cameras = (given,) if isinstance(given, str) else tuple(given)
        for camera in cameras:
            choose(camera, valid, "camera")
        if len(set(cameras)) != len(cameras):
            raise SuiteError(f"cameras is {cameras!r}: one is given twice")
        if self.distractors and not cameras:
            raise SuiteError("distractors: there are no pictures for them to change, choose cameras")
        return Views(cameras, self.image_size, self.antialias)

    def steps_or(self, default: int) -> int:
        """Return the time limit, or `default`."""
        return default if self.episode_steps is None else self.episode_steps
