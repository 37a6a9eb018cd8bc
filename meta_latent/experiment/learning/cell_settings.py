"""The settings that one cell depends on: as its folder keeps them, and as an experiment again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from meta_latent.algorithms.registry import Arm
from meta_latent.errors import UserError
from meta_latent.experiment.learning.starts import adaptation_of, strays
from meta_latent.experiment.pretraining import model_folder, source_data
from meta_latent.experiment.runs.run_folder import filled_in, settings_sha256
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.structure import plain

MAY_DIFFER = ("name", "device", "imports")
"""Keys that a resumed cell may change: none says what is learned."""


def narrowed(
    experiment: ExperimentConfig,
    target: str,
    arm: str | Arm,
    seed: int,
    pretrained: Path | None,
    whole: dict | None = None,
) -> dict:
    """The part of the configuration that one cell depends on, with the checksums of what it starts from.

    whole: `config.to_dict(experiment)`, where it is known already.
    """
    arm = Arm.parse(str(arm))
    narrow = _without_files(experiment, target, arm, seed, whole or config.to_dict(experiment))
    if data := experiment.transfer.targets[target].data:
        narrow["data_sha256"] = source_data.read_card(Path(data))["sha256"]
    return narrow if pretrained is None else narrow | checksums(arm, pretrained)


def _without_files(experiment: ExperimentConfig, target: str, arm: Arm, seed: int, whole: dict) -> dict:
    """`narrowed` without any checksum."""
    transfer = experiment.transfer
    narrow = {key: whole[key] for key in ("name", "imports", "device", "suite", "random", "model", "learner")}
    narrow |= {"target": target, "task": whole["transfer"]["targets"][target], "arm": str(arm), "seed": seed}
    narrow["algorithms"] = {arm.algorithm: plain(experiment.settings_of(arm.algorithm))}
    others = ("targets", "arms", "seeds", "budget_env_steps", "budget_updates", "adaptation", "thresholds")
    narrow["transfer"] = {k: v for k, v in whole["transfer"].items() if k not in others}
    narrow["transfer"][f"budget_{arm.entry.clock}"] = transfer.budget(target, str(arm))
    narrow["transfer"]["adaptation"] = plain(adaptation_of(experiment, arm))
    if not strays(transfer, arm):  # where it does nothing, runs from before it was there are the same runs
        del narrow["transfer"]["epsilon"]
    of_others = {"arms"}
    if transfer.stop_at_threshold:  # else they say how a run is read, not what it does
        narrow["transfer"]["thresholds"] = whole["transfer"]["thresholds"]
    else:
        of_others |= {"thresholds"}
    narrow["task"] = {k: v for k, v in narrow["task"].items() if k not in of_others}
    return narrow


def checksums(arm: Arm, pretrained: Path, read_card: Callable[[Path], dict] = model_folder.read_card) -> dict:
    """What `narrowed` says of the model folder that a cell starts from, and of its source data where it uses them."""
    found = {"model_sha256": read_card(pretrained)["sha256"]}
    if arm.with_data:
        found["source_sha256"] = source_data.read_card(pretrained)["sha256"]
    return found


def settings_of(narrow: dict, arm: Arm, pretrained: Path | None, read_card=model_folder.read_card) -> str:
    """What `run.json` says of a cell's settings (`settings_sha256`). narrow: `narrowed` without a model's checksums."""
    sums = {} if pretrained is None else checksums(arm, pretrained, read_card)
    return settings_sha256(narrow | sums, MAY_DIFFER)


def completed(stored: dict) -> dict:
    """`stored`, the settings in a cell's folder, with the keys that were added since, at their defaults; as it is where
    this version cannot read it.
    """
    try:
        # What a command imports may differ, and is imported by now.
        experiment = experiment_of(stored | {"imports": []}, stored["device"])
        arm, whole = Arm.parse(stored["arm"]), config.to_dict(experiment)
        return filled_in(stored, _without_files(experiment, stored["target"], arm, stored["seed"], whole))
    except (UserError, KeyError, TypeError, ValueError):
        return stored


def checksum_of(stored: dict) -> str:
    """`settings_of` the settings in a cell's folder."""
    return settings_sha256(completed(stored), MAY_DIFFER)


def experiment_of(stored: dict[str, Any], device: str) -> ExperimentConfig:
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
