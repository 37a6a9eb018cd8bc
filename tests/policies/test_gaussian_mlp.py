"""Clipped Gaussians and the stacked policy, against numbers drawn, integrals and one network at a time."""

import math

import pytest
import torch

from meta_latent.ops.inner_loop import stacked
from meta_latent.policies.gaussian_mlp import ClippedGaussian, GaussianMLP
from meta_latent.rng import seeded_construction


def policy():
    with seeded_construction(0):
        return GaussianMLP(3, 2, hidden=8, layers=2, stddev=0.7, min_stddev=0.1)


def drawn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_likelihood_is_a_density_inside_and_a_mass_at_the_ends():
    """It integrates to 1, and the mass at an end is that of the normal distribution beyond it."""
    mean, log_stddev = torch.tensor([0.4], dtype=torch.float64), torch.tensor([math.log(0.8)], dtype=torch.float64)
    chosen = ClippedGaussian(mean, log_stddev)
    inside = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[1:-1, None]
    density = chosen.log_prob(inside).exp().sum() * 1e-5
    low, high = (chosen.log_prob(torch.tensor([[end]], dtype=torch.float64)).exp() for end in (-1.0, 1.0))
    assert high.item() == pytest.approx(0.5 * math.erfc((1 - 0.4) / 0.8 / math.sqrt(2)))
    assert (density + low + high).item() == pytest.approx(1, abs=1e-4)


def test_samples_are_clipped_and_have_the_masses_that_the_likelihood_says():
    chosen = ClippedGaussian(torch.tensor([[0.5]]).expand(20_000, 1), torch.tensor([[0.0]]))
    sample = chosen.sample(torch.Generator().manual_seed(0))
    assert sample.abs().max() <= 1
    expected = chosen.log_prob(torch.ones(1, 1)).exp()[0].item()
    share = (sample == 1).float().mean().item()
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 20_000))


def test_the_gradient_is_finite_at_the_ends_and_far_beyond_them():
    mean = torch.tensor([[-30.0], [0.0], [30.0]], requires_grad=True)
    chosen = ClippedGaussian(mean, torch.zeros(1, 1))
    chosen.log_prob(torch.ones(3, 1)).sum().backward()
    assert mean.grad.isfinite().all() and mean.grad[0] > mean.grad[1] > mean.grad[2] >= 0


def test_the_divergence_is_that_of_torch():
    old = ClippedGaussian(drawn(5, 2), drawn(1, 2, seed=2))
    new = ClippedGaussian(drawn(5, 2, seed=3), drawn(1, 2, seed=4))
    normal = [torch.distributions.Normal(d.mean, d.log_stddev.exp().expand(5, 2)) for d in (old, new)]
    expected = torch.distributions.kl_divergence(*normal).sum(-1)
    torch.testing.assert_close(old.divergence(new), expected)


def test_stacked_parameters_are_as_many_networks():
    net = policy()
    parameters = {name: value + 0.1 * drawn(*value.shape) for name, value in stacked(net.values(), 3).items()}
    features = drawn(3, 4, 5, 3, seed=2)
    found = net(parameters, features)
    for n in range(3):
        x = features[n]
        for i in range(3):
            x = x @ parameters[f"weight_{i}"][n] + parameters[f"bias_{i}"][n]
            x = x.tanh() if i < 2 else x
        torch.testing.assert_close(found.mean[n], x)
    assert found.mean.shape == (3, 4, 5, 2) and found.log_stddev.shape == (3, 1, 1, 2)


def test_the_standard_deviation_has_a_floor():
    net = policy()
    net.take(net.values() | {"log_stddev": torch.full((1, 2), -9.0)})
    assert net(stacked(net.values(), 1), torch.zeros(1, 1, 3)).log_stddev.exp().unique().item() == pytest.approx(0.1)
