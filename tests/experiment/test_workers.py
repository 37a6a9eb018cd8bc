"""Pretraining by several processes: the same model, whoever shares the updates, and nobody left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from meta_latent import cli
from meta_latent.errors import RunError, UserError
from meta_latent.experiment.learning import sweep
from meta_latent.experiment.learning.sweep_plan import PRETRAINING
from meta_latent.experiment.pretraining import pretrain, team, watch, worker
from meta_latent.experiment.runs import checkpoint, run_folder

SOON = 60
"""Seconds, of a machine that may be busy with other things."""


@pytest.fixture
def refused(toy, tmp_path, capsys):
    """Run the command line in this process: it must end with status 2 and this one line."""

    def call(*overrides):
        assert cli.main(["pretrain", "toy", f"out={tmp_path}", *toy.small, *overrides]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert not (tmp_path / "toy" / "pretrain" / "0" / "checkpoints").exists()
        return lines[0]

    return call


def test_wrong_numbers_of_workers_are_refused(refused):
    assert "num_workers=0 (in the command line) should be a whole number from 1 to" in refused("pretrain.num_workers=0")
    assert "more than learner.batch_size=4, learner.filter_batch_size=4" in refused("pretrain.num_workers=5")
    assert "more than learner.batch_size=4, whose" in refused("pretrain.num_workers=5", "pretrain.filter_updates=0")


def test_a_sweeps_pretraining_takes_a_cpu_for_each_worker(tmp_path):
    given = {"name": "s", "out": str(tmp_path), "sweep": {"of": "toy"}}
    planned = sweep.Sweep(given, ["pretrain.num_workers=3", "transfer.arms=[ivg/pretrained]"]).planned
    assert {one.cell.cpus for one in planned if one.kind == PRETRAINING} == {3}
    assert {one.cell.cpus for one in planned if one.kind != PRETRAINING} == {1}


@pytest.mark.parametrize(("finished", "asked"), [(False, 3), (True, 1)])
def test_a_sweep_asks_ray_for_the_cpus_of_what_is_to_run(tmp_path, monkeypatch, finished, asked):
    given = {"name": "s", "out": str(tmp_path), "sweep": {"of": "toy", "executor": "ray"}}
    whole = sweep.Sweep(given, ["pretrain.num_workers=3", "transfer.arms=[ivg/pretrained]", "transfer.seeds=[0]"])
    whole.done = {one.cell.name for one in whole.planned if finished and one.kind == PRETRAINING}
    monkeypatch.setattr(sweep.ray_executor, "connect", lambda address, workers, cpus: cpus)
    monkeypatch.setattr(sweep, "run_cells", lambda cells, workers, note, policy: policy.launch)
    assert sweep._run_cells(whole, whole.open_cells(retry_failed=False)[0], sweep.Options()) == asked


def test_a_worker_on_a_gpu_computes_repeatably(monkeypatch):
    """It is a process of its own, which the settings of its lead's process do not reach."""

    class Asked:
        def __init__(self, work):
            assert torch.are_deterministic_algorithms_enabled()

        def asked(self):
            return torch.are_deterministic_algorithms_enabled(), os.environ["CUBLAS_WORKSPACE_CONFIG"]

    monkeypatch.setattr(worker, "Worker", Asked)
    monkeypatch.setattr(worker.os, "_exit", lambda status: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # what somebody set stays
    ours, theirs = Pipe()
    serving = threading.Thread(target=worker.main, args=[os.dup(theirs.fileno())])
    theirs.close()
    serving.start()
    ours.send(worker.Work(0, 2, "cuda:0", "store", (), None, None, (), None))
    assert ours.recv() is None
    ours.send(("asked", ()))
    assert ours.recv() == (True, ":16:8")
    ours.close()
    serving.join(SOON)
    assert not torch.are_deterministic_algorithms_enabled()


def test_workers_take_a_gpu_each(monkeypatch):
    monkeypatch.setattr(team.torch.cuda, "device_count", lambda: 2)
    team.check_devices("cpu", 3)
    team.check_devices("cuda", 2)
    team.check_devices("cuda:1", 1)
    with pytest.raises(UserError, match="there are 2 GPUs"):
        team.check_devices("cuda", 3)
    with pytest.raises(UserError, match="device=cuda, not cuda:1"):
        team.check_devices("cuda:1", 2)


def test_a_model_that_normalises_over_the_batch_is_refused():
    model = nn.ModuleDict({"eye": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))})
    team.check_model(model, 1)
    with pytest.raises(UserError, match=r"eye\.1 of the model, a BatchNorm1d"):
        team.check_model(model, 2)
    team.check_model(nn.LayerNorm(2), 2)


def test_a_crash_in_a_worker_is_told_with_its_place(capsys):
    def crash():
        return [][1]

    told = worker._outcome(crash)
    place = f"{__file__}:{crash.__code__.co_firstlineno + 1}, in crash"
    assert isinstance(told, RunError) and str(told) == f"a worker failed: IndexError: list index out of range ({place})"
    assert "Traceback" in capsys.readouterr().err


def test_one_worker_is_no_process(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(team, "_launch", None)
    toy.pretrain(tmp_path, "pretrain.num_workers=1")


@pytest.mark.parametrize("name", ["workers", "workers_large"])
def test_the_page_tells_what_was_measured(name):
    docs = Path(team.__file__).parents[3] / "docs"
    found = json.loads((docs / f"{name}.json").read_text())
    said = " ".join((docs / "tuning.md").read_text().split())
    cells = [found[stage][key] for stage in ("joint", "transition") for key in ("ratio", "bound")]
    assert f"([{name}.json]({name}.json)) | {' | '.join(map(str, cells))} |" in said


def numbers(value, place=""):
    """The leaves of an outcome that are numbers and arrays of floats; the others, which must be equal."""
    if isinstance(value, dict):
        pairs = [numbers(item, f"{place}.{key}") for key, item in value.items()]
    elif isinstance(value, list):
        pairs = [numbers(item, f"{place}[{k}]") for k, item in enumerate(value)]
    elif isinstance(value, float):
        return {place: np.array(value)}, {}
    elif isinstance(value, tuple) and value[0] == "float32":
        return {place: np.frombuffer(value[2], np.float32)}, {}
    else:
        return {}, {} if place.endswith(".safetensors") else {place: value}
    return {k: v for a, _ in pairs for k, v in a.items()}, {k: v for _, b in pairs for k, v in b.items()}


def furthest(a, b):
    """The largest difference of the numbers of two outcomes, whose other leaves must be equal, and where it is."""
    (mine, rest), (theirs, other) = numbers(a), numbers(b)
    assert rest == other and mine.keys() == theirs.keys()
    return max((float(np.abs(mine[k] - theirs[k]).max(initial=0)), k) for k in mine)


CONV = ("model.encoder.kind=conv", "model.encoder.embedding=6", "learner.batch_size=5")
"""Keypoints have a bias without a gradient, which Adam makes of rounding."""


def test_a_run_goes_on_with_another_number_of_workers(toy, tmp_path, monkeypatch):
    """One until somewhere in the first stage that learns, then two, whose shares of the batch differ."""
    whole = toy.pretrain(tmp_path / "whole", *CONV)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretrain, "deferred", toy.StopAfter(22))
        toy.pretrain(tmp_path / "parts", *CONV)
    begun = checkpoint.load(tmp_path / "parts" / "toy" / "pretrain" / "0" / "checkpoints")["progress"]
    assert begun["stage"] == "joint" and 0 < begun["count"] < 4
    parts = toy.pretrain(tmp_path / "parts", *CONV, "pretrain.num_workers=2")
    assert furthest(toy.outcome(whole), toy.outcome(parts))[0] < 1e-4
    known = [
        json.loads((folder / "pretraining.json").read_text())["cpu_seconds"] is not None for folder in (whole, parts)
    ]
    assert known == [True, False]  # of the workers' time nothing is known


# Processes that end


def parent_of(pid):
    """The id of the process that started another, None if that has ended."""
    with contextlib.suppress(OSError):
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        return None if state == "Z" else int(parent)


def until(condition, what):
    """Wait for it."""
    end = time.monotonic() + 10 * SOON
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture
def child():
    """A process that sleeps."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def stop(process):
    """SIGSTOP, and wait until it has had its effect."""
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: watch.is_stopped(process), "it is never stopped")


def test_a_worker_that_stays_stopped_is_ended_and_no_other(child, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_SECONDS", 1e6)  # the test looks itself
    watched = watch.Watch([child])
    for _ in range(2 * watch.LOOKS):
        watched.look()  # asleep is not stopped
    stop(child)
    for _ in range(watch.LOOKS - 1):
        watched.look()
    os.kill(child.pid, signal.SIGCONT)
    until(lambda: not watch.is_stopped(child), "it never goes on")
    watched.look()
    stop(child)
    for _ in range(watch.LOOKS - 1):
        watched.look()  # counted from the beginning
    assert child.poll() is None and not watched.ended
    watched.look()
    assert child.wait(SOON) == -signal.SIGKILL and watched.ended == {child.pid}
    watched.look()  # of one that is gone
    watched.close()


def test_the_lead_hears_of_a_stopped_worker_wherever_it_waits(child, monkeypatch):
    """Here it sends what nobody reads."""
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.01)
    ours, theirs = team.Pipe()
    shared = team.Team.__new__(team.Team)
    shared.count, shared._store, shared._members = 1, "", [team._Member(child, ours)]
    shared._watch = watch.Watch([child])
    stop(child)
    with theirs:
        until(lambda: shared._watch.ended, "it is never noticed")
    with pytest.raises(
        RunError, match=r"worker 1 of 1 \(process \d+\) was stopped, as SIGSTOP does, for 30 s, and ended"
    ):
        shared._send(shared._members[0], b"x" * 10_000_000)
    shared.close()
    assert child.poll() is not None and shared._watch is None


@pytest.fixture
def run(toy, tmp_path):
    """A pretraining by two workers, in a process of its own, that has learned for a while; its workers; its folder."""
    words = ("pretrain", "toy", f"out={tmp_path}", *toy.small, "pretrain.joint_updates=400")
    folder = tmp_path / "toy" / "pretrain" / "0"
    metrics = folder / "metrics.jsonl"
    argv = [sys.executable, "-m", "meta_latent", *words, "pretrain.num_workers=2"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: metrics.exists() and metrics.read_text(), "the workers never learn")
        running = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        workers = [pid for pid in running if parent_of(pid) == process.pid]
        assert len(workers) == 2
        yield process, sorted(workers), folder
        process.kill()
    until(lambda: not any(map(parent_of, workers)), "a worker outlives its lead")


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_a_dead_worker_ends_the_run_which_can_go_on(toy, tmp_path, run, which):
    process, workers, folder = run
    os.kill(workers[which], signal.SIGKILL)
    assert process.wait(SOON) == 1
    lines = process.stderr.read().splitlines()
    assert len(lines) == 1 and "was killed by SIGKILL; the same command goes on" in lines[0]
    assert f"of 2 (process {workers[which]})" in lines[0]
    assert run_folder.read_record(folder)["status"] == "failed"
    toy.pretrain(tmp_path, "pretrain.joint_updates=400")
    assert run_folder.read_record(folder)["updates"] == 400 + 3 + 5


@pytest.mark.slow
def test_a_stopped_worker_ends_the_run_which_goes_on_exactly(toy, tmp_path, run):
    process, workers, folder = run
    os.kill(workers[1], signal.SIGSTOP)
    assert process.wait(10 * SOON) == 1
    lines = process.stderr.read().splitlines()
    assert len(lines) == 1 and "was stopped, as SIGSTOP does, for 30 s, and ended; the same command goes on" in lines[0]
    assert f"of 2 (process {workers[1]})" in lines[0]
    assert not any(map(parent_of, workers))
    toy.pretrain(tmp_path, "pretrain.joint_updates=400", "pretrain.num_workers=2")
    whole = toy.pretrain(tmp_path / "whole", "pretrain.joint_updates=400", "pretrain.num_workers=2")
    assert toy.first_difference(toy.outcome(whole), toy.outcome(folder)) is None


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_leaves_no_worker(run, number):
    process, workers, folder = run
    process.send_signal(number)
    assert process.wait(SOON) == 130
    assert not any(map(parent_of, workers))
    assert run_folder.read_record(folder)["status"] == "interrupted"


@pytest.mark.slow
def test_workers_end_with_their_lead(run):
    run[0].kill()
    run[0].wait()
