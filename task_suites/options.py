"""The options that all suites with pictures share, and how single values are checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from task_suites.distribution import as_distractors
from task_suites.errors import SuiteError, choose


def whole(value: Any, what: str, low: int, high: int) -> int:
    """Return `value` if it is a whole number from `low` to `high`. SuiteError otherwise, naming `what`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SuiteError(f"{what} is {value!r}: expected a whole number from {low} to {high}")
    return value


@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """Options of every suite with pictures; a suite's own subclass adds those that only it has.

    cameras: names, or one; None = the suite's choice; an empty tuple gives proprio only. image_size: 16 to
    512 pixels, height and width. antialias: smooth edges, slower. episode_steps: time limit, 1 to 100,000;
    None = the task's own. distractors: put on every sampled task, as `as_distractors` reads them.
    Raises SuiteError naming a wrong option.
    """

    cameras: Iterable[str] | str | None = None
    image_size: int = 64
    antialias: bool = False
    episode_steps: int | None = None
    distractors: Any = ()

    def __post_init__(self) -> None:
        whole(self.image_size, "image_size", 16, 512)
        if self.episode_steps is not None:
            whole(self.episode_steps, "episode_steps", 1, 100_000)
        object.__setattr__(self, "antialias", bool(self.antialias))
        object.__setattr__(self, "distractors", as_distractors(self.distractors))

    def cameras_among(self, valid: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
        """Return the cameras, or `default`. SuiteError: one is not of `valid`, or is given twice."""
        given = default if self.cameras is None else self.cameras
        cameras = (given,) if isinstance(given, str) else tuple(given)
        for camera in cameras:
            choose(camera, valid, "camera")
        if len(set(cameras)) != len(cameras):
            raise SuiteError(f"cameras is {cameras!r}: one is given twice")
        return cameras

    def steps_or(self, default: int) -> int:
        """Return the time limit, or `default`."""
        return default if self.episode_steps is None else self.episode_steps
