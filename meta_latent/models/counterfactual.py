"""Rewards of frames that were not just reached: what a memory knows of its task.

The next reward follows from the last one; those of frames far away follow from the task alone, so that a memory that
predicts them has to hold it (as the decoder of VariBAD, Zintgraf et al. 2020, arXiv 1910.08348; neither MELD nor
Dreamer has such a term).
"""

from __future__ import annotations

import torch

from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.ops import shares
from meta_latent.types import SequenceBatch


def masked(values: torch.Tensor, mask: torch.Tensor, rng: shares.Draws | None = None) -> torch.Tensor:
    """`values` (B, T) such that their mean is the mean over the places of `mask` (B, T) alone. rng: says which
    share of a batch these are, if they are one.
    """
    return values * mask / shares.mean(mask.float().flatten(), rng).clamp_min(1e-6)


def reward_guess(model: LatentStateModel, memory, embedding, action) -> torch.Tensor:
    """Scaled rewards (...,) of frames with these embeddings (..., Z), reached by `action` (..., A), in the task that
    `memory` (..., M) knows of.
    """
    inputs = torch.cat([embedding, model.relations(embedding), model.core.recall(memory), action], -1)
    return model.reward_head(inputs)[..., 0]


def counterfactual_term(
    model: LatentStateModel, memory: torch.Tensor, embeddings: torch.Tensor, batch: SequenceBatch,
    frames: int, rng: shares.Draws,
) -> torch.Tensor:  # fmt: skip
    """Squared error (B, T) of the rewards of other frames of the same sequence, past and future, that the memory at
    each frame predicts: `frames` of them, drawn anew for each.

    A frame is told by its raw embedding: the sample of a posterior that reads the memory would tell the task.
    """
    paid, reads = batch.reward_present > 0, torch.ones_like(batch.is_first)
    if batch.valid is not None:
        paid, reads = paid & batch.valid, batch.valid
    size, length = paid.shape
    chances = paid.float().cpu() + (~paid.any(1, keepdim=True)).float().cpu()
    drawn = shares.multinomial(chances, length * frames, True, rng)
    index = drawn.view(size, length, -1).to(memory.device)
    rows = torch.arange(size, device=memory.device)[:, None, None]
    there = memory[:, :, None].expand(-1, -1, index.shape[-1], -1)
    guess = reward_guess(model, there, embeddings[rows, index], batch.action[rows, index])
    error = (guess - model.scaled(batch.reward[rows, index])).square().mean(-1)
    return masked(error, reads & paid.any(1, keepdim=True), rng)


def counterfactual_errors(
    model: LatentStateModel, memory: torch.Tensor, embeddings: torch.Tensor, batch: SequenceBatch
) -> tuple[torch.Tensor, torch.Tensor]:
    """What memories (B, T, M) along whole trials say of the rewards of all their frames, per step of the trial, over
    the trials that last so long: (T,) 1 - R^2, and (T,) root mean square difference from what a trial's last memory
    says, in standard deviations of the rewards. Rewards that are all the same count in their own unit.
    """
    size, length = batch.reward.shape
    paid, reward = (batch.reward_present > 0) & batch.valid, model.scaled(batch.reward)
    variance = reward[paid].var(correction=0)
    variance = torch.where(variance > 1e-8, variance, 1.0)
    final = memory[torch.arange(size), batch.valid.sum(1) - 1]
    last = reward_guess(model, final[:, None].expand(-1, length, -1), embeddings, batch.action)
    error, distance = [], []
    for t in range(length):
        guess = reward_guess(model, memory[:, t, None].expand(-1, length, -1), embeddings, batch.action)
        counts = paid & batch.valid[:, t, None]
        error.append((guess - reward)[counts].square().mean() / variance)
        distance.append((guess - last)[counts].square().mean() / variance)
    return torch.stack(error), torch.stack(distance).sqrt()
