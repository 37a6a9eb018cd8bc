"""Every algorithm on a target that fits it, as small as its settings allow."""

import contextlib
import dataclasses

import gymnasium
import pytest
import torch
from sketches import sketched  # noqa: F401 - a fixture

import task_suites
from meta_latent.algorithms import registry
from meta_latent.algorithms.registry import Arm
from meta_latent.experiment.learning import cell_settings, cells, checking
from meta_latent.experiment.learning.loop import Learning
from meta_latent.experiment.pretraining import pretrain
from meta_latent.experiment.runs.devices import repeatable
from meta_latent.experiment.runs.run_folder import RunFolder
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import bind_target
from task_suites.toy.lqr import Lqr

SMALL = {
    "batch_size": 8, "candidates": 8, "channels": (4,), "elites": 3, "embedding": 8, "epochs": 2, "first_updates": 2,
    "hidden": 16, "horizon": 3, "iterations": 2, "layers": 1, "look": 2, "looked_at": 4, "max_epochs": 3,
    "memory": 8, "minibatches": 2, "outer_steps": 4, "particles": 6, "reward_batch_size": 8, "steps_per_round": 50,
    "transitions": 64, "updates_per_step": 0.06,
}  # fmt: skip
"""Values for settings of these names, whichever algorithm or part of one has them."""
LEARNING = [
    "pretrain.env_steps=150", "pretrain.joint_updates=2", "pretrain.filter_updates=2",
    "pretrain.transition_updates=2", "pretrain.policy_updates=2", "transfer.warmup_episodes=1",
    "transfer.budget_env_steps.default=120", "transfer.budget_updates.default=12",
    "transfer.evaluation.interval_env_steps=60", "transfer.evaluation.interval_updates=6",
    "transfer.evaluation.trials=1", "transfer.video=false", "transfer.stop_at_threshold=false",
    "transfer.side_by_side=3", "transfer.adaptation.pretrained.transition=0.05",
    "transfer.adaptation.scratch.joint=0.03", "transfer.adaptation.scratch.transition=0.05",
    "transfer.adaptation.scratch.first_joint=1", "transfer.adaptation.scratch.first_transition=1",
    "transfer.adaptation.scratch.filter=0.05", "transfer.adaptation.pretrained.filter=0.05",
    "transfer.adaptation.encoder.filter=0.05", "transfer.adaptation.encoder.first_filter=1",
    "transfer.adaptation.sequence.joint=0.03", "transfer.adaptation.sequence.first_joint=1",
]  # fmt: skip
MANY = {"suite": "toy/hidden_goal", "tasks": 3, "test_tasks": 2, "episodes_per_trial": 2}


def settings(name):
    """Small settings of the algorithm called `name`."""
    return small(registry.get(name).config())


def small(config):
    """Those of SMALL that `config` and its parts have."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    found = {key: list(v) if isinstance(v, tuple) else v for key, v in SMALL.items() if key in values}
    return found | {key: inside for key, v in values.items() if dataclasses.is_dataclass(v) and (inside := small(v))}


class Bench:
    """Targets, models and learners for one arm; `root`: where models lie, `device`: where they learn."""

    def __init__(self, root, device):
        self.root, self.device, self._models = root, device, {}

    def model(self, suite):
        """The folder of a model, with source data and a source policy, of `suite`."""
        if suite not in self._models:
            out = self.root / suite.replace("/", "_")
            chosen = self._load(out, {"pretrain": {"sources": [{"suite": suite}]}}, ("ivg",))
            self._models[suite] = pretrain.pretrain(chosen)
        return self._models[suite]

    def target(self, arm):
        """A target that fits what the arm's algorithm sees and needs."""
        entry = registry.get(arm.partition("/")[0])
        if entry.adapts:
            # In latents all of them have to pay alike; in states each has a model of its own.
            return MANY | {"suite": "toy/rotated_actuators", "options": {"episode_steps": 6}, "tasks": 5,
                           "warmup_episodes": 10}  # fmt: skip
        if entry.sees:
            return dict(MANY)
        target = {"suite": "toy/lqr"}
        return target | ({"data": str(self.model("toy/lqr"))} if "data" in entry.needs else {})

    def experiment(self, out, arm, *overrides, target=None):
        """A tiny experiment with one target, called "target"."""
        target = target or self.target(arm)
        values = {"transfer": {"targets": {"target": target}, "arms": [arm]}}
        if Arm.parse(arm).needs_model:
            values["pretrained"] = str(self.model(target["suite"]))
        return self._load(out, values, {"ivg", arm.partition("/")[0]}, *overrides)

    def _load(self, out, values, algorithms, *overrides):
        chosen = {name: settings(name) for name in algorithms}
        values = values | {"out": str(out), "device": self.device, "algorithms": chosen}
        return config.load(ExperimentConfig, [config.find("experiment", "toy"), values], [*LEARNING, *overrides])

    @contextlib.contextmanager
    def learning(self, experiment, arm):
        """The loop of a cell, where the last checkpoint left it; driven by hand."""
        parsed = Arm.parse(arm)
        pretrained = pretrain.model_path(experiment) if parsed.needs_model else None
        target, folder = bind_target(experiment, "target"), cells.cell_folder(experiment, "target", arm, 0)
        narrowed = cell_settings.narrowed(experiment, "target", arm, 0, pretrained)
        with repeatable(self.device), RunFolder(folder, narrowed, seed=0) as opened:
            learning = Learning(experiment, target, parsed, 0, pretrained, opened)
            with contextlib.closing(learning.collector), contextlib.closing(learning.evaluation):
                yield learning

    @staticmethod
    def round(learning):
        """One round of collecting and updating; what the update measured."""
        learning.collector.round(learning.agent, learning.replay, learning.streams)
        return learning.agent.update(learning.replay, learning.streams)

    @staticmethod
    def cell(experiment, arm):
        """A whole cell; its folder."""
        cells.run_cell(experiment, "target", arm, 0)
        return cells.cell_folder(experiment, "target", arm, 0)


@pytest.fixture(scope="session")
def bench(tmp_path_factory, request):
    """See `Bench`."""
    torch.set_num_threads(1)
    return Bench(tmp_path_factory.mktemp("models"), request.config.getoption("--device"))


@pytest.fixture(scope="session")
def frozen():
    """See `checking.frozen`."""
    return checking.frozen


class Unpaid(Lqr):
    """Its environments pay, and nobody can say for what."""

    def make(self, task):
        return Lqr(self.name).make(task)

    def reward(self, task, inputs, action):
        raise task_suites.SuiteError("unknown to all")


@pytest.fixture
def unpaid(monkeypatch):
    """A suite mine/unpaid without a reward function."""
    monkeypatch.setattr(task_suites.registry, "_ENTRIES", dict(task_suites.registry._ENTRIES))
    task_suites.register("mine/unpaid", Unpaid)
    yield
    gymnasium.registry.pop(task_suites.gymnasium_id("mine/unpaid"))
