"""Any Gymnasium environment as a task distribution: `gymnasium_task`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from task_suites.distribution import SPLITS, ScriptedPolicy, TaskDistribution, as_action, as_distractors
from task_suites.errors import SuiteError, choose
from task_suites.registry import register
from task_suites.task import Parameters, Reward, Task

OWN_REWARD = "own_reward"  # the reward input that holds what the environment itself paid
_PIXELS = ("mujoco", "none", "render")


@dataclass(frozen=True)
class Recipe:
    """What `gymnasium_task` was given; see there."""

    make: str | Callable[..., gymnasium.Env]
    tasks: Mapping[str, tuple[Mapping[str, Any], ...]]
    rewards: Mapping[str, Callable | None]
    reward_inputs: Callable[[Any], Any] | None
    reward_input_names: tuple[str, ...]
    max_episode_steps: int | None
    success: Callable | None
    terminated: Callable | None
    scripted: Callable[..., ScriptedPolicy] | None
    pixels: str
    keep: tuple[str, ...]


def gymnasium_task(
    name: str,
    make: str | Callable[..., gymnasium.Env],
    *,
    reward: Callable | Mapping[str, Callable | None] | None = None,
    reward_inputs: Callable[[Any], Any] | None = None,
    reward_input_names: Iterable[str] = (),
    tasks: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
    max_episode_steps: int | None = None,
    success: Callable | None = None,
    terminated: Callable | None = None,
    scripted: Callable[..., ScriptedPolicy] | None = None,
    pixels: str = "none",
    keep: Iterable[str] = (),
    tags: tuple[str, ...] = (),
) -> None:
    """Register an environment as the task distribution `name` ("family/task", lower case).

    make: its Gymnasium id, or make(**dynamics) that returns it. `reset(seed=...)` must determine the episode.
    Observations: numbers of any shape (they become `proprio`), a picture, or a Dict of `image_CAMERA` and
    `proprio`. Actions: a bounded Box, rescaled to [-1, 1], or Discrete: the largest of n numbers is chosen.
    reward(inputs (..., R), action (..., A), **parameters) -> (...): vectorised, for numpy and torch, replaces
    the environment's own; several by name; None stands for its own, which is then the last reward input.
    reward_inputs(env.unwrapped) -> (R,): what rewards are computed from, called `reward_input_names`.
    tasks: "train" and "test" -> one mapping per task: the reward's parameters, and if wanted "reward" (its
    name) and "dynamics" (a mapping for `make`). Without: one train task.
    success, terminated: as reward, without `action` for success; booleans (default: never).
    scripted(**parameters): a policy. max_episode_steps: None = the id's own.
    pixels: "none"; "render": what `render()` shows, option image_size; "mujoco": `MujocoPixels`, options
    image_size, cameras, antialias, distractors. keep: geoms or bodies whose colour means something.
    Raises SuiteError naming what is wrong, when registering or when the distribution is opened.
    """
    tasks = {"train": ({},)} if tasks is None else tasks
    for split in tasks:
        choose(split, SPLITS, "split")
    rewards = dict(reward) if isinstance(reward, Mapping) else {name.partition("/")[2]: reward}
    recipe = Recipe(
        make,
        {split: tuple(found) for split, found in tasks.items()},
        rewards,
        reward_inputs,
        tuple(reward_input_names),
        max_episode_steps,
        success,
        terminated,
        scripted,
        choose(pixels, _PIXELS, "pixels"),
        (keep,) if isinstance(keep, str) else tuple(keep),
    )
    register(name, _FACTORIES[pixels](recipe), (*tags, "own"))


def _plain_factory(recipe: Recipe) -> Callable[..., Adapted]:
    def factory(name: str) -> Adapted:
        return Adapted(name, recipe, {})

    return factory


def _render_factory(recipe: Recipe) -> Callable[..., Adapted]:
    def factory(name: str, image_size: int | None = None) -> Adapted:
        return Adapted(name, recipe, {"image_size": image_size})

    return factory


def _mujoco_factory(recipe: Recipe) -> Callable[..., Adapted]:
    def factory(
        name: str,
        image_size: int = 64,
        cameras: Iterable[str] = ("default",),
        antialias: bool = False,
        distractors: Any = (),
    ) -> Adapted:
        cameras = (cameras,) if isinstance(cameras, str) else tuple(cameras)
        options = {"image_size": image_size, "cameras": cameras, "antialias": antialias}
        return Adapted(name, recipe, options, as_distractors(distractors))

    return factory


_FACTORIES = {"none": _plain_factory, "render": _render_factory, "mujoco": _mujoco_factory}


class Adapted(TaskDistribution):
    """The task distribution that `gymnasium_task` registers."""

    def __init__(self, name: str, recipe: Recipe, options: dict[str, Any], distractors: tuple = ()) -> None:
        self.name, self.family, self._recipe = name, name.split("/")[0], recipe
        self.options, self.distractors = options, distractors
        self.shows_distractors = recipe.pixels == "mujoco"
        self._own = None in recipe.rewards.values()
        self.reward_input_names = (*recipe.reward_input_names, *((OWN_REWARD,) if self._own else ()))
        self._tasks = {split: tuple(map(self._task, recipe.tasks.get(split, ()))) for split in SPLITS}
        first = next((task for split in SPLITS for task in self._tasks[split]), None)
        if first is None:
            raise SuiteError(f"{name}: tasks is empty: expected at least one task")
        env = AdaptedEnv(self.open(first), self, first)
        try:
            self.action_space, self.observation_space = env.action_space, env.observation_space
            self.max_episode_steps = self._limit(env)
            env.reset(seed=0)
        finally:
            env.close()

    def _task(self, given: Mapping[str, Any]) -> Task:
        values, rewards = dict(given), self._recipe.rewards
        dynamics = Parameters(values.pop("dynamics", {}))
        chosen = values.pop("reward", next(iter(rewards)) if len(rewards) == 1 else None)
        choose(chosen, rewards, f"reward of {self.name}")
        function = _own_reward if rewards[chosen] is None else rewards[chosen]
        try:
            inspect.signature(function).bind(None, None, **values)
        except TypeError as error:
            raise SuiteError(f"{self.name}: task {dict(given)!r}, reward {chosen!r}: {error}") from error
        return Task(self.family, Reward(chosen, Parameters(values)), dynamics=dynamics)

    def _limit(self, env: gymnasium.Env) -> int:
        own = None if env.spec is None else env.spec.max_episode_steps
        limit = own if self._recipe.max_episode_steps is None else self._recipe.max_episode_steps
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise SuiteError(f"{self.name}: max_episode_steps is {limit!r}: expected a whole number from 1")
        return limit

    def open(self, task: Task) -> gymnasium.Env:
        """Return the user's environment of `task` with actions in [-1, 1], and its pictures if MuJoCo's."""
        make, pixels = self._recipe.make, self._recipe.pixels
        if isinstance(make, str):
            shown = {"render_mode": "rgb_array"} if pixels == "render" else {}
            limit = self._recipe.max_episode_steps
            limited = {} if limit is None else {"max_episode_steps": limit}
            env = gymnasium.make(make, disable_env_checker=True, **shown, **limited, **task.dynamics)
        else:
            env = make(**task.dynamics)
        if pixels == "mujoco":
            from task_suites.pixels import MujocoPixels  # imports MuJoCo, which other tasks can do without

            env = MujocoPixels(env, **self.options, distractors=task.distractors, keep=self._recipe.keep)
        space = env.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            return LargestAction(env)
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1 or not space.is_bounded():
            raise SuiteError(
                f"{self.name}: its actions are {space}; expected Discrete or a bounded Box with one dimension"
            )
        low, high = np.full(space.shape, -1, np.float32), np.full(space.shape, 1, np.float32)
        return gymnasium.wrappers.RescaleAction(env, low, high)

    def physics(self) -> dict[str, Any]:
        make = self._recipe.make
        return {"environment": make if isinstance(make, str) else make.__qualname__}

    def tasks(self, split: str) -> tuple[Task, ...]:
        return self._tasks[choose(split, SPLITS, "split")]

    def check(self, task: Task) -> Task:
        super().check(task)
        choose(task.reward.name, self._recipe.rewards, f"reward of {self.name}")
        return task

    def make(self, task: Task) -> gymnasium.Env:
        return AdaptedEnv(self.open(self.check(task)), self, task)

    def reward(self, task: Task, inputs, action):
        function = self._recipe.rewards[self.check(task).reward.name] or _own_reward
        return function(inputs, action, **task.reward.parameters)

    def success(self, task: Task, inputs):
        if self._recipe.success is None:
            return inputs[..., 0] != inputs[..., 0]
        return self._recipe.success(inputs, **self.check(task).reward.parameters)

    def terminated(self, task: Task, inputs, action):
        if self._recipe.terminated is None:
            return super().terminated(task, inputs, action)
        return self._recipe.terminated(inputs, action, **self.check(task).reward.parameters)

    def describe(self, task: Task) -> str:
        function = self._recipe.rewards[self.check(task).reward.name]
        if function is None:
            return "what the environment itself pays"
        words = (inspect.getdoc(function) or "").partition("\n")[0]
        return f"{words} ({super().describe(task)})" if words else super().describe(task)

    def scripted(self, task: Task) -> ScriptedPolicy:
        if self._recipe.scripted is None:
            raise SuiteError(f"{self.name} has no scripted policy; set pretrain.scripted=0")
        return self._recipe.scripted(**self.check(task).reward.parameters)

    def inputs(self, env: gymnasium.Env, own_reward: float) -> np.ndarray:
        """Return the reward inputs (R,) float32 of the present state. SuiteError: another number of them."""
        read = self._recipe.reward_inputs
        values = [] if read is None else np.asarray(read(env.unwrapped), np.float32)
        if np.shape(values) != (len(self._recipe.reward_input_names),):
            raise SuiteError(
                f"{self.name}: reward_inputs(env) returned shape {np.shape(values)}, but there are "
                f"{len(self._recipe.reward_input_names)} reward_input_names"
            )
        return np.array([*values, *((own_reward,) if self._own else ())], np.float32)


def _own_reward(inputs, action):
    return inputs[..., -1]


class LargestAction(gymnasium.ActionWrapper):
    """Discrete actions as n numbers in [-1, 1], of which the largest is taken."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._start = int(env.action_space.start)
        self.action_space = gymnasium.spaces.Box(-1, 1, (int(env.action_space.n),), np.float32)

    def action(self, action: np.ndarray) -> int:
        """Return the number of the largest entry."""
        return self._start + int(np.argmax(action))


class AdaptedEnv(gymnasium.Wrapper):
    """The user's environment with the suite's observations, rewards, info and time limit."""

    render_mode: str | None = None

    def __init__(self, env: gymnasium.Env, suite: Adapted, task: Task) -> None:
        super().__init__(env)
        self._suite, self.task = suite, task
        self._count: int | None = None
        self._render_size = suite.options.get("image_size")
        self._renders = suite.shows_distractors is False and "image_size" in suite.options
        self.observation_space = self._space()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._count = 0
        return self._observation(observation), self._info(info, 0.0)

    def step(self, action: np.ndarray):
        """Take one step with an action (A,), clipped to [-1, 1]; pays the task's reward."""
        if self._count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        action = as_action(action, self.action_space.shape[0]).astype(np.float32)
        observation, own_reward, terminated, truncated, info = self.env.step(action)
        self._count += 1
        info = self._info(info, own_reward)
        reward = float(self._suite.reward(self.task, info["reward_inputs"], action))
        truncated = truncated or (self._count >= self._suite.max_episode_steps and not terminated)
        return self._observation(observation), reward, bool(terminated), bool(truncated), info

    def _space(self) -> gymnasium.spaces.Dict:
        space, box = self.env.observation_space, gymnasium.spaces.Box
        if isinstance(space, box) and space.dtype == np.uint8 and space.shape[2:] == (3,):
            found = {"image_observation": space}
        elif _is_ours(space):
            found = dict(space.spaces)
        elif space.is_np_flattenable:
            size = gymnasium.spaces.flatdim(space)
            found = {"proprio": box(-np.inf, np.inf, (size,), np.float32)}
        else:
            raise SuiteError(
                f"{self._suite.name}: its observations are {space}; expected numbers, a picture, or a Dict "
                "with the keys image_CAMERA and proprio"
            )
        if self._renders:
            self.env.reset(seed=0)
            found["image_render"] = box(0, 255, self._picture().shape, np.uint8)
        return gymnasium.spaces.Dict(found)

    def _observation(self, observation: Any) -> dict[str, np.ndarray]:
        space = self.env.observation_space
        if _is_ours(space):
            shown = {key: np.array(value) for key, value in observation.items()}
        elif "image_observation" in self.observation_space.spaces:
            shown = {"image_observation": np.array(observation)}
        else:
            shown = {"proprio": np.array(gymnasium.spaces.flatten(space, observation), np.float32)}
        return shown | ({"image_render": self._picture()} if self._renders else {})

    def _picture(self) -> np.ndarray:
        frame = self.env.render()
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.shape[2:] != (3,):
            found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise SuiteError(
                f"{self._suite.name}: render() returned {found}; expected uint8 (height, width, 3)"
            )
        if self._render_size is None:
            return frame.copy()
        from PIL import Image

        side = self._render_size
        return np.array(Image.fromarray(frame).resize((side, side), Image.Resampling.BOX))

    def _info(self, info: dict[str, Any], own_reward: float) -> dict[str, Any]:
        inputs = self._suite.inputs(self.env, own_reward)
        return {
            **info,
            "success": bool(self._suite.success(self.task, inputs)),
            "task": self.task,
            "reward_inputs": inputs,
        }


def _is_ours(space: gymnasium.Space) -> bool:
    """Is it a Dict of `image_CAMERA` and `proprio` already?"""
    return isinstance(space, gymnasium.spaces.Dict) and all(
        key == "proprio" or key.startswith("image_") for key in space.spaces
    )
