"""Agents of a line or two for the tests of trials: what they do and tell follows from what they were shown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import yaml

from meta_latent.algorithms.registry import Algorithm, register
from meta_latent.experiment.learning import cells
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.policies.base_agent import BaseAgent
from meta_latent.ranges import count

MANY = {"suite": "toy/hidden_goal", "options": {"observation": "state", "episode_steps": 4}, "tasks": 3,
        "test_tasks": 2, "episodes_per_trial": 2}  # fmt: skip
ONE = {key: MANY[key] for key in ("suite", "options")}


@dataclass(frozen=True)
class Settings:
    """What a probe tells: so many numbers more than there are observations."""

    more: int = count(0, least=-5)


class Probe(BaseAgent):
    """Learns nothing, and always moves alike."""

    def act(self, step, carry, rng, explore):
        return torch.full((len(step.reward), 2), 0.5), carry

    def update(self, replay, rng):
        self.updates += 1
        return {}


class Teller(Probe):
    """Tells of every observation its number in the trial and the reward there; writes down what it was asked."""

    asked: list = []

    def __init__(self, settings, setting):
        self.more = settings.more

    def inspect(self, trials):
        self.asked.append(trials)
        batch = trials.trials(None, len(trials.whole_trials()[0]))
        numbers = list(range(batch.reward.shape[1] + self.more))
        return {"number": numbers, "reward": batch.reward.mean(0).tolist() + [float("nan")] * self.more}


class Seer(Teller):
    """Tells as declared, and expects in every frame the number of the observation."""

    def believed_rewards(self, trials, frames):
        numbers = torch.arange(trials.reward.shape[1], dtype=torch.float32)
        return numbers[None, :, None].expand(len(trials.reward), -1, frames.reward.shape[1])


class Counter(Probe):
    """Counts the observations of a trial, and moves by a fortieth of their number."""

    def begin_task(self, batch_size):
        return {"frames": torch.zeros(batch_size)}

    def act(self, step, carry, rng, explore):
        frames = carry["frames"] + 1
        return torch.stack([(frames / 40).clamp_max(1), torch.zeros(len(frames))], -1), {"frames": frames}


class Turner(Probe):
    """Moves as often to one side as it has adapted."""

    def __init__(self, turns=0):
        self.turns = turns

    def act(self, step, carry, rng, explore):
        return torch.tensor([self.turns / 10, 0.0]).expand(len(step.reward), 2), carry

    def adapt(self, trial, rng):
        return Turner(self.turns + 1)


def register_all():
    """Make all known: one that tells as it declares, one that tells more, one that is not asked, and the others."""
    said = {"number": "of the observation", "reward": "mean <reward>"}
    register("teller", Algorithm(Settings, Teller, inspects=said, warmup=False))
    register("seer", Algorithm(Settings, Seer, inspects=said, maps=True, warmup=False))
    register("leaky", Algorithm(Settings, Teller, inspects={"number": "of the observation"}, warmup=False))
    register("silent", Algorithm(Settings, Teller, warmup=False))
    register("counter", Algorithm(Settings, lambda config, setting: Counter(), warmup=False))
    register("turner", Algorithm(Settings, lambda config, setting: Turner(), adapts=True, warmup=False))


def learned(out, *arms, target=None, seeds=(0,), overrides=()):
    """The YAML of an experiment whose cells are done, and their folders; by default of trials of two episodes."""
    transfer = {
        "targets": {"goal": target or MANY}, "arms": list(arms), "budget_env_steps": {"default": 32},
        "evaluation": {"interval_env_steps": 16, "trials": 3}, "video": False, "stop_at_threshold": False,
    }  # fmt: skip
    path = out / "probe.yaml"
    path.write_text(yaml.safe_dump({"name": "probe", "out": str(out), "transfer": transfer}))
    experiment = config.load(ExperimentConfig, [path], overrides)
    pairs = [(arm, seed) for arm in arms for seed in seeds]
    for arm, seed in pairs:
        cells.run_cell(experiment, "goal", arm, seed)
    return path, [cells.cell_folder(experiment, "goal", arm, seed) for arm, seed in pairs]
