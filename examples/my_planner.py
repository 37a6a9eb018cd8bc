"""An algorithm of your own: it plans on the latent model, with a reward that is learned on the target.

The cross-entropy method (De Boer et al., "A Tutorial on the Cross-Entropy Method", 2005): draw sequences of
actions, imagine where they lead, keep the best, draw around those; the first action of the best one is taken, and
the next step plans anew. `imports=[my_planner]` on a command line makes its arms known.
The package's own planner is `cem`; this one shows a whole algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from meta_latent.algorithms.registry import Algorithm, register
from meta_latent.models.losses import METRICS as MODEL_METRICS
from meta_latent.nets import MLP
from meta_latent.ops.imagination import imagine
from meta_latent.policies.latent_agent import LatentAgent, LatentParts
from meta_latent.ranges import count, nonnegative, positive, share, whole
from meta_latent.rng import Streams
from meta_latent.types import Averages


@dataclass(frozen=True)
class PlannerConfig:
    """Settings, each with a default and a range: `algorithms.planner.horizon=7`.

    Attributes:
        horizon: imagined steps. discount: of their rewards.
        candidates: sequences that are imagined at once. elites: those of them that are kept. iterations: how often.
        noise: standard deviation of what is added to actions while data are collected.
        hidden, learning_rate, batch_size: of the reward's network.
        updates_per_step, first_updates: of the reward, per environment step and when learning starts.
    """

    horizon: int = count(10, most=1000)
    discount: float = share(0.95)
    candidates: int = count(64, least=2, most=100_000)
    elites: int = count(8, least=2, most=100_000)
    iterations: int = count(3, most=1000)
    noise: float = nonnegative(0.5, most=10)
    hidden: int = count(64, most=16_384)
    learning_rate: float = positive(2e-3, most=10)
    batch_size: int = count(64, most=1_000_000)
    updates_per_step: float = nonnegative(4.0, most=1000)
    first_updates: int = whole(300)

    def __post_init__(self):
        if self.elites > self.candidates:
            raise ValueError(f"elites={self.elites} of candidates={self.candidates}: choose fewer")


class Planner(LatentAgent):
    """Filtering, adapting the model, caching latents and saving are `LatentAgent`'s; planning and reward are ours."""

    def __init__(self, config: PlannerConfig, parts: LatentParts):
        super().__init__(parts)
        self.config, self.actions = config, parts.model.spec.action_size
        inputs = parts.model.latent_size + parts.model.relation_size + self.actions
        self.own({"reward": MLP(inputs, 1, config.hidden, 2)}, {"reward": config.learning_rate})

    def choose(self, latent, rng: Streams, explore: bool) -> torch.Tensor:
        """Latents of B rows -> actions (B, A) in [-1, 1]."""
        config, generator = self.config, rng.torch("plan")
        flat = self.model.pack(latent)
        many = self.model.unpack(flat.repeat_interleave(config.candidates, 0))
        shape = (len(flat), config.candidates, config.horizon, self.actions)
        mean, stddev = torch.zeros(shape)[:, :1], torch.ones(shape)[:, :1]
        for _ in range(config.iterations):
            plans = (mean + stddev * torch.randn(shape, generator=generator)).clamp(-1, 1)
            best = self.returns(many, plans.flatten(0, 1)).view(shape[:2]).topk(config.elites).indices
            elites = plans.gather(1, best[..., None, None].expand(-1, -1, *shape[2:]))
            mean, stddev = elites.mean(1, keepdim=True), elites.std(1, keepdim=True)
        chosen = mean[:, 0, 0]
        if explore:
            chosen = chosen + config.noise * torch.randn(chosen.shape, generator=generator)
        return chosen.clamp(-1, 1)

    def returns(self, latent, plans: torch.Tensor) -> torch.Tensor:
        """What plans (n, horizon, A) from n latents are imagined to be paid, (n,) on the CPU."""
        plans = plans.to(self.model.device)
        head = torch.arange(len(plans), device=plans.device) % self.model.heads  # the ensemble's take turns
        total = torch.zeros(len(plans), device=plans.device)
        for k, step in enumerate(imagine(self.model, latent, lambda k, _: plans[:, k], head, plans.shape[1])):
            total += self.config.discount**k * self.reward(step.next_latent.sample, step.action)
        return total.cpu()

    def reward(self, sample: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """The reward (n,) of the state `sample` (n, Z) that `action` (n, A) led to."""
        return self.networks["reward"](torch.cat([sample, self.model.relations(sample), action], -1))[..., 0]

    def improve(self, steps: int, first: bool, rng: Streams, metrics: Averages) -> None:
        """Fit the reward on the target's latents; `steps` new environment steps have come."""
        config = self.config
        for _ in range(self.due("improve", config.updates_per_step, steps) + config.first_updates * first):
            seen = self.cache.windows(config.batch_size, 1, rng.numpy("reward"))
            loss = functional.mse_loss(self.reward(seen.samples[:, 1], seen.actions[:, 1]), seen.rewards[:, 1])
            metrics.add({"reward_loss": self.optimise("reward", loss, clip=10.0)})
            self.updates += 1


ALGORITHM = Algorithm(
    config=PlannerConfig,
    build=lambda config, setting: Planner(config, setting.latent_parts()),
    starts=("pretrained", "scratch"),
    metrics={"reward_loss": "squared error of the reward on observed latents", **MODEL_METRICS},
)
register("planner", ALGORITHM)
