"""Terms of the model's loss against torch.distributions, closed forms and a plain loop."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import distributions
from torch.nn import functional

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, play_episode
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.models import losses
from meta_latent.models.config import CoreConfig, EncoderConfig, EnsembleConfig, LossConfig, ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Spec

STEPS = 6
SUITE = task_suites.get("toy/counting", episode_steps=STEPS, image_size=8, ends="terminate")
SPEC = Spec.of(SUITE)


def model(kind="rssm", **weights):
    config = ModelConfig(
        EncoderConfig(channels=(4,), keypoints=2),
        CoreConfig(kind, 3, 4),
        EnsembleConfig(2, 8, 1),
        LossConfig(**weights),
        head_hidden=4,
        continuation=True,
    )
    with seeded_construction(0):
        return LatentStateModel(SPEC, config)


@pytest.fixture(scope="module")
def batch():
    """Five whole episodes, each ending in a terminal state."""
    replay, rows = SequenceReplay(SPEC, ReplayConfig(), heads=2), SUITE.make_vector(SUITE.sample("train", 1, 0))
    for k in range(5):
        replay.add_episode(play_episode(rows, Noise(2, NoiseConfig()), k, Streams(k)))
    found = replay.sequences(5, STEPS + 1, np.random.default_rng(0))
    assert found.is_terminal.sum() == 5 and found.is_terminal[:, -1].all()
    return found


def rng():
    return torch.Generator().manual_seed(0)


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gaussians():
    """Means and stddevs (6, 3, 4) of posterior and prior."""
    mean_q, log_q, mean_p, log_p = (random(6, 3, 4, seed=seed) for seed in range(4))
    return mean_q, log_q.exp(), mean_p, log_p.exp()


def divergence(mean_q, stddev_q, mean_p, stddev_p, balance, free_nats=0.0, kind="rssm"):
    """`losses.divergence`, given what it reads of a model and of a posterior."""
    weights = LossConfig(divergence_balance=balance, free_nats=free_nats)
    judge = SimpleNamespace(core=SimpleNamespace(stochastic=kind == "rssm"), config=SimpleNamespace(loss=weights))
    return losses.divergence(judge, SimpleNamespace(mean=mean_q, stddev=stddev_q), mean_p, stddev_p)


@pytest.mark.parametrize("balance", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("free_nats", [0.0, 20.0])
def test_the_divergence_is_the_posteriors_from_the_prior(balance, free_nats):
    mean_q, stddev_q, mean_p, stddev_p = gaussians()
    q, p = distributions.Normal(mean_q, stddev_q), distributions.Normal(mean_p, stddev_p)
    found = divergence(mean_q, stddev_q, mean_p, stddev_p, balance, free_nats)
    wanted, other = (distributions.kl_divergence(*pair).sum(-1) for pair in ((q, p), (p, q)))
    torch.testing.assert_close(found, wanted.clamp_min(free_nats))
    assert not torch.allclose(found, other.clamp_min(free_nats))
    assert free_nats == 0 or ((wanted < free_nats).any() and (wanted > free_nats).any())


@pytest.mark.parametrize("kind", ["rssm", "deterministic"])
@pytest.mark.parametrize("balance", [0.0, 0.25, 1.0])
def test_the_balance_is_the_priors_share_of_the_gradient(kind, balance):
    made = [x.requires_grad_() for x in gaussians()]
    mean_q, stddev_q, mean_p, stddev_p = made
    divergence(*made, balance, kind=kind).sum().backward()
    if kind == "rssm":
        q, p = distributions.Normal(mean_q, stddev_q), distributions.Normal(mean_p, stddev_p)
        whole = distributions.kl_divergence(q, p).sum()
    else:
        whole, made = (mean_q - mean_p).square().sum(), [mean_q, mean_p]
    for x, gradient in zip(made, torch.autograd.grad(whole, made), strict=True):
        share = balance if x is mean_p or x is stddev_p else 1 - balance
        torch.testing.assert_close(x.grad, share * gradient)


@pytest.mark.parametrize("side", ["prior", "posterior"])
def test_below_the_free_nats_nothing_is_learned(side):
    mean_q, stddev_q, mean_p, stddev_p = gaussians()
    learned = (mean_p if side == "prior" else mean_q).requires_grad_()
    found = divergence(mean_q, stddev_q, mean_p, stddev_p, 0.5, 20.0)
    found.sum().backward()
    free = found.detach() <= 20.0
    assert free.any() and not free.all()
    assert torch.equal(learned.grad.abs().sum(-1) > 0, ~free)


def constant(head, value):
    """Make a head say `value` whatever it reads."""
    for p in head[-1].parameters():
        p.data.zero_()
    head[-1].bias.data.fill_(value)


def test_the_reward_term_is_about_the_reward_that_led_to_the_state(batch):
    m = model(reward=3.0)
    constant(m.reward_head, 0.4)
    found = losses.loss(m, batch, rng())["reward"]
    torch.testing.assert_close(found, 3.0 * (0.4 - batch.reward[:, 1:]).square())
    assert not torch.allclose(found, 3.0 * (0.4 - batch.reward[:, :-1]).square())


def test_rewards_of_other_frames_of_a_window_are_predicted_where_that_has_a_weight(batch):
    assert "counterfactual" not in losses.loss(model(), batch, rng())
    m = model(counterfactual=3.0)
    constant(m.reward_head, 0.4)
    same = dataclasses.replace(batch, reward=torch.where(batch.is_first, 99.0, 1.0 + torch.arange(5.0)[:, None]))
    found = losses.loss(m, same, rng())["counterfactual"]
    torch.testing.assert_close(found, 3.0 * (0.4 - 1.0 - torch.arange(5.0)).square()[:, None].expand_as(found))


def test_hidden_rewards_are_not_predicted(batch):
    m = model()
    constant(m.reward_head, 0.4)
    half = dataclasses.replace(batch, reward_present=batch.reward_present * (torch.arange(5) < 2)[:, None])
    hidden, shown = losses.loss(m, half, rng())["reward"], losses.loss(m, batch, rng())["reward"]
    assert (hidden[2:] == 0).all() and (shown[2:] > 0).all() and torch.equal(hidden[:2], shown[:2])
    assert (losses.loss(m, batch.without_rewards(), rng())["reward"] == 0).all()


def test_the_named_rewards_are_about_the_same_step(batch):
    m, named = model(task_reward=2.0), random(5, STEPS + 1, 1, seed=4)
    constant(m.task_reward_head, -0.7)
    found = losses.loss(m, batch, rng(), named)["task_reward"]
    torch.testing.assert_close(found, 2.0 * (-0.7 - named[:, 1:, 0]).square())


def test_named_rewards_that_are_not_known_are_left_out(batch):
    m, named = model(task_reward=2.0), random(5, STEPS + 1, 2, seed=4)
    known = torch.tensor([[1, 0], [1, 1], [0, 1], [0, 0], [1, 0]]).bool()

    def learned(rewards, known):
        m.zero_grad()
        term = losses.loss(m, batch, rng(), rewards, known=known)["task_reward"]
        term.mean().backward()
        return term.detach(), m.task_reward_head[-1].weight.grad.clone()

    found, gradient = learned(torch.where(known[:, None], named, 1e6), known)
    rows, columns = known.nonzero(as_tuple=True)
    alone = [learned(named[:, :, [column]], None) for column in range(2)]
    pairs = [alone[column][0][row] for row, column in zip(rows, columns, strict=True)]
    torch.testing.assert_close(found.mean(), torch.stack(pairs).mean())
    assert (found[3] == 0).all()
    both = torch.ones_like(known)
    for ours, theirs in zip(learned(named, both), learned(named, None), strict=True):
        assert torch.equal(ours, theirs)
    unknown = torch.where(known[:, None], named, -1e6)
    assert torch.equal(gradient, learned(unknown, known)[1])


def test_going_on_is_a_coin_that_falls_at_terminal_states(batch):
    m, logit = model(continuation=2.0), torch.tensor(1.5)
    constant(m.continuation_head, 1.5)
    found = losses.loss(m, batch, rng())["continuation"]
    wanted = torch.full((5, STEPS), 2 * functional.softplus(-logit).item())
    wanted[:, -1] = 2 * functional.softplus(logit)
    torch.testing.assert_close(found, wanted)
    endless = dataclasses.replace(batch, is_terminal=torch.zeros_like(batch.is_terminal))
    assert not torch.allclose(losses.loss(m, endless, rng())["continuation"], wanted)


@pytest.mark.parametrize("steps", [1, 3, STEPS, 99])
def test_open_loop_follows_the_logged_actions_without_looking(batch, steps):
    m, head = model(), torch.tensor([0, 1, 1, 0, 1])
    embeddings = random(5, STEPS + 1, m.latent_size, seed=5)
    posterior = m.filter(embeddings, batch.action, batch.reward, batch.reward_present)
    start, index, rolled = losses.open_loop(m, posterior, batch.action, head, steps, rng())
    assert not torch.allclose(losses.open_loop(m, posterior, batch.action, 1 - head, steps, rng())[2], rolled)
    assert index.shape == (5, min(steps, STEPS)) and start.min() >= 0 and index.max() <= STEPS
    for row in range(5):
        at = int(start[row])
        latent = posterior[row : row + 1, at]
        for k in range(index.shape[1]):
            assert index[row, k] == at + k + 1
            latent = m.transition(latent, batch.action[row : row + 1, at + k + 1], head[row : row + 1]).mean()
            torch.testing.assert_close(rolled[row, k], latent.sample[0])
