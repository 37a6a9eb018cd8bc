"""Objectives and the linear baseline against torch's distributions, plain loops and dense solutions."""

import numpy as np
import pytest
import torch
from torch import distributions

from meta_latent.ops.policy_gradient import (
    baseline_features,
    baseline_values,
    clipped_surrogate,
    fit_baseline,
    gaussian_divergence,
    gaussian_log_prob,
    likelihood_ratio,
    standardised,
    vpg_loss,
)

N, P, H, A = 3, 4, 5, 2


def normal(*shape: int, seed: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def lived() -> torch.Tensor:
    """Trajectories of various lengths; task 2 has none at all."""
    lengths = torch.tensor([[5, 2, 3, 1], [1, 1, 5, 4], [0, 0, 0, 0]])
    return torch.arange(H) < lengths[..., None]


# Densities


def test_log_density_and_divergence_of_diagonal_gaussians():
    x, mean, new_mean = (normal(N, P, H, A, seed=k) for k in range(3))
    log_stddev, new_log_stddev = normal(N, 1, 1, A, seed=3), normal(N, P, H, A, seed=4)
    old = distributions.Independent(distributions.Normal(mean, log_stddev.exp()), 1)
    new = distributions.Independent(distributions.Normal(new_mean, new_log_stddev.exp()), 1)
    torch.testing.assert_close(gaussian_log_prob(x, mean, log_stddev), old.log_prob(x))
    found = gaussian_divergence(mean, log_stddev, new_mean, new_log_stddev)
    torch.testing.assert_close(found, distributions.kl_divergence(old, new))


# Objectives


@pytest.mark.parametrize("masked", [False, True])
def test_objectives_equal_plain_loops(masked):
    new, old, advantage = (normal(N, P, H, seed=k) for k in range(3))
    mask = lived() if masked else torch.ones(N, P, H, dtype=torch.bool)
    found = {
        "vpg": vpg_loss(new, advantage, mask if masked else None),
        "ratio": likelihood_ratio(new, old, advantage, mask if masked else None),
        "clipped": clipped_surrogate(new, old, advantage, 0.2, mask if masked else None),
    }
    for n in range(N):
        terms = {"vpg": [], "ratio": [], "clipped": []}
        for p, t in mask[n].nonzero().tolist():
            log_prob, before, a = float(new[n, p, t]), float(old[n, p, t]), float(advantage[n, p, t])
            ratio = np.exp(log_prob - before)
            terms["vpg"].append(-log_prob * a)
            terms["ratio"].append(ratio * a)
            terms["clipped"].append(min(ratio * a, min(max(ratio, 0.8), 1.2) * a))
        for name, values in terms.items():
            assert float(found[name][n]) == pytest.approx(np.mean(values) if values else 0.0, rel=1e-12)


def test_what_does_not_count_may_hold_anything():
    new, old, advantage, mask = normal(N, P, H, seed=0), normal(N, P, H, seed=1), normal(N, P, H, seed=2), lived()
    expected = clipped_surrogate(new, old, advantage, 0.2, mask)
    broken = advantage.masked_fill(~mask, torch.nan)
    assert torch.equal(clipped_surrogate(new, old, broken, 0.2, mask), expected)
    assert torch.equal(standardised(broken, mask), standardised(advantage, mask))


def test_gradients_agree_at_the_policy_that_acted():
    old, advantage = normal(N, P, H, seed=0), normal(N, P, H, seed=1)
    slopes = []
    for objective in (lambda x: -vpg_loss(x, advantage), lambda x: likelihood_ratio(x, old, advantage),
                      lambda x: clipped_surrogate(x, old, advantage, 0.2)):  # fmt: skip
        at = old.clone().requires_grad_()
        slopes.append(torch.autograd.grad(objective(at).sum(), at)[0])
    torch.testing.assert_close(slopes[0], advantage / (P * H))
    torch.testing.assert_close(slopes[1], slopes[0])
    torch.testing.assert_close(slopes[2], slopes[0])


@pytest.mark.parametrize(("ratio", "advantage", "slope"), [
    (1.0, 2.0, 2.0), (1.0, -2.0, -2.0),  # not moved yet: the policy gradient
    (1.3, 2.0, 0.0), (0.7, -2.0, 0.0),  # moved far enough in the right direction
    (0.7, 2.0, 1.4), (1.3, -2.0, -2.6),  # moved in the wrong one: it is called back
])  # fmt: skip
def test_gradient_of_the_clipped_surrogate(ratio, advantage, slope):
    log_prob = torch.tensor([[ratio]]).log().requires_grad_()
    value = clipped_surrogate(log_prob, torch.zeros(1, 1), torch.tensor([[advantage]]), 0.2)
    assert float(torch.autograd.grad(value[0], log_prob)[0]) == pytest.approx(slope, abs=1e-6)


def test_standardised_per_task():
    advantage, mask = 3.0 + normal(N, P, H, seed=0) * torch.tensor([1.0, 100.0, 7.0])[:, None, None], lived()
    everywhere, found = standardised(advantage), standardised(advantage, mask)
    for n in range(N):
        assert float(everywhere[n].mean()) == pytest.approx(0, abs=1e-12)
        assert float(everywhere[n].std(correction=0)) == pytest.approx(1)
    for n in range(2):
        assert float(found[n][mask[n]].mean()) == pytest.approx(0, abs=1e-12)
        assert float(found[n][mask[n]].std(correction=0)) == pytest.approx(1)
    assert not found[~mask].any()
    assert not standardised(torch.full((1, 4), 2.5)).any()  # all alike: nobody is better than another


# The baseline


def test_features_equal_a_plain_loop():
    observations = 8 * normal(N, P, H, A, seed=0)
    assert (observations.abs() > 10).any()
    found = baseline_features(observations)
    for n, p, t in np.ndindex(N, P, H):
        clipped = np.clip(observations[n, p, t].numpy(), -10, 10)
        expected = [*clipped, *clipped**2, t / 100, (t / 100) ** 2, (t / 100) ** 3, 1.0]
        np.testing.assert_allclose(found[n, p, t], expected, rtol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_the_fit_equals_least_squares_task_by_task(masked):
    features, returns = normal(N, 30, H, 6, seed=0), normal(N, 30, H, seed=1)
    mask = normal(N, 30, H, seed=2) > 0 if masked else torch.ones(N, 30, H, dtype=torch.bool)
    returns = returns.masked_fill(~mask, torch.nan)
    found = fit_baseline(features, returns, mask if masked else None, ridge=0.5)
    for n in range(N):
        rows, targets = features[n][mask[n]], returns[n][mask[n]]
        rows = torch.cat([rows, 0.5**0.5 * torch.eye(6, dtype=torch.float64)])  # ridge as six further rows
        expected = torch.linalg.lstsq(rows, torch.cat([targets, torch.zeros(6)])[:, None]).solution[:, 0]
        torch.testing.assert_close(found[n], expected, rtol=1e-9, atol=1e-9)
    values = baseline_values(features, found)
    assert values.shape == (N, 30, H)
    assert float(values[1, 2, 3]) == pytest.approx(float(features[1, 2, 3] @ found[1]))


def test_the_baseline_explains_returns_that_its_features_can():
    # Far from zero, o and o^2 say nearly the same: single precision would be off by 0.07.
    observations = 5 + 0.3 * normal(N, 20, 50, A, seed=0, dtype=torch.float32)
    time = torch.arange(50.0) / 100
    returns = observations[..., 0] - 2 * observations[..., 1].square() + 50 * time - 40 * time**3 + 1
    features = baseline_features(observations)
    found = baseline_values(features, fit_baseline(features, returns))
    assert found.dtype == torch.float32 and float((found - returns).abs().max()) < 5e-3


def test_columns_that_say_the_same_and_tasks_without_steps_are_no_trouble():
    features = torch.cat([torch.ones(N, P, H, 3), normal(N, P, H, 1, seed=0).float()], -1)
    found = fit_baseline(features, torch.full((N, P, H), 4.0), lived())
    assert found.isfinite().all() and not found[2].any()
    torch.testing.assert_close(baseline_values(features, found)[:2], torch.full((2, P, H), 4.0), rtol=1e-3, atol=1e-3)


def test_the_ridge_is_raised_where_the_equations_cannot_be_solved():
    features = torch.full((2, P, H, 2), 1e8, dtype=torch.float64)  # their products swallow a ridge of 1e-5
    features[1] = normal(P, H, 2, seed=0)
    returns = torch.ones(2, P, H, dtype=torch.float64)
    found = fit_baseline(features, returns)
    assert found.isfinite().all()
    torch.testing.assert_close(baseline_values(features, found)[0], returns[0], rtol=0.1, atol=0)
    alone = fit_baseline(features[1:], returns[1:])
    assert torch.equal(found[1:], alone)  # the other task keeps its own
