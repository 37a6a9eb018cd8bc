"""Turns nested dicts and lists into dataclasses, strictly: errors name key, value, type and origin."""

import dataclasses
import difflib
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meta_latent.errors import Faults, UserError
from meta_latent.experiment.settings.type_hints import (
    Keyed,
    describe,
    hints_of,
    marker_of,
    members_of,
    places_of,
    settings_of,
)
from meta_latent.ranges import Outside, is_filled_in, limits_of

DEFAULTS = "the defaults"
"""What `Origin` says of a value that nothing gave."""
Origin = Callable[[str], str]
"""Says where the value at a dotted key came from, such as a file's path."""
TO_BE_GIVEN = "???"
"""OmegaConf's mark in a template."""

PREPARE = "prepare"
"""Key of a field's metadata: a function that turns short forms of its plain value into the full one."""


class Contradictions(ValueError):
    """What `__post_init__` finds wrong, where that is more than one thing. found: each as a line, with the fields that
    it follows from; where one of these has a fault of its own, the line is not told.
    """

    def __init__(self, found: Sequence[tuple[str, tuple[str, ...]]]):
        super().__init__("\n".join(line for line, _ in found))
        self.found = tuple(found)


def build(schema: type, values: Mapping[str, Any], origin: Origin, key: str = "") -> Any:
    """An instance of the dataclass `schema` from nested `values`.

    Fields may be int, float (an int will do), bool, str, Path, Literal, Optional, unions, list, tuple, dict
    with string keys (`Keyed` too), Any, and dataclasses in any of these. In a union of dataclasses the one
    whose Literal fields fit is taken.
    Raises `UserError` for unknown or missing keys, for values of another type and for those outside a field's
    limits (`meta_latent.ranges`), `UserErrors` where there are several; a `ValueError` from a dataclass's own
    `__post_init__` becomes a `UserError` that names the key, and where the fields it speaks of came from. It is looked
    for where fields are wrong too, with their defaults, and told as far as it speaks of others.
    """
    if not isinstance(values, Mapping):
        raise _mismatch(values, schema, origin, key)
    hints = hints_of(schema)
    fields = {field.name: field for field in settings_of(schema)}
    built, wrong, made = {}, set(), None
    with Faults() as faults:
        for name, value in values.items():
            with faults.noted():
                where = _join(key, name)
                if name not in fields:
                    hint = (not key and _deeper(schema, str(name))) or nearest(str(name), fields, key)
                    raise UserError(f"unknown key {where!r} (in {origin(where)}){hint}")
                built[name] = _setting(fields[name], value, hints[name], origin, where)
        for name in (name for name in values if name not in built):  # a misspelt key means the field it is near to
            wrong |= {name, *difflib.get_close_matches(str(name), fields, n=1)}
        missing = [name for name, field in fields.items() if name not in built and not _has_default(field)]
        for name in (name for name in missing if name not in values):
            with faults.noted():
                where = _join(key, name)
                raise UserError(f"{where} has no value; set it with {where}=... ({describe(hints[name])})")
        try:
            made = None if missing else schema(**built)
        except ValueError as error:
            for line, needed in getattr(error, "found", [(str(error), ())]):
                # Fields that contradict each other may come from different places.
                blamed = [name for name in fields if re.search(rf"\b{name}\b", line)]
                if wrong.intersection((*blamed, *needed)) or (wrong and not blamed):
                    continue
                places = dict.fromkeys(origin(_join(key, name)) for name in blamed) or [origin(key)]
                with faults.noted():
                    raise UserError(f"{key or 'the configuration'} (in {' and '.join(places)}): {line}") from error
    return made


def _has_default(field: dataclasses.Field) -> bool:
    return not field.default is field.default_factory is dataclasses.MISSING


def convert(value: Any, expected: Any, origin: Origin, key: str) -> Any:
    """`value` as the type `expected`, or `UserError`."""
    kind, arguments = typing.get_origin(expected), typing.get_args(expected)
    if isinstance(value, str) and value == TO_BE_GIVEN:
        raise UserError(
            f"{key} is to be given: {value} (in {origin(key)}) stands where somebody has to fill in a value"
        )
    if expected is Any or expected is object:
        return value
    if kind in (typing.Union, types.UnionType):
        return _convert_union(value, expected, origin, key)
    if kind is typing.Literal:
        for choice in arguments:
            if value == choice and type(value) is type(choice):
                return choice
        hint = nearest(value, [a for a in arguments if isinstance(a, str)]) if isinstance(value, str) else ""
        raise _mismatch(value, expected, origin, key, hint)
    if dataclasses.is_dataclass(expected):
        return build(expected, value, origin, key)
    if (kind or expected) in (list, tuple, Sequence):
        return _convert_sequence(value, expected, origin, key)
    if marker := marker_of(expected):
        return _convert_keyed(value, marker, origin, key)
    if (kind or expected) in (dict, Mapping):
        if not isinstance(value, Mapping):
            hint = f", such as {{default: {value}}}" if arguments[1:] == (int,) and isinstance(value, int) else ""
            raise _mismatch(value, expected, origin, key, hint)
        inner, items = arguments[1] if arguments else Any, {}
        with Faults() as faults:
            for name, item in value.items():
                with faults.noted():
                    items[str(name)] = convert(item, inner, origin, _join(key, name))
        return items
    return _convert_scalar(value, expected, origin, key)


def plain(value: Any) -> Any:
    """Nested dicts, lists and scalars of nested dataclasses (tuples become lists, paths strings)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if not is_filled_in(field)]
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def defaults(expected: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    """Plain defaults of the dataclass that `value` will become under `expected`; {} if it is none."""
    structured = [member for member in members_of(expected) if dataclasses.is_dataclass(member)]
    if len(structured) > 1:
        structured = [schema for schema in structured if _fits(schema, value)]
    if len(structured) != 1:
        return {}
    found = {}
    for field in settings_of(structured[0]):
        if field.default is not dataclasses.MISSING:
            found[field.name] = plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = plain(field.default_factory())
    return found


def kind_changes(expected: Any, before: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Whether `value` names another dataclass of a union than `before`, whose keys then count no longer."""
    names = {name for member in members_of(expected) if dataclasses.is_dataclass(member) for name in _kind(member)}
    return any(name in value and name in before and value[name] != before[name] for name in names)


def nearest(name: str, choices: Iterable[str], above: str = "") -> str:
    """End of an error message: "; did you mean 'x'?", whole with the key `above` it; all choices where none is near."""
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {_join(above, close[0])!r}?"
    return f"; choose from {', '.join(choices)}" if choices else ""


def _deeper(schema: type, name: str) -> str:
    """`nearest` of a key that stands at the top, where it is one of a part of `schema`, or is `MEANT` as another."""
    meant = getattr(schema, "MEANT", {}).get(name)
    places = [meant] if meant else places_of(schema, name)
    more = f" or {len(places) - 3} more" if len(places) > 3 else ""
    return f"; did you mean {', '.join(map(repr, places[:3]))}{more}?" if places else ""


def _setting(field: dataclasses.Field, value: Any, expected: Any, origin: Origin, key: str) -> Any:
    """The value of one field: short forms written out, converted, and held against the field's limits."""
    prepare, limits = field.metadata.get(PREPARE), limits_of(field)
    if prepare is not None and (full := prepare(value)) is not value:
        # Its keys are not those that were given: what is inside came from where the short form did.
        place, value = origin(key), full

        def origin(_: str) -> str:
            return place

    value = convert(value, expected, origin, key)
    try:
        return value if limits is None else limits.read(value)
    except Outside as error:
        where = _join(key, error.key)
        if error.is_name:
            got = f"{key} (in {origin(where)}): the name {error.value!r}"
        else:
            got = f"{where}={_shown(plain(error.value))} (in {origin(where)})"
        raise UserError(f"{got} should be {error.expected}") from error


def _shown(value: Any) -> str:
    is_long = isinstance(value, int) and 10**15 <= abs(value) <= sys.float_info.max
    return f"{value:g}" if is_long else repr(value)  # 1e+30, and not its 31 digits


def _convert_union(value: Any, expected: Any, origin: Origin, key: str) -> Any:
    members = members_of(expected)
    if value is None and type(None) in members:
        return None
    exact = [member for member in members if type(value) is member]
    structured = [member for member in members if dataclasses.is_dataclass(member)]
    if isinstance(value, Mapping) and structured:
        return build(_choose(structured, value, origin, key), value, origin, key)
    problems = []
    for member in exact or [m for m in members if m is not type(None)]:
        try:
            return convert(value, member, origin, key)
        except UserError as error:
            problems.append(error)
    raise problems[0] if len(problems) == 1 else _mismatch(value, expected, origin, key)


def _choose(structured: list[Any], value: Mapping[str, Any], origin: Origin, key: str) -> Any:
    """The dataclass of a union whose Literal fields (the field that names the kind) accept `value`."""
    if len(structured) == 1:
        return structured[0]
    kinds: list[Any] = []
    discriminator = ""
    for schema in structured:
        if _fits(schema, value):
            return schema
        for name, choice in _kind(schema).items():
            discriminator = name
            kinds.append(choice)
    if not kinds:
        return structured[0]
    where = _join(key, discriminator)
    got = f"{where}={value.get(discriminator)!r} (in {origin(where)})"
    raise UserError(f"{got}: choose from {', '.join(map(repr, kinds))}")


def _kind(schema: Any) -> dict[str, Any]:
    """Fields of a dataclass that allow one value only, such as `kind: Literal["sac"]`, with that value."""
    choices = {name: typing.get_args(hint) for name, hint in hints_of(schema).items()
               if typing.get_origin(hint) is typing.Literal}  # fmt: skip
    return {name: options[0] for name, options in choices.items() if len(options) == 1}


def _fits(schema: Any, value: Mapping[str, Any]) -> bool:
    kind = _kind(schema)
    return bool(kind) and all(value.get(name) == choice for name, choice in kind.items())


def _convert_sequence(value: Any, expected: Any, origin: Origin, key: str) -> Any:
    kind, arguments = typing.get_origin(expected) or expected, typing.get_args(expected)
    is_fixed = kind is tuple and bool(arguments) and arguments[-1] is not Ellipsis
    if not isinstance(value, list | tuple):
        is_item = isinstance(value, int | float | str) and not is_fixed and {int, float, str}.intersection(arguments)
        raise _mismatch(value, expected, origin, key, f", such as [{value}]" if is_item else "")
    if is_fixed and len(value) != len(arguments):
        raise _mismatch(value, expected, origin, key)
    inner = arguments if is_fixed else [arguments[0] if arguments else Any] * len(value)
    items = []
    with Faults() as faults:
        for i, (item, hint) in enumerate(zip(value, inner, strict=True)):
            with faults.noted():
                items.append(convert(item, hint, origin, _join(key, i)))
    return items if kind is list else tuple(items)


def _convert_keyed(value: Any, marker: Keyed, origin: Origin, key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(value, typing.Annotated[dict[str, Any], marker], origin, key)
    built = {}
    with Faults() as faults:
        for name, item in value.items():
            where = _join(key, name)
            with faults.noted():
                try:
                    schema = marker.schema_of(str(name))
                except KeyError as error:
                    hint = nearest(str(name), map(str, error.args), key)
                    raise UserError(f"unknown key {where!r} (in {origin(where)}){hint}") from error
                built[str(name)] = build(schema, item, origin, where)
    return built


def _convert_scalar(value: Any, expected: Any, origin: Origin, key: str) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if expected is float and is_number and not (isinstance(value, int) and abs(value) > sys.float_info.max):
        return float(value)
    if expected is int and is_number and value == value and abs(value) != float("inf") and value == int(value):
        return int(value)  # 1e6 is how people write a million steps
    if expected in (bool, str) and isinstance(value, expected):
        return value
    if expected is Path and isinstance(value, str | Path):
        return Path(value)
    if expected is type(None) and value is None:
        return None
    raise _mismatch(value, expected, origin, key)


def _mismatch(value: Any, expected: Any, origin: Origin, key: str, hint: str = "") -> UserError:
    quote = f"; quote it: '{key}=\"{value}\"'" if expected is str and isinstance(value, int | float) else ""
    got = f"{key or 'the configuration'}={value!r} (in {origin(key)})"
    return UserError(f"{got} should be {describe(expected)}{hint}{quote}")


def _join(key: str, name: object) -> str:
    return f"{key}.{name}".strip(".")
