"""Opening the agent that a run left in its folder, to act with or to go on from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meta_latent.algorithms.registry import Arm
from meta_latent.errors import UserError
from meta_latent.experiment.learning import starts
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.runs.run_folder import CHECKPOINT, CONFIG, read_record
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import bind_target
from meta_latent.protocols import Agent


def is_cell(folder: Path | str) -> bool:
    """Whether `folder` is the run folder of a cell (transfer/TARGET/ALGORITHM/START/SEED)."""
    path = Path(folder) / CONFIG
    return path.is_file() and "arm" in config.read_yaml(path)


def load_agent(folder: Path | str, device: str = "cpu") -> Agent:
    """The agent of a cell as its last checkpoint left it.

    Raises UserError if there is no checkpoint yet, if the pretrained model that the arm starts from is gone, or
    if the checkpoint was written by another version.
    """
    folder = Path(folder)
    if not checkpoint.exists(folder / CHECKPOINT):
        raise UserError(f"{folder} holds no saved agent yet: its run has made no checkpoint")
    stored = config.read_yaml(folder / CONFIG)
    experiment, arm = _experiment(stored, device), Arm.parse(stored["arm"])
    pretrained = None
    if arm.needs_model:
        named = read_record(folder).get("pretrained")
        if not named or not (Path(named) / "model.json").is_file():
            raise UserError(f"{folder} starts from the model in {named or 'a folder it does not name'}, which is not "
                            "there; restore it")  # fmt: skip
        pretrained = Path(named)
    agent = starts.build(experiment, bind_target(experiment, stored["target"]), arm, stored["seed"], pretrained)
    with checkpoint.fitting(folder / CHECKPOINT) as state:
        agent.load_state(state["agent"])
    return agent


def _experiment(stored: dict[str, Any], device: str) -> ExperimentConfig:
    """The experiment of one cell, from what its folder says that it depends on."""
    target, arm, transfer = stored["target"], stored["arm"], dict(stored["transfer"])
    for name in ("budget_env_steps", "budget_updates"):
        if name in transfer:
            transfer[name] = {"default": transfer[name]}
    transfer |= {"targets": {target: stored["task"]}, "arms": [arm]}
    transfer["adaptation"] = {arm: transfer["adaptation"]}
    keys = ("name", "imports", "suite", "random", "model", "learner", "algorithms")
    values = {key: stored[key] for key in keys} | {"transfer": transfer, "device": device}
    return config.load(ExperimentConfig, [values])
