"""A Gaussian policy whose parameters are values: one network, or one per task, differentiated through both."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

Parameters = dict[str, torch.Tensor]


class ClippedGaussian(NamedTuple):
    """Actions of a diagonal Gaussian, clipped to [-1, 1]: mean (..., A), log standard deviation that broadcasts."""

    mean: torch.Tensor
    log_stddev: torch.Tensor

    def sample(self, rng: torch.Generator) -> torch.Tensor:
        """Actions (..., A), outside of any graph."""
        noise = torch.randn(self.mean.shape, generator=rng, dtype=self.mean.dtype).to(self.mean.device)
        return (self.mean + self.log_stddev.exp() * noise).detach().clamp(-1, 1)

    def log_prob(self, action: torch.Tensor) -> torch.Tensor:
        """Log likelihood (...,) of clipped actions (..., A): a density inside, at either end the mass beyond it.

        So an action that was stored as it was played suffices, and its score has the least variance.
        Source: Fujita & Maeda 2018 (arXiv 1802.07564), eq. 8.
        """
        away = (action - self.mean) * (-self.log_stddev).exp()
        inside = -0.5 * away.square() - self.log_stddev - 0.5 * math.log(2 * math.pi)
        ends = action.abs() >= 1
        beyond = torch.special.log_ndtr(torch.where(ends, -action.sign() * away, 0.0))
        return torch.where(ends, beyond, inside).sum(-1)

    def divergence(self, new: ClippedGaussian) -> torch.Tensor:
        """KL(self || new) (...,) before the clipping, in nats: no less than that of the clipped actions."""
        ratio = (2 * (self.log_stddev - new.log_stddev)).exp()
        away = (self.mean - new.mean) * (-new.log_stddev).exp()
        return 0.5 * (ratio - 1 + away.square() - ratio.log()).sum(-1)

    def detach(self) -> ClippedGaussian:
        """The same values outside the graph."""
        return ClippedGaussian(self.mean.detach(), self.log_stddev.detach())


class GaussianMLP(nn.Module):
    """tanh network for the mean, and a standard deviation that no state changes; both are learned and adapted.

    Args:
        inputs, action_size: sizes. hidden: width. layers: hidden layers. stddev: at first. min_stddev: its floor.
    Source: MB-MPO's policy (Clavera et al. 2018). Deviation: `ClippedGaussian`, where the published code clips in the
    environment and takes the density of the unclipped action.
    """

    def __init__(self, inputs: int, action_size: int, hidden: int, layers: int, stddev: float, min_stddev: float):
        super().__init__()
        self.action_size = action_size
        sizes, self.layers, self.min_log = [inputs, *[hidden] * layers, action_size], layers, math.log(min_stddev)
        for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            weight = nn.init.xavier_uniform_(torch.empty(a, b))
            self.register_parameter(f"weight_{i}", nn.Parameter(weight if i < layers else 0.1 * weight))
            self.register_parameter(f"bias_{i}", nn.Parameter(torch.zeros(1, b)))
        self.log_stddev = nn.Parameter(torch.full((1, action_size), math.log(stddev)))

    def values(self) -> Parameters:
        """Its own parameters by name."""
        return dict(self.named_parameters())

    @torch.no_grad()
    def take(self, parameters: Parameters) -> None:
        """Set its own parameters, `floored`."""
        parameters = self.floored(parameters)
        for name, parameter in self.named_parameters():
            parameter.copy_(parameters[name])

    def floored(self, parameters: Parameters) -> Parameters:
        """Parameters whose deviation is no lower than its floor. Below it there is no gradient: a policy would stay
        there for ever, and an inner step from there would leave the deviation as it is.
        """
        return parameters | {"log_stddev": parameters["log_stddev"].clamp_min(self.min_log)}

    def forward(self, parameters: Parameters, features: torch.Tensor) -> ClippedGaussian:
        """What each of N sets of parameters, stacked (N, ...), does at its features (N, ..., F)."""
        x, shape = features.flatten(1, -2), features.shape[1:-1]
        for i in range(self.layers + 1):
            x = torch.baddbmm(parameters[f"bias_{i}"], x, parameters[f"weight_{i}"])
            x = x.tanh() if i < self.layers else x
        log_stddev = self.floored(parameters)["log_stddev"]
        return ClippedGaussian(x.unflatten(1, shape), log_stddev.unflatten(1, [1] * len(shape)))
