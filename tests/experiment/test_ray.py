"""Cells on Ray: the same ends as on this machine. One cluster of two CPUs is started here for all tests."""

import dataclasses
import sys
import time

import pytest

from meta_latent.errors import UserError
from meta_latent.experiment.runs import ray_executor
from meta_latent.experiment.runs.processes import Cell
from meta_latent.experiment.runs.scheduler import Policy, run_cells

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def launch():
    ray = pytest.importorskip("ray")
    yield ray_executor.connect(None, 2)
    ray.shutdown()


def cell(name, code="", after=(), log=None):
    return Cell(name, (sys.executable, "-S", "-c", code), after, log)


def test_dependencies_logs_reasons_and_retries(launch, tmp_path):
    events = []
    code = f"import os, sys; p = {str(tmp_path / 'n')!r}; open(p, 'a').write('x'); sys.exit(os.path.getsize(p) < 2)"
    cells = [
        cell("last", "print('end')", after=("first",)),
        cell("first", "print('begin')", log=tmp_path / "a" / "first.log"),
        cell("bad", "print('working'); raise SystemExit('broken on purpose')"), cell("needs bad", after=("bad",)),
        cell("second try", code),
    ]  # fmt: skip
    outcome = run_cells(cells, 2, events.append, policy=Policy(launch, retries=1))
    assert outcome == {"first": "done", "last": "done", "bad": "failed", "needs bad": "skipped", "second try": "done"}
    assert (tmp_path / "a" / "first.log").read_text() == "begin\n"
    assert {e.last_line for e in events if e.cell.name == "bad" and e.kind == "failed"} == {"broken on purpose"}
    assert [e.last_line for e in events if e.kind == "done" and e.cell.name == "last"] == ["end"]


def test_cells_have_the_environment_and_the_folder_of_the_sweep(launch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OF_THE_SWEEP", "yes")
    code = "import os; open('here', 'w').write(os.environ['OF_THE_SWEEP'] + os.environ['OMP_NUM_THREADS'])"
    assert run_cells([cell("a", code)], 1, policy=Policy(launch)) == {"a": "done"}
    assert (tmp_path / "here").read_text() == "yes1"


def test_a_dead_worker_is_taken_over(launch, tmp_path):
    """The Ray worker dies, at first, together with its cell."""
    code = f"""
import os, pathlib
count = pathlib.Path({str(tmp_path / "n")!r})
count.write_text(count.read_text() + "x" if count.exists() else "x")
if len(count.read_text()) < 3:
    os.kill(os.getppid(), 9); os.kill(os.getpid(), 9)
"""
    events = []
    outcome = run_cells([cell("a", code)], 1, events.append, policy=Policy(launch, deaths=5))
    assert outcome == {"a": "done"} and [e.kind for e in events].count("again") == 2
    assert all("lost" in e.last_line for e in events if e.kind == "again")


def test_an_interrupt_lets_the_cells_save(launch, tmp_path):
    """Although Ray's workers block SIGINT."""
    code = f"""
import sys, time
try: open({str(tmp_path / "started")!r}, "w"); time.sleep(60)
except KeyboardInterrupt: time.sleep(0.5); open({str(tmp_path / "saved")!r}, "w"); sys.exit(130)
"""
    process = launch(cell("a", code))
    while not (tmp_path / "started").exists():
        time.sleep(0.1)
    time.sleep(0.5)
    process.interrupt()
    process.wait()
    assert process.poll() == 130 and (tmp_path / "saved").exists()


def test_a_kill_ends_it(launch):
    process = launch(cell("a", "import time; time.sleep(60)"))
    time.sleep(1)
    process.kill()
    process.wait()
    assert process.poll() != 0


def test_a_cell_takes_all_of_its_cpus(launch, tmp_path):
    """Of two that take both of the cluster's, one waits."""
    code = f"""
import pathlib, time
here = pathlib.Path({str(tmp_path)!r}) / "here"
here.mkdir(); time.sleep(1); here.rmdir()
"""
    cells = [dataclasses.replace(cell(name, code), cpus=2) for name in "ab"]
    assert run_cells(cells, 2, policy=Policy(launch)) == {"a": "done", "b": "done"}


def test_a_cell_that_no_machine_could_run_is_refused(launch):
    with pytest.raises(UserError, match=r"takes 3 CPUs, one for each .*num_workers\), and no machine .* more than 2"):
        ray_executor.connect(None, 2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_sweep_on_ray_is_the_sweep_on_this_machine(launch, toy, tmp_path, workers):
    from meta_latent.experiment.learning import sweep

    found = {}
    for executor in ("local", "ray"):
        source = {"name": "s", "out": str(tmp_path / executor), "sweep": {"of": "toy", "executor": executor}}
        overrides = [*toy.small, "transfer.arms=[ivg/pretrained]", f"pretrain.num_workers={workers}"]
        sweep.run(source, overrides)
        found[executor] = {one.cell.name: toy.outcome(one.folder) for one in sweep.Sweep(source, overrides).planned}
    assert toy.first_difference(found["local"], found["ray"]) is None
