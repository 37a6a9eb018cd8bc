"""How single values are checked: options, and what the parameters of a task may be."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from task_suites.errors import SuiteError, choose
from task_suites.task import Parameters, Scalar


def whole(value: Any, what: str, low: int, high: int | None = None) -> int:
    """Return `value` as an int if it is a whole number from `low` to `high`; numpy's count as well.

    Raises SuiteError naming `what` otherwise.
    """
    good = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not good or value < low or (high is not None and value > high):
        raise SuiteError(
            f"{what} is {value!r}: expected a whole number from {low}" + ("" if high is None else f" to {high}")
        )
    return int(value)


def flag(value: Any, what: str) -> bool:
    """Return `value` if it is true or false. SuiteError otherwise, naming `what`."""
    if not isinstance(value, bool):
        raise SuiteError(f"{what} is {value!r}: expected true or false")
    return value


def words(value: Any, what: str) -> tuple[str, ...]:
    """Return the words in `value`, or itself where it is one. SuiteError otherwise, naming `what`."""
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (None,)
    if not all(isinstance(word, str) for word in found):
        raise SuiteError(f"{what} is {value!r}: expected words, such as ('first', 'second')")
    return found


def optional_function(value: Any, what: str) -> Callable | None:
    """Return `value` if it is a function or None. SuiteError otherwise, naming `what`."""
    if value is not None and not callable(value):
        raise SuiteError(f"{what} is {value!r}: expected a function, or None for none")
    return value


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high` (unit in its name); a task may go without it if not `required`."""

    low: float = -math.inf
    high: float = math.inf
    required: bool = True

    def read(self, value: Scalar, what: str) -> float:
        """Return `value` as a float. SuiteError: it is no number, or too small or large."""
        if isinstance(value, bool | str) or not self.low <= value <= self.high:
            limits = "" if math.isinf(self.high) else f" from {self.low:g} to {self.high:g}"
            raise SuiteError(f"{what} is {value!r}, expected a number{limits}")
        return float(value)


@dataclass(frozen=True)
class OneOf:
    """One of `choices`, of their type; a task may go without it if not `required`."""

    choices: tuple[Scalar, ...]
    required: bool = True

    def read(self, value: Scalar, what: str) -> Scalar:
        """Return `value`. SuiteError: it is none of the choices."""
        if isinstance(value, str):
            return choose(value, [item for item in self.choices if isinstance(item, str)], what)
        if not any(value == item and type(value) is type(item) for item in self.choices):
            raise SuiteError(f"{what} is {value!r}, expected one of {self.choices}")
        return value


Values = Mapping[str, Number | OneOf]


def read_values(given: Parameters, allowed: Values, what: str) -> Parameters:
    """Return `given` with its numbers as floats, so that equal ones are written alike.

    Raises SuiteError naming the parameter that is missing, unknown or wrong.
    """
    for name in given:
        if not allowed:
            raise SuiteError(f"{what}: got {name!r}, expected none")
        choose(name, allowed, f"field in {what}")
    for name, item in allowed.items():
        if item.required and name not in given:
            raise SuiteError(f"{what}: {name} is missing")
    return Parameters({name: allowed[name].read(value, f"{name} in {what}") for name, value in given.items()})


FLAG = OneOf((False, True))
