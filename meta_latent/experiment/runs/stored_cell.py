"""The settings that a cell's folder stores: the part of an experiment that it depends on, and an experiment again."""

from __future__ import annotations

from typing import Any

from meta_latent.algorithms import registry
from meta_latent.algorithms.registry import Arm
from meta_latent.errors import UserError
from meta_latent.experiment.runs.latitude import filled_in
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.arms import adaptation_of, strays
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.structure import plain


def without_files(experiment: ExperimentConfig, target: str, arm: Arm, seed: int, whole: dict) -> dict:
    """The part of the configuration that one cell depends on, but for checksums of files; `whole`: all of it, plain."""
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


def completed(stored: dict) -> dict:
    """`stored`, the settings in a cell's folder, with the keys that were added since, at their defaults; as it is where
    this version cannot read it.
    """
    try:
        # What a command imports may differ, and is imported by now; so may the device, which this machine may lack.
        experiment = experiment_of(stored | {"imports": []}, "cpu")
        arm, whole = Arm.parse(stored["arm"]), config.to_dict(experiment)
        return filled_in(stored, without_files(experiment, stored["target"], arm, stored["seed"], whole))
    except (UserError, KeyError, TypeError, ValueError):
        return stored


def experiment_of(stored: dict[str, Any], device: str) -> ExperimentConfig:
    """The experiment of one cell, from what its folder says that it depends on.

    Raises UserError where its algorithm is not registered.
    """
    target, arm, transfer = stored["target"], stored["arm"], dict(stored["transfer"])
    for name in ("budget_env_steps", "budget_updates"):
        if name in transfer:
            transfer[name] = {"default": transfer[name]}
    transfer |= {"targets": {target: stored["task"]}, "arms": [arm]}
    transfer["adaptation"] = {arm: transfer["adaptation"]}
    keys = ("name", "imports", "suite", "random", "model", "learner", "algorithms")
    values = {key: stored[key] for key in keys} | {"transfer": transfer, "device": device}
    try:
        return config.load(ExperimentConfig, [values])
    except UserError as error:
        if (algorithm := str(arm).partition("/")[0]) in registry.names():
            raise
        raise UserError(
            f"the run of {arm} was made by the algorithm {algorithm!r}, which is not registered here: import the "
            "package that registers it (imports=[my_package] on the command line)"
        ) from error
