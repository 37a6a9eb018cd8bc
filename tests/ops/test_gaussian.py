"""Densities and divergences against torch's own."""

import torch
from torch import distributions

from meta_latent.ops import gaussian


def given() -> tuple[torch.Tensor, ...]:
    """Means, standard deviations of two Gaussians."""
    a, b, s, t = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    return a, s.exp(), b, t.exp()


def test_divergence():
    a, s, b, t = given()
    expected = distributions.kl_divergence(distributions.Normal(a, s), distributions.Normal(b, t))
    torch.testing.assert_close(gaussian.kl(a, s, b, t), expected)


def test_log_density():
    a, s, x, _ = given()
    torch.testing.assert_close(gaussian.log_prob(x, a, s), distributions.Normal(a, s).log_prob(x))
