"""A point whose action map is turned by a hidden angle: what adapting to changed dynamics is shown on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding

from task_suites.distribution import TaskDistribution, as_action
from task_suites.errors import SuiteError, choose
from task_suites.rows import LockstepRows, Outcome
from task_suites.task import Parameters, Reward, Task
from task_suites.toy.blob import blob
from task_suites.toy.riccati import riccati
from task_suites.values import Number, flag, whole

STEP_METRES = 0.3  # along an axis with a full action, without inertia
STEP_SECONDS, ACCELERATION, DRAG_PER_SECOND = 0.1, 5.0, 0.5  # with inertia; m/s^2 of a full action
ACTION_COST, SUCCESS_METRES = 0.05, 0.1
_ANGLES, _TEST_EVERY = 120, 6  # on the whole circle; the third of each six is a test task
_LEAST_RADIANS = 0.25  # so that both splits have angles on both sides of zero
_MOVIE_PIXELS = 256
_SHOWN = {"state": ("proprio",), "picture": ("image_top",), "both": ("image_top", "proprio")}


def _start(rng: np.random.Generator, inertia: bool) -> np.ndarray:
    """Return the state (2,) or, at rest, (4,) that an episode starts in: anywhere in the box."""
    return np.concatenate([rng.uniform(-1.0, 1.0, 2), np.zeros(2 if inertia else 0)])


def _turned(action: np.ndarray, cosine, sine) -> np.ndarray:
    """Return actions (..., 2) turned to the left by angles of this cosine and sine, numbers or (...)."""
    x, y = action[..., 0], action[..., 1]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], -1)


def _moved(state: np.ndarray, push: np.ndarray) -> np.ndarray:
    """Return where turned actions `push` (..., 2) lead from states (..., 2), with inertia (..., 4)."""
    if state.shape[-1] == 2:
        return (state + STEP_METRES * push).clip(-1.0, 1.0)
    velocity = (1 - DRAG_PER_SECOND * STEP_SECONDS) * state[..., 2:] + STEP_SECONDS * ACCELERATION * push
    reached = state[..., :2] + STEP_SECONDS * velocity
    position = reached.clip(-1.0, 1.0)
    return np.concatenate([position, np.where(position == reached, velocity, 0.0)], -1)


def _axis(inertia: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return (a (n, n), b (n, 1)) of one axis of `_moved` away from the walls: place, with inertia and speed."""
    if not inertia:
        return np.eye(1), np.array([[STEP_METRES]])
    kept, gained = 1 - DRAG_PER_SECOND * STEP_SECONDS, STEP_SECONDS * ACCELERATION
    return np.array([[1, STEP_SECONDS * kept], [0, kept]]), np.array([[STEP_SECONDS * gained], [gained]])


class RotatedActuatorsEnv(gymnasium.Env):
    """A point in the box [-1, 1] x [-1, 1] m; the action (2,) in [-1, 1] is turned by an angle, then moves it.

    Equations of motion: see `RotatedActuators`. `proprio` float32: position (2,), with inertia and velocity (4,),
    which are reward_inputs as well; `image_top` uint8 (size, size, 3): the point alone; which of them, is an
    option. An episode starts at rest anywhere in the box and ends by the time limit.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, suite: RotatedActuators, task: Task) -> None:
        self._suite, self.task = suite, task
        self.observation_space, self.action_space = suite.observation_space, suite.action_space
        self.render_mode = None
        self._cosine, self._sine = suite.direction(task)
        self._state, self._count = np.zeros(len(suite.reward_input_names)), None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start at rest, uniformly in the box."""
        super().reset(seed=seed)
        self._state, self._count = _start(self.np_random, self._suite.inertia), 0
        return self._suite.observe(self._state), self._info()

    def step(self, action: np.ndarray):
        """Move; actions beyond [-1, 1] are clipped, then turned. Raises SuiteError before `reset`."""
        if self._count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        action = as_action(action, 2)
        self._state = _moved(self._state, _turned(action, self._cosine, self._sine))
        self._count += 1
        info = self._info()
        # As a row of one: numpy 1 computes single numbers with more digits than arrays.
        reward = float(self._suite.reward(self.task, info["reward_inputs"][None], action[None])[0])
        truncated = self._count >= self._suite.max_episode_steps
        return self._suite.observe(self._state), reward, False, truncated, info

    def _info(self) -> dict[str, Any]:
        inputs = self._state.astype(np.float32)
        success = bool(self._suite.success(self.task, inputs[None])[0])
        return {"success": success, "task": self.task, "reward_inputs": inputs}

    def render(self) -> np.ndarray:
        """Return a picture (256, 256, 3) of the point."""
        return blob(self._state[:2], _MOVIE_PIXELS)


class RotatedActuatorsRows(LockstepRows):
    """N points at once, bit for bit as N environments."""

    def __init__(self, suite: RotatedActuators, tasks: Sequence[Task]) -> None:
        super().__init__(len(tasks), 2, RotatedActuatorsEnv.metadata["render_fps"])
        self._suite, self._tasks = suite, list(tasks)
        self._directions = np.array([suite.direction(task) for task in tasks])
        self._state = np.zeros((len(tasks), len(suite.reward_input_names)))
        self._count = np.zeros(len(tasks), np.int64)

    def _begin(self, seeds: list[int]) -> Outcome:
        starts = [_start(seeding.np_random(seed)[0], self._suite.inertia) for seed in seeds]
        self._state, self._count = np.stack(starts), np.zeros(len(self), np.int64)
        start = self._outcome(np.arange(len(self)), np.zeros((len(self), 2)))
        return start._replace(reward=np.zeros(len(self)))

    def _advance(self, actions: np.ndarray, rows: np.ndarray) -> Outcome:
        self._state[rows] = _moved(self._state[rows], _turned(actions, *self._directions[rows].T))
        self._count[rows] += 1
        return self._outcome(rows, actions)

    def _outcome(self, rows: np.ndarray, actions: np.ndarray) -> Outcome:
        state, suite, any_task = self._state[rows], self._suite, self._tasks[0]
        inputs = state.astype(np.float32)
        return Outcome(
            observation=suite.observe(state),
            inputs=inputs,
            success=suite.success(any_task, inputs),
            reward=suite.reward(any_task, inputs, actions),
            terminated=np.zeros(len(rows), np.bool_),
            truncated=self._count[rows] >= suite.max_episode_steps,
        )

    def render(self, row: int) -> np.ndarray:
        """Return a picture (256, 256, 3) of the point of one row."""
        return blob(self._state[row, :2], _MOVIE_PIXELS)


class Steady:
    """The finite-horizon optimum by Riccati, which knows the angle and undoes it; counts its steps from `reset`.

    Turned back by the angle, both axes are alike and independent, and the optimal action of each is the linear one,
    clipped. That is exact without inertia: where the linear action is beyond the box, the bound is optimal, as the
    cost to go is convex and steeper than the quadratic one; where it is inside, it stays inside. With inertia
    there is no such proof, but bounded least squares over whole episodes finds nothing better.
    """

    def __init__(self, gains: np.ndarray, direction: tuple[float, float]) -> None:
        self._gains, (self._cosine, self._sine) = gains, direction
        self._count = 0

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used."""
        self._count = 0

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (2,) for the state (2,) or (4,)."""
        gain = self._gains[min(self._count, len(self._gains) - 1)]
        self._count += 1
        push = -gain[0] @ np.asarray(reward_inputs, np.float64).reshape(-1, 2)
        return _turned(push, self._cosine, -self._sine).clip(-1.0, 1.0).astype(np.float32)


class RotatedActuators(TaskDistribution):
    """Actions turned by a hidden angle, the task's dynamics: 100 angles to train on, 20 others among them.

    With R the rotation by the angle and a the action (2,), clipped to [-1, 1] along each axis, a step moves the
    position p (metres) in the box [-1, 1] x [-1, 1] to p' = clip(p + 0.3 R a). With `inertia`, it changes the
    velocity v (m/s): v' = 0.95 v + 0.5 R a, p' = clip(p + 0.1 v'), and v' is 0 along an axis whose wall is hit.
    A step pays -|p'|^2 - 0.05 |a|^2; an episode starts at rest, p uniform in the box. Success: |p'| < 0.1 m.

    largest_radians: 0.25 to pi; only angles from minus this to this (of 120, 3 degrees apart). episode_steps,
    image_size: whole numbers. observation: "state" (`proprio`, which is reward_inputs), "picture" (`image_top`) or
    "both". Raises SuiteError naming a wrong option.
    """

    family = "rotated_actuators"
    task_options = ("distractors", "largest_radians")
    reward_words = MappingProxyType(
        {"quadratic": "minus the squared distance to the middle and 0.05 of the squared action"}
    )
    reward_values = MappingProxyType({"quadratic": {}})
    dynamics_values = MappingProxyType({"angle_radians": Number(-math.pi, math.pi)})

    def __init__(
        self,
        name: str,
        inertia: bool = False,
        largest_radians: float = math.pi,
        episode_steps: int = 20,
        image_size: int = 16,
        observation: str = "state",
    ) -> None:
        self.name, self.max_episode_steps = name, whole(episode_steps, "episode_steps", 1)
        self.inertia = flag(inertia, "inertia")
        self._largest = Number(_LEAST_RADIANS, math.pi).read(largest_radians, "largest_radians")
        size = whole(image_size, "image_size", 1, 1024)
        self._shown = _SHOWN[choose(observation, _SHOWN, "observation")]
        self.options = {"image_size": size, "observation": observation}
        self.reward_input_names = ("x_metres", "y_metres")
        if inertia:
            self.reward_input_names += ("x_metres_per_second", "y_metres_per_second")
        largest = np.array([1.0, 1.0, np.inf, np.inf], np.float32)[: len(self.reward_input_names)]
        spaces = {
            "image_top": gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8),
            "proprio": gymnasium.spaces.Box(-largest, largest, dtype=np.float32),
        }
        self.observation_space = gymnasium.spaces.Dict({key: spaces[key] for key in self._shown})
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def physics(self) -> dict[str, Any]:
        if not self.inertia:
            return {"step_metres": STEP_METRES}
        return {
            "step_seconds": STEP_SECONDS,
            "metres_per_second_squared": ACCELERATION,
            "drag_per_second": DRAG_PER_SECOND,
        }

    def tasks(self, split: str) -> tuple[Task, ...]:
        tested = choose(split, ("train", "test"), "split") == "test"
        chosen = [i for i in range(_ANGLES) if (i % _TEST_EVERY == 2) == tested]
        angles = [round(math.pi * (2 * (i + 0.5) / _ANGLES - 1), 4) for i in chosen]
        reward = Reward("quadratic")
        return tuple(
            Task(self.family, reward, dynamics=Parameters(angle_radians=angle))
            for angle in angles
            if abs(angle) <= self._largest
        )

    def sample(self, split: str, count: int, seed: int) -> tuple[Task, ...]:
        """Return `count` different tasks of `split` whose angles are evenly spread; `seed` says where they begin.

        Raises SuiteError as `TaskDistribution.sample` does.
        """
        first, tasks = super().sample(split, count, seed)[0], self.tasks(split)
        begin = tasks.index(first)
        return tuple(tasks[(begin + k * len(tasks) // count) % len(tasks)] for k in range(count))

    def make(self, task: Task) -> RotatedActuatorsEnv:
        return RotatedActuatorsEnv(self, self.check(task))

    def make_vector(self, tasks: Sequence[Task]) -> RotatedActuatorsRows:
        return RotatedActuatorsRows(self, tasks)

    def direction(self, task: Task) -> tuple[float, float]:
        """Return (cosine, sine) of the angle of `task`."""
        angle = self.check(task).dynamics["angle_radians"]
        return math.cos(angle), math.sin(angle)

    def observe(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """Return the observation (...) of states (..., 2) or (..., 4); the angle has no part in it."""
        shown = {}
        if "image_top" in self._shown:
            shown["image_top"] = blob(state[..., :2], self.options["image_size"])
        if "proprio" in self._shown:
            shown["proprio"] = state.astype(np.float32)
        return shown

    def reward(self, task: Task, inputs, action):
        self.check(task)
        push = action.clip(-1.0, 1.0) ** 2
        away = inputs[..., 0] ** 2 + inputs[..., 1] ** 2
        return -(away + ACTION_COST * (push[..., 0] + push[..., 1]))

    def success(self, task: Task, inputs):
        self.check(task)
        return inputs[..., 0] ** 2 + inputs[..., 1] ** 2 < SUCCESS_METRES**2

    def scripted(self, task: Task) -> Steady:
        a, b = _axis(self.inertia)
        cost = np.zeros_like(a)
        cost[0, 0] = 1.0  # on the place alone
        gains, _ = riccati(a, b, cost, np.array([[ACTION_COST]]), self.max_episode_steps)
        return Steady(gains, self.direction(task))
