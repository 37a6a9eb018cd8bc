"""Beliefs as products of Gaussians, against densities that are multiplied on a grid."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from meta_latent.models.context import LIMIT, ContextEncoder, Evidence
from meta_latent.rng import seeded_construction

MEANS = torch.tensor([[1.0, -2.0], [3.0, 0.5], [-0.5, 0.0]])
STDDEVS = torch.tensor([[0.5, 2.0], [1.0, 0.3], [4.0, 1.5]])


def factors(means=MEANS, stddevs=STDDEVS):
    return Evidence(means / stddevs.square(), stddevs.square().reciprocal())


def total(evidence):
    return Evidence(evidence.weighted.sum(0), evidence.precision.sum(0))


def test_the_posterior_is_the_normalised_product_of_densities_with_the_prior():
    mean, stddev = total(factors()).posterior()
    grid = torch.linspace(-8, 8, 160_001, dtype=torch.float64)
    for k in range(2):
        log = Normal(0.0, 1.0).log_prob(grid)
        for m, s in zip(MEANS[:, k].double(), STDDEVS[:, k].double(), strict=True):
            log = log + Normal(m, s).log_prob(grid)
        density = (log - log.max()).exp()
        density = density / density.sum()
        expected = (density * grid).sum()
        assert float(mean[k]) == pytest.approx(float(expected), abs=1e-5)
        assert float(stddev[k]) == pytest.approx(float((density * (grid - expected).square()).sum().sqrt()), abs=1e-5)


def test_without_evidence_the_belief_is_the_prior():
    none = Evidence.none(3, 2)
    mean, stddev = none.posterior()
    assert not mean.any() and torch.equal(stddev, torch.ones(3, 2)) and not none.divergence().any()
    noise = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(none.drawn(noise), noise)


def test_divergence_from_the_prior():
    evidence = factors()
    expected = kl_divergence(Normal(*evidence.posterior()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(evidence.divergence(), expected)


def test_draws_have_the_posteriors_mean_and_deviation():
    evidence = total(factors())
    drawn = evidence.drawn(torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0)))
    mean, stddev = evidence.posterior()
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.01, rtol=0)
    torch.testing.assert_close(drawn.std(0), stddev, atol=0.01, rtol=0)


def test_what_was_told_until_each_frame_counts_what_came_before_it_alone():
    evidence, counted = factors(), torch.tensor([True, False, True])
    told = evidence.times(counted).up_to()
    for t, rows in enumerate(([0], [0], [0, 2])):
        torch.testing.assert_close(told[t].weighted, evidence.weighted[rows].sum(0))
        torch.testing.assert_close(told[t].precision, evidence.precision[rows].sum(0))
    both = evidence[0] + evidence[2]
    torch.testing.assert_close(both.weighted, told[2].weighted)


def transitions(count=7, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(count, *size, generator=rng) for size in ((4,), (2,), (), (4,))]


def test_the_order_of_transitions_does_not_matter_and_which_they_are_does():
    encoder, parts = ContextEncoder(4, 2, 3, 16, 1), transitions()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    mean, stddev = total(encoder(*parts)).posterior()
    shuffled = total(encoder(*(x[order] for x in parts))).posterior()
    torch.testing.assert_close(shuffled[0], mean)
    torch.testing.assert_close(shuffled[1], stddev)
    before, action, reward, after = parts
    other, _ = total(encoder(before, action, reward[order], after)).posterior()  # rewards alone change places
    assert (other - mean).abs().max() > 1e-3


def test_every_input_tells_something_and_precision_is_bounded():
    encoder, parts = ContextEncoder(4, 2, 3, 16, 1), transitions()
    for k in range(4):
        changed = [x + (j == k) for j, x in enumerate(parts)]
        assert (encoder(*changed).weighted - encoder(*parts).weighted).abs().max() > 1e-4
    precision = encoder(*(1e6 * x for x in parts)).precision
    assert precision.min() >= math.exp(-LIMIT) * 0.999 and precision.max() <= math.exp(LIMIT) * 1.001
    assert precision.min() < 1e-3


def test_rewards_are_read_by_their_deviation():
    before, action, reward, after = transitions()
    found = []
    for scale in (1.0, 50.0):
        with seeded_construction(0):
            encoder = ContextEncoder(4, 2, 3, 16, 1)
        encoder.scale.fit(scale * reward[:, None])
        found.append(encoder(before, action, scale * reward, after).weighted)
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
