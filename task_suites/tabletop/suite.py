"""The tabletop task distributions: reach, hover, push, gather, match_positions, lift, stack, place."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from task_suites.distribution import TaskDistribution
from task_suites.errors import SuiteError, choose
from task_suites.options import SuiteOptions
from task_suites.tabletop import rewards, scene
from task_suites.tabletop.env import ACTION_SIZE, PROPRIO_SIZE, TabletopEnv
from task_suites.tabletop.picking import PICK_TASKS, PickScript
from task_suites.tabletop.scripts import Script
from task_suites.task import Parameters, Reward, Task
from task_suites.values import flag

SCENE_VERSION = 1
_COLOUR = {"train": "blue", "test": "red"}
_STEPS = {
    **dict.fromkeys(("reach", "hover", "push", "gather", "lift"), 30),
    **dict.fromkeys(("match_positions", "stack", "place"), 60),
}
_GOALS = tuple((round(x, 3), round(y, 3)) for x in np.arange(-2, 3) * 0.05 for y in np.arange(-2, 3) * 0.05)
_PLACES = tuple(goal for goal in _GOALS if not {abs(value) for value in goal} - {0.0, 0.1})
_PAIR_METRES = 0.14
_PAIRS_PER_SPLIT = 40
_HOVERS = {"train": 60, "test": 20}


@functools.cache
def _hovers(split: str) -> tuple[Parameters, ...]:
    """Return where the hand is to hover in the tasks of `split`: drawn once, no place in both splits."""
    low, high = (-0.12, -0.12, 0.02), (0.12, 0.12, 0.08)
    drawn = np.random.default_rng(0).uniform(low, high, (sum(_HOVERS.values()), 3)).round(3).tolist()
    chosen = drawn[: _HOVERS["train"]] if split == "train" else drawn[_HOVERS["train"] :]
    return tuple(Parameters(beside_x_metres=x, beside_y_metres=y, above_metres=z) for x, y, z in chosen)


@functools.cache
def _variations(name: str) -> tuple[Parameters, ...]:
    """Return the goal parameters of the tasks called `name`; goals lie on a 5 cm grid."""
    if name in ("reach", "gather", "lift", "stack"):
        return (Parameters(),)
    if name in ("push", "place"):
        goals = _GOALS if name == "push" else _PLACES
        return tuple(Parameters(goal_x_metres=x, goal_y_metres=y) for x, y in goals)
    pairs = [(a, b) for a, b in itertools.permutations(_GOALS, 2) if np.hypot(a[0] - b[0], a[1] - b[1]) >= _PAIR_METRES]
    chosen = np.random.default_rng(0).permutation(len(pairs))[:_PAIRS_PER_SPLIT]
    return tuple(
        Parameters(goal_x_metres=a[0], goal_y_metres=a[1], goal_green_x_metres=b[0], goal_green_y_metres=b[1])
        for a, b in (pairs[i] for i in chosen)
    )


@dataclass(frozen=True, kw_only=True)
class TabletopOptions(SuiteOptions):
    """Options of the tabletop tasks.

    cameras: some of fit, top, left, right; None = fit. control_hz: 10, 20, 25, 50 or 5 actions per second.
    sparse: pay 1 for success, else 0. gripper: suction, or fingers that hold by friction (other physics, same
    spaces).
    """

    control_hz: int = 10
    sparse: bool = False
    gripper: str = "suction"

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(self.gripper, scene.GRIPPERS, "gripper")
        flag(self.sparse, "sparse")
        self._whole("control_hz", 5, 50)
        if self.control_hz not in (5, 10, 20, 25, 50):
            raise SuiteError(f"control_hz is {self.control_hz!r}: expected 5, 10, 20, 25 or 50")


class Tabletop(TaskDistribution):
    """Tabletop tasks called `name`: train tasks move the blue block, test tasks the red one; `hover` has other places.

    options: those of `TabletopOptions`. Raises SuiteError naming a wrong one.
    """

    family = "tabletop"
    options_type = TabletopOptions
    task_options = ("distractors", "sparse")
    reward_input_names = rewards.INPUT_NAMES
    reward_words = rewards.WORDS
    reward_values = rewards.VALUES
    object_input_names = tuple(name for name in rewards.INPUT_NAMES if name[:4] != "hand" and name[-8:-7] in "xy")

    def __init__(self, name: str, **options: Any) -> None:
        self.name, given = name, TabletopOptions(**options)
        self._reward_name = choose(name.partition("/")[2], rewards.NAMES, "tabletop task")
        self.max_episode_steps = given.steps_or(_STEPS[self._reward_name] * given.control_hz // 10)
        self._sparse, self.distractors = given.sparse, given.distractors
        self._views = given.views_among(scene.CAMERAS, default=("fit",))
        self.shows_distractors = bool(self._views.cameras)
        self._gripper = given.gripper
        self.options = {
            "image_size": given.image_size,
            "cameras": self._views.cameras,
            "control_hz": given.control_hz,
            "antialias": given.antialias,
        }
        if given.gripper != "suction":
            self.options["gripper"] = given.gripper  # suction goes unsaid, as in old fingerprints
        self.observation_space, self.action_space = self._views.spaces(PROPRIO_SIZE, ACTION_SIZE)

    def physics(self) -> dict[str, Any]:
        return {
            "scene": SCENE_VERSION,
            **{key: self.options[key] for key in ("control_hz", "gripper") if key in self.options},
        }

    def home(self, task: Task) -> tuple[str, dict[str, Any]]:
        return f"tabletop/{task.reward.name}", self.physics()

    def tasks(self, split: str) -> tuple[Task, ...]:
        fixed, variations = {"sparse": self._sparse}, _hovers(split)
        if self._reward_name != "hover":
            fixed["colour"], variations = _COLOUR[split], _variations(self._reward_name)
        return tuple(Task(self.family, Reward(self._reward_name, Parameters(fixed, **values))) for values in variations)

    def describe(self, task: Task) -> str:
        done, sparse = super().describe(task), task.reward.parameters["sparse"]
        return f"1 while {done}" + (", else 0" if sparse else "; below that the closer, the more")

    def make(self, task: Task) -> TabletopEnv:
        return TabletopEnv(
            self.check(task),
            self._views,
            control_hz=self.options["control_hz"],
            episode_steps=self.max_episode_steps,
            gripper=self._gripper,
        )

    def reward(self, task: Task, inputs, action):
        return rewards.evaluate(self.check(task), inputs)[0]

    def success(self, task: Task, inputs):
        return rewards.success(self.check(task), inputs)

    def scripted(self, task: Task) -> Script | PickScript:
        name, control_hz = self.check(task).reward.name, self.options["control_hz"]
        if name in PICK_TASKS or (self._gripper == "fingers" and name not in ("reach", "hover")):
            return PickScript(task, control_hz, self._gripper)
        return Script(task, control_hz)
