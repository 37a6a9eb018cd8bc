"""Multi-step imagination: the one loop through a latent model that every algorithm and loss uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch


class ImaginedStep(NamedTuple):
    """latent -> (action) -> next_latent, and the distribution the next latent came from."""

    latent: Any
    action: torch.Tensor
    distribution: Any
    next_latent: Any


def imagine(model, latent, act: Callable[[int, Any], torch.Tensor], head: torch.Tensor, horizon: int,
            rng: torch.Generator | None = None) -> list[ImaginedStep]:
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


class Imagined(NamedTuple):
    """Episodes of P particles in each of N simulated tasks, H steps long.

    states: (N, P, H, S) before each step. actions: (N, P, H, A). rewards: (N, P, H). mask: (N, P, H) bool, False from
    the step after an end on, and from one on that is not finite.
    """

    states: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    mask: torch.Tensor


@torch.no_grad()
def imagine_groups(
    step: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    policy: Callable[[torch.Tensor], torch.Tensor],
    starts: torch.Tensor,
    horizon: int,
) -> Imagined:
    """Roll `horizon` steps from `starts` (N, P, S), without gradients.

    Args:
        step: (states (N, P, S), actions (N, P, A)) -> next states, rewards (N, P), whether that ended it (N, P) bool.
        policy: states (N, P, S) -> actions (N, P, A).
    """
    states, alive, taken = starts, torch.ones(starts.shape[:2], dtype=torch.bool, device=starts.device), []
    for _ in range(horizon):
        actions = policy(states)
        following, rewards, ended = step(states, actions)
        alive = alive & following.isfinite().all(-1) & rewards.isfinite()
        taken.append((states, actions, rewards, alive))
        states, alive = following.where(alive[..., None], states), alive & ~ended
    return Imagined(*(torch.stack(column, 2) for column in zip(*taken, strict=True)))
