"""The tagged registry of task distributions, and their Gymnasium ids."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium

from task_suites.distribution import TaskDistribution
from task_suites.errors import SuiteError, choose
from task_suites.task import Task


@dataclass(frozen=True)
class Entry:
    """How to build one distribution: `factory` is a callable or "module:attribute", imported when used."""

    name: str
    factory: Callable[..., TaskDistribution] | str
    tags: frozenset[str]

    def resolve(self) -> Callable[..., TaskDistribution]:
        if callable(self.factory):
            return self.factory
        module, _, attribute = self.factory.partition(":")
        return getattr(importlib.import_module(module), attribute)


_ENTRIES: dict[str, Entry] = {}


def gymnasium_id(name: str) -> str:
    """Return the Gymnasium id of a distribution: "tabletop/reach" -> "task_suites/tabletop-reach-v0"."""
    return f"task_suites/{name.replace('/', '-')}-v0"


def register(name: str, factory: Callable[..., TaskDistribution] | str, tags: tuple[str, ...] = ()) -> None:
    """Register a distribution as `name` ("family/task", lower case) and as a Gymnasium environment.

    factory(name=..., **options) returns the TaskDistribution. Raises SuiteError for a bad or taken name.
    """
    if name != name.lower() or name.count("/") != 1 or not all(name.split("/")) or " " in name:
        raise SuiteError(f"name {name!r}: expected family/task in lower case")
    if name in _ENTRIES:
        raise SuiteError(f"name {name!r} is registered already: choose another")
    _ENTRIES[name] = Entry(name, factory, frozenset(tags) | {name.split("/")[0]})
    # The checker costs more per step than a picture; tests/task_suites runs it on every registered
    # environment.
    gymnasium.register(
        gymnasium_id(name),
        entry_point="task_suites.registry:make_environment",
        kwargs={"name": name},
        disable_env_checker=True,
    )


def names(tag: str | None = None) -> list[str]:
    """Return the sorted names of all distributions, or of those with `tag`. SuiteError: unknown tag."""
    if tag is None:
        return sorted(_ENTRIES)
    choose(tag, {known for entry in _ENTRIES.values() for known in entry.tags}, "tag")
    return sorted(name for name, entry in _ENTRIES.items() if tag in entry.tags)


def tags(name: str) -> list[str]:
    """Return the sorted tags of a distribution. SuiteError: unknown name."""
    return sorted(_ENTRIES[choose(name, _ENTRIES, "task distribution")].tags)


def factory_of(name: str) -> Callable[..., TaskDistribution]:
    """Return what builds a distribution, with its `options_type` if it has one. SuiteError: unknown name."""
    return _ENTRIES[choose(name, _ENTRIES, "task distribution")].resolve()


def options_of(name: str) -> list[str]:
    """Return the names of the options that `get` takes for a distribution. SuiteError: unknown name."""
    factory = factory_of(name)
    signature = inspect.signature(getattr(factory, "options_type", None) or factory).parameters
    return [key for key, value in signature.items() if key != "name" and value.kind is not value.VAR_KEYWORD]


def get(name: str, **options) -> TaskDistribution:
    """Return the distribution `name` with `options`. Raises SuiteError for an unknown name or option."""
    valid = options_of(name)
    for option in options:
        choose(option, valid, f"option of {name}")
    return factory_of(name)(name=name, **options)


def make_environment(
    name: str,
    task: Task | str | None = None,
    split: str = "train",
    task_seed: int = 0,
    render_mode=None,
    **options,
) -> gymnasium.Env:
    """Entry point of `gymnasium.make("task_suites/FAMILY-TASK-v0", ...)`.

    task: a Task or its JSON; without one, a task is sampled from `split` with `task_seed`. `options` go to
    `get`.
    """
    distribution = get(name, **options)
    if task is None:
        task = distribution.sample(split, 1, task_seed)[0]
    env = distribution.make(Task.from_json(task) if isinstance(task, str) else task)
    if render_mode is not None:
        choose(render_mode, env.metadata["render_modes"], "render_mode")
    env.render_mode = render_mode
    return env
