"""The recurrent core against torch's own GRU and distributions, and against plain loops."""

import pytest
import torch
from torch import distributions

from meta_latent.models.config import CoreConfig, EnsembleConfig
from meta_latent.models.core import Latent, RecurrentCore, route
from meta_latent.rng import seeded_construction

SIZE, ACTIONS, MEMORY, HEADS = 4, 2, 5, 3


def core(kind="rssm", dtype=torch.float32, shared=0, heads=HEADS):
    with seeded_construction(0):
        made = RecurrentCore(SIZE, ACTIONS, CoreConfig(kind, MEMORY, 8), EnsembleConfig(heads, 16, 2, shared))
        for p in made.transitions.last.parameters():
            p.data *= 10.0  # untrained heads hardly differ
    return made.to(dtype)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def latents(rows, dtype=torch.float32):
    sample = random(rows, SIZE, dtype=dtype)
    memory = random(rows, MEMORY, seed=1, dtype=dtype)
    return Latent(sample, sample, torch.ones_like(sample), memory, sample[:, :0])


def test_one_step_equals_torch_gru():
    c, latent, action = core(), latents(6), random(6, ACTIONS, seed=2)
    reward, present = random(6, seed=3), torch.tensor([1.0, 0, 1, 0, 1, 0])
    signal = torch.stack([reward * present, present], -1)
    _, expected = c.gru(torch.cat([latent.sample, action, signal], -1)[:, None], latent.memory[None].contiguous())
    found = c.observe(latent.memory, latent.sample, action, reward, present)
    torch.testing.assert_close(found.memory, expected[0])
    absent = c.observe(latent.memory, latent.sample, action, reward, torch.zeros(6))
    torch.testing.assert_close(c.remember(latent.memory, latent.sample, action), absent.memory)


ROUTES = [[0, 0, 1, 1, 2, 2], [1, 1, 0, 0, 2, 2], [0, 1, 2, 0, 1, 2], [2, 2, 2, 2, 0, 2], [1], [0, 0, 0]]


@pytest.mark.parametrize("head", ROUTES)
def test_route_gathers_and_scatters_unequal_groups(head):
    head = torch.tensor(head)
    routing = route(head, HEADS)
    for row, h in enumerate(head.tolist()):
        where = routing.rows[h].tolist()
        assert row in where and routing.rows.flatten()[routing.slots[row]] == row
        assert routing.slots[row] // routing.rows.shape[1] == h
    assert routing.slots.unique().numel() == len(head)
    rows = torch.arange(len(head))
    assert torch.equal(routing.group(rows), routing.rows)
    assert torch.equal(routing.scatter(routing.rows), rows)
    assert routing.in_place == (head.tolist() == [0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("head", [[2, 0, 2, 2, 1, 2, 0], *ROUTES])
@pytest.mark.parametrize("shared", [0, 1, 2])
@pytest.mark.parametrize("kind", ["rssm", "deterministic"])
def test_every_row_goes_through_its_head(kind, shared, head):
    head = torch.tensor(head)
    c, latent, action = core(kind, shared=shared), latents(len(head)), random(len(head), ACTIONS, seed=2)
    found = c.transition(latent, action, head)
    mean, stddev = found.loc, found.stddev
    inputs = torch.cat([latent.sample, latent.memory, action], -1)
    for row, h in enumerate(head.tolist()):
        x = inputs[row]
        for layer in c.transitions.shared:
            x = torch.nn.functional.elu(layer(x))
        for layer in c.transitions.own:
            x = torch.nn.functional.elu(x @ layer.weight[h] + layer.bias[h, 0])
        x = x @ c.transitions.last.weight[h] + c.transitions.last.bias[h, 0]
        torch.testing.assert_close(mean[row], latent.sample[row] + x[:SIZE])
        if kind == "rssm":
            torch.testing.assert_close(stddev[row], torch.nn.functional.softplus(x[SIZE:] - 2) + c.min_stddev)
        else:
            assert (stddev[row] == 0).all()


def test_heads_differ_and_only_the_asked_one_gets_a_gradient():
    c, latent, action = core(), latents(1), random(1, ACTIONS, seed=2)
    means = [c.transition(latent, action, torch.tensor([h])).loc for h in range(HEADS)]
    assert all((means[i] - means[j]).abs().max() > 0.01 for i in range(HEADS) for j in range(i))
    means[1].sum().backward()
    gradient = c.transitions.own[0].weight.grad.abs().sum((1, 2))
    assert gradient[1] > 0 and gradient[0] == gradient[2] == 0


def test_log_prob_and_draws_are_those_of_a_gaussian():
    c, latent, action = core(), latents(2), random(2, ACTIONS, seed=2)
    found = c.transition(latent, action, torch.tensor([0, 2]))
    reference = distributions.Normal(found.loc, found.stddev)
    x = random(2, SIZE, seed=4)
    torch.testing.assert_close(found.log_prob(x), reference.log_prob(x).sum(-1))
    rng = torch.Generator().manual_seed(0)
    draws = torch.stack([found.sample(rng).sample for _ in range(4000)])
    assert ((draws.mean(0) - found.loc).abs() < 5 * found.stddev / 4000**0.5).all()
    assert ((draws.std(0) / found.stddev - 1).abs() < 5 / (2 * 4000) ** 0.5).all()
    assert torch.equal(found.mean().sample, found.loc)


def test_the_next_memory_has_read_the_next_sample():
    c, latent, action = core(), latents(2), random(2, ACTIONS, seed=2)
    following = c.transition(latent, action, torch.tensor([0, 1])).sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(following.memory, c.remember(latent.memory, following.sample, action))


def test_a_deterministic_core_has_no_density_and_no_noise():
    c, latent, action = core("deterministic"), latents(2), random(2, ACTIONS, seed=2)
    found = c.transition(latent, action, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="no density"):
        found.log_prob(latent.sample)
    assert torch.equal(found.sample(torch.Generator()).sample, found.loc)
    assert torch.equal(c.posterior(latent.sample)[0], latent.sample)


@pytest.mark.parametrize("kind", ["rssm", "deterministic"])
def test_transition_gradients_by_finite_differences(kind):
    c, action = core(kind, torch.float64), random(3, ACTIONS, seed=2, dtype=torch.float64)
    latent, head = latents(3, torch.float64), torch.tensor([0, 2, 2])

    def two_steps(sample, memory, action):
        first = c.transition(Latent(sample, sample, sample, memory, sample[:, :0]), action, head).mean()
        second = c.transition(first, 0.5 * action, head).mean()
        return second.sample, second.memory

    inputs = [x.clone().requires_grad_() for x in (latent.sample, latent.memory, action)]
    assert torch.autograd.gradcheck(two_steps, inputs)


def test_posterior_gradient_by_finite_differences():
    c = core(dtype=torch.float64)
    assert torch.autograd.gradcheck(c.posterior, [random(3, SIZE, dtype=torch.float64).requires_grad_()])
