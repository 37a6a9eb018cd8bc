"""Any Gymnasium environment as a task distribution: `gymnasium_task`."""

from __future__ import annotations

import contextlib
import functools
import importlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from task_suites.adapted_env import AdaptedEnv, LargestAction, ScaledAction, rendered
from task_suites.distribution import ScriptedPolicy, as_distractors
from task_suites.errors import SuiteError, choose
from task_suites.own_rewards import Entries, Functions, OwnTasks, PaidEnv, Scale, entries_of, functions_of, scale_of
from task_suites.registry import checked_name, register
from task_suites.task import Reward, Task, read_parameters
from task_suites.values import optional_function, whole, words

OWN_REWARD = "own_reward"  # the reward input that holds what the environment itself paid
_PIXELS = ("mujoco", "none", "render")
_MADE: weakref.WeakValueDictionary[int, gymnasium.Env] = weakref.WeakValueDictionary()
"""Users' environments by identity: one that comes again would be two rows at once."""


@dataclass(frozen=True)
class Recipe:
    """What `gymnasium_task` was given; see there."""

    make: str | Callable[..., gymnasium.Env]
    tasks: Entries
    functions: Functions
    reward_inputs: Callable[[Any], Any] | None
    reward_input_names: tuple[str, ...]
    max_episode_steps: int | None
    pixels: str
    keep: tuple[str, ...]
    references: Scale | None


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
    references: tuple[float, float] | None = None,
    pixels: str = "none",
    keep: Iterable[str] = (),
    tags: tuple[str, ...] = (),
) -> None:
    """Register an environment as the task distribution `name` ("family/task", lower case).

    make: its Gymnasium id, also as "package:Name-v0", or make(**dynamics) that returns a new one. `reset(seed=...)`
    must determine the episode.
    Observations: numbers of any shape (they become `proprio`), a picture, or a Dict of `image_CAMERA` and
    `proprio`. Actions: a bounded Box, rescaled to [-1, 1], or Discrete: the largest of n numbers is chosen.
    reward(inputs (..., R), action (..., A), **parameters) -> (...): vectorised, for numpy and torch, replaces
    the environment's own; several by name; None stands for its own, which is then the last reward input.
    reward_inputs(env.unwrapped) -> (R,): what rewards are computed from, called `reward_input_names`; None: nothing.
    tasks: "train" and "test" -> one mapping per task: the reward's parameters, and if wanted "reward" (its
    name), "dynamics" (a mapping for `make`) and "references". Without: one train task. No task is in both.
    success, terminated: as reward, without `action` for success; booleans (default: never). An episode ends
    where `terminated` or the environment says so; what learns in imagination knows `terminated` only.
    scripted(**parameters): a policy. max_episode_steps: None = the id's own.
    references: (floor, reference), the raw episode returns that score 0 and 1, of all tasks whose entries
    give none; None: scores stay raw. `meta-latent tasks NAME references=50` measures them.
    pixels: "none"; "render": what `render()` shows, option image_size; "mujoco": `MujocoPixels`, options
    image_size, cameras, antialias, distractors. keep: geoms or bodies whose colour means something.
    tags: for `task_suites.names(tag)`; "own" and the family are added.
    Raises SuiteError naming what is wrong, when registering or when the distribution is opened: there an
    episode is begun and every function is called once.
    """
    checked_name(name)
    reward_input_names = words(reward_input_names, f"{name}: reward_input_names")
    if len(set(reward_input_names)) < len(reward_input_names):
        raise SuiteError(f"{name}: reward_input_names {reward_input_names!r} name one twice")
    if reward_input_names and reward_inputs is None:
        raise SuiteError(f"{name}: reward_input_names are {reward_input_names!r}, but there is no function that "
                         "returns them: pass reward_inputs=, of env.unwrapped")  # fmt: skip
    recipe = Recipe(
        _maker(make, name),
        entries_of(tasks, name),
        functions_of(name, reward, success, terminated, scripted, environments=True),
        optional_function(reward_inputs, f"{name}: reward_inputs"),
        reward_input_names,
        None if max_episode_steps is None else whole(max_episode_steps, f"{name}: max_episode_steps", 1),
        choose(pixels, _PIXELS, "pixels"),
        words(keep, f"{name}: keep"),
        scale_of(references, f"{name}: references"),
    )
    register(name, _FACTORIES[pixels](recipe), (*words(tags, f"{name}: tags"), "own"))


def _maker(make: Any, name: str) -> str | Callable[..., gymnasium.Env]:
    if not isinstance(make, str) and not callable(make):
        raise SuiteError(f"{name}: make is {make!r}: expected a Gymnasium id, or a function that makes the environment")
    return make


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


class Adapted(OwnTasks):
    """The task distribution that `gymnasium_task` registers."""

    def __init__(self, name: str, recipe: Recipe, options: dict[str, Any], distractors: tuple = ()) -> None:
        super().__init__(name, recipe.functions, recipe.references)
        self.family, self._recipe = name.split("/")[0], recipe
        self.options, self.distractors = options, distractors
        self.shows_distractors = recipe.pixels == "mujoco"
        self._own = None in recipe.functions.rewards.values()
        self.reward_input_names = (*recipe.reward_input_names, *((OWN_REWARD,) if self._own else ()))
        if recipe.reward_inputs is None:
            held = "hold what the environment itself paid and nothing else" if self._own else "are empty"
            self.few_inputs = (f"without reward_inputs= its inputs {held}: pass reward_inputs=, a function of "
                               "env.unwrapped that returns what it reads, and their reward_input_names=")  # fmt: skip
        self.read(recipe.tasks, self._with_dynamics)
        with self._named_errors():
            self._look(next(task for split in ("train", "test") for task in self.tasks(split)))

    def _with_dynamics(self, split: str, entry: dict[str, Any], reward: Reward) -> Task:
        dynamics = entry.pop("dynamics", {})
        if not isinstance(dynamics, Mapping):
            raise SuiteError(f"{self.name}: dynamics is {dynamics!r}: expected a mapping for make")
        return Task(self.family, reward, dynamics=read_parameters(dynamics, f"{self.name}: dynamics"))

    def _look(self, first: Task) -> None:
        """Find out about spaces and lengths in an environment of its own, and try the user's functions."""
        env = self.open(first)
        try:
            self.picture_shape = None
            if self._recipe.pixels == "render":
                env.reset(seed=0)
                self.picture_shape = rendered(env, self.options["image_size"], self.name).shape
            self._built = _spec_of(env, first)
            env = AdaptedEnv(env, self)
            self.action_space, self.observation_space = env.action_space, env.observation_space
            self.max_episode_steps = self._limit(env)
            env.reset(seed=0)
            *_, info = env.step(np.zeros(env.action_space.shape, np.float32))
            self.try_out(info["reward_inputs"])
        finally:
            env.close()

    def _limit(self, env: gymnasium.Env) -> int:
        own = None if env.spec is None else env.spec.max_episode_steps
        limit = own if self._recipe.max_episode_steps is None else self._recipe.max_episode_steps
        return whole(limit, f"{self.name}: max_episode_steps", 1)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Pass on as SuiteError what Gymnasium says is wrong: an unknown id, a missing package."""
        try:
            yield
        except gymnasium.error.Error as error:
            raise SuiteError(f"{self.name}: {' '.join(str(error).split())}") from error

    def open(self, task: Task) -> gymnasium.Env:
        """Return the user's environment of `task` with actions in [-1, 1], and its pictures if MuJoCo's."""
        before = dict(_MADE.items())  # held meanwhile; what `make` itself opens of another suite is none of them
        with self._named_errors():
            env = self._make(task)
        if not isinstance(env, gymnasium.Env):
            raise SuiteError(f"{self.name}: make returned {type(env).__name__}, not a Gymnasium environment")
        if before.get(id(env.unwrapped)) is env.unwrapped:
            raise SuiteError(f"{self.name}: make returned an environment that it returned before: it has to make a new "
                             "one at every call, as several are played side by side")  # fmt: skip
        _MADE[id(env.unwrapped)] = env.unwrapped
        if self._recipe.pixels == "mujoco":
            from task_suites.pixels import MujocoPixels  # imports MuJoCo, which other tasks can do without

            env = MujocoPixels(env, **self.options, distractors=task.distractors, keep=self._recipe.keep)
        space = env.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            return LargestAction(env)
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1 or not space.is_bounded():
            raise SuiteError(
                f"{self.name}: its actions are {space}; expected Discrete or a bounded Box with one dimension"
                f"{_bounded(space)}"
            )
        return ScaledAction(env)

    def _make(self, task: Task) -> gymnasium.Env:
        make, limit = self._recipe.make, self._recipe.max_episode_steps
        try:
            if not isinstance(make, str):
                return make(**task.dynamics)
            make = self._imported(make)
            spec = gymnasium.spec(make)
            creator = spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
            modes = getattr(creator, "metadata", {}).get("render_modes", ())
            shown = {"render_mode": "rgb_array"} if "rgb_array" in modes else {}
            limited = {} if limit is None else {"max_episode_steps": limit}
            return gymnasium.make(make, disable_env_checker=True, **shown, **limited, **task.dynamics)
        except TypeError as error:
            if not task.dynamics:
                raise
            raise SuiteError(f"{self.name}: dynamics {dict(task.dynamics)!r}: {error}") from error

    def _imported(self, given: str) -> str:
        """Return an id without its "package:", which is imported: `gymnasium.spec` takes none."""
        module, _, plain = given.rpartition(":")
        try:
            if module:
                importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise SuiteError(f"{self.name}: make is {given!r}: {error}") from error
        return plain

    def physics(self) -> dict[str, Any]:
        make = self._recipe.make
        named = make if isinstance(make, str) else "; ".join(_words(make))
        return {"environment": named, **({"built": self._built} if self._built else {})}

    def check(self, task: Task) -> Task:
        if super().check(task).parameters:
            given = dict(task.parameters)
            raise SuiteError(f"{self.name}: parameters are {given!r}: expected none, make takes dynamics")
        return task

    def make(self, task: Task) -> gymnasium.Env:
        env = AdaptedEnv(self.open(self.check(task)), self)
        if (env.observation_space, env.action_space) != (self.observation_space, self.action_space):
            raise SuiteError(f"{self.name}: with dynamics {dict(task.dynamics)!r} its spaces are others")
        return PaidEnv(env, self, task)

    def recomputes(self, task: Task, played: Task | None = None) -> bool:
        """Return whether the reward is a function, or what an environment made alike has itself paid."""
        if self.functions.rewards[self.check(task).reward.name] is not None:
            return True
        alike = played is not None and played.reward.name in self.functions.rewards
        return alike and played.dynamics == task.dynamics

    def inputs(self, env: gymnasium.Env, own_reward: float) -> np.ndarray:
        """Return the reward inputs (R,) float32 of the present state. SuiteError: another number of them."""
        read = self._recipe.reward_inputs
        try:
            values = [] if read is None else np.asarray(read(env.unwrapped), np.float32)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            wrong = f"{type(error).__name__}: {error}"
            raise SuiteError(f"{self.name}: reward_inputs(env.unwrapped) failed: {wrong}") from error
        if np.shape(values) != (len(self._recipe.reward_input_names),):
            raise SuiteError(
                f"{self.name}: reward_inputs(env) returned shape {np.shape(values)}, but there are "
                f"{len(self._recipe.reward_input_names)} reward_input_names"
            )
        return np.array([*values, *((own_reward,) if self._own else ())], np.float32)


def _bounded(space: gymnasium.Space) -> str:
    """What to do where actions are numbers without bounds."""
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1 or space.is_bounded():
        return ""
    box = f"gymnasium.spaces.Box(-1, 1, {space.shape})"
    return (f": give the environment an action_space with the bounds that make sense, or let make return "
            f"gymnasium.wrappers.TransformAction(env, lambda action: action, {box})")  # fmt: skip


def _plain(value: Any) -> str:
    """Words for a value that are the same in every process: no addresses in memory."""
    if isinstance(value, bool | int | float | str | None):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_plain(value[key])}' for key in sorted(value, key=str))}}}"
    return getattr(value, "__qualname__", type(value).__qualname__)


def _words(make: Callable) -> list[str]:
    """Words that tell one maker of environments from another: names, and the constants that it uses."""
    if isinstance(make, functools.partial):
        return [*_words(make.func), _plain(make.args), _plain(make.keywords)]
    found, code = [_plain(make)], getattr(make, "__code__", None)
    if code is not None and code.co_name == "<lambda>":  # all have the same name
        cells = [cell.cell_contents for cell in make.__closure__ or ()]
        found += [_plain(part) for part in (code.co_consts, code.co_names, make.__defaults__, cells)]
    return found


def _spec_of(env: gymnasium.Env, task: Task) -> str:
    """Words for the registered environment inside and its settings, but for the task's own dynamics."""
    spec = env.unwrapped.spec
    if spec is None:
        return ""
    varying = {"render_mode", *task.dynamics}
    return f"{spec.id} {_plain({key: spec.kwargs[key] for key in spec.kwargs if key not in varying})}"
