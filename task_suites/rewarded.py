"""Rewards of your own on a suite that there is already: `with_rewards`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium

from task_suites import registry
from task_suites.distribution import SPLITS, ScriptedPolicy, TaskDistribution
from task_suites.errors import SuiteError
from task_suites.own_rewards import Entries, Functions, OwnTasks, PaidEnv, Scale, entries_of, functions_of, scale_of
from task_suites.task import Reward, Task
from task_suites.values import whole, words


def with_rewards(
    name: str,
    suite: str,
    *,
    reward: Callable | Mapping[str, Callable],
    tasks: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
    success: Callable | None = None,
    terminated: Callable | None = None,
    scripted: Callable[..., ScriptedPolicy] | None = None,
    references: tuple[float, float] | None = None,
    tags: tuple[str, ...] = (),
) -> None:
    """Register `name` ("family/task"): scenes, physics, pictures and options of `suite`, rewards of yours.

    Functions read the suite's reward inputs (`task_suites.get(suite).reward_input_names`, in their units).
    reward(inputs (..., R), action (..., A), **parameters) -> (...): vectorised, for numpy and torch; several
    by name. success(inputs, **parameters) -> booleans; default: never. terminated(inputs, action,
    **parameters) -> booleans: ends episodes beside the suite's own rule; default: that rule.
    tasks: "train" and "test" -> one mapping per task: the reward's parameters, and if wanted "reward" (its
    name) and "scene": the task of `suite`, numbered as in `sample(split, ..., seed=0)`, whose scene and
    dynamics it has (default 0); it matters only where scenes or dynamics of `suite` differ. Without: one
    train task. scripted(**parameters): a policy.
    references: (floor, reference), raw episode returns that score 0 and 1; a task may give "references" of
    its own; None: scores stay raw. Models, data and tasks fit those of `suite`: they are one family.
    Raises SuiteError naming what is wrong, when registering or when the distribution is opened.
    """
    registry.checked_name(name)
    functions = functions_of(name, reward, success, terminated, scripted)
    _refuse_circle(name, suite)
    tags = (*registry.tags(suite), *words(tags, f"{name}: tags"), "own")
    scale = scale_of(references, f"{name}: references")
    registry.register(name, Recipe(suite, functions, entries_of(tasks, name), scale), tags)


def _refuse_circle(name: str, suite: str) -> None:
    """Raise SuiteError where `suite` is made of `name`, which is registered again."""
    made_of = suite
    while made_of != name:
        factory = registry.factory_of(made_of)
        if not isinstance(factory, Recipe):
            return
        made_of = factory.suite
    raise SuiteError(f"{name}: suite is {suite!r}, which is made of {name!r} itself: choose another name")


@dataclass(frozen=True)
class Recipe:
    """What `with_rewards` was given; called with a name and options of the suite it makes a `Rewarded`."""

    suite: str
    functions: Functions
    tasks: Entries
    references: Scale | None

    @property
    def options_type(self) -> Callable:
        """What takes the options of the suite."""
        factory = registry.factory_of(self.suite)
        return getattr(factory, "options_type", None) or factory

    def __call__(self, name: str, **options: Any) -> Rewarded:
        return Rewarded(name, self, registry.get(self.suite, **options))


OF_THE_SUITE = (
    "family", "observation_space", "action_space", "max_episode_steps", "reward_input_names", "object_input_names",
    "invariant_input_names", "workspace", "scene_values", "dynamics_values", "options", "task_options", "distractors",
    "shows_distractors", "antialias_version",
)  # fmt: skip
"""What rewards do not change of a task distribution."""


class Rewarded(OwnTasks):
    """The task distribution that `with_rewards` registers."""

    def __init__(self, name: str, recipe: Recipe, base: TaskDistribution) -> None:
        super().__init__(name, recipe.functions, recipe.references)
        self._base = base
        for attribute in OF_THE_SUITE:
            setattr(self, attribute, getattr(base, attribute))
        self._any = next(task.reward for split in SPLITS for task in base.tasks(split))
        self.read(recipe.tasks, self._in_scene)
        first = next(task for split in SPLITS for task in self.tasks(split))
        env = base.make(self._theirs(first))
        try:
            self.try_out(env.reset(seed=0)[1]["reward_inputs"])
        finally:
            env.close()

    def _in_scene(self, split: str, entry: dict[str, Any], reward: Reward) -> Task:
        count = len(self._base.tasks(split))
        if not count:
            raise SuiteError(f"{self.name}: {self._base.name} has no {split} tasks: choose another split")
        scene = whole(entry.pop("scene", 0), f"{self.name}: scene", 0, count - 1)
        return self._base.sample(split, count, seed=0)[scene].replace(reward=reward, distractors=())

    def _theirs(self, task: Task) -> Task:
        """The task for the suite, with any reward of its: what it pays is not looked at."""
        return task.replace(reward=self._any)

    def physics(self) -> dict[str, Any]:
        return self._base.physics()

    def check(self, task: Task) -> Task:
        self._base.check(self._theirs(super().check(task)))
        return task

    def make(self, task: Task) -> gymnasium.Env:
        return PaidEnv(self._base.make(self._theirs(self.check(task))), self, task)

    def terminated(self, task: Task, inputs, action):
        theirs = self._base.terminated(self._theirs(self.check(task)), inputs, action)
        return theirs | super().terminated(task, inputs, action)
