"""What a latent state model is trained on where it infers tasks: whole trials, several episodes of one task.

Source: the evidence lower bound of MELD (Zhao et al. 2020, arXiv 2010.13957, and its code), in which rewards are
both observed and predicted, averaged over time. Deviations: the core is ours (`core`); a reward is predicted from
the memory before its step and the raw embedding after it, which hold no fed reward (MELD decodes it from the state
that was just fed it); `counterfactual_term`, which MELD lacks. Episodes of a trial follow each other without a gap:
the memory runs on over a reset, whose frame has no reward, no previous action, and no transition into it.
"""

from __future__ import annotations

import torch

from meta_latent.models.config import LossConfig
from meta_latent.models.core import Latent, gaussian_log_prob
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.losses import divergence, draw_heads, image_loss, one_step
from meta_latent.types import SequenceBatch


def follows(batch: SequenceBatch) -> torch.Tensor:
    """(B, T-1) bool: frame t + 1 was reached from frame t by an action, not by a reset, and is no padding."""
    return batch.valid[:, 1:] & ~batch.is_first[:, 1:]


def trial_loss(
    model: LatentStateModel, batch: SequenceBatch, shown: SequenceBatch, weights: LossConfig, rng: torch.Generator,
    embeddings: torch.Tensor | None = None,
) -> tuple[dict[str, torch.Tensor], Latent]:  # fmt: skip
    """Named, weighted loss terms of whole trials, each to be averaged, and the beliefs (B, T).

    Args:
        batch: (B, T) trials with the rewards to predict. shown: the same with those the memory is fed.
        weights: of the terms.
        embeddings: (B, T, Z) cached ones; then no image is encoded or decoded and the encoder does not train.
    """
    cached = embeddings is not None
    if not cached:
        embeddings = embed(model, batch)
    belief = model.filter(embeddings, shown.action, shown.reward, shown.reward_present, rng)
    moves, terms = follows(batch), {}
    before, actions = belief[:, :-1], batch.action[:, 1:]
    ahead = one_step(model, before, actions, draw_heads(batch.head_mask, rng))
    apart = divergence(model, belief[:, 1:], ahead.mean, ahead.stddev)
    terms["divergence"] = weights.divergence * masked(apart, moves)
    if model.core.stochastic:
        likelihood = gaussian_log_prob(
            embeddings, belief.sample, torch.full_like(belief.sample, weights.embedding_stddev)).mean(-1)  # fmt: skip
        terms["embedding"] = -weights.embedding * masked(likelihood, batch.valid)
    error = (reward_guess(model, before.memory, embeddings[:, 1:], actions)
             - model.scaled(batch.reward[:, 1:])).square()  # fmt: skip
    terms["reward"] = weights.reward * masked(error, moves)
    if weights.counterfactual:
        terms["counterfactual"] = weights.counterfactual * counterfactual_term(
            model, belief.memory, embeddings, batch, weights.counterfactual_frames, rng)  # fmt: skip
    if not cached and batch.images:
        decoded, images = model.decode_float(belief.sample.flatten(0, 1)), {}
        for camera, seen in batch.images.items():
            images[camera] = image_loss(decoded[camera], seen.flatten(0, 1), weights.pixel_contrast)
        terms["image"] = weights.image * masked(sum(images.values()).view_as(batch.reward), batch.valid)
    return terms, belief


def embed(model: LatentStateModel, batch: SequenceBatch) -> torch.Tensor:
    """(B, T, Z) embeddings of the frames of (B, T) sequences."""
    images = {camera: x.flatten(0, 1) for camera, x in batch.images.items()}
    return model.embed(images, batch.proprio.flatten(0, 1)).unflatten(0, batch.reward.shape)


def masked(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`values` (B, T) such that their mean is the mean over the places of `mask` (B, T) alone."""
    return values * mask / mask.float().mean().clamp_min(1e-6)


def reward_guess(model: LatentStateModel, memory, embedding, action) -> torch.Tensor:
    """Scaled rewards (...,) of frames with these embeddings (..., Z), reached by `action` (..., A), in the task that
    `memory` (..., M) knows of.
    """
    inputs = torch.cat([embedding, model.relations(embedding), memory, action], -1)
    return model.reward_head(inputs)[..., 0]


def counterfactual_term(
    model: LatentStateModel, memory: torch.Tensor, embeddings: torch.Tensor, batch: SequenceBatch,
    frames: int, rng: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    """Squared error (B, T) of the rewards of other frames of the same sequence, past and future, that the memory at
    each frame predicts: `frames` of them, drawn anew for each.

    The next reward follows from the last one; those of frames far away follow from the task alone, so that the
    memory has to hold it (as VariBAD's decoder, Zintgraf et al. 2020, arXiv 1910.08348). A frame is told by its raw
    embedding: the sample of a posterior that reads the memory would tell the task.
    """
    paid, reads = batch.reward_present > 0, torch.ones_like(batch.is_first)
    if batch.valid is not None:
        paid, reads = paid & batch.valid, batch.valid
    size, length = paid.shape
    chances = paid.float().cpu() + (~paid.any(1, keepdim=True)).float().cpu()
    drawn = torch.multinomial(chances, length * frames, True, generator=rng)
    index = drawn.view(size, length, -1).to(memory.device)
    rows = torch.arange(size, device=memory.device)[:, None, None]
    there = memory[:, :, None].expand(-1, -1, index.shape[-1], -1)
    guess = reward_guess(model, there, embeddings[rows, index], batch.action[rows, index])
    error = (guess - model.scaled(batch.reward[rows, index])).square().mean(-1)
    return masked(error, reads & paid.any(1, keepdim=True))
