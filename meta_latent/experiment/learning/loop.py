"""The one loop: collect, update, now and then evaluate, save; for every kind of algorithm."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from meta_latent.algorithms.registry import Arm
from meta_latent.data import answers
from meta_latent.data.collect import Noise
from meta_latent.data.replay import SequenceReplay
from meta_latent.data.segments import in_megabytes, predicted_bytes
from meta_latent.data.windows import telling
from meta_latent.errors import RunError
from meta_latent.experiment.learning import starts
from meta_latent.experiment.learning.collector import Collector, CollectorConfig
from meta_latent.experiment.learning.evaluation import Evaluation, Score
from meta_latent.experiment.pretraining import source_data
from meta_latent.experiment.runs.metrics import MetricLog
from meta_latent.experiment.runs.resumable import Progress, Resumable, RunClock
from meta_latent.experiment.runs.run_folder import RunFolder
from meta_latent.experiment.settings.arms import strays
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import BoundTarget
from meta_latent.ops.learning_curve import threshold_index
from meta_latent.rng import Streams, derive
from meta_latent.types import Averages, Spec

IDLE_ROUNDS, DRY_ROUNDS = 1000, 100_000
"""Rounds without data or updates, and without data alone, after which an algorithm counts as stuck."""
SAVE_SECONDS = 600
"""Between checkpoints at most, where evaluations are further apart."""


class Learning:
    """One arm on one target with one seed::

        while not finished:
            collector.round(agent, replay, streams)          # may add nothing
            averages.add(agent.update(replay, streams))
            if due:
                evaluate and save                            # an interrupt saves and stops here

    A checkpoint falls between two rounds, never inside a trial or an update, so no carry is saved. An
    evaluation that falls due while an update goes on in slices waits until data are wanted again.
    """

    def __init__(
        self, experiment: ExperimentConfig, target: BoundTarget, arm: Arm, seed: int, pretrained: Path | None,
        folder: RunFolder,
    ):  # fmt: skip
        self.config, self.target, self.arm, self.seed = experiment.transfer, target, arm, seed
        self.folder, self.pretrained = folder, pretrained
        self.clock, self.budget = arm.entry.clock, self.config.budget(target.name, str(arm))
        self.interval = getattr(self.config.evaluation, f"interval_{self.clock}")
        self.agent = starts.build(experiment, target, arm, seed, pretrained)
        self.replay = self._replay(experiment)
        self.streams = Streams(derive(seed, "transfer", target.name))
        self.collector = self._collector(experiment)
        self.evaluation = Evaluation(target, arm.entry, self.config.evaluation, self.config.side_by_side)
        self.thresholds = self.config.thresholds_of(target.name, self.evaluation.references is not None)
        self.log, self.averages = MetricLog(folder, axis=self.clock), Averages()
        self.progress = Progress(seconds=0.0, cpu_seconds=0.0, update_seconds=0.0, evaluated=0, scores=[])
        self.saved = Resumable(folder, {
            "progress": self.progress, "averages": self.averages, "streams": self.streams, "agent": self.agent,
            "collector": self.collector, "replay": self.replay if self.clock == "env_steps" else None,
            "log": self.log})  # fmt: skip
        if self.saved.resume():
            print(f"goes on after {self._now():,} of {self.budget:,} {self.clock.removeprefix('env_')}")
        elif self.clock == "env_steps":
            print(self._plan())
        self.timer = RunClock(self.progress)

    def _replay(self, experiment: ExperimentConfig) -> SequenceReplay:
        """An empty replay, or the logged data that the target names."""
        spec = Spec.of(self.target.distribution)
        if self.clock == "updates":
            folder = experiment.transfer.targets[self.target.name].data
            card = source_data.read_card(Path(folder))
            replay = source_data.open_replay(Path(folder), spec, card["heads"], len(card["state"]["episodes"]))
            bound = self.target.tasks[0]  # the logged rewards are those of the tasks that were played
            source_data.refuse_beyond_ends(replay, bound, f"target {self.target.name}")
            replay.relabel(lambda inputs, action: bound.distribution.reward(bound.task, inputs, action))
            return replay
        return SequenceReplay(spec, self.config.replay, self.folder.path("replay"), self.agent.heads)

    def _collector(self, experiment: ExperimentConfig) -> Collector:
        entry, tasks, config = self.arm.entry, self.target.tasks, self.config
        vectors = starts.task_vectors(tasks) if "task" in entry.sees else torch.zeros(len(tasks), 0)
        noise = Noise(self.target.distribution.action_space.shape[0], experiment.random)
        warmup = config.warmup_of(self.target.name) if entry.warmup else 0
        epsilon = strays(config, self.arm)
        owned = getattr(self.agent, "own_heads", False)  # agents need not have it
        check = partial(starts.refuse_other_rewards, self.target) if entry.needs & {"functions", "states"} else None
        settings = CollectorConfig(entry.sees, vectors, warmup, config.head_share, config.side_by_side, epsilon, owned,
                                   check)  # fmt: skip
        return Collector(self.target, self.seed, settings, noise)

    def _plan(self) -> str:
        """What will happen, in a line: data come in whole rounds, and only then is there an evaluation."""
        first, each = self.collector.steps(answers.wanted(self.agent) or 0)
        steps = first + math.ceil(max(0, self.budget - first) / each) * each
        size = in_megabytes(predicted_bytes(Spec.of(self.target.distribution), steps))
        asked = "" if steps == self.budget else f" ({self.budget:,} were asked for)"
        about = "about " if each < self.interval and self.interval % each else ""
        random = f"{first:,} random steps, then " if first else ""
        return (
            f"{random}rounds of {each:,} steps up to {steps:,}{asked}, an evaluation {about}every "
            f"{max(self.interval, each):,}; rounds are shorter where episodes end early; {size} of replay"
        )

    def facts(self) -> dict[str, Any]:
        """What is known of the run before it goes on, as JSON values: a report of one that goes on reads it."""
        references, base, bound = self.evaluation.references, self.arm.base, self.target
        floor, reference = (None, None) if references is None else np.mean(references, 0).tolist()
        return {
            "target": bound.name,
            "algorithm": self.arm.algorithm,
            "start": self.arm.start,
            "seed": self.seed,
            "compared_with": None if base is None else str(base),
            "clock": self.clock,
            "budget": self.budget,
            "episodes_per_trial": bound.episodes_per_trial,
            "max_episode_steps": bound.distribution.max_episode_steps,
            "test_tasks": len(bound.test_tasks),
            "pays": bound.tasks[0].in_words(),
            "evaluation_episodes": len(bound.test_tasks) * self.evaluation.repeats,
            "floor": floor,
            "reference": reference,
            "thresholds": list(self.thresholds),
            "metrics": dict(self.arm.entry.metrics),
            "inspects": dict(self.arm.entry.inspects),
            "adapts": self.arm.entry.adapts,
        }

    # The loop

    def run(self, interrupts) -> None:
        """Until the budget is spent or the threshold holds."""
        with contextlib.closing(self.collector), contextlib.closing(self.evaluation):
            self._learn(interrupts)
            self._finish()

    def _learn(self, interrupts) -> None:
        self.timer.go()
        saved, idle, dry = time.monotonic(), 0, 0
        with tqdm(total=self.budget, initial=self._now(), unit=self.clock.removesuffix("s"),
                  desc=str(self.arm), disable=None) as bar:  # fmt: skip
            while not self._finished():
                before = self._place()
                if not (self._now() >= self.budget and self.between_updates()):  # else it was given less than before
                    self.round()
                self.timer.read()
                bar.update(self._now() - bar.n)
                idle = idle + 1 if self._place() == before else 0
                dry = dry + 1 if self._now() == before[0] and self.clock == "env_steps" else 0
                if idle == IDLE_ROUNDS or dry == DRY_ROUNDS:
                    raise RunError(f"{self.arm} {self._stuck()}")
                due = self._due()
                if due:
                    # The clock of a learning curve stands still while it is measured.
                    self._evaluate(bar)
                    self.timer.go()
                if due or time.monotonic() - saved > SAVE_SECONDS:
                    self.saved.save()
                    saved = time.monotonic()
                if interrupts.requested:
                    self.saved.save()
                    raise KeyboardInterrupt

    def round(self) -> None:
        """Play what the agent wants, and let it learn. Raises RunError for answers that break its contract."""
        self._collect()
        self._update()

    def _stuck(self) -> str:
        if self.clock == "updates":
            return "makes no update any more: `update` has to count self.updates up"
        return ("asks for no data any more: its `wants` stays None; an algorithm that learns from logged data is "
                "registered with needs={'data'}")  # fmt: skip

    def _collect(self) -> None:
        if self.clock == "env_steps":
            self.collector.round(self.agent, self.replay, self.streams)
        elif answers.wanted(self.agent) is not None:  # the logged data are somebody's, to be read only
            raise RunError(f"{self.arm} learns from logged data and wants environment steps: its `wants` has to be "
                           "None")  # fmt: skip

    def _update(self) -> None:
        begun = time.monotonic()
        with telling(self.progress.setdefault("told", [])):  # an earlier version's run has none
            metrics = answers.measured(self.agent, self.replay, self.streams)
        self.progress["update_seconds"] += time.monotonic() - begun
        unknown = sorted(metrics.keys() - self.arm.entry.metrics.keys())
        if unknown:
            raise RunError(f"{self.arm.algorithm} measures {', '.join(unknown)}, which its registration does not "
                           "declare; add it to Algorithm(metrics=...)")  # fmt: skip
        for name, value in metrics.items():
            if not math.isfinite(value):
                warnings.warn(f"{self.arm.algorithm} measures {name}={value}: the log has no number then", stacklevel=2)
        self.averages.add(metrics)

    def _now(self) -> int:
        return self.replay.env_steps if self.clock == "env_steps" else self.agent.updates

    def _place(self) -> tuple[int, int]:
        return self.replay.env_steps, self.agent.updates

    def between_updates(self) -> bool:
        """Whether data are wanted again: no update goes on in slices."""
        return self.clock == "updates" or answers.wanted(self.agent) is not None

    def _due(self) -> bool:
        crossed = self._now() // self.interval > self.progress["evaluated"] // self.interval
        return self.between_updates() and (crossed or self._now() >= self.budget)

    def _finished(self) -> bool:
        spent = self._now() >= self.budget and self.between_updates() and self.progress["evaluated"] >= self.budget
        return spent or self.stopped_at is not None

    @property
    def stopped_at(self) -> float | None:
        """The threshold that ended the run, if one did."""
        scores = np.array(self.progress["scores"])
        if not self.config.stop_at_threshold or not self.thresholds or len(scores) < 2:
            return None
        return self.thresholds[-1] if threshold_index(scores, self.thresholds[-1]) is not None else None

    def _clocks(self) -> dict:
        return {
            "env_steps": self.replay.env_steps,
            "updates": self.agent.updates,
            "seconds": self.progress["seconds"],
            "cpu_seconds": self.progress["cpu_seconds"],
        }

    def _evaluate(self, bar) -> None:
        score = self.evaluation.score(self.agent)
        if not self.agent.updates and (self.progress["evaluated"] or self._now() >= self.budget):
            warnings.warn(f"{self.arm} has made no update, so that its evaluations count for nothing: `update` has to "
                          "count self.updates up, and the budget to hold one", stacklevel=2)  # fmt: skip
        self.progress["evaluated"] = self._now()
        if self.agent.updates:  # what was never updated has learned nothing: no threshold is its own
            self.progress["scores"] = [*self.progress["scores"], score.score]
        self.log.write("train", {**self._clocks(), **self.averages.means(),
                                 "update_seconds": self.progress["update_seconds"]})  # fmt: skip
        self.averages.reset()
        self.log.write("evaluation", {**self._clocks(), **dataclasses.asdict(score)})
        solved = {} if math.isnan(score.success) else {"success": f"{score.success:.2f}"}
        bar.set_postfix(score=f"{score.score:.2f}", **solved, refresh=False)
        print(f"{self._now()} {self.clock.replace('env_', '')}, {self.progress['seconds']:.0f} s: "
              f"{_words(score)}", flush=True)  # fmt: skip

    # The end

    def _finish(self) -> None:
        if self.config.video:
            self.evaluation.film(self.agent, 0, self.folder.path("videos", "final.mp4"))
        self.saved.save()
        self.folder.finish(
            "done",
            random_return=float(np.mean(played)) if (played := self.collector.random_returns) else None,
            stopped_at=self.stopped_at,
            **self._clocks(),
            update_seconds=self.progress["update_seconds"],
        )


def _words(score: Score) -> str:
    """An evaluation in a line."""
    text = f"score {score.score:.3f}"
    if not math.isnan(score.success):
        text += f", success {score.success:.2f}"
    if len(score.returns_by_episode) > 1:
        text += f", returns by episode {' '.join(f'{value:.1f}' for value in score.returns_by_episode)}"
    return text
