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
from meta_latent.models.core import Latent
from meta_latent.models.counterfactual import counterfactual_term, masked, reward_guess
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.losses import divergence, draw_heads, embed, image_loss, one_step, with_priors
from meta_latent.ops import gaussian, shares
from meta_latent.types import SequenceBatch


def follows(batch: SequenceBatch) -> torch.Tensor:
    """(B, T-1) bool: frame t + 1 was reached from frame t by an action, not by a reset, and is no padding."""
    return batch.valid[:, 1:] & ~batch.is_first[:, 1:]


def trial_loss(
    model: LatentStateModel, batch: SequenceBatch, shown: SequenceBatch, weights: LossConfig, rng: shares.Draws,
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
    apart = divergence(model, *with_priors(model, belief, ahead))
    counts = torch.cat([batch.valid[:, :1], moves], 1)[:, -apart.shape[1] :]  # a trial's first frame, if it has a prior
    terms["divergence"] = weights.divergence * masked(apart, counts, rng)
    if model.core.stochastic:
        likelihood = gaussian.log_prob(
            embeddings, belief.sample, torch.full_like(belief.sample, weights.embedding_stddev)).mean(-1)  # fmt: skip
        terms["embedding"] = -weights.embedding * masked(likelihood, batch.valid, rng)
    error = (reward_guess(model, before.memory, embeddings[:, 1:], actions)
             - model.scaled(batch.reward[:, 1:])).square()  # fmt: skip
    terms["reward"] = weights.reward * masked(error, moves, rng)
    if weights.counterfactual:
        terms["counterfactual"] = weights.counterfactual * counterfactual_term(
            model, belief.memory, embeddings, batch, weights.counterfactual_frames, rng)  # fmt: skip
    if not cached and batch.images:
        decoded = model.decode_float(belief.sample[batch.valid])
        valid = batch.valid.to(embeddings.dtype).flatten()
        terms["image"] = weights.image * (valid.mean() / shares.mean(valid, rng)) * sum(
            image_loss(decoded[camera], images[batch.valid], weights.pixel_contrast, rng)
            for camera, images in batch.images.items())  # fmt: skip
    return terms, belief
