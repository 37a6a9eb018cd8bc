"""The locomotion task distributions: six bodies; changed dynamics, target velocities, headings and goals."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from task_suites.distribution import ScriptedPolicy, TaskDistribution
from task_suites.errors import SuiteError, choose
from task_suites.locomotion import TASKS, bodies, dynamics, rewards, scripts
from task_suites.locomotion.bodies import BODIES, Body
from task_suites.locomotion.env import OBSERVATIONS, LocomotionEnv, spaces
from task_suites.options import SuiteOptions
from task_suites.task import Parameters, Reward, Task
from task_suites.values import flag, read_values

NAMES = tuple(f"{body}_{task}" for body, tasks in TASKS.items() for task in tasks)
# Lowest and highest target, metres per second.
TARGETS = {
    "half_cheetah": (0.0, 3.0),
    "hopper": (0.0, 2.0),
    "walker2d": (0.0, 3.0),
    "ant": (0.0, 3.0),
    "swimmer": (0.1, 0.2),
}
_EPISODE_STEPS = 200
_GOAL_METRES = 3.0
_CHANGED = ("run", "upright")  # their tasks differ in the dynamics
_PLAYS_ON = ("upright", "goal")  # a fall does not end these, as published
_COUNTS = {"train": 20, "test": 10}


def _draw(body: Body, reward: str, rng: np.random.Generator) -> dict[str, float]:
    """Return the parameters of one more task; of some, of its dynamics: scales, 1.5^-2 to 1.5^2."""
    if reward in _CHANGED:
        return {name: 1.5 ** rng.uniform(-2, 2) for name in dynamics.values(body) if name.endswith("_scale")}
    if reward == "velocity":
        return {"target_metres_per_second": rng.uniform(*TARGETS[body.name])}
    angle = rng.uniform(0, 2 * math.pi)
    if reward == "direction":
        return {"heading_radians": angle}
    radius = _GOAL_METRES * math.sqrt(rng.uniform())
    return {"goal_x_metres": radius * math.cos(angle), "goal_y_metres": radius * math.sin(angle)}


@functools.cache
def _tasks(body: Body, reward: str, split: str, count: int, published_splits: bool) -> tuple[Task, ...]:
    if reward == "direction" and body.axes == 1:
        headings = (0.0, math.pi) if published_splits else {"train": (0.0,), "test": (math.pi,)}[split]
        return tuple(Task(body.name, Reward(reward, {"heading_radians": value})) for value in headings)
    rng, drawn = np.random.default_rng(dynamics.SPLIT_SEED[split]), {}
    while len(drawn) < count:
        values = _draw(body, reward, rng)
        drawn[Parameters({name: dynamics.on_grid(value, split) for name, value in values.items()})] = None
    if reward not in _CHANGED:
        return tuple(Task(body.name, Reward(reward, values)) for values in drawn)
    changed = list(drawn)
    if split == "train":
        changed = [Parameters(), *changed[: count - 1]]
    else:
        changed += [Parameters(disabled_joint=name) for name in bodies.joints(body)]
    return tuple(Task(body.name, Reward(reward), dynamics=values) for values in changed)


@dataclass(frozen=True, kw_only=True)
class LocomotionOptions(SuiteOptions):
    """Options of the locomotion tasks.

    cameras: some of side, top; None = none. episode_steps: None = 200. terminate_when_unhealthy: None = as
    published (a fall ends the episode, except in tasks that pay `upright` or `goal`); True or False for all.
    observation: what `proprio` holds: "compact" (joint positions without the root's place, velocities), "gymnasium"
    (all that the v5 environment shows) or "reward_inputs" (all that rewards see: for imagination); "pictures": there is
    no `proprio`, only what `cameras` show. train_tasks, test_tasks: how many are drawn (None = 20, 10); test tasks of
    `run` and `upright` with a disabled joint come on top; a planar body has just its directions. published_splits: both
    of them in both splits. dynamics: those of every task. changes: of `run` and `upright`, other tasks than
    these: one change each, of these kinds ("mass", "friction", "damping", "strength", "disabled", "reversed") in both
    splits, see `dynamics.family`; train_tasks and test_tasks are then how many of each scale.
    """

    terminate_when_unhealthy: bool | None = None
    observation: str = "compact"
    train_tasks: int | None = None
    test_tasks: int | None = None
    published_splits: bool = False
    dynamics: Mapping[str, Any] | None = None
    changes: Iterable[str] | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(self.observation, OBSERVATIONS, "observation")
        if self.observation == "pictures" and not self.cameras:
            raise SuiteError("observation is pictures, and there are none: name cameras, such as cameras=[side]")
        self._whole("train_tasks", 1, 10_000)
        self._whole("test_tasks", 1, 10_000)
        flag(self.published_splits, "published_splits")
        if self.terminate_when_unhealthy is not None:
            flag(self.terminate_when_unhealthy, "terminate_when_unhealthy")
        if self.dynamics is not None and not isinstance(self.dynamics, Mapping):
            raise SuiteError(f"dynamics is {self.dynamics!r}: expected a mapping, such as mass_scale: 1.5")


class Locomotion(TaskDistribution):
    """Tasks called `name`, "locomotion/BODY_TASK"; all tasks of a body are one family.

    options: those of `LocomotionOptions`. Raises SuiteError naming a wrong one.
    """

    options_type = LocomotionOptions
    task_options = ("distractors", "train_tasks", "test_tasks", "published_splits", "dynamics", "changes")
    reward_words = rewards.WORDS

    def __init__(self, name: str, **options: Any) -> None:
        choose(name.partition("/")[2], NAMES, "locomotion task")
        body, _, self._reward_name = name.partition("/")[2].rpartition("_")
        self.name, self.family, self.body = name, body, BODIES[body]
        given = LocomotionOptions(**options)
        self.reward_input_names = bodies.input_names(self.body)
        if self._reward_name != "goal":
            start = bodies.position_start(self.body)
            self.invariant_input_names = self.reward_input_names[start : start + self.body.axes]
        self.max_episode_steps = given.steps_or(_EPISODE_STEPS)
        self._terminates = given.terminate_when_unhealthy
        counts = {"train": given.train_tasks, "test": given.test_tasks}
        self._changes = self._changes_of(given)
        self._counts = counts if self._changes else {split: counts[split] or _COUNTS[split] for split in counts}
        if self._reward_name == "direction" and self.body.axes == 1:
            given.refuse(("train_tasks", "test_tasks"), f"{name} has one task per direction")
        elif given.published_splits:
            raise SuiteError(f"published_splits: {name} has disjoint splits, only planar directions have not")
        self._published_splits = given.published_splits
        if given.dynamics and self._reward_name in _CHANGED:
            raise SuiteError(f"dynamics: the tasks of {name} differ in their dynamics, there is no common one")
        self.reward_values, self.dynamics_values = rewards.values(self.body), dynamics.values(self.body)
        self._dynamics = read_values(Parameters(given.dynamics or {}), self.dynamics_values, f"dynamics of {name}")
        self.distractors = given.distractors
        self._views = given.views_among(bodies.CAMERAS, default=())
        self.shows_distractors = bool(self._views.cameras)
        self.options = {
            "observation": given.observation,
            "cameras": self._views.cameras,
            "image_size": given.image_size,
            "antialias": given.antialias,
        }
        self.observation_space, self.action_space = spaces(self.body, given.observation, self._views)

    def _changes_of(self, given: LocomotionOptions) -> tuple[str, ...]:
        """Return the kinds of `given.changes`, of which there are none if it is None. SuiteError: a wrong one."""
        if given.changes is None:
            return ()
        if self._reward_name not in _CHANGED:
            raise SuiteError(f"changes: the tasks of {self.name} do not differ in their dynamics, leave it out")
        found = dynamics.read_changes(self.body, given.changes)
        if not dynamics.scaled(found):
            given.refuse(("train_tasks", "test_tasks"), f"changes {list(found)} are as many as joints")
        return found

    def physics(self) -> dict[str, Any]:
        return self._physics(self._reward_name)

    def _physics(self, reward: str) -> dict[str, Any]:
        return {"gymnasium": "v5", "terminates": self._ends(reward)}

    def _ends(self, reward: str) -> bool:
        """Return whether a fall ends an episode that pays `reward`, under whatever name it is made."""
        ends = reward not in _PLAYS_ON if self._terminates is None else self._terminates
        return ends and self.body.heights is not None

    def home(self, task: Task) -> tuple[str, dict[str, Any]]:
        reward = task.reward.name
        return f"locomotion/{self.family}_{reward}", self._physics(reward)

    def tasks(self, split: str) -> tuple[Task, ...]:
        count = self._counts[split]
        if self._changes:
            changed = dynamics.family(self.body, self._changes, split, count)
            return tuple(Task(self.family, Reward(self._reward_name), dynamics=values) for values in changed)
        found = _tasks(self.body, self._reward_name, split, count, self._published_splits)
        return tuple(task.replace(dynamics=self._dynamics) for task in found) if self._dynamics else found

    def check(self, task: Task) -> Task:
        super().check(task)
        rewards.check(self.body, task.reward)
        return task

    def describe(self, task: Task) -> str:
        weights = rewards.WEIGHTS[self.body.name][self.check(task).reward.name]
        contact = " and of contact forces" if weights.contact else ""
        healthy = f", and {weights.healthy:g} a step on its feet" if weights.healthy else ""
        return super().describe(task) + contact + healthy

    def make(self, task: Task) -> LocomotionEnv:
        return LocomotionEnv(
            self.body,
            task,
            self._views,
            observation=self.options["observation"],
            terminates=self._ends(self.check(task).reward.name),
            episode_steps=self.max_episode_steps,
        )

    def reward(self, task: Task, inputs, action):
        return rewards.evaluate(self.body, self.check(task).reward, inputs, action)

    def success(self, task: Task, inputs):
        return rewards.success(self.body, self.check(task).reward, inputs)

    def terminated(self, task: Task, inputs, action):
        if not self._ends(self.check(task).reward.name):
            return super().terminated(task, inputs, action)
        return ~rewards.healthy(self.body, inputs)

    def scripted(self, task: Task) -> ScriptedPolicy:
        return scripts.controller(self.body, self.check(task).reward)
