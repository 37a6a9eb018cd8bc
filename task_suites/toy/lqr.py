"""A linear-quadratic task whose optimal policy and return are known in closed form."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import scipy.linalg

from task_suites.task import Parameters, Reward, Task
from task_suites.toy.planar import SHOWN, PlanarTasks, goal_of
from task_suites.toy.riccati import riccati
from task_suites.values import Number, flag

STEP_SECONDS = 0.2
STATE_COST = np.array([1.0, 1.0, 0.1, 0.1])  # per step, on (position - goal) in m^2 and velocity in (m/s)^2
ACTION_COST = np.array([1.0, 1.0])
_START_METRES, _SUCCESS_METRES = 0.6, 0.05
_GOALS = tuple((round(0.15 * i, 3), round(0.15 * j, 3)) for i in range(-2, 3) for j in range(-2, 3))


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


class Lqr(PlanarTasks):
    """Linear-quadratic tasks with a hidden goal: 13 goals for training, 12 others for testing.

    A point mass is pushed by the action (2,) in m/s^2; its state is x, y, vx, vy. It starts at rest, uniformly within
    0.6 m of the middle along each axis.

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
        self._seen = slice(2 if flag(hide_position, "hide_position") else 0, 4)
        largest = np.full(4, np.inf)[self._seen]
        super().__init__(name, episode_steps, image_size, SHOWN["both"], largest)
        self.options["hide_position"] = hide_position

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

    def start(self, rng: np.random.Generator) -> np.ndarray:
        return np.concatenate([rng.uniform(-_START_METRES, _START_METRES, 2), np.zeros(2)])

    def dynamics(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """Return (A, B) of `task`, as `matrices` does."""
        return matrices(task.dynamics["drag_per_second"])

    def moved(self, state: np.ndarray, action: np.ndarray, dynamics: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Return the state (4,) that the action (2,) leads to; dynamics: (A, B)."""
        a, b = dynamics
        return a @ state + b @ action

    def sensed(self, state: np.ndarray) -> np.ndarray:
        """Return what `proprio` says of states (..., 4): position and velocity, or with `hide_position` the latter."""
        return state[..., self._seen]

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
        return goal_of(self.check(task))

    def solution(self, task: Task) -> Solution:
        """Return gains and costs to go of the optimum of `task`."""
        return solve(self.check(task).dynamics["drag_per_second"], self.max_episode_steps)

    def optimal_return(self, task: Task, state: np.ndarray) -> float:
        """Return the largest possible episode return from `state` (4,), the reward_inputs of `reset`."""
        away = np.asarray(state, np.float64) - np.array([*self._goal(task), 0.0, 0.0])
        return float(-away @ self.solution(task).costs[0] @ away)

    def scripted(self, task: Task) -> Optimal:
        return Optimal(self.solution(task), np.array([*self._goal(task), 0.0, 0.0]))
