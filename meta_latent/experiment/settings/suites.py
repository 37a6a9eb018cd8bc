"""From a task in a config to distributions, tasks and environments."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import task_suites
from meta_latent.errors import UserError
from meta_latent.experiment.settings.schema import ExperimentConfig, TargetConfig, TaskConfig
from meta_latent.experiment.settings.structure import nearest
from meta_latent.types import Spec


@dataclasses.dataclass(frozen=True)
class BoundTask:
    """A task with the distribution that can make it."""

    name: str
    distribution: task_suites.TaskDistribution
    task: task_suites.Task

    def make(self):
        """A new environment of the task."""
        return self.distribution.make(self.task)

    def references(self) -> tuple[float, float] | None:
        """(floor, reference) raw episode returns; None, so that scores stay raw, where the suite has none."""
        return self.distribution.references(self.task)

    def in_words(self) -> str:
        """What the task pays: recorded by runs, for whoever reads them without the suite."""
        return self.distribution.describe(self.task)

    def object_inputs(self) -> list[int] | None:
        """Places of the reward inputs that locate objects; None where the suite does not say."""
        names = self.distribution.reward_input_names
        return [names.index(name) for name in self.distribution.object_input_names] or None

    def with_distractor_seed(self, seed: int) -> BoundTask:
        """The same task with its distractors drawn anew."""
        drawn = tuple(dataclasses.replace(d, seed=seed + k) for k, d in enumerate(self.task.distractors))
        return dataclasses.replace(self, task=dataclasses.replace(self.task, distractors=drawn))


Bound = BoundTask


def open_distribution(name: str, options: dict) -> task_suites.TaskDistribution:
    """Open `name` with `options`. Raises UserError for an unknown name, SuiteError for a wrong option."""
    require(name)
    return task_suites.get(name, **options)


def require(name: str, key: str = "") -> None:
    """Raise UserError, naming the nearest and the `key` that names it, where there is no distribution called `name`."""
    known = task_suites.names()
    if name not in known:
        said = f"{key}: " if key else ""
        raise UserError(
            f"{said}there is no task distribution {name!r}{nearest(name, known)}; meta-latent tasks lists all, "
            "imports=[my_package] adds your own"
        )


def bind(config: ExperimentConfig, wanted: TaskConfig, name: str = "", key: str = "task") -> BoundTask:
    """Open the distribution of `wanted`, which stands at the dotted `key`, and pick its task, with its distractors or
    else the suite's.

    Raises UserError naming the key of a wrong option, of an unknown suite, of an index that no task has, and of
    distractors that are wrong or whose folder cannot be shown.
    """
    return _bound(_opened(config, wanted, key), wanted, name, key)


def _bound(
    distribution: task_suites.TaskDistribution,
    wanted: TaskConfig,
    name: str,
    key: str,
    asked: str = "",
    among: int = 0,
) -> BoundTask:
    """`bind` where the distribution is open. asked: what below `key` asks for the task's index; "": that itself. among:
    so many tasks are sampled (at least as many as the index takes), of which a family may make an even choice.
    """
    count = len(distribution.tasks(wanted.split))
    if not count:
        raise UserError(f"{key}.split={wanted.split}: {wanted.suite} has 0 {wanted.split} tasks; choose another split")
    if not 0 <= wanted.index < count:
        raise UserError(f"{key}.{asked or f'index={wanted.index}'}: {wanted.suite} has {count} {wanted.split} tasks, "
                        f"expected 0 to {count - 1}")  # fmt: skip
    try:
        sampled = distribution.sample(wanted.split, min(max(among, wanted.index + 1), count), seed=0)
        task = distribution.check(sampled[wanted.index])
    except task_suites.SuiteError as error:
        raise UserError(f"{key}: {error}") from error
    try:  # what was right before can be wrong now because of them only
        given = task_suites.as_distractors([dataclasses.asdict(item) for item in wanted.distractors])
        task = distribution.check(task.replace(distractors=given or task.distractors))
    except task_suites.SuiteError as error:
        raise UserError(f"{key}.distractors: {error}") from error
    return BoundTask(name or (f"{wanted.suite}#{wanted.index}" if wanted.index else wanted.suite), distribution, task)


def bind_source(
    config: ExperimentConfig, place: int, opened: dict[int, task_suites.TaskDistribution] | None = None
) -> BoundTask:
    """The task of number `place` among `config.pretrain.each_source`. Raises UserError: see `bind`.

    opened: distributions of entries of `pretrain.sources`, by number, for whoever binds many: opening one of a user's
    tries all its tasks.
    """
    settings, opened = config.pretrain, {} if opened is None else opened
    number, key = settings.entry_of(place), settings.source_key(place)
    wanted, entry, asked = settings.each_source[place], settings.sources[number], ""
    if wanted.index > entry.index:
        asked = f"tasks={entry.tasks} asks for tasks {entry.index} to {entry.index + entry.tasks - 1}"
    if number not in opened:
        opened[number] = _opened(config, wanted, key)
    return _bound(opened[number], wanted, "", key, asked, entry.index + entry.tasks)


def _opened(
    config: ExperimentConfig, wanted: TaskConfig, key: str, training_options: Mapping[str, Any] = MappingProxyType({})
) -> task_suites.TaskDistribution:
    """The distribution of `wanted`. Raises UserError, with the key of the option that the suite speaks of."""
    require(wanted.suite, f"{key}.suite")
    options, places = {}, {}
    for where, given in (("suite", config.suite), (f"{key}.options", wanted.options),
                         (f"{key}.training_options", training_options)):  # fmt: skip
        options |= given
        places |= {name: f"{where}.{name}" for name in given}  # that of the value which counts
    try:
        return open_distribution(wanted.suite, options)
    except task_suites.SuiteError as error:
        text = str(error)
        named = {name: found.start() for name in places if (found := re.search(rf"\b{re.escape(name)}\b", text))}
        if not named:
            raise UserError(f"{key}: {text}") from error
        blamed = min(named, key=named.__getitem__)  # what else it names is what there is to choose from
        said = text.removeprefix(blamed) if text.startswith(f"{blamed} ") else f": {text}"
        given = places[blamed].removesuffix(f".{blamed}")
        out = f"; {given}={{}} takes out what is set there" if text.endswith("there is none") else ""
        raise UserError(f"{places[blamed]}{said}{out}") from error


@dataclasses.dataclass(frozen=True)
class BoundTarget:
    """What is learned: the tasks that data come from, and those that every evaluation is on (the same one, where
    there is one task). training_tasks: `tasks` with the rewards that policies are trained on, where those are others.
    """

    name: str
    tasks: tuple[BoundTask, ...]
    test_tasks: tuple[BoundTask, ...]
    episodes_per_trial: int
    training_tasks: tuple[BoundTask, ...] = ()

    @property
    def has_trials(self) -> bool:
        """Whether there is something to find out along a trial: which task it is of, or in several episodes."""
        return len(self.tasks) > 1 or self.episodes_per_trial > 1

    @property
    def distribution(self) -> task_suites.TaskDistribution:
        """The distribution that all tasks are of."""
        return self.tasks[0].distribution

    def learned_from(self) -> tuple[task_suites.TaskDistribution, tuple[task_suites.Task, ...]]:
        """The distribution whose rewards policies are trained on, and the test tasks as they are in it."""
        if not self.training_tasks:
            return self.distribution, tuple(task.task for task in self.test_tasks)
        distribution = self.training_tasks[0].distribution
        return distribution, distribution.sample("test", len(self.test_tasks), seed=0)

    def references(self) -> list[tuple[float, float]] | None:
        """(floor, reference) of every test task; None, so that scores stay raw, where one has none."""
        found = [task.references() for task in self.test_tasks]
        return None if None in found else found


def bind_target(config: ExperimentConfig, name: str) -> BoundTarget:
    """The target called `name`. Raises UserError listing the targets there are, or if there are too few tasks."""
    targets = config.transfer.targets
    if not isinstance(name, str) or name not in targets:
        raise UserError(f"target={name!r}; choose from {', '.join(targets)}")
    wanted, key = targets[name], f"transfer.targets.{name}"
    first = bind(config, wanted, name, key)
    if wanted.tasks == 1:
        return BoundTarget(name, (first,), (first,), wanted.episodes_per_trial)
    splits = []
    for split, asked, count in (("train", "tasks", wanted.tasks), ("test", "test_tasks", wanted.test_tasks)):
        there = len(first.distribution.tasks(split))
        if count > there:
            raise UserError(f"{key}.{asked}={count}: {wanted.suite} has {there} {split} tasks; ask for no more")
        sampled = first.distribution.sample(split, count, seed=0)
        splits.append(tuple(
            BoundTask(f"{name}#{split}{i}", first.distribution,
                      first.distribution.check(task.replace(distractors=first.task.distractors)))
            for i, task in enumerate(sampled)))  # fmt: skip
    shared = {task.task for task in splits[0]} & {task.task for task in splits[1]}
    if shared:
        raise UserError(f"target {name}: {len(shared)} tasks of {wanted.suite} are in both splits")
    return BoundTarget(name, *splits, wanted.episodes_per_trial, _training_tasks(config, wanted, key, splits[0]))


def _training_tasks(config: ExperimentConfig, wanted: TargetConfig, key: str, tasks: tuple[BoundTask, ...]):
    """The same tasks under the target's `training_options`. Raises UserError if those change more than rewards, or
    no reward.
    """
    if not wanted.training_options:
        return ()
    distribution, played = _opened(config, wanted, key, wanted.training_options), tasks[0].distribution
    key, what = f"{key}.training_options", "they may change nothing but how the same goals are paid"
    if distribution.max_episode_steps != played.max_episode_steps or Spec.of(distribution) != Spec.of(played):
        raise UserError(f"{key} change episodes or observations of {wanted.suite}; {what}")
    found = []
    for task, other in zip(tasks, distribution.sample("train", len(tasks), seed=0), strict=True):
        mine, theirs = task.task.reward.parameters, other.reward.parameters
        differ = [k for k in mine if k in theirs and k not in wanted.training_options and mine[k] != theirs[k]]
        if differ or task.task.dynamics != other.dynamics:
            raise UserError(f"{key} change {', '.join(differ) or 'dynamics'} of {wanted.suite}'s tasks; {what}")
        found.append(BoundTask(task.name, distribution, other))
    if all(task.task.reward == other.task.reward for task, other in zip(tasks, found, strict=True)):
        raise UserError(f"{key} change no reward of {wanted.suite}; leave them out")
    return tuple(found)


def common_spec(bound: list[BoundTask]) -> Spec:
    """The spec that all tasks share, or a UserError naming the first that differs. Reward inputs that have other names
    in some tasks than in others are called by all of them, as by none could they be told.
    """
    if not bound:
        raise UserError("pretrain.sources is empty: this experiment pretrains nothing; meta-latent transfer runs it")
    spec = Spec.of(bound[0].distribution)
    for other in bound[1:]:
        theirs = Spec.of(other.distribution)
        reason = spec.mismatch(theirs)
        if spec.reward_inputs != theirs.reward_inputs:
            reason = reason or spec.other_inputs(theirs)
        if reason:
            raise UserError(f"{bound[0].name} and {other.name} cannot share a model: {reason}")
    names = zip(*(task.distribution.reward_input_names for task in bound), strict=True)
    return dataclasses.replace(spec, reward_input_names=tuple(" or ".join(dict.fromkeys(each)) for each in names))
