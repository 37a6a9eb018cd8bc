"""`meta-latent transfer NAME`: every arm learns every target with every seed; each cell is its own resumable
run.

Without `target=`, `arm=` and `run_seed=` the command schedules all cells, one process each; with the three
it runs one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from meta_latent.data.collect import collect_episode
from meta_latent.data.replay import SequenceReplay, predicted_bytes
from meta_latent.errors import RunError, UserError
from meta_latent.experiment.learning import starts as agents
from meta_latent.experiment.learning.playing import Acting, Evaluator
from meta_latent.experiment.pretraining import model_folder, source_data
from meta_latent.experiment.pretraining import stages as pretrain
from meta_latent.experiment.runs import checkpoint, video
from meta_latent.experiment.runs.interrupts import deferred
from meta_latent.experiment.runs.metrics import MetricLog
from meta_latent.experiment.runs.run_folder import CHECKPOINT, RunFolder, read_record
from meta_latent.experiment.runs.scheduler import Cell, Event, run_cells
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import Bound, bind
from meta_latent.ops.learning_speed import threshold_index
from meta_latent.rng import Streams, derive
from meta_latent.types import Spec

# Scheduling


def cells(
    experiment: ExperimentConfig, name: str, overrides: list[str], after: tuple[str, ...] = ()
) -> list[Cell]:
    """One cell per target, arm and seed; those that start from a pretrained model wait for `after`."""
    transfer, found = experiment.transfer, []
    for seed in transfer.seeds:
        for arm in transfer.arms:
            for target in transfer.targets:
                argv = (
                    sys.executable,
                    "-m",
                    "meta_latent.cli",
                    "transfer",
                    name,
                    *overrides,
                    f"target={target}",
                    f"arm={arm}",
                    f"run_seed={seed}",
                )
                waits = after if needs_model(arm) else ()
                log = cell_folder(experiment, target, arm, seed) / "output.log"
                found.append(Cell(f"{target}/{arm}/{seed}", argv, waits, log))
    return found


def schedule(
    experiment: ExperimentConfig, name: str, overrides: list[str], before: tuple[Cell, ...] = ()
) -> None:
    """Run all cells of the experiment, `before` (pretraining) first where needed. RunError names the failed
    cells.
    """
    if not experiment.transfer.targets:
        raise UserError("transfer.targets is empty: there is nothing to learn; name one or more tasks")
    for arm in experiment.transfer.arms:
        agents.learner_class(arm, Transfer)
    for target in experiment.transfer.targets:
        bind_target(experiment, target)
    for source in experiment.pretrain.sources if before else ():
        bind(experiment, source)
    if not before and any(needs_model(arm) for arm in experiment.transfer.arms):
        model_folder.read_card(model_path(experiment))
    found = [*before, *cells(experiment, name, overrides, tuple(cell.name for cell in before))]
    outcome = run_cells(found, experiment.workers, on_event=_tell)
    failed = [cell for cell, result in outcome.items() if result != "done"]
    if failed:
        raise RunError(
            f"{len(failed)} of {len(found)} cells did not finish: {', '.join(failed[:4])}; their output.log "
            "says why, the same command tries them again"
        )


def _tell(event: Event) -> None:
    if event.kind == "failed":
        tqdm.write(f"failed  {event.cell.name}: {event.last_line}", file=sys.stderr)
    elif event.kind == "done":
        tqdm.write(f"done    {event.cell.name}  {event.seconds:.0f} s", file=sys.stderr)


def needs_model(arm: str) -> bool:
    """Whether the arm needs a pretrained model, or the source data that its folder names."""
    return arm.partition("/")[2] != "scratch"


def model_path(experiment: ExperimentConfig) -> Path:
    """The model folder that the pretrained arms open. Raises UserError if pretraining has not finished."""
    if experiment.pretrained:
        return Path(experiment.pretrained)
    folder = pretrain.folder_of(experiment)
    if read_record(folder).get("status") != "done":
        begun = "has not finished" if folder.exists() else "was never started"
        raise UserError(
            f"the pretraining of this experiment, in {folder}, {begun}: run meta-latent pretrain with the "
            "same NAME and options, or name a model with pretrained="
        )
    return folder / "model"


def cell_folder(experiment: ExperimentConfig, target: str, arm: str, seed: int) -> Path:
    """runs/NAME/transfer/TARGET/ALGORITHM/START/SEED."""
    return Path(experiment.out) / experiment.name / "transfer" / target / arm / str(seed)


# One cell


def run_cell(experiment: ExperimentConfig, target: str, arm: str, seed: int) -> None:
    """Learn one target with one arm and one seed; resumes where it stopped, and does nothing if it is
    done.
    """
    bound = bind_target(experiment, target)
    learner = agents.learner_class(arm, Transfer)
    pretrained = model_path(experiment) if needs_model(arm) else None
    settings = narrowed(experiment, target, arm, seed, pretrained)
    with RunFolder(
        cell_folder(experiment, target, arm, seed), settings, seed=seed, may_differ=("device",)
    ) as folder:
        if not folder.done:
            with deferred() as interrupts:
                learner(experiment, bound, arm, seed, pretrained, folder).run(interrupts)


def bind_target(experiment: ExperimentConfig, target: str) -> Bound:
    """The target called `target`. Raises UserError listing the targets there are."""
    targets = experiment.transfer.targets
    if target not in targets:
        raise UserError(f"target={target!r}; choose from {', '.join(targets)}")
    return bind(experiment, targets[target], target)


def narrowed(experiment: ExperimentConfig, target: str, arm: str, seed: int, pretrained: Path | None) -> dict:
    """The part of the configuration that one cell depends on, with the checksums of what it starts from."""
    whole = config.to_dict(experiment)
    narrow = {key: whole[key] for key in ("name", "device", "suite", "random", "model", "learner")}
    narrow |= {"target": target, "task": whole["transfer"]["targets"][target], "arm": arm, "seed": seed}
    narrow["transfer"] = {k: v for k, v in whole["transfer"].items() if k not in ("targets", "arms", "seeds")}
    narrow["transfer"]["budget_env_steps"] = experiment.transfer.budget(target, arm)
    if pretrained is not None:
        card = model_folder.read_card(pretrained)
        narrow["model_sha256"] = card["sha256"]
        if arm.endswith("+data"):
            narrow["source_sha256"] = source_data.read_card(pretrained)["sha256"]
    return narrow


class Transfer:
    """One learner on one target: collect an episode, update, evaluate now and then, save."""

    def __init__(self, experiment, bound, arm: str, seed: int, pretrained: Path | None, folder: RunFolder):
        self.config, self.bound, self.arm, self.seed, self.folder = (
            experiment.transfer,
            bound,
            arm,
            seed,
            folder,
        )
        self.pretrained, self.random = pretrained, experiment.random
        self.budget = experiment.transfer.budget(bound.name, arm)
        spec = Spec.of(bound.distribution)
        self.streams = Streams(derive(seed, "transfer", bound.name))
        self._open(experiment, spec)
        self.log = MetricLog(folder)
        self.progress = {
            "episodes": 0,
            "seconds": 0.0,
            "update_seconds": 0.0,
            "evaluations": [],
            "metrics": {},
        }
        self._resume()
        print(f"{bound.name} {arm} seed {seed}: at most {self.budget:,} steps, "
              f"{predicted_bytes(spec, self.budget) / 1e6:,.0f} MB of replay")

    def _open(self, experiment: ExperimentConfig, spec: Spec) -> None:
        """The agent and its replay."""
        self.agent = agents.build(experiment, self.arm, spec, self.seed, self.pretrained)
        self.replay = SequenceReplay(
            spec, self.config.replay, self.folder.path("replay"), self.agent.model.heads
        )

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if checkpoint.exists(self.folder.path(CHECKPOINT)):
            with checkpoint.fitting(self.folder.path(CHECKPOINT)) as state:
                self._load(state)
        else:
            self.log.truncate(None)

    def run(self, interrupts) -> None:
        """Until the budget is spent or the threshold holds."""
        env, self.evaluator = self.bound.make(), Evaluator(self.bound, self.config.evaluation.episodes)
        with contextlib.closing(env), contextlib.closing(self.evaluator):
            self._learn(env, interrupts)
            self._finish(env)

    def _learn(self, env, interrupts) -> None:
        started = time.monotonic() - self.progress["seconds"]
        with tqdm(
            total=self.budget, initial=self.replay.env_steps, unit="step", desc=self.arm, disable=None
        ) as bar:
            while not self._finished():
                before = self.replay.env_steps
                self._episode(env)
                self.progress["seconds"] = time.monotonic() - started
                self._update()
                self.progress["seconds"] = time.monotonic() - started
                bar.update(self.replay.env_steps - before)
                if self._crossed(before):
                    # The clock of a learning curve stands still while it is measured.
                    self._evaluate(bar)
                    started = time.monotonic() - self.progress["seconds"]
                    self.save()
                if interrupts.requested:
                    self.save()
                    raise KeyboardInterrupt

    def _episode(self, env) -> None:
        index = self.progress["episodes"]
        warm = index < self.config.warmup_episodes
        rng, actions = self.streams.numpy("behaviour"), env.action_space.shape[0]
        behaviour = self.random.draw(actions, rng) if warm else Acting(self.agent, self.streams)
        seed = derive(self.seed, "episode", self.bound.name, index) % 2**31
        episode = collect_episode(env, behaviour, seed, rng)
        mask = self.streams.numpy("mask").random(self.agent.model.heads) < 0.8
        self.replay.add_episode(episode, mask)
        self.progress["episodes"] = index + 1

    def _update(self) -> None:
        if self.progress["episodes"] < self.config.warmup_episodes:
            return
        begun = time.monotonic()
        self.progress["metrics"] |= self.agent.update(self.replay, self.streams)
        self.progress["update_seconds"] += time.monotonic() - begun

    def _crossed(self, before: int) -> bool:
        interval = self.config.evaluation.interval_env_steps
        return self.replay.env_steps // interval > before // interval or self.replay.env_steps >= self.budget

    def _clocks(self) -> dict:
        return {
            "env_steps": self.replay.env_steps,
            "updates": self.agent.updates,
            "seconds": self.progress["seconds"],
        }

    def _evaluate(self, bar) -> None:
        score = self.evaluator.score(self.agent, self.streams)
        self.progress["evaluations"].append(score.score)
        self.log.write("train", {**self._clocks(), **self.progress["metrics"],
                                 "update_seconds": self.progress["update_seconds"]})
        self.log.write("evaluation", {**self._clocks(), **dataclasses.asdict(score)})
        bar.set_postfix(score=f"{score.score:.2f}", success=f"{score.success:.2f}", refresh=False)
        print(f"{self.replay.env_steps} steps, {self.progress['seconds']:.0f} s: score {score.score:.2f}, "
              f"success {score.success:.2f}", flush=True)

    def _finished(self) -> bool:
        scores = np.array(self.progress["evaluations"])
        held = len(scores) > 1 and threshold_index(scores, self.config.threshold) is not None
        return self.config.stop_at_threshold and held or self.replay.env_steps >= self.budget

    # Saving

    def save(self) -> None:
        """One atomic checkpoint, at the end of an episode."""
        self.replay.flush()
        checkpoint.save(self.folder.path(CHECKPOINT), {
            "progress": self.progress, "streams": self.streams.state(), "agent": self.agent.state(),
            "replay": self.replay.state(), "log": self.log.state()})
        self.replay.prune()

    def _load(self, state: dict) -> None:
        self.progress = {**state["progress"], "evaluations": list(state["progress"]["evaluations"])}
        self.streams.load_state(state["streams"])
        self.agent.load_state(state["agent"])
        self.replay.load_state(state["replay"])
        self.log.truncate(state["log"])

    def _finish(self, env) -> None:
        if self.config.video:
            frames: list[np.ndarray] = []
            self.evaluator.score(self.agent, self.streams, frames)
            video.write_episode(self.folder.path("videos", "final.mp4"), frames, env)
        floor, reference = self.evaluator.references
        algorithm, _, start = self.arm.partition("/")
        self.save()
        self.folder.finish(
            "done",
            target=self.bound.name,
            algorithm=algorithm,
            start=start,
            seed=self.seed,
            floor=floor,
            reference=reference,
            threshold=self.config.threshold,
            budget_env_steps=self.budget,
            **self._clocks(),
            update_seconds=self.progress["update_seconds"],
            pretrained=None if self.pretrained is None else str(self.pretrained),
        )
