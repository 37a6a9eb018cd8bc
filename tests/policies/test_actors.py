"""The squashed Gaussian policy against torch.distributions, and the temperature's direction."""

import pytest
import torch
from torch import distributions

from meta_latent.policies.actors import GaussianActor, Temperature
from meta_latent.rng import seeded_construction


def actor(**more):
    with seeded_construction(0):
        return GaussianActor(3, 2, 16, **more)


def test_log_density_is_that_of_the_squashed_gaussian():
    made, features = actor(), torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    action, log_prob = made.sample(features, torch.Generator().manual_seed(1))
    mean, log_stddev = made(features)
    squashed = distributions.TransformedDistribution(
        distributions.Normal(mean.double(), log_stddev.double().exp()), distributions.TanhTransform()
    )
    expected = squashed.log_prob(action.double()).sum(-1).float()
    torch.testing.assert_close(log_prob, expected, rtol=1e-3, atol=1e-3)  # atanh of float32 actions


def test_the_spread_keeps_its_bounds_and_the_noise_its_generator():
    made = actor(min_stddev=0.2, max_stddev=0.5)
    features = 1e3 * torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    stddev = made(features)[1].exp()
    assert stddev.min() >= 0.2 - 1e-6 and stddev.max() <= 0.5 + 1e-6 and stddev.max() - stddev.min() > 0.25
    a, b, c = (made.sample(features, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert a.abs().max() <= 1
    torch.testing.assert_close(made.mean_action(features), made(features)[0].tanh())


def test_log_density_stays_finite_far_out():
    made = actor()
    with torch.no_grad():
        made.net[-1].bias[:2] = 50.0
    _, log_prob = made.sample(torch.zeros(4, 3), torch.Generator().manual_seed(0))
    assert torch.isfinite(log_prob).all()


def test_actions_carry_gradients():
    made = actor()
    action, log_prob = made.sample(torch.zeros(4, 3), torch.Generator().manual_seed(0))
    (action.sum() + log_prob.sum()).backward()
    assert made.net[-1].bias.grad.abs().min() > 0


@pytest.mark.parametrize(("log_prob", "rises"), [(5.0, True), (-5.0, False)])
def test_the_weight_rises_while_the_entropy_is_too_small(log_prob, rises):
    temperature = Temperature(0.1, target=1.0)
    optimiser = torch.optim.SGD(temperature.parameters(), 0.1)
    temperature.loss(torch.full((4,), log_prob)).backward()
    optimiser.step()
    assert (temperature.value() > 0.1) == rises
