"""One step of a policy on rollouts: how much it gains, how far it moves, and the two ways to take it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from meta_latent.errors import RunError
from meta_latent.ops.inner_loop import InnerLoop
from meta_latent.ops.policy_gradient import clipped_surrogate, likelihood_ratio
from meta_latent.ops.trust_region import TrustRegionConfig, trust_region_step
from meta_latent.policies.gaussian_mlp import GaussianMLP, Parameters
from meta_latent.ranges import count, positive
from meta_latent.types import Metrics

METRICS = {
    "improvement": "gain that the policy's step promised, in standardised advantages",
    "divergence": "how far the step moved the policy (KL in nats, mean over states)",
    "step": "share of the full step that was taken; 0: rejected",
    "stddev": "standard deviation of actions, before they are clipped",
}


@dataclass(frozen=True)
class ProximalConfig:
    """PPO's step (Schulman et al. 2017, arXiv 1707.06347): `epochs` Adam steps on all rollouts.

    Attributes:
        clip: how far the ratio of new and old probabilities counts. epochs: steps. learning_rate: of Adam, whose
            moments begin anew with each batch of rollouts.
    """

    clip: float = positive(0.2, most=100)
    epochs: int = count(20, most=10_000)
    learning_rate: float = positive(1e-3, most=10)


class Surrogate:
    """What a policy would gain on rollouts that it played, adapted to N tasks (or to none).

    Args:
        policy: its parameters move. rollouts: `policy_search.Rollouts` of the adapted policies.
        acting: the stacked parameters (N, ...) that steps are measured from. inner: how the policy's own become those.
        played: (N, P, H) log likelihoods of the actions for who played them; None: `acting` did.
    """

    def __init__(self, policy: GaussianMLP, rollouts: Any, acting: Parameters, inner: InnerLoop,
                 played: torch.Tensor | None = None):  # fmt: skip
        self.policy, self.rollouts, self.inner = policy, rollouts, inner
        with torch.no_grad():
            self.old = policy(acting, rollouts.features)
            self.old_log_prob = self.old.log_prob(rollouts.actions) if played is None else played

    def gain(self, parameters: Parameters, clip: float = 0.0) -> torch.Tensor:
        """Mean ratio of probabilities times advantage; with `clip` PPO's lower bound of it."""
        return self.inner.mean(partial(self._gains, clip=clip), parameters)

    def _gains(self, adapted: Parameters, which: slice, clip: float) -> torch.Tensor:
        rollouts = self.rollouts
        new = self.policy(adapted, rollouts.features[which]).log_prob(rollouts.actions[which])
        compared = new, self.old_log_prob[which], rollouts.advantages[which]
        if clip:
            return clipped_surrogate(*compared, clip, rollouts.mask[which])
        return likelihood_ratio(*compared, rollouts.mask[which])

    def divergence(self, parameters: Parameters, second_order: bool = True) -> torch.Tensor:
        """Mean KL(old || new) of the actions, in nats."""
        adapted = self.inner.adapted(parameters, second_order)
        return self.old.divergence(self.policy(adapted, self.rollouts.features))[self.rollouts.mask].mean()

    # Stepping

    def trust_region_step(self, config: TrustRegionConfig) -> Metrics:
        """Move the policy by TRPO's step; its Fisher products take adapting as a plain shift, the gradient does not."""
        theta, found = trust_region_step(self.policy.values(), self.gain, self.divergence, config,
                                         curvature=partial(self.divergence, second_order=False),
                                         project=self.policy.floored)  # fmt: skip
        self.policy.take(theta)
        return found | self._spread()

    def proximal_step(self, config: ProximalConfig) -> Metrics:
        """Move the policy by PPO's step. Raises RunError if a loss is not finite."""
        parameters = list(self.policy.parameters())
        optimiser = torch.optim.Adam(parameters, config.learning_rate)
        for _ in range(config.epochs):
            loss = -self.gain(self.policy.values(), config.clip)
            if not torch.isfinite(loss):
                raise RunError("non-finite loss: the policy's PPO step; lower its learning_rate")
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
            optimiser.step()
            self.policy.take(self.policy.values())
        gained, moved = (measure(self.policy.values()).detach() for measure in (self.gain, self.divergence))
        return {"improvement": float(gained), "divergence": float(moved), "step": 1.0} | self._spread()

    def _spread(self) -> Metrics:
        return {"stddev": float(self.policy.log_stddev.detach().exp().mean())}
