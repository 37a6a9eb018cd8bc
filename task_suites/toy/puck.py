"""A puck that is to be pushed to a place which no observation shows: the smallest task that takes contact."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np

from task_suites.errors import choose
from task_suites.task import Reward, Task
from task_suites.toy.blob import blobs
from task_suites.toy.planar import SHOWN, PlanarTasks, distance, goal_at, goal_of, numbers_of
from task_suites.values import Number

STEP_METRES = 0.2  # of the pusher along each axis with a full action
TOUCH_METRES = 0.3  # between the centres of pusher and puck where they touch
TRAY_METRES = 0.7  # the puck's centre stays this near to the middle along each axis, so that one can get behind it
RADIUS_METRES, INSIDE_METRES = 0.6, 0.2  # of the arc of places; of what counts as there: the puck covers the place
GAP_COST = 0.25  # of a metre between pusher and puck, where a metre between puck and place costs 1
STEP_PARTS = 4  # so short that the pusher does not jump over the puck
_ANGLES = 60  # on the arc from 30 to 150 degrees
# The script: where it is behind, its way round, its fastest push, how far it keeps off, how it centres.
_BEHIND_METRES, _ROUND_METRES, _FAST_METRES, _OFF_METRES, _CENTRING = 0.2, 0.45, 0.3, 0.1, 2.0
_COLOURS, _WIDTH = ((220.0, 80.0, 20.0), (20.0, 110.0, 220.0)), 0.22  # pusher, puck


class Behind:
    """Goes behind the puck, as seen from the place, and pushes it there."""

    def __init__(self, goal: tuple[float, float]) -> None:
        self._goal = np.array(goal)

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used."""

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (2,) for the state (4,)."""
        pusher, puck = np.asarray(reward_inputs, np.float64).reshape(2, 2)
        left = self._goal - puck
        far = np.sqrt(left @ left + 1e-12)
        ahead = left / far
        along = (pusher - puck) @ ahead
        aside = pusher - puck - along * ahead
        across = np.sqrt(aside @ aside + 1e-12)
        gap = -along - TOUCH_METRES
        if along > -_BEHIND_METRES:  # beside or before the puck: round it
            side = aside / across if across > 1e-5 else np.array([-ahead[1], ahead[0]])
            move = (_ROUND_METRES - across) * side - ahead * (across > TOUCH_METRES)
        elif across < _BEHIND_METRES:
            move = min(far + gap, _FAST_METRES) * ahead - _CENTRING * aside
        else:  # behind it, and so far aside that a push would turn it: keep off
            move = min(gap - _OFF_METRES, 0.0) * ahead - _CENTRING * aside
        return (move / STEP_METRES).clip(-1.0, 1.0).astype(np.float32)


class Puck(PlanarTasks):
    """Places 0.6 m from the middle that only the reward tells of: 50 to train on, 10 others among them.

    The state (4,) is x, y of a pusher in the box [-1, 1] x [-1, 1] m and x, y of a puck in a tray; the action moves the
    pusher by up to 0.2 m along each axis. An episode starts with the pusher below the puck.

    A step pays minus the distance from puck to place, and minus a quarter of the gap between pusher and puck. Success:
    the puck is within 0.2 m of the place. episode_steps, image_size: whole numbers. observation: "picture" or
    "state", the positions as numbers. Raises SuiteError naming a wrong option.
    """

    family = "puck"
    reward_input_names = ("pusher_x_metres", "pusher_y_metres", "puck_x_metres", "puck_y_metres")
    object_input_names = reward_input_names
    workspace = MappingProxyType({"puck_x_metres": (-1.0, 1.0), "puck_y_metres": (-1.0, 1.0)})
    reward_words = MappingProxyType(
        {
            "dense": "minus the distance from the puck to the hidden place x {goal_x_metres:+.2f} m, "
            "y {goal_y_metres:+.2f} m, and minus a quarter of the gap between pusher and puck"
        }
    )
    _WITHIN = Number(-TRAY_METRES, TRAY_METRES)
    reward_values = MappingProxyType({"dense": MappingProxyType({"goal_x_metres": _WITHIN, "goal_y_metres": _WITHIN})})

    def __init__(self, name: str, episode_steps: int = 15, image_size: int = 16, observation: str = "picture") -> None:
        shown = SHOWN[choose(observation, ("picture", "state"), "observation")]
        super().__init__(name, episode_steps, image_size, shown, largest=(1.0, 1.0, 1.0, 1.0))
        self.options["observation"] = observation

    def physics(self) -> dict[str, Any]:
        return {
            "step_metres": STEP_METRES,
            "step_parts": STEP_PARTS,
            "touch_metres": TOUCH_METRES,
            "tray_metres": TRAY_METRES,
        }

    def tasks(self, split: str) -> tuple[Task, ...]:
        angles = [np.pi * (1 / 6 + 2 / 3 * (i + 0.5) / _ANGLES) for i in numbers_of(split, _ANGLES)]
        return tuple(Task(self.family, Reward("dense", goal_at(angle, RADIUS_METRES))) for angle in angles)

    def start(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform([-0.3, -0.9, -0.15, -0.25], [0.3, -0.7, 0.15, -0.05])

    def moved(self, state: np.ndarray, action: np.ndarray, dynamics: Any = ()) -> np.ndarray:
        """Return where actions (..., 2) in [-1, 1] lead from states (..., 4).

        Nothing glides: where the pusher would overlap the puck, that is moved out along the line of their centres;
        where it has no room to, both stay.
        """
        pusher, puck = state[..., :2], state[..., 2:]
        for _ in range(STEP_PARTS):
            ahead = (pusher + STEP_METRES / STEP_PARTS * action).clip(-1.0, 1.0)
            away = puck - ahead
            apart = np.sqrt((away**2).sum(-1, keepdims=True))
            overlap = (TOUCH_METRES - apart).clip(0.0)
            pushed = (puck + overlap * away / apart).clip(-TRAY_METRES, TRAY_METRES)
            free = ((pushed - ahead) ** 2).sum(-1, keepdims=True) >= (TOUCH_METRES - 1e-9) ** 2
            pusher, puck = np.where(free, ahead, pusher), np.where(free, pushed, puck)
        return np.concatenate([pusher, puck], -1)

    def picture(self, state: np.ndarray, pixels: int) -> np.ndarray:
        """Return uint8 pictures (..., pixels, pixels, 3) of states (..., 4): both, in two colours."""
        return blobs((state[..., :2], state[..., 2:]), _COLOURS, (_WIDTH, _WIDTH), pixels)

    def reward(self, task: Task, inputs, action):
        gap = ((inputs[..., 0] - inputs[..., 2]) ** 2 + (inputs[..., 1] - inputs[..., 3]) ** 2) ** 0.5 - TOUCH_METRES
        return -(distance(inputs[..., 2:], *self.goal(task)) + GAP_COST * gap)

    def success(self, task: Task, inputs):
        return distance(inputs[..., 2:], *self.goal(task)) < INSIDE_METRES

    def goal(self, task: Task) -> tuple[float, float]:
        return goal_of(self.check(task))

    def scripted(self, task: Task) -> Behind:
        return Behind(self.goal(task))
