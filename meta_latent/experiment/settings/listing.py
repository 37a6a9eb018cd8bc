"""Settings one by one: what each is, what it may be, what it means, and where its value came from."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meta_latent.experiment.settings import structure, type_hints
from meta_latent.experiment.settings.structure import DEFAULTS, Origin
from meta_latent.ranges import Items, Range, Registered, limits_of

REQUIRED = "none, it is required"
ABSENT = "–"
"""What stands for the value of a key that is not there."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        key: dotted, as an override names it. value, default: plain; default is `REQUIRED` where there is none.
        expected: type and range in words. meaning: "" where nothing says it.
    """

    key: str
    value: Any
    default: Any
    expected: str
    meaning: str


def shown(value: Any) -> str:
    """A plain value as YAML reads it back."""
    return json.dumps(value, default=str)


def settings(instance: Any, key: str = "") -> Iterator[Setting]:
    """Every setting within a config instance, in the order of its fields; `key`: where it stands."""
    meant = meanings(type(instance))
    hints = typing.get_type_hints(type(instance), include_extras=True)
    for field in type_hints.settings_of(type(instance)):
        value, where = getattr(instance, field.name), f"{key}.{field.name}".strip(".")
        inside = _within(value)
        if inside:
            for name, item in inside.items():
                yield from settings(item, f"{where}.{name}".rstrip("."))
            continue
        yield Setting(where, structure.plain(value), structure.plain(_default(field)),
                      expected(field, hints[field.name]), meant.get(field.name, ""))  # fmt: skip


def _within(value: Any) -> dict[str, Any]:
    """Config instances that a setting holds, by the rest of their keys; {} for a value."""
    if dataclasses.is_dataclass(value):
        return {"": value}
    named = value if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, tuple | list) else {}
    held = {str(name): item for name, item in named.items() if dataclasses.is_dataclass(item)}
    return held if len(held) == len(named) else {}


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return REQUIRED if field.default_factory is dataclasses.MISSING else field.default_factory()


def sections(found: list[Setting], key: str) -> list[Setting]:
    """Those at `key` or within it."""
    return [setting for setting in found if setting.key == key or setting.key.startswith(f"{key}.")]


def given(setting: Setting, origin: Origin) -> str | None:
    """Where a value came from that differs from its default; None where it is the default."""
    place = origin(setting.key)
    return None if setting.value == setting.default or place == DEFAULTS else place


def expected(field: dataclasses.Field, hint: Any) -> str:
    """Type and range of a setting in words."""
    limits = limits_of(field)
    if isinstance(limits, Range):
        return str(limits) + (" or null" if type(None) in typing.get_args(hint) else "")
    if isinstance(limits, Registered):
        return str(limits)
    if isinstance(limits, Items) and limits.each is not None:
        return f"a list, each item {limits.each}" + (", or empty" if limits.may_be_empty else "")
    return type_hints.describe(hint)


def meanings(schema: type) -> dict[str, str]:
    """Setting -> what the docstring of its dataclass, or of one it extends, says after "NAME:" or "NAME, NAME:".

    Grouped ones share it.
    """
    found: dict[str, str] = {}
    for base in reversed([kind for kind in schema.__mro__ if dataclasses.is_dataclass(kind)]):
        found |= _told(base)
    return found


def written(schema: type) -> str:
    """The docstring that a dataclass was given; without one, Python makes up "Name(key: type = value)"."""
    text = inspect.cleandoc(schema.__doc__ or "")
    return "" if text.startswith(f"{schema.__name__}(") else text


def _told(schema: type) -> dict[str, str]:
    text = " ".join(written(schema).split())
    name = "`?(?:" + "|".join(re.escape(field.name) for field in dataclasses.fields(schema)) + ")`?"
    heads = list(re.finditer(rf"(?<![\w.])({name}(?:, {name})*): ", text))
    ends, found = [*(head.start() for head in heads), len(text)][1:], {}
    for head, end in zip(heads, ends, strict=False):
        meaning = text[head.end() : end].strip().rstrip(".;")
        found |= dict.fromkeys(head.group(1).replace("`", "").split(", "), meaning)
    return found


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested settings as dotted keys with values as text."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = f"{value:g}" if isinstance(value, float) else str(value)
    return found


def differing(columns: Mapping[str, Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """(key, a value per column) of every key that differs between ``columns``; `ABSENT` where one lacks it."""
    keys = dict.fromkeys(key for settings in columns.values() for key in settings)
    rows = [(key, [settings.get(key, ABSENT) for settings in columns.values()]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]
