"""Ctrl-C at a safe moment: the loop asks, saves, and then stops."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager


class Interrupts:
    """`requested` turns true at the first SIGINT or SIGTERM; a second one stops at once."""

    def __init__(self):
        self.requested = False

    def _note(self, *_):
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print(
            "stopping at the next safe moment, to save; once more stops at once", file=sys.stderr, flush=True
        )


@contextmanager
def deferred():
    """Within the block an interrupt only sets `requested`; outside the main thread nothing changes."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {s: signal.signal(s, interrupts._note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
