"""MELD infers a hidden goal from rewards: it explores in a trial's first episode and goes straight there in the second.

No observation shows the goal, half a circle of places where it may be. task_inference.png: two trials of goals that
were never trained on, and where the belief expects to be paid before, during and after the first episode.
The same from a command line:
    meta-latent transfer meld_toy target=sparse arm=meld/scratch run_seed=0
    meta-latent adapt meld_toy target=sparse arm=meld/scratch run_seed=0
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import meta_latent
import task_suites
from meta_latent.data.collect import play
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.rng import Streams
from meta_latent.types import SequenceBatch, Spec

TARGET, ARM, GRID = "sparse", "meld/scratch", 25
QUICK = ("transfer.budget_env_steps={default: 2400}", "transfer.warmup_episodes=20",
         "transfer.evaluation.interval_env_steps=2400", "algorithms.meld.batch_size=4",
         "transfer.adaptation.scratch.first_joint=5", "transfer.adaptation.scratch.first_filter=5")  # fmt: skip


def main() -> None:
    """Meta-train, play two trials of goals that were never trained on, look at the belief."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds: only to see that it runs")
    parser.add_argument("--out", default="runs", help="folder of all runs")
    arguments = parser.parse_args()
    config = meta_latent.configure("meld_toy", f"out={arguments.out}", *(QUICK if arguments.quick else ()))
    folder = meta_latent.transfer(config, TARGET, ARM, seed=0)
    agent = meta_latent.load(folder)

    suite = task_suites.get("toy/hidden_goal", **config.transfer.targets[TARGET].options)
    tasks = suite.sample("test", 20, seed=0)
    replay, rows = SequenceReplay(Spec.of(suite), ReplayConfig(), heads=agent.heads), suite.make_vector(tasks)
    seeds = np.arange(2 * len(tasks)).reshape(-1, 2)
    played = play(rows, agent, seeds, Streams(0), explore=False, show={"reward"}, keep=True)
    for k, trial in enumerate(played.episodes):
        for episode in trial:
            replay.add_episode(episode, task_index=k)
    first, second = played.returns.mean(0)
    print(f"{len(tasks)} goals never trained on, steps at the goal of {suite.max_episode_steps}: "
          f"first episode {first:.1f}, second {second:.1f}")  # fmt: skip

    path = Path(arguments.out) / "task_inference" / "task_inference.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    believed = agent.believed_rewards(replay.trials(None, 2), workspace(suite))
    draw(suite, tasks, played, believed, order := np.argsort(played.returns[:, 0])).savefig(path, dpi=110)
    print(f"{path}: the goals found last and in between, {order[0]} and {order[len(order) // 2]}")


def workspace(suite) -> SequenceBatch:
    """What would be seen at the places of a grid, row by row from below, as one sequence of GRID x GRID frames."""
    axis = np.linspace(-1, 1, GRID)
    places = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    seen, zeros = suite.observe(places), torch.zeros(1, len(places))
    images = {"top": torch.from_numpy(seen["image_top"])[None]}
    none = zeros.bool()
    return SequenceBatch(images, torch.zeros(1, len(places), 0), torch.zeros(1, len(places), 2), zeros, zeros, none,
                         none, none, none)  # fmt: skip


def draw(suite, tasks, played, believed, order) -> plt.Figure:
    """A row per trial: both episodes' paths, and what is expected everywhere at four moments."""
    steps = suite.max_episode_steps
    moments = {"at first": 0, "step 3": 3, f"step {steps // 2}": steps // 2, "after it": steps}
    figure, axes = plt.subplots(2, 2 + len(moments), figsize=(14, 5.4), layout="constrained")
    for row, trial in zip(axes, (order[0], order[len(order) // 2]), strict=True):
        goal = [tasks[trial].reward.parameters[f"goal_{axis}_metres"] for axis in "xy"]
        for panel in row:
            panel.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[], aspect="equal")
            panel.add_patch(plt.Circle(goal, 0.3, fill=False, color="#c2571a"))
        for panel, episode, name in zip(row, played.episodes[trial], ("first", "second"), strict=False):
            path = episode["reward_inputs"]
            panel.plot(*path.T, "-o", color="#1b6ca8", ms=3, lw=1)
            panel.plot(*path[0], "o", color="black", ms=5)
            panel.set_title(f"{name} episode: {episode['reward'].sum():.0f} of {steps}")
        for panel, (name, moment) in zip(row[2:], moments.items(), strict=True):
            expected = believed[trial, moment].view(GRID, GRID)
            panel.imshow(expected, origin="lower", extent=(-1, 1, -1, 1), vmin=0, vmax=1)
            panel.set_title(f"belief {name}")
    return figure


if __name__ == "__main__":
    main()
