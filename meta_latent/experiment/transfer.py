"""`meta-latent transfer NAME`: every arm learns every target with every seed; each cell is its own resumable run.

Without `target=`, `arm=` and `run_seed=` the command schedules all cells, one process each; with the three it runs one.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from meta_latent.data.collect import CorrelatedNoise, collect_episode
from meta_latent.data.replay import SequenceReplay, predicted_bytes
from meta_latent.errors import RunError, UserError
from meta_latent.experiment import agents, checkpoint, config, model_folder, pretrain, video
from meta_latent.experiment.evaluation import Acting, Evaluator
from meta_latent.experiment.interrupts import deferred
from meta_latent.experiment.learning_speed import threshold_index
from meta_latent.experiment.metrics import MetricLog
from meta_latent.experiment.run_folder import RunFolder
from meta_latent.experiment.scheduler import Cell, Event, run_cells
from meta_latent.experiment.schema import ExperimentConfig
from meta_latent.experiment.suites import bind
from meta_latent.rng import Streams, derive
from meta_latent.types import Spec

CHECKPOINT = "checkpoints"


def run(name: str, overrides: list[str]) -> None:
    """Run the transfer part of the experiment `name` with `overrides` ("a.b=1")."""
    experiment = config.load(ExperimentConfig, [config.find("experiment", name)], overrides)
    if experiment.target is None and experiment.arm is None and experiment.run_seed is None:
        schedule(experiment, name, overrides)
        return
    for key in ("target", "arm", "run_seed"):
        if getattr(experiment, key) is None:
            raise UserError(f"one cell needs target=, arm= and run_seed=; {key} is missing")
    run_cell(experiment, experiment.target, experiment.arm, experiment.run_seed)


# Scheduling


def cells(experiment: ExperimentConfig, name: str, overrides: list[str], after: tuple[str, ...] = ()) -> list[Cell]:
    """One cell per target, arm and seed; those that start from a pretrained model wait for `after`."""
    transfer, found = experiment.transfer, []
    for seed in transfer.seeds:
        for arm in transfer.arms:
            for target in transfer.targets:
                argv = (sys.executable, "-m", "meta_latent.cli", "transfer", name, *overrides, f"target={target}",
                        f"arm={arm}", f"run_seed={seed}")
                waits = after if needs_model(arm) else ()
                log = cell_folder(experiment, target, arm, seed) / "output.log"
                found.append(Cell(f"{target}/{arm}/{seed}", argv, waits, log))
    return found


def schedule(experiment: ExperimentConfig, name: str, overrides: list[str], before: tuple[Cell, ...] = ()) -> None:
    """Run all cells of the experiment, `before` (pretraining) first where needed. RunError names the failed cells."""
    for target in experiment.transfer.targets.values():
        bind(experiment, target)
    if not before and any(needs_model(arm) for arm in experiment.transfer.arms):
        model_folder.read_card(model_path(experiment))
    found = [*before, *cells(experiment, name, overrides, tuple(cell.name for cell in before))]
    outcome = run_cells(found, experiment.workers, on_event=_tell)
    failed = [cell for cell, result in outcome.items() if result != "done"]
    if failed:
        raise RunError(f"{len(failed)} of {len(found)} cells did not finish: {', '.join(failed[:4])}; their output.log "
                       "says why, the same command tries them again")


def _tell(event: Event) -> None:
    if event.kind == "failed":
        tqdm.write(f"failed  {event.cell.name}: {event.last_line}", file=sys.stderr)
    elif event.kind == "done":
        tqdm.write(f"done    {event.cell.name}  {event.seconds:.0f} s", file=sys.stderr)


def needs_model(arm: str) -> bool:
    """Whether the arm starts from a pretrained model."""
    return not arm.partition("/")[2].startswith("scratch")


def model_path(experiment: ExperimentConfig) -> Path:
    """The model folder that the experiment's pretrained arms open."""
    return Path(experiment.pretrained) if experiment.pretrained else pretrain.folder_of(experiment) / "model"


def cell_folder(experiment: ExperimentConfig, target: str, arm: str, seed: int) -> Path:
    """runs/NAME/transfer/TARGET/ALGORITHM/START/SEED."""
    return Path(experiment.out) / experiment.name / "transfer" / target / arm / str(seed)


# One cell


def run_cell(experiment: ExperimentConfig, target: str, arm: str, seed: int) -> None:
    """Learn one target with one arm and one seed; resumes where it stopped, and does nothing if it is done."""
    transfer = experiment.transfer
    if target not in transfer.targets:
        raise UserError(f"target={target!r}; choose from {', '.join(transfer.targets)}")
    bound = bind(experiment, transfer.targets[target], target)
    pretrained = model_path(experiment) if needs_model(arm) else None
    whole = config.to_dict(experiment)
    narrowed = {key: whole[key] for key in ("name", "device", "suite", "model", "learner")}
    narrowed |= {"target": target, "task": whole["transfer"]["targets"][target], "arm": arm, "seed": seed}
    narrowed["transfer"] = {k: v for k, v in whole["transfer"].items() if k not in ("targets", "arms", "seeds")}
    if pretrained is not None:
        narrowed["model_sha256"] = model_folder.read_card(pretrained)["sha256"]
    with RunFolder(cell_folder(experiment, target, arm, seed), narrowed, seed=seed, may_differ=("device",)) as folder:
        if not folder.done:
            with deferred() as interrupts:
                Transfer(experiment, bound, arm, seed, pretrained, folder).run(interrupts)


class Transfer:
    """One learner on one target: collect an episode, update, evaluate now and then, save."""

    def __init__(self, experiment, bound, arm: str, seed: int, pretrained: Path | None, folder: RunFolder):
        self.config, self.bound, self.arm, self.seed, self.folder = experiment.transfer, bound, arm, seed, folder
        self.pretrained, self.budget = pretrained, experiment.transfer.budget(arm)
        spec = Spec.of(bound.distribution)
        self.streams = Streams(derive(seed, "transfer", bound.name))
        self.agent = agents.build(experiment, arm, spec, seed, pretrained)
        self.replay = SequenceReplay(spec, self.config.replay, folder.path("replay"), self.agent.model.heads)
        self.log = MetricLog(folder)
        self.progress = {"episodes": 0, "seconds": 0.0, "update_seconds": 0.0, "evaluations": []}
        if checkpoint.exists(folder.path(CHECKPOINT)):
            self._load(checkpoint.load(folder.path(CHECKPOINT)))
        else:
            self.log.truncate(None)
        print(f"{bound.name} {arm} seed {seed}: at most {self.budget:,} steps, "
              f"{predicted_bytes(spec, self.budget) / 1e6:,.0f} MB of replay")

    def run(self, interrupts) -> None:
        """Until the budget is spent or the threshold holds."""
        env, self.evaluator = self.bound.make(), Evaluator(self.bound, self.config.evaluation.episodes)
        started = time.monotonic() - self.progress["seconds"]
        metrics: dict[str, float] = {}
        with tqdm(total=self.budget, initial=len(self.replay), unit="step", desc=self.arm, disable=None) as bar:
            while not self._finished():
                before = len(self.replay)
                self._episode(env)
                self.progress["seconds"] = time.monotonic() - started
                metrics = self._update() or metrics
                self.progress["seconds"] = time.monotonic() - started
                bar.update(len(self.replay) - before)
                if self._crossed(before):
                    # The clock of a learning curve stands still while it is measured.
                    self._evaluate(metrics, bar)
                    started = time.monotonic() - self.progress["seconds"]
                    self.save()
                if interrupts.requested:
                    self.save()
                    raise KeyboardInterrupt
        self._finish(env)

    def _episode(self, env) -> None:
        index = self.progress["episodes"]
        warm = index < self.config.warmup_episodes
        behaviour = CorrelatedNoise(env.action_space.shape[0]) if warm else Acting(self.agent, self.streams)
        seed = derive(self.seed, "episode", self.bound.name, index) % 2**31
        episode = collect_episode(env, behaviour, seed, self.streams.numpy("behaviour"))
        mask = self.streams.numpy("mask").random(self.agent.model.heads) < 0.8
        self.replay.add_episode(episode, mask)
        self.progress["episodes"] = index + 1

    def _update(self) -> dict[str, float]:
        if self.progress["episodes"] < self.config.warmup_episodes:
            return {}
        begun = time.monotonic()
        metrics = self.agent.update(self.replay, self.streams)
        self.progress["update_seconds"] += time.monotonic() - begun
        return metrics

    def _crossed(self, before: int) -> bool:
        interval = self.config.evaluation.interval_env_steps
        return len(self.replay) // interval > before // interval or len(self.replay) >= self.budget

    def _clocks(self) -> dict:
        return {"env_steps": len(self.replay), "updates": self.agent.updates, "seconds": self.progress["seconds"]}

    def _evaluate(self, metrics: dict[str, float], bar) -> None:
        score = self.evaluator.score(self.agent, self.streams)
        self.progress["evaluations"].append(score.score)
        self.log.write("train", {**self._clocks(), **metrics, "update_seconds": self.progress["update_seconds"]})
        self.log.write("evaluation", {**self._clocks(), **dataclasses.asdict(score)})
        bar.set_postfix(score=f"{score.score:.2f}", success=f"{score.success:.2f}", refresh=False)
        print(f"{len(self.replay)} steps, {self.progress['seconds']:.0f} s: score {score.score:.2f}, "
              f"success {score.success:.2f}", flush=True)

    def _finished(self) -> bool:
        scores = np.array(self.progress["evaluations"])
        held = self.config.stop_at_threshold and len(scores) > 1 and threshold_index(scores, self.config.threshold) is not None
        return held or len(self.replay) >= self.budget

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
            fps = getattr(env.unwrapped, "metadata", {}).get("render_fps", 10)
            video.write_mp4(self.folder.path("videos", "final.mp4"), np.stack(frames), fps)
        env.close()
        self.evaluator.close()
        floor, reference = self.evaluator.references
        algorithm, _, start = self.arm.partition("/")
        self.save()
        self.folder.finish(
            "done", target=self.bound.name, algorithm=algorithm, start=start, seed=self.seed, floor=floor,
            reference=reference, threshold=self.config.threshold, budget_env_steps=self.budget, **self._clocks(),
            update_seconds=self.progress["update_seconds"],
            pretrained=None if self.pretrained is None else str(self.pretrained))
