"""Cells: one target, one arm, one seed; each is a resumable run of its own, and all are scheduled side by side."""

from __future__ import annotations

import contextlib
import functools
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from meta_latent.algorithms.registry import Arm
from meta_latent.errors import Faults, UserError
from meta_latent.experiment.learning import refusals
from meta_latent.experiment.learning.cell_settings import checksum_of, latitude_of, narrowed, settings_of
from meta_latent.experiment.learning.loop import Learning
from meta_latent.experiment.pretraining import model_folder, pretrain
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.runs.devices import repeatable
from meta_latent.experiment.runs.interrupts import deferred
from meta_latent.experiment.runs.latitude import filled_in
from meta_latent.experiment.runs.processes import Cell, command
from meta_latent.experiment.runs.run_folder import (
    CHECKPOINT,
    CONFIG,
    RunFolder,
    has_finished,
    holder,
    in_use,
    read_record,
    records,
)
from meta_latent.experiment.runs.scheduler import Event, Policy, failure, run_cells
from meta_latent.experiment.settings import config, experiments, listing
from meta_latent.experiment.settings.chosen import chosen_cells, chosen_pairs
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.structure import build, plain
from meta_latent.experiment.settings.suites import BoundTarget, bind_target
from meta_latent.models.config import ModelConfig


def cell_folder(experiment: ExperimentConfig, target: str, arm: str | Arm, seed: int) -> Path:
    """runs/NAME/transfer/TARGET/ALGORITHM/START/SEED."""
    return Path(experiment.out) / experiment.name / "transfer" / target / str(arm) / str(seed)


def run_cell(experiment: ExperimentConfig, target: str, arm: str, seed: int) -> bool:
    """Learn one target with one arm and one seed; resumes where it stopped, and does nothing, and returns False, if it
    is done.
    """
    parsed, bound = Arm.parse(arm), bind_target(experiment, target)
    parsed.entry.require_extra(parsed.algorithm)
    refusals.check(experiment, bound, parsed)
    pretrained = pretrain.model_path(experiment) if parsed.needs_model else None
    settings = narrowed(experiment, target, parsed, seed, pretrained)
    folder = cell_folder(experiment, target, parsed, seed)
    with RunFolder(folder, settings, seed=seed, latitude=latitude_of(experiment, target, parsed)) as opened:
        experiments.keep(experiment)
        if opened.done:
            return False
        with repeatable(experiment.device), deferred() as interrupts:
            learning = Learning(experiment, bound, parsed, seed, pretrained, opened)
            opened.begin(**learning.facts(), **starting_model(pretrained))
            learning.run(interrupts)
    return True


def starting_model(pretrained: Path | None) -> dict:
    """What `run.json` says of the model that a cell starts from."""
    if pretrained is None:
        return {"pretrained": None, "model_sha256": None}
    return {"pretrained": str(pretrained.resolve()), "model_sha256": model_folder.read_card(pretrained)["sha256"]}


# All cells


def cells(experiment: ExperimentConfig, name: str, overrides: list[str], after: tuple[str, ...] = ()) -> list[Cell]:
    """One cell per target, arm and seed, as far as the experiment chooses; those that start from a pretrained model
    wait for `after`.
    """
    found = []
    for target, arm, seed in chosen_cells(experiment):
        which = (f"target={target}", f"arm={arm}", f"run_seed={seed}")
        argv = command("transfer", name, *overrides, *which)
        waits = after if arm.needs_model else ()
        log = cell_folder(experiment, target, arm, seed) / "output.log"
        found.append(Cell(f"{target}/{arm}/{seed}", argv, waits, log))
    return found


def finished(experiment: ExperimentConfig) -> Callable[[str], bool]:
    """Answers, for the name of one of the `cells`, whether its run has finished with the settings that it has now."""
    whole, digest = config.to_dict(experiment), _digest(experiment)
    places = {f"{target}/{arm}/{seed}": (target, arm, seed) for target, arm, seed in chosen_cells(experiment)}

    def answer(name: str) -> bool:
        cell = places[name]
        now = functools.partial(narrowed, experiment, *cell, None, whole)
        return has_finished(cell_folder(experiment, *cell), lambda: digest(now()), checksum_of)

    return answer


def _digest(experiment: ExperimentConfig) -> Callable[[dict], str]:
    """Gives, for the settings of a cell (`narrowed`), what `run.json` says of them; reads each card once."""
    read_card = functools.cache(model_folder.read_card)

    def digest(narrow: dict) -> str:
        arm = Arm.parse(narrow["arm"])
        return settings_of(narrow, arm, pretrain.model_path(experiment) if arm.needs_model else None, read_card)

    return digest


def schedule(experiment: ExperimentConfig, name: str, overrides: list[str], before: tuple[Cell, ...] = ()) -> None:
    """Run the cells of the experiment, as far as it chooses, `before` (pretraining) first where needed. RunError names
    those that failed; UserError, where each of them did for wrong input.
    """
    if not experiment.transfer.targets:
        raise UserError("transfer.targets is empty: there is nothing to learn; name one or more tasks")
    arms = dict.fromkeys(Arm.parse(arm) for _, arm in chosen_pairs(experiment))
    with Faults() as faults:
        if before:
            with faults.noted():
                pretrain.checked(experiment)
        elif any(arm.needs_model for arm in arms):
            with faults.noted():
                pretrain.model_path(experiment, _pretraining(name, overrides))
        bound = refusals.check_all(experiment, faults)
    for target in bound:
        _say_what_counts(experiment, target)
    _refuse_other_settings(experiment)
    if not before and any(arm.needs_model for arm in arms):
        _say_whether_models_differ(experiment, arms, model_folder.read_card(pretrain.model_path(experiment)))
    has_ended, first = finished(experiment), {cell.name for cell in before}

    def is_done(cell: Cell) -> bool:
        return pretrain.has_finished(experiment) if cell.name in first else has_ended(cell.name)

    every = [*before, *cells(experiment, name, overrides, tuple(first))]
    done = {cell.name for cell in every if is_done(cell)}
    found = [cell for cell in every if cell.name not in done]
    # What has finished is not among the cells, so nothing waits for it.
    found = [replace(cell, after=tuple(name for name in cell.after if name not in done)) for cell in found]
    if done:
        tqdm.write(_done_before(len(done - first), len(every) - len(first), bool(done & first)), file=sys.stderr)
        _say_what_is_asked(experiment, bound, done)
    statuses: dict[str, int | None] = {}

    def note(event: Event) -> None:
        if event.kind in ("failed", "interrupted"):
            statuses[event.cell.name] = event.exit_status
        _tell(event)

    with _settings_kept(experiment) as outcome:
        outcome |= dict.fromkeys(done, "done")
        if found:
            policy = Policy(finished=is_done, busy=lambda cell: in_use(cell.log.parent), before=len(done))
            outcome |= run_cells(found, experiment.workers, note, on_line=_repeat, policy=policy)
    failed = [cell for cell, result in outcome.items() if result != "done"]
    if failed:
        text = f"{len(failed)} of {len(every)} cells did not finish: {', '.join(failed[:4])}; their output.log "
        raise failure(statuses.values(), f"{text}says why, the same command tries them again")


def _pretraining(name: str, overrides: Iterable[str]) -> str:
    """The command that pretrains for `meta-latent transfer NAME OVERRIDES`."""
    kept = [word for word in overrides if word.partition("=")[0] not in ("target", "arm", "run_seed")]
    return shlex.join(["meta-latent", "pretrain", name, *kept])


def _refuse_other_settings(experiment: ExperimentConfig) -> None:
    """Raise UserError, before anything starts, if a run that is there has other settings: some seeds of an arm would
    learn with these and some with those.
    """
    whole, digest = config.to_dict(experiment), _digest(experiment)
    for cell in chosen_cells(experiment):
        narrow = narrowed(experiment, *cell, None, whole)
        refuse_other_settings(cell_folder(experiment, *cell), experiment, narrow, functools.partial(digest, narrow))


def refuse_other_settings(
    folder: Path, experiment: ExperimentConfig, narrow: dict, settings: Callable[[], str]
) -> None:
    """Raise UserError if the run in `folder` has learned something with other settings than `narrow`, those of a cell
    of `experiment`. settings: gives what `run.json` says of them; UserError: there is no model yet.
    """
    if not checkpoint.exists(folder / CHECKPOINT):
        return
    with contextlib.suppress(UserError):
        if records(folder, settings()):
            return
    stored = _stored(folder)
    if stored:
        advice = "nothing was started; give the same value, or choose another folder with out="
        latitude_of(experiment, narrow["target"], narrow["arm"]).refuse(folder, stored, _settings(narrow), advice)


def _stored(folder: Path) -> dict:
    """The settings of a run; {} where there are none that can be read."""
    with contextlib.suppress(UserError):
        return _settings(config.read_yaml(folder / CONFIG))
    return {}


def _settings(narrow: dict) -> dict:
    """`narrowed` without the checksums of files."""
    return {key: value for key, value in narrow.items() if not key.endswith("_sha256")}


@contextlib.contextmanager
def _settings_kept(experiment: ExperimentConfig) -> Iterator[dict[str, str]]:
    """Keep the experiment's settings in its folder: from the start on, or, where others are kept there, once they have
    done something, or were interrupted. Those that every cell refuses change nothing. Yields the cells' outcome.
    """
    outcome: dict[str, str] = {}
    experiments.keep(experiment)
    try:
        yield outcome
    except KeyboardInterrupt:
        experiments.write(experiment)
        raise
    if "done" in outcome.values():
        experiments.write(experiment)


def _say_what_counts(experiment: ExperimentConfig, target: BoundTarget) -> None:
    if not experiment.transfer.thresholds_of(target.name, target.references() is not None):
        tqdm.write(
            f"{target.name} has no references: its scores are raw returns, and no threshold counts; give it one "
            f"with transfer.targets.{target.name}.thresholds=[...]", file=sys.stderr)  # fmt: skip


def _say_what_is_asked(experiment: ExperimentConfig, bound: Iterable[BoundTarget], done: Collection[str]) -> None:
    """Thresholds that end no run only say how it is read: reports ask about those that it recorded."""
    for target in bound:
        now = experiment.transfer.thresholds_of(target.name, target.references() is not None)
        folders = [cell_folder(experiment, *cell) for cell in chosen_cells(experiment)
                   if cell[0] == target.name and "/".join(map(str, cell)) in done]  # fmt: skip
        kept = {tuple(read_record(folder).get("thresholds", now)) for folder in folders} - {now}
        if now and kept:
            again = ["meta-latent", "report", str(experiments.path_of(experiment).parent), f"thresholds={list(now)}"]
            recorded = " or ".join(str(list(one)) for one in sorted(kept))
            tqdm.write(f"{target.name}: finished runs recorded the thresholds {recorded}, which reports ask about; "
                       f"about others: {shlex.join(again)}", file=sys.stderr)  # fmt: skip


def _say_whether_models_differ(experiment: ExperimentConfig, arms: Iterable[Arm], card: dict) -> None:
    """A pretrained arm takes the model that it is given, one from scratch makes `experiment.model`."""
    makes = [arm for arm in arms if not arm.needs_model and "pretrained" in arm.entry.starts]
    given = _completed(card["config"])
    rows = listing.differing({"given": listing.flat(given), "made": listing.flat(plain(experiment.model))})
    if makes and rows:
        shown = ", ".join(f"model.{key} {given} there and {made} here" for key, (given, made) in rows[:4])
        tqdm.write(f"the pretrained model is not the one that {makes[0]} makes: {shown}"
                   f"{f', and {len(rows) - 4} more' if len(rows) > 4 else ''}; then two models are compared, not two "
                   "starts", file=sys.stderr)  # fmt: skip


def _completed(model: dict) -> dict:
    """`ModelConfig` as a model's card keeps it, with the keys that were added since, at their defaults; as it is where
    this version cannot read it, which `model_folder.load` refuses.
    """
    try:
        return filled_in(model, plain(build(ModelConfig, model, lambda key: model_folder.CARD)))
    except UserError:
        return model


def _done_before(runs: int, of: int, pretraining: bool) -> str:
    """What a call that goes on need not do."""
    said = ["the pretraining"] * pretraining + [f"{runs} of {of} runs"] * bool(runs)
    return f"{' and '.join(said)} {'was' if said == ['the pretraining'] else 'were'} finished before"


def _tell(event: Event) -> None:
    name, line = event.cell.name, event.last_line
    if event.kind in ("waits", "again"):
        tqdm.write(f"waits   {name}: another process works on it, process {holder(event.cell.log.parent)}",
                   file=sys.stderr)  # fmt: skip
    ended = {"failed": f"failed  {name}: {line}", "interrupted": f"interrupted  {name}  after {event.seconds:.0f} s",
             "found": f"done    {name}: another process finished it",
             "done": f"done    {name}  {event.seconds:.0f} s{line and f': {line}'}"}  # fmt: skip
    if event.kind in ended:
        tqdm.write(f"{ended[event.kind]}  ({event.standing})", file=sys.stderr)


def _repeat(cell: Cell, line: str) -> None:
    """What a cell says, where no terminal shows it in place."""
    print(f"{cell.name}: {line}", file=sys.stderr, flush=True)
