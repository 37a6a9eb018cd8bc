"""Costs that have a bound and no peer: a checkpoint, the metric log, a report of many runs."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import world_models
from scripts import script

from meta_latent.experiment.runs import checkpoint as checkpoints
from meta_latent.experiment.runs.metrics import MetricLog
from meta_latent.experiment.runs.processes import ALLOCATOR
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.models.learner import LearnerConfig, ModelLearner

METRICS = 12
"""Numbers of a record of training, more than IVG has."""


@dataclass
class Sizes:
    """Of the report: runs of one target and two arms, evaluations of each."""

    runs: int = 1000
    points: int = 1000


SIZES = Sizes()


def checkpoint(rounds: int) -> dict[str, float]:
    """Seconds of saving the preset's weights and the moments of its optimisers, until all is on the disk."""
    model = world_models.our_model(world_models.OURS)
    learner, rng = ModelLearner(model, LearnerConfig()), torch.Generator().manual_seed(0)
    learner.joint(world_models.sequences(model.heads, 0), rng)
    wall, own = [], []
    with tempfile.TemporaryDirectory() as folder:
        for k in range(rounds):
            begun = time.perf_counter(), time.process_time()
            checkpoints.save(folder, {"learner": learner.state(), "count": k})
            wall.append(time.perf_counter() - begun[0])
            own.append(time.process_time() - begun[1])
        size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    return {"seconds": round(statistics.median(wall), 4), "highest_seconds": round(max(wall), 4),
            "cpu_seconds": round(statistics.median(own), 4), "megabytes": round(size / 1e6, 2)}  # fmt: skip


def logging(rounds: int) -> dict[str, float]:
    """Milliseconds that the two records of an evaluation take, TensorBoard's included, beside the demo's updates from
    one evaluation to the next: reward heads, policy and value, which every arm of IVG does.
    """
    records = []
    with tempfile.TemporaryDirectory() as folder:
        log = MetricLog(folder)
        for k in range(rounds + 1):
            clocks = {"env_steps": 90 * k, "updates": 180 * k, "seconds": 3.0 * k}
            begun = time.process_time()
            log.write("train", clocks | {f"metric_{n}": 0.1 * n for n in range(METRICS)})
            log.write("evaluation", clocks | {"score": 0.5, "raw_return": 3.0, "success": 0.2,
                                              "returns_by_episode": [3.0], "success_by_episode": [0.2]})  # fmt: skip
            records.append(time.process_time() - begun)
        log.close()
    record = 1e3 * statistics.median(records[1:])  # the first opens files
    demo = config.load(ExperimentConfig, [config.find("experiment", "demo")])
    updates = demo.transfer.evaluation.interval_env_steps * demo.algorithms["ivg"].updates_per_step
    taken = script("updates").measure([])
    training = updates * (taken["reward heads"] + taken["policy and value"])
    return {"milliseconds": round(record, 3), "training_milliseconds": round(training, 1),
            "share": round(record / (record + training), 5)}  # fmt: skip


def fabricated(root: Path) -> None:
    """Finished runs of two arms on one target; nothing in them was measured."""
    arms = ("ivg/pretrained", "ivg/scratch")
    for number in range(SIZES.runs):
        arm, seed = arms[number % 2], number // 2
        algorithm, start = arm.split("/")
        folder = root / "transfer" / "target" / arm / str(seed)
        folder.mkdir(parents=True)
        facts = {"status": "done", "target": "target", "algorithm": algorithm, "start": start, "seed": seed,
                 "thresholds": [0.8], "floor": 0.0, "reference": 1.0, "clock": "env_steps", "budget": 10 * SIZES.points,
                 "episodes_per_trial": 1, "test_tasks": 0, "stopped_at": None, "metrics": {}, "pretrained": None,
                 "compared_with": None, "model_sha256": None, "versions": {}, "command": []}  # fmt: skip
        (folder / "run.json").write_text(json.dumps(facts))
        full = SIZES.points * (0.4 + 0.2 * (number % 2) + seed % 50 / 250)
        (folder / "metrics.jsonl").write_text("".join(
            f'{{"kind": "evaluation", "env_steps": {10 * k}, "updates": {20 * k}, "seconds": {0.5 * k}, '
            f'"score": {min(1.0, k / full):.4f}, "raw_return": 0.0, "success": 0.0}}\n'
            for k in range(SIZES.points)))  # fmt: skip


def report(rounds: int) -> dict[str, float]:
    """One process of `meta-latent report`, whatever `rounds` is: seconds, CPU seconds, most memory."""
    with tempfile.TemporaryDirectory() as folder:
        fabricated(Path(folder) / "many")
        code = "import resource, sys; from meta_latent.cli import main; status = main(['report', sys.argv[1]]); " \
               "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"  # fmt: skip
        # A report is not started with the allocator's settings, which never give memory back.
        environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, str(Path(folder) / "many")], check=True, text=True,
                              capture_output=True, env=environment | {"OMP_NUM_THREADS": "1"})  # fmt: skip
        wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"runs": SIZES.runs, "points": SIZES.points, "seconds": round(wall, 1), "cpu_seconds": round(own, 1),
            "megabytes": round(int(done.stdout.split()[-1]) / 1024)}  # fmt: skip
