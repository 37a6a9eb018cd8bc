"""Machines of a Ray cluster that die in the middle of a cell: a head without CPUs for cells, and two nodes."""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from meta_latent.experiment.learning.sweep import DEATHS
from meta_latent.experiment.runs import ray_executor
from meta_latent.experiment.runs.processes import Cell
from meta_latent.experiment.runs.scheduler import Policy, run_cells

pytestmark = pytest.mark.cluster
WORK = """
import pathlib, sys, time

def say(what):
    with open("said", "a") as file:
        file.write(f"{sys.argv[1]} {what}\\n")

say("begins")
end = time.monotonic() + 120
while not pathlib.Path("killed").exists() and time.monotonic() < end:
    time.sleep(0.1)
say("ends")
"""


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


def descendants(pid):
    """Process ids of what it started, and of what these did."""
    try:
        found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return found + [each for child in found for each in descendants(child)]


def kill(node):
    """A machine goes, and all that ran on it. Nobody is told: Ray has to find out, and until it has, starts cells there
    again, which are lost as well.
    """
    raylet = node.all_processes["raylet"][0].process.pid
    for pid in (raylet, *descendants(raylet)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_dead_machines_cell_is_taken_over(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said, nodes = tmp_path / "said", [cluster.add_node(num_cpus=1) for _ in range(2)]
    cells = [Cell(name, (sys.executable, "-S", "-c", WORK, name)) for name in "abc"]

    def strike():
        end = time.monotonic() + 120
        while time.monotonic() < end and (not said.exists() or said.read_text().count("begins") < len(nodes)):
            time.sleep(0.1)
        kill(nodes[0])
        (tmp_path / "killed").touch()

    events, thread = [], threading.Thread(target=strike, daemon=True)
    launch = ray_executor.connect(cluster.address, len(nodes))
    thread.start()
    outcome = run_cells(cells, len(nodes), events.append, policy=Policy(launch, deaths=DEATHS))
    thread.join()
    again = [event for event in events if event.kind == "again"]
    assert outcome == dict.fromkeys("abc", "done") and again and "lost" in again[0].last_line
    lines = said.read_text().splitlines()
    assert sorted(line for line in lines if line.endswith("ends")) == ["a ends", "b ends", "c ends"]
    assert len(lines) > 6  # one began twice
