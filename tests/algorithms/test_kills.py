"""Every algorithm under kill -9 at random moments ends as if nothing had happened: at least a hundred kills in all."""

import json
import os
import random
import shutil
import signal
import time

import forked
import pytest

from meta_latent.algorithms import registry
from meta_latent.experiment.learning import cells
from meta_latent.experiment.runs import checkpoint, run_folder
from meta_latent.experiment.settings import experiments

pytestmark = pytest.mark.slow
KILLS, PATIENCE_SECONDS = 6, 120
ALGORITHMS = registry.names()


def outcome(folder, frozen):
    """What a finished cell leaves, but for times."""
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    curve = [{key: value for key, value in line.items() if "seconds" not in key} for line in lines]
    state = checkpoint.load(folder / "checkpoints")
    return frozen(state["agent"]), [line for line in curve if line["kind"] == "evaluation"]


def test_there_are_a_hundred_kills():
    assert KILLS * len(ALGORITHMS) >= 100


def arm_of(name):
    """The arm of an algorithm that brings the most with it."""
    return f"{name}/{max(registry.get(name).starts, key=lambda start: (start.startswith('pretrained'), len(start)))}"


def marked(name):
    """In an environment without its extra an algorithm cannot run."""
    extra = registry.get(name).extra
    return pytest.param(name, marks=getattr(pytest.mark, extra[0])) if extra else name


@pytest.mark.parametrize("name", [marked(name) for name in ALGORITHMS])
def test_kills_at_random_moments_leave_no_trace(bench, tmp_path, frozen, name):
    arm, moments, killed = arm_of(name), random.Random(name), 0
    whole = outcome(bench.cell(bench.experiment(tmp_path / "whole", arm), arm), frozen)
    experiment = bench.experiment(tmp_path / "killed", arm)
    experiments.write(experiment)
    folder = cells.cell_folder(experiment, "target", arm, 0)
    command = ["transfer", str(experiments.path_of(experiment)), "target=target", f"arm={arm}", "run_seed=0"]
    while True:
        process = forked.Command(command)
        if killed < KILLS:
            end = time.monotonic() + PATIENCE_SECONDS
            while process.is_alive() and not run_folder.in_use(folder) and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(moments.uniform(0, 0.4 + 0.3 * killed))  # later and later, so that some run gets on
        if killed < KILLS and process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            killed += 1
            continue
        status, said = process.ended(PATIENCE_SECONDS)
        assert status == 0, said
        assert outcome(folder, frozen) == whole
        if killed == KILLS:
            return
        shutil.rmtree(folder)  # it was faster than the kills: once more
