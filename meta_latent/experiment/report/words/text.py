"""Numbers and commands as text, the same on the page, in the terminal and in committed results."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meta_latent.experiment.report.statistics.numbers import level

NOTHING = "–"
UNSETTLED = "unsettled"
PROGRAM = "meta-latent"
CLOCKS = {"env_steps": "environment steps", "updates": "updates", "seconds": "seconds"}


def count(value: float | None) -> str:
    """12345.6 -> '12,346'."""
    return NOTHING if value is None else f"{value:,.0f}"


def score(value: float | None) -> str:
    """Two decimals below ten, fewer above, with a true minus sign."""
    if value is None:
        return NOTHING
    text = f"{value:.2f}" if abs(value) < 10 else f"{value:,.1f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


def percent(value: float | None) -> str:
    """0.95 -> '95 %'."""
    return NOTHING if value is None else f"{100 * value:.0f} %"


def threshold(value: float) -> str:
    """All digits that a threshold was given with, with a true minus sign."""
    return level(value).replace("-", "−")


def plain_number(value: Any) -> str:
    """Three digits of a number with a true minus sign; other values as they are, None as '–'."""
    if value is None:
        return NOTHING
    return f"{value:.3g}".replace("-", "−") if isinstance(value, int | float) else str(value)


def true_minus(words: str) -> str:
    """Words with a true minus sign before numbers; hyphens stay."""
    return re.sub(r"(?<![\w.)\-])-(?=\.?\d)", "−", words)


def duration(seconds: float | None) -> str:
    """75 -> '75 s', 600 -> '10 min', 9000 -> '2.5 h'."""
    if seconds is None:
        return NOTHING
    found = unit([seconds])
    return f"{seconds:.0f} s" if found.seconds == 1 else f"{seconds / found.seconds:.3g} {found.name}"


@dataclass(frozen=True)
class Unit:
    """A unit of time, which the head of a table's column names; ``seconds``: how long it is."""

    name: str
    seconds: float

    def show(self, seconds: float | None) -> str:
        """Three digits of so many seconds in this unit, of seconds none after the point: 75 -> '1.25' in min."""
        if seconds is None:
            return NOTHING
        value = seconds / self.seconds
        return f"{value:,.0f}" if value >= (10 if self == SECONDS else 100) else f"{value:.3g}"


def unit(seconds: Sequence[float]) -> Unit:
    """The one unit for a column of times: that in which ``duration`` tells the middle one; seconds for none."""
    middle = sorted(seconds)[(len(seconds) - 1) // 2] if seconds else 0.0
    return next(found for most, found in _UNITS if middle < most)


SECONDS = Unit("s", 1)
_UNITS = ((120, SECONDS), (5400, Unit("min", 60)), (172_800, Unit("h", 3600)), (math.inf, Unit("days", 86_400)))
"""What is below so many seconds is told in which unit."""


def times(value: float | None, lower_bound: bool = False, upper_bound: bool = False) -> str:
    """A ratio: '3.4×', '> 3.4×' for a lower bound, '≤ 0.50×' for an upper one; one of areas may be below 0."""
    if value is None:
        return NOTHING
    text = f"{value:.2f}×" if value < 2 else f"{value:.1f}×" if value < 100 else f"{value:,.0f}×"
    text = "0.00×" if text == "-0.00×" else text.replace("-", "−")
    return ("> " if lower_bound else "≤ " if upper_bound else "") + text


def interval(ends: Sequence[float | None] | None, show=score) -> str:
    """'[low, high]'; an open end is '∞', no interval '–'."""
    if ends is None:
        return NOTHING
    low, high = ends
    return f"[{show(low) if low is not None else '∞'}, {show(high) if high is not None else '∞'}]"


def claim(found: Mapping[str, Any]) -> tuple[str, str]:
    """What may be said of a ratio with its bound and interval (an entry of report.json's ``speedup``), as one statement
    and its detail: a bound that its own interval does not hold up is no headline.
    """
    ratio, ends = found.get("ratio"), found.get("interval")
    if ratio is None:
        return ("unknown" if found.get("reason") else NOTHING), found.get("reason", "")
    least, most = found["lower_bound"], found.get("upper_bound", False)  # older reports did not say
    said = times(ratio, least, most)
    if ends is None:
        return said, "an arm has a single seed"
    low, high = ends
    if low and high is not None:
        return said, f"95 %: {times(low)} to {times(high)}"
    if low and (low >= 1 or not least):
        return said, f"95 %: {times(low)} or more"
    if high is not None and high <= 1:  # part of the samples never arrived, and the others were late too
        return said, f"95 %: {times(high)} or less"
    range_ = f"{times(low)} or more" if low else "open on both sides" if high is None else f"{times(high)} or less"
    return UNSETTLED, f"{said} by the medians; 95 %: {range_}"


def unsettled(found: Mapping[str, Any]) -> bool:
    """Whether `claim` says of a ratio only that it is unsettled: then nothing is said of what it saves."""
    return claim(found)[0] == UNSETTLED


def median(bounds: Sequence[float | None] | None, show=count) -> str:
    """A median known by its bounds ``(low, high)``: exact where they are equal, else '≤ high' where it was held at a
    first evaluation, which leaves 0 for the other bound, 'low to high' where one of its two middle runs was, and
    '> low' where there is no upper bound.
    """
    if bounds is None or bounds[0] is None:
        return NOTHING
    low, high = bounds
    if high is None or math.isinf(high) or high == low:
        return show(low) if high == low else f"> {show(low)}"
    return f"{show(low)} to {show(high)}" if low else f"≤ {show(high)}"


def command(words: Any, without: Collection[str] = ()) -> str:
    """What to type for a recorded ``sys.argv``; ``without``: keys whose overrides are left out. "" = nothing.

    A cell was started as a module of this package, however the user began: it is written as the program.
    """
    if isinstance(words, str):
        return words
    if not isinstance(words, list) or not words:
        return ""
    name = Path(str(words[0])).name
    program = ["python", name] if name.endswith(".py") else [name]
    program = [PROGRAM] if name in ("cli.py", "__main__.py") else program
    kept = [str(word) for word in words[1:] if str(word).partition("=")[0] not in without]
    return shlex.join([*program, *kept])
