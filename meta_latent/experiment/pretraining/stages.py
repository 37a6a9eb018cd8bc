"""The stages of a pretraining, one after the other, each of which can stop and go on bit for bit.

collect -> joint (everything, on pixels) -> filter (core and heads, on cached embeddings) -> transition (the heads,
on cached latents) -> with `policy_updates` the source policy, in imagination -> with `on_policy` a second round:
its episodes, and every stage but joint on all data.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import numpy as np
import torch
from tqdm import tqdm

from meta_latent.data.latents import LatentCache, embed_episode
from meta_latent.data.replay import SequenceReplay
from meta_latent.experiment.pretraining import finish, lengths, source_data
from meta_latent.experiment.pretraining.source_policy import SourcePolicy
from meta_latent.experiment.pretraining.source_rewards import SourceRewards
from meta_latent.experiment.pretraining.sources import ActorOf, SourceCollector
from meta_latent.experiment.pretraining.team import Team
from meta_latent.experiment.runs.metrics import MetricLog
from meta_latent.experiment.runs.resumable import Progress, Resumable, RunClock
from meta_latent.experiment.runs.run_folder import RunFolder
from meta_latent.experiment.settings.schema import ExperimentConfig, PretrainConfig
from meta_latent.experiment.settings.suites import BoundTask
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import ModelLearner
from meta_latent.rng import Streams, derive, seeded_construction
from meta_latent.types import Averages, SequenceBatch, Spec

STAGES = ("collect", "joint", "filter", "transition")
SECOND_ROUND = ("on_policy", "filter_again", "transition_again", "policy_again")
LOG_EVERY = 50
COLLECT_CHECKPOINT = 5000
"""Environment steps between checkpoints while source data are collected."""


def stages(settings: PretrainConfig) -> tuple[str, ...]:
    """The stages of a pretraining, in order."""
    first = (*STAGES, "policy") if settings.policy_updates else STAGES
    return (*first, *SECOND_ROUND) if settings.on_policy else first


class Pretraining:
    """One pretraining run with everything it needs to stop and go on."""

    def __init__(self, experiment: ExperimentConfig, sources: list[BoundTask], spec: Spec, folder: RunFolder):
        self.experiment, self.config, self.sources = experiment, experiment.pretrain, sources
        self.folder = folder
        self.streams = Streams(derive(experiment.seed, "pretrain"))
        self.rewards = SourceRewards(sources, self.config.logged)
        with seeded_construction(derive(experiment.seed, "model")):
            self.model = LatentStateModel(spec, experiment.model, self.rewards.names).to(experiment.device)
        self.learner = ModelLearner(self.model, experiment.learner)
        self.team = Team(experiment, self.learner)
        self.stages, self.policy = stages(self.config), None
        if self.config.policy_updates:
            self.policy = SourcePolicy(self.model, self.learner, experiment.settings_of("ivg"),
                                       sources[self.config.policy_source], experiment.seed)  # fmt: skip
        self.collector = SourceCollector(experiment, sources, self.model.heads)
        self.replay = SequenceReplay(spec, self.config.replay, folder.path("source"), self.model.heads)
        self.log, self.averages = MetricLog(folder, axis="updates"), Averages()
        self.progress = Progress(stage="collect", count=0, updates=0, seconds=0.0, cpu_seconds=0.0)
        self.saved = Resumable(folder, {
            "progress": self.progress, "averages": self.averages, "streams": self.streams,
            "learner": self.learner, "policy": self.policy, "replay": self.replay, "log": self.log})  # fmt: skip
        self.saved.resume()
        if self.config.num_workers > 1:  # of the workers' time nothing is known here
            self.progress["cpu_seconds"] = math.nan
        self._clock = RunClock(self.progress)

    # The run

    def run(self, interrupts) -> None:
        """Every stage that is not done yet, then the report and the model folder."""
        run_of = {
            "collect": self._collect, "joint": self._joint, "filter": self._filter,
            "transition": self._transition, "policy": self._policy, "on_policy": self._on_policy}  # fmt: skip
        with contextlib.closing(self.collector), contextlib.closing(self.team):
            for stage in self.stages[self.stages.index(self.progress["stage"]) :]:
                self.progress["stage"] = stage
                run_of[stage.removesuffix("_again")](interrupts)
                self._advance(stage)
        clocks = self._clocks()
        finish.write(self, clocks)
        self.save()
        self.folder.finish("done", **finish.facts(self.folder))

    def _advance(self, stage: str) -> None:
        following = self.stages.index(stage) + 1
        if following < len(self.stages):
            self.progress |= {"stage": self.stages[following], "count": 0}
            self.save()

    def _collect(self, interrupts) -> None:
        steps = round(self.config.env_steps * (1 - self.config.on_policy))
        self._gather(interrupts, steps, self.collector.behaviour)

    def _on_policy(self, interrupts) -> None:
        self._gather(interrupts, self.config.env_steps, lambda *_: self.policy.agent)

    def _gather(self, interrupts, steps: int, actor_of: ActorOf) -> None:
        """Collect until the replay holds `steps`, or logged data are used up."""
        with _bar("collect", len(self.replay), steps, "step") as bar:
            more = self.collector.has_next(self.replay)
            while len(self.replay) < steps and more:
                before = len(self.replay)
                self.collector.episode(self.replay, actor_of, self.streams)
                bar.update(len(self.replay) - bar.n)
                more = self.collector.has_next(self.replay)
                due = len(self.replay) // COLLECT_CHECKPOINT > before // COLLECT_CHECKPOINT
                over = len(self.replay) >= steps or not more
                # Before anything is saved: a run that failed without a checkpoint may be changed.
                if due or over:
                    lengths.check(self.experiment, int(self.replay.lengths().max()))
                if over:
                    self.trained()
                if due or interrupts.requested:
                    self.save()
                if interrupts.requested:
                    raise KeyboardInterrupt
        lengths.tell_of_short_ones(self.experiment, self.replay.lengths())
        if self.policy is not None:  # before the long stages
            source_data.refuse_beyond_ends(self.replay, self.policy.source, "pretrain.policy_source")
        if len(self.replay) < steps:
            print(f"the logged data are used up: {len(self.replay.episodes)} episodes, {len(self.replay):,} steps of "
                  f"pretrain.env_steps={steps:,}")  # fmt: skip

    def _joint(self, interrupts) -> None:
        sizes, replay, rng = self.experiment.learner, self.trained(), self.streams.numpy("joint")
        if self.progress["count"] == 0:
            self.learner.calibrate(replay.sequences(1000, 2, rng))

        def update(scale: float) -> dict[str, float]:
            batch, paid = self._relabelled(replay.sequences(sizes.batch_size, sizes.length, rng), rng)
            return self.team.update("joint", self.streams.torch("joint"), scale, batch=batch, **paid)

        self._updates("joint", self.config.joint_updates, update, interrupts)
        if self.experiment.model.encoder.standardise:
            self.learner.standardise(replay.sequences(1000, 2, rng))

    def _filter(self, interrupts) -> None:
        sizes, replay, rng = self.experiment.learner, self.trained(), self.streams.numpy("filter")
        embeddings = self._embeddings()

        def windows(scale: float) -> dict[str, float]:
            drawn = replay.sequences(sizes.filter_batch_size, sizes.filter_length, rng, images=False)
            batch, paid = self._relabelled(drawn, rng)
            return self.team.update("filter", self.streams.torch("filter"), scale, batch=batch,
                                    embeddings=embeddings[batch.frames], **paid)  # fmt: skip

        def trials(scale: float) -> dict[str, float]:
            episodes, model = self.config.episodes_per_trial, self.experiment.model
            drawn = replay.trials(sizes.filter_batch_size, episodes, rng, mixed=True, images=False)
            batch, _ = self._relabelled(drawn, rng)
            shows = torch.from_numpy(rng.random((len(batch.reward), 1)) >= model.reward_dropout)
            shown = replace(batch, reward_present=batch.reward_present * shows.to(batch.reward.device))
            return self.team.update("trials", self.streams.torch("filter"), scale, batch=batch, shown=shown,
                                    weights=model.loss, embeddings=embeddings[batch.frames])  # fmt: skip

        update = trials if self.config.episodes_per_trial > 1 else windows
        self._updates("filter", self.config.filter_updates, update, interrupts)

    def _transition(self, interrupts) -> None:
        sizes, cache, rng = self.experiment.learner, LatentCache(), self.streams.numpy("transition")
        cache.extend(self.model, self.trained())

        def update(scale: float) -> dict[str, float]:
            windows = cache.windows(sizes.transition_batch_size, sizes.horizon, rng)
            return self.team.update("transition", self.streams.torch("transition"), scale, windows=windows)

        self._updates("transition", self.config.transition_updates, update, interrupts)

    def _policy(self, interrupts) -> None:
        self.policy.open(self.trained())
        self._updates("policy", self.config.policy_updates, lambda scale: self.policy.update(self.streams), interrupts)

    def _updates(self, stage: str, total: int, update, interrupts) -> None:
        """Constant learning rate for half of the stage, then linearly down to 2 %."""
        with _bar(stage, self.progress["count"], total, "update") as bar:
            for count in range(self.progress["count"], total):
                self.averages.add(update(min(1.0, 2.0 * (1.0 - count / total) + 0.02)))
                self.progress |= {"count": count + 1, "updates": self.progress["updates"] + 1}
                bar.update()
                if (count + 1) % LOG_EVERY == 0 or count + 1 == total:
                    means = self.averages.means()
                    self.averages.reset()
                    bar.set_postfix({k: f"{v:.3g}" for k, v in list(means.items())[:3]}, refresh=False)
                    named = {f"{stage}/{name}": value for name, value in means.items()}
                    self.log.write("train", {**self._clocks(), **named})
                if (count + 1) % self.config.checkpoint_updates == 0 or interrupts.requested:
                    self.save()
                if interrupts.requested:
                    raise KeyboardInterrupt
        self.team.finish()

    # Data

    def trained(self) -> SequenceReplay:
        """The episodes to train on. Raises UserError if there are none."""
        places = self.collector.trained(self.replay)
        if not len(places):
            raise lengths.too_few(self.experiment, self.sources)
        return self.replay.subset(places)

    def _embeddings(self) -> torch.Tensor:
        replay = self.trained()
        parts = [embed_episode(self.model, replay, replay.read(i)) for i in range(len(replay.episodes))]
        return torch.cat(parts)

    def _relabelled(
        self, batch: SequenceBatch, rng: np.random.Generator
    ) -> tuple[SequenceBatch, dict[str, torch.Tensor | None]]:
        """The batch, a share of it paid as another source pays, and what every source pays of it: `task_rewards` and
        `known` of `models.losses.loss`.
        """
        every, known = self.rewards.of(batch)
        if self.config.relabel:
            size = len(every)
            other = every[torch.arange(size), :, torch.from_numpy(rng.integers(every.shape[-1], size=size))]
            chosen = torch.from_numpy(rng.random(size) < self.config.relabel)[:, None]
            batch = replace(batch, reward=torch.where(chosen, other * batch.reward_present, batch.reward))
        device = self.model.device
        paid = {"task_rewards": every.to(device), "known": None if known is None else known.to(device)}
        return batch.to(device), paid

    # Saving

    def _clocks(self) -> dict:
        self._clock.read()
        return {
            "env_steps": len(self.replay),
            "updates": self.progress["updates"],
            "seconds": self.progress["seconds"],
            "cpu_seconds": self.progress["cpu_seconds"],
        }

    def save(self) -> None:
        """One atomic checkpoint of everything that a bit-equal continuation needs."""
        self._clocks()
        self.team.fetch()
        self.saved.save()

    def held_out(self) -> np.ndarray:
        """Places of the episodes that were never trained on."""
        return np.arange(len(self.trained().episodes), len(self.replay.episodes))


def _bar(stage: str, begun: int, total: int, unit: str) -> tqdm:
    """The progress of a stage; where no terminal shows it, what the stage will take is said in a line."""
    bar = tqdm(total=total, initial=begun, unit=unit, desc=stage, disable=None)
    if bar.disable and begun < total:
        print(f"{stage}: {total - begun:,} {unit}s", flush=True)
    return bar
