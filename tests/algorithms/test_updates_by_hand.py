"""Single updates of IVG and SAC on a point on a line, its networks so small that all follows by hand.

All is in float64, so that finite differences are sharp.
"""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from meta_latent.algorithms.cem import CEM, CEMConfig
from meta_latent.algorithms.ivg import IVG, IVGConfig
from meta_latent.algorithms.sac import SAC, SACConfig
from meta_latent.data.latents import LatentCache
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.policies.latent_agent import AdaptationConfig, LatentParts
from meta_latent.policies.simulators import RewardConfig
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Averages, Spec

PUSH = 0.5
SPEC = Spec({}, proprio=1, action_size=1)


@dataclasses.dataclass
class Point:
    """A place on the line (B, 1) as a latent without memory, and as its own distribution."""

    sample: torch.Tensor

    @property
    def memory(self):
        return self.sample[..., :0]

    relations = memory

    def mean(self):
        return self


class Line:
    """next place = place + PUSH * action. `cut`: its gradient stops at every step, which is wrong."""

    spec, device = SPEC, torch.device("cpu")
    latent_size, feature_size, relation_size, heads = 1, 1, 0, 1

    def __init__(self, cut=False):
        self.cut = cut

    def embed(self, images, proprio):
        return proprio.double()

    def filter(self, embeddings, actions, rewards, present):
        return Point(embeddings)

    def transition(self, latent, action, head):
        return Point((latent.sample.detach() if self.cut else latent.sample) + PUSH * action)

    def features(self, latent):
        return latent.sample

    def relations(self, sample):
        return sample[..., :0]

    def unpack(self, flat):
        return Point(flat)


@pytest.fixture(autouse=True)
def float64():
    """Everything a test makes is float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def cached(places, actions, rewards, terminal=False):
    """A cache of one episode; element 0 of `actions` and `rewards` led to nothing and is 0."""
    count = len(places)
    last, first = np.arange(count) == count - 1, np.arange(count) == 0
    replay = SequenceReplay(SPEC, ReplayConfig())
    replay.add_episode({
        "proprio": np.array(places)[:, None], "action": np.array(actions)[:, None], "reward": rewards,
        "reward_present": ~first, "reward_inputs": np.zeros((count, 0)), "is_first": first,
        "is_task_first": first, "is_last": last, "is_terminal": last & terminal})  # fmt: skip
    cache = LatentCache()
    cache.extend(Line(), replay)
    return cache


def make(kind, config, cache, cut=False):
    with seeded_construction(0):
        return kind(config, LatentParts(Line(cut), None, AdaptationConfig(), cache))


def linear(network, *coefficients):
    """Make a network without hidden layers (all heads of an ensemble) the function
    coefficients[:-1] . inputs + coefficients[-1].
    """
    weight, bias = network.parameters()
    weight.data.copy_(torch.tensor(coefficients[:-1]).reshape(weight.shape[-2:]))
    bias.data.fill_(coefficients[-1])


# A walk by the model's own dynamics, whose rewards are linear in the place reached and the action.
ACTIONS = np.random.default_rng(0).uniform(-1, 1, 9) * (np.arange(9) > 0)
PLACES = 0.2 + PUSH * ACTIONS.cumsum()
TRUTH = (1.5, -2.0, 0.25)  # reward = 1.5 * next place - 2 * action + 0.25
REWARDS = (TRUTH[0] * PLACES + TRUTH[1] * ACTIONS + TRUTH[2]) * (np.arange(9) > 0)

LINEAR = IVGConfig(
    layers=0,
    reward_heads=2,
    pessimism=0.0,
    horizon=4,
    batch_size=8,
    reward_batch_size=40,
    discount=0.9,
    mix=0.7,
    temperature=1e-12,
)
ALMOST_SURE = dataclasses.replace(LINEAR, min_stddev=1e-9, max_stddev=1e-9)


@pytest.mark.parametrize(("shift", "fits"), [(0, True), (-1, False), (1, False)])
def test_the_reward_head_is_fitted_to_the_reward_of_the_step_that_led_to_the_state(shift, fits):
    agent = make(IVG, LINEAR, cached(PLACES, ACTIONS, np.roll(REWARDS, shift)))
    linear(agent.networks["reward"], *TRUTH)
    losses = agent.fit_reward(Streams(0))
    assert (losses["reward_loss"] < 1e-12) == (losses["reward_loss_imagined"] < 1e-12) == fits


def test_imagined_rewards_are_read_where_the_model_goes_and_observed_ones_where_it_went():
    """The last two places are not those that the model expects, and the rewards are of what was seen."""
    places = PLACES + np.array([0] * 7 + [1.0, 1.0])
    agent = make(IVG, LINEAR, cached(places, ACTIONS, TRUTH[0] * places + TRUTH[1] * ACTIONS + TRUTH[2]))
    linear(agent.networks["reward"], *TRUTH)
    losses = agent.fit_reward(Streams(0))
    assert losses["reward_loss"] < 1e-12 and losses["reward_loss_imagined"] > 0.01


@pytest.mark.parametrize("pessimism", [0.0, 0.5])
def test_pessimism_takes_away_the_spread_of_the_heads(pessimism):
    agent = make(IVG, dataclasses.replace(LINEAR, pessimism=pessimism), cached(PLACES, ACTIONS, REWARDS))
    weight, bias = agent.networks["reward"].parameters()
    weight.data.zero_()
    bias.data.copy_(torch.tensor([0.0, 1.0]).reshape(bias.shape))
    reward = agent.follow_value_gradient(Streams(0))["imagined_reward"]
    assert reward == pytest.approx(0.5 - pessimism * math.sqrt(0.5))  # the stddev of 0 and 1 is sqrt(1/2)


def by_hand(config, start, policy, reward, target, value):
    """Mean return, mean reward and mean squared error of the value along the one imagined trajectory."""
    places, rewards = [start], []
    for _ in range(config.horizon):
        action = math.tanh(policy[0] * places[-1] + policy[1])
        places.append(places[-1] + PUSH * action)
        rewards.append(reward[0] * places[-1] + reward[1] * action + reward[2])
    returns, ahead = [], target[0] * places[-1] + target[1]
    for k in reversed(range(config.horizon)):
        bootstrap = target[0] * places[k + 1] + target[1]
        ahead = rewards[k] + config.discount * ((1 - config.mix) * bootstrap + config.mix * ahead)
        returns.insert(0, ahead)
    errors = [value[0] * s + value[1] - g for s, g in zip(places, returns, strict=False)]
    return np.mean(returns), np.mean(rewards), np.mean(np.square(errors))


@pytest.mark.parametrize("target", [(0.7, -1.0), (0.7, 99.0)])
def test_returns_and_value_errors_of_an_almost_sure_policy(target):
    """Returns bootstrap from the slow copy; the value is fitted where the return begins."""
    policy, value, start = (0.8, -0.3), (-0.4, 2.0), 0.25
    agent = make(IVG, ALMOST_SURE, cached([start] * 3, [0.0] * 3, [0.0] * 3))
    for name, coefficients in (("reward", TRUTH), ("value", value), ("target_value", target)):
        linear(agent.networks[name], *coefficients)
    weight, bias = agent.networks["policy"].parameters()
    weight.data[0, 0], bias.data[0] = policy
    found = agent.follow_value_gradient(Streams(0))
    wanted = by_hand(ALMOST_SURE, start, policy, TRUTH, target, value)
    names = ("imagined_return", "imagined_reward", "value_loss")
    assert [found[name] for name in names] == pytest.approx(wanted, rel=1e-6)


def test_the_slow_copy_follows_the_value_at_its_rate():
    agent = make(IVG, dataclasses.replace(LINEAR, target_rate=0.25), cached(PLACES, ACTIONS, REWARDS))
    for name, coefficients in (("value", (2.0, 2.0)), ("target_value", (-1.0, -1.0))):
        linear(agent.networks[name], *coefficients)
    agent.optimisers["value"] = torch.optim.SGD(agent.networks["value"].parameters(), 0.0)
    agent.follow_value_gradient(Streams(0))
    assert [p.item() for p in agent.networks["target_value"].parameters()] == [-0.25, -0.25]


def test_the_bonus_is_the_temperature_times_the_entropy():
    """One step: G = reward + bonus + discount * value, with equal noise at both temperatures."""
    found = []
    for temperature in (1e-12, 3.0):
        config = dataclasses.replace(LINEAR, horizon=1, temperature=temperature)
        agent = make(IVG, config, cached(PLACES, ACTIONS, REWARDS))
        found.append(agent.follow_value_gradient(Streams(0)))
    assert found[0]["entropy"] == pytest.approx(found[1]["entropy"])
    difference = found[1]["imagined_return"] - found[0]["imagined_return"]
    assert difference == pytest.approx(3.0 * found[0]["entropy"]) and abs(difference) > 0.1


def differences(update, objective, count):
    """d objective / d parameter of the policy, two-sided, one number after the other."""
    found = []
    for index in range(count):
        ends = []
        for step in (1e-5, -1e-5):
            agent = update.make()
            vector = torch.nn.utils.parameters_to_vector(agent.networks["policy"].parameters()).detach()
            vector[index] += step
            torch.nn.utils.vector_to_parameters(vector, agent.networks["policy"].parameters())
            ends.append(objective(update.run(agent)))
        found.append((ends[0] - ends[1]) / 2e-5)
    return torch.tensor(found)


def ascent(update):
    """How far one update moves the policy when its optimiser takes the plain gradient."""
    agent = update.make()
    parameters = list(agent.networks["policy"].parameters())
    agent.optimisers["policy"] = torch.optim.SGD(parameters, 1.0)
    before = torch.nn.utils.parameters_to_vector(parameters).detach().clone()
    update.run(agent)
    return torch.nn.utils.parameters_to_vector(parameters).detach() - before


@pytest.mark.parametrize(("cut", "equal"), [(False, True), (True, False)])
def test_ivg_follows_the_gradient_of_the_imagined_return(cut, equal):
    """Through policy, model, reward and value; with a model that stops gradients it would be another one."""
    config = IVGConfig(
        layers=1, hidden=4, reward_hidden=4, reward_heads=2, horizon=4, batch_size=6, temperature=0.1, gradient_clip=1e9
    )
    cache = cached(PLACES, ACTIONS, REWARDS)
    update = SimpleNamespace(
        make=lambda: make(IVG, config, cache, cut), run=lambda agent: agent.follow_value_gradient(Streams(0))
    )
    moved = ascent(update)
    numeric = differences(update, lambda metrics: metrics["imagined_return"], len(moved))
    assert torch.allclose(moved, numeric, rtol=1e-4, atol=1e-7) == equal and numeric.abs().max() > 1e-3


def test_sac_follows_the_gradient_of_value_and_entropy():
    config = SACConfig(layers=1, hidden=4, steps=2, batch_size=6, temperature=0.3, gradient_clip=1e9)
    cache = cached(PLACES, ACTIONS, REWARDS)

    def build():
        agent = make(SAC, config, cache)
        agent.optimisers["critic"] = torch.optim.SGD(agent.networks["critic"].parameters(), 0.0)
        return agent

    update = SimpleNamespace(make=build, run=lambda agent: agent.soft_update(Streams(0)))
    moved = ascent(update)
    numeric = differences(update, lambda metrics: metrics["value"] + 0.3 * metrics["entropy"], len(moved))
    torch.testing.assert_close(moved, numeric, rtol=1e-4, atol=1e-7)
    only_value = differences(update, lambda metrics: metrics["value"], len(moved))
    assert not torch.allclose(moved, only_value, rtol=1e-2)


@pytest.mark.parametrize(("terminal", "ahead"), [(True, 0.0), (False, 10.0 + 0.5 * 2.0)])
def test_sac_targets_over_a_terminal_state_and_over_a_time_limit(terminal, ahead):
    """The rewards to the end at discount 1/2, then the smaller slow critic (10) and the bonus, unless it is over."""
    cache = cached([0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.5, 0.5], [0.0, 1.0, 2.0, 4.0], terminal)
    config = SACConfig(layers=0, steps=3, discount=0.5, batch_size=16, temperature=0.5)
    agent = make(SAC, config, cache)
    agent.actor.sample = lambda features, rng: (  # always this action, of log density -2
        0.5 + 0.0 * agent.actor(features)[0],
        -2.0 + 0.0 * agent.actor(features)[0][:, 0],
    )
    for critic, biases in ((agent.networks["target_critic"], (10.0, 12.0)), (agent.networks["critic"], (7.0, -3.0))):
        linear(critic.first, 0.0, 0.0, biases[0])
        linear(critic.second, 0.0, 0.0, biases[1])
    targets = np.array([1 + 2 / 2 + 4 / 4 + ahead / 8, 2 + 4 / 2 + ahead / 4, 4 + ahead / 2])
    errors = ((7.0 - targets) ** 2 + (-3.0 - targets) ** 2) / 2
    begun = cache.windows(16, 3, Streams(0).numpy("replay"), cut=True).rows[:, 0]
    assert agent.soft_update(Streams(0))["critic_loss"] == pytest.approx(errors[begun].mean())


class Chain(Line):
    """Four places, each a feature of its own, so that critics without hidden layers are tables."""

    feature_size = 4

    def features(self, latent):
        return torch.nn.functional.one_hot(latent.sample[..., 0].long(), 4).to(latent.sample)


@pytest.mark.parametrize("steps", [1, 3, 9])
@pytest.mark.parametrize("terminal", [True, False])
def test_sac_learns_what_every_state_is_worth_up_to_an_episodes_end(terminal, steps):
    """The step that stays in the last place ends the episode for good, or would be taken for ever."""
    rewards = np.array([0.0, 1.0, -2.0, 3.0, -4.0])
    truth = [rewards[4] * (1 if terminal else 2)]  # 1 + 1/2 + 1/4 + ... = 2
    for reward in rewards[3:0:-1]:
        truth.insert(0, reward + 0.5 * truth[0])
    config = SACConfig(
        layers=0, steps=steps, discount=0.5, batch_size=32, temperature=1e-12, target_rate=1.0, gradient_clip=1e9
    )
    cache = cached([0.0, 1.0, 2.0, 3.0, 3.0], np.zeros(5), rewards, terminal)
    with seeded_construction(0):
        agent = SAC(config, LatentParts(Chain(), None, AdaptationConfig(), cache))
    for network in (agent.critic.first, agent.critic.second, agent.target_critic.first, agent.target_critic.second):
        constant(network, 0.0)
    agent.optimisers["critic"] = torch.optim.SGD(agent.critic.parameters(), 1.0)
    streams = Streams(0)
    for _ in range(120):
        agent.soft_update(streams)
    found = agent.critic(torch.eye(4), torch.zeros(4, 1)).detach().numpy()
    np.testing.assert_allclose(found, np.stack([truth, truth], 1), atol=1e-3)


def test_critics_and_policy_have_one_learning_rate_and_the_temperature_its_own():
    config = SACConfig(learning_rate=0.25, temperature_learning_rate=0.5)
    agent = make(SAC, config, cached(PLACES, ACTIONS, REWARDS))
    rates = {name: optimiser.param_groups[0]["lr"] for name, optimiser in agent.optimisers.items()}
    assert rates == {"critic": 0.25, "policy": 0.25, "temperature": 0.5}


def test_sac_draws_every_transition_of_an_episode_as_often():
    agent = make(SAC, SACConfig(layers=0, steps=3, discount=0.5, batch_size=8000), cached(PLACES, ACTIONS, REWARDS))
    batches = []
    agent.soft = SimpleNamespace(update=lambda batch, draws: batches.append(batch))
    agent.soft_update(Streams(0))
    (batch,) = batches
    drawn = np.abs(batch.now.numpy() - PLACES).argmin(1)
    counts = np.bincount(drawn, minlength=9)
    assert counts[8] == 0 and np.abs(counts[:8] - 1000).max() < 5 * (8000 / 8 * 7 / 8) ** 0.5
    reached = np.minimum(drawn + 3, 8)
    np.testing.assert_allclose(batch.action[:, 0], ACTIONS[drawn + 1], rtol=1e-6)
    np.testing.assert_allclose(batch.after[:, 0], PLACES[reached], rtol=1e-6)
    np.testing.assert_allclose(batch.discount, 0.5 ** (reached - drawn))


def constant(network, value):
    for parameter in network.parameters():
        parameter.data.zero_()
    list(network.parameters())[-1].data.fill_(value)


def test_where_no_episode_ended_for_good_nothing_ends():
    agent = make(IVG, LINEAR, cached(PLACES, ACTIONS, REWARDS))
    before = agent.follow_value_gradient(Streams(0))
    assert "continuation_loss" not in agent.fit_reward(Streams(0))
    agent = make(IVG, LINEAR, cached(PLACES, ACTIONS, REWARDS))
    constant(agent.networks["continuation"], -99.0)
    assert agent.follow_value_gradient(Streams(0)) == before


@pytest.mark.parametrize("goes_on", [0.0, 0.6, 1.0])
def test_an_end_ends_the_returns_and_later_steps_count_as_often_as_they_are_taken(goes_on):
    """With constant reward and value: G_k by hand, step k weighed with goes_on ** k. Ignored, an end costs
    discount * (1 - goes_on) * what would have come."""
    reward, value = 1.5, 4.0
    agent = make(IVG, ALMOST_SURE, cached([0.25] * 3, [0.0] * 3, [0.0] * 3, terminal=True))
    for name, number in (
        ("reward", reward),
        ("target_value", value),
        ("value", 0.0),
        ("continuation", math.log((goes_on + 1e-12) / (1 - goes_on + 1e-12))),
    ):
        constant(agent.networks[name], number)
    found = agent.follow_value_gradient(Streams(0))
    discount, mix, ahead, returns = LINEAR.discount * goes_on, LINEAR.mix, value, []
    for _ in range(LINEAR.horizon):
        ahead = reward + discount * ((1 - mix) * value + mix * ahead)
        returns.insert(0, ahead)
    weights = goes_on ** np.arange(LINEAR.horizon)
    starts = agent.cache.windows(LINEAR.batch_size, 0, Streams(0).numpy("windows"))
    alive = 1 - starts.terminal.double().mean().item()
    assert 0 < alive < 1
    assert found["imagined_return"] == pytest.approx(alive * np.mean(weights * returns), rel=1e-6)
    assert found["value_loss"] == pytest.approx(alive * np.mean(weights * np.square(returns)), rel=1e-6)


def test_ends_are_learned_from_where_episodes_ended():
    """Each walk ends beyond 1: the network comes to tell the two sides apart, by place."""
    cache = cached(np.linspace(0.0, 1.1, 12), np.full(12, 0.1), np.zeros(12), terminal=True)
    config = dataclasses.replace(LINEAR, layers=2, horizon=1, reward_learning_rate=0.01)
    agent = make(IVG, config, cache)
    agent.model.transition = lambda latent, action, head: Point(latent.sample + 0.1)
    losses = [agent.fit_reward(Streams(0))["continuation_loss"] for _ in range(150)]
    at = torch.tensor([[0.3], [1.1]])
    goes_on = agent.continuation.estimate(at, torch.full((2, 1), 0.1))
    assert losses[-1] < 0.1 < losses[0] and goes_on[0] > 0.98 and goes_on[1] < 0.3


def ending(lengths):
    """A cache of episodes of so many steps, whose last one ends them for good and pays 1, at one place all along."""
    replay, cache = SequenceReplay(SPEC, ReplayConfig()), LatentCache()
    for count in lengths:
        first, last = np.arange(count + 1) == 0, np.arange(count + 1) == count
        zeros = np.zeros(count + 1)
        replay.add_episode({
            "proprio": zeros[:, None], "action": zeros[:, None], "reward": last * 1.0, "reward_present": ~first,
            "reward_inputs": zeros[:, None][:, :0], "is_first": first, "is_task_first": first, "is_last": last,
            "is_terminal": last})  # fmt: skip
    cache.extend(Line(), replay)
    return cache


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("lengths", [[6] * 50, [20] * 50, list(5 + np.random.default_rng(0).geometric(0.1, 300))])
def test_how_often_episodes_end_and_pay_is_learned_whatever_the_horizon(horizon, lengths):
    """All steps look alike: the networks say how often one ends the episode, not how often windows show ends."""
    ends, at = len(lengths) / sum(lengths), torch.zeros(1, 1)
    config = dataclasses.replace(
        LINEAR, horizon=horizon, reward_learning_rate=0.02, reward_batch_size=300, reward_weight_decay=0.0
    )
    agent = make(IVG, config, ending(lengths))
    assert agent.continuation.estimate(at, at).item() > 0.99  # nothing ends, until ends say otherwise
    said = []
    for step in range(400):
        agent.fit_reward(Streams(step))
        paid = agent.reward.each(at, at).mean().item()
        said.append((1 - agent.continuation.estimate(at, at).item(), paid))
    np.testing.assert_allclose(np.mean(said[-200:], 0), ends, rtol=0.15)


def test_nobody_is_paid_for_making_later_steps_likelier():
    """Rewards are the same everywhere and later ones do not count: the policy has nowhere to go, ends or not."""

    def build():
        config = dataclasses.replace(LINEAR, discount=0.0, horizon=3)
        agent = make(IVG, config, cached(PLACES, ACTIONS, REWARDS, terminal=True))
        constant(agent.networks["reward"], 1.0)
        linear(agent.networks["continuation"], 1.0, 2.0, 0.0)
        return agent

    moved = ascent(SimpleNamespace(make=build, run=lambda agent: agent.follow_value_gradient(Streams(0))))
    assert moved.abs().max() < 1e-9


def test_ends_are_fitted_on_both_kinds_of_states_with_the_action_that_led_there():
    agent = make(IVG, LINEAR, cached(PLACES, ACTIONS, REWARDS, terminal=True))
    linear(agent.networks["continuation"], 0.5, 2.0, 0.1)
    windows = agent.cache.windows(20, 4, np.random.default_rng(0))
    ends, states, wanted = windows.terminal[:, 1:], (torch.full((20, 4, 1), 3.0), windows.samples[:, 1:]), []
    weights = windows.weights[:, 1:]
    assert len(weights.unique()) > 1
    for state in states:
        logit = 0.5 * state[..., 0] + 2.0 * windows.actions[:, 1:, 0] + 0.1
        wanted.append((weights * torch.where(ends, logit, -logit).exp().log1p()).sum() / weights.sum())
    assert agent.continuation.error(states, windows).item() == pytest.approx(torch.stack(wanted).mean().item())


def test_the_policy_follows_the_gradient_through_where_it_ends():
    """One step, after which the value is worth more than 0: going where episodes go on pays."""
    config = IVGConfig(
        layers=1, hidden=4, reward_hidden=4, reward_heads=2, horizon=1, batch_size=6, temperature=0.1, gradient_clip=1e9
    )

    def build():
        agent = make(IVG, config, cached(PLACES, ACTIONS, REWARDS, terminal=True))
        weight, bias = list(agent.networks["continuation"].parameters())[-2:]
        weight.data.copy_(torch.linspace(-1, 1, weight.numel()).view(weight.shape))
        bias.data.fill_(0.3)
        return agent

    update = SimpleNamespace(make=build, run=lambda agent: agent.follow_value_gradient(Streams(0)))
    moved = ascent(update)
    numeric = differences(update, lambda metrics: metrics["imagined_return"], len(moved))
    assert torch.allclose(moved, numeric, rtol=1e-4, atol=1e-7) and numeric.abs().max() > 1e-3


PLANNER = CEMConfig(horizon=3, discount=0.5, reward=RewardConfig(heads=2, layers=0, pessimism=0.0, horizon=4))


@pytest.mark.parametrize("terminal", [False, True])
def test_a_plan_is_paid_as_long_as_it_is_likely_to_go_on_once_an_end_was_seen(terminal):
    agent = make(CEM, PLANNER, cached(PLACES, ACTIONS, REWARDS, terminal))
    constant(agent.networks["reward"], 1.0)
    linear(agent.networks["continuation"], -2.0, 0.5, 0.3)
    plans = torch.tensor([[0.5, -1.0, 1.0], [0.0, 0.2, -0.4]], dtype=torch.float64)[..., None]
    starts = torch.tensor([[0.1], [0.7]], dtype=torch.float64)
    places = starts + PUSH * plans[..., 0].cumsum(1)
    goes_on = (-2 * places + 0.5 * plans[..., 0] + 0.3).sigmoid()
    likely = torch.cat([torch.ones(2, 1), goes_on[:, :-1]], 1).cumprod(1) if terminal else torch.ones(2, 3)
    wanted = (likely * torch.tensor([1, 0.5, 0.25])).sum(1)
    torch.testing.assert_close(agent.returns(starts, plans), wanted.double())


def test_a_saved_planner_knows_that_episodes_end_before_it_caches_any():
    agent, saved, older = (make(CEM, PLANNER, cache) for cache in (ending([6]), LatentCache(), LatentCache()))
    for one in (agent, saved, older):
        one.learner = SimpleNamespace(state=dict, load_state=lambda state: None)
    constant(agent.networks["reward"], 1.0)
    constant(agent.networks["continuation"], 0.0)
    assert agent.state()["ends"] and not saved.state()["ends"]
    saved.load_state(agent.state())
    older.load_state({key: value for key, value in agent.state().items() if key != "ends"})
    plans, starts = torch.zeros(2, 3, 1), torch.zeros(2, 1)
    assert agent.returns(starts, plans).tolist() == saved.returns(starts, plans).tolist() == [1 + 0.5**2 + 0.5**4] * 2
    assert older.returns(starts, plans).tolist() == [1 + 0.5 + 0.5**2] * 2


def test_planners_learn_where_episodes_end_and_what_ends_pay():
    config = dataclasses.replace(PLANNER.reward, batch_size=300, learning_rate=0.02, weight_decay=0.0)
    agent, at = make(CEM, dataclasses.replace(PLANNER, reward=config), ending([6] * 50)), torch.zeros(1, 1)
    said = []
    for step in range(300):
        metrics = Averages()
        agent.improve(1, False, Streams(step), metrics)
        paid = agent.reward.each(at, at).mean().item()
        said.append((1 - agent.continuation.estimate(at, at).item(), paid))
    assert {"reward_loss", "reward_loss_imagined", "continuation_loss"} <= metrics.means().keys()
    np.testing.assert_allclose(np.mean(said[-150:], 0), 1 / 6, rtol=0.15)
