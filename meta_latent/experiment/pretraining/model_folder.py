"""A pretrained model on disk: `model.safetensors` + `model.json`, opened by `meta_latent.load`. Nothing is
unpickled.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise

from meta_latent import files
from meta_latent.errors import UserError
from meta_latent.experiment.runs.run_folder import versions
from meta_latent.experiment.settings import structure
from meta_latent.models.config import ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.rng import seeded_construction
from meta_latent.types import Spec

FORMAT = 1
WEIGHTS, CARD, POLICY, SOURCE = "model.safetensors", "model.json", "policy.safetensors", "source.json"


@dataclass(frozen=True)
class LoadReport:
    """Names of the tensors that were loaded, that are new (kept as built) and that the file has but nobody
    wants.
    """

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    skipped: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.loaded)} tensors loaded, {len(self.new)} new, {len(self.skipped)} skipped"


@dataclass(frozen=True)
class PolicyWeights:
    """A source policy to save beside a model: named tensors, and JSON-able facts for `model.json`."""

    tensors: dict[str, torch.Tensor]
    facts: dict


def save(
    folder: Path | str,
    model: LatentStateModel,
    facts: dict,
    policy: PolicyWeights | None = None,
    source: dict | None = None,
) -> str:
    """Write the model atomically and return the sha256 of its weights.

    Args:
        facts: JSON-able, such as the budget. policy: becomes `policy.safetensors`. source: becomes
            `source.json`.
    """
    with files.atomic_folder(Path(folder)) as temporary:
        digest = _write_tensors(temporary / WEIGHTS, model.state_dict())
        card = {
            "format": FORMAT,
            "sha256": digest,
            "spec": model.spec.to_dict(),
            "versions": versions(),
            "config": structure.plain(model.config),
            "task_rewards": list(model.task_rewards),
            **facts,
        }
        if policy is not None:
            card["policy"] = {**policy.facts, "sha256": _write_tensors(temporary / POLICY, policy.tensors)}
        if source is not None:
            (temporary / SOURCE).write_bytes(files.to_json(source))
            card["source_sha256"] = source["sha256"]
        card = files.from_json(files.to_json(card))  # what is hashed is what will be read
        card["card_sha256"] = _card_sha256(card)
        (temporary / CARD).write_bytes(files.to_json(card, indent=1))
    return digest


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    # Written by us, because a full disk shows in safetensors' own writer as a damaged header.
    path.write_bytes(serialise({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}))
    return files.sha256(path)


def refuse_other_folder(folder: Path) -> None:
    """Raise UserError if there is no `folder`, or if the model lies in its folder model/."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    if not (folder / CARD).is_file() and (folder / "model" / CARD).is_file():
        raise UserError(f"{folder} holds a model, in {folder / 'model'}: name that folder")


def read_card(folder: Path | str) -> dict:
    """The checked content of `model.json`.

    Raises UserError if the folder is not there or no model, was truncated or edited, or is of another format.
    """
    folder = Path(folder)
    files.recover_folder(folder)
    refuse_other_folder(folder)
    card_path, weights = folder / CARD, folder / WEIGHTS
    for path in (card_path, weights):
        if not path.is_file():
            raise UserError(
                f"{folder} is not a model folder: {path.name} is missing; pretrained= takes the folder "
                "model/ that `meta-latent pretrain` writes"
            )
    try:
        card = files.from_json(files.read_bytes(card_path))
        if card["format"] != FORMAT:
            raise UserError(f"{card_path} has format {card['format']}, this version reads {FORMAT}: pretrain again")
        digest, intact = card["sha256"], card["card_sha256"] == _card_sha256(card)
        if not isinstance(card.get("config", {}), dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{card_path} is damaged ({type(error).__name__}): pretrain again or restore it") from error
    if not intact:
        raise UserError(f"{card_path} was edited: its content does not match its card_sha256; restore it")
    if files.sha256(weights) != digest:
        raise UserError(f"{weights} was truncated or edited: its sha256 is not the one in {CARD}; restore it")
    return card


def _card_sha256(card: dict) -> str:
    rest = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_tensors(path: Path, own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file, on the CPU.

    Raises UserError naming one that holds NaN or infinity, or has another dtype than the one of this name
    in `own` (float32 where that has none).
    """
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): pretrain again or restore it") from error
    for name, tensor in stored.items():
        expected = own[name].dtype if name in own else torch.float32
        if tensor.dtype != expected and (name in own or tensor.is_floating_point()):
            raise UserError(f"{path}: {name} is {tensor.dtype}, expected {expected}; pretrain again or restore it")
        if not tensor.isfinite().all():
            raise UserError(
                f"{path}: {name} holds NaN or infinity: its training went wrong or the file is damaged; "
                "pretrain again or restore it"
            )
    return stored


def load(folder: Path | str, device: str | torch.device = "cpu") -> LatentStateModel:
    """Open a pretrained model. Raises UserError (see `read_card`)."""
    folder = Path(folder)
    card = read_card(folder)
    try:
        config = structure.build(ModelConfig, card["config"], lambda key: str(folder / CARD))
        with seeded_construction(0):
            model = LatentStateModel(Spec.from_dict(card["spec"]), config, tuple(card["task_rewards"]))
        model.load_state_dict(_read_tensors(folder / WEIGHTS, model.state_dict()))
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        RuntimeError,
        SafetensorError,
        AttributeError,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder} does not hold a model of this version ({reason}): pretrain again") from error
    return model.to(device)


def load_policy(folder: Path | str, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """The tensors of `policy.safetensors`. Raises UserError if the model has no source policy or it was
    edited.
    """
    folder, card = Path(folder), read_card(folder)
    if "policy" not in card:
        raise UserError(f"{folder} holds no source policy; pretrain with pretrain.policy_updates=2000")
    path = folder / POLICY
    facts = card["policy"] if isinstance(card["policy"], dict) else {}
    if not path.is_file() or files.sha256(path) != facts.get("sha256"):
        raise UserError(f"{path} is missing, truncated or edited: its sha256 is not the one in {CARD}; restore it")
    return {name: tensor.to(device) for name, tensor in _read_tensors(path, {}).items()}


def load_for(folder: Path | str, spec: Spec, device: str | torch.device = "cpu") -> LatentStateModel:
    """`load`, refusing a model that cannot read data of `spec`; the error names the field."""
    model = load(folder, device)
    _refuse_misfit(folder, model.spec, spec)
    return model


def check_spec(folder: Path | str, spec: Spec) -> None:
    """Raise UserError if a model in `folder` cannot read data of `spec`; of none, or a damaged one, `load` tells."""
    try:
        own = Spec.from_dict(read_card(folder)["spec"])
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return
    _refuse_misfit(folder, own, spec)


def _refuse_misfit(folder: Path | str, own: Spec, spec: Spec) -> None:
    if reason := own.mismatch(spec):
        raise UserError(f"{folder} does not fit the task: {reason}")


def load_into(model: LatentStateModel, folder: Path | str) -> LoadReport:
    """Copy every tensor of the same name and shape from a pretrained model into `model`; says what
    happened.
    """
    read_card(folder)
    own = model.state_dict()
    stored = _read_tensors(Path(folder) / WEIGHTS, own)
    fitting = {k: v for k, v in stored.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    return LoadReport(
        tuple(sorted(fitting)),
        tuple(sorted(own.keys() - fitting.keys())),
        tuple(sorted(stored.keys() - fitting.keys())),
    )
