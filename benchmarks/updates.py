"""Milliseconds per update of learning on a target, of this checkout or beside another one.

    python benchmarks/updates.py [--against CHECKOUT] [--rounds 5] [--json PATH] [KEY=VALUE ...]

Each learns with its own `configs/experiment/demo.yaml` and the same KEY=VALUE overrides (default: sizes of
the present demo), on 20 episodes of random actions. Each round is one process per checkout, in turn, so
ratios mean something where absolute figures drift. Times are CPU time of one thread: other load spoils
little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET, ARM, EPISODES, REPEATS = "reach_red_distractors", "ivg/scratch", 20, 40
SIZES = (
    "learner.transition_batch_size=125",
    "model.ensemble.hidden=128",
    "algorithms.ivg.batch_size=60",
    "algorithms.ivg.reward_batch_size=30",
)


def measure(overrides: list[str]) -> dict[str, float]:
    """Milliseconds of CPU time of each kind of update, in the checkout that is imported."""
    import torch

    from meta_latent.algorithms.registry import Arm
    from meta_latent.data.collect import Noise, play_episode
    from meta_latent.data.replay import SequenceReplay
    from meta_latent.experiment.learning import starts
    from meta_latent.experiment.settings import config
    from meta_latent.experiment.settings.schema import ExperimentConfig
    from meta_latent.experiment.settings.suites import bind_target
    from meta_latent.rng import Streams
    from meta_latent.types import Spec

    torch.set_num_threads(1)
    experiment = config.load(ExperimentConfig, [config.find("experiment", "demo")], overrides)
    target = bind_target(experiment, TARGET)
    spec, streams = Spec.of(target.distribution), Streams(0)
    agent = starts.build(experiment, target, Arm.parse(ARM), 0, None)
    replay = SequenceReplay(spec, experiment.transfer.replay, None, agent.heads)
    rows, noise = target.distribution.make_vector([target.tasks[0].task]), Noise(spec.action_size, experiment.random)
    for episode in range(EPISODES):
        mask = streams.numpy("mask").random(agent.heads) < experiment.transfer.head_share
        replay.add_episode(play_episode(rows, noise, episode, streams), mask)
    rows.close()
    learner, sizes = agent.learner, experiment.learner
    agent.cache.extend(agent.model, replay)

    def joint():
        batch = replay.sequences(sizes.batch_size, sizes.length, streams.numpy("model"))
        learner.joint(batch, streams.torch("model"))

    def transition():
        windows = agent.cache.windows(sizes.transition_batch_size, sizes.horizon, streams.numpy("windows"))
        learner.transition(windows, streams.torch("model"))

    kinds = {
        "model on pixels": joint,
        "transition heads": transition,
        "reward heads": lambda: agent.fit_reward(streams),
        "policy and value": lambda: agent.follow_value_gradient(streams),
    }
    return {name: _milliseconds(update) for name, update in kinds.items()}


def _milliseconds(update: Callable[[], object]) -> float:
    for _ in range(5):
        update()
    begun = time.process_time()
    for _ in range(REPEATS):
        update()
    return 1e3 * (time.process_time() - begun) / REPEATS


def child(checkout: Path, overrides: list[str]) -> dict[str, float]:
    """`measure` in a process of its own that imports `checkout`."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", *overrides]
    done = subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def commit(checkout: Path) -> str:
    """The checkout's commit, with "+changes" where its files differ from it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(checkout), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")


def main(against: Path | None, rounds: int, overrides: list[str]) -> dict:
    """Medians over `rounds`, ratios within each round."""
    checkouts = [("this", ROOT)] + ([("other", against)] if against else [])
    found = [{name: child(path, overrides) for name, path in checkouts} for _ in range(rounds)]
    result: dict = {"overrides": overrides, "rounds": rounds, "commits": {n: commit(p) for n, p in checkouts}}
    result["milliseconds"] = {}
    for kind in found[0]["this"]:
        times = {name: [turn[name][kind] for turn in found] for name, _ in checkouts}
        row = {name: round(statistics.median(values), 2) for name, values in times.items()}
        if against:
            ratios = [other / this for this, other in zip(times["this"], times["other"], strict=True)]
            row["other_over_this"] = round(statistics.median(ratios), 2)
            row["lowest_ratio"], row["highest_ratio"] = round(min(ratios), 2), round(max(ratios), 2)
        result["milliseconds"][kind] = row
        print(f"{kind:18} " + "  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return result


if __name__ == "__main__":
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE of the experiment")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.overrides)))
    else:
        result = main(given.against and given.against.resolve(), given.rounds, given.overrides or list(SIZES))
        if given.json:
            given.json.write_text(json.dumps(result, indent=1) + "\n")
