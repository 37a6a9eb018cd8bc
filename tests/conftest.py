"""Every test process has one thread, as tiny tensors gain nothing from more, and takes Ctrl-C and SIGHUP as
usual, which a background job of a shell, and all that it starts, would ignore. Tests of an extra that is not
installed are skipped.
"""

import gc
import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "support"))  # what several tests share and is no test
os.environ.setdefault("OMP_NUM_THREADS", "1")
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser):
    """`--device=cuda`: the tests of tests/algorithms let agents learn there."""
    parser.addoption("--device", default="cpu", help="of the agents in tests/algorithms: cpu, cuda or cuda:N")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What importing and collecting make stays to the end: the garbage collector need never look through it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """What takes longest begins first: it would end alone, beside processes that have nothing left."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_runtest_setup(item):
    """Skip tests marked `baselines`, `cluster` or `offline` where stable-baselines3, ray or minari is missing."""
    if item.get_closest_marker("baselines"):
        pytest.importorskip("stable_baselines3", reason="needs the extra `baselines`: make test-baselines")
    if item.get_closest_marker("cluster"):
        pytest.importorskip("ray", reason="needs the extra `cluster`: make test-cluster")
    if item.get_closest_marker("offline"):
        pytest.importorskip("minari", reason="needs the extra `offline`: pip install meta-latent[offline]")
