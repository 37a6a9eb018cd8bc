"""Returns of (imagined) trajectories; time is the second dimension, `values[:, k]` belongs to the state
reached by step k.
"""

from __future__ import annotations

import torch


def lambda_returns(
    rewards: torch.Tensor, values: torch.Tensor, discount: float | torch.Tensor, mix: float
) -> torch.Tensor:
    """TD(lambda) returns of every step: (B, H) rewards and (B, H) values of the states they led to -> (B, H).

    G_k = r_k + discount * ((1 - mix) * v_k + mix * G_{k+1}), G_{H-1} = r_{H-1} + discount * v_{H-1}.
    mix = 1 gives the N-step return, mix = 0 the one-step target. `discount` may be (B, H) (times
    continuation).
    Source: Sutton & Barto 2018, eq. 12.18.
    """
    discount = torch.as_tensor(discount, dtype=rewards.dtype, device=rewards.device).expand_as(rewards)
    ahead, returns = values[:, -1], []
    for k in reversed(range(rewards.shape[1])):
        ahead = rewards[:, k] + discount[:, k] * ((1 - mix) * values[:, k] + mix * ahead)
        returns.append(ahead)
    return torch.stack(returns[::-1], 1)
