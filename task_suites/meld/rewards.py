"""Rewards and success of MELD's tasks, written once for numpy and torch (Zhao et al. 2020, published code).

Reaching (reacher, buttons, peg_insertion), d = 5 |tip - goal| in metres: dense pays c(0.15) - c(d) with
c(d) = d^2 + log10(d^2 + 1e-5); sparse pays 1 more, but only where d < 0.15 (3 cm), else 0. Placing: d is the
mean over the mug's foot and rim of 5 times the distance to their goals; dense pays -c(d), sparse
c(0.3) - c(min(d, 0.3)). Running: -|v - target| - 0.01 |0.8 a|^2; sparse pays the same where
|v - target| < 0.5 m/s, else 0.
"""

from __future__ import annotations

import math

import numpy as np

from task_suites.meld import scenes
from task_suites.tabletop.rewards import backend
from task_suites.task import Task

_JOINTS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
ARM_INPUT_NAMES = (*(f"tip_{axis}_metres" for axis in "xyz"), *(f"joint_{i}_radians" for i in range(7)))
SHELF_INPUT_NAMES = (
    *(f"mug_{point}_{axis}_metres" for point in ("foot", "rim") for axis in "xyz"),
    *ARM_INPUT_NAMES,
    "finger_left_metres",
    "finger_right_metres",
)
CHEETAH_INPUT_NAMES = (
    "forward_metres_per_second",
    "height_metres",
    "pitch_radians",
    *(f"{joint}_radians" for joint in _JOINTS),
    "x_metres_per_second",
    "z_metres_per_second",
    "pitch_radians_per_second",
    *(f"{joint}_radians_per_second" for joint in _JOINTS),
)
REACH_BAND, PLACE_BAND = 0.15, 0.3  # of d: 3 cm and 6 cm
SPEED_BAND = 0.5  # m/s
ACTION_SCALE, ACTION_COST = 0.8, 0.01
WORDS = {
    "reach": "the nearer the tip to the hidden point x {goal_x_metres:+.2f} m, y {goal_y_metres:+.2f} m, "
    "z {goal_z_metres:+.2f} m, the more",
    "press": "the nearer the tip to the {button} button, the more",
    "insert": "the nearer the peg's end to the bottom of the hole in box {box}, the more",
    "place": "the nearer the mug to the hidden place x {goal_x_metres:+.2f} m on the shelf, the more",
    "run": "minus what the speed is off the hidden {target_metres_per_second:.2f} m/s and a little of the "
    "squared action",
}


def wide(array):
    """Return `array` in double precision: single loses digits of squares and logarithms."""
    return array.astype(np.float64) if backend(array) is np else array.double()


def narrow(array):
    """Return `array` in single precision, as rewards are paid."""
    return array.astype(np.float32) if backend(array) is np else array.float()


def cost(square):
    """Return d^2 + log10(d^2 + 1e-5) for d^2 = `square`, numpy or torch."""
    return square + backend(square).log10(square + 1e-5)


def _cost(d: float) -> float:
    return d**2 + math.log10(d**2 + 1e-5)


def goal_of(task: Task) -> tuple[float, float, float]:
    """Return where the tip should be in `task` (reach, press or insert), x y z in metres."""
    values, seen = task.reward.parameters, task.parameters
    if task.reward.name == "reach":
        return values["goal_x_metres"], values["goal_y_metres"], values["goal_z_metres"]
    if task.reward.name == "press":
        return seen["panel_x_metres"], scenes.BUTTON_Y_METRES[values["button"]], scenes.BUTTON_Z_METRES
    return seen[f"box_{values['box']}_x_metres"], seen[f"box_{values['box']}_y_metres"], 0.0


def reaching(task: Task, inputs, action=None):
    """Return (reward, success), both (...), for `inputs` (..., R) that begin with the tip's x y z."""
    tip = wide(inputs[..., 0:3])
    square = 25.0 * sum((tip[..., axis] - goal) ** 2 for axis, goal in enumerate(goal_of(task)))
    dense, done = _cost(REACH_BAND) - cost(square), square < REACH_BAND**2
    return narrow((dense + 1.0) * done if task.reward.parameters["sparse"] else dense), done


def placing(task: Task, inputs, action=None):
    """Return (reward, success), both (...), for `inputs` (..., 18): foot x y z, rim x y z of the mug, ..."""
    goal = (task.reward.parameters["goal_x_metres"], scenes.GOAL_Y_METRES, scenes.GOAL_Z_METRES)
    points, distance = wide(inputs[..., 0:6]), 0.0
    for first, height in ((0, 0.0), (3, scenes.RIM_METRES - scenes.FOOT_METRES)):
        away = [points[..., first + axis] - place for axis, place in enumerate(goal)]
        away[2] = away[2] - height
        # The root of 0 has no finite gradient; this is off by 1e-8.
        distance = distance + 2.5 * (sum(part**2 for part in away) + 1e-16) ** 0.5
    done = distance < PLACE_BAND
    if not task.reward.parameters["sparse"]:
        return narrow(-cost(distance**2)), done
    return narrow(_cost(PLACE_BAND) - cost(distance.clip(None, PLACE_BAND) ** 2)), done


def running(task: Task, inputs, action):
    """Return (reward, success), both (...), for `inputs` (..., 18) that begin with the speed in m/s.

    action (..., 6); None gives no reward, only success.
    """
    error = abs(wide(inputs[..., 0]) - task.reward.parameters["target_metres_per_second"])
    done = error < SPEED_BAND
    if action is None:
        return None, done
    drive = ACTION_SCALE * wide(action).clip(-1.0, 1.0)
    paid = -error - ACTION_COST * (drive * drive).sum(-1)
    return narrow(paid * done if task.reward.parameters["sparse"] else paid), done
