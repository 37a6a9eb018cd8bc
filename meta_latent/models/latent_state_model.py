"""The latent state model: one model, saved once, read by every algorithm.

Encoders by modality, a core with K transition heads, decoders and reward heads. `observe` filters,
`transition` imagines one step, `predict` reads a transition, `loss` and `transition_loss` train.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import nn

from meta_latent.errors import UserError, counted
from meta_latent.models.config import ModelConfig
from meta_latent.models.core import Latent, RecurrentCore, Routing, TransitionDistribution, route
from meta_latent.models.encoders import BlobDecoder, to_uint8
from meta_latent.models.parts import encoder_classes
from meta_latent.models.sequential_core import SequentialCore
from meta_latent.nets import MLP, Standardiser
from meta_latent.ops.imagination import imagine
from meta_latent.types import Spec, Step, as_tensor

CORES = {"rssm": RecurrentCore, "deterministic": RecurrentCore, "sequential": SequentialCore}
"""`CoreConfig.kind` -> class."""


@dataclass(frozen=True)
class Prediction:
    """What a transition is expected to bring: reward (B,) of the sequence's own, unnamed reward function
    (inferred from past rewards), task_rewards (B, N) of the named source rewards, continuation (B,)
    probability.
    """

    reward: torch.Tensor
    task_rewards: torch.Tensor
    continuation: torch.Tensor


PIXELS = ("encoders.", "decoders.", "proprio.")
"""How the names of parameters and buffers begin that turn observations into embeddings, and back."""


class LatentStateModel(nn.Module):
    """See the module's first line.

    Args:
        spec: shapes of observations and actions.
        config: `ModelConfig`.
        task_rewards: names of the source reward functions, one output of the multi-task reward head each.
    """

    def __init__(self, spec: Spec, config: ModelConfig, task_rewards: tuple[str, ...] = ()):
        super().__init__()
        self.spec, self.config, self.task_rewards = spec, config, tuple(task_rewards)
        make_encoder, make_decoder = encoder_classes(config.encoder.kind)
        if config.encoder.standardise and not hasattr(make_encoder, "standardise"):
            raise UserError("model.encoder.standardise=true is for conv encoders: the coordinates of keypoints have a "
                            "scale of their own, model.encoder.scale")  # fmt: skip
        self.encoders = nn.ModuleDict(
            {c: make_encoder(s, config.encoder, spec.proprio) for c, s in spec.images.items()}
        )
        self.decoders = nn.ModuleDict(
            {c: make_decoder(s, config.encoder, spec.proprio) for c, s in spec.images.items()}
        )
        self.proprio = Standardiser(spec.proprio) if config.normalise_proprio else nn.Identity()
        self.rewards = Standardiser(1) if config.normalise_rewards else nn.Identity()
        self.latent_size = sum(e.size for e in self.encoders.values()) + spec.proprio
        self.relation_size = sum(e.relation_size for e in self.encoders.values())
        self.core = CORES[config.core.kind](
            self.latent_size,
            spec.action_size,
            config.core,
            config.ensemble,
            self.relations,
            self.relation_size,
        )
        self.feature_size = self.latent_size + config.core.memory
        inputs = self.feature_size + self.relation_size + spec.action_size
        self.reward_head = MLP(inputs, 1, config.head_hidden, config.head_layers)
        self.task_reward_head = MLP(inputs, max(len(self.task_rewards), 1), config.head_hidden, config.head_layers)
        self.continuation_head = MLP(inputs, 1, config.head_hidden, 1) if config.continuation else None

    @property
    def heads(self) -> int:
        """K, the number of transition heads."""
        return self.config.ensemble.heads

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(self.parameters()).device

    # Filtering

    def embed(self, images: dict[str, torch.Tensor], proprio: torch.Tensor) -> torch.Tensor:
        """Images camera -> (B, H, W, 3) uint8 and proprio (B, P) -> (B, Z)."""
        parts = [encoder(images[camera], proprio) for camera, encoder in self.encoders.items()]
        return torch.cat([*parts, self.proprio(proprio)], -1) if self.spec.proprio else torch.cat(parts, -1)

    def calibrate(self, images: dict[str, torch.Tensor], proprio: torch.Tensor) -> None:
        """Set what has a closed form, from sequences: camera -> (B, T, H, W, 3) uint8, and (B, T, P)."""
        for camera, encoder in self.encoders.items():
            encoder.calibrate(images[camera], proprio)
            if self.config.encoder.pictured and isinstance(self.decoders[camera], BlobDecoder):
                self.decoders[camera].calibrate(images[camera])
        if isinstance(self.proprio, Standardiser):
            self.proprio.fit(proprio)

    def standardise(self, images: dict[str, torch.Tensor]) -> None:
        """Give embeddings of images like these, camera -> (B, H, W, 3) uint8, mean 0 and stddev 1 where the encoder's
        config says so; what is decoded of one image stays the same.
        """
        if self.config.encoder.standardise:
            for camera, encoder in self.encoders.items():
                encoder.standardise(images[camera])
                self.decoders[camera].standard.load_state_dict(encoder.standard.state_dict())

    def calibrate_rewards(self, rewards: torch.Tensor) -> None:
        """Take the scale of rewards from some that were paid, (n,), if it is not known yet."""
        if isinstance(self.rewards, Standardiser) and not self.rewards.fitted and len(rewards) > 1:
            self.rewards.fit(rewards[:, None])

    def scaled(self, rewards: torch.Tensor) -> torch.Tensor:
        """Rewards (...,) on the scale on which they are read and predicted."""
        return self.rewards(rewards[..., None])[..., 0]

    def unscaled(self, values: torch.Tensor) -> torch.Tensor:
        """The inverse of `scaled`, within its limits."""
        return values * self.rewards.stddev + self.rewards.mean if self.config.normalise_rewards else values

    def initial(self, batch_size: int) -> Latent:
        """The latent before anything was observed."""
        return self.core.initial(batch_size, self.device)

    def observe(self, latent: Latent, step: Step, rng: torch.Generator | None = None) -> Latent:
        """Filter one step: the belief after `step.action`, the observation and (where present) the reward.

        Rows with `is_task_first` start from the initial latent. Without a generator the sample is the mean.
        """
        return self.observe_embedding(latent, self.embed(step.images, step.proprio), step, rng)

    def observe_embedding(self, latent: Latent, embedding: torch.Tensor, step: Step, rng=None) -> Latent:
        """`observe` for an embedding that was already computed."""
        memory = latent.memory * (~step.is_task_first).to(embedding.dtype)[:, None]
        present = step.reward_present * self.config.reward_input
        return self.core.observe(memory, embedding, step.action, self.scaled(step.reward), present, rng)

    def filter(self, embeddings, actions, rewards, present, rng=None, memory=None) -> Latent:
        """Filter whole sequences at once: (B, T, ...) -> a `Latent` with leading (B, T); `memory`: (B, M)
        before.
        """
        present = present * self.config.reward_input
        return self.core.filter(embeddings, actions, self.scaled(rewards), present, rng, memory)

    @torch.no_grad()
    def encode(self, episode: Mapping[str, Any], rewards: bool = False) -> Latent:
        """The latents (T + 1, ...) of an episode: arrays with leading T + 1, as `data.collect.play_episode` gives them.

        rewards: read them too (`reward`, where `reward_present` is 1), as agents that infer tasks do. Raises UserError
        for arrays that are missing or of another shape, and actions beyond [-1, 1].
        """
        spec = self.spec
        arrays = {"action": (spec.action_size,), "proprio": (spec.proprio,), "reward": (), "reward_present": ()}
        if reason := spec.misfit(episode, arrays):
            raise UserError(f"the episode does not fit the model: {reason}")
        images = {c: as_tensor(episode[f"image_{c}"]).to(self.device) for c in self.spec.images}
        values = {name: as_tensor(episode[name]).to(self.device, torch.float32)
                  for name in ("proprio", "action", "reward", "reward_present")}  # fmt: skip
        _require_actions("encode", values["action"])
        present = values["reward_present"] * rewards
        inputs = (self.embed(images, values["proprio"]), values["action"], values["reward"], present)
        return self.filter(*(x[None] for x in inputs)).map(lambda x: x[0])

    # Imagination

    @torch.no_grad()
    def imagine(self, latent: Latent, actions: torch.Tensor, head: int = 0) -> Latent:
        """What one head expects after actions (B, H, A) from a latent (B, ...): latents (B, H, ...). `ops.imagination`
        has the loop with gradients, several heads and policies. Raises UserError for actions of another shape, or
        beyond [-1, 1], and for a head that there is not.
        """
        _require_latents("imagine", latent)
        shape, given, size = tuple(latent.sample.shape), tuple(np.shape(actions)), self.spec.action_size
        if len(shape) != 2:
            raise UserError(f"latents of shape {shape}, expected (B, {self.latent_size}): one is latents[t : t + 1]")
        if len(given) != 3 or (given[0], given[2]) != (shape[0], size):
            raise UserError(f"actions of shape {given}, expected ({shape[0]}, H, {size}): rows, steps, action values")
        if not given[1]:
            raise UserError(f"actions of shape {given} hold no steps: expected one at least")
        try:
            which = operator.index(head)
        except TypeError:  # no whole number
            which = -1
        if which not in range(self.heads):
            raise UserError(f"head={head!r}: expected a whole number from 0 to {self.heads - 1}, as the model has "
                            f"{counted(self.heads, 'transition head')}")  # fmt: skip
        actions = torch.as_tensor(actions, dtype=torch.float32, device=self.device)
        _require_actions("imagine", actions)
        heads = torch.full((len(actions),), which, device=self.device)
        steps = imagine(self, latent, lambda k, _: actions[:, k], heads, actions.shape[1])
        ahead = [step.next_latent for step in steps]
        return Latent(*(torch.stack([getattr(one, f.name) for one in ahead], 1) for f in fields(Latent)))

    def transition(self, latent: Latent, action: torch.Tensor, head: torch.Tensor | Routing) -> TransitionDistribution:
        """p(next latent | latent, action); `head`: (B,) int64 in 0..K-1. Differentiable in latent and
        action.
        """
        return self.core.transition(latent, action, head)

    def route(self, head: torch.Tensor) -> Routing:
        """Prepare `head` (B,) for many `transition` calls with the same heads (`imagine` does)."""
        return route(head, self.heads)

    def predict(self, latent: Latent, action: torch.Tensor, next_latent: Latent) -> Prediction:
        """Reward and continuation of the step latent -> next_latent.

        Rewards are read from the memory BEFORE the step and the sample after it: no fed reward can leak, unless a
        sequential core has filtered `next_latent`, whose sample then knows it; pass it a predicted one.
        """
        inputs = self.step_inputs(latent.memory, action, next_latent)
        if self.continuation_head is None:
            continuation = torch.ones(inputs.shape[:-1], device=inputs.device)
        else:
            continuation = self.continuation_head(inputs)[..., 0].sigmoid()
        rewards = self.unscaled(self.reward_head(inputs)[..., 0]), self.unscaled(self.task_reward_head(inputs))
        return Prediction(*rewards, continuation)

    def step_inputs(self, memory: torch.Tensor, action: torch.Tensor, next_latent: Latent) -> torch.Tensor:
        """What the reward and continuation heads read about a step: (..., M), (..., A) and a latent ->
        (..., inputs).
        """
        return torch.cat([next_latent.sample, next_latent.relations, self.core.recall(memory), action], -1)

    def decode(self, latent: Latent) -> dict[str, torch.Tensor]:
        """camera -> (..., H, W, 3) uint8, decoded from samples (..., Z), imagined ones (B, H, Z) too. Raises UserError
        for what is no `Latent`.
        """
        _require_latents("decode", latent)
        images, leading = self.decode_float(latent.sample.reshape(-1, self.latent_size)), latent.sample.shape[:-1]
        return {camera: to_uint8(x).reshape(*leading, *self.spec.images[camera]) for camera, x in images.items()}

    def decode_float(self, sample: torch.Tensor) -> dict[str, torch.Tensor]:
        """camera -> (B, 3, H, W) in about [-0.5, 0.5]."""
        images, start = {}, 0
        for camera, encoder in self.encoders.items():
            images[camera] = self.decoders[camera](sample[:, start : start + encoder.size])
            start += encoder.size
        return images

    # What others see

    def features(self, latent: Latent, kind: str = "sample") -> torch.Tensor:
        """(B, F): "sample" = sample and memory; "belief" = mean, stddev and memory. Of a sequential core's
        memory the one has the sample of z2, the other its mean and stddev."""
        if kind == "sample":
            return torch.cat([latent.sample, self.core.recall(latent.memory)], -1)
        if kind == "belief":
            return torch.cat([latent.mean, latent.stddev, self.core.belief(latent.memory)], -1)
        raise ValueError(f"features kind {kind!r}: expected 'sample' or 'belief'")

    def relations(self, sample: torch.Tensor) -> torch.Tensor:
        """(..., Z) -> (..., R) what the encoders make explicit about pairs (keypoints: distances; else
        nothing).
        """
        parts, start = [], 0
        for encoder in self.encoders.values():
            parts.append(encoder.relations(sample[..., start : start + encoder.size]))
            start += encoder.size
        return torch.cat(parts, -1) if parts else sample[..., :0]

    def pack(self, latent: Latent) -> torch.Tensor:
        """One flat vector (B, Z + M) that planners optimise and caches hold."""
        return torch.cat([latent.sample, latent.memory], -1)

    def unpack(self, flat: torch.Tensor) -> Latent:
        """The inverse of `pack`; the distribution's parameters are those of a point."""
        sample, memory = flat.split([self.latent_size, self.core.memory_size], -1)
        return self.core.latent(sample, sample, torch.zeros_like(sample), memory)


def _require_actions(method: str, actions: torch.Tensor) -> None:
    """Raise UserError for float32 actions (..., A) beyond what the model has learned from, NaN too."""
    if not bool((actions.abs() <= 1).all()):
        raise UserError(f"model.{method} takes actions in [-1, 1], got values from {float(actions.min()):.3g} to "
                        f"{float(actions.max()):.3g}")  # fmt: skip


def _require_latents(method: str, value: object) -> None:
    if not isinstance(value, Latent):
        what = f"a tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
        raise UserError(f"model.{method} takes latents, as model.encode returns, whole (not their .sample); got {what}")
