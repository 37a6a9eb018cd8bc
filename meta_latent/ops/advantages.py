"""Advantages of what was played; time is the second dimension, `values[:, k]` belongs to the state that step k
started from.
"""

from __future__ import annotations

import torch


def generalised_advantages(
    rewards: torch.Tensor, values: torch.Tensor, discount: float | torch.Tensor, mix: float
) -> torch.Tensor:
    """Generalised advantage estimates (GAE): (B, H) rewards and (B, H + 1) values -> (B, H).

    A_k = d_k + discount * mix * A_{k+1} with d_k = r_k + discount * v_{k+1} - v_k. The last value is what the end
    is bootstrapped from, zeros where it is one. mix = 1 gives returns minus values, mix = 0 one-step errors.
    `discount` may be (B, H) (times continuation: nothing crosses an end). A_k + v_k are TD(lambda) returns.
    Source: Schulman et al. 2016 (arXiv 1506.02438), eq. 16.
    """
    discount = torch.as_tensor(discount, dtype=rewards.dtype, device=rewards.device).expand_as(rewards)
    errors = rewards + discount * values[:, 1:] - values[:, :-1]
    ahead, found = torch.zeros_like(errors[:, 0]), []
    for k in reversed(range(rewards.shape[1])):
        ahead = errors[:, k] + discount[:, k] * mix * ahead
        found.append(ahead)
    return torch.stack(found[::-1], 1)
