"""The settings that one cell depends on, with the checksums of what it starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from meta_latent.algorithms.registry import Arm
from meta_latent.experiment.pretraining import model_folder, source_data
from meta_latent.experiment.runs import metrics
from meta_latent.experiment.runs.latitude import Latitude, settings_sha256
from meta_latent.experiment.runs.run_folder import read_record
from meta_latent.experiment.runs.stored_cell import completed, without_files
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig

MAY_DIFFER = ("name", "device", "imports")
"""Keys that a resumed cell may change: none says what is learned."""
BUDGETS = ("transfer.budget_env_steps", "transfer.budget_updates")


def spent(folder: Path, key: str) -> float | None:
    """How much of the budget `key` a run had used at its last evaluation; None: it has finished."""
    if read_record(folder).get("status") == "done":
        return None
    evaluations = metrics.read(folder, "evaluation") if (folder / metrics.FILE).is_file() else ()
    return max((row.get(key.removeprefix("transfer.budget_"), 0) for row in evaluations), default=0)


SCORED = Latitude((*MAY_DIFFER, *BUDGETS), completed=completed)
"""An agent is scored whatever its budget was."""
LATITUDE = Latitude(MAY_DIFFER, BUDGETS, completed, spent)
"""A cell may be given more budget as well: nothing that our algorithms do hangs on when a run is to end."""


def latitude_of(experiment: ExperimentConfig, target: str, arm: str | Arm) -> Latitude:
    """`LATITUDE`, which names a budget as an override has to: it is a number for a cell, and a mapping for all."""
    part = experiment.transfer.budget_key(target, str(arm))
    return replace(LATITUDE, typed=lambda key: f"{key}.{part}" if key in BUDGETS else key)


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
    narrow = without_files(experiment, target, arm, seed, whole or config.to_dict(experiment))
    if data := experiment.transfer.targets[target].data:
        narrow["data_sha256"] = source_data.read_card(Path(data))["sha256"]
    return narrow if pretrained is None else narrow | checksums(arm, pretrained)


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


def checksum_of(stored: dict) -> str:
    """`settings_of` the settings in a cell's folder."""
    return settings_sha256(completed(stored), MAY_DIFFER)
