"""A user's own Gymnasium environment as a task distribution: `register_environment`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from task_suites.distribution import SPLITS, ScriptedPolicy, TaskDistribution
from task_suites.errors import SuiteError, choose
from task_suites.registry import register
from task_suites.task import Parameters, Reward, Task


@dataclass(frozen=True)
class Recipe:
    """What `register_environment` was given; see there."""

    make: Callable[[], gymnasium.Env]
    reward: Callable
    reward_inputs: Callable[[gymnasium.Env], Any]
    reward_input_names: tuple[str, ...]
    tasks: Mapping[str, Iterable[Mapping[str, Any]]]
    max_episode_steps: int
    success: Callable | None
    scripted: Callable[..., ScriptedPolicy] | None
    image: bool


def register_environment(
    name: str,
    make: Callable[[], gymnasium.Env],
    *,
    reward: Callable,
    reward_inputs: Callable[[gymnasium.Env], Any],
    reward_input_names: Iterable[str],
    tasks: Mapping[str, Iterable[Mapping[str, Any]]],
    max_episode_steps: int,
    success: Callable | None = None,
    scripted: Callable[..., ScriptedPolicy] | None = None,
    image: bool = False,
    tags: tuple[str, ...] = (),
) -> None:
    """Register your environment as the task distribution `name` ("family/task", lower case).

    make() returns it. Observations: a Box of numbers (it becomes `proprio`), or a Dict of `image_CAMERA` and
    `proprio`. Actions: a bounded Box, rescaled to [-1, 1]. `reset(seed=...)` must determine the episode.
    reward_inputs(env) -> (R,) the quantities, called `reward_input_names`, that every reward is computed
    from.
    reward(inputs (..., R), action (..., A), **parameters) -> (...): vectorised, for numpy and torch; replaces
    the environment's own. success: the same arguments without `action` -> booleans (default: never).
    tasks: "train" and "test" -> parameters of each task, in plain numbers. scripted(**parameters): a policy.
    image: also show `render()`, uint8 (H, W, 3), as `image_render`.
    Raises SuiteError naming what is wrong, when registering or when the distribution is opened.
    """
    for split in tasks:
        choose(split, SPLITS, "split")
    recipe = Recipe(
        make,
        reward,
        reward_inputs,
        tuple(reward_input_names),
        tasks,
        max_episode_steps,
        success,
        scripted,
        image,
    )

    def factory(name: str) -> Adapted:
        return Adapted(name, recipe)

    register(name, factory, (*tags, "own"))


class Adapted(TaskDistribution):
    """The task distribution that `register_environment` registers."""

    def __init__(self, name: str, recipe: Recipe) -> None:
        self.name, self.family, self._recipe = name, name.split("/")[0], recipe
        self.max_episode_steps, self.reward_input_names = recipe.max_episode_steps, recipe.reward_input_names
        self.options = {"image": recipe.image}
        env = self._open()
        try:
            self.action_space = env.action_space
            self.observation_space = self._space(env)
        finally:
            env.close()

    def _open(self) -> gymnasium.Env:
        env = self._recipe.make()
        space = env.action_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1 or not space.is_bounded():
            raise SuiteError(
                f"{self.name}: its actions are {space}; expected a bounded Box with one dimension"
            )
        low, high = np.full(space.shape, -1, np.float32), np.full(space.shape, 1, np.float32)
        return gymnasium.wrappers.RescaleAction(env, low, high)

    def _space(self, env: gymnasium.Env) -> gymnasium.spaces.Dict:
        space = env.observation_space
        if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
            space = gymnasium.spaces.Dict(
                {"proprio": gymnasium.spaces.Box(-np.inf, np.inf, space.shape, np.float32)}
            )
        images = isinstance(space, gymnasium.spaces.Dict) and [key for key in space if key != "proprio"]
        if images is False or any(not key.startswith("image_") for key in images):
            raise SuiteError(
                f"{self.name}: its observations are {space}; expected a Box with one dimension, or a Dict "
                "with the keys image_CAMERA and proprio"
            )
        if not self._recipe.image:
            return space
        env.reset(seed=0)
        frame = self.picture(env)
        return gymnasium.spaces.Dict(
            {**space.spaces, "image_render": gymnasium.spaces.Box(0, 255, frame.shape, np.uint8)}
        )

    def picture(self, env: gymnasium.Env) -> np.ndarray:
        """Return a copy of what `env.render()` shows, uint8 (H, W, 3). SuiteError if it is anything else."""
        frame = env.render()
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.shape[2:] != (3,):
            found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise SuiteError(f"{self.name}: render() returned {found}; expected uint8 (height, width, 3)")
        return frame.copy()

    def tasks(self, split: str) -> tuple[Task, ...]:
        found = self._recipe.tasks.get(split, ())
        return tuple(Task(self.family, Reward(self.name, Parameters(values))) for values in found)

    def make(self, task: Task) -> gymnasium.Env:
        return AdaptedEnv(self._open(), self, self.check(task))

    def reward(self, task: Task, inputs, action):
        return self._recipe.reward(inputs, action, **self.check(task).reward.parameters)

    def success(self, task: Task, inputs):
        if self._recipe.success is None:
            return inputs[..., 0] != inputs[..., 0]
        return self._recipe.success(inputs, **self.check(task).reward.parameters)

    def scripted(self, task: Task) -> ScriptedPolicy:
        if self._recipe.scripted is None:
            raise SuiteError(f"{self.name} has no scripted policy; set pretrain.scripted=0")
        return self._recipe.scripted(**self.check(task).reward.parameters)

    def inputs(self, env: gymnasium.Env) -> np.ndarray:
        """Return the reward inputs (R,) float32 of the present state. SuiteError: another number of them."""
        values = np.array(self._recipe.reward_inputs(env.unwrapped), np.float32)
        if values.shape != (len(self.reward_input_names),):
            raise SuiteError(
                f"{self.name}: reward_inputs(env) returned shape {values.shape}, but there are "
                f"{len(self.reward_input_names)} reward_input_names"
            )
        return values


class AdaptedEnv(gymnasium.Wrapper):
    """The user's environment with the suite's observations, rewards, info and time limit."""

    render_mode: str | None = None

    def __init__(self, env: gymnasium.Env, suite: Adapted, task: Task) -> None:
        super().__init__(env)
        self._suite, self.task, self._count = suite, task, 0
        self.observation_space = suite.observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._count = 0
        return self._observation(observation), self._info(info)

    def step(self, action: np.ndarray):
        """Take one step with an action (A,), clipped to [-1, 1]; pays the task's reward."""
        action = np.clip(np.asarray(action, np.float32), -1, 1)
        observation, _, terminated, truncated, info = self.env.step(action)
        self._count += 1
        info = self._info(info)
        reward = float(self._suite.reward(self.task, info["reward_inputs"], action))
        truncated = truncated or (self._count >= self._suite.max_episode_steps and not terminated)
        return self._observation(observation), reward, bool(terminated), bool(truncated), info

    def _observation(self, observation: Any) -> dict[str, np.ndarray]:
        if not isinstance(observation, Mapping):
            observation = {"proprio": np.array(observation, np.float32)}
        shown = {key: np.array(value) for key, value in observation.items()}
        return shown | (
            {"image_render": self._suite.picture(self.env)} if self._suite.options["image"] else {}
        )

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        inputs = self._suite.inputs(self.env)
        return {
            **info,
            "success": bool(self._suite.success(self.task, inputs)),
            "task": self.task,
            "reward_inputs": inputs,
        }
