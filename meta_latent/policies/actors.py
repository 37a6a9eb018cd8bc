"""Stochastic policies on latent features."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from meta_latent.nets import MLP

INSIDE = 1 - 1e-6
"""Nearer to 1, float32 does not tell actions apart well enough for their inverse hyperbolic tangent."""


class Draw(NamedTuple):
    """An action (..., A) and what its density follows from; draws of several steps can be stacked first."""

    action: torch.Tensor
    raw: torch.Tensor
    noise: torch.Tensor
    log_stddev: torch.Tensor

    def log_prob(self) -> torch.Tensor:
        """The action's log density (...,)."""
        gaussian = -0.5 * self.noise.square() - self.log_stddev - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(x)^2) in a form that does not underflow (Haarnoja et al. 2018, appendix C).
        squash = 2.0 * (math.log(2.0) - self.raw - nn.functional.softplus(-2.0 * self.raw))
        return (gaussian - squash).sum(-1)


class GaussianActor(nn.Module):
    """Tanh-squashed Gaussian policy: features (B, F) -> actions (B, A) in (-1, 1).

    The standard deviation (before the squashing) is bounded to [min_stddev, max_stddev]; noise is drawn from
    a passed generator, so that the same generator state gives the same action.
    """

    def __init__(
        self,
        inputs: int,
        action_size: int,
        hidden: int = 128,
        layers: int = 2,
        min_stddev: float = 0.1,
        max_stddev: float = 1.0,
    ):
        super().__init__()
        self.net = MLP(inputs, 2 * action_size, hidden, layers, output_scale=0.1)
        self.min_log, self.max_log = math.log(min_stddev), math.log(max_stddev)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation before the squashing."""
        mean, raw = self.net(features).chunk(2, -1)
        return mean, self.min_log + (self.max_log - self.min_log) * (raw + 1.0).sigmoid()

    def mean_action(self, features: torch.Tensor) -> torch.Tensor:
        """The squashed mean, without noise."""
        return self(features)[0].tanh()

    def sample(self, features: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """A reparameterised action and its log density (B,)."""
        drawn = self.draw(features, rng)
        return drawn.action, drawn.log_prob()

    def log_prob(self, features: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """The log density (...,) of actions (..., A) that were taken; at the ends of (-1, 1) that of just
        inside.
        """
        mean, log_stddev = self(features)
        raw = action.clamp(-INSIDE, INSIDE).atanh()
        return Draw(action, raw, (raw - mean) / log_stddev.exp(), log_stddev).log_prob()

    def draw(self, features: torch.Tensor, rng: torch.Generator) -> Draw:
        """A reparameterised action, its density not computed yet."""
        mean, log_stddev = self(features)
        noise = torch.randn(mean.shape, generator=rng).to(mean.device)
        raw = mean + log_stddev.exp() * noise
        return Draw(raw.tanh(), raw, noise, log_stddev)


class Temperature(nn.Module):
    """The weight of an entropy bonus, tuned so that the policy keeps `target` nats (Haarnoja et al. 2018b,
    eq. 18).
    """

    def __init__(self, initial: float, target: float):
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(initial)))
        self.target = target

    def value(self) -> torch.Tensor:
        """The weight, outside the graph."""
        return self.log.detach().exp()

    def loss(self, log_prob: torch.Tensor) -> torch.Tensor:
        """Falls when the weight rises while the entropy is below the target, and the reverse."""
        return -self.log * (log_prob.detach() + self.target).mean()
