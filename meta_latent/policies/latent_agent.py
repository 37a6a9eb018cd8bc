"""What agents on a latent state model share: filtering while acting, adapting the model, caching latents,
saving.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from meta_latent.nets import update_target
from meta_latent.policies.base_agent import BaseAgent
from meta_latent.policies.optimised import NO_DECAY, Optimised
from meta_latent.ranges import nonnegative, whole
from meta_latent.rng import Streams
from meta_latent.types import Averages, Metrics, Step

CALIBRATION = 256
"""Pairs of frames for the encoder's closed-form calibration."""


@dataclass(frozen=True)
class AdaptationConfig:
    """How the model keeps learning on the target, in updates per environment step and before the first
    policy update.

    Attributes:
        joint: updates of everything, on pixels, per environment step; 0: the encoder stays frozen.
        filter: updates of core and heads, on cached embeddings, per environment step, for algorithms that infer
            tasks; 0: they stay frozen.
        transition: updates of the transition heads, on cached latents, per environment step, for algorithms that
            imagine; 0: they stay frozen.
        first_joint: updates of everything before the first policy update.
        first_filter: updates of core and heads before the first policy update.
        first_transition: updates of the transition heads before the first policy update.
        transition_scale: multiplies the learning rate of the transition heads.
    """

    joint: float = nonnegative(0.0, most=1000)
    filter: float = nonnegative(0.0, most=1000)
    transition: float = nonnegative(1.0, most=1000)
    first_joint: int = whole(0)
    first_filter: int = whole(0)
    first_transition: int = whole(0)
    transition_scale: float = nonnegative(0.5, most=1000)


@dataclass(frozen=True)
class LatentParts:
    """What an algorithm on a latent state model is built from, as its arm's start says.

    Attributes:
        model: a `LatentStateModel`. learner: its `ModelLearner`. adaptation: how it keeps learning.
        cache: an empty `LatentCache` for the target's replay.
        source: `SourceData` for half of the model's batches and of the imagination starts, or None.
        load_policy: copies the source policy into a network, or None where the arm does not start from it.
        rewards: the least and the greatest that a pretrained model was trained on, or None.
    """

    model: Any
    learner: Any
    adaptation: AdaptationConfig
    cache: Any
    source: Any = None
    load_policy: Callable[[nn.Module], None] | None = None
    rewards: tuple[float, float] | None = None


class LatentAgent(BaseAgent):
    """An agent that acts on what a latent state model remembers.

    A subclass hands its networks to `own` and writes `improve`. With an actor, which it hands over as "policy", it
    calls `average_policy` after each update of the policy; without one, it writes `choose`.

    What it works with: `model` (a `LatentStateModel`; nothing has to be frozen, see `optimise`), `cache` (a
    `LatentCache` of all that the target's replay holds, fresh whenever `improve` is called), `source` (`SourceData` or
    None), `networks` (name -> module, all that `own` was given), `optimisers` (name -> theirs).

    Args:
        parts: what it is built from. actor: maps features to actions (`GaussianActor`); None: `choose` does.
    """

    remembers_trials = False
    """Whether the belief survives an episode's end."""

    def __init__(self, parts: LatentParts, actor: nn.Module | None = None):
        self.model, self.learner, self.adaptation = parts.model, parts.learner, parts.adaptation
        self.cache, self.source, self.actor = parts.cache, parts.source, actor
        self._optimised = Optimised(type(self).__name__, {}, {}, self.model.device)
        self.networks, self.optimisers = self._optimised.networks, self._optimised.optimisers
        if actor is not None:
            if parts.load_policy is not None:
                parts.load_policy(actor)
            self.average_actor = deepcopy(actor).to(self.model.device)
            self.networks["average_policy"] = self.average_actor
        self.updates = 0
        self.debt = {"joint": 0.0, "filter": 0.0, "transition": 0.0, "improve": 0.0}
        self.seen_steps = 0
        self.began = False

    @property
    def heads(self) -> int:
        """Ensemble members, whose data differ."""
        return self.model.heads

    # Acting

    def begin_task(self, batch_size: int):
        """The carry of B trials that begin: `model.initial`, a latent."""
        return self.model.initial(batch_size)

    @torch.no_grad()
    def act(self, step: Step, carry, rng: Streams, explore: bool):
        """Filter one step, then act: -> action (B, A) in [-1, 1] on the CPU, and the new carry, a latent.

        Unless it `remembers_trials`, every episode is filtered on its own, as are those that cached latents are
        learned from.
        """
        if not self.remembers_trials:
            step = replace(step, is_task_first=step.is_first)
        carry = self.model.observe(carry, step.to(self.model.device))
        return self.choose(carry, rng, explore).cpu(), carry

    def choose(self, latent, rng: Streams, explore: bool) -> torch.Tensor:
        """Actions (B, A) in [-1, 1] for B latents; no gradients are kept.

        With `explore` a sample of the policy, else, deterministic, the mean of its running average.
        """
        features = self.features(latent)
        if explore:
            return self.actor.sample(features, rng.torch("explore"))[0]
        return self.average_actor.mean_action(features)

    def features(self, latent) -> torch.Tensor:
        """What policy and value read: the model's features and relations, (B, F + R)."""
        return torch.cat([self.model.features(latent), latent.relations], -1)

    # Learning

    def update(self, replay, rng: Streams) -> Metrics:
        """Learn from the replay: adapt the model, refresh the cached latents, improve the policy.

        The number of updates follows from the steps that arrived since the last call; fractions are carried
        over. Returns the means of what these updates measured.
        """
        steps, self.seen_steps = replay.env_steps - self.seen_steps, replay.env_steps
        first, self.began = not self.began, True
        metrics = Averages()
        self._adapt_joint(replay, rng, steps, first, metrics)
        self.cache.extend(self.model, replay)
        if self.source is not None:
            self.source.extend(self.model)
        count = self.due("transition", self.adaptation.transition, steps) + self.adaptation.first_transition * first
        for _ in range(count):
            windows = self._windows(self.learner.config.transition_batch_size, self.learner.config.horizon, rng)
            scale = self.adaptation.transition_scale
            metrics.add(self.learner.transition(windows, rng.torch("model"), scale))
        self.improve(steps, first, rng, metrics)
        return metrics.means()

    def own(
        self, networks: dict[str, nn.Module], rates: dict[str, float], decays: Mapping[str, float] = NO_DECAY
    ) -> None:
        """Take `networks` (name -> module) to the model's device, and into what is saved; those with a
        learning rate in `rates` get an optimiser (AdamW, with a weight decay where `decays` has one). Call it at the
        end of `__init__`, more than once if need be; `self.networks[name]` holds them.
        """
        self._optimised.own(networks, rates, decays)

    def average_policy(self, rate: float) -> None:
        """Move the running average, which acts without exploration, towards the policy by `rate`."""
        update_target(self.average_actor, self.actor, rate)

    @abstractmethod
    def improve(self, steps: int, first: bool, rng: Streams, metrics: Averages) -> None:
        """The algorithm's own updates, at the end of `update`: the model has learned its share, `cache` holds the
        latents of all episodes of the replay.

        steps: environment steps that came since the last call (`due` turns them into updates). first: the first call
        of the run, after the random warm-up. metrics: `metrics.add({name: number})` takes what one update measured.
        Add to `self.updates`.
        """

    def _adapt_joint(self, replay, rng: Streams, steps: int, first: bool, metrics: Averages) -> None:
        config, adaptation = self.learner.config, self.adaptation
        begins = adaptation.first_joint * first
        count = self.due("joint", adaptation.joint, steps) + begins
        if begins or (first and self.learner.new_encoder):  # one that never learns has its scales to be found too
            self.learner.calibrate(replay.sequences(CALIBRATION, 2, rng.numpy("model")))
        for _ in range(count):
            own = config.batch_size if self.source is None else config.batch_size // 2
            batch = replay.sequences(own, config.length, rng.numpy("model"))
            if self.source is not None:
                batch = batch.joined(self.source.sequences(config.batch_size - own, config.length, rng.numpy("model")))
            metrics.add(self.learner.joint(batch.to(self.model.device), rng.torch("model")))
        if begins:
            self._standardise(replay, rng)
        if count:
            self.cache.clear()
            if self.source is not None:
                self.source.clear()

    def _standardise(self, replay, rng: Streams) -> None:
        """Fit the scale of embeddings, as pretraining does after its joint updates; no draws where there is none."""
        if self.model.config.encoder.standardise:
            self.learner.standardise(replay.sequences(CALIBRATION, 2, rng.numpy("model")))

    def due(self, name: str, rate: float, steps: int) -> int:
        """Whole updates that `rate` per step owes after `steps` more; the fraction is carried over, per `name`."""
        self.debt[name] = self.debt.get(name, 0.0) + rate * steps
        count = int(self.debt[name])
        self.debt[name] -= count
        return count

    def _windows(self, batch_size: int, horizon: int, rng: Streams):
        """Windows of the target's latents in random order; with source data, half of them from there."""
        own = batch_size if self.source is None else batch_size // 2
        windows = self.cache.windows(own, horizon, rng.numpy("windows"))
        if self.source is None:
            return windows
        both = windows.joined(self.source.windows(batch_size - own, horizon, rng.numpy("windows")))
        return both.shuffled(rng.numpy("windows"))

    def optimise(self, name: str, loss: torch.Tensor, clip: float) -> float:
        """One step of `self.optimisers[name]` down `loss` (a scalar); -> the loss. See `Optimised.step`."""
        return self._optimised.step(name, loss, clip)

    # Saving

    def state(self) -> dict:
        """Everything that a bit-equal continuation needs (latents are recomputed from the replay)."""
        return {
            "learner": self.learner.state(),
            "updates": self.updates,
            "debt": dict(self.debt),
            "seen_steps": self.seen_steps,
            "began": self.began,
            "ends": self.cache.ends,
            "source": None if self.source is None else self.source.state(),
            **self._optimised.state(),
        }

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        self.learner.load_state(state["learner"])
        self.updates, self.debt, self.seen_steps = state["updates"], dict(state["debt"]), state["seen_steps"]
        self.began = state["began"]
        self._optimised.load_state(state)
        self.cache.clear()
        self.cache.ends = state.get("ends", False)  # planners ask before anything is cached; older checkpoints lack it
        if self.source is not None:
            self.source.load_state(state["source"])
