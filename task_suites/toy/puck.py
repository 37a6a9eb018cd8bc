"""A puck that is to be pushed to a place which no observation shows: the smallest task that takes contact."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np

from task_suites.distribution import TaskDistribution, as_action
from task_suites.errors import SuiteError, choose
from task_suites.task import Parameters, Reward, Task
from task_suites.toy.blob import blobs
from task_suites.values import Number, whole

STEP_METRES = 0.2  # of the pusher along each axis with a full action
TOUCH_METRES = 0.3  # between the centres of pusher and puck where they touch
TRAY_METRES = 0.7  # the puck's centre stays this near to the middle along each axis, so that one can get behind it
RADIUS_METRES, INSIDE_METRES = 0.6, 0.2  # of the arc of places; of what counts as there: the puck covers the place
GAP_COST = 0.25  # of a metre between pusher and puck, where a metre between puck and place costs 1
STEP_PARTS = 4  # so short that the pusher does not jump over the puck
_ANGLES, _TEST_EVERY = 60, 6  # on the arc from 30 to 150 degrees; the third of each six is a test task
_MOVIE_PIXELS = 256
# The script: where it is behind, its way round, its fastest push, how far it keeps off, how it centres.
_BEHIND_METRES, _ROUND_METRES, _FAST_METRES, _OFF_METRES, _CENTRING = 0.2, 0.45, 0.3, 0.1, 2.0
_COLOURS, _WIDTH = ((220.0, 80.0, 20.0), (20.0, 110.0, 220.0)), 0.22  # pusher, puck


def _start(rng: np.random.Generator) -> np.ndarray:
    """Return the state (4,) where an episode starts: the pusher below the puck."""
    return rng.uniform([-0.3, -0.9, -0.15, -0.25], [0.3, -0.7, 0.15, -0.05])


def _moved(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return where actions (..., 2) in [-1, 1] lead from states (..., 4): x, y of the pusher, x, y of the puck.

    Nothing glides: where the pusher would overlap the puck, that is moved out along the line of their centres; where
    it has no room to, both stay.
    """
    pusher, puck = state[..., :2], state[..., 2:]
    for _ in range(STEP_PARTS):
        ahead = (pusher + STEP_METRES / STEP_PARTS * action).clip(-1.0, 1.0)
        away = puck - ahead
        distance = np.sqrt((away**2).sum(-1, keepdims=True))
        overlap = (TOUCH_METRES - distance).clip(0.0)
        pushed = (puck + overlap * away / distance).clip(-TRAY_METRES, TRAY_METRES)
        free = ((pushed - ahead) ** 2).sum(-1, keepdims=True) >= (TOUCH_METRES - 1e-9) ** 2
        pusher, puck = np.where(free, ahead, pusher), np.where(free, pushed, puck)
    return np.concatenate([pusher, puck], -1)


def _distance(inputs, goal_x, goal_y):
    """Return the distance (...) from puck to place in metres; its gradient is finite there, too."""
    return ((inputs[..., 2] - goal_x) ** 2 + (inputs[..., 3] - goal_y) ** 2 + 1e-12) ** 0.5


class PuckEnv(gymnasium.Env):
    """A pusher in the box [-1, 1] x [-1, 1] m and a puck in a tray; the action (2,) moves the pusher.

    `image_top` uint8 (size, size, 3): both, in two colours; or `proprio` float32 (4,): x, y of the pusher, x, y of the
    puck, which is reward_inputs as well. An episode ends by the time limit.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, suite: Puck, task: Task) -> None:
        self._suite, self.task = suite, task
        self.observation_space, self.action_space = suite.observation_space, suite.action_space
        self.render_mode = None
        self._state, self._count = np.zeros(4), None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start with the pusher below the puck."""
        super().reset(seed=seed)
        self._state, self._count = _start(self.np_random), 0
        return self._suite.observe(self._state), self._info()

    def step(self, action: np.ndarray):
        """Move; actions beyond [-1, 1] are clipped. Raises SuiteError before `reset`."""
        if self._count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        self._state = _moved(self._state, as_action(action, 2))
        self._count += 1
        info = self._info()
        # As a row of one: numpy 1 computes single numbers with more digits than arrays.
        reward = float(self._suite.reward(self.task, info["reward_inputs"][None], action)[0])
        truncated = self._count >= self._suite.max_episode_steps
        return self._suite.observe(self._state), reward, False, truncated, info

    def _info(self) -> dict[str, Any]:
        inputs = self._state.astype(np.float32)
        success = bool(self._suite.success(self.task, inputs[None])[0])
        return {"success": success, "task": self.task, "reward_inputs": inputs}

    def render(self) -> np.ndarray:
        """Return a picture (256, 256, 3) of pusher and puck."""
        return _picture(self._state, _MOVIE_PIXELS)


def _picture(state: np.ndarray, pixels: int) -> np.ndarray:
    """Return uint8 pictures (..., pixels, pixels, 3) of states (..., 4)."""
    return blobs((state[..., :2], state[..., 2:]), _COLOURS, (_WIDTH, _WIDTH), pixels)


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


class Puck(TaskDistribution):
    """Places 0.6 m from the middle that only the reward tells of: 50 to train on, 10 others among them.

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
        self.name, self.max_episode_steps = name, whole(episode_steps, "episode_steps", 1)
        size = whole(image_size, "image_size", 1, 1024)
        self._pictures = choose(observation, ("picture", "state"), "observation") == "picture"
        self.options = {"image_size": size, "observation": observation}
        box = gymnasium.spaces.Box
        shown = {"proprio": box(-1.0, 1.0, (4,), np.float32)}
        if self._pictures:
            shown = {"image_top": box(0, 255, (size, size, 3), np.uint8)}
        self.observation_space = gymnasium.spaces.Dict(shown)
        self.action_space = box(-1.0, 1.0, (2,), np.float32)

    def physics(self) -> dict[str, Any]:
        return {
            "step_metres": STEP_METRES,
            "step_parts": STEP_PARTS,
            "touch_metres": TOUCH_METRES,
            "tray_metres": TRAY_METRES,
        }

    def tasks(self, split: str) -> tuple[Task, ...]:
        tested = choose(split, ("train", "test"), "split") == "test"
        chosen = [i for i in range(_ANGLES) if (i % _TEST_EVERY == 2) == tested]
        angles = [np.pi * (1 / 6 + 2 / 3 * (i + 0.5) / _ANGLES) for i in chosen]
        places = [(RADIUS_METRES * np.cos(angle), RADIUS_METRES * np.sin(angle)) for angle in angles]
        return tuple(
            Task(
                self.family,
                Reward("dense", Parameters(goal_x_metres=round(float(x), 4), goal_y_metres=round(float(y), 4))),
            )
            for x, y in places
        )

    def make(self, task: Task) -> PuckEnv:
        return PuckEnv(self, self.check(task))

    def observe(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """Return the observation (...) of states (..., 4); the place has no part in it."""
        if self._pictures:
            return {"image_top": _picture(state, self.options["image_size"])}
        return {"proprio": state.astype(np.float32)}

    def reward(self, task: Task, inputs, action):
        gap = ((inputs[..., 0] - inputs[..., 2]) ** 2 + (inputs[..., 1] - inputs[..., 3]) ** 2) ** 0.5 - TOUCH_METRES
        return -(_distance(inputs, *self.goal(task)) + GAP_COST * gap)

    def success(self, task: Task, inputs):
        return _distance(inputs, *self.goal(task)) < INSIDE_METRES

    def goal(self, task: Task) -> tuple[float, float]:
        values = self.check(task).reward.parameters
        return values["goal_x_metres"], values["goal_y_metres"]

    def scripted(self, task: Task) -> Behind:
        return Behind(self.goal(task))
