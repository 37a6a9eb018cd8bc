"""Tasks of users: their functions, tried out when a distribution is opened, so that mistakes show early."""

from __future__ import annotations

import inspect
import math
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from task_suites.adapted_env import number
from task_suites.distribution import SPLITS, ScriptedPolicy, TaskDistribution, as_action
from task_suites.errors import SuiteError, choose, unfit
from task_suites.task import Parameters, Reward, Task, read_parameters
from task_suites.values import optional_function

Entries = Mapping[str, tuple[Mapping[str, Any], ...]]
Scale = tuple[float, float]
NAMES = ("Cartesian", "Chebyshev", "Euclidean", "Gaussian", "Hamming", "Huber", "Mahalanobis", "Manhattan")
"""Words of rewards that begin with a capital letter everywhere."""


@dataclass(frozen=True)
class Functions:
    """What a user's tasks pay, of inputs (..., R) and action (..., A); see `gymnasium_task`.

    rewards: name -> reward(inputs, action, **parameters), or None for what the environment itself pays, which
    is then the last input. success(inputs, **parameters), terminated(inputs, action, **parameters),
    scripted(**parameters): None where there is none.
    """

    rewards: Mapping[str, Callable | None]
    success: Callable | None = None
    terminated: Callable | None = None
    scripted: Callable[..., ScriptedPolicy] | None = None

    def reward_of(self, name: str) -> Callable:
        """Return the function called `name`."""
        return self.rewards[name] or _own_reward


def functions_of(
    name: str, reward: Any, success: Any, terminated: Any, scripted: Any, environments: bool = False
) -> Functions:
    """Return what the tasks of the suite `name` pay: a single reward is called as in its source, else like the suite.

    environments: None stands for what the environment itself pays. SuiteError: names what is no function.
    """
    called = getattr(reward, "__name__", "<lambda>")
    single = {name.partition("/")[2] if called == "<lambda>" else called: reward}
    rewards = dict(reward) if isinstance(reward, Mapping) else single
    fit = all(isinstance(key, str) and (callable(one) or environments and one is None) for key, one in rewards.items())
    if not rewards or not fit:
        own = ", or None for what the environment itself pays" * environments
        raise SuiteError(f"{name}: reward is {reward!r}: expected a function, or functions by name{own}")
    others = {"success": success, "terminated": terminated, "scripted": scripted}
    return Functions(rewards, **{what: optional_function(one, f"{name}: {what}") for what, one in others.items()})


def scale_of(references: Any, what: str) -> Scale | None:
    """Return (floor, reference) as floats; None stays. SuiteError: no two numbers, the second larger."""
    if references is None:
        return None
    try:
        floor, reference = (number(value, what) for value in references)
    except (TypeError, ValueError):
        floor = reference = math.nan
    if not (math.isfinite(floor) and math.isfinite(reference) and floor < reference):
        raise SuiteError(
            f"{what} is {references!r}: expected (floor, reference), raw episode returns, the second larger"
        )
    return floor, reference


def entries_of(tasks: Mapping[str, Iterable[Mapping[str, Any]]] | None, name: str) -> Entries:
    """Return the entries of both splits of the suite `name`; None: one train task. SuiteError: what is wrong."""
    found, expected = {}, 'such as {"train": [{"goal": 1.0}, {"goal": 2.0}], "test": [{"goal": 3.0}]}'
    if not isinstance(tasks, Mapping | None):
        raise SuiteError(f"{name}: tasks is {tasks!r}: expected a mapping from split to a list of tasks, {expected}")
    for split, entries in ({"train": ({},)} if tasks is None else tasks).items():
        choose(split, SPLITS, f"split in the tasks of {name}")
        if not isinstance(entries, Iterable) or isinstance(entries, str | Mapping):
            raise SuiteError(f"{name}: tasks: {split} is {entries!r}: expected a list of mappings, {expected}")
        found[split] = tuple(entries)
        for entry in found[split]:
            if not isinstance(entry, Mapping):
                raise SuiteError(f"{name}: tasks: {split} holds {entry!r}: expected a mapping of parameters per task")
    return found


class OwnTasks(TaskDistribution):
    """A distribution of tasks that a user wrote; subclasses hold the environment they are done in.

    Raises SuiteError naming the task or the function that is wrong.
    """

    few_inputs: str | None = None
    """Where nobody said what functions read: what their inputs then are, and what to do."""

    def __init__(self, name: str, functions: Functions, references: Any = None) -> None:
        self.name, self.functions, self.tells_success = name, functions, functions.success is not None
        self._scale, self._scales = scale_of(references, f"{name}: references"), {}
        self._tasks: dict[str, tuple[Task, ...]] = {split: () for split in SPLITS}
        self._fit: set[Reward] = set()
        self._warned = False

    def read(self, entries: Entries, task_of: Callable[[str, dict, Reward], Task]) -> None:
        """Read the tasks. task_of(split, entry, reward) takes out of the entry what is not the reward's."""
        seen: dict[Task, tuple[str, Mapping[str, Any]]] = {}
        for split in SPLITS:
            for entry in entries.get(split, ()):
                task = self._task(split, entry, task_of)
                if task in seen:
                    where, first = seen[task]
                    scenes = [given.get("scene", 0) for given in (first, entry)]
                    same = f" (scenes {scenes[0]} and {scenes[1]} are the same)" * (scenes[0] != scenes[1])
                    raise SuiteError(
                        f"{self.name}: the task {dict(entry)!r} is in {where} and again in {split}{same}: "
                        "tasks differ, and splits share none (a target may be of split train, too)"
                    )
                seen[task] = split, entry
                self._tasks[split] += (task,)
        if not seen:
            raise SuiteError(f"{self.name}: tasks is empty: expected at least one task")

    def _task(self, split: str, entry: Mapping[str, Any], task_of: Callable) -> Task:
        values, rewards = dict(entry), self.functions.rewards
        chosen = values.pop("reward", next(iter(rewards)) if len(rewards) == 1 else None)
        choose(chosen, rewards, f"reward of {self.name}")
        scale = scale_of(values.pop("references", None), f"{self.name}: references of {dict(entry)!r}")
        task = task_of(split, values, Reward(chosen))
        parameters = read_parameters(values, f"{self.name}: the task {dict(entry)!r}")
        task = task.replace(reward=self._fitting(Reward(chosen, parameters)))
        if scale is not None:
            self._scales[task] = scale
        return task

    def _fitting(self, reward: Reward) -> Reward:
        """Return `reward` if every function takes its parameters; looked at once, as every step asks."""
        if reward not in self._fit:
            for what, function, given in self._calls(reward.name):
                if wrong := unfit(function, given, reward.parameters):
                    raise SuiteError(f"{self.name}: {_of(reward, what)}: {wrong}")
            self._fit.add(reward)
        return reward

    def _calls(self, reward: str) -> list[tuple[str, Callable, tuple[str, ...]]]:
        """What is called for a task: words for it, the function, which arrays it takes."""
        functions = self.functions
        calls = [
            (f"reward {reward!r}", functions.reward_of(reward), ("inputs", "action")),
            ("success", functions.success, ("inputs",)),
            ("terminated", functions.terminated, ("inputs", "action")),
            ("scripted", functions.scripted, ()),
        ]
        return [call for call in calls if call[1] is not None]

    def try_out(self, inputs: np.ndarray) -> None:
        """Call the functions of every task on six times `inputs` (R,). SuiteError: names one that is not vectorised."""
        size = self.action_space.shape[0]
        arrays = np.tile(inputs, (2, 3, 1)), np.zeros((2, 3, size), np.float32)
        kinds, torch = [("numpy", arrays)], sys.modules.get("torch")  # never imported here: many do without
        if torch is not None:
            kinds.append(("torch", tuple(map(torch.from_numpy, arrays))))
        rewards = dict.fromkeys(task.reward for split in SPLITS for task in self._tasks[split])
        for reward in rewards:
            for what, function, given in self._calls(reward.name):
                for kind, values in kinds if given else ():
                    self._try(f"{_of(reward, what)}, given {kind} arrays", what == "success" or what == "terminated",
                              function, values[: len(given)], reward.parameters)  # fmt: skip

    def _try(self, what: str, truth: bool, function: Callable, arrays: tuple, parameters: Parameters) -> None:
        shapes = " and ".join(str(tuple(array.shape)) for array in arrays)
        try:
            found = function(*arrays, **parameters)
        except Exception as error:  # whatever a user's function does with arrays it was not made for
            wrong = f"{type(error).__name__}: {error}"
            if isinstance(error, IndexError) and self.few_inputs:
                raise SuiteError(f"{self.name}: {what} of shape {shapes}: {wrong}; {self.few_inputs}") from error
        else:
            kind, shape = str(getattr(found, "dtype", "")), tuple(getattr(found, "shape", ()))
            if not isinstance(found, type(arrays[0])) or shape != (2, 3):
                wrong = f"returned {type(found).__name__} {shape}"
            elif truth != ("bool" in kind):
                wrong = f"returned {kind} instead of {'booleans' if truth else 'floats'}"
            elif not truth and not np.isfinite(np.asarray(found)).all():
                read = zip(self.reward_input_names, np.asarray(arrays[0])[0, 0].tolist(), strict=True)  # as all are
                at = ", ".join(f"{key}={value:.4g}" for key, value in read) or "none"
                first = next(value for value in np.asarray(found).flat if not np.isfinite(value))
                wrong = f"returned {first} where inputs are {at} and actions 0"
                raise SuiteError(f"{self.name}: {what}: {wrong}: numbers have to be finite")
            else:
                return
        raise SuiteError(
            f"{self.name}: {what} of shape {shapes}: {wrong}; expected {type(arrays[0]).__name__} (2, 3): functions "
            "reduce the last dimension alone, and are vectorised over leading ones, for numpy and torch"
        )

    def tasks(self, split: str) -> tuple[Task, ...]:
        return self._tasks[choose(split, SPLITS, "split")]

    def check(self, task: Task) -> Task:
        super().check(task)
        choose(task.reward.name, self.functions.rewards, f"reward of {self.name}")
        self._fitting(task.reward)
        return task

    def reward(self, task: Task, inputs, action):
        name = self.check(task).reward.name
        return self._called(task, f"reward {name!r}", self.functions.reward_of(name), inputs, action)

    def success(self, task: Task, inputs):
        if self.functions.success is None:
            return inputs[..., :0].any(-1)  # never, also where there are no inputs
        return self._called(self.check(task), "success", self.functions.success, inputs)

    def terminated(self, task: Task, inputs, action):
        if self.functions.terminated is None:
            return inputs[..., :0].any(-1)
        return self._called(self.check(task), "terminated", self.functions.terminated, inputs, action)

    def _called(self, task: Task, what: str, function: Callable, *arrays):
        """What a user's function returns. SuiteError: names the task and the function, and what that raised where."""
        try:
            return function(*arrays, **task.reward.parameters)
        except Exception as error:  # whatever it does with what no trial showed it
            place = traceback.extract_tb(error.__traceback__)[-1]
            wrong = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno}, in {place.name})"
            raise SuiteError(f"{self.name}: {_of(task.reward, what)}: {wrong}") from error

    def scripted(self, task: Task) -> ScriptedPolicy:
        if self.functions.scripted is None:
            raise SuiteError(f"{self.name} has no scripted policy; set pretrain.scripted=0")
        return self.functions.scripted(**self.check(task).reward.parameters)

    def references(self, task: Task) -> Scale | None:
        """Return (floor, reference) of the task's own entry, else those of all tasks; None: none given."""
        return self._scales.get(self.check(task).replace(distractors=()), self._scale)

    def describe(self, task: Task) -> str:
        function = self.functions.rewards[self.check(task).reward.name]
        if function is None:
            return "what the environment itself pays"
        words = _in_a_sentence(inspect.getdoc(function) or "")
        return f"{words} ({super().describe(task)})" if words else super().describe(task)

    def warn_of_end(self) -> None:
        """Say once that the environment ends episodes on its own account."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.name}: its environment ended an episode where terminated() says no: what learns in "
                "imagination plays on through such ends. Give a function terminated= with the environment's "
                "rule, or let the environment play on",
                stacklevel=3,
            )


def _of(reward: Reward, what: str) -> str:
    """Words for a function, and for the task that it is called for, where its parameters tell it."""
    return f"task {dict(reward.parameters)!r}, {what}" if reward.parameters else what


def _in_a_sentence(docstring: str) -> str:
    """The first sentence of a docstring as a part of one: without its full stop, and begun with a small letter, but for
    acronyms and names.
    """
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    words = re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph)[0].rstrip(".")
    first = words.partition(" ")[0]
    is_plain = first == "A" or re.fullmatch("[A-Z][a-z]+[,;:]?", first) and first not in NAMES
    return first.lower() + words[len(first) :] if is_plain else words


class PaidEnv(gymnasium.Wrapper):
    """An environment whose info has `reward_inputs`, with the reward, success and end of a user's task.

    Actions (A,) are clipped to [-1, 1]. An episode ends where the environment or the task says so.
    """

    render_mode: str | None = None

    def __init__(self, env: gymnasium.Env, suite: OwnTasks, task: Task) -> None:
        super().__init__(env)
        self.suite, self.task = suite, task

    @property
    def spec(self) -> EnvSpec | None:
        """What `gymnasium.make` makes it from; wrappers inside go unsaid, as the entry point adds them."""
        return self.unwrapped.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._info(info)

    def step(self, action: np.ndarray):
        """Take one step. Raises SuiteError for an action or a reward that is not finite."""
        action = as_action(action, self.action_space.shape[0]).astype(np.float32)
        observation, _, ended, truncated, info = self.env.step(action)
        inputs = info["reward_inputs"]
        reward = float(self.suite.reward(self.task, inputs, action))
        if not math.isfinite(reward):
            raise SuiteError(f"{self.suite.name}: reward {self.task.reward.name!r} is {reward} for {inputs}: expected "
                             f"a finite number, in the task {self.task.to_json()}")  # fmt: skip
        terminated = bool(self.suite.terminated(self.task, inputs, action))
        if ended and not terminated:
            self.suite.warn_of_end()
        terminated = terminated or bool(ended)
        return observation, reward, terminated, bool(truncated) and not terminated, self._info(info)

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        success = bool(self.suite.success(self.task, info["reward_inputs"]))
        return {**info, "success": success, "task": self.task}


def _own_reward(inputs, action):
    return inputs[..., -1]
