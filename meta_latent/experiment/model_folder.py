"""A pretrained model on disk: `model.safetensors` + `model.json`, opened by `meta_latent.load`. Nothing is unpickled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from meta_latent import files
from meta_latent.errors import UserError
from meta_latent.experiment import config as configuration
from meta_latent.experiment import structure
from meta_latent.experiment.run_folder import versions
from meta_latent.models.config import ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.rng import seeded_construction
from meta_latent.types import Spec

FORMAT = 1
WEIGHTS, CARD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class LoadReport:
    """Names of the tensors that were loaded, that are new (kept as built) and that the file has but nobody wants."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    skipped: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.loaded)} tensors loaded, {len(self.new)} new, {len(self.skipped)} skipped"


def save(folder: Path | str, model: LatentStateModel, facts: dict) -> str:
    """Write the model atomically and return the sha256 of its weights. facts: JSON-able, such as the budget."""
    with files.atomic_folder(Path(folder)) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, temporary / WEIGHTS)
        digest = files.sha256(temporary / WEIGHTS)
        card = {"format": FORMAT, "sha256": digest, "spec": model.spec.to_dict(), "versions": versions(),
                "config": configuration.to_dict(model.config), "task_rewards": list(model.task_rewards), **facts}
        (temporary / CARD).write_text(json.dumps(card, indent=1))
    return digest


def read_card(folder: Path | str) -> dict:
    """The checked content of `model.json`.

    Raises UserError if the folder is no model, was truncated or edited, or is of another format.
    """
    folder = Path(folder)
    files.recover_folder(folder)
    card_path, weights = folder / CARD, folder / WEIGHTS
    for path in (card_path, weights):
        if not path.is_file():
            raise UserError(f"{folder} is not a model folder: {path.name} is missing; pretrained= takes the folder "
                            "model/ that `meta-latent pretrain` writes")
    try:
        card = json.loads(card_path.read_text())
        if card["format"] != FORMAT:
            raise UserError(f"{card_path} has format {card['format']}, this version reads {FORMAT}: pretrain again")
        digest = card["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{card_path} is damaged ({type(error).__name__}): pretrain again or restore it") from error
    if files.sha256(weights) != digest:
        raise UserError(f"{weights} was truncated or edited: its sha256 is not the one in {CARD}; restore it")
    return card


def load(folder: Path | str, device: str | torch.device = "cpu") -> LatentStateModel:
    """Open a pretrained model. Raises UserError (see `read_card`)."""
    folder = Path(folder)
    card = read_card(folder)
    try:
        config = structure.build(ModelConfig, card["config"], lambda key: str(folder / CARD))
        with seeded_construction(0):
            model = LatentStateModel(Spec.from_dict(card["spec"]), config, tuple(card["task_rewards"]))
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (KeyError, TypeError, RuntimeError, SafetensorError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder} does not hold a model of this version ({reason}): pretrain again") from error
    return model.to(device)


def load_for(folder: Path | str, spec: Spec, device: str | torch.device = "cpu") -> LatentStateModel:
    """`load`, refusing a model that cannot read data of `spec`; the error names the field."""
    model = load(folder, device)
    reason = model.spec.mismatch(spec)
    if reason:
        raise UserError(f"{folder} does not fit the task: {reason}")
    return model


def load_into(model: LatentStateModel, folder: Path | str) -> LoadReport:
    """Copy every tensor of the same name and shape from a pretrained model into `model`; says what happened."""
    read_card(folder)
    stored, own = load_file(Path(folder) / WEIGHTS), model.state_dict()
    fitting = {k: v for k, v in stored.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    return LoadReport(tuple(sorted(fitting)), tuple(sorted(own.keys() - fitting.keys())),
                      tuple(sorted(stored.keys() - fitting.keys())))
