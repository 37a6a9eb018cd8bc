"""What MELD's updates cost and which core infers best per second; on one thread, in CPU time: other load spoils little.

    python benchmarks/task_inference.py [--seconds 60] [--json PATH]

Parts: milliseconds of an update with the sizes of `meld_toy`, `meld_reacher` and `meld_cheetah`, and of filtering one
step for 64 beliefs; lines that begin with a dash are parts of the first. Cores: a model of each kind learns for so many
seconds from 200 random trials of the dense `toy/hidden_goal`, relabelled; then held-out 1 - R^2 of the rewards of other
frames, by step of the trial, on goals that were never trained on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import torch

from meta_latent.algorithms.registry import Arm
from meta_latent.data.collect import Noise, NoiseConfig, Shown, play
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.experiment.learning import starts
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import BoundTarget, bind_target
from meta_latent.models.config import CoreConfig
from meta_latent.models.counterfactual import counterfactual_term, reward_guess
from meta_latent.models.losses import draw_heads, one_step
from meta_latent.rng import Streams
from meta_latent.types import Averages, SequenceBatch, Spec

EXPERIMENTS = {"meld_toy": "sparse", "meld_reacher": "goals", "meld_cheetah": "velocity"}
CORES = get_args(get_type_hints(CoreConfig)["kind"])
OF_CORE = {"sequential": ("model.loss.embedding=0.1",)}  # as in configs/model/conv_sequential.yaml
REPEATS, BELIEFS, STEPS = 20, 64, (1, 3, 10, -1)


def opened(name: str, target: str, *overrides: str):
    """An agent of meld/scratch, a replay of two random trials of every training task, and the target."""
    experiment = config.load(ExperimentConfig, [config.find("experiment", name)], list(overrides))
    bound = bind_target(experiment, target)
    agent = starts.build(experiment, bound, Arm.parse("meld/scratch"), 0, None)
    return agent, filled(bound, bound.tasks, 2), bound


def filled(bound: BoundTarget, tasks, repeats: int) -> SequenceReplay:
    """Random trials of these tasks."""
    replay = SequenceReplay(Spec.of(bound.distribution), ReplayConfig())
    noise, episodes = Noise(replay.spec.action_size, NoiseConfig()), bound.episodes_per_trial
    for repeat in range(repeats):
        rows = bound.distribution.make_vector([task.task for task in tasks])
        seeds = np.arange(len(tasks) * episodes).reshape(-1, episodes) + 10_000 * repeat
        played = play(rows, noise, seeds, Streams(repeat), explore=True, shown=Shown({"reward"}), keep=True)
        rows.close()
        for k, trial in enumerate(played.episodes):
            for episode in trial:
                replay.add_episode(episode, None, k)
    return replay


def parts(name: str, target: str) -> dict[str, float]:
    """Milliseconds of an update and of its parts."""
    agent, replay, _ = opened(name, target)
    model, rng, metrics = agent.model, Streams(0), Averages()
    agent.seen.extend(model, replay)
    trials, shown = agent.draw(replay, rng, pixels=False)
    embeddings, heads = agent.seen.embeddings(trials.frames), draw_heads(trials.head_mask, rng.torch("heads"))
    belief = model.filter(embeddings, shown.action, shown.reward, shown.reward_present)
    before, actions, frames = belief[:, :-1], trials.action[:, 1:], agent.config.counterfactual_frames
    carry = model.initial(BELIEFS)
    step = one_instant(replay, BELIEFS)

    def counterfactual():
        term = counterfactual_term(model, belief.memory, embeddings, trials, frames, rng.torch("frames"))
        term.mean().backward()

    timed = {
        "update of core and heads on cached embeddings": lambda: agent.infer("filter", replay, rng, metrics),
        "- draw, relabel": lambda: agent.draw(replay, rng, pixels=False),
        "- memory, and back": lambda: model.filter(
            embeddings, shown.action, shown.reward, shown.reward_present).memory.mean().backward(),
        "- prior, and back": lambda: one_step(model, before.detach(), actions, heads).mean.mean().backward(),
        "- next reward, and back": lambda: reward_guess(
            model, before.memory.detach(), embeddings[:, 1:], actions).mean().backward(),
        "- rewards of other frames, and back": counterfactual,
        "update of everything on pixels": lambda: agent.infer("joint", replay, rng, metrics),
        "update of policy and critics": lambda: agent.improve(trials, belief.detach(), rng, metrics),
        f"one step of {BELIEFS} beliefs, with encoder and policy": lambda: agent.act(step, carry, rng, False),
    }  # fmt: skip
    belief = belief.map(lambda x: x.detach().requires_grad_())
    return {what: milliseconds(call) for what, call in timed.items()}


def one_instant(replay: SequenceReplay, count: int) -> SequenceBatch:
    """The first observations of `count` trials, as a step."""
    batch = replay.trials(count, 1, np.random.default_rng(0), mixed=True)
    fields = {n: v for n, v in vars(batch).items() if v is not None and n not in ("task_index", "head_mask")}
    return SequenceBatch(**{n: {c: x[:, 0] for c, x in v.items()} if isinstance(v, dict) else v[:, 0]
                            for n, v in fields.items()})  # fmt: skip


def milliseconds(call: Callable[[], object]) -> float:
    """The median of REPEATS calls."""
    call()
    found = []
    for _ in range(REPEATS):
        begun = time.process_time()
        call()
        found.append(1000 * (time.process_time() - begun))
    return statistics.median(found)


def core(kind: str, seconds: float) -> dict[str, object]:
    """What a model with this core has learned after so many seconds on cached embeddings."""
    agent, replay, bound = opened("meld_toy", "dense", f"model.core.kind={kind}", *OF_CORE.get(kind, ()))
    rng, metrics, updates = Streams(0), Averages(), 0
    agent.learner.calibrate(replay.sequences(256, 2, rng.numpy("model")))
    for _ in range(100):
        agent.infer("joint", replay, rng, metrics)
    held = filled(bound, bound.test_tasks, 4)
    agent.seen.extend(agent.model, replay)
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        agent.infer("filter", replay, rng, metrics)
        updates += 1
    error, carry = agent.inspect(held)["counterfactual_error"], agent.model.initial(BELIEFS)
    step = one_instant(replay, BELIEFS)
    return {"updates": updates, "milliseconds per update": round(1000 * seconds / updates, 1),
            f"milliseconds per step of {BELIEFS} beliefs": round(milliseconds(
                lambda: agent.act(step, carry, rng, False)), 2),
            "held-out 1 - R^2 at steps": dict(zip(map(str, STEPS), (round(error[t], 3) for t in STEPS), strict=True)),
            }  # fmt: skip


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time that each core learns for")
    parser.add_argument("--json", type=Path, help="where to write what was found")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict] = {"parts": {}, "cores": {}}
    for name, target in EXPERIMENTS.items():
        found["parts"][name] = parts(name, target)
        print(name, *(f"  {what:52} {cost:7.2f} ms" for what, cost in found["parts"][name].items()), sep="\n")
    for kind in CORES:
        found["cores"][kind] = core(kind, arguments.seconds)
        print(kind, found["cores"][kind])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
