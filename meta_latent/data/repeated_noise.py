"""Exploration by single action values that stray and are held, while the rest of the skill goes on.

A policy's own noise touches every value of every action: it spoils a skill before it comes to where one value alone
would have to change, such as letting go of a block that hangs over another. Source: temporally extended epsilon-greedy
exploration (Dabney, Ostrovski & Barreto 2021, arXiv 2006.01782), where a random action is repeated for a time with a
heavy tail. Deviation: actions are continuous, and one of their values is set to an end of its range, instead of all of
them to a random action.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from meta_latent.data.answers import acted
from meta_latent.data.collect import Actor
from meta_latent.rng import Streams
from meta_latent.types import Step

EXPONENT = 2.0
"""Of the zeta distribution of how long a value is held, as in the source: P(n) ~ n^-2."""
LONGEST = 10
"""Steps; the mean of that distribution is infinite."""
ENDS = np.array([-1.0, 1.0], np.float32)


class RepeatedNoise:
    """`actor`, one of whose action values is now and then held at an end of its range, -1 or 1, for some steps.

    epsilon: probability per step that this begins, where it does not go on. The draws come from the stream "stray".
    Without `explore`, `actor` alone decides.
    """

    def __init__(self, actor: Actor, epsilon: float):
        self.actor, self.epsilon = actor, epsilon

    def begin_task(self, batch_size: int) -> dict[str, Any]:
        """The actor's carry, and for each row: which value is held, at what, and for how many more steps."""
        nothing = torch.zeros(batch_size, dtype=torch.int64)
        return {"actor": self.actor.begin_task(batch_size), "which": nothing, "value": nothing.float(), "left": nothing}

    def act(self, step: Step, carry: dict, rng: Streams, explore: bool) -> tuple[torch.Tensor, dict]:
        """Actions (B, A), and the carry; nothing is held over the beginning of an episode."""
        action, of_actor = acted(self.actor, step, carry["actor"], rng, explore)
        which, value, left = carry["which"], carry["value"], torch.where(step.is_first, 0, carry["left"])
        if explore:
            draws, (rows, size) = rng.numpy("stray"), action.shape
            begins = (left == 0) & torch.from_numpy(draws.random(rows) < self.epsilon)
            which = torch.where(begins, torch.from_numpy(draws.integers(size, size=rows)), which)
            value = torch.where(begins, torch.from_numpy(draws.choice(ENDS, rows)), value)
            left = torch.where(begins, torch.from_numpy(draws.zipf(EXPONENT, rows).clip(max=LONGEST)), left)
            strays = (left > 0)[:, None] & (torch.arange(size) == which[:, None])
            action = torch.where(strays, value[:, None].to(action.dtype), action)
        return action, {"actor": of_actor, "which": which, "value": value, "left": (left - 1).clamp_min(0)}
