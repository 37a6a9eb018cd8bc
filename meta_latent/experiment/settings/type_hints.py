"""What the types of settings say, before there is a value: which type stands at a key, what is a mapping, in words."""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from meta_latent.ranges import is_filled_in


@dataclasses.dataclass(frozen=True)
class Keyed:
    """Marks a mapping whose value type follows from its key: `Annotated[dict[str, Any], Keyed(schema_of)]`.

    schema_of: key -> dataclass; raises `KeyError(*choices)` for an unknown key. Values are as strict as any
        other; a key that nobody mentions gets no entry, so its reader takes the dataclass's own defaults.
    """

    schema_of: Callable[[str], type]

    def choices(self) -> tuple[str, ...]:
        """The known keys."""
        try:
            self.schema_of("")
        except KeyError as error:
            return tuple(map(str, error.args))
        return ()


def settings_of(schema: type) -> list[dataclasses.Field]:
    """Fields that a configuration may set: all but those that code fills in (`ranges.filled_in`)."""
    return [field for field in dataclasses.fields(schema) if field.init and not is_filled_in(field)]


def type_at(schema: Any, key: str) -> Any:
    """Type that `schema` expects at a dotted key; Any where unknown (`build` reports unknown keys later)."""
    for name in key.split(".") if key else []:
        schema = type_of(schema, name)
    return schema


def type_of(schema: Any, name: str) -> Any:
    """`type_at` of one field, key or place, whose name may hold dots."""
    for member in members_of(schema):
        kind, arguments = typing.get_origin(member) or member, typing.get_args(member)
        if dataclasses.is_dataclass(member):
            hints = hints_of(member)
            if name in hints:
                return hints[name]
        elif marker := marker_of(member):
            try:
                return marker.schema_of(name)
            except KeyError:
                return Any
        elif kind in (dict, Mapping) and arguments:
            return arguments[1]
        elif kind in (list, tuple, Sequence) and arguments and name.isdigit():
            is_fixed = kind is tuple and arguments[-1] is not Ellipsis
            return (arguments[int(name)] if int(name) < len(arguments) else Any) if is_fixed else arguments[0]
    return Any


def places_of(schema: type, name: str) -> list[str]:
    """Dotted keys below the dataclass `schema` whose last part is `name`, those of the least parts first."""
    found, level = [], [("", schema)]
    while level:
        below = [(f"{key}{part}.", inner) for key, expected in level for part, inner in _parts_of(expected)]
        found += [key[:-1] for key, _ in below if key[:-1].rpartition(".")[2] == name]
        level = below
    return found


def _parts_of(expected: Any) -> Iterator[tuple[str, Any]]:
    """Names and types of what a key's value has inside, but for names of the user's choice."""
    for member in members_of(expected):
        if dataclasses.is_dataclass(member):
            hints = hints_of(member)
            yield from ((field.name, hints[field.name]) for field in settings_of(member))
        elif marker := marker_of(member):
            yield from ((name, marker.schema_of(name)) for name in marker.choices())


def holds_mapping(expected: Any) -> bool:
    """Whether values of this type are mappings and never strings, so that a string can name a file."""
    members = members_of(expected)
    if str in members or Any in members or any(typing.get_origin(member) is typing.Literal for member in members):
        return False
    return is_open_mapping(expected) or any(map(dataclasses.is_dataclass, members))


def is_open_mapping(expected: Any) -> bool:
    """Whether values of this type are mappings with keys of the user's choice."""
    return any(
        marker_of(member) or (typing.get_origin(member) or member) in (dict, Mapping) for member in members_of(expected)
    )


def is_entry(expected: Any, inner: Any) -> bool:
    """Whether a value of type `inner` in one of type `expected` has a key of the user's choice, and is never null."""
    return is_open_mapping(expected) and not {Any, object, type(None)}.intersection(members_of(inner))


def describe(expected: Any) -> str:
    """Type in words for an error message."""
    if typing.get_origin(expected) is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(expected))
    members = members_of(expected)
    if len(members) > 1:
        return " or ".join(describe(member) for member in members)
    if expected is type(None):
        return "null"
    if dataclasses.is_dataclass(expected):
        return f"a mapping with the keys {', '.join(field.name for field in settings_of(expected))}"
    kind, arguments = typing.get_origin(expected) or expected, typing.get_args(expected)
    if is_open_mapping(expected):
        typed = kind is not typing.Annotated and len(arguments) > 1 and arguments[1] is not Any
        return f"a mapping, each value {describe(arguments[1])}" if typed else "a mapping"
    if kind in (list, tuple, Sequence):
        if kind is tuple and arguments and arguments[-1] is not Ellipsis:
            return f"a list of {len(arguments)}: {', '.join(map(describe, arguments))}"
        return f"a list, each item {describe(arguments[0])}" if arguments else "a list"
    return expected.__name__ if isinstance(expected, type) and not typing.get_args(expected) else str(expected)


@functools.cache
def hints_of(schema: type) -> dict[str, Any]:
    """The types of a dataclass's fields, with what they are annotated with."""
    return typing.get_type_hints(schema, include_extras=True)


def marker_of(expected: Any) -> Keyed | None:
    """The `Keyed` of an annotated mapping; None for every other type."""
    if typing.get_origin(expected) is not typing.Annotated:
        return None
    return next((item for item in typing.get_args(expected)[1:] if isinstance(item, Keyed)), None)


def members_of(expected: Any) -> tuple[Any, ...]:
    """The members of a union; a tuple of itself for every other type."""
    return typing.get_args(expected) if typing.get_origin(expected) in (typing.Union, types.UnionType) else (expected,)
