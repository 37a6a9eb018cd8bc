"""Ctrl-C at a safe moment: the loop asks, saves, and then stops. SIGTERM and a lost terminal do the same."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


class Interrupts:
    """`requested` turns true at the first SIGINT, SIGTERM or SIGHUP; a second one stops at once."""

    def __init__(self):
        self.requested = False

    def _note(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        say("stopping at the next safe moment, to save; once more stops at once")


def say(text: str) -> None:
    """One line on stderr, if there is anybody left to read it."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def deferred() -> Iterator[Interrupts]:
    """Within the block an interrupt only sets `requested`; outside the main thread nothing changes."""
    interrupts = Interrupts()
    with _handled(interrupts._note, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield interrupts


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Within the block SIGTERM (a batch system's time limit) and SIGHUP (a lost terminal) raise
    `KeyboardInterrupt`, as SIGINT does. Outside the main thread nothing changes.
    """
    with _handled(signal.default_int_handler, signal.SIGTERM, signal.SIGHUP):
        yield


@contextlib.contextmanager
def held() -> Iterator[None]:
    """What interrupts the block raises `KeyboardInterrupt` at its end; processes that it starts inherit nothing."""
    noted: list[int] = []
    with _handled(lambda number, _: noted.append(number), signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield
    if noted:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _handled(handler: Handler, *numbers: int) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave(terminals)
            signal.signal(number, signal.SIG_IGN)  # a terminal that closes may say so several times
        handler(number, frame)

    before = {n: signal.signal(n, handle) for n in numbers if not _stays_ignored(n)}
    try:
        yield
    finally:
        for number, previous in before.items():
            if not _stays_ignored(number):
                signal.signal(number, previous)


def _stays_ignored(number: int) -> bool:
    """Whether the terminal is gone already, or `nohup` wants the run to outlive it."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


def _leave(terminals: list[int]) -> None:
    """Send what was written to the terminals nowhere: they are gone, and a failed write would end the run."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in terminals:
        os.dup2(null, stream)
    os.close(null)
