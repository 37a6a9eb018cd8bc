"""TD(lambda) returns against a plain loop, their two limits, and a task solved by hand."""

import pytest
import torch

from meta_latent.ops.returns import lambda_returns


def plain(rewards, values, discount, mix):
    """The same, one number at a time, as the mixture of n-step returns (Sutton & Barto 2018, eq. 12.3)."""
    rows, horizon = rewards.shape
    result = torch.zeros_like(rewards)
    for b in range(rows):
        for k in range(horizon):
            n_step = []
            for n in range(1, horizon - k + 1):
                total = sum(discount**i * rewards[b, k + i] for i in range(n))
                n_step.append(total + discount**n * values[b, k + n - 1])
            last = len(n_step) - 1
            mixed = sum((1 - mix) * mix**i * g for i, g in enumerate(n_step[:-1]))
            result[b, k] = mixed + mix**last * n_step[-1]
    return result


@pytest.mark.parametrize("mix", [0.0, 0.3, 0.95, 1.0])
def test_equals_the_mixture_of_n_step_returns(mix):
    rng = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(3, 6, generator=rng, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(lambda_returns(rewards, values, 0.9, mix), plain(rewards, values, 0.9, mix))


def test_two_steps_by_hand():
    rewards, values = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 100.0]])
    # G_1 = 2 + 0.5 * 100 = 52; G_0 = 1 + 0.5 * (0.75 * 10 + 0.25 * 52)
    torch.testing.assert_close(lambda_returns(rewards, values, 0.5, 0.25), torch.tensor([[11.25, 52.0]]))


def test_a_discount_per_step_ends_episodes():
    rewards, values = torch.ones(1, 3), torch.full((1, 3), 7.0)
    discount = torch.tensor([[0.9, 0.0, 0.9]])
    torch.testing.assert_close(
        lambda_returns(rewards, values, discount, 1.0), torch.tensor([[1 + 0.9, 1.0, 1 + 0.9 * 7]])
    )


@pytest.mark.parametrize("mix", [0.0, 0.4, 1.0])
def test_a_chance_to_go_on_weighs_all_that_comes_later(mix):
    """Backwards by hand with discount 0.9 times a continuation per step; nothing counts behind a sure end."""
    rng = torch.Generator().manual_seed(1)
    rewards, values, goes_on = (torch.rand(4, 5, generator=rng, dtype=torch.float64) for _ in range(3))
    goes_on[:, 2] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    rewards.requires_grad_()
    found = lambda_returns(rewards, values, 0.9 * goes_on, mix)
    for b in range(4):
        ahead = values[b, -1]
        for k in (4, 3, 2, 1, 0):
            following = (1 - mix) * values[b, k] + mix * ahead
            ahead = rewards[b, k] + 0.9 * goes_on[b, k] * following
            torch.testing.assert_close(found[b, k], ahead)
    (gradient,) = torch.autograd.grad(found[:, 0].sum(), rewards)
    assert (gradient[:2, 3:] == 0).all() and ((gradient[2:, 3:] > 0).all() or mix == 0)


def test_gradients_reach_rewards_and_values():
    rewards, values = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    lambda_returns(rewards, values, 0.5, 1.0)[0, 0].backward()
    torch.testing.assert_close(rewards.grad, torch.tensor([[1.0, 0.5]]))
    torch.testing.assert_close(values.grad, torch.tensor([[0.0, 0.25]]))
