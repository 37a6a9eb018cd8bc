"""A run that can stop at any moment and go on bit for bit: named parts, saved and loaded together.

progress = Progress(episodes=0, seconds=0.0)
run = Resumable(folder, {"progress": progress, "streams": streams, "agent": agent, "replay": replay,
                         "log": log})
run.resume()                # True: every part is where the last checkpoint left it
...
run.save()                  # at a moment when nothing is half done
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

from meta_latent.errors import UserError, visible
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.runs.run_folder import CHECKPOINT, RunFolder


class Part(Protocol):
    """What is saved under one name. Four further methods are called where a part has them.

    reset(): begin without a checkpoint; forget what an earlier process left on the disk.
    flush(): bring to the disk what `state` is about to name; before a checkpoint.
    check(state): raise `UserError` if the disk lacks what `state` names; must change nothing.
    prune(*states): delete what neither this part nor one of these earlier states of it names; after a
    checkpoint.
    """

    def state(self) -> Any:
        """What a checkpoint can hold (see `checkpoint.save`)."""

    def load_state(self, state: Any) -> None:
        """Go on from `state()`; what was written to the disk after it may be cut off."""


class Progress(dict):
    """Counters, clocks and lists of plain values, as a part."""

    def state(self) -> dict[str, Any]:
        """A plain dict of the same content."""
        return dict(self)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over the content of `state()`."""
        self.clear()
        self.update(state)


class RunClock:
    """Keeps `seconds` and `cpu_seconds` of a run's `progress`: of the wall, and of all threads of this process, which
    other work on the machine does not add to. Of a run that an earlier version began, which kept none, that is NaN.
    """

    def __init__(self, progress: Progress):
        self._progress = progress
        progress.setdefault("cpu_seconds", math.nan)
        self.go()

    def go(self) -> None:
        """Go on from where `progress` stands; what has passed since it was read does not count."""
        self._wall = time.monotonic() - self._progress["seconds"]
        self._cpu = time.process_time() - self._progress["cpu_seconds"]

    def read(self) -> None:
        """Write into `progress` how long the run has taken by now."""
        self._progress["seconds"] = time.monotonic() - self._wall
        self._progress["cpu_seconds"] = time.process_time() - self._cpu


class Resumable:
    """The parts of one run and its checkpoints: the last one, and the one before it.

    folder: the run's. parts: name -> part, loaded in this order (None: nothing, saved as None). Put what
    owns files last: loading it may cut them, and then every part before it has fitted.
    """

    def __init__(self, folder: RunFolder, parts: Mapping[str, Part | None]):
        self._path = folder.path(CHECKPOINT)
        self._parts = dict(parts)
        self._saved: dict[str, tuple[Any]] = {}

    def save(self) -> None:
        """One atomic checkpoint of every part; the one before it stays loadable, with the files it names.

        Raises `RunError` if the disk is full; the checkpoints there were are then still there.
        """
        self._each("flush")
        state = {name: None if part is None else part.state() for name, part in self._parts.items()}
        if not checkpoint.save(self._path, state):
            return  # nothing is new, and the files of the one before it stay
        for name, part in self._parts.items():
            if hasattr(part, "prune"):
                part.prune(*self._saved.get(name, ()))
        self._remember(state)

    def resume(self) -> bool:
        """Go on from the last checkpoint; False, and every part reset, if there is none.

        Where it does not fit the files on the disk (a damaged or truncated file), the one before it is
        taken, and a line on stderr says so. Raises `UserError` if that does not fit either, or if a
        checkpoint was written by another version; the files are then as they were.
        """
        if not checkpoint.exists(self._path) and not checkpoint.exists(self._path, previous=True):
            self._each("reset")
            return False
        try:
            self._load(previous=False)
        except checkpoint.Misfit:
            raise  # the one before was written by the same version: it fits no better
        except UserError as error:
            self._fall_back(error)
        return True

    def _fall_back(self, newest: UserError) -> None:
        if not checkpoint.exists(self._path, previous=True):
            raise newest
        try:
            self._load(previous=True)
        except UserError as error:
            raise UserError(f"{newest}; the checkpoint before it cannot be used either: {error}") from error
        # The files were cut to its length: from now on the damaged one could only mislead.
        checkpoint.restore_previous(self._path)
        print(
            f"going on from the checkpoint before the last one, because of the last one: {visible(str(newest))}",
            file=sys.stderr,
            flush=True,
        )

    def _load(self, previous: bool) -> None:
        with checkpoint.fitting(self._path, previous) as state:
            for name, part in self._parts.items():
                if hasattr(part, "check"):
                    part.check(state[name])
            for name, part in self._parts.items():
                if part is not None:
                    part.load_state(state[name])
        self._remember(state)

    def _remember(self, state: dict[str, Any]) -> None:
        """For the next `save`: what the checkpoint that is then the one before the last names."""
        self._saved = {name: (state[name],) for name, part in self._parts.items() if hasattr(part, "prune")}

    def _each(self, method: str) -> None:
        for part in self._parts.values():
            if hasattr(part, method):
                getattr(part, method)()
