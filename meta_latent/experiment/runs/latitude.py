"""Which settings a run may go on with: those that it stored, but for what may differ or grow."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meta_latent.errors import UserError


@dataclass(frozen=True)
class Latitude:
    """What a run that goes on may have otherwise than it stored.

    may_differ: dotted keys, and all below them, such as "device".
    may_grow: dotted keys of numbers that may be larger than before, such as a budget: a run that had finished has then
    more to do. spent: (folder, key) -> how much of it a run has used, which may be all that it gets; None: all of it.
    completed: adds to stored settings the keys that an older version did not write, see `filled_in`.
    typed: what an override calls a dotted key.
    """

    may_differ: tuple[str, ...] = ()
    may_grow: tuple[str, ...] = ()
    completed: Callable[[dict[str, Any]], dict[str, Any]] = lambda stored: stored
    spent: Callable[[Path, str], float | None] = lambda folder, key: None
    typed: Callable[[str], str] = lambda key: key

    def grows(self, stored: Any, wanted: Any) -> bool:
        """Whether `wanted` asks for more than a run with the settings `stored` was to do."""
        return any(_less(stored, wanted, key) for key in self.may_grow)

    def _has_room(self, folder: Path, wanted: Any, key: str) -> bool:
        """Whether a run that has not used up its own is to end later than where it is."""
        spent, now = self.spent(folder, key), _at(wanted, key)
        return spent is not None and type(now) in (int, float) and spent <= now

    def refuse(self, folder: Path, stored: Any, wanted: Any, advice: str) -> None:
        """Raise UserError if a run with the settings `stored` in `folder` cannot go on with these, naming the key, both
        values and what to do.
        """
        if first_difference(stored, wanted, self.may_differ) is None:
            return
        fits = tuple(key for key in self.may_grow if _less(stored, wanted, key) or self._has_room(folder, wanted, key))
        difference = first_difference(self.completed(stored), wanted, (*self.may_differ, *fits))
        if difference is not None:
            key, before, now = difference
            less = ""
            if key in self.may_grow:
                spent = self.spent(folder, key)
                less = f"it may get more, and not less than {before if spent is None else f'{spent:.0f}'}: "
            key = self.typed(key)
            raise UserError(
                f"{folder} holds a run with {key}={before}, but this command says {key}={now}; {less}{advice}"
            )


NO_LATITUDE = Latitude()


def settings_sha256(config: dict[str, Any], may_differ: tuple[str, ...] = ()) -> str:
    """What two runs have in common exactly if they may be one: of a nested config, without what `may_differ`."""
    leaves = [(key, value) for key, value in _leaves(config) if not _allowed(key, may_differ)]
    return hashlib.sha256(json.dumps(sorted(leaves, key=lambda leaf: leaf[0]), default=str).encode()).hexdigest()


def first_difference(before: Any, now: Any, may_differ: tuple[str, ...] = ()) -> tuple[str, Any, Any] | None:
    """First dotted key at which two nested dicts differ, and both values ("(not set)" if absent), or None."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    for key in [*new, *(key for key in old if key not in new)]:
        if not _allowed(key, may_differ) and (key not in old or key not in new or not _same(old[key], new[key])):
            return key, old.get(key, "(not set)"), new.get(key, "(not set)")
    return None


def filled_in(stored: Any, whole: Any) -> Any:
    """`stored` with what it lacks of `whole`, the same config with every key that this version has; nothing that
    `stored` says is changed.

    A key that was added since is at its default there, and a default does what was done before there was the key: a run
    that lacks it is that of a command which leaves it alone, and of no command that sets it to something else. What
    another version does differently with the same keys, no config tells; `run.json` names the commit.
    """
    if isinstance(stored, dict) and isinstance(whole, dict):
        filled = {key: filled_in(stored.get(key, item), item) for key, item in whole.items()}
        return dict.fromkeys(whole) | stored | filled  # in the order of `whole`
    if isinstance(stored, list) and isinstance(whole, list) and len(stored) == len(whole):
        return [filled_in(*pair) for pair in zip(stored, whole, strict=True)]
    return stored


def _less(stored: Any, wanted: Any, key: str) -> bool:
    before, now = (_at(settings, key) for settings in (stored, wanted))
    return all(type(value) in (int, float) for value in (before, now)) and before < now


def _at(settings: Any, key: str) -> Any:
    for name in key.split("."):
        settings = settings.get(name) if isinstance(settings, dict) else None
    return settings


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple) and value:
        for i, item in enumerate(value):
            yield from _leaves(item, f"{key}[{i}]")
    else:
        yield key, list(value) if isinstance(value, tuple) else value


def _allowed(key: str, may_differ: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith((f"{name}.", f"{name}[")) for name in may_differ)


def _same(a: Any, b: Any) -> bool:
    return a == b or (a != a and b != b)  # NaN equals itself here
