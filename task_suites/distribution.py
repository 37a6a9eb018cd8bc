"""TaskDistribution: where tasks come from, and everything one needs to know to learn them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import gymnasium
import numpy as np

from task_suites import clips
from task_suites import references as committed
from task_suites.errors import SuiteError, choose
from task_suites.rows import LockstepRows, Rows
from task_suites.task import Distractor, Reward, Task, read_distractors
from task_suites.values import Values, read_values, whole

SPLITS = ("train", "test")
CHECKED = 1000
"""Tasks at most that a distribution remembers to have checked."""


class ScriptedPolicy(Protocol):
    """A closed-loop policy on privileged `reward_inputs`; `reset` starts an episode."""

    def reset(self, rng: np.random.Generator) -> None: ...

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray: ...


def as_action(action: Any, size: int) -> np.ndarray:
    """Return `action` as float64 (size,), clipped to [-1, 1]. SuiteError: wrong shape, or not finite."""
    action = np.asarray(action, np.float64)
    if action.shape != (size,):
        raise SuiteError(f"action has shape {action.shape}: expected {size} finite numbers in [-1, 1]")
    if not math.isfinite(action.sum()):
        raise SuiteError(f"action is {action.tolist()}: expected {size} finite numbers in [-1, 1]")
    return action.clip(-1.0, 1.0)


def as_distractors(values: Any) -> tuple[Distractor, ...]:
    """Return what `read_distractors` reads; a folder of videos is read here, so that it fails early."""
    found = read_distractors(values)
    for item in found:
        if item.folder:
            clips.load(item.folder)
    return found


class TaskDistribution(ABC):
    """A named distribution of tasks that share spaces: sample, make, reward, references, scripted.

    Attributes: `name` ("family/task"), `family`, `observation_space`, `action_space`, `max_episode_steps`,
    `reward_input_names` (names of the R entries of `info["reward_inputs"]`), `object_input_names` (those of
    them that locate objects, which a model has to see), `options` (plain values), `options_type` (the
    dataclass of what the constructor takes beside `name`; None: its own arguments), `task_options` (those of
    them that say which tasks are sampled, not how one is made), `workspace` (two of the reward inputs -> (low,
    high): the plane on which what tasks pay makes a map, and the part of it that matters; {}: none),
    `reward_words` (reward name -> what it pays, a format string of its parameters), `antialias_version` (rises
    when smooth pictures become others), `tells_success` (False: nobody said when its tasks are solved, and
    `success` is always False).

    What its tasks may say, and `check` holds them to: `reward_values` (reward name -> its parameters; None:
    the family checks its tasks itself), `scene_values` (of `Task.parameters`), `dynamics_values`,
    `invariant_input_names` (reward inputs that change nothing but themselves, such as how far a body has come).
    """

    name: str
    family: str
    observation_space: gymnasium.spaces.Dict
    action_space: gymnasium.spaces.Box
    max_episode_steps: int
    reward_input_names: tuple[str, ...]
    object_input_names: tuple[str, ...] = ()
    workspace: Mapping[str, tuple[float, float]] = MappingProxyType({})
    reward_words: Mapping[str, str] = MappingProxyType({})
    reward_values: Mapping[str, Values] | None = None
    scene_values: Values = MappingProxyType({})
    dynamics_values: Values = MappingProxyType({})
    options: dict[str, Any]
    options_type: type | None = None
    task_options: tuple[str, ...] = ("distractors",)
    distractors: tuple[Distractor, ...] = ()
    shows_distractors: bool = False
    tells_success: bool = True
    invariant_input_names: tuple[str, ...] = ()
    antialias_version: int = 2

    @abstractmethod
    def tasks(self, split: str) -> tuple[Task, ...]:
        """Return every task of `split` ("train" or "test") in a fixed order, without distractors."""

    @abstractmethod
    def make(self, task: Task) -> gymnasium.Env:
        """Return the environment of `task`; it truncates itself at `max_episode_steps`."""

    def make_vector(self, tasks: Sequence[Task]) -> LockstepRows:
        """Return one environment per task, N in lockstep; repeats are allowed.

        A row plays bit for bit what `make` of its task plays. A family that can step many at once gives a
        faster one.
        """
        return Rows([self.make(task) for task in tasks])

    @abstractmethod
    def reward(self, task: Task, inputs, action):
        """Return what the environment pays (...) for `inputs` (..., R), `action` (..., A), numpy or torch."""

    def recomputes(self, task: Task, played: Task | None = None) -> bool:
        """Return whether `reward` of `task` holds for `reward_inputs` of episodes of `played`.

        None: of any task, and for imagined ones. It always holds for those of `task` itself.
        """
        return True

    @abstractmethod
    def success(self, task: Task, inputs):
        """Return booleans (...): is the task solved in the state that `inputs` (..., R) describe?"""

    @abstractmethod
    def scripted(self, task: Task) -> ScriptedPolicy:
        """Return the closed-loop policy that defines the reference score."""

    def terminated(self, task: Task, inputs, action):
        """Return booleans (...): does the episode end for good here? Never, unless a family says so."""
        return inputs[..., 0] != inputs[..., 0]

    def goal(self, task: Task) -> tuple[float, float] | None:
        """Return where in `workspace` `task` is solved; None where no one place is known."""

    def physics(self) -> dict[str, Any]:
        """Return plain values that determine the dynamics; part of the fingerprint and of reference keys."""
        return {}

    def sample(self, split: str, count: int, seed: int) -> tuple[Task, ...]:
        """Return `count` different tasks of `split`, the same for the same seed.

        Raises SuiteError for an unknown split, if there are fewer than `count` tasks, or if `count` or `seed`
        is no whole number from 1 or 0.
        """
        choose(split, SPLITS, "split")
        count, seed, tasks = whole(count, "count", 0), whole(seed, "seed", 0), self.tasks(split)
        if not 1 <= count <= len(tasks):
            raise SuiteError(
                f"{self.name} has {len(tasks)} {split} task(s); {count} asked for: ask for 1 to {len(tasks)}"
            )
        order = np.random.default_rng(seed).permutation(len(tasks))[:count]
        return tuple(tasks[i].replace(distractors=self.distractors) for i in order)

    def describe(self, task: Task) -> str:
        """Return in words what `task` pays."""
        reward = self.check(task).reward
        words = self.reward_words.get(reward.name)
        if words is None:
            given = ", ".join(f"{key}={value}" for key, value in reward.parameters.items())
            return f"reward {reward.name!r}" + (f" with {given}" if given else "")
        return words.format(**reward.parameters)

    def home(self, task: Task) -> tuple[str, dict[str, Any]]:
        """Return the name whose task `task` is, and its physics: another's where names make each other's."""
        return self.name, self.physics()

    def reference_key(self, task: Task) -> str:
        """Return the key of `task` in the committed references: without distractors, with the physics."""
        task = self._read(self.check(task.replace(distractors=())))
        name, physics = self.home(task)
        plain = {
            "task": json.dumps(task.to_dict(), sort_keys=True),
            "steps": self.max_episode_steps,
            **physics,
        }
        return f"{name} {hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]}"

    def references(self, task: Task) -> tuple[float, float] | None:
        """Return (floor, reference), raw episode returns; None where none are committed for these options."""
        return committed.load().get(self.reference_key(task))

    def task_vector(self, task: Task) -> np.ndarray:
        """Return what `task` says, float32 (P,): the numbers in its reward, scene and dynamics, by name.

        A flag is 0 or 1; a word of those that the family lists is one number per choice, 1 for the chosen;
        other words are left out. An oracle that is told the task reads this. Raises SuiteError if the tasks
        of this distribution do not all have the same names.
        """
        names, values = self._numbered(self.check(task))
        self._held_to(self._task_vector_names, names)
        return np.array(values, np.float32)

    @functools.cached_property
    def _task_vector_names(self) -> tuple[str, ...]:
        """The names of the numbers that every task has."""
        first, *others = (self._numbered(task)[0] for split in SPLITS for task in self.tasks(split))
        for names in others:
            self._held_to(first, names)
        return first

    def _held_to(self, names: tuple[str, ...], found: tuple[str, ...]) -> None:
        if names != found:
            name = sorted(set(names) ^ set(found))[0]
            raise SuiteError(
                f"{self.name}: task_vector: {name} is in some tasks and not in others: a vector needs tasks "
                "that say the same things; choose options or tasks that do"
            )

    def _numbered(self, task: Task) -> tuple[tuple[str, ...], list[float]]:
        """Return (names, values) of the numbers that `task` says, sorted by name."""
        parts = {
            "dynamics": (task.dynamics, self.dynamics_values),
            "reward": (task.reward.parameters, (self.reward_values or {}).get(task.reward.name, {})),
            "scene": (task.parameters, self.scene_values),
        }
        found = {}
        for part, (given, allowed) in parts.items():
            for name, value in given.items():
                choices = getattr(allowed.get(name), "choices", ()) if isinstance(value, str) else (None,)
                for choice in choices:
                    number = float(value if choice is None else value == choice)
                    found[f"{name} of {part}" + ("" if choice is None else f", {choice}")] = number
        return tuple(sorted(found)), [found[name] for name in sorted(found)]

    def fingerprint(self) -> str:
        """Return 12 hex digits that change when physics, images or the layout of vectors change."""
        facts = {
            "family": self.family,
            "physics": self.physics(),
            "options": {key: str(value) for key, value in sorted(self.options.items())},
            "observation": str(self.observation_space),
            "action": str(self.action_space),
            "reward_inputs": list(self.reward_input_names),
        }
        if self.options.get("antialias") and self.antialias_version > 1:  # the first goes unsaid, as before
            facts["antialias"] = self.antialias_version
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    def check(self, task: Task) -> Task:
        """Return `task` if it belongs here. SuiteError: another family's, or it says what it may not say."""
        if not isinstance(task, Task):
            raise SuiteError(f"{self.name}: got {type(task).__name__}, expected a Task")
        if self._checked.get(id(task)) is task:
            return task
        if task.family != self.family:
            raise SuiteError(f"{self.name}: task is of family {task.family!r}, expected {self.family!r}")
        if not self.shows_distractors and any(item.intensity > 0 for item in task.distractors):
            raise SuiteError(f"{self.name}: its pictures have no distractors, got {task.distractors!r}")
        self._read(task)
        if len(self._checked) == CHECKED:
            self._checked.clear()
        self._checked[id(task)] = task
        return task

    @functools.cached_property
    def _checked(self) -> dict[int, Task]:
        """Tasks that belong here, by identity: rewards of every step ask."""
        return {}

    def _read(self, task: Task) -> Task:
        """Return `task` with its numbers as floats. SuiteError: a parameter is missing, unknown or wrong."""
        if self.reward_values is None:
            return task
        name = choose(task.reward.name, self.reward_values, f"reward of {self.name}")
        paid = self.reward_values[name]
        return dataclasses.replace(
            task,
            reward=Reward(name, read_values(task.reward.parameters, paid, f"reward {name!r} of {self.name}")),
            parameters=read_values(task.parameters, self.scene_values, f"parameters of {self.name}"),
            dynamics=read_values(task.dynamics, self.dynamics_values, f"dynamics of {self.name}"),
        )

    def __repr__(self) -> str:
        shown = f" {self.distractors}" if self.distractors else ""
        return f"<{type(self).__name__} {self.name} {self.options}{shown}>"
