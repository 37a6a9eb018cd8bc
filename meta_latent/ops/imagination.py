"""Multi-step imagination: the one loop through a latent model that every algorithm and loss uses, and the one
through models of the observed state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch


class ImaginedStep(NamedTuple):
    """latent -> (action) -> next_latent, and the distribution the next latent came from."""

    latent: Any
    action: torch.Tensor
    distribution: Any
    next_latent: Any


def imagine(
    model,
    latent,
    act: Callable[[int, Any], torch.Tensor],
    head: torch.Tensor,
    horizon: int,
    rng: torch.Generator | None = None,
) -> list[ImaginedStep]:
    """Roll `horizon` steps from `latent` (B rows), row b through ensemble head `head[b]` all the way.

    Args:
        model: anything with ``transition(latent, action, head)``; a ``route(head)`` method, if there is one,
            is called once. act: (step k, latent) -> action (B, A).
        rng: draw next latents with this generator; without it the expected next latent is used (IVG).
    Gradients flow through latents and actions.
    """
    steps, head = [], model.route(head) if hasattr(model, "route") else head
    for k in range(horizon):
        action = act(k, latent)
        distribution = model.transition(latent, action, head)
        following = distribution.mean() if rng is None else distribution.sample(rng)
        steps.append(ImaginedStep(latent, action, distribution, following))
        latent = following
    return steps


@dataclass(frozen=True)
class Imagined:
    """Imagined steps of N tasks with P particles each over H steps.

    Attributes:
        states, next_states: (N, P, H, S). actions: (N, P, H, A). rewards: (N, P, H), 0 where masked.
        mask: (N, P, H) bool, True for steps that count: taken before the particle ended, and finite.
    """

    states: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    mask: torch.Tensor
    next_states: torch.Tensor


@torch.no_grad()
def imagine_groups(
    step: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    policy: Callable[[torch.Tensor], torch.Tensor],
    starts: torch.Tensor,
    horizon: int,
) -> Imagined:
    """Roll `horizon` steps from starts (N, P, S), without gradients.

    Args:
        step: (states (N, P, S), actions (N, P, A)) -> (next states (N, P, S), rewards (N, P), ended (N, P) bool).
        policy: states (N, P, S) -> actions (N, P, A).
    The step that ends a particle still counts, later ones do not. A step to a state or with a reward that is not
    finite does not count, nor do later ones; the particle stays where it was, so that all states are finite.
    """
    states, actions, rewards, finite, ended = [starts], [], [], [], []
    for _ in range(horizon):
        actions.append(policy(states[-1]))
        following, reward, end = step(states[-1], actions[-1])
        finite.append((following.sum(-1) + reward).abs() < math.inf)
        states.append(torch.where(finite[-1][..., None], following, states[-1]))
        rewards.append(reward)
        ended.append(end)
    counts = torch.stack(finite, dim=2)
    counts[:, :, 1:] &= ~torch.stack(ended, dim=2)[:, :, :-1]
    mask = counts.cumprod(2).bool()
    rewards = torch.where(mask, torch.stack(rewards, dim=2), 0.0)
    states = torch.stack(states, dim=2)
    return Imagined(states[:, :, :-1], torch.stack(actions, dim=2), rewards, mask, states[:, :, 1:])
