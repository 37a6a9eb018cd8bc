"""Which trained agents are meant: of an experiment by target, arm and seed, or of a folder in runs/NAME."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from meta_latent.algorithms.registry import Arm
from meta_latent.errors import UserError
from meta_latent.experiment.learning import cell_settings, saved
from meta_latent.experiment.learning.saved import SavedCell
from meta_latent.experiment.runs import run_folder
from meta_latent.experiment.runs.latitude import first_difference
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import BoundTarget, bind_target


class Wanted(Protocol):
    """What a command line says of the agents that it means; None: any."""

    target: str | None
    arm: str | None
    run_seed: int | None


@dataclass(frozen=True)
class Selected:
    """Cells of one target; root: their runs/NAME. place: TARGET, with ALGORITHM, START if one arm was asked for, with
    SEED if one seed of it was.
    """

    cells: tuple[SavedCell, ...]
    root: Path
    place: tuple[str, ...]


def of_experiment(experiment: ExperimentConfig) -> Selected:
    """The trained cells of an experiment that its `target`, `arm` and `run_seed` name, the last two if given.

    Raises UserError if there are none, if the settings of one are other ones, or if there is nothing to adapt to.
    """
    if experiment.target is None:
        raise UserError(f"target= is missing; choose from {', '.join(experiment.transfer.targets)}")
    _require_trials(bind_target(experiment, experiment.target))
    root = Path(experiment.out) / experiment.name
    folders = trained(root, (), experiment, "with the same NAME and options")
    advice = "give the same value, or that folder instead of a NAME"
    found = [saved.of_experiment(experiment, experiment.target, Arm.parse(_arm(folder)), int(folder.name), advice)
             for folder in folders]  # fmt: skip
    _refuse_mixture(folders)
    return Selected(tuple(found), root, _place(folders[0], (), experiment))


def of_folder(path: Path, wanted: Wanted, device: str) -> Selected:
    """The trained cells in `path`, a run folder or one above it, that are `wanted`; each with its own settings.

    Raises UserError if there are none, if they are of several targets or settings, or if there is nothing to adapt to.
    """
    root, below = _root(path)
    folders = trained(root, below, wanted, "NAME")
    targets = sorted({folder.parts[-4] for folder in folders})
    if len(targets) > 1:
        raise UserError(f"{path} holds agents of the targets {', '.join(targets)}; choose one with target=")
    found = [saved.of_folder(folder, device) for folder in folders]
    _require_trials(found[0].target)
    _refuse_mixture(folders)
    return Selected(tuple(found), root, _place(folders[0], below, wanted))


def _require_trials(target: BoundTarget) -> None:
    if not target.has_trials:
        raise UserError(f"target {target.name} is one task, played in trials of one episode: there is nothing to adapt "
                        "to; meta-latent evaluate scores it")  # fmt: skip


def _root(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder runs/NAME that `path` is or lies in, and as many of TARGET, ALGORITHM, START, SEED as it names."""
    if (path / "transfer").is_dir():
        return path, ()
    whole = Path(os.path.abspath(path))
    for depth, folder in enumerate([whole, *whole.parents][:5]):
        if folder.name == "transfer":
            root = folder.parent if path.is_absolute() else Path(os.path.relpath(folder.parent))
            return root, whole.parts[len(whole.parts) - depth :]
    raise UserError(f"{path} lies in no run: give runs/NAME/transfer/TARGET/ALGORITHM/START/SEED, or a folder above")


def trained(root: Path, below: tuple[str, ...], wanted: Wanted, how: str) -> list[Path]:
    """Those of the saved cells of `root` whose parts begin with `below`, and which are wanted."""
    arm = None if wanted.arm is None else str(Arm.parse(wanted.arm))
    found = [folder for folder in saved.saved_cells(root)
             if folder.parts[-4:][: len(below)] == below and wanted.target in (None, folder.parts[-4])
             and arm in (None, _arm(folder)) and wanted.run_seed in (None, int(folder.name))]  # fmt: skip
    if not found:
        keys = {key: getattr(wanted, key) for key in ("target", "arm", "run_seed")}
        of = " ".join(f"{key}={value}" for key, value in keys.items() if value is not None)
        raise UserError(f"{root.joinpath('transfer', *below)} holds no trained agent{' of ' if of else ''}{of}; learn "
                        f"first: meta-latent transfer {how}")  # fmt: skip
    return found


def _arm(folder: Path) -> str:
    return "/".join(folder.parts[-3:-1])


def _place(folder: Path, below: tuple[str, ...], wanted: Wanted) -> tuple[str, ...]:
    one_arm = wanted.arm is not None or len(below) > 2
    one_seed = one_arm and (wanted.run_seed is not None or len(below) > 3)
    return folder.parts[-4:][: 4 if one_seed else 3 if one_arm else 1]


def _refuse_mixture(folders: Sequence[Path]) -> None:
    """Raise UserError if seeds of an arm had different settings, or arms different targets."""
    first: dict[str, tuple[Path, Any]] = {}
    for folder in folders:
        stored = cell_settings.completed(config.read_yaml(folder / run_folder.CONFIG))
        shared = {key: stored[key] for key in ("task", "suite")}
        for what, settings in (("target", shared), (stored["arm"], stored)):
            other, before = first.setdefault(what, (folder, settings))
            difference = first_difference(before, settings, (*cell_settings.MAY_DIFFER, "seed"))
            if difference:
                key, was, now = difference
                raise UserError(f"{other} has {key}={was}, {folder} has {key}={now}: they are not to be pooled; choose "
                                "with arm= and run_seed=, or give a folder of one")  # fmt: skip
