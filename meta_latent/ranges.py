"""What a setting may be, stated once beside its default: `learning_rate: float = positive(3e-4)`.

Each function returns a `dataclasses.field` that carries its limits as metadata; `limits_of` finds them again.
Loading a configuration holds every value against them; a dataclass built in Python is taken as it is.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, Protocol

from meta_latent.errors import UserError

_LIMITS, _FILLED_IN = "limits", "filled in"


class Outside(ValueError):
    """A value that its setting does not admit.

    value: what was got. expected: what is admitted, in words. key: where in the setting ("": the setting
    itself, "1": an item, "goal": a value or, if `is_name`, the name that is meant).
    """

    def __init__(self, value: Any, expected: str, key: str = "", is_name: bool = False):
        self.value, self.expected, self.key, self.is_name = value, expected, key, is_name
        super().__init__(f"{value!r}: expected {expected}")


class Limits(Protocol):
    """What one setting may be."""

    def read(self, value: Any) -> Any:
        """The value to use, of the right type already; None, where the type allows it, stays None. Raises
        `Outside`.
        """


@dataclass(frozen=True)
class Range:
    """Finite numbers from `least` to `most`; above, below: that end itself is left out."""

    least: float
    most: float
    is_whole: bool = False
    above: bool = False
    below: bool = False

    def read(self, value: Any) -> Any:
        """See `Limits`."""
        if value is None:
            return None
        high_enough = value > self.least if self.above else value >= self.least
        low_enough = value < self.most if self.below else value <= self.most
        if not (high_enough and low_enough):  # NaN is neither
            raise Outside(value, str(self))
        return value

    def __str__(self) -> str:
        kind = "a whole number" if self.is_whole else "a number"
        low = f"above {_short(self.least)}" if self.above else f"from {_short(self.least)}"
        return f"{kind} {low} to {'below ' if self.below else ''}{_short(self.most)}"


SEEDS = Range(0, 2**63 - 1, is_whole=True)
"""What 63 bits hold."""


@dataclass(frozen=True)
class Registered:
    """A name that is registered when it is read; names: gives all there are."""

    names: Callable[[], Sequence[str]]

    def read(self, value: Any) -> Any:
        """See `Limits`."""
        if value not in self.names():
            raise Outside(value, str(self))
        return value

    def __str__(self) -> str:
        return f"one of {', '.join(self.names())}; imports=[my_package] registers your own"


@dataclass(frozen=True)
class Items:
    """A list; each: limits of every item. may_be_empty; may_repeat: whether an item may come twice."""

    each: Limits | None = None
    may_be_empty: bool = False
    may_repeat: bool = True

    def read(self, value: Any) -> Any:
        """See `Limits`."""
        if value is None:
            return None
        if not value and not self.may_be_empty:
            raise Outside(list(value), "a list of at least one item")
        if not self.may_repeat:
            for place, item in enumerate(value):
                if item in value[:place]:
                    raise Outside(item, "in the list once", str(place))
        return type(value)(_read_part(self.each, item, str(place)) for place, item in enumerate(value))


@dataclass(frozen=True)
class Entries:
    """A mapping; names: limits of its keys. each: limits of its values."""

    names: Limits | None = None
    each: Limits | None = None

    def read(self, value: Any) -> Any:
        """See `Limits`."""
        for name in value:
            try:
                _read_part(self.names, name, "")
            except Outside as error:
                raise Outside(name, error.expected, name, is_name=True) from error
        return {name: _read_part(self.each, item, name) for name, item in value.items()}


def limited(limits: Limits, default: Any = MISSING, **metadata: Any) -> Any:
    """A field with `limits`; a mapping as default is copied for every instance."""
    known = {_LIMITS: limits, **metadata}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=known)
    return dataclasses.field(default=default, metadata=known)


def limits_of(field: dataclasses.Field) -> Limits | None:
    """The limits that a field states."""
    return field.metadata.get(_LIMITS)


def filled_in(default_factory: Callable[[], Any]) -> Any:
    """A field that code fills in: no setting, so that no configuration may name it or holds it."""
    return dataclasses.field(default_factory=default_factory, metadata={_FILLED_IN: True})


def is_filled_in(field: dataclasses.Field) -> bool:
    """Whether a field is no setting (`filled_in`)."""
    return field.metadata.get(_FILLED_IN, False)


def positive(default: Any = MISSING, most: float = 1e6) -> Any:
    """A number above 0."""
    return limited(Range(0, most, above=True), default)


def nonnegative(default: Any = MISSING, most: float = 1e6) -> Any:
    """A number from 0 on."""
    return limited(Range(0, most), default)


def between(default: Any, least: float, most: float) -> Any:
    """A number within two ends."""
    return limited(Range(least, most), default)


def share(default: Any = MISSING, above: bool = False, below: bool = False) -> Any:
    """A number from 0 to 1; above: not 0 itself. below: not 1 itself."""
    return limited(Range(0, 1, above=above, below=below), default)


def count(default: Any = MISSING, most: int = 10**9, least: int = 1) -> Any:
    """A whole number from 1 on."""
    return limited(Range(least, most, is_whole=True), default)


def whole(default: Any = MISSING, most: int = 10**9) -> Any:
    """A whole number from 0 on."""
    return count(default, most, least=0)


def seed(default: Any = MISSING) -> Any:
    """A seed: a whole number from 0 on that 63 bits hold."""
    return limited(SEEDS, default)


def checked_seed(value: Any, key: str = "seed") -> int:
    """A seed that Python was given, by no configuration: a whole number, numpy's too. Raises UserError."""
    try:
        return SEEDS.read(operator.index(None if isinstance(value, bool) else value))
    except (TypeError, Outside) as error:
        raise UserError(f"{key}={value!r} should be {SEEDS}; of several seeds each is a call of its own") from error


def counts(default: Sequence[int], most: int = 10**9, may_be_empty: bool = False) -> Any:
    """A list of whole numbers from 1 on."""
    return limited(Items(Range(1, most, is_whole=True), may_be_empty), default)


def seeds(default: Sequence[int]) -> Any:
    """A list of different seeds."""
    return limited(Items(SEEDS, may_repeat=False), default)


def numbers(
    default: Sequence[float] | None, least: float, most: float, may_be_empty: bool = False, may_repeat: bool = True
) -> Any:
    """A list of numbers within two ends."""
    return limited(Items(Range(least, most), may_be_empty, may_repeat), default)


def counts_by_name(default: Mapping[str, int], most: int = 10**9) -> Any:
    """A mapping from names to whole numbers from 1 on."""
    return limited(Entries(each=Range(1, most, is_whole=True)), default)


def one_of(names: Callable[[], Sequence[str]], default: Any = MISSING) -> Any:
    """A registered name."""
    return limited(Registered(names), default)


def items(default: Sequence[Any] | None = (), may_be_empty: bool = False, may_repeat: bool = False) -> Any:
    """A list of anything but numbers."""
    return limited(Items(None, may_be_empty, may_repeat), default)


def _read_part(limits: Limits | None, value: Any, key: str) -> Any:
    if limits is None:
        return value
    try:
        return limits.read(value)
    except Outside as error:
        where = f"{key}.{error.key}".strip(".")
        raise Outside(error.value, error.expected, where, error.is_name) from error


def _short(number: float) -> str:
    """1000 and 1e+09, never 1000000000."""
    return f"{number:d}" if isinstance(number, int) and abs(number) < 10**6 else f"{number:g}"
