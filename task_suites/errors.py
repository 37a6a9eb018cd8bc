"""The one error type of the package and how it suggests a valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SuiteError(ValueError):
    """Wrong use of `task_suites`: one line that says what was got, what was expected and what to do."""


def choose(value: object, choices: Iterable[str], what: str) -> str:
    """Return `value` if it is one of `choices`; otherwise raise SuiteError naming the nearest one."""
    choices = sorted(choices)
    if isinstance(value, str) and value in choices:
        return value
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.01)  # nothing is near to ""
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise SuiteError(f"unknown {what} {value!r}{hint} (valid: {', '.join(choices)})")
