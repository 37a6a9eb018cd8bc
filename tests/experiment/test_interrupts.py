"""Signals: a run stops at a safe moment, also when its terminal is gone."""

import contextlib
import os
import pty
import signal
import sys
import time

import pytest

from meta_latent.experiment.runs import interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers():
    """What the signals meant before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_one_waits_for_the_loop(number, handlers, capsys):
    with interrupts.deferred() as asked:
        assert not asked.requested
        send(number)
        assert asked.requested
    assert "stopping at the next safe moment" in capsys.readouterr().err
    after = signal.SIG_IGN if number == signal.SIGHUP else handlers[number]
    assert signal.getsignal(number) == after


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_one_stops_at_once(number):
    with pytest.raises(KeyboardInterrupt), interrupts.deferred():
        send(signal.SIGHUP)
        send(number)


def test_a_terminal_that_closes_may_say_so_several_times():
    with interrupts.deferred() as asked:
        for _ in range(3):
            send(signal.SIGHUP)
    assert asked.requested
    send(signal.SIGHUP)  # while the run folder is closed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_raised(number, handlers):
    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        send(number)
    assert signal.getsignal(signal.SIGTERM) == handlers[signal.SIGTERM]


def test_nohup_stays_in_force():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts.raised(), interrupts.deferred() as asked:
        send(signal.SIGHUP)
        assert not asked.requested
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


LOOP = """
import sys, time
from meta_latent.experiment.runs import interrupts
with interrupts.deferred() as asked:
    print("ready", flush=True)
    while not asked.requested:
        time.sleep(0.02)
    for _ in range(100):
        print("an evaluation", flush=True)
        print("a progress bar", file=sys.stderr, flush=True)
    open(sys.argv[1], "w").write("saved")
"""


def test_a_run_whose_terminal_is_gone_still_saves(tmp_path):
    """Every write to it would be an error."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", LOOP, str(tmp_path / "saved")])
    seen = b""
    with contextlib.suppress(OSError):
        while b"ready" not in seen:
            seen += os.read(terminal, 100)
    os.close(terminal)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not os.waitpid(child, os.WNOHANG)[0]:
        time.sleep(0.05)
    assert (tmp_path / "saved").read_text() == "saved"
