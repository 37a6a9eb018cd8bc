"""Imagination on a known linear system: the order of actions, the heads, and gradients."""

from dataclasses import dataclass

import torch

from meta_latent.ops.imagination import imagine


@dataclass
class Point:
    """next = latent + (head + 1) * action, noise of stddev 1."""

    value: torch.Tensor

    def mean(self):
        return self.value

    def sample(self, rng):
        return self.value + torch.randn(self.value.shape, generator=rng)


class Linear:
    def transition(self, latent, action, head):
        return Point(latent + (head[:, None] + 1) * action)


def test_steps_follow_each_other_each_row_with_its_head():
    head, start = torch.tensor([0, 1]), torch.zeros(2, 1)
    steps = imagine(Linear(), start, lambda k, latent: torch.full((2, 1), float(10**k)), head, 3)
    assert [step.next_latent[:, 0].tolist() for step in steps] == [[1, 2], [11, 22], [111, 222]]
    assert torch.equal(steps[0].latent, start)
    for before, after in zip(steps, steps[1:], strict=False):
        assert after.latent is before.next_latent
    assert [step.action[0, 0].item() for step in steps] == [1, 10, 100]


def test_the_policy_sees_the_latent_it_acts_on():
    steps = imagine(Linear(), torch.ones(1, 1), lambda k, latent: latent, torch.tensor([0]), 3)
    assert [step.next_latent.item() for step in steps] == [2, 4, 8]


def test_a_generator_draws_and_nothing_else_does():
    head, start = torch.zeros(4, dtype=torch.long), torch.zeros(4, 1)
    a, b, c = (
        imagine(Linear(), start, lambda k, latent: latent, head, 2, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(a[-1].next_latent, b[-1].next_latent) and not torch.equal(
        a[-1].next_latent, c[-1].next_latent
    )


def test_gradients_flow_through_latents_and_actions():
    start, gain = torch.ones(1, 1, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    steps = imagine(Linear(), start, lambda k, latent: gain * latent, torch.tensor([0]), 2)
    steps[-1].next_latent.sum().backward()
    torch.testing.assert_close(start.grad, torch.tensor([[1.5**2]]))
    torch.testing.assert_close(gain.grad, torch.tensor(2 * 1.5))
