"""`meta-latent algorithms [NAME]`: the algorithms that are registered; one of them with settings and metrics."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
import sys
import textwrap
import typing
from collections.abc import Iterable, Sequence

from meta_latent.algorithms import registry
from meta_latent.algorithms.registry import Algorithm, Arm
from meta_latent.errors import UserError
from meta_latent.experiment.settings import config, listing, structure, type_hints

_WIDTH, _INDENT = 110, "    "
_COLUMNS = ("algorithm", "arms", "sees", "needs", "clock", "extra")


def run(name: str | None, overrides: Sequence[str]) -> int:
    """Print a table of all algorithms, or what there is to know about `name`.

    overrides: `imports=[package]`, which has been done already. Raises UserError for anything else, and for an
    unknown name.
    """
    for override in overrides:
        key, _ = config.parse_override(override)
        if key != "imports":
            raise UserError(f"{key}= is nothing to show an algorithm with; only imports=[my_package] is, which adds "
                            "your own (settings go to meta-latent transfer)")  # fmt: skip
    print(table() if name is None else describe(name))
    return 0


def table() -> str:
    """One line per algorithm; the name, and why, where one cannot be imported."""
    rows, broken = [_COLUMNS], []
    for name in registry.names():
        try:
            entry = registry.get(name)
        except UserError as error:
            broken.append(str(error))
            continue
        arms = " ".join(f"{name}/{start}" for start in entry.starts)
        rows.append((name, arms, _listed(entry.sees), _listed(entry.needs), entry.clock, _extra(entry)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *broken])


def describe(name: str) -> str:
    """Where the algorithm called `name` is from, its arms, needs, settings and metrics, in lines."""
    entry = registry.get(name)
    seen = _listed(entry.sees)
    facts = [
        ("needs", _listed(entry.needs)),
        ("sees", "observations, its actions" + (f", {seen}" if entry.sees else "")),
        ("adapts", "yes: another agent for every task" if entry.adapts else "no"),
        ("clock", entry.clock),
        ("warm-up", "random episodes come first" if entry.warmup else "none"),
        ("extra", _extra(entry)),
    ]
    sections = [[_origin(entry)], [f"{key + ':':9} {value}" for key, value in facts]]
    sections.append(["arms:", *(_arm(Arm(name, start)) for start in entry.starts)])
    sections.append([f"settings, algorithms.{name}.KEY=VALUE:", *_settings(entry.config)])
    sections.append(["metrics:", *_aligned(entry.metrics.items())])
    if entry.inspects:
        sections.append(["shown along trials:", *_aligned(entry.inspects.items())])
    return "\n\n".join("\n".join(lines) for lines in sections)


def _origin(entry: Algorithm) -> str:
    """The first two paragraphs of what its module says of itself: name, and paper."""
    text = inspect.getdoc(sys.modules[entry.config.__module__]) or listing.written(entry.config)
    return "\n\n".join(text.split("\n\n")[:2])


def _arm(arm: Arm) -> str:
    return f"{_INDENT}{arm!s:26} compared with {arm.base}" if arm.base else f"{_INDENT}{arm}"


def _extra(entry: Algorithm) -> str:
    """The package extra that it needs, "-" if none."""
    if entry.extra is None:
        return "-"
    extra, module = entry.extra
    return extra if importlib.util.find_spec(module) else f"{extra} (not installed)"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "-"


def _settings(schema: type) -> list[str]:
    """Two lines per setting: default and range, then what it means where the docstring says."""
    hints, meant, lines = typing.get_type_hints(schema, include_extras=True), listing.meanings(schema), []
    for field in type_hints.settings_of(schema):
        default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
        shown = json.dumps(structure.plain(default), default=str)
        lines.append(f"{_INDENT}{field.name + ' = ' + shown:34} {listing.expected(field, hints[field.name])}")
        if field.name in meant:
            lines += textwrap.wrap(meant[field.name], _WIDTH, initial_indent=2 * _INDENT,
                                   subsequent_indent=2 * _INDENT)  # fmt: skip
    return lines


def _aligned(pairs: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(pairs)
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{_INDENT}{name:{width}}  {meaning}" for name, meaning in rows] or [f"{_INDENT}none"]
