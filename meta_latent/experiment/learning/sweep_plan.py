"""The cells of a sweep: of all variants together, with pretrainings and equal runs that are computed once.

| folder in OUT/NAME | holds |
|---|---|
| VARIANT/ | an experiment folder, and `experiment.yaml`, its resolved settings |
| pretraining_CHECKSUM/ | an experiment folder with the pretrainings of one kind, a seed each |
| VARIANT/transfer/TARGET/ALGORITHM/START/SEED | a run, or a link to the run of another variant that is the same |
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from meta_latent import files
from meta_latent.algorithms.registry import Arm
from meta_latent.errors import UserError
from meta_latent.experiment.learning import cell_settings, cells
from meta_latent.experiment.pretraining import model_folder, pretrain
from meta_latent.experiment.runs.latitude import settings_sha256
from meta_latent.experiment.runs.processes import Cell, command
from meta_latent.experiment.runs.run_folder import CONFIG, has_finished, is_of, read_record
from meta_latent.experiment.settings import config, experiments
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.sweep import SweepConfig, Variant

PRETRAINING = "pretraining"


@dataclass(frozen=True)
class Planned:
    """A cell of a sweep. kind: what it shares with cells that take about as long: "pretraining", or TARGET/ARM. seed:
    of the run, or of pretraining. narrow: the settings that it depends on, but for the checksum of a model that it
    starts from; settings: a checksum of them, with the model's folder. links: other places where it is looked for.
    """

    cell: Cell
    folder: Path
    experiment: ExperimentConfig
    kind: str
    seed: int
    narrow: dict
    settings: str
    links: tuple[Path, ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        """Target and arm."""
        target, _, arm = self.kind.partition("/")
        return target, arm


def plan(sweep: SweepConfig, variants: Sequence[Variant]) -> list[Planned]:
    """All cells of a sweep, pretrainings first; of equal ones one, with the places where the others link to it."""
    pretrainings: dict[str, Planned] = {}
    found: dict[str, Planned] = {}
    for variant in variants:
        for one in _cells(variant, sweep.root, pretrainings):
            same = found.get(one.settings)
            if same is None:
                found[one.settings] = one
            elif _is_own(one.folder, one) and not _is_own(same.folder, same):
                found[one.settings] = replace(one, links=(*same.links, same.folder))
            else:
                found[one.settings] = replace(same, links=(*same.links, one.folder))
    return [*pretrainings.values(), *found.values()]


def borrowed(planned: Sequence[Planned]) -> set[str]:
    """Names of the cells in whose place a link leads to a run that is another cell's: of an earlier grid or budget,
    where the two were equal.
    """
    owners = {one.folder.resolve(): one for one in planned if _holds_run(one.folder)}
    links = [one for one in planned if one.folder.is_symlink()]
    return {one.cell.name for one in links if owners.get(one.folder.resolve(), one).settings != one.settings}


def _holds_run(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink()


def _is_own(folder: Path, one: Planned) -> bool:
    """Whether a run of other settings does not stand in the way; one that has no record yet has just begun."""
    return _holds_run(folder) and (not read_record(folder) or _is_of(folder, one))


def _cells(variant: Variant, root: Path, pretrainings: dict[str, Planned]) -> list[Planned]:
    """The cells of one variant; pretrainings that it needs are added to `pretrainings`."""
    experiment, transfer, after = variant.experiment, variant.experiment.transfer, ()
    pairs = [(target, Arm.parse(arm)) for target, arm in transfer.pairs()]
    whole = config.to_dict(experiment)
    if experiment.pretrained is None and any(arm.needs_model for _, arm in pairs):
        first = _pretraining(experiment, root)
        first = pretrainings.setdefault(first.cell.name, first)
        experiment, after = replace(experiment, pretrained=str(first.folder / "model")), (first.cell.name,)
    found = []
    for seed in transfer.seeds:
        for target, arm in pairs:
            which = (f"target={target}", f"arm={arm}", f"run_seed={seed}")
            folder = cells.cell_folder(experiment, target, arm, seed)
            cell = Cell(
                f"{variant.name}/{target}/{arm}/{seed}",
                command("transfer", str(root / variant.name / experiments.FILE), *which),
                after if arm.needs_model else (),
                folder / "output.log",
            )
            narrow = cell_settings.narrowed(experiment, target, arm, seed, None, whole)
            settings = settings_sha256(narrow, cell_settings.MAY_DIFFER)
            settings += f" {experiment.pretrained}" if arm.needs_model else ""
            found.append(Planned(cell, folder, experiment, f"{target}/{arm}", seed, narrow, settings))
    return found


def _pretraining(experiment: ExperimentConfig, root: Path) -> Planned:
    kind = _kind(pretrain.narrowed(experiment))
    name = f"{PRETRAINING}_{kind[:8]}"
    if not (root / name).is_dir():  # an older version may have called it otherwise: its settings had fewer keys
        name = next((folder.name for folder in sorted(root.glob(f"{PRETRAINING}_*")) if _holds(folder, kind)), name)
    own = replace(experiment, name=name, out=str(root), pretrained=None)
    folder = pretrain.folder_of(own)
    argv = command("pretrain", str(root / own.name / experiments.FILE), f"seed={own.seed}")
    cell = Cell(f"{own.name}/{own.seed}", argv, (), folder / "output.log", own.pretrain.num_workers)
    narrow = pretrain.narrowed(own)
    return Planned(cell, folder, own, PRETRAINING, own.seed, narrow, pretrain.settings_of(narrow))


def _kind(narrow: dict) -> str:
    """A checksum of what the pretrainings of one folder share."""
    return settings_sha256(narrow, ("name", "seed", *pretrain.MAY_DIFFER))


def _holds(folder: Path, kind: str) -> bool:
    """Whether `folder` holds pretrainings of this kind, which may be of an older version."""
    with contextlib.suppress(UserError):
        return any(_kind(pretrain.completed(config.read_yaml(path))) == kind
                   for path in folder.glob(f"pretrain/*/{CONFIG}"))  # fmt: skip
    return False


def write_experiments(planned: Sequence[Planned]) -> None:
    """Write every experiment whose cells are `planned` as a YAML that `meta-latent transfer` and others take, and the
    links to shared runs. Raises RunError if the disk is full.
    """
    written = {}
    for one in planned:
        written.setdefault(one.experiment.name, one.experiment)
    for experiment in written.values():
        experiments.write(experiment)


def write_links(planned: Sequence[Planned]) -> None:
    """Link to shared runs from where every variant looks for them; a folder that is there already stays."""
    not_own = borrowed(planned)
    for one in planned:
        if one.cell.name in not_own or (one.folder.is_symlink() and not _is_of(one.folder, one)):
            one.folder.unlink()
        for link in one.links:
            to = os.path.relpath(one.folder, link.parent)
            if _holds_run(link) and not _is_own(link, one):
                raise UserError(f"{link} holds a run with other settings than its variant has now; move it away")
            if _holds_run(link) or (link.is_symlink() and os.readlink(link) == to):
                continue
            with files.full_disk_named(link):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(to)


def _is_of(folder: Path, one: Planned) -> bool:
    """Whether `folder` holds a run with the settings that `one` has."""
    try:
        return is_of(folder, Finished().settings(one), _checksum_of(one))
    except UserError:
        return False


def _checksum_of(one: Planned) -> Callable[[dict], str]:
    return pretrain.checksum_of if one.kind == PRETRAINING else cell_settings.checksum_of


class Finished:
    """Answers whether a planned cell has finished with the settings that it has now; reads each model card once."""

    def __init__(self) -> None:
        self._cards: dict[str, dict] = {}

    def __call__(self, one: Planned) -> bool:
        """Whether its folder says so. A damaged record counts as unfinished."""
        return has_finished(one.folder, lambda: self.settings(one), _checksum_of(one))

    def settings(self, one: Planned) -> str:
        """`settings_sha256` of a run with the present settings. Raises UserError where there is no model yet."""
        if one.kind == PRETRAINING or not (arm := Arm.parse(one.place[1])).needs_model:
            return one.settings
        return cell_settings.settings_of(one.narrow, arm, Path(one.experiment.pretrained), self._card)

    def _card(self, folder: Path) -> dict:
        key = str(folder)
        if key not in self._cards:
            self._cards[key] = model_folder.read_card(folder)
        return self._cards[key]
