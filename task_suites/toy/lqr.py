"""A linear-quadratic task whose optimal policy and return are known in closed form."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
import scipy.linalg

from task_suites.distribution import TaskDistribution, as_action
from task_suites.errors import SuiteError
from task_suites.task import Parameters, Reward, Task
from task_suites.toy.blob import blob
from task_suites.toy.riccati import riccati
from task_suites.values import Number, flag, whole

STEP_SECONDS = 0.2
STATE_COST = np.array([1.0, 1.0, 0.1, 0.1])  # per step, on (position - goal) in m^2 and velocity in (m/s)^2
ACTION_COST = np.array([1.0, 1.0])
_START_METRES, _SUCCESS_METRES = 0.6, 0.05
_GOALS = tuple((round(0.15 * i, 3), round(0.15 * j, 3)) for i in range(-2, 3) for j in range(-2, 3))
_MOVIE_PIXELS = 256


@dataclass(frozen=True)
class Solution:
    """The optimum over `T` steps: action[t] = -gains[t] @ (state - goal); the return is -(x^T costs[0] x).

    gains: (T, 2, 4); costs: (T + 1, 4, 4), costs[t] is the cost to go of x = state - goal before action[t].
    stationary_gain: (2, 4), the limit for an endless episode.
    """

    gains: np.ndarray
    costs: np.ndarray
    stationary_gain: np.ndarray


def matrices(drag_per_second: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (A, B) of state' = A state + B action for state = (x, y, vx, vy) in metres and m/s."""
    eye, zero = np.eye(2), np.zeros((2, 2))
    decay = 1.0 - drag_per_second * STEP_SECONDS
    return np.block([[eye, STEP_SECONDS * eye], [zero, decay * eye]]), np.vstack([zero, STEP_SECONDS * eye])


@functools.cache
def solve(drag_per_second: float, steps: int) -> Solution:
    """Return the optimum by the finite-horizon Riccati recursion; costs count the state AFTER each action."""
    a, b = matrices(drag_per_second)
    q, r = np.diag(STATE_COST), np.diag(ACTION_COST)
    gains, costs = riccati(a, b, q, r, steps)
    ahead = scipy.linalg.solve_discrete_are(a, b, q, r)  # counts the state before the action: P = Q + cost to go
    stationary = np.linalg.solve(r + b.T @ ahead @ b, b.T @ ahead @ a)
    return Solution(gains, costs, stationary)


class LqrEnv(gymnasium.Env):
    """A point mass in the plane, pushed by the action (2,) in m/s^2; the goal shows in no observation.

    `image_top` uint8 (size, size, 3): a blob at the position. `proprio` float32: position and velocity (4,),
    or velocity only (2,) with `hide_position`. reward_inputs float32 (4,): x, y, vx, vy.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, suite: Lqr, task: Task) -> None:
        self._suite, self.task = suite, task
        self.observation_space, self.action_space = suite.observation_space, suite.action_space
        self.render_mode = None
        self._a, self._b = matrices(task.dynamics["drag_per_second"])
        self._state, self._count = np.zeros(4), None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start at rest, uniformly within 0.6 m of the middle along each axis."""
        super().reset(seed=seed)
        self._state = np.concatenate([self.np_random.uniform(-_START_METRES, _START_METRES, 2), np.zeros(2)])
        self._count = 0
        return self._observation(), self._info()

    def step(self, action: np.ndarray):
        """Push once; actions beyond [-1, 1] are clipped. Raises SuiteError before `reset`."""
        if self._count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        action = as_action(action, 2)
        self._state = self._a @ self._state + self._b @ action
        self._count += 1
        info = self._info()
        reward = float(self._suite.reward(self.task, info["reward_inputs"], action))
        return self._observation(), reward, False, self._count >= self._suite.max_episode_steps, info

    def _info(self) -> dict[str, Any]:
        inputs = self._state.astype(np.float32)
        return {
            "success": bool(self._suite.success(self.task, inputs)),
            "task": self.task,
            "reward_inputs": inputs,
        }

    def _observation(self) -> dict[str, np.ndarray]:
        seen = self._state[2:] if self._suite.options["hide_position"] else self._state
        picture = blob(self._state[:2], self._suite.options["image_size"])
        return {"image_top": picture, "proprio": seen.astype(np.float32)}

    def render(self) -> np.ndarray:
        """Return a picture (256, 256, 3) of the present state."""
        return blob(self._state[:2], _MOVIE_PIXELS)


class Optimal:
    """The finite-horizon optimal policy; counts its own steps from `reset`."""

    def __init__(self, solution: Solution, goal: np.ndarray) -> None:
        self._solution, self._goal = solution, goal
        self._count = 0

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used."""
        self._count = 0

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (2,) for the state (4,)."""
        gain = self._solution.gains[min(self._count, len(self._solution.gains) - 1)]
        self._count += 1
        return (-gain @ (np.asarray(reward_inputs, np.float64) - self._goal)).astype(np.float32)


class Lqr(TaskDistribution):
    """Linear-quadratic tasks with a hidden goal: 13 goals for training, 12 others for testing.

    The optimum never leaves the action box, so `solution` holds exactly. episode_steps, image_size: whole
    numbers. hide_position: position in the picture only. Raises SuiteError naming a wrong option.
    """

    family = "lqr"
    reward_input_names = ("x_metres", "y_metres", "x_metres_per_second", "y_metres_per_second")
    reward_words = MappingProxyType(
        {
            "quadratic": "minus the squared distance to the hidden goal x {goal_x_metres:+.2f} m, "
            "y {goal_y_metres:+.2f} m, a tenth of the squared speed and the squared action"
        }
    )
    # Within these the optimum stays in the action box.
    _GOAL = Number(-0.3, 0.3)
    reward_values = MappingProxyType({"quadratic": {"goal_x_metres": _GOAL, "goal_y_metres": _GOAL}})
    dynamics_values = MappingProxyType({"drag_per_second": Number(0.0, 5.0)})

    def __init__(self, name: str, episode_steps: int = 25, image_size: int = 16, hide_position: bool = False) -> None:
        self.name, self.max_episode_steps = name, whole(episode_steps, "episode_steps", 1)
        image_size = whole(image_size, "image_size", 1, 1024)
        hide_position = flag(hide_position, "hide_position")
        self.options = {"image_size": image_size, "hide_position": hide_position}
        box = gymnasium.spaces.Box
        image = box(0, 255, (image_size, image_size, 3), np.uint8)
        proprio = box(-np.inf, np.inf, (2 if hide_position else 4,), np.float32)
        self.observation_space = gymnasium.spaces.Dict({"image_top": image, "proprio": proprio})
        self.action_space = box(-1.0, 1.0, (2,), np.float32)

    def tasks(self, split: str) -> tuple[Task, ...]:
        dynamics = Parameters(drag_per_second=0.5)
        goals = [goal for index, goal in enumerate(_GOALS) if index % 2 == ("train", "test").index(split)]
        return tuple(
            Task(
                self.family,
                Reward("quadratic", Parameters(goal_x_metres=x, goal_y_metres=y)),
                dynamics=dynamics,
            )
            for x, y in goals
        )

    def make(self, task: Task) -> LqrEnv:
        return LqrEnv(self, self.check(task))

    def reward(self, task: Task, inputs, action):
        x, y = self._goal(task)
        qx, qy, qvx, qvy = STATE_COST.tolist()
        away = qx * (inputs[..., 0] - x) ** 2 + qy * (inputs[..., 1] - y) ** 2
        fast = qvx * inputs[..., 2] ** 2 + qvy * inputs[..., 3] ** 2
        push = action.clip(-1.0, 1.0) ** 2
        return -(away + fast + ACTION_COST[0].item() * push[..., 0] + ACTION_COST[1].item() * push[..., 1])

    def success(self, task: Task, inputs):
        x, y = self._goal(task)
        return (inputs[..., 0] - x) ** 2 + (inputs[..., 1] - y) ** 2 < _SUCCESS_METRES**2

    def _goal(self, task: Task) -> tuple[float, float]:
        values = self.check(task).reward.parameters
        return values["goal_x_metres"], values["goal_y_metres"]

    def solution(self, task: Task) -> Solution:
        """Return gains and costs to go of the optimum of `task`."""
        return solve(self.check(task).dynamics["drag_per_second"], self.max_episode_steps)

    def optimal_return(self, task: Task, state: np.ndarray) -> float:
        """Return the largest possible episode return from `state` (4,), the reward_inputs of `reset`."""
        away = np.asarray(state, np.float64) - np.array([*self._goal(task), 0.0, 0.0])
        return float(-away @ self.solution(task).costs[0] @ away)

    def scripted(self, task: Task) -> Optimal:
        return Optimal(self.solution(task), np.array([*self._goal(task), 0.0, 0.0]))
