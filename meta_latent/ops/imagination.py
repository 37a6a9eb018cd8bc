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
    states: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    mask: torch.Tensor


@torch.no_grad()
def imagine_groups(step, policy, starts, horizon):
    out, alive, s = [], torch.ones(starts.shape[:2], dtype=torch.bool), starts
    for _ in range(horizon):
        a = policy(s); n, r, e = step(s, a)
        out.append((s, a, r, alive)); alive = alive & ~e; s = n
    return Imagined(*(torch.stack(x, 2) for x in zip(*out)))
