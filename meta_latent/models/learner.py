"""Training a latent state model from a replay, step by step: what `pretrain` and every agent that keeps
learning use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from meta_latent.errors import RunError
from meta_latent.models import losses, trials
from meta_latent.models.config import LossConfig
from meta_latent.models.core import Latent
from meta_latent.models.latent_state_model import PIXELS, LatentStateModel
from meta_latent.nets import pack_optimiser, unpack_optimiser
from meta_latent.ops import shares
from meta_latent.ranges import count, positive


@dataclass(frozen=True)
class LearnerConfig:
    """Sizes of the updates.

    Attributes:
        learning_rate, gradient_clip: Adam and the largest gradient norm.
        batch_size, length: sequences of `LatentStateModel` losses on pixels (a window of `length`
            observations).
        filter_batch_size, filter_length: the same on cached embeddings, where longer windows are cheap.
        transition_batch_size, horizon: windows of cached latents and how many steps they are predicted open
            loop.
    """

    learning_rate: float = positive(1e-3, most=10)
    gradient_clip: float = positive(20.0, most=1e9)
    batch_size: int = count(16, least=2, most=100_000)
    length: int = count(6, least=2, most=100_000)
    filter_batch_size: int = count(32, most=100_000)
    filter_length: int = count(24, least=2, most=100_000)
    transition_batch_size: int = count(200, least=2, most=1_000_000)
    horizon: int = count(5, most=1000)


class ModelLearner:
    """One optimiser per stage, so that a stage's moments never mix with another's.

    The stages: `joint` (everything, on pixels), `filter` (core and heads, on cached embeddings) and
    `transition` (the transition heads, on cached latents).

    new_encoder: whether the encoder has its scales still to be found. What remembers and predicts has learned from
    embeddings of a pretrained one as they are, so those of such a one stay.
    """

    def __init__(self, model: LatentStateModel, config: LearnerConfig, new_encoder: bool = True):
        self.model, self.config, self.new_encoder = model, config, new_encoder
        named = list(model.named_parameters())
        self.parameters = {
            "joint": [p for _, p in named],
            "filter": [p for name, p in named if not name.startswith(PIXELS)],
            "transition": list(model.core.transitions.parameters()),
        }
        self.optimisers = {
            stage: torch.optim.Adam(p, config.learning_rate, fused=True) for stage, p in self.parameters.items()
        }

    def calibrate(self, batch) -> None:
        """Set what can be set in closed form before the first joint update, from (B, T) pixel sequences."""
        batch = batch.to(self.model.device)
        if self.new_encoder:
            self.model.calibrate(batch.images, batch.proprio)
        self.calibrate_rewards(batch)

    def standardise(self, batch) -> None:
        """Fit the scale of a new encoder's embeddings to (B, T) pixel sequences, where the model has one."""
        if not self.new_encoder:
            return
        images = batch.to(self.model.device).images
        self.model.standardise({camera: x.flatten(0, 1) for camera, x in images.items()})

    def calibrate_rewards(self, batch) -> None:
        """The part of `calibrate` that a frozen encoder needs as well."""
        self.model.calibrate_rewards(batch.reward[batch.reward_present > 0].to(self.model.device))

    def joint(self, batch, rng: shares.Draws, task_rewards=None, known=None, scale: float = 1.0) -> dict[str, float]:
        """One update of everything on (B, T) pixel sequences. `scale` multiplies the learning rate."""
        terms = losses.loss(self.model, batch, rng, task_rewards, known=known)
        return self._step("joint", terms, rng, scale)

    def filter(
        self, batch, embeddings, rng: shares.Draws, task_rewards=None, known=None, scale: float = 1.0
    ) -> dict[str, float]:
        """One update of core and heads on (B, T, Z) cached embeddings."""
        terms = losses.loss(self.model, batch, rng, task_rewards, embeddings, known)
        return self._step("filter", terms, rng, scale)

    def transition(self, windows, rng: shares.Draws, scale: float = 1.0) -> dict[str, float]:
        """One update of the transition heads on `LatentWindows`."""
        head = losses.draw_heads(windows.head_mask, rng)
        error = losses.transition_loss(self.model, windows.samples, windows.memories, windows.actions, head)
        return self._step("transition", {"transition": error}, rng, scale)

    def trials(
        self,
        batch,
        shown,
        weights: LossConfig,
        rng: shares.Draws,
        embeddings: torch.Tensor | None = None,
        scale: float = 1.0,
    ) -> tuple[dict[str, float], Latent]:
        """One update on whole trials, see `models.trials.trial_loss`: of everything on pixels, or of core and heads
        on `embeddings` (B, T, Z); what it measured, and the beliefs (B, T) that it began with, outside the graph.
        """
        terms, belief = trials.trial_loss(self.model, batch, shown, weights, rng, embeddings)
        return self._step("joint" if embeddings is None else "filter", terms, rng, scale), belief.detach()

    def _step(self, stage: str, terms: dict[str, torch.Tensor], rng: shares.Draws, scale: float) -> dict[str, float]:
        optimiser, parameters = self.optimisers[stage], self.parameters[stage]
        total = losses.total(terms)
        values = shares.averaged({name: float(term.detach().mean()) for name, term in terms.items()}, rng)
        bad = [name for name, value in values.items() if not np.isfinite(value)]
        if bad:
            raise RunError(
                f"non-finite loss: the model's {', '.join(bad)} term of the {stage} stage; "
                "lower learner.learning_rate or look at the data"
            )
        optimiser.param_groups[0]["lr"] = self.config.learning_rate * scale
        optimiser.zero_grad(set_to_none=True)
        total.backward(torch.full_like(total, shares.weight(rng)))
        shares.add_up((p.grad for p in parameters if p.grad is not None), rng)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip)
        if not torch.isfinite(norm):
            raise RunError(f"non-finite gradient of the {stage} stage; lower learner.learning_rate")
        optimiser.step()
        return values

    def state(self) -> dict:
        """Weights and optimiser moments."""
        return {
            "model": self.model.state_dict(),
            "optimisers": {k: pack_optimiser(o) for k, o in self.optimisers.items()},
        }

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        self.model.load_state_dict(state["model"])
        for name, optimiser in self.optimisers.items():
            unpack_optimiser(optimiser, state["optimisers"][name])
