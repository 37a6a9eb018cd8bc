"""Runs many cells (subprocesses) side by side: dependencies, retries, progress, orderly Ctrl-C."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from meta_latent.errors import RunError, UserError
from meta_latent.experiment.runs import interrupts
from meta_latent.experiment.runs.processes import Cell, LocalProcess, Process

WRONG_INPUT = 2
"""Exit status of a cell that was asked for what cannot be: it is not tried again."""
INTERRUPTED = 130
"""Exit status of a cell that was told to stop, and saved: no failure of its own."""
_POLL_SECONDS = 0.1
_BUSY_SECONDS = 1.0
_RACES = 20
"""For its folder that a cell may lose."""


def _never(cell: Cell) -> bool:
    return False


def _unknown(waiting: Collection[str], running: Collection[str]) -> None:
    return None


@dataclass(frozen=True)
class Policy:
    """How cells are started, and what follows when one fails.

    launch: starts a cell. retries: how often a cell that failed begins again. deaths: how often one is taken over
    whose process was interrupted, or died of a signal or with its machine. fail_fast: a cell that has failed for good
    stops all. finished: whether somebody has finished a cell already. busy: whether another process works on it; it
    is then waited for. remaining: seconds of the cells that (wait, run), None = unknown. before: how many more cells
    were done before, which count in what is told of all.
    """

    launch: Callable[[Cell], Process] = LocalProcess
    retries: int = 0
    deaths: int = 0
    fail_fast: bool = False
    finished: Callable[[Cell], bool] = _never
    busy: Callable[[Cell], bool] = _never
    remaining: Callable[[Collection[str], Collection[str]], float | None] = _unknown
    before: int = 0


@dataclass(frozen=True)
class Event:
    """What happened to a cell. kind: "started", "done", "failed", "again" (it is tried again), "waits" (another process
    works on it; told once), "found" (somebody had finished it), "interrupted" (it saved and stopped), "skipped" (a cell
    it needs did not finish) or "stopped" (`Policy.fail_fast`).

    exit_status: of a finished cell (negative: killed by that signal). last_line: of its output; of a failed
    one the line that says why. seconds: it ran. standing: of all cells, in words.
    """

    kind: str
    cell: Cell
    exit_status: int | None = None
    last_line: str = ""
    seconds: float = 0.0
    standing: str = ""


@dataclass
class _Running:
    cell: Cell
    process: Process
    slot: int
    started: float = field(default_factory=time.monotonic)
    repeated: str = ""


def run_cells(
    cells: Sequence[Cell],
    workers: int,
    on_event: Callable[[Event], None] | None = None,
    on_line: Callable[[Cell, str], None] | None = None,
    progress: bool | None = None,
    policy: Policy | None = None,
) -> dict[str, str]:
    """Run `cells` on `workers` CPUs and return {name: "done" | "failed" | "interrupted" | "skipped" | "stopped"}.

    A failed cell does not stop the others; cells that need it are skipped (see `Policy`). Ctrl-C, SIGTERM or a
    lost terminal passes SIGINT to the children, waits until they have saved, then raises `KeyboardInterrupt`; a
    second Ctrl-C kills them.
    progress: one line per worker and one in all on stderr; None: only on a terminal. on_line: gets the last line of a
    running cell's output whenever it is another one, where there is no such progress.
    Raises `UserError` for a repeated name, an unknown or circular dependency, or fewer than one worker.
    """
    _check(cells, workers)
    policy = policy or Policy()
    pool = _Pool(cells, workers, on_event or (lambda event: None), policy)
    with interrupts.raised(), _Display(len(cells), policy.before, workers, progress) as display:
        try:
            while pool.waiting or pool.running:
                pool.start()
                display.show(pool.running, len(pool.outcome), pool.standing())
                if on_line is not None and not display.seen:
                    pool.repeat(on_line)
                time.sleep(_POLL_SECONDS)
                pool.collect()
            display.show(pool.running, len(pool.outcome), "")
        except KeyboardInterrupt:
            names = [item.cell.name for item in pool.running]
            more = f" and {len(names) - 4} more" * (len(names) > 4)
            interrupts.say(f"interrupted: waiting for {', '.join(names[:4])}{more} to end what was begun, an update or "
                           "an evaluation, and to save (Ctrl-C again kills them)")  # fmt: skip
            pool.interrupt()
            pool.settle_interrupted()
            raise
        finally:
            for item in pool.running:  # an error of ours, such as one from `on_event`, leaves no orphans
                item.process.kill()
                item.process.wait()
    return pool.outcome


def failure(statuses: Iterable[int | None], text: str) -> UserError | RunError:
    """What to raise where cells failed, or were interrupted, with these exit statuses: wrong input if all are."""
    ended = list(statuses)
    return (UserError if ended and all(status == WRONG_INPUT for status in ended) else RunError)(text)


class _Pool:
    """Which cells wait, run and have ended; `outcome`: of those that have."""

    def __init__(self, cells: Sequence[Cell], workers: int, emit: Callable[[Event], None], policy: Policy):
        self.waiting, self.running, self.outcome = list(cells), [], {}
        self._workers, self._emit, self._policy = workers, emit, policy
        self._failures, self._deaths, self._races = Counter(), Counter(), Counter()
        self._asked: dict[str, float] = {}
        self._count = policy.before + len(cells)

    def start(self) -> None:
        """Settle what needs no process, and start cells as long as workers are free, one for each CPU of a cell. Nobody
        overtakes a cell that waits for several.
        """
        full = False
        for cell in self.waiting[:]:
            results = [self.outcome.get(needed) for needed in cell.after]
            if any(result in ("failed", "interrupted", "skipped") for result in results):
                self._settle(cell, "skipped")
            elif not full and all(result == "done" for result in results):
                full = self._taken(cell) > self._workers - sum(self._taken(item.cell) for item in self.running)
                if not full:
                    self._begin(cell)

    def collect(self) -> None:
        """Take note of the processes that have ended."""
        for item in [item for item in self.running if item.process.poll() is not None]:
            if item not in self.running:  # `_stop` has settled it
                continue
            self.running.remove(item)
            status, line = item.process.poll(), item.process.reason()
            told = {"exit_status": status, "last_line": line, "seconds": time.monotonic() - item.started}
            if status == 0:
                self._settle(item.cell, "done", **told)
            elif self._lost_a_race(item.cell, status, line) or self._again(item.cell, status):
                self.waiting.append(item.cell)
                self._tell("again", item.cell, **told)
            elif status == INTERRUPTED:
                self._settle(item.cell, "interrupted", **told)
            else:
                self._settle(item.cell, "failed", **told)
                if self._policy.fail_fast:
                    self._stop()

    def repeat(self, on_line: Callable[[Cell, str], None]) -> None:
        """Hand on what running cells have said since."""
        for item in self.running:
            line = item.process.last_line
            if line not in ("", item.repeated):
                item.repeated = line
                on_line(item.cell, line)

    def interrupt(self) -> None:
        """Let the running cells save; a second Ctrl-C meanwhile kills them."""
        for item in self.running:
            item.process.interrupt()
        try:
            for item in self.running:
                item.process.wait()
        except KeyboardInterrupt:
            for item in self.running:
                item.process.kill()

    def settle_interrupted(self) -> None:
        """Take note of how long the cells had run that `interrupt` ended."""
        for item in self.running:
            item.process.wait()
            status = item.process.poll()
            kind = "done" if status == 0 else "interrupted" if status == INTERRUPTED or status < 0 else "failed"
            told = {"exit_status": status, "last_line": item.process.reason() if kind == "failed" else "",
                    "seconds": time.monotonic() - item.started}  # fmt: skip
            self._settle(item.cell, kind, **told)
        self.running.clear()

    def standing(self) -> str:
        """How many of how many are done, running, failed, stopped, and the time that is left, in words."""
        ended = Counter(self.outcome.values())
        done = self._policy.before + ended["done"]
        text = f"{done} of {self._count} done, {len(self.running)} running, {ended['failed']} failed"
        text += f", {ended['stopped']} stopped" * bool(ended["stopped"])
        names = [cell.name for cell in self.waiting], [item.cell.name for item in self.running]
        seconds = self._policy.remaining(*names)
        left = "" if not seconds else f", {seconds:.0f} s left" if seconds < 100 else f", {seconds / 60:.0f} min left"
        return text + left

    def _taken(self, cell: Cell) -> int:
        return min(cell.cpus, self._workers)

    def _begin(self, cell: Cell) -> None:
        # Another process may hold a cell for long: its folder is not asked at every turn.
        if time.monotonic() - self._asked.get(cell.name, -_BUSY_SECONDS) < _BUSY_SECONDS:
            return
        if self._policy.busy(cell):
            if cell.name not in self._asked:
                self._tell("waits", cell)
            self._asked[cell.name] = time.monotonic()
        elif self._policy.finished(cell):
            self._settle(cell, "found")
        else:
            self.waiting.remove(cell)
            slot = min(set(range(self._workers)) - {item.slot for item in self.running})
            with interrupts.held():  # between its start and its place in the list nobody would end it
                self.running.append(_Running(cell, self._policy.launch(cell), slot))
            self._tell("started", cell)

    def _lost_a_race(self, cell: Cell, status: int, line: str) -> bool:
        """Whether another process took the cell's folder between our question and its start; by now it may have ended.

        Where that goes on, `Policy.busy` does not see the holder, as where machines do not share locks.
        """
        if status != WRONG_INPUT or not cell.lost_its_folder(line):
            return False
        self._races[cell.name] += 1
        self._asked[cell.name] = time.monotonic()
        return self._races[cell.name] <= _RACES

    def _again(self, cell: Cell, status: int) -> bool:
        policy = self._policy
        killed = status < 0 or status == INTERRUPTED
        counts, most = (self._deaths, policy.deaths) if killed else (self._failures, policy.retries)
        counts[cell.name] += 1
        return status != WRONG_INPUT and counts[cell.name] <= most

    def _stop(self) -> None:
        self.interrupt()
        while self.running:
            item = self.running.pop(0)
            told = {"exit_status": item.process.poll(), "seconds": time.monotonic() - item.started}
            self._settle(item.cell, "done" if item.process.poll() == 0 else "stopped", **told)
        for cell in self.waiting[:]:
            self._settle(cell, "stopped")

    def _settle(self, cell: Cell, kind: str, **told) -> None:
        if cell in self.waiting:
            self.waiting.remove(cell)
        self.outcome[cell.name] = "done" if kind == "found" else kind
        self._tell(kind, cell, **told)

    def _tell(self, kind: str, cell: Cell, **told) -> None:
        self._emit(Event(kind, cell, **told, standing=self.standing()))


def _check(cells: Sequence[Cell], workers: int) -> None:
    if workers < 1:
        raise UserError(f"workers={workers}, expected at least 1")
    for cell in cells:
        for word in (*cell.argv, str(cell.log or "")):
            _check_encoding(word)
    names = Counter(cell.name for cell in cells)
    for name, count in names.items():
        if count > 1:
            raise UserError(f"two cells are called {name!r}")
    for cell in cells:
        for needed in cell.after:
            if needed not in names:
                raise UserError(f"cell {cell.name!r} needs {needed!r}, which is not among the cells")
    settled: set[str] = set()
    while free := [c for c in cells if c.name not in settled and settled.issuperset(c.after)]:
        settled.update(cell.name for cell in free)
    if circle := [name for name in names if name not in settled]:
        raise UserError(f"cells wait for each other in a circle: {', '.join(circle)}")


def _check_encoding(word: str) -> None:
    try:
        os.fsencode(word)
    except UnicodeEncodeError as error:
        raise UserError(
            f"{word!a} cannot be written in this system's encoding, {error.encoding}: set LC_ALL=C.UTF-8 or "
            "use ASCII letters"
        ) from error


class _Display:
    """One tqdm line in all and one per worker, with the last line of its cell's output."""

    def __init__(self, cells: int, before: int, workers: int, progress: bool | None):
        self._before, disable = before, None if progress is None else not progress
        layout = "{desc}: {n_fmt}/{total_fmt}|{bar}| [{elapsed}{postfix}]"  # its own estimate knows no workers
        self._total = tqdm(total=before + cells, initial=before, desc="cells", disable=disable, position=0,
                           bar_format=layout)  # fmt: skip
        layout = {"bar_format": "{desc}", "disable": disable, "leave": False}
        self._lines = [tqdm(total=0, position=i + 1, **layout) for i in range(min(workers, cells))]

    @property
    def seen(self) -> bool:
        """Whether there is a terminal that shows it."""
        return not self._total.disable

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *unused: object) -> None:
        for line in [*reversed(self._lines), self._total]:
            line.close()

    def show(self, running: list[_Running], ended: int, standing: str) -> None:
        """Refresh the line in all, and every worker's."""
        self._total.set_postfix_str(standing, refresh=False)
        self._total.update(self._before + ended - self._total.n)
        for slot, line in enumerate(self._lines):
            item = next((item for item in running if item.slot == slot), None)
            text = "idle"
            if item is not None:
                text = f"{item.cell.name} [{time.monotonic() - item.started:.0f} s] {item.process.last_line}"
            line.set_description_str(f"  {text[:100]}")
