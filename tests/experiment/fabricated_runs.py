"""Fabricated runs with known curves, for the tests of reports; written into temporary folders only."""

import json
import re
from pathlib import Path

import numpy as np

from meta_latent.experiment.report.reading.sources import read_run
from meta_latent.experiment.report.statistics.analysis import analyse
from meta_latent.experiment.report.statistics.numbers import Bootstrap

EVERY, BUDGET, THRESHOLD, SECONDS_PER_STEP = 100, 1000, 0.8, 0.5


def ramp(full_at, noise=0.0, seed=0, stop=True, budget=BUDGET, every=EVERY, stop_at=THRESHOLD):
    """[(env_steps, score)]: score = env_steps / full_at, at most 1; stops when ``stop_at`` held twice, as a
    transfer run does.
    """
    generator, rows = np.random.default_rng(seed), []
    for steps in range(0, budget + 1, every):
        rows.append((steps, float(min(1.0, steps / full_at) + noise * generator.normal())))
        if stop and len(rows) > 1 and min(rows[-1][1], rows[-2][1]) >= stop_at:
            break
    return rows


def write_log(folder, rows, evaluation=None, train=None):
    """metrics.jsonl; ``evaluation`` and ``train``: (steps, score) -> further keys of those records."""
    lines = [{"kind": "train", "env_steps": 1, "updates": 1, "seconds": 0.1, "loss": 3.0}]
    for steps, score in rows:
        clocks = {"env_steps": steps, "updates": 2 * steps, "seconds": steps * SECONDS_PER_STEP}
        found = {"score": score, "raw_return": 0.0, "success": 0.0}
        if train:
            lines.append({"kind": "train", **clocks, **train(steps, score)})
        found |= evaluation(steps, score) if evaluation else {}
        lines.append({"kind": "evaluation", **clocks, **found})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def old_facts(target, arm, seed, /, **facts):
    """What run.json of a finished run held before it named thresholds, clock and what to compare with."""
    algorithm, start = arm.split("/")
    record = {
        "status": "done", "target": target, "algorithm": algorithm, "start": start, "seed": seed,
        "threshold": THRESHOLD, "floor": -10.0, "reference": 90.0, "budget_env_steps": BUDGET,
        "versions": {"numpy": "0.synthetic"}, "commit": "fabricated",
        "command": ["/x/meta-latent", "transfer", "a b"],
    }  # fmt: skip
    return record | facts


def new_facts(target, arm, seed, /, **facts):
    """What run.json of a finished run holds."""
    record = old_facts(target, arm, seed, thresholds=[THRESHOLD], clock="env_steps", budget=BUDGET)
    record |= {"episodes_per_trial": 1, "test_tasks": 0, "stopped_at": None, "metrics": {}}
    record |= {"pretrained": None, "compared_with": None, "model_sha256": None}
    return {key: v for key, v in record.items() if key not in ("threshold", "budget_env_steps")} | facts


def write_cell(root, target, arm, seed, rows, /, facts=old_facts, evaluation=None, train=None, **changed):
    """One cell under ``root``/transfer; ``rows``: [(env_steps, score)]. Returns its folder."""
    folder = Path(root) / "transfer" / target / arm / str(seed)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(facts(target, arm, seed, **changed)))
    write_log(folder, rows, evaluation, train)
    return folder


def write_pretraining(root, seed=0, env_steps=2400, held_out=None, sha256=None):
    """One finished pretraining under ``root``/pretrain. Returns its folder."""
    folder = Path(root) / "pretrain" / str(seed)
    folder.mkdir(parents=True)
    facts = {
        "env_steps": env_steps,
        "updates": 500,
        "seconds": 600.0,
        "model_sha256": sha256 or f"fabricated-{seed}",
        "held_out": held_out or {"one_minus_r2_of_objects": 0.123456, "image_mse": 0.01},
    }
    (folder / "pretraining.json").write_text(json.dumps(facts))
    (folder / "run.json").write_text(
        json.dumps({"status": "done", "seed": seed, "command": ["meta-latent", "pretrain", "x"]})
    )
    return folder


def numbers(root, thresholds=()):
    return analyse(read_run(root), Bootstrap(resamples=50), thresholds)


def pair(root, seeds=3, fast=250, slow=750, target="t", **facts):
    """``a/pretrained`` against ``b/scratch``, as run.json of the former says; both stop at 0.8."""
    for seed in range(seeds):
        own = {"facts": new_facts, "stopped_at": 0.8, **facts}
        write_cell(root, target, "a/pretrained", seed, ramp(fast), compared_with="b/scratch", **own)
        write_cell(root, target, "b/scratch", seed, ramp(slow), **own)
    return root


def words(root):
    """What the page of a report says, without its drawings."""
    text = (root / "report.html").read_text()
    return " ".join(re.sub(r"<(style|svg).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL).split())
