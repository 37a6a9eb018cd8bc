"""Runs a sweep: the cells of all its variants in one pool, each once, and a report over them."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from meta_latent import files
from meta_latent.algorithms.registry import Arm
from meta_latent.data.segments import in_megabytes, predicted_bytes
from meta_latent.errors import UserError, counted, visible
from meta_latent.experiment.learning import cells, refusals, sweep_plan
from meta_latent.experiment.learning.sweep_plan import PRETRAINING, Finished, Planned
from meta_latent.experiment.report import sweep_report
from meta_latent.experiment.report.words.text import duration
from meta_latent.experiment.runs import ray_executor, run_folder
from meta_latent.experiment.runs.ledger import Ledger
from meta_latent.experiment.runs.processes import LocalProcess
from meta_latent.experiment.runs.scheduler import Event, Policy, failure, run_cells
from meta_latent.experiment.settings import experiments
from meta_latent.experiment.settings import sweep as settings
from meta_latent.experiment.settings.suites import bind_source, bind_target
from meta_latent.experiment.settings.sweep import SweepConfig
from meta_latent.types import Spec

LEDGER = "sweep.jsonl"
DEATHS = 10
"""How often in one call a cell is taken over whose process was killed."""
_LOG_LINES, _SHOWN = 5, 10


@dataclass(frozen=True)
class Options:
    """fail_fast: the first cell that fails for good stops all. retry_failed: cells that failed for good in an earlier
    call are tried again.
    """

    fail_fast: bool = False
    retry_failed: bool = False


class Sweep:
    """A sweep as it stands on the disk: its cells, which have finished, which have failed for good.

    source: a name in configs/experiment/, a path or a dict. overrides: "a.b=1". Raises UserError for wrong ones.
    """

    def __init__(self, source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()):
        self.config, self.variants = settings.load(source, overrides)
        if self.config.target or self.config.arm or self.config.run_seed is not None:
            raise UserError("a sweep runs all cells: leave out target=, arm= and run_seed=")
        for variant in self.variants:
            if not variant.experiment.transfer.targets:
                raise UserError("transfer.targets is empty: there is nothing to learn; name one or more tasks")
        _refuse_experiment(self.config)
        self.planned = sweep_plan.plan(self.config, self.variants)
        self.finished = Finished()
        not_own = sweep_plan.borrowed(self.planned)
        self.done = {one.cell.name for one in self.planned if one.cell.name not in not_own and self.finished(one)}
        self.ledger = Ledger(self.config.root / LEDGER)

    @property
    def root(self) -> Path:
        """OUT/NAME."""
        return self.config.root

    def open_cells(self, retry_failed: bool) -> tuple[list[Planned], list[Planned]]:
        """What is to run, and what is not because it, or what it needs, has failed for good before."""
        todo, stuck, names = [], [], set()
        for one in self.planned:
            if one.cell.name in self.done:
                continue
            failed = not retry_failed and self.ledger.failed(one.cell.name, one.settings)
            if failed or names.intersection(one.cell.after):
                stuck.append(one)
                names.add(one.cell.name)
            else:
                todo.append(one)
        return todo, stuck

    def seconds(self, todo: Collection[Planned]) -> float | None:
        """What `todo` will take on the sweep's workers, by the finished cells of its kinds; None = unknown."""
        own = {one.kind: self.ledger.seconds(one.kind) for one in self.planned}
        known = [value for kind, value in own.items() if value is not None and kind != PRETRAINING]
        usual = sum(known) / len(known) if known else None
        each = [usual if own[one.kind] is None and one.kind != PRETRAINING else own[one.kind] for one in todo]
        return None if None in each else sum(each) / min(self.config.workers, max(len(each), 1))


def run(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), options: Options | None = None) -> dict:
    """Run every cell of a sweep that has not finished, then write its report; returns the content of sweep.json.

    Raises UserError if another process runs the same sweep; RunError naming the cells that failed, UserError where each
    of them did for wrong input.
    """
    options = options or Options()
    sweep = Sweep(source, overrides)
    todo, stuck = sweep.open_cells(options.retry_failed)
    _check(todo, sweep.finished)
    _refuse_links(sweep, todo)
    with run_folder.held(sweep.root):
        sweep_plan.write_experiments(sweep.planned)
        sweep_plan.write_links(sweep.planned)
        sweep_report.write_variants(sweep.root, [(v.name, v.group, v.values) for v in sweep.variants])
        size = f"{counted(len(sweep.variants), 'variant')}, {counted(len(sweep.planned), 'cell')}"
        tqdm.write(f"sweep {sweep.config.name}: {size}, {len(sweep.done)} finished, {len(todo)} to run",
                   file=sys.stderr)  # fmt: skip
        outcome = _run_cells(sweep, todo, options)
        result = sweep_report.build(sweep.root)
        _raise_failures(sweep, outcome, stuck)
    return result


def _refuse_links(sweep: Sweep, todo: Sequence[Planned]) -> None:
    """Raise UserError where a link would have the sweep, or a cell of it, write outside of its folder."""
    files.refuse_links(sweep.root / "report", sweep.root)
    for path in {one.folder for one in todo} | {link.parent for one in sweep.planned for link in one.links}:
        if files.leads_out(path, sweep.root):
            raise UserError(
                f"{path} leads out of {sweep.root} by a link: put what it leads to in its place, or remove it"
            )


def _refuse_experiment(config: SweepConfig) -> None:
    """Raise UserError where `pretrain`, `transfer` or `demo` keep runs: two kinds of folder in one."""
    mine = (config.root / sweep_report.NUMBERS).exists()  # variants may have any name
    if not mine and any((config.root / part).exists() for part in (experiments.FILE, "pretrain", "transfer")):
        raise UserError(f"{config.root} holds the runs of one experiment, not of a sweep; give the sweep a name of its "
                        f"own: name={config.name}_sweep")  # fmt: skip


def _run_cells(sweep: Sweep, todo: Sequence[Planned], options: Options) -> dict[str, str]:
    """Names of `todo` -> "done", "failed", "interrupted", "skipped" or "stopped"."""
    by_name = {one.cell.name: one for one in todo}

    def remaining(waiting: Collection[str], running: Collection[str]) -> float | None:
        return sweep.seconds([by_name[name] for name in (*waiting, *running)])

    policy = Policy(
        launch=_launch(sweep.config, todo),
        retries=sweep.config.sweep.retries,
        deaths=DEATHS,
        fail_fast=options.fail_fast,
        finished=lambda cell: sweep.finished(by_name[cell.name]),
        busy=lambda cell: run_folder.in_use(by_name[cell.name].folder),
        remaining=remaining,
        before=len(sweep.done),
    )
    # What has finished is not among the cells, so nothing waits for it.
    present = [replace(one.cell, after=tuple(n for n in one.cell.after if n not in sweep.done)) for one in todo]
    return run_cells(present, sweep.config.workers, _noted(sweep, by_name), policy=policy)


def _noted(sweep: Sweep, by_name: Mapping[str, Planned]) -> Callable[[Event], None]:
    """Writes every attempt that has ended into the ledger, and tells of it."""

    def note(event: Event) -> None:
        one = by_name[event.cell.name]
        if event.exit_status is not None:
            sweep.ledger.add(
                event.cell.name, one.kind, one.settings, outcome=event.kind, seconds=round(event.seconds, 2),
                status=event.exit_status, line=event.last_line)  # fmt: skip
        _tell(event)

    return note


def _launch(config: SweepConfig, todo: Sequence[Planned]) -> Callable:
    if config.sweep.executor == "local":
        return LocalProcess
    cpus = max((one.cell.cpus for one in todo), default=1)
    return ray_executor.connect(config.sweep.address, config.workers, cpus)


def _tell(event: Event) -> None:
    texts = {"done": f"{event.seconds:.0f} s", "failed": event.last_line, "again": event.last_line, "stopped": "",
             "interrupted": f"after {event.seconds:.0f} s", "skipped": "what it needs did not finish",
             "found": "another process finished it", "waits": "another process works on it"}  # fmt: skip
    if event.kind in texts:
        tqdm.write(f"{event.kind:12}{event.cell.name}  {texts[event.kind]}  ({event.standing})", file=sys.stderr)


def _raise_failures(sweep: Sweep, outcome: Mapping[str, str], stuck: Sequence[Planned]) -> None:
    """RunError if a cell has not finished, UserError if each that failed did for wrong input, after the last lines of
    the logs of those that failed.
    """
    failed = [one for one in sweep.planned if outcome.get(one.cell.name) == "failed"]
    failed += [one for one in stuck if sweep.ledger.failed(one.cell.name, one.settings)]
    for one in failed[:_SHOWN]:
        lines = _tail(one.cell.log) or [sweep.ledger.line(one.cell.name)]
        tqdm.write("\n    ".join([f"failed  {one.cell.name}; the end of {one.cell.log}:", *lines]), file=sys.stderr)
    missing = len(stuck) + sum(result != "done" for result in outcome.values())
    if missing:
        names = ", ".join(one.cell.name for one in failed[:4]) or "none"
        again = "with --retry-failed tries them again" if failed else "goes on"
        stopped = sum(result == "stopped" for result in outcome.values())
        ended = [one.cell.name for one in failed] + [name for name, kind in outcome.items() if kind == "interrupted"]
        raise failure(map(sweep.ledger.status, ended), f"{missing} of {len(sweep.planned)} cells did not finish; "
                      f"failed: {names}; {f'stopped by --fail-fast: {stopped}; ' * bool(stopped)}"
                      f"the same command {again}")  # fmt: skip


def _tail(log: Path | None) -> list[str]:
    try:
        with open(log, "rb", opener=files.no_link) as file:
            file.seek(max(0, file.seek(0, 2) - 8000))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [visible(line.rstrip()) for line in text.splitlines() if line.strip()][-_LOG_LINES:]


def _check(todo: Sequence[Planned], finished: Finished) -> None:
    """Raise UserError for what is known to fail before it starts."""
    bound: dict[str, Any] = {}
    fitting: set[tuple[str, str]] = set()
    for one in todo:
        if one.kind == PRETRAINING:
            continue
        (target, name), experiment = one.place, one.experiment
        arm, key = Arm.parse(name), repr((experiment.suite, target, experiment.transfer.targets[target]))
        if key not in bound:
            bound[key] = bind_target(experiment, target)
        arm.entry.require_extra(arm.algorithm)
        refusals.check(experiment, bound[key], arm)
        sources = (key, repr(experiment.pretrain.sources))
        if one.cell.after and sources not in fitting:
            for why in refusals.misfits(experiment, [bound[key]]):
                raise UserError(why)
            fitting.add(sources)
        if not one.folder.is_symlink():
            now = functools.partial(finished.settings, one)
            cells.refuse_other_settings(one.folder, experiment, one.narrow, now)


def foretell(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), options: Options | None = None
) -> str:
    """What `run` would do, in words: cells, bytes of their data, time. Writes nothing."""
    sweep = Sweep(source, overrides)
    todo, stuck = sweep.open_cells((options or Options()).retry_failed)
    _check(todo, sweep.finished)
    links = sum(len(one.links) for one in sweep.planned)
    pretrainings = sum(one.kind == PRETRAINING for one in sweep.planned)
    need, seconds = sum(map(_bytes, todo)), sweep.seconds(todo)
    time = "unknown: no such cell has finished yet" if seconds is None else f"about {duration(seconds)}"
    above = next(folder for folder in (sweep.root, *sweep.root.absolute().parents) if folder.exists())
    lines = [
        f"sweep {sweep.config.name} in {sweep.root}: {counted(len(sweep.variants), 'variant')}",
        *(f"  {variant.name}" for variant in sweep.variants),
        f"cells: {len(sweep.planned)}, of them {counted(pretrainings, 'pretraining')}; {links} more "
        f"{'is' if links == 1 else 'are'} equal to one of these",
        f"finished {len(sweep.done)}, failed before {len(stuck)}, to run {len(todo)}",
        f"data to store: at most {in_megabytes(need)}, checkpoints and videos come on top; "
        f"free there: {in_megabytes(shutil.disk_usage(above).free)}",
        f"time: {time} ({counted(sweep.config.workers, 'worker')})",
    ]
    return "\n".join(lines)


def _bytes(one: Planned) -> int:
    """Of the episodes that a cell stores."""
    experiment = one.experiment
    if one.kind == PRETRAINING:
        return predicted_bytes(Spec.of(bind_source(experiment, 0).distribution), experiment.pretrain.env_steps)
    target, arm = one.place
    if Arm.parse(arm).entry.clock != "env_steps":
        return 0
    steps = min(experiment.transfer.budget(target, arm), experiment.transfer.replay.capacity)
    return predicted_bytes(Spec.of(bind_target(experiment, target).distribution), steps)
