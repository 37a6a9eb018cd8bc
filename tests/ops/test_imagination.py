"""Imagination on a known linear system: the order of actions, the heads, and gradients."""

from dataclasses import dataclass

import pytest
import torch

from meta_latent.ops.imagination import imagine, imagine_groups


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
    assert torch.equal(a[-1].next_latent, b[-1].next_latent) and not torch.equal(a[-1].next_latent, c[-1].next_latent)


def test_gradients_flow_through_latents_and_actions():
    start, gain = torch.ones(1, 1, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    steps = imagine(Linear(), start, lambda k, latent: gain * latent, torch.tensor([0]), 2)
    steps[-1].next_latent.sum().backward()
    torch.testing.assert_close(start.grad, torch.tensor([[1.5**2]]))
    torch.testing.assert_close(gain.grad, torch.tensor(2 * 1.5))


# Groups of particles


def turned(states, actions):
    """Task n moves by (n + 1) times the action; reward: next state's first value; ends beyond 3."""
    gain = torch.arange(1.0, len(states) + 1)[:, None, None]
    following = states + gain * actions
    return following, following[..., 0], following[..., 0] > 3


def act(states):
    return 0.5 * states + 0.25


STARTS = torch.tensor([[[0.1, 0.0], [2.0, -1.0], [0.0, 0.0]], [[0.2, 1.0], [-0.5, 0.0], [-9.0, 2.0]]])


def test_groups_are_those_of_a_plain_loop():
    found = imagine_groups(turned, act, STARTS, 4)
    lengths = set()
    for n in range(2):
        for p in range(3):
            state, over, counted = STARTS[n, p], False, 0
            for k in range(4):
                action = 0.5 * state + 0.25
                following = state + (n + 1) * action
                assert torch.equal(found.states[n, p, k], state) and torch.equal(found.actions[n, p, k], action)
                assert torch.equal(found.next_states[n, p, k], following)
                assert found.mask[n, p, k] == (not over)
                assert found.rewards[n, p, k] == (0.0 if over else following[0])
                counted += not over
                over, state = over or bool(following[0] > 3), following
            lengths.add(counted)
    assert found.mask.dtype == torch.bool and lengths == {1, 3, 4}


def test_the_step_that_ends_a_particle_counts_and_no_later_one_even_if_it_comes_back():
    def step(states, actions):
        following = states + actions
        return following, torch.ones(states.shape[:2]), following[..., 0] == 2

    found = imagine_groups(step, torch.ones_like, torch.tensor([[[0.0], [1.0], [5.0]]]), 4)
    assert found.mask[0].tolist() == [[True, True, False, False], [True, False, False, False], [True] * 4]
    assert torch.equal(found.rewards, found.mask.float())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["state", "reward"])
def test_a_step_that_is_not_finite_does_not_count_nor_do_later_ones(value, where):
    def step(states, actions):
        following, reward = states + actions, states[..., 0] + 1
        broken = states[..., 0] == 1
        if where == "state":
            following = torch.where(broken[..., None], value, following)
        else:
            reward = torch.where(broken, value, reward)
        return following, reward, torch.zeros_like(broken)

    found = imagine_groups(step, torch.ones_like, torch.tensor([[[0.0], [5.0]]]), 4)
    assert found.mask[0].tolist() == [[True, False, False, False], [True] * 4]
    assert found.rewards[0].tolist() == [[1, 0, 0, 0], [6, 7, 8, 9]]
    for values in (found.states, found.actions, found.rewards, found.next_states):
        assert values.isfinite().all()


def test_groups_take_no_gradients():
    gain = torch.tensor(0.5, requires_grad=True)
    found = imagine_groups(turned, lambda states: gain * states, STARTS, 2)
    assert not any(x.requires_grad for x in (found.states, found.actions, found.rewards, found.next_states))
