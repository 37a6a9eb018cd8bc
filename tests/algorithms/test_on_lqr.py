"""IVG, SAC and a planner on the linear-quadratic task with its true state as latent: the optimum is known in closed
form.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.algorithms.cem import CEM, CEMConfig
from meta_latent.algorithms.ivg import IVG, IVGConfig
from meta_latent.algorithms.sac import SAC, SACConfig
from meta_latent.data.latents import LatentCache
from meta_latent.ops.imagination import imagine
from meta_latent.policies.latent_agent import AdaptationConfig, LatentParts
from meta_latent.policies.reward_heads import even
from meta_latent.rng import Streams, seeded_construction
from task_suites.toy.lqr import matrices

SUITE = task_suites.get("toy/lqr")
TASK = SUITE.sample("test", 1, 0)[0]
A, B = (torch.tensor(x, dtype=torch.float32) for x in matrices(TASK.dynamics["drag_per_second"]))
STEPS = SUITE.max_episode_steps


@dataclass
class State:
    """The true state as a latent without memory, and as its own distribution."""

    sample: torch.Tensor

    @property
    def relations(self):
        return self.sample[..., :0]

    def mean(self):
        return self


class TrueModel:
    """The dynamics of the task behind the interface of a latent state model. `gain` is a parameter to be
    left alone.
    """

    spec = SimpleNamespace(action_size=2)
    latent_size, feature_size, relation_size, heads, device = 4, 4, 0, 2, torch.device("cpu")

    def __init__(self):
        self.gain = torch.ones((), requires_grad=True)

    def transition(self, latent, action, head):
        return State(latent.sample @ A.T + self.gain * action.clip(-1, 1) @ B.T)

    def features(self, latent):
        return latent.sample

    def relations(self, sample):
        return sample[..., :0]

    def unpack(self, flat):
        return State(flat)

    def pack(self, latent):
        return latent.sample


def reward(state, action):
    return SUITE.reward(TASK, state, action)


def experience(episodes, rng):
    """A cache of random episodes."""
    cache = LatentCache()
    for _ in range(episodes):
        state, action = torch.zeros(4), torch.zeros(2)
        state[:2] = torch.from_numpy(rng.uniform(-0.6, 0.6, 2))
        rows = [(state, action, torch.zeros(()))]
        push = np.zeros(2)
        for _ in range(STEPS):
            push = 0.7 * push + 0.5 * rng.standard_normal(2)
            action = torch.from_numpy(push).float().clip(-1, 1)
            state = state @ A.T + action @ B.T
            rows.append((state, action, reward(state, action)))
        states, actions, rewards = (torch.stack(x) for x in zip(*rows, strict=True))
        cache.parts.append(
            (
                states,
                states[:, :0],
                actions,
                rewards,
                torch.zeros(len(rows), dtype=torch.bool),
                torch.ones(len(rows), 2, dtype=torch.bool),
            )
        )
        cache.lengths.append(len(rows))
    return cache


def make(kind, config, seed=0):
    with seeded_construction(seed):
        cache = experience(40, np.random.default_rng(seed))
        return kind(config, LatentParts(TrueModel(), None, AdaptationConfig(), cache))


def returns(act, episodes=64):
    """Mean return of a policy (states -> actions), normalised: 0 doing nothing, 1 the optimum."""
    start = torch.zeros(episodes, 4)
    start[:, :2] = torch.from_numpy(np.random.default_rng(1).uniform(-0.6, 0.6, (episodes, 2)))
    raw = []
    for policy in (act, lambda s: torch.zeros(len(s), 2)):
        state, total = start, torch.zeros(episodes)
        for _ in range(STEPS):
            action = policy(state)
            state = state @ A.T + action @ B.T
            total += reward(state, action)
        raw.append(total.mean().item())
    best = np.mean([SUITE.optimal_return(TASK, s) for s in start.numpy()])
    return (raw[0] - raw[1]) / (best - raw[1])


def policy(agent):
    return torch.no_grad()(agent.average_actor.mean_action)


def test_the_scale():
    gain = torch.tensor(SUITE.solution(TASK).stationary_gain, dtype=torch.float32)
    goal = torch.tensor([*SUITE._goal(TASK), 0.0, 0.0])
    assert returns(lambda s: -(s - goal) @ gain.T) == pytest.approx(1.0, abs=0.02)
    assert returns(lambda s: torch.zeros(len(s), 2)) == 0


IVG_CONFIG = IVGConfig(
    horizon=5,
    discount=0.95,
    batch_size=64,
    hidden=64,
    temperature=0.001,
    pessimism=0.0,
    value_learning_rate=5e-3,
    policy_learning_rate=4e-3,
    temperature_learning_rate=0.0,
    target_rate=0.05,
)


def test_ivg_with_the_true_model_and_reward_finds_the_optimum():
    agent, rng = make(IVG, IVG_CONFIG), Streams(0)
    agent.reward.estimate = reward
    before = returns(policy(agent))
    for _ in range(800):
        agent.follow_value_gradient(rng)
    assert before < 0.3 and 0.85 < returns(policy(agent)) <= 1.001


@pytest.mark.slow
def test_ivg_learns_reward_and_policy_together():
    agent, rng = make(IVG, IVG_CONFIG), Streams(0)
    for _ in range(700):
        metrics = agent.fit_reward(rng) | agent.follow_value_gradient(rng)
    assert all(np.isfinite(x) for x in metrics.values())
    assert 0.7 < returns(policy(agent)) <= 1.001


def weights(network):
    return [p.detach().clone() for p in network.parameters()]


def changed(before, network):
    return any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_the_policy_step_changes_the_policy_alone_and_never_the_model():
    agent, rng = make(IVG, IVG_CONFIG), Streams(0)
    names = list(agent.networks)
    before = {name: weights(agent.networks[name]) for name in names}
    touched = []
    real = agent.optimise

    def spy(name, loss, clip):
        mine = {n: weights(agent.networks[n]) for n in names}
        result = real(name, loss, clip)
        touched.append((name, [n for n in names if changed(mine[n], agent.networks[n])]))
        return result

    agent.optimise = spy
    agent.fit_reward(rng)
    agent.follow_value_gradient(rng)
    # (a temperature that does not learn here stays as it is)
    assert [t for t in touched if t[0] != "temperature"] == [
        ("reward", ["reward"]),
        ("policy", ["policy"]),
        ("value", ["value"]),
    ]
    assert changed(before["target_value"], agent.networks["target_value"])
    assert agent.model.gain.grad is None


@pytest.mark.parametrize(("kind", "config"), [(IVG, IVG_CONFIG), (SAC, SACConfig(hidden=8))])
def test_the_policy_that_acts_is_a_running_average(kind, config):
    agent, rng = make(kind, config), Streams(0)
    before = weights(agent.average_actor)
    torch.testing.assert_close(before, weights(agent.actor), rtol=0, atol=0)
    if kind is IVG:
        agent.fit_reward(rng)
        agent.follow_value_gradient(rng)
    else:
        agent.soft_update(rng)
    assert changed(before, agent.actor)
    rate, after = agent.config.average_rate, weights(agent.actor)
    expected = [torch.lerp(old, new, rate) for old, new in zip(before, after, strict=True)]
    torch.testing.assert_close(weights(agent.average_actor), expected)
    assert agent.networks["average_policy"] is agent.average_actor


@pytest.mark.parametrize("rows", [60, 64, 3])
def test_every_head_imagines_its_share(rows):
    agent = make(IVG, IVG_CONFIG)
    counts = torch.bincount(even(rows, agent.model), minlength=2)
    assert counts.sum() == rows and counts.max() - counts.min() <= 1


def test_the_imagined_value_gradient_by_finite_differences():
    """d (sum of rewards) / d (policy gain) through the model, for a linear policy."""
    model, head = TrueModel(), torch.zeros(3, dtype=torch.long)
    start = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)) * 0.2

    def value(gain):
        steps = imagine(model, State(start), lambda _, latent: latent.sample @ gain, head, 6)
        return torch.stack([reward(s.next_latent.sample, s.action) for s in steps]).sum()

    gain = (0.1 * torch.randn(4, 2, generator=torch.Generator().manual_seed(1))).requires_grad_()
    (gradient,) = torch.autograd.grad(value(gain), gain)
    for index in np.ndindex(4, 2):
        step = torch.zeros(4, 2)
        step[index] = 1e-2
        numeric = (value(gain + step) - value(gain - step)).item() / 2e-2
        assert gradient[index].item() == pytest.approx(numeric, rel=0.01, abs=5e-3)


def planned(**settings):
    """What planning with the true model and reward comes to."""
    agent, rng = make(CEM, CEMConfig(**settings)), Streams(0)
    agent.reward.estimate = reward
    return returns(lambda state: agent.choose(State(state), rng, explore=False), episodes=16)


def test_a_planner_with_the_true_model_and_reward_finds_the_optimum():
    assert planned(horizon=8, candidates=64, elites=8, iterations=8) > 0.93


@pytest.mark.parametrize("blind", [{"horizon": 1}, {"discount": 0.0}, {"elites": 64}])
def test_a_planner_that_does_not_look_ahead_or_does_not_choose_finds_less(blind):
    assert planned(**{"horizon": 8, "candidates": 64, "elites": 8} | blind) < 0.6


def test_plans_are_worth_their_discounted_rewards():
    agent = make(CEM, CEMConfig(discount=0.5))
    agent.reward.estimate = reward
    plans = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    start, expected = torch.full((3, 4), 0.1), torch.zeros(3)
    state = start
    for k in range(4):
        state = state @ A.T + plans[:, k] @ B.T
        expected += 0.5**k * reward(state, plans[:, k])
    torch.testing.assert_close(agent.returns(start, plans), expected)


def test_a_planner_explores_with_noise_of_the_given_size():
    agent = make(CEM, CEMConfig(noise=0.2, candidates=4, elites=2, horizon=2))
    agent.reward.estimate = reward
    at = State(torch.tensor([[*SUITE._goal(TASK), 0.0, 0.0]]).repeat(4000, 1).float())
    calm, noisy = (agent.choose(at, Streams(0), explore) for explore in (False, True))
    inside = (noisy.abs() < 1) & (calm.abs() < 0.3)
    assert (noisy - calm)[inside].std() == pytest.approx(0.2, rel=0.05)
    with pytest.raises(ValueError, match="choose fewer"):
        CEMConfig(candidates=4, elites=5)


def test_sac_improves():
    agent, rng = (
        make(
            SAC,
            SACConfig(
                hidden=64,
                batch_size=64,
                steps=1,
                temperature=0.01,
                temperature_learning_rate=0.0,
                learning_rate=2e-3,
            ),
        ),
        Streams(0),
    )
    before = returns(policy(agent))
    for _ in range(800):
        metrics = agent.soft_update(rng)
    assert all(np.isfinite(x) for x in metrics.values())
    assert returns(policy(agent)) > max(before, 0.0) + 0.3


def test_sac_targets_stop_at_terminal_states_only():
    """With a critic that says 10 everywhere and no entropy, the target is r1 + g r2 + g^2 10, or r1 + g 10 at the end,
    without 10 if terminal.
    """
    agent = make(SAC, SACConfig(steps=2, discount=0.5, temperature=1e-9, batch_size=512, hidden=8))
    for critic in (agent.critic, agent.target_critic):
        for p in critic.parameters():
            p.data.zero_()
        critic.first[-1].bias.data.fill_(10.0)
        critic.second[-1].bias.data.fill_(10.0)
    seen = {}
    agent.soft = replace(
        agent.soft, step=lambda name, loss, clip: seen.setdefault(name, float(loss.detach())))  # fmt: skip
    states, memories, actions, rewards, terminal, mask = agent.cache.flat()
    expected = {}
    for flag in (False, True):
        agent.cache._flat = (states, memories, actions, rewards, torch.full_like(terminal, flag), mask)
        seen.clear()
        agent.soft_update(Streams(0))
        windows = agent.cache.windows(512, 2, Streams(0).numpy("replay"), cut=True)
        two = windows.rows[:, 2] > windows.rows[:, 1]
        target = windows.rewards[:, 1] + 0.5 * windows.rewards[:, 2] * two + (0 if flag else 0.5 ** (1 + two) * 10)
        expected[flag] = (10 - target).square().mean().item()
        assert seen["critic"] == pytest.approx(expected[flag], rel=1e-4)
    assert expected[False] != expected[True]
