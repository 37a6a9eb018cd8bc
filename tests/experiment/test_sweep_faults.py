"""Sweeps under kill -9, full disks and damaged checkpoints: nothing that was saved is lost, no cell runs twice.

The sweep is the toy experiment in its smallest form: one pretraining, four cells on two workers.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest

from meta_latent.experiment.learning import cells, sweep
from meta_latent.experiment.runs import run_folder
from meta_latent.experiment.settings import config

pytestmark = pytest.mark.slow
ROUNDS = 8


def write(toy, out, arms=("ivg/pretrained", "ivg/scratch")):
    """The YAML of the sweep that lives in the folder `out`."""
    chosen = config.to_dict(toy.experiment(
        out, "transfer.budget_env_steps.default=400", "transfer.seeds=[0]", f"transfer.arms=[{','.join(arms)}]",
    ))  # fmt: skip
    chosen |= {"name": "s", "sweep": {"grid": {"algorithms.ivg.horizon": [2, 3]}, "retries": 0}}
    path = out.with_suffix(".yaml")
    path.write_text(json.dumps(chosen))  # JSON is YAML
    return path


@pytest.fixture
def parts(toy, tmp_path):
    """The YAML of a sweep that will suffer."""
    return write(toy, tmp_path / "parts")


@pytest.fixture
def scratch(toy, tmp_path):
    """The same without arms that need a model."""
    return write(toy, tmp_path / "parts", ("ivg/scratch",))


@pytest.fixture
def expected(toy, tmp_path_factory, made={}):  # noqa: B006 (one sweep for all tests)
    """What a sweep leaves that nothing happens to."""
    if not made:
        path = write(toy, tmp_path_factory.mktemp("sweep") / "whole")
        assert finish(path)[0] == 0
        made.update(outcomes(path, toy))
    return made


def start(path, *flags, limit=None):
    """The sweep as a process of its own; limit: bytes that a file may have."""
    return forked.Command(["sweep", str(path), *flags], limit)


def finish(path, *flags, limit=None):
    """(exit status, output) of the sweep."""
    return start(path, *flags, limit=limit).ended(170)


def outcomes(path, toy):
    """What every cell of a finished sweep leaves, by its name; all have to have finished."""
    found = sweep.Sweep(path)
    assert found.done == {one.cell.name for one in found.planned}
    return {one.cell.name: toy.outcome(one.folder) for one in found.planned}


def saved(path):
    """What the sweep has reported as finished: name -> when its record was written."""
    found = sweep.Sweep(path)
    by_name = {one.cell.name: one for one in found.planned}
    path = found.root / sweep.LEDGER
    lines = path.read_text().splitlines() if path.exists() else []
    reported = [json.loads(line) for line in lines if line.endswith("}")]
    done = {line["cell"] for line in reported if line["outcome"] == "done"}
    assert done <= found.done  # what was reported is there
    return {name: (by_name[name].folder / "run.json").stat().st_mtime_ns for name in found.done}


def children(pid):
    """Process ids of the running cells."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def wait_for_work(process, path, seconds):
    """Until a cell has begun to write, or the sweep has ended, or so many seconds have passed."""
    found, end = sweep.Sweep(path), time.monotonic() + seconds
    open_ = [one.folder for one in found.planned if one.cell.name not in found.done]
    while time.monotonic() < end and process.is_alive() and not any(map(run_folder.in_use, open_)):
        time.sleep(0.05)


def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(toy, parts, expected):
    rng, before, hit = random.Random(0), {}, 0
    for _ in range(ROUNDS):
        process = start(parts)
        wait_for_work(process, parts, 12)
        time.sleep(rng.uniform(0, 0.8))
        if not process.is_alive():
            break
        running = children(process.pid)
        victims = rng.choice([[process.pid], [process.pid, *running], running, running[:1]])
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        if process.pid not in victims:  # the sweep takes the cells of dead workers over; then it dies too
            time.sleep(rng.uniform(0, 2))
            process.kill()
        process.join()
        now = saved(parts)
        assert before.items() <= now.items()  # what had finished was not touched again
        before, hit = now, hit + (len(now) < len(expected))
    assert hit >= 2  # rounds whose kills left work; how many there are depends on the machine's speed
    status, output = finish(parts)
    assert status == 0, output
    assert before.items() <= saved(parts).items()
    assert toy.first_difference(expected, outcomes(parts, toy)) is None


def test_a_dead_workers_cell_is_taken_over(toy, scratch):
    process = start(scratch)
    wait_for_work(process, scratch, 30)
    for pid in children(process.pid):
        os.kill(pid, signal.SIGKILL)
    status, output = process.ended(170)
    assert status == 0 and "killed by SIGKILL" in output, output
    assert len(outcomes(scratch, toy)) == 2


def test_a_cell_that_outlived_its_sweep_is_waited_for(scratch):
    """The folder is held, as by a cell whose sweep was killed: nothing else writes into it meanwhile. This sweep is
    started, and stopped, as by a user.
    """
    first = sweep.Sweep(scratch).planned[0]
    argv = [sys.executable, "-m", "meta_latent", "sweep", str(scratch)]
    with run_folder.held(first.folder), subprocess.Popen(argv, start_new_session=True) as process:
        time.sleep(12)
        assert process.poll() is None and not (first.folder / "run.json").exists()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    status, output = finish(scratch)
    assert status == 0, output


@pytest.mark.parametrize("limit", [600, 60_000])
def test_a_full_disk_is_named_and_loses_nothing(toy, parts, expected, limit):
    """The limit on file sizes stands in for a full disk: at the ledger, at a checkpoint."""
    status, output = finish(parts, limit=limit)
    assert status == 1 and "could not write" in output and "Traceback" not in output.splitlines()[-1], output
    before = saved(parts)
    status, output = finish(parts, "--retry-failed")
    assert status == 0, output
    assert before.items() <= saved(parts).items()
    assert toy.first_difference(expected, outcomes(parts, toy)) is None


@pytest.fixture
def disk(tmp_path):
    """Mounts the folder of the sweep that suffers as a disk of its own, or again, with these options."""
    folder = tmp_path / "parts"
    folder.mkdir()

    def mount(options):
        again = "remount," * folder.is_mount()
        argv = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(folder)]
        if subprocess.run(argv, capture_output=True).returncode:
            pytest.skip("this user may mount no file system")

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_disk(scratch, disk):
    """Before the first cell, and when all have finished: one line, and what is there stays."""
    disk("size=100m,ro")
    status, output = finish(scratch)
    assert status == 2 and "cannot write" in output and "Traceback" not in output
    disk("size=100m,rw")
    assert finish(scratch)[0] == 0
    before = saved(scratch)
    disk("size=100m,ro")
    status, output = finish(scratch)
    assert status == 2 and "cannot write" in output and "Traceback" not in output
    assert saved(scratch) == before and len(before) == 2


def test_a_small_disk_that_is_really_full(toy, parts, expected, disk):
    disk("size=300k")
    status, output = finish(parts)
    assert status == 1 and "disk is full" in output, output
    before = saved(parts)
    disk("size=100m")
    assert finish(parts, "--retry-failed")[0] == 0
    assert before.items() <= saved(parts).items()
    assert toy.first_difference(expected, outcomes(parts, toy)) is None


@pytest.mark.parametrize("damaged", ["newest", "all"])
def test_a_damaged_checkpoint(toy, scratch, expected, monkeypatch, damaged):
    """The one before is taken; where none is left, the cell says so and the others are not held up."""
    first, second = sweep.Sweep(scratch).planned
    monkeypatch.setattr(cells, "deferred", toy.StopAfter(4))
    with pytest.raises(KeyboardInterrupt):
        cells.run_cell(first.experiment, *first.place, first.seed)
    indices = [first.folder / "checkpoints" / name for name in ("checkpoint.json", "previous.json")]
    for index in indices[: 1 if damaged == "newest" else 2]:
        tensors = index.parent / json.loads(index.read_text())["tensors"]
        tensors.write_bytes(tensors.read_bytes()[:-1])
    status, output = finish(scratch)
    found = sweep.Sweep(scratch)
    assert second.cell.name in found.done
    if damaged == "newest":
        assert status == 0 and found.done == {first.cell.name, second.cell.name}, output
        assert toy.first_difference(expected[first.cell.name], toy.outcome(first.folder)) is None
    else:
        assert status == 2 and "damaged" in output and first.cell.name in output
        assert found.ledger.failed(first.cell.name, first.settings)
