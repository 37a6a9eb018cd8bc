"""Rewards of the Meta-World tasks: Meta-World's two versions, success, and changed ones of our own.

Inputs (..., 35), see INPUT_NAMES. Meta-World's rewards need contacts and the history of an episode, so the
simulator computes them and puts them among the inputs; they hold for the task that was simulated, and asking
for another one is refused. Our own rewards are functions of places and hold for any task and imagined inputs.
"""

from __future__ import annotations

import numpy as np

from task_suites.errors import SuiteError
from task_suites.metaworld import layouts
from task_suites.tabletop.rewards import backend, root
from task_suites.task import Task
from task_suites.values import Number

_QUATERNION = ("i", "j", "k", "w")
STATE_NAMES = (
    *(f"hand_{axis}_metres" for axis in "xyz"),
    "gripper_opening",
    *(f"object_{axis}_metres" for axis in "xyz"),
    *(f"object_quaternion_{part}" for part in _QUATERNION),
    *(f"second_object_{axis}_metres" for axis in "xyz"),
    *(f"second_object_quaternion_{part}" for part in _QUATERNION),
)
INPUT_NAMES = (
    *STATE_NAMES,
    *(f"goal_{axis}_metres" for axis in "xyz"),
    *(f"fingertips_{axis}_metres" for axis in "xyz"),
    "metaworld_reward",
    "metaworld_success",
    "metaworld_success_so_far",
    "simulated_version",
    "simulated_scene",
    *(f"simulated_{name}" for name in layouts.NUMBER_NAMES),
)
_AT = {name: index for index, name in enumerate(INPUT_NAMES)}
_SIMULATED = _AT["simulated_version"]
SIMULATED = ("v2", "v1", "success")
OWN = ("reach_object", "reach_goal", "reach_point", "object_to_goal")
NAMES = (*SIMULATED, *OWN)
WORDS = {
    "v2": "Meta-World's second reward, 0 to 10",
    "v1": "Meta-World's first reward, unscaled",
    "success": "1 while it is solved by Meta-World's count, else 0",
    "reach_object": "1 with the fingertips within 5 cm of the object, the farther the less",
    "reach_goal": "1 with the fingertips within 5 cm of the goal, the farther the less",
    "reach_point": "1 with the fingertips within 5 cm of x {point_x_metres:+.2f} m, "
    "y {point_y_metres:+.2f} m, z {point_z_metres:+.2f} m, the farther the less",
    "object_to_goal": "1 with the object within 5 cm of the goal, the farther the less",
}
NEAR_METRES = 0.05  # Meta-World's own radius of success
SCALE_METRES = 0.10
POINT_NAMES = tuple(f"point_{axis}_metres" for axis in "xyz")
_HAND_SPACE = (Number(-0.5, 0.5), Number(0.4, 1.0), Number(0.0, 0.5))
VALUES = {  # what a task may say of each reward
    name: dict(zip(POINT_NAMES, _HAND_SPACE, strict=True)) if name == "reach_point" else {} for name in NAMES
}


def version_of(task: Task) -> str:
    """Return which of Meta-World's rewards the simulator computes for `task`: "v1" or "v2"."""
    return "v1" if task.reward.name == "v1" else "v2"


def identity_of(task: Task) -> np.ndarray:
    """Return the float32 entries (8,) of the inputs that say which task was simulated."""
    values = layouts.numbers(task.parameters)
    identity = np.zeros(2 + len(layouts.NUMBER_NAMES), np.float32)
    identity[0] = 1 if version_of(task) == "v1" else 2
    identity[1] = layouts.SCENES.index(task.parameters["scene"])
    identity[2 : 2 + len(values)] = values
    return identity


def _place(inputs, what: str):
    start = _AT[f"{what}_x_metres"]
    return inputs[..., start : start + 3]


def _distance(task: Task, inputs):
    """Return the distance (...) in metres that our own reward of `task` makes small."""
    name = task.reward.name
    start = _place(inputs, "object" if name == "object_to_goal" else "fingertips")
    if name == "reach_point":
        point = [task.reward.parameters[axis] for axis in POINT_NAMES]
        squares = [(start[..., axis] - value) ** 2 for axis, value in enumerate(point)]
        return root(sum(squares))
    end = _place(inputs, "object" if name == "reach_object" else "goal")
    return root(((start - end) ** 2).sum(-1))


def recomputes(task: Task, played: Task | None) -> bool:
    """Return whether `reward` of `task` holds for inputs of episodes of `played` (None: of any task)."""
    if task.reward.name not in SIMULATED:
        return True
    if played is None or played.reward.name not in NAMES:  # whose version nobody knows
        return False
    return np.array_equal(identity_of(task), identity_of(played))


def _simulated(task: Task, inputs):
    identity = identity_of(task)
    given = inputs[..., _SIMULATED:]
    if any(bool((abs(given[..., at] - float(value)) > 1e-6).any()) for at, value in enumerate(identity)):
        raise SuiteError(
            f"reward {task.reward.name!r} is computed by the simulator: these reward_inputs come from "
            f"another task or version; {', '.join(OWN)} can be computed for any"
        )
    return inputs


def success(task: Task, inputs):
    """Return booleans (...): Meta-World's count (solved at any step so far) or, for our rewards, now."""
    if task.reward.name in SIMULATED:
        return _simulated(task, inputs)[..., _AT["metaworld_success_so_far"]] > 0.5
    return _distance(task, inputs) < NEAR_METRES


def reward(task: Task, inputs):
    """Return the reward (...). v2: 0 to 10; v1: unscaled; success: 0 or 1; our own: in [0, 1]."""
    name = task.reward.name
    if name == "success":
        return _simulated(task, inputs)[..., _AT["metaworld_success"]]
    if name in SIMULATED:
        return _simulated(task, inputs)[..., _AT["metaworld_reward"]]
    distance = _distance(task, inputs)
    return backend(distance).exp((NEAR_METRES - distance).clip(None, 0.0) / SCALE_METRES)


class Reacher:
    """Scripted policy of our reaching rewards: the fingertips go straight to the place."""

    def __init__(self, task: Task, action_repeat: int) -> None:
        self._task, self._metres = task, 0.01 * action_repeat

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used."""

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (4,) for `reward_inputs`."""
        inputs = np.asarray(reward_inputs, np.float64)
        name = self._task.reward.name
        if name == "reach_point":
            place = np.array([self._task.reward.parameters[axis] for axis in POINT_NAMES])
        else:
            place = _place(inputs, "object" if name == "reach_object" else "goal")
        move = (place - _place(inputs, "fingertips")) / self._metres
        return np.array([*move.clip(-1, 1), -1.0], np.float32)
