"""A point in a box that looks for a goal which no observation shows: the smallest task of meta-learning."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from task_suites.errors import choose
from task_suites.task import Reward, Task
from task_suites.toy.planar import SHOWN, PlanarRows, PlanarTasks, distance, goal_at, goal_of, numbers_of
from task_suites.values import Number

STEP_METRES = 0.2  # along each axis with a full action
RADIUS_METRES, INSIDE_METRES = 0.8, 0.3  # of the circle of goals; of what counts as reached
_START_METRES = 0.02  # so far from the middle an episode may start, along each axis, so that seeds differ
_ANGLES = 120  # on the circle or half circle
_ARC = {"ring": 2 * np.pi, "half_ring": np.pi}


class HiddenGoalRows(PlanarRows):
    """N points at once, some twenty times as fast as N environments."""

    def __init__(self, suite: HiddenGoal, tasks: Sequence[Task]) -> None:
        super().__init__(suite, tasks)
        self._goals = np.array([suite.goal(task) for task in tasks], np.float32)
        self._sparse = np.array([task.reward.name == "sparse" for task in tasks])

    def _paid(self, inputs: np.ndarray, actions: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = distance(inputs, *self._goals[rows].T)
        inside = away < INSIDE_METRES
        return np.where(self._sparse[rows], inside, -away).astype(np.float64), inside


class Straight:
    """The best policy: full speed along each axis until it is at the goal.

    Along each axis nothing is nearer to the goal at any step, so no other policy is, at any step.
    """

    def __init__(self, goal: tuple[float, float]) -> None:
        self._goal = np.array(goal)

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used."""

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (2,) for the position (2,)."""
        away = self._goal - np.asarray(reward_inputs, np.float64)
        return (away / STEP_METRES).clip(-1.0, 1.0).astype(np.float32)


class HiddenGoal(PlanarTasks):
    """Goals 0.8 m from the middle that only the reward tells of: 100 to train on, 20 others among them.

    The state is the position (2,) of a point in the box [-1, 1] x [-1, 1] m, which starts within 2 cm of the middle
    along each axis; a full action moves it by 0.2 m.

    goals: "ring", all around, or "half_ring", in the upper half. reward: "dense" pays minus the distance to
    the goal, "sparse" 1 within 0.3 m of it, else 0. episode_steps, image_size: whole numbers. observation:
    "picture" or "state", the position as numbers. Raises SuiteError naming a wrong option.
    """

    family = "hidden_goal"
    task_options = ("distractors", "goals", "reward")
    reward_input_names = ("x_metres", "y_metres")
    workspace = MappingProxyType({"x_metres": (-1.0, 1.0), "y_metres": (-1.0, 1.0)})
    _GOAL = "the hidden goal x {goal_x_metres:+.2f} m, y {goal_y_metres:+.2f} m"
    reward_words = MappingProxyType(
        {"dense": f"minus the distance to {_GOAL}", "sparse": f"1 within 0.3 m of {_GOAL}, else 0"}
    )
    _PLACE = MappingProxyType({"goal_x_metres": Number(-1.0, 1.0), "goal_y_metres": Number(-1.0, 1.0)})
    reward_values = MappingProxyType({"dense": _PLACE, "sparse": _PLACE})

    def __init__(
        self,
        name: str,
        goals: str = "ring",
        reward: str = "dense",
        episode_steps: int = 20,
        image_size: int = 16,
        observation: str = "picture",
    ) -> None:
        shown = SHOWN[choose(observation, ("picture", "state"), "observation")]
        super().__init__(name, episode_steps, image_size, shown, largest=(1.0, 1.0))
        self.options["observation"] = observation
        self._arc = _ARC[choose(goals, _ARC, "goals")]
        self._reward_name = choose(reward, self.reward_values, "reward")

    def physics(self) -> dict[str, Any]:
        return {"step_metres": STEP_METRES, "start_metres": _START_METRES}

    def tasks(self, split: str) -> tuple[Task, ...]:
        angles = [self._arc * (i + 0.5) / _ANGLES for i in numbers_of(split, _ANGLES)]
        goals = [goal_at(angle, RADIUS_METRES) for angle in angles]
        return tuple(Task(self.family, Reward(self._reward_name, goal)) for goal in goals)

    def start(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-_START_METRES, _START_METRES, 2)

    def moved(self, state: np.ndarray, action: np.ndarray, dynamics: Any = ()) -> np.ndarray:
        return (state + STEP_METRES * action).clip(-1.0, 1.0)

    def make_vector(self, tasks: Sequence[Task]) -> HiddenGoalRows:
        return HiddenGoalRows(self, tasks)

    def reward(self, task: Task, inputs, action):
        away = distance(inputs, *self.goal(task))
        return (away < INSIDE_METRES) * 1.0 if task.reward.name == "sparse" else -away

    def success(self, task: Task, inputs):
        return distance(inputs, *self.goal(task)) < INSIDE_METRES

    def goal(self, task: Task) -> tuple[float, float]:
        return goal_of(self.check(task))

    def scripted(self, task: Task) -> Straight:
        return Straight(self.goal(task))
