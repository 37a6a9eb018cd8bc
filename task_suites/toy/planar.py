"""Tasks in the plane with a short state vector: what the toy families of points and pucks have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding

from task_suites.distribution import SPLITS, TaskDistribution, as_action
from task_suites.errors import SuiteError, choose
from task_suites.rows import LockstepRows, Outcome
from task_suites.task import Parameters, Task
from task_suites.toy.blob import blob
from task_suites.values import whole

SHOWN = {"picture": ("image_top",), "state": ("proprio",), "both": ("image_top", "proprio")}
_MOVIE_PIXELS = 256
_TEST_EVERY = 6


def numbers_of(split: str, count: int) -> list[int]:
    """Return which of `count` tasks in order are in `split`: the third of each six is a test task, among the others."""
    tested = choose(split, SPLITS, "split") == "test"
    return [i for i in range(count) if (i % _TEST_EVERY == 2) == tested]


def goal_at(angle: float, radius: float) -> Parameters:
    """Return the parameters of a reward whose goal is `radius` metres from the middle, `angle` radians from x to y."""
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return Parameters(goal_x_metres=round(float(x), 4), goal_y_metres=round(float(y), 4))


def goal_of(task: Task) -> tuple[float, float]:
    """Return (x, y) in metres of the goal that the reward of `task` names."""
    values = task.reward.parameters
    return values["goal_x_metres"], values["goal_y_metres"]


def distance(place, goal_x, goal_y):
    """Return how far (...) places (..., 2) are from a goal in metres; its gradient is finite at the goal, too."""
    return ((place[..., 0] - goal_x) ** 2 + (place[..., 1] - goal_y) ** 2 + 1e-12) ** 0.5


class PlanarTasks(TaskDistribution):
    """Markov decision processes in the plane: states (S,) of positions (metres; y points up) and velocities (m/s).

    A family says where an episode starts (`start`), how a state moves (`moved`, which may read `dynamics`), what is
    paid and what is a success (`reward`, `success`), and how it looks (`picture`, `sensed`). The action is (2,) in
    [-1, 1], reward_inputs are the state as float32, and an episode ends by the time limit.

    Observations, those of them that are `shown`: `image_top` uint8 (size, size, 3), and `proprio` float32, which is
    the state unless a family senses less, within plus and minus `largest`.
    """

    def __init__(
        self, name: str, episode_steps: int, image_size: int, shown: Sequence[str], largest: Sequence[float]
    ) -> None:
        self.name, self.max_episode_steps = name, whole(episode_steps, "episode_steps", 1)
        size, high = whole(image_size, "image_size", 1, 1024), np.array(largest, np.float32)
        spaces = {
            "image_top": gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8),
            "proprio": gymnasium.spaces.Box(-high, high, dtype=np.float32),
        }
        self.options = {"image_size": size}
        self.observation_space = gymnasium.spaces.Dict({key: spaces[key] for key in shown})
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    @abstractmethod
    def start(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the state (S,) in which an episode starts."""

    @abstractmethod
    def moved(self, state: np.ndarray, action: np.ndarray, dynamics: Any) -> np.ndarray:
        """Return where actions (..., 2) in [-1, 1] lead from states (..., S), given `dynamics` of the task."""

    def dynamics(self, task: Task) -> Any:
        """Return what `moved` has to know of `task`, worked out once; nothing where all tasks move alike."""
        return ()

    def picture(self, state: np.ndarray, pixels: int) -> np.ndarray:
        """Return uint8 pictures (..., pixels, pixels, 3) of states (..., S): a blob at the position."""
        return blob(state[..., :2], pixels)

    def sensed(self, state: np.ndarray) -> np.ndarray:
        """Return what of states (..., S) `proprio` says: all."""
        return state

    def observe(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """Return the observation (...) of states (..., S); what is hidden of the task has no part in it."""
        shown = {}
        if "image_top" in self.observation_space.spaces:
            shown["image_top"] = self.picture(state, self.options["image_size"])
        if "proprio" in self.observation_space.spaces:
            shown["proprio"] = self.sensed(state).astype(np.float32)
        return shown

    def make(self, task: Task) -> PlanarEnv:
        return PlanarEnv(self, self.check(task))


class PlanarEnv(gymnasium.Env):
    """One task of `PlanarTasks`, whose docstring says what is observed."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, suite: PlanarTasks, task: Task) -> None:
        self._suite, self.task = suite, task
        self.observation_space, self.action_space = suite.observation_space, suite.action_space
        self.render_mode = None
        self._dynamics = suite.dynamics(task)
        self._state, self._count = np.zeros(len(suite.reward_input_names)), None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start where the suite's `start` says."""
        super().reset(seed=seed)
        self._state, self._count = self._suite.start(self.np_random), 0
        return self._suite.observe(self._state), self._info()

    def step(self, action: np.ndarray):
        """Move; actions beyond [-1, 1] are clipped. Raises SuiteError before `reset`."""
        if self._count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        action = as_action(action, 2)
        self._state = self._suite.moved(self._state, action, self._dynamics)
        self._count += 1
        info = self._info()
        # As a row of one: numpy rounds single numbers otherwise in the last digit.
        reward = self._suite.reward(self.task, info["reward_inputs"][None], action[None]).item()
        truncated = self._count >= self._suite.max_episode_steps
        return self._suite.observe(self._state), reward, False, truncated, info

    def _info(self) -> dict[str, Any]:
        inputs = self._state.astype(np.float32)
        success = self._suite.success(self.task, inputs[None]).item()
        return {"success": success, "task": self.task, "reward_inputs": inputs}

    def render(self) -> np.ndarray:
        """Return a picture (256, 256, 3) of the present state."""
        return self._suite.picture(self._state, _MOVIE_PIXELS)


class PlanarRows(LockstepRows):
    """N tasks of `PlanarTasks` at once, bit for bit as N environments; a subclass says what they are paid."""

    def __init__(self, suite: PlanarTasks, tasks: Sequence[Task]) -> None:
        super().__init__(len(tasks), 2, PlanarEnv.metadata["render_fps"])
        self._suite = suite
        self._dynamics = np.array([suite.dynamics(suite.check(task)) for task in tasks])
        self._state = np.zeros((len(tasks), len(suite.reward_input_names)))
        self._count = np.zeros(len(tasks), np.int64)

    @abstractmethod
    def _paid(self, inputs: np.ndarray, actions: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (reward float64 (n,), success bool (n,)) of n `rows` for inputs (n, R) and actions (n, 2)."""

    def _begin(self, seeds: list[int]) -> Outcome:
        self._state = np.stack([self._suite.start(seeding.np_random(seed)[0]) for seed in seeds])
        self._count[:] = 0
        start = self._outcome(np.zeros((len(self), 2)), np.arange(len(self)))
        return start._replace(reward=np.zeros(len(self)))

    def _advance(self, actions: np.ndarray, rows: np.ndarray) -> Outcome:
        self._state[rows] = self._suite.moved(self._state[rows], actions, self._dynamics[rows].T)
        self._count[rows] += 1
        return self._outcome(actions, rows)

    def _outcome(self, actions: np.ndarray, rows: np.ndarray) -> Outcome:
        state = self._state[rows]
        inputs = state.astype(np.float32)
        reward, success = self._paid(inputs, actions, rows)
        return Outcome(
            observation=self._suite.observe(state),
            inputs=inputs,
            success=success,
            reward=reward,
            terminated=np.zeros(len(rows), np.bool_),
            truncated=self._count[rows] >= self._suite.max_episode_steps,
        )

    def render(self, row: int) -> np.ndarray:
        """Return a picture (256, 256, 3) of one row."""
        return self._suite.picture(self._state[row], _MOVIE_PIXELS)
