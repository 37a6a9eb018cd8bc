"""An algorithm of your own, as small as one on the pretrained model can be: it tries actions in imagination.

At every step many random actions are drawn, each is held for a few imagined steps, and the one that is paid most is
taken. Nothing but the target's reward has to be learned. `imports=[my_planner]` on a command line makes its arms known.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from meta_latent.algorithms.registry import Algorithm, register
from meta_latent.models.losses import METRICS as MODEL_METRICS
from meta_latent.nets import MLP
from meta_latent.ops.imagination import imagine
from meta_latent.policies.latent_agent import LatentAgent
from meta_latent.ranges import count, nonnegative, whole


@dataclass(frozen=True)
class PlannerConfig:
    """Settings, each with a default and a range: `algorithms.planner.horizon=7`.

    Attributes:
        candidates: actions that are tried at once. horizon: imagined steps that each is held for.
        noise: standard deviation of what is added to actions while data are collected.
        updates_per_step, first_updates: of the reward, per environment step and when learning starts.
    """

    candidates: int = count(64, least=2, most=100_000)
    horizon: int = count(4, most=1000)
    noise: float = nonnegative(0.3, most=10)
    updates_per_step: float = nonnegative(4.0, most=1000)
    first_updates: int = whole(300)


class Planner(LatentAgent):
    """Filtering, adapting the model, caching latents and saving are `LatentAgent`'s."""

    def __init__(self, config, parts, actor=None):
        super().__init__(parts, actor)
        self.config, self.actions = config, self.model.spec.action_size
        inputs = self.model.latent_size + self.model.relation_size + self.actions
        self.own({"reward": MLP(inputs, 1, hidden=64, layers=2)}, {"reward": 2e-3})

    def choose(self, latent, rng, explore):
        """Latents of B rows -> actions (B, A) in [-1, 1]."""
        rows, many, draws = len(latent.sample), self.config.candidates, rng.torch("plan")
        tried = (2 * torch.rand(rows * many, self.actions, generator=draws) - 1).to(self.model.device)
        starts = latent.map(lambda x: x.repeat_interleave(many, 0))
        best = self.imagined_return(starts, lambda k, latent: tried).view(rows, many).argmax(1)
        action = tried.view(rows, many, -1)[torch.arange(rows), best]
        noise = torch.randn(action.shape, generator=draws).to(action.device)
        return (action + self.config.noise * noise * explore).clamp(-1, 1)

    def imagined_return(self, latent, act):
        """What `act` (step, latents) -> actions (n, A) is expected to be paid from n latents: (n,)."""
        head = torch.arange(len(latent.sample), device=self.model.device) % self.model.heads  # they take turns
        steps = imagine(self.model, latent, act, head, self.config.horizon)
        return sum(self.reward(step.next_latent, step.action) for step in steps)

    def reward(self, latent, action):
        """The reward (n,) for n states that actions (n, A) led to."""
        return self.networks["reward"](torch.cat([latent.sample, latent.relations, action], -1))[..., 0]

    def improve(self, steps, first, rng, metrics):
        """Fit the reward on the target's latents; `steps` new environment steps have come."""
        for _ in range(self.due("improve", self.config.updates_per_step, steps) + self.config.first_updates * first):
            seen = self.cache.windows(64, 1, rng.numpy("reward"))
            latent, action = self.model.unpack(seen.packed[:, 1]), seen.actions[:, 1]
            loss = functional.mse_loss(self.reward(latent, action), seen.rewards[:, 1])
            metrics.add({"reward_loss": self.optimise("reward", loss, clip=10.0)})
            self.updates += 1


METRICS = {"reward_loss": "squared error of the reward on observed latents", **MODEL_METRICS}
register("planner", Algorithm(
    config=PlannerConfig,
    build=lambda config, setting: Planner(config, setting.latent_parts()),
    starts=("pretrained", "scratch"),
    metrics=METRICS,
))  # fmt: skip
