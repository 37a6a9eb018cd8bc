"""A tiny experiment on the linear-quadratic toy task, and what must be equal between two runs of it."""

import contextlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sketches import empty_figures, sketched  # noqa: F401 - a fixture

from meta_latent.algorithms import registry
from meta_latent.experiment.learning import cells
from meta_latent.experiment.pretraining import pretrain
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig

sys.path.append(str(Path(__file__).parent))  # for fabricated_runs and probe_agents, which are no tests

SMALL = [
    "pretrain.env_steps=250",
    "pretrain.held_out=0.4",
    "pretrain.joint_updates=4",
    "pretrain.filter_updates=3",
    "pretrain.transition_updates=5",
    "pretrain.checkpoint_updates=2",
    "pretrain.scripted=0.5",
    "transfer.warmup_episodes=1",
    "transfer.budget_env_steps.default=100",
    "transfer.evaluation.interval_env_steps=50",
    "transfer.video=false",
    "algorithms.ivg.first_updates=2",
    "algorithms.ivg.updates_per_step=0.09",
    "algorithms.ivg.hidden=16",
    "algorithms.sac.first_updates=2",
    "algorithms.sac.updates_per_step=0.09",
    "algorithms.sac.hidden=16",
    "transfer.adaptation.pretrained.transition=0.07",
    "transfer.adaptation.scratch.joint=0.03",
    "transfer.adaptation.scratch.transition=0.07",
    "transfer.adaptation.scratch.first_joint=2",
    "transfer.adaptation.scratch.first_transition=2",
    "transfer.stop_at_threshold=false",
]


def experiment(out, *overrides) -> ExperimentConfig:
    """The toy experiment in folder `out`."""
    return config.load(ExperimentConfig, [config.find("experiment", "toy")], [*SMALL, f"out={out}", *overrides])


def run_pretrain(out, *overrides):
    """Pretrain; returns the run folder."""
    chosen = experiment(out, *overrides)
    pretrain.pretrain(chosen)
    return pretrain.folder_of(chosen)


def run_transfer(out, arm, *overrides):
    """Learn the toy target with one arm; returns the run folder."""
    chosen = experiment(out, *overrides)
    cells.run_cell(chosen, "goal", arm, 0)
    return cells.cell_folder(chosen, "goal", arm, 0)


def timeless(value):
    """A nested state with arrays as bytes, without what the clock says and without where the log file
    ends.
    """
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if "seconds" not in k and k != "log"}
    if isinstance(value, list | tuple):
        return [timeless(item) for item in value]
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    return (str(value.dtype), value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def outcome(folder) -> dict:
    """Everything of a finished run that must not depend on interruptions: of a replay the segments that its last
    checkpoint names, as the one before it depends on when it was written.
    """
    found = {"checkpoint": timeless(checkpoint.load(folder / "checkpoints"))}
    named = {f"segment_{row[0]:06d}" for row in (found["checkpoint"].get("replay") or {}).get("segments", ())}
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found["metrics"] = [timeless(json.loads(line)) for line in lines]
    found |= {
        str(path.relative_to(folder)): path.read_bytes()
        for name in ("source", "replay", "model")
        for path in sorted((folder / name).rglob("*"))
        if path.suffix == ".safetensors" or (path.suffix == ".bin" and path.parent.name in named)
    }
    record = json.loads((folder / "run.json").read_text())
    return found | {"record": {k: timeless(record.get(k)) for k in ("status", "held_out", "env_steps", "updates")}}


def first_difference(a, b, place="") -> str | None:
    """Where two outcomes differ (for a readable failure), or None."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        pairs = [(a[k], b[k], f"{place}.{k}") for k in a]
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = [(x, y, f"{place}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True))]
    else:
        return None if a == b else f"{place}: {str(a)[:80]} and {str(b)[:80]}"
    return next((found for pair in pairs if (found := first_difference(*pair))), None)


class StopAfter:
    """Stands in for `interrupts.deferred`: Ctrl-C comes at the n-th time that a loop asks."""

    def __init__(self, queries: int):
        self.left = queries

    @property
    def requested(self) -> bool:
        """Whether Ctrl-C has come."""
        self.left -= 1
        return self.left < 0

    def __call__(self):
        """The context manager that the run opens."""
        return contextlib.nullcontext(self)


@pytest.fixture
def toy():
    """The functions above."""
    torch.set_num_threads(1)
    return SimpleNamespace(
        experiment=experiment,
        pretrain=run_pretrain,
        transfer=run_transfer,
        outcome=outcome,
        first_difference=first_difference,
        StopAfter=StopAfter,
        small=SMALL,
    )


@pytest.fixture
def probes(monkeypatch):
    """The algorithms of `probe_agents` are registered; what `Teller` was asked."""
    import probe_agents

    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(probe_agents.Teller, "asked", [])
    probe_agents.register_all()
    return probe_agents.Teller.asked


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory):
    """A run with two rounds of source data and a source policy, never interrupted; do not write to it."""
    torch.set_num_threads(1)
    return run_pretrain(tmp_path_factory.mktemp("toy"), "pretrain.policy_updates=4", "pretrain.on_policy=0.3")


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """A large run, and its report with empty figures; to be read only."""
    from report_pages import large

    with empty_figures():
        return large(tmp_path_factory.mktemp("runs") / "many")
