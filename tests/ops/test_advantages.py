"""Advantages against a plain loop and against closed forms."""

import pytest
import torch

from meta_latent.ops.advantages import generalised_advantages


@pytest.fixture
def given():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(3, 7, generator=rng), torch.randn(3, 8, generator=rng)


def test_they_are_the_weighted_sum_of_all_later_errors(given):
    rewards, values = given
    discount = torch.rand(3, 7, generator=torch.Generator().manual_seed(1))
    found = generalised_advantages(rewards, values, discount, 0.8)
    for b in range(3):
        for k in range(7):
            total, weight = 0.0, 1.0
            for j in range(k, 7):
                error = rewards[b, j] + discount[b, j] * values[b, j + 1] - values[b, j]
                total, weight = total + weight * float(error), weight * 0.8 * float(discount[b, j])
            assert float(found[b, k]) == pytest.approx(total, abs=1e-5)


def test_mix_one_gives_returns_and_mix_zero_one_step_errors(given):
    rewards, values = given
    powers = 0.9 ** torch.arange(8)
    returns = torch.stack([
        (rewards[:, k:] * powers[: 7 - k]).sum(1) + powers[7 - k] * values[:, 7] for k in range(7)
    ], 1)  # fmt: skip
    torch.testing.assert_close(generalised_advantages(rewards, values, 0.9, 1.0) + values[:, :-1], returns)
    errors = rewards + 0.9 * values[:, 1:] - values[:, :-1]
    torch.testing.assert_close(generalised_advantages(rewards, values, 0.9, 0.0), errors)


def test_nothing_crosses_a_step_with_discount_zero(given):
    rewards, values = given
    discount = torch.full((3, 7), 0.9)
    discount[:, 3] = 0.0
    found = generalised_advantages(rewards, values, discount, 0.9)
    later = generalised_advantages(rewards * 5, values * -2, discount, 0.9)
    first = torch.cat([values[:, :4], later[:, :1]], 1)
    torch.testing.assert_close(found[:, :4], generalised_advantages(rewards[:, :4], first, discount[:, :4], 0.9))
    assert not torch.equal(found[:, 4:], later[:, 4:])
