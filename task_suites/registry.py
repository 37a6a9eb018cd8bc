"""The tagged registry of task distributions, and their Gymnasium ids."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium

from task_suites.distribution import TaskDistribution
from task_suites.errors import SuiteError, choose
from task_suites.task import Task
from task_suites.values import words


@dataclass(frozen=True)
class Entry:
    """How to build one distribution: `factory` is a callable or "module:attribute", imported when used. module: whose
    code registered it.
    """

    name: str
    factory: Callable[..., TaskDistribution] | str
    tags: frozenset[str]
    module: str

    def resolve(self) -> Callable[..., TaskDistribution]:
        if callable(self.factory):
            return self.factory
        module, _, attribute = self.factory.partition(":")
        return getattr(importlib.import_module(module), attribute)


_NAME = re.compile(r"[a-z0-9_-]+/[a-z0-9_-]+")
_ENTRIES: dict[str, Entry] = {}
_OWN_FAMILIES: set[str] = set()


def gymnasium_id(name: str) -> str:
    """Return the Gymnasium id of a distribution: "tabletop/reach" -> "task_suites/tabletop-reach-v0"."""
    return f"task_suites/{name.replace('/', '-')}-v0"


def register(name: str, factory: Callable[..., TaskDistribution] | str, tags: tuple[str, ...] = ()) -> None:
    """Register a distribution as `name` ("family/task") and as a Gymnasium environment.

    name: lower case letters, digits, _ and -; its family is none of this package's. factory(name=...,
    **options) returns the TaskDistribution. The module that registered a name may do so again, as where a
    notebook's cell is run again: the new one counts. Raises SuiteError for a bad name, or another module's.
    """
    checked_name(name)
    if not callable(factory) and not (isinstance(factory, str) and all(factory.partition(":"))):
        raise SuiteError(f"{name}: factory is {factory!r}: expected a callable, or 'module:attribute'")
    _add(name, factory, words(tags, f"{name}: tags"), _calling_module())


def checked_name(name: Any) -> str:
    """Return `name` if a user may register it. SuiteError: it is no name, or of a family of this package."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SuiteError(f"name {name!r}: expected family/task of lower case letters, digits, _ and -")
    if name.split("/")[0] in _OWN_FAMILIES:
        raise SuiteError(f"name {name!r}: this family is the package's own, choose another")
    return name


def register_own(name: str, place: str, tags: tuple[str, ...], family: str) -> None:
    """Register a distribution of this package, whose tasks are of `family`, which is nobody else's then."""
    _OWN_FAMILIES.update((family, name.split("/")[0]))
    _add(name, place, tags, __package__)


_THROUGH = tuple(f"{__package__}.{part}" for part in ("registry", "adapter", "rewarded"))
"""Modules of this package that register what others give them."""


def _calling_module() -> str:
    """The name of the module whose code registers something: "__main__" of a script or notebook."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _THROUGH:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))


def _add(name: str, factory: Callable[..., TaskDistribution] | str, tags: tuple[str, ...], module: str) -> None:
    taken = next((entry for entry in _ENTRIES.values() if gymnasium_id(entry.name) == gymnasium_id(name)), None)
    if taken is not None:
        if (taken.name, taken.module) != (name, module):
            other = f", as {taken.name!r}" * (taken.name != name)
            raise SuiteError(
                f"name {name!r} is registered already{other}, by the module {taken.module}: choose another"
            )
        gymnasium.registry.pop(gymnasium_id(name), None)  # or it would warn
    # The checker costs more per step than a picture; tests/task_suites runs it on every registered
    # environment.
    gymnasium.register(
        gymnasium_id(name),
        entry_point="task_suites.registry:make_environment",
        kwargs={"name": name},
        disable_env_checker=True,
    )
    _ENTRIES[name] = Entry(name, factory, frozenset(tags) | {name.split("/")[0]}, module)


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


def options_of(name: str) -> dict[str, Any]:
    """Return the options that `get` takes for a distribution, with defaults. SuiteError: unknown name."""
    factory = factory_of(name)
    signature = inspect.signature(getattr(factory, "options_type", None) or factory).parameters
    taken = {key: value for key, value in signature.items() if value.kind is not value.VAR_KEYWORD}
    return {key: value.default for key, value in taken.items() if key != "name"}


def get(name: str, /, **options) -> TaskDistribution:
    """Return the distribution `name` with `options`. Raises SuiteError for an unknown name or option."""
    valid = options_of(name)
    for option in options:
        choose(option, valid, f"option of {name}")
    return factory_of(name)(name=name, **options)


def make_environment(
    name: str,
    task: Task | str | None = None,
    split: str | None = None,
    task_seed: int | None = None,
    render_mode=None,
    **options,
) -> gymnasium.Env:
    """Entry point of `gymnasium.make("task_suites/FAMILY-TASK-v0", ...)`; it plays one task.

    Gymnasium knows the ids once `task_suites` is imported, or as "task_suites:task_suites/FAMILY-TASK-v0".
    task: a Task or its JSON (which `env.spec.to_json()` needs); without one, a task is sampled from `split`
    ("train") with `task_seed` (0). `options` go to `get`; `episode_steps` is the time limit, Gymnasium's only
    shortens it. Raises SuiteError for an option that only says what is sampled beside `task`.
    """
    distribution = get(name, **options)
    if task is None:
        task = distribution.sample("train" if split is None else split, 1, task_seed or 0)[0]
    else:
        given = {**options, "split": split, "task_seed": task_seed}
        for option in ("split", "task_seed", *distribution.task_options):
            if given.get(option) is not None:
                raise SuiteError(f"{option} says which task is sampled, but task is given: leave one out")
    env = distribution.make(task if isinstance(task, Task) else Task.from_json(task))
    if render_mode is not None:
        choose(render_mode, env.metadata["render_modes"], "render_mode")
    env.render_mode = render_mode
    return env
