"""A point whose action map is turned by a hidden angle: what adapting to changed dynamics is shown on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from task_suites.errors import choose
from task_suites.task import Parameters, Reward, Task
from task_suites.toy.planar import SHOWN, PlanarRows, PlanarTasks, numbers_of
from task_suites.toy.riccati import riccati
from task_suites.values import Number, flag

STEP_METRES = 0.3  # along an axis with a full action, without inertia
STEP_SECONDS, ACCELERATION, DRAG_PER_SECOND = 0.1, 5.0, 0.5  # with inertia; m/s^2 of a full action
ACTION_COST, SUCCESS_METRES = 0.05, 0.1
_ANGLES = 120  # on the whole circle
_LEAST_RADIANS = 0.25  # so that both splits have angles on both sides of zero


def _turned(action: np.ndarray, cosine, sine) -> np.ndarray:
    """Return actions (..., 2) turned to the left by angles of this cosine and sine, numbers or (...)."""
    x, y = action[..., 0], action[..., 1]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], -1)


def _axis(inertia: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return (a (n, n), b (n, 1)) of one axis of the motion away from the walls: place, with inertia and speed."""
    if not inertia:
        return np.eye(1), np.array([[STEP_METRES]])
    kept, gained = 1 - DRAG_PER_SECOND * STEP_SECONDS, STEP_SECONDS * ACCELERATION
    return np.array([[1, STEP_SECONDS * kept], [0, kept]]), np.array([[STEP_SECONDS * gained], [gained]])


class RotatedActuatorsRows(PlanarRows):
    """N points at once; all are paid alike."""

    def __init__(self, suite: RotatedActuators, tasks: Sequence[Task]) -> None:
        super().__init__(suite, tasks)
        self._any_task = tasks[0]

    def _paid(self, inputs: np.ndarray, actions: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        suite, task = self._suite, self._any_task
        return suite.reward(task, inputs, actions), suite.success(task, inputs)


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


class RotatedActuators(PlanarTasks):
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
        self.inertia = flag(inertia, "inertia")
        self._largest = Number(_LEAST_RADIANS, math.pi).read(largest_radians, "largest_radians")
        self.reward_input_names, largest = ("x_metres", "y_metres"), (1.0, 1.0)
        if inertia:
            self.reward_input_names += ("x_metres_per_second", "y_metres_per_second")
            largest += (math.inf, math.inf)
        shown = SHOWN[choose(observation, SHOWN, "observation")]
        super().__init__(name, episode_steps, image_size, shown, largest)
        self.options["observation"] = observation

    def physics(self) -> dict[str, Any]:
        if not self.inertia:
            return {"step_metres": STEP_METRES}
        return {
            "step_seconds": STEP_SECONDS,
            "metres_per_second_squared": ACCELERATION,
            "drag_per_second": DRAG_PER_SECOND,
        }

    def tasks(self, split: str) -> tuple[Task, ...]:
        angles = [round(math.pi * (2 * (i + 0.5) / _ANGLES - 1), 4) for i in numbers_of(split, _ANGLES)]
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

    def start(self, rng: np.random.Generator) -> np.ndarray:
        return np.concatenate([rng.uniform(-1.0, 1.0, 2), np.zeros(2 if self.inertia else 0)])

    def dynamics(self, task: Task) -> tuple[float, float]:
        """Return (cosine, sine) of the angle of `task`."""
        angle = self.check(task).dynamics["angle_radians"]
        return math.cos(angle), math.sin(angle)

    def moved(self, state: np.ndarray, action: np.ndarray, dynamics: Any = (1.0, 0.0)) -> np.ndarray:
        """Return where actions (..., 2) lead from states (..., S); dynamics: cosine and sine, numbers or (...)."""
        push = _turned(action, *dynamics)
        if not self.inertia:
            return (state + STEP_METRES * push).clip(-1.0, 1.0)
        velocity = (1 - DRAG_PER_SECOND * STEP_SECONDS) * state[..., 2:] + STEP_SECONDS * ACCELERATION * push
        reached = state[..., :2] + STEP_SECONDS * velocity
        position = reached.clip(-1.0, 1.0)
        return np.concatenate([position, np.where(position == reached, velocity, 0.0)], -1)

    def make_vector(self, tasks: Sequence[Task]) -> RotatedActuatorsRows:
        return RotatedActuatorsRows(self, tasks)

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
        return Steady(gains, self.dynamics(task))
