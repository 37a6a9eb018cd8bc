"""Planning by the cross-entropy method (CEM) on the latent model: nothing learns to act, the model is searched.

Hafner et al., "Learning Latent Dynamics for Planning from Pixels", ICML 2019 (arXiv 1811.04551), Algorithm 2: draw
sequences of actions, imagine where they lead, refit the Gaussian that they are drawn from to the best of them, a few
times over; take the first action of its mean; plan anew at the next step. The control that says what a learned policy
is worth on the same model, heads and learned reward. Deviations: transition heads take turns, candidate by candidate,
and expected next latents are used, where one model is sampled; the reward is an ensemble's, learned on the target
(`policies.reward_heads`), and so are ends, once an episode has ended for good; later rewards may be discounted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from meta_latent.algorithms.registry import Algorithm
from meta_latent.models.losses import METRICS as MODEL_METRICS
from meta_latent.ops.imagination import imagine
from meta_latent.policies.continuation import METRICS as TARGET_METRICS
from meta_latent.policies.latent_agent import LatentParts
from meta_latent.policies.simulators import LatentSimulators, RewardConfig
from meta_latent.ranges import count, nonnegative, share
from meta_latent.rng import Streams


@dataclass(frozen=True)
class CEMConfig:
    """Hyper-parameters.

    Attributes:
        horizon: imagined steps. discount: of later rewards, per step. candidates: sequences that are imagined at once.
        elites: the best of them, which the next are drawn around. iterations: how often.
        noise: standard deviation of what is added to actions while data are collected (the paper's 0.3).
        reward: the reward, learned on the target's latents.
    """

    horizon: int = count(8, most=1000)
    discount: float = share(1.0)
    candidates: int = count(100, least=2, most=100_000)
    elites: int = count(10, least=2, most=100_000)
    iterations: int = count(4, most=1000)
    noise: float = nonnegative(0.3, most=10)
    reward: RewardConfig = field(default_factory=RewardConfig)

    def __post_init__(self):
        if self.elites > self.candidates:
            raise ValueError(f"elites={self.elites} of candidates={self.candidates}: choose fewer")


class CEM(LatentSimulators):
    """See the module's docstring. Build inside `rng.seeded_construction`."""

    def __init__(self, config: CEMConfig, parts: LatentParts):
        super().__init__(config.reward, parts)
        self.planning, self.actions = config, parts.model.spec.action_size

    def choose(self, latent, rng: Streams, explore: bool) -> torch.Tensor:
        """Actions (B, A) in [-1, 1] for B latents."""
        plan, draws, flat = self.planning, rng.torch("plan"), self.model.pack(latent)
        starts = flat.repeat_interleave(plan.candidates, 0)
        shape = len(flat), plan.candidates, plan.horizon, self.actions
        mean, stddev = torch.zeros(shape, device=self.device)[:, :1], torch.ones((), device=self.device)
        for _ in range(plan.iterations):
            noise = torch.randn(shape, generator=draws).to(self.device)
            tried = (mean + stddev * noise).clamp(-1, 1)
            best = self.returns(starts, tried.flatten(0, 1)).view(shape[:2]).topk(plan.elites).indices
            elites = tried.gather(1, best[..., None, None].expand(-1, -1, *shape[2:]))
            mean, stddev = elites.mean(1, keepdim=True), elites.std(1, keepdim=True, unbiased=False)
        chosen = mean[:, 0, 0]
        if explore:
            chosen = chosen + plan.noise * torch.randn(chosen.shape, generator=draws).to(self.device)
        return chosen.clamp(-1, 1)

    def returns(self, starts: torch.Tensor, plans: torch.Tensor) -> torch.Tensor:
        """What plans (n, horizon, A) are imagined to be paid from packed latents (n, Z + M): (n,)."""
        head = torch.arange(len(plans), device=self.device) % self.model.heads
        steps = imagine(self.model, self.model.unpack(starts), lambda k, _: plans[:, k], head, plans.shape[1])
        states = torch.stack([self.reward.state(step.next_latent) for step in steps], 1)
        discounts = self.planning.discount ** torch.arange(plans.shape[1], device=self.device)
        rewards = self.reward.estimate(states, plans)
        if self.cache.ends:  # a step counts with the probability that it is taken at all
            goes_on = self.continuation.estimate(states, plans)
            rewards[:, 1:] *= goes_on[:, :-1].cumprod(1)
        return rewards @ discounts


ALGORITHM = Algorithm(
    config=CEMConfig,
    build=lambda config, setting: CEM(config, setting.latent_parts()),
    starts=("pretrained", "scratch"),
    metrics=TARGET_METRICS | MODEL_METRICS,
)
