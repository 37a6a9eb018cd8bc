"""What a step of the policy is measured by, and which inner step its Fisher products see."""

from types import SimpleNamespace

import pytest
import torch

from meta_latent.ops.inner_loop import InnerLoop, stacked
from meta_latent.ops.policy_gradient import clipped_surrogate
from meta_latent.ops.trust_region import TrustRegionConfig
from meta_latent.policies.gaussian_mlp import GaussianMLP
from meta_latent.policies.surrogate import ProximalConfig, Surrogate
from meta_latent.rng import seeded_construction


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def measured(rate=0.0):
    """A surrogate on random steps of two tasks, of which some count; and its rollouts."""
    with seeded_construction(0):
        policy = GaussianMLP(3, 2, hidden=4, layers=1, stddev=0.5, min_stddev=0.1)
    mask = torch.arange(5)[None, None, :] < torch.tensor([[5, 2, 4], [1, 3, 5]])[..., None]
    rollouts = SimpleNamespace(features=drawn(2, 3, 5, 3), actions=(0.5 * drawn(2, 3, 5, 2, seed=1)).clamp(-1, 1),
                               advantages=torch.where(mask, drawn(2, 3, 5, seed=2), 0.0), mask=mask)  # fmt: skip

    def loss(parameters, which):
        return -policy(parameters, rollouts.features[which]).log_prob(rollouts.actions[which]).flatten(1).mean(1)

    inner = InnerLoop(2, loss, rate)
    acting = {name: value.detach() for name, value in inner.adapted(policy.values()).items()}
    return Surrogate(policy, rollouts, acting, inner), rollouts


def moved(surrogate):
    return {name: value + 0.2 * drawn(*value.shape, seed=3) for name, value in surrogate.policy.values().items()}


def test_the_divergence_is_of_the_steps_that_count():
    surrogate, rollouts = measured()
    there = moved(surrogate)
    each = surrogate.old.divergence(surrogate.policy(stacked(there, 2), rollouts.features))
    expected = torch.stack([each[n, p, k] for n, p, k in rollouts.mask.nonzero().tolist()]).mean()
    torch.testing.assert_close(surrogate.divergence(there), expected)
    assert float(each.mean().detach()) != pytest.approx(float(expected.detach()), rel=1e-2)


def test_with_a_clip_the_gain_is_ppos_bound():
    surrogate, rollouts = measured()
    there = moved(surrogate)
    new = surrogate.policy(stacked(there, 2), rollouts.features).log_prob(rollouts.actions)
    bound = clipped_surrogate(new, surrogate.old_log_prob, rollouts.advantages, 0.05, rollouts.mask).mean()
    torch.testing.assert_close(surrogate.gain(there, 0.05), bound)
    assert surrogate.gain(there) > bound + 1e-3


@pytest.mark.parametrize("rate", [0.0, 0.05])
def test_ppos_step_gains(rate):
    surrogate, _ = measured(rate)
    before = float(surrogate.gain(surrogate.policy.values()).detach())
    found = surrogate.proximal_step(ProximalConfig(epochs=20, learning_rate=1e-3))
    assert float(surrogate.gain(surrogate.policy.values()).detach()) > before + 1e-3
    assert 0 < found["divergence"] < 0.1


def test_a_first_order_inner_step_moves_as_its_parameters_do():
    surrogate, _ = measured(rate=0.3)
    theta = surrogate.policy.values()
    for second_order, alike in ((False, True), (True, False)):
        total = sum(value.sum() for value in surrogate.inner.adapted(theta, second_order).values())
        slopes = torch.autograd.grad(total, list(theta.values()))
        assert all(torch.allclose(one, torch.full_like(one, 2.0), atol=1e-3) for one in slopes) is alike


def test_the_curvature_that_is_asked_for_is_of_first_order(monkeypatch):
    asked, adapted = [], InnerLoop.adapted
    monkeypatch.setattr(InnerLoop, "adapted", lambda self, parameters, second_order=True: (
        asked.append(second_order) or adapted(self, parameters, second_order)))  # fmt: skip
    surrogate, _ = measured(rate=0.05)
    asked.clear()
    surrogate.trust_region_step(TrustRegionConfig())
    assert asked[0] is False and asked[1:] and all(asked[1:])  # the curvature once, then the line search
