"""The settings that a pretraining's folder stores: the part of an experiment that it depends on."""

from __future__ import annotations

from meta_latent.errors import UserError
from meta_latent.experiment.runs.latitude import filled_in
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.structure import plain


def completed(stored: dict) -> dict:
    """`stored`, the settings in a pretraining's folder, with the keys that were added since, at their defaults; as it
    is where this version cannot read it.
    """
    try:  # it depends on no import: a file that names some is to run nothing; nor on a device, which may be gone
        return filled_in(stored, narrowed(config.load(ExperimentConfig, [stored | {"imports": [], "device": "cpu"}])))
    except UserError:
        return stored


def narrowed(experiment: ExperimentConfig) -> dict:
    """The part of the configuration that pretraining depends on."""
    whole = config.to_dict(experiment)
    keys = ("name", "seed", "device", "suite", "random", "model", "learner", "pretrain")
    narrow = {key: whole[key] for key in keys}
    played = [{k: v for k, v in source.items() if k != "data" or v} for source in whole["pretrain"]["sources"]]
    narrow["pretrain"] = {**whole["pretrain"], "sources": played}
    if experiment.pretrain.policy_updates:
        narrow["algorithms"] = {"ivg": plain(experiment.settings_of("ivg"))}
    return narrow
