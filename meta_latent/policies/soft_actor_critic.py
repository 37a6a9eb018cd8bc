"""One update of soft actor-critic, which several algorithms share.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018 (arXiv 1812.05905), with twin critics and a tuned
temperature (eqs. 5, 7 and 18).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from meta_latent.nets import update_target
from meta_latent.policies.actors import GaussianActor, Temperature
from meta_latent.types import Metrics

METRICS = {
    "critic_loss": "squared error of the critics",
    "value": "mean of the lower critic at the policy's actions",
    "entropy": "entropy of the policy, in nats",
    "temperature": "weight of the entropy bonus",
}
"""What `update` measures."""


@dataclass(frozen=True)
class SoftBatch:
    """The transitions that one update learns from, n of them.

    Attributes:
        now, after: (n, F) features before and after; gradients of the critics' error reach what made `now`.
        target_after: (n, F) what the target critics read instead of `after`.
        action: (n, A). reward: (n,) between the two, of several steps where `discount` is of several.
        alive: (n,) whether anything comes after. discount: of what does, one number or (n,).
        beside: what is minimised beside the critics' error by whatever learns with it.
    """

    now: torch.Tensor
    after: torch.Tensor
    target_after: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    alive: torch.Tensor
    discount: torch.Tensor | float
    beside: torch.Tensor | float = 0.0


@dataclass(frozen=True)
class SoftActorCritic:
    """Actor, twin critics (features, actions) -> (n, 2), temperature, and how they learn.

    Attributes:
        critic, target_critic: those functions; critic_modules: what holds their weights, in this order.
        step: (name, loss, clip) -> loss; one optimiser step of "critic", "policy" or "temperature".
        clip: largest norm of each gradient. target_rate: how fast the target critics follow.
    """

    actor: GaussianActor
    temperature: Temperature
    critic: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    target_critic: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    critic_modules: tuple[nn.Module, nn.Module]
    step: Callable[[str, torch.Tensor, float], float]
    clip: float
    target_rate: float

    def update(self, batch: SoftBatch, draws: torch.Generator) -> Metrics:
        """One update of critics, policy, temperature and target critics, in this order."""
        target = self.targets(batch, draws)
        critic_loss = (self.critic(batch.now, batch.action) - target[:, None]).square().mean()
        self.step("critic", critic_loss + batch.beside, self.clip)
        now = batch.now.detach()
        action, log_prob = self.actor.sample(now, draws)
        value = self.critic(now, action).min(-1).values
        self.step("policy", (self.temperature.value() * log_prob - value).mean(), self.clip)
        self.step("temperature", self.temperature.loss(log_prob), self.clip)
        target_module, module = reversed(self.critic_modules)
        update_target(target_module, module, self.target_rate)
        return {
            "critic_loss": float(critic_loss.detach()),
            "value": float(value.detach().mean()),
            "entropy": float(-log_prob.detach().mean()),
            "temperature": float(self.temperature.value()),
        }

    @torch.no_grad()
    def targets(self, batch: SoftBatch, draws: torch.Generator) -> torch.Tensor:
        """(n,) reward and discounted soft value of what comes after, at an action of the policy."""
        action, log_prob = self.actor.sample(batch.after, draws)
        soft = self.target_critic(batch.target_after, action).min(-1).values - self.temperature.value() * log_prob
        return batch.reward + batch.discount * soft * batch.alive
