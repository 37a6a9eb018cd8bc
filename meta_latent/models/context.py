"""What transitions say of the task: a Gaussian factor each, their product with the prior the belief.

Rakelly et al. 2019 (arXiv 1903.08254), section 4. Deviations: the standard normal prior is a factor of every product,
where PEARL's code takes it for empty contexts alone, so that a belief may count on few transitions; a factor's log
precision is what the network gives, within +-LIMIT, so that a transition may say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from meta_latent.nets import MLP, Standardiser

LIMIT = 8.0
"""Largest absolute log precision of one transition."""


@dataclass(frozen=True)
class Evidence:
    """Natural parameters of Gaussians over z (..., Z), the standard normal prior not among them; they add up.

    Attributes:
        weighted: precision times mean. precision: one over variance.
    """

    weighted: torch.Tensor
    precision: torch.Tensor

    @classmethod
    def none(cls, *shape: int, device: torch.device | str = "cpu") -> Evidence:
        """Nothing seen yet."""
        return cls(torch.zeros(shape, device=device), torch.zeros(shape, device=device))

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.weighted + other.weighted, self.precision + other.precision)

    def __getitem__(self, index) -> Evidence:
        return Evidence(self.weighted[index], self.precision[index])

    def times(self, counted: torch.Tensor) -> Evidence:
        """The evidence where `counted` (...,) is true, none elsewhere."""
        return Evidence(self.weighted * counted[..., None], self.precision * counted[..., None])

    def up_to(self) -> Evidence:
        """Of factors (B, T, Z): all that stand at t or before, at every t."""
        return Evidence(self.weighted.cumsum(-2), self.precision.cumsum(-2))

    def posterior(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the product with the standard normal prior."""
        variance = 1.0 / (1.0 + self.precision)
        return self.weighted * variance, variance.sqrt()

    def drawn(self, noise: torch.Tensor) -> torch.Tensor:
        """z where the posterior puts standard normal `noise` (..., Z)."""
        mean, stddev = self.posterior()
        return mean + stddev * noise

    def divergence(self) -> torch.Tensor:
        """KL (...,) of the posterior from the prior, in nats."""
        mean, stddev = self.posterior()
        return 0.5 * (mean.square() + stddev.square() - 1.0 - 2.0 * stddev.log()).sum(-1)


class ContextEncoder(nn.Module):
    """Transitions (embedding, action, reward, next embedding) -> `Evidence` of each, by one network.

    embedding, actions, latent: sizes. Rewards are read on the scale of those that `scale` was fitted to.
    """

    def __init__(self, embedding: int, actions: int, latent: int, hidden: int, layers: int):
        super().__init__()
        self.scale = Standardiser(1)
        self.net = MLP(2 * embedding + actions + 1, 2 * latent, hidden, layers)

    def forward(self, before, action, reward, after) -> Evidence:
        """Tensors (..., F), (..., A), (...,), (..., F) -> (..., Z)."""
        read = torch.cat([before, action, self.scale(reward[..., None]), after], -1)
        mean, raw = self.net(read).chunk(2, -1)
        precision = (LIMIT * (raw / LIMIT).tanh()).exp()
        return Evidence(precision * mean, precision)
