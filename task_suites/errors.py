"""The one error type of the package and how it suggests a valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_ALL, _NEAREST = 16, 6  # a message lists so many choices, or of more the nearest


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
