"""The one error type of the package and how it suggests a valid choice."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

_ALL, _NEAREST = 16, 6  # a message lists so many choices, or of more the nearest
_NONE: Mapping[str, Any] = MappingProxyType({})


class SuiteError(ValueError):
    """Wrong use of `task_suites`: one line that says what was got, what was expected and what to do."""


def choose(value: object, choices: Iterable[str], what: str) -> str:
    """Return `value` if it is one of `choices`; otherwise raise SuiteError naming the nearest ones."""
    choices = sorted(choices)
    if isinstance(value, str) and value in choices:
        return value
    if not choices:
        raise SuiteError(f"unknown {what} {value!r}: there is none")
    near = difflib.get_close_matches(str(value), choices, n=_NEAREST, cutoff=0.01)  # nothing is near to ""
    hint = f"; did you mean {near[0]!r}?" if near else ""
    shown = choices if len(choices) <= _ALL else [*near, f"{len(choices) - len(near)} more"]
    raise SuiteError(f"unknown {what} {value!r}{hint} (valid: {', '.join(shown)})")


def unfit(function: Callable, arguments: Sequence[str], parameters: Mapping[str, Any] = _NONE) -> str | None:
    """Return why `function` cannot be called with these arguments, here their names, and parameters; None: it can, or
    does not say what it takes, as some built-in and compiled ones.
    """
    try:  # of a decorated function the wrapper is what is called
        signature = inspect.signature(function, follow_wrapped=False)
    except ValueError:
        return None
    try:
        signature.bind(*arguments, **parameters)
    except TypeError as error:
        return f"{error}; it has to take ({', '.join((*arguments, *parameters))}), and takes {signature}"
    return None
