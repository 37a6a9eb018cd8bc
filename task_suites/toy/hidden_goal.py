"""A point in a box that looks for a goal which no observation shows: the smallest task of meta-learning."""

from __future__ import annotations

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
from task_suites.values import Number, whole

STEP_METRES = 0.2  # along each axis with a full action
RADIUS_METRES, INSIDE_METRES = 0.8, 0.3  # of the circle of goals; of what counts as reached
_START_METRES = 0.02  # so far from the middle an episode may start, along each axis, so that seeds differ
_ANGLES, _TEST_EVERY = 120, 6  # on the circle or half circle; the third of each six is a test task
_ARC = {"ring": 2 * np.pi, "half_ring": np.pi}
_MOVIE_PIXELS = 256


def _start(rng: np.random.Generator) -> np.ndarray:
    """Return the place (2,) where an episode starts."""
    return rng.uniform(-_START_METRES, _START_METRES, 2)


def _moved(position: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return where actions (..., 2) in [-1, 1] lead from positions (..., 2) in the box."""
    return (position + STEP_METRES * action).clip(-1.0, 1.0)


def _distance(inputs, goal_x, goal_y):
    """Return the distance (...) to the goal in metres; its gradient is finite at the goal, too."""
    return ((inputs[..., 0] - goal_x) ** 2 + (inputs[..., 1] - goal_y) ** 2 + 1e-12) ** 0.5


class HiddenGoalEnv(gymnasium.Env):
    """A point in the box [-1, 1] x [-1, 1] m; the action (2,) moves it by up to 0.2 m along each axis.

    `image_top` uint8 (size, size, 3): the point alone; or `proprio` float32 (2,): its position, which is
    reward_inputs as well. An episode starts within 2 cm of the middle and ends by the time limit.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, suite: HiddenGoal, task: Task) -> None:
        self._suite, self.task = suite, task
        self.observation_space, self.action_space = suite.observation_space, suite.action_space
        self.render_mode = None
        self._position, self._count = np.zeros(2), None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start near the middle."""
        super().reset(seed=seed)
        self._position, self._count = _start(self.np_random), 0
        return self._suite.observe(self._position), self._info()

    def step(self, action: np.ndarray):
        """Move; actions beyond [-1, 1] are clipped. Raises SuiteError before `reset`."""
        if self._count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        self._position = _moved(self._position, as_action(action, 2))
        self._count += 1
        info = self._info()
        # As a row of one: numpy 1 computes single numbers with more digits than arrays.
        reward = float(self._suite.reward(self.task, info["reward_inputs"][None], action)[0])
        truncated = self._count >= self._suite.max_episode_steps
        return self._suite.observe(self._position), reward, False, truncated, info

    def _info(self) -> dict[str, Any]:
        inputs = self._position.astype(np.float32)
        success = bool(self._suite.success(self.task, inputs[None])[0])
        return {"success": success, "task": self.task, "reward_inputs": inputs}

    def render(self) -> np.ndarray:
        """Return a picture (256, 256, 3) of the point."""
        return blob(self._position, _MOVIE_PIXELS)


class HiddenGoalRows(LockstepRows):
    """N points at once, bit for bit as N environments, and some twenty times as fast."""

    def __init__(self, suite: HiddenGoal, tasks: Sequence[Task]) -> None:
        super().__init__(len(tasks), 2)
        self._suite = suite
        rewards = [suite.check(task).reward for task in tasks]
        goals = [(r.parameters["goal_x_metres"], r.parameters["goal_y_metres"]) for r in rewards]
        self._goals = np.array(goals, np.float32)
        self._sparse = np.array([reward.name == "sparse" for reward in rewards])
        self._position, self._count = np.zeros((len(tasks), 2)), np.zeros(len(tasks), np.int64)

    def _begin(self, seeds: list[int]) -> Outcome:
        self._position = np.stack([_start(seeding.np_random(seed)[0]) for seed in seeds])
        self._count[:] = 0
        start = self._outcome(np.arange(len(self)))
        return start._replace(reward=np.zeros(len(self)))

    def _advance(self, actions: np.ndarray, rows: np.ndarray) -> Outcome:
        self._position[rows] = _moved(self._position[rows], actions)
        self._count[rows] += 1
        return self._outcome(rows)

    def _outcome(self, rows: np.ndarray) -> Outcome:
        position = self._position[rows]
        inputs = position.astype(np.float32)
        distance = _distance(inputs, self._goals[rows, 0], self._goals[rows, 1])
        inside = distance < INSIDE_METRES
        return Outcome(
            observation=self._suite.observe(position),
            inputs=inputs,
            success=inside,
            reward=np.where(self._sparse[rows], inside, -distance).astype(np.float64),
            terminated=np.zeros(len(rows), np.bool_),
            truncated=self._count[rows] >= self._suite.max_episode_steps,
        )

    def render(self, row: int) -> np.ndarray:
        """Return a picture (256, 256, 3) of the point of one row."""
        return blob(self._position[row], _MOVIE_PIXELS)


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


class HiddenGoal(TaskDistribution):
    """Goals 0.8 m from the middle that only the reward tells of: 100 to train on, 20 others among them.

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
        self.name, self.max_episode_steps = name, whole(episode_steps, "episode_steps", 1)
        self._arc = _ARC[choose(goals, _ARC, "goals")]
        self._reward_name = choose(reward, self.reward_values, "reward")
        size = whole(image_size, "image_size", 1)
        self._pictures = choose(observation, ("picture", "state"), "observation") == "picture"
        self.options = {"image_size": size, "observation": observation}
        box = gymnasium.spaces.Box
        shown = {"proprio": box(-1.0, 1.0, (2,), np.float32)}
        if self._pictures:
            shown = {"image_top": box(0, 255, (size, size, 3), np.uint8)}
        self.observation_space = gymnasium.spaces.Dict(shown)
        self.action_space = box(-1.0, 1.0, (2,), np.float32)

    def physics(self) -> dict[str, Any]:
        return {"step_metres": STEP_METRES, "start_metres": _START_METRES}

    def tasks(self, split: str) -> tuple[Task, ...]:
        tested = choose(split, ("train", "test"), "split") == "test"
        chosen = [i for i in range(_ANGLES) if (i % _TEST_EVERY == 2) == tested]
        angles = [self._arc * (i + 0.5) / _ANGLES for i in chosen]
        places = [(RADIUS_METRES * np.cos(angle), RADIUS_METRES * np.sin(angle)) for angle in angles]
        return tuple(
            Task(
                self.family,
                Reward(
                    self._reward_name,
                    Parameters(goal_x_metres=round(float(x), 4), goal_y_metres=round(float(y), 4)),
                ),
            )
            for x, y in places
        )

    def make(self, task: Task) -> HiddenGoalEnv:
        return HiddenGoalEnv(self, self.check(task))

    def make_vector(self, tasks: Sequence[Task]) -> HiddenGoalRows:
        return HiddenGoalRows(self, tasks)

    def observe(self, position: np.ndarray) -> dict[str, np.ndarray]:
        """Return the observation (...) of positions (..., 2); the goal has no part in it."""
        if self._pictures:
            return {"image_top": blob(position, self.options["image_size"])}
        return {"proprio": position.astype(np.float32)}

    def reward(self, task: Task, inputs, action):
        distance = _distance(inputs, *self.goal(task))
        return (distance < INSIDE_METRES) * 1.0 if task.reward.name == "sparse" else -distance

    def success(self, task: Task, inputs):
        return _distance(inputs, *self.goal(task)) < INSIDE_METRES

    def goal(self, task: Task) -> tuple[float, float]:
        values = self.check(task).reward.parameters
        return values["goal_x_metres"], values["goal_y_metres"]

    def scripted(self, task: Task) -> Straight:
        return Straight(self.goal(task))
