"""Wandering: an actor that now and then goes on at random from where it got to.

A learned policy tries little beside what it expects to pay. What only shows at the end of a skill, such as letting go
of a block that hangs over another, is met by noise on every action too rarely: that noise spoils the skill first.
Source: "first return, then explore" (Ecoffet et al. 2021, arXiv 2004.12919), of which this keeps the order alone: the
policy is what returns, no archive of states chooses where to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from meta_latent.data.collect import Actor
from meta_latent.rng import Streams
from meta_latent.types import Step


class Wandering:
    """`actor`, whose place `other` takes for the rest of some episodes; it draws from the stream "wander".

    share: probability of an episode to be one of those; in it, each of the first `longest` steps is as likely to be
    `other`'s first. Without `explore`, `actor` alone decides.
    """

    def __init__(self, actor: Actor, other: Actor, share: float, longest: int):
        self.actor, self.other, self.share, self.longest = actor, other, share, longest

    def begin_task(self, batch_size: int) -> dict[str, Any]:
        """Both carries, and how many steps are left to `actor` in each episode."""
        left = torch.zeros(batch_size, dtype=torch.int64)
        return {"actor": self.actor.begin_task(batch_size), "other": self.other.begin_task(batch_size), "left": left}

    def act(self, step: Step, carry: dict, rng: Streams, explore: bool) -> tuple[torch.Tensor, dict]:
        """Actions (B, A), and the carry; both look at every step, so that what the actor remembers has no gap."""
        action, carry_of_actor = self.actor.act(step, carry["actor"], rng, explore)
        random, carry_of_other = self.other.act(step, carry["other"], rng, explore)
        left = carry["left"]
        if step.is_first.any():
            left = torch.where(step.is_first, self._drawn(len(left), rng), left)
        if explore:
            action = torch.where((left <= 0)[:, None], random.to(action.dtype), action)
        return action, {"actor": carry_of_actor, "other": carry_of_other, "left": left - 1}

    def _drawn(self, count: int, rng: Streams) -> torch.Tensor:
        draws = rng.numpy("wander")
        begins = draws.integers(self.longest, size=count)
        return torch.from_numpy(np.where(draws.random(count) < self.share, begins, self.longest))
