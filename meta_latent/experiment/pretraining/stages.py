"""`meta-latent pretrain NAME`: source data, three training stages, a model folder, and what the model knows.

Stages: collect -> joint (everything, on pixels) -> filter (core and heads, on cached embeddings) ->
transition (the heads, on cached latents) -> with `policy_updates` the source policy, in imagination -> with
`on_policy` a second round: its episodes, and every stage but joint on all data. Interrupted at any moment,
the same command goes on from the last checkpoint, bit for bit.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from meta_latent import files
from meta_latent.data.collect import Behaviour, Scripted, collect_episode
from meta_latent.data.latents import LatentCache, embed_episode
from meta_latent.data.replay import SequenceReplay, predicted_bytes
from meta_latent.errors import UserError
from meta_latent.experiment.learning.playing import Acting
from meta_latent.experiment.pretraining import held_out, model_folder, source_data
from meta_latent.experiment.pretraining.source_policy import SourcePolicy
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.runs.interrupts import deferred
from meta_latent.experiment.runs.metrics import MetricLog
from meta_latent.experiment.runs.run_folder import CHECKPOINT, RunFolder
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig, PretrainConfig, SourceConfig
from meta_latent.experiment.settings.suites import Bound, bind, common_spec
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import ModelLearner
from meta_latent.rng import Streams, derive, seeded_construction

STAGES = ("collect", "joint", "filter", "transition")
SECOND_ROUND = ("on_policy", "filter_again", "transition_again", "policy_again")
LOG_EVERY = 50
COLLECT_CHECKPOINT = 5000
"""Environment steps between checkpoints while source data are collected."""


def folder_of(experiment: ExperimentConfig) -> Path:
    """Where this experiment's pretraining lives."""
    return Path(experiment.out) / experiment.name / "pretrain" / str(experiment.seed)


def narrowed(experiment: ExperimentConfig) -> dict:
    """The part of the configuration that pretraining depends on."""
    whole = config.to_dict(experiment)
    keys = ("name", "seed", "device", "suite", "random", "model", "learner", "pretrain")
    narrow = {key: whole[key] for key in keys}
    if experiment.pretrain.policy_updates:
        narrow["transfer"] = {"ivg": whole["transfer"]["ivg"]}
    return narrow


def stages(settings: PretrainConfig) -> tuple[str, ...]:
    """The stages of a pretraining, in order."""
    first = (*STAGES, "policy") if settings.policy_updates else STAGES
    return (*first, *SECOND_ROUND) if settings.on_policy else first


def pretrain(experiment: ExperimentConfig) -> Path:
    """Run (or resume, or skip if done) the pretraining of `experiment`; returns the model folder."""
    sources = [bind(experiment, source) for source in experiment.pretrain.sources]
    spec = common_spec(sources)
    check_lengths(experiment, max(source.distribution.max_episode_steps for source in sources) + 1)
    for source, settings in zip(sources, experiment.pretrain.sources, strict=True):
        if _scripted_share(experiment.pretrain, settings):
            source.distribution.scripted(source.task)  # says what to do where there is none
    capacity = experiment.pretrain.replay.capacity
    if capacity < experiment.pretrain.env_steps:
        raise UserError(
            f"pretrain.replay.capacity={capacity} is less than pretrain.env_steps="
            f"{experiment.pretrain.env_steps}: source data would be forgotten; raise the capacity"
        )
    with RunFolder(
        folder_of(experiment), narrowed(experiment), seed=experiment.seed, may_differ=("device",)
    ) as folder:
        model_path = folder.root / "model"
        if folder.done:
            return model_path
        steps = experiment.pretrain.env_steps
        megabytes = predicted_bytes(spec, steps) / 1e6
        print(f"pretrain {experiment.name}: {steps:,} steps of source data take {megabytes:,.0f} MB")
        with deferred() as interrupts:
            Pretraining(experiment, sources, spec, folder).run(interrupts)
        return model_path


def check_lengths(experiment: ExperimentConfig, longest: int) -> None:
    """Raise UserError, naming the key, if a stage takes longer episodes than `longest` (observations)."""
    sizes, settings = experiment.learner, experiment.pretrain
    needed = {
        "learner.length": sizes.length if settings.joint_updates else 2,
        "learner.filter_length": sizes.filter_length if settings.filter_updates else 2,
        "learner.horizon": sizes.horizon + 1 if settings.transition_updates else 2,
        "transfer.ivg.horizon": experiment.transfer.ivg.horizon + 1 if settings.policy_updates else 2,
    }
    short = [f"{key} (which takes {count})" for key, count in needed.items() if count > longest]
    if short:
        raise UserError(
            f"the longest source episode has {longest} observations ({longest - 1} steps): lower "
            f"{', '.join(short)}, or let episodes last longer"
        )


def _scripted_share(settings: PretrainConfig, source: SourceConfig) -> float:
    return settings.scripted if source.scripted is None else source.scripted


class Pretraining:
    """One pretraining run with everything it needs to stop and go on."""

    def __init__(self, experiment: ExperimentConfig, sources: list[Bound], spec, folder: RunFolder):
        self.experiment, self.config, self.sources, self.folder = (
            experiment,
            experiment.pretrain,
            sources,
            folder,
        )
        self.streams = Streams(derive(experiment.seed, "pretrain"))
        names = tuple(dict.fromkeys(source.name for source in sources))
        with seeded_construction(derive(experiment.seed, "model")):
            self.model = LatentStateModel(spec, experiment.model, names).to(experiment.device)
        self.learner = ModelLearner(self.model, experiment.learner)
        self.stages, self.policy = stages(self.config), None
        if self.config.policy_updates:
            self.policy = SourcePolicy(self.model, self.learner, experiment.transfer.ivg,
                                       sources[self.config.policy_source], experiment.seed)
        self.replay = SequenceReplay(spec, self.config.replay, folder.path("source"), self.model.heads)
        self.log = MetricLog(folder, axis="updates")
        self.progress = {"stage": "collect", "count": 0, "updates": 0, "seconds": 0.0}
        self._clock = time.monotonic()
        if checkpoint.exists(folder.path(CHECKPOINT)):
            with checkpoint.fitting(folder.path(CHECKPOINT)) as state:
                self._load(state)
        else:
            self.log.truncate(None)

    # The run

    def run(self, interrupts) -> None:
        """Every stage that is not done yet, then the report and the model folder."""
        self._clock = time.monotonic() - self.progress["seconds"]
        for stage in self.stages[self.stages.index(self.progress["stage"]):]:
            self.progress["stage"] = stage
            getattr(self, f"_{stage.removesuffix('_again')}")(interrupts)
            self._advance(stage)
        self._finish()

    def _advance(self, stage: str) -> None:
        following = self.stages.index(stage) + 1
        if following < len(self.stages):
            self.progress |= {"stage": self.stages[following], "count": 0}
            self.save()

    def _collect(self, interrupts) -> None:
        self._gather(interrupts, round(self.config.env_steps * (1 - self.config.on_policy)), self._behaviour)

    def _on_policy(self, interrupts) -> None:
        acting = Acting(self.policy.agent, self.streams)
        self._gather(interrupts, self.config.env_steps, lambda *_: acting)

    def _gather(self, interrupts, steps: int, behaviour_of) -> None:
        """Collect until the replay holds `steps`; behaviour_of(source, episode index, rng)."""
        envs: dict[int, object] = {}
        bar = tqdm(total=steps, initial=len(self.replay), unit="step", desc="collect", disable=None)
        with contextlib.ExitStack() as opened, bar:
            while len(self.replay) < steps:
                before = len(self.replay)
                self._episode(len(self.replay.episodes), envs, opened, behaviour_of)
                bar.update(len(self.replay) - bar.n)
                due = len(self.replay) // COLLECT_CHECKPOINT > before // COLLECT_CHECKPOINT
                if due or len(self.replay) >= steps:
                    # Before anything is saved: a run that failed without a checkpoint may be changed.
                    check_lengths(self.experiment, int(self.replay.lengths().max()))
                if due or interrupts.requested:
                    self.save()
                if interrupts.requested:
                    raise KeyboardInterrupt

    def _episode(self, index: int, envs: dict, opened: contextlib.ExitStack, behaviour_of) -> None:
        which = index % len(self.sources)
        source, varies = self.sources[which], bool(self.sources[which].task.distractors)
        if varies:
            source = source.with_distractor_seed(
                derive(self.experiment.seed, "distractors", index) % 1_000_000
            )
        if not varies and which not in envs:
            envs[which] = opened.enter_context(contextlib.closing(source.make()))
        env = source.make() if varies else envs[which]
        rng = self.streams.numpy("behaviour")
        seed = derive(self.experiment.seed, "episode", index) % 2**31
        episode = collect_episode(env, behaviour_of(source, index, rng), seed, rng)
        if varies:
            env.close()
        mask = self.streams.numpy("mask").random(self.model.heads) < self.config.head_share
        self.replay.add_episode(episode, mask, which)

    def _behaviour(self, source: Bound, index: int, rng: np.random.Generator) -> Behaviour:
        """Scripted episodes at regular turns of each source; else correlated noise."""
        actions = source.distribution.action_space.shape[0]
        turn, which = divmod(index, len(self.sources))
        share = _scripted_share(self.config, self.config.sources[which])
        if int((turn + 1) * share) > int(turn * share):
            return Scripted(source.distribution.scripted(source.task), actions, self.config.scripted_noise)
        return self.experiment.random.draw(actions, rng)

    def _joint(self, interrupts) -> None:
        sizes = self.experiment.learner
        if self.progress["count"] == 0:
            self.learner.calibrate(
                self.replay.sequences(1000, 2, self.streams.numpy("joint"), self._trained())
            )

        def update(scale: float) -> dict[str, float]:
            batch = self.replay.sequences(
                sizes.batch_size, sizes.length, self.streams.numpy("joint"), self._trained()
            )
            return self.learner.joint(
                batch.to(self.model.device), self.streams.torch("joint"), self._relabelled(batch), scale
            )

        self._updates("joint", self.config.joint_updates, update, interrupts)

    def _filter(self, interrupts) -> None:
        sizes, embeddings = self.experiment.learner, self._embeddings()
        ahead = torch.arange(sizes.filter_length)

        def update(scale: float) -> dict[str, float]:
            batch = self.replay.sequences(
                sizes.filter_batch_size,
                sizes.filter_length,
                self.streams.numpy("filter"),
                self._trained(),
                images=False,
            )
            cached = embeddings[batch.first_frame[:, None] + ahead]
            return self.learner.filter(batch.to(self.model.device), cached, self.streams.torch("filter"),
                                       self._relabelled(batch), scale)

        self._updates("filter", self.config.filter_updates, update, interrupts)

    def _transition(self, interrupts) -> None:
        sizes, cache = self.experiment.learner, LatentCache()
        cache.extend(self.model, self.replay, int(self._trained()[-1]) + 1)

        def update(scale: float) -> dict[str, float]:
            windows = cache.windows(
                sizes.transition_batch_size, sizes.horizon, self.streams.numpy("transition")
            )
            return self.learner.transition(windows, self.streams.torch("transition"), scale)

        self._updates("transition", self.config.transition_updates, update, interrupts)

    def _policy(self, interrupts) -> None:
        self.policy.open(self.replay, int(self._trained()[-1]) + 1)
        self._updates(
            "policy", self.config.policy_updates, lambda scale: self.policy.update(self.streams), interrupts
        )

    def _updates(self, stage: str, total: int, update, interrupts) -> None:
        """Constant learning rate for half of the stage, then linearly down to 2 %."""
        with tqdm(
            total=total, initial=self.progress["count"], unit="update", desc=stage, disable=None
        ) as bar:
            for count in range(self.progress["count"], total):
                metrics = update(min(1.0, 2.0 * (1.0 - count / total) + 0.02))
                self.progress["count"], self.progress["updates"] = count + 1, self.progress["updates"] + 1
                bar.update()
                if (count + 1) % LOG_EVERY == 0 or count + 1 == total:
                    bar.set_postfix({k: f"{v:.3g}" for k, v in list(metrics.items())[:3]}, refresh=False)
                    self.log.write(
                        "train", {**self._clocks(), **{f"{stage}/{k}": v for k, v in metrics.items()}}
                    )
                if (count + 1) % self.config.checkpoint_updates == 0 or interrupts.requested:
                    self.save()
                if interrupts.requested:
                    raise KeyboardInterrupt

    # Data

    def _trained(self) -> np.ndarray:
        """Episodes to train on: all but the last `held_out` share."""
        episodes = len(self.replay.episodes)
        held = max(2, round(episodes * self.config.held_out))
        if episodes <= held:
            raise UserError(f"pretrain.env_steps={self.config.env_steps} is too little: {episodes} episodes")
        return np.arange(episodes - held)

    def _embeddings(self) -> torch.Tensor:
        parts = [
            embed_episode(self.model, self.replay, self.replay.read(i))
            for i in range(len(self.replay.episodes))
        ]
        return torch.cat(parts)

    def _relabelled(self, batch) -> torch.Tensor:
        """(B, T, N) rewards of every source function, from the privileged inputs."""
        by_name = {source.name: source for source in self.sources}
        rewards = [torch.as_tensor(source.distribution.reward(source.task, batch.reward_inputs, batch.action))
                   for source in by_name.values()]
        return torch.stack(rewards, -1).float().to(self.model.device)

    # Saving

    def _clocks(self) -> dict:
        self.progress["seconds"] = time.monotonic() - self._clock
        return {
            "env_steps": len(self.replay),
            "updates": self.progress["updates"],
            "seconds": self.progress["seconds"],
        }

    def save(self) -> None:
        """One atomic checkpoint of everything that a bit-equal continuation needs."""
        self._clocks()
        self.replay.flush()
        checkpoint.save(self.folder.path(CHECKPOINT), {
            "progress": self.progress, "streams": self.streams.state(), "learner": self.learner.state(),
            "policy": None if self.policy is None else self.policy.state(),
            "replay": self.replay.state(), "log": self.log.state()})
        self.replay.prune()

    def _load(self, state: dict) -> None:
        self.progress = dict(state["progress"])
        self.streams.load_state(state["streams"])
        self.learner.load_state(state["learner"])
        if self.policy is not None:
            self.policy.load_state(state["policy"])
        self.replay.load_state(state["replay"])
        self.log.truncate(state["log"])

    def _finish(self) -> None:
        clocks = self._clocks()
        held = np.arange(self._trained()[-1] + 1, len(self.replay.episodes))
        plain = np.array([e for e in held if not self.sources[e % len(self.sources)].task.distractors], int)
        other = np.setdiff1d(held, plain)
        objects, metrics = self.sources[0].object_inputs(), {}
        for episodes, suffix in ((plain, ""), (other, "_distractors")):
            if len(episodes) > 3:
                found = held_out.measure(self.model, self.replay, episodes, objects)
                metrics |= {f"{name}{suffix}": value for name, value in found.items()}
        for episode in [*plain[-2:], *other[-1:]]:
            images = self.folder.path("images", "strips").parent
            with files.full_disk_named(images):
                held_out.draw_strips(self.model, self.replay, int(episode), images)
        fingerprints = sorted({source.distribution.fingerprint() for source in self.sources})
        self.replay.flush()
        path, policy = self.folder.path("model"), None
        if self.policy is not None:
            policy = model_folder.PolicyWeights(self.policy.tensors(), self.policy.facts())
        digest = model_folder.save(path, self.model, {
            "suite_fingerprints": fingerprints, "budget": clocks,
            "sources": [{"suite": s.name, "task": json.loads(s.task.to_json())} for s in self.sources]},
            policy, source_data.describe(self.replay, path))
        facts = {**clocks, "model_sha256": digest, "held_out": metrics}
        files.atomic_write_bytes(self.folder.path("pretraining.json"), json.dumps(facts, indent=1).encode())
        self.save()
        self.folder.finish("done", **facts)
        measured = held_out.describe(metrics)
        few = f"nothing measured: {len(held)} episodes; raise pretrain.env_steps or pretrain.held_out"
        print(f"held out: {measured or few}")


