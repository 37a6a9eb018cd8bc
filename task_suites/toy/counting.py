"""A counting environment: each observation says which step of which episode it is; for tests of data flow."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np

from task_suites.distribution import TaskDistribution, as_action
from task_suites.errors import SuiteError, choose
from task_suites.task import Parameters, Reward, Task
from task_suites.values import Number, whole

_RENDER = {"render_modes": ["rgb_array"], "render_fps": 10}


class CountingEnv(gymnasium.Env):
    """Counts. `proprio` float32 (4,): step, episode, the action (2,) that led here (zeros at reset).

    `image_top` uint8 (size, size, 3): red = step mod 256, green = episode mod 256, blue = 0, in every pixel.
    The episode number is `seed` mod 2**20 after `reset(seed=...)` and one more after each `reset()`.
    reward_inputs float32 (2,): step, episode. The last step terminates or truncates.
    """

    metadata = _RENDER

    def __init__(self, suite: Counting, task: Task) -> None:
        self._suite, self.task = suite, task
        self.observation_space, self.action_space = suite.observation_space, suite.action_space
        self.render_mode = None
        self._episode, self._count = -1, None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start counting at 0."""
        super().reset(seed=seed)
        self._episode = self._episode + 1 if seed is None else seed % 2**20
        self._count = 0
        return self._observation(np.zeros(2, np.float32)), self._info()

    def step(self, action: np.ndarray):
        """Count one; the reward is that of `Counting.reward`. Raises SuiteError before `reset`."""
        if self._count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        action = as_action(action, 2).astype(np.float32)
        self._count += 1
        info = self._info()
        reward = float(self._suite.reward(self.task, info["reward_inputs"], action))
        last = self._count >= self._suite.max_episode_steps
        terminates = self._suite.options["ends"] == "terminate"
        return self._observation(action), reward, last and terminates, last and not terminates, info

    def _info(self) -> dict[str, Any]:
        inputs = np.array([self._count, self._episode], np.float32)
        return {
            "success": self._count >= self._suite.max_episode_steps,
            "task": self.task,
            "reward_inputs": inputs,
        }

    def _observation(self, action: np.ndarray) -> dict[str, np.ndarray]:
        proprio = np.array([self._count, self._episode, *action], np.float32)
        return {"image_top": self.render(), "proprio": proprio}

    def render(self) -> np.ndarray:
        """Return the picture (size, size, 3) of the present count."""
        size = self._suite.options["image_size"]
        return np.full((size, size, 3), (self._count % 256, self._episode % 256, 0), np.uint8)


class AlwaysUp:
    """The best policy of the counting tasks: pushes the first action to where it is paid."""

    def __init__(self, weight: float) -> None:
        self._action = np.array([np.sign(weight), 0.0], np.float32)

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode."""

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (2,)."""
        return self._action.copy()


class Counting(TaskDistribution):
    """Counting tasks: reward = `per_step` * step + `per_action` * action[0]; one train and one test task.

    episode_steps: 1 or more. ends: "truncate" or "terminate". image_size: pixels. Raises SuiteError
    otherwise.
    """

    family = "counting"
    reward_input_names = ("step", "episode")
    reward_words = MappingProxyType({"count": "{per_step} per step so far and {per_action} times action[0]"})
    reward_values = MappingProxyType({"count": {"per_step": Number(), "per_action": Number()}})

    def __init__(self, name: str, episode_steps: int = 10, ends: str = "truncate", image_size: int = 16) -> None:
        self.name, self.max_episode_steps = name, whole(episode_steps, "episode_steps", 1)
        image_size = whole(image_size, "image_size", 1, 1024)
        self.options = {"ends": choose(ends, ("terminate", "truncate"), "ends"), "image_size": image_size}
        box = gymnasium.spaces.Box
        image, proprio = (
            box(0, 255, (image_size, image_size, 3), np.uint8),
            box(-np.inf, np.inf, (4,), np.float32),
        )
        self.observation_space = gymnasium.spaces.Dict({"image_top": image, "proprio": proprio})
        self.action_space = box(-1.0, 1.0, (2,), np.float32)

    def physics(self) -> dict[str, Any]:
        return {"ends": self.options["ends"]}

    def tasks(self, split: str) -> tuple[Task, ...]:
        per_step, per_action = {"train": (0.1, 1.0), "test": (0.2, -1.0)}[split]
        return (Task(self.family, Reward("count", Parameters(per_step=per_step, per_action=per_action))),)

    def make(self, task: Task) -> CountingEnv:
        return CountingEnv(self, self.check(task))

    def reward(self, task: Task, inputs, action):
        values = self.check(task).reward.parameters
        return values["per_step"] * inputs[..., 0] + values["per_action"] * action[..., 0].clip(-1.0, 1.0)

    def success(self, task: Task, inputs):
        return inputs[..., 0] >= self.max_episode_steps

    def terminated(self, task: Task, inputs, action):
        if self.options["ends"] == "terminate":
            return self.success(task, inputs)
        return super().terminated(task, inputs, action)

    def scripted(self, task: Task) -> AlwaysUp:
        return AlwaysUp(self.check(task).reward.parameters["per_action"])
