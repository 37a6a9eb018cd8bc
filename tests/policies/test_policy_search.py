"""Rollouts and who acts, against plain loops and numbers by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.experiment.learning.collector import Collector, CollectorConfig
from meta_latent.experiment.settings.suites import BoundTarget, BoundTask
from meta_latent.ops.policy_gradient import baseline_features
from meta_latent.policies.policy_search import PolicyConfig, PolicySearch, Rollouts
from meta_latent.policies.simulators import ObservedStates
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Spec, Step

CONFIG = PolicyConfig(hidden=8, stddev=1e-3, min_stddev=1e-4, discount=0.9, mix=0.8)
LENGTHS = ((5, 3, 4, 5), (2, 5, 5, 1))
"""Steps of four episodes of each of two tasks."""


class Search(PolicySearch):
    """Nothing is learned."""

    def update(self, replay, rng):
        return {}


class Counter(ObservedStates):
    """A state that the action is added to; pays what is reached; ends beyond `most`."""

    most = math.inf

    def begin(self, tasks, particles, rng):
        return torch.arange(1.0, particles + 1)[None, :, None].expand(tasks, -1, 2).clone()

    def step(self, states, actions):
        following = states + actions
        return following, following[..., 0], following[..., 0] > self.most


def searching(tasks=1, horizon=4, simulators=None):
    with seeded_construction(0):
        return Search(CONFIG, simulators or Counter(2, "cpu"), 2, tasks, horizon)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_advantages_are_over_a_baseline_fitted_to_what_counts():
    """Task by task and episode by episode; what lies after an end counts nowhere, whatever it holds."""
    mask = torch.tensor([[[k < length for k in range(5)] for length in task] for task in LENGTHS])
    features, rewards, actions = drawn(2, 4, 5, 1), drawn(2, 4, 5, seed=1), drawn(2, 4, 5, 2, seed=2)
    rewards = torch.where(mask, rewards, math.nan)
    found = Rollouts.of(features, actions, rewards, mask, CONFIG)
    for n, lengths in enumerate(LENGTHS):
        read = baseline_features(features)[n].double().numpy()
        paid = [rewards[n, p, :steps].double().numpy() for p, steps in enumerate(lengths)]
        ahead = [[sum(0.9**j * x for j, x in enumerate(one[k:])) for k in range(len(one))] for one in paid]
        rows = np.concatenate([read[p, :steps] for p, steps in enumerate(lengths)])
        solved = np.linalg.solve(rows.T @ rows + 1e-5 * np.eye(rows.shape[1]), rows.T @ np.concatenate(ahead))
        expected = []
        for p, steps in enumerate(lengths):
            values = np.append(read[p, :steps] @ solved, 0.0)
            error, own = 0.0, []
            for k in reversed(range(steps)):
                error = paid[p][k] + 0.9 * values[k + 1] - values[k] + 0.9 * 0.8 * error
                own.insert(0, error)
            expected += own
        expected = (np.array(expected) - np.mean(expected)) / np.std(expected)
        np.testing.assert_allclose(found.advantages[n][mask[n]].numpy(), expected, atol=2e-3)
        assert float(found.returns[n]) == pytest.approx(np.mean([one.sum() for one in paid]), abs=1e-5)
    assert (found.advantages[~mask] == 0).all()


def replay_of(*lengths):
    """Episodes so many steps long in which no two numbers are the same."""
    replay, last = SequenceReplay(Spec({}, 2, 2, 2), ReplayConfig()), 0
    for length in lengths:

        def column(width, steps=length + 1):
            nonlocal last
            last += width * steps
            return np.arange(last - width * steps, last, dtype=np.float32).reshape(steps, width) / 100

        flags = {name: np.zeros(length + 1, bool)
                 for name in ("is_first", "is_last", "is_terminal", "is_task_first", "success")}  # fmt: skip
        replay.add_episode(
            {
                "proprio": column(2),
                "reward_inputs": column(2),
                "action": column(2),
                "reward": column(1)[:, 0],
                "reward_present": np.ones(length + 1, np.float32),
                **flags,
            }
        )
    return replay


def test_real_episodes_are_rollouts_of_one_task(monkeypatch):
    """Of a step it has the state before, the action that was taken there, and the reward that this led to."""
    monkeypatch.setattr(Rollouts, "of", classmethod(lambda cls, *given: given))
    agent, replay = searching(), replay_of(3, 1)
    agent.scale.fit(agent.simulators.read(replay))
    read, actions, rewards, mask, config = agent.real_rollouts(replay)
    assert mask.tolist() == [[[True] * 3, [True, False, False]]] and config is CONFIG
    for i, steps in enumerate((3, 1)):
        episode = {k: torch.tensor(v) for k, v in replay.read(i).items() if k in ("proprio", "action", "reward")}
        scaled = (episode["proprio"][:-1] - agent.scale.mean) / agent.scale.stddev
        torch.testing.assert_close(read[0, i, :steps], scaled)
        assert torch.equal(actions[0, i, :steps], episode["action"][1:])
        assert torch.equal(rewards[0, i, :steps], episode["reward"][1:])


def test_imagined_policies_act_on_scaled_states_until_the_horizon():
    agent = searching(horizon=3)
    agent.scale.mean.copy_(torch.tensor([2.0, -1.0]))
    agent.scale.stddev.copy_(torch.tensor([4.0, 0.5]))
    parameters = agent.together(2)
    parameters = {k: v + 0.3 * drawn(*v.shape, seed=i) for i, (k, v) in enumerate(parameters.items())}
    parameters["log_stddev"] = torch.full((2, 1, 2), -20.0)  # the floor: next to no noise
    rollouts = agent.imagine(parameters, 4, Streams(0))
    assert rollouts.states.shape == (2, 4, 3, 2) and rollouts.mask.all()
    torch.testing.assert_close(rollouts.states[:, :, 1:], (rollouts.states + rollouts.actions)[:, :, :-1])
    scaled = ((rollouts.states - agent.scale.mean) / agent.scale.stddev).clamp(-10, 10)
    torch.testing.assert_close(rollouts.features, scaled)
    mean = agent.policy(parameters, scaled).mean.clamp(-1, 1)
    torch.testing.assert_close(rollouts.actions, mean, atol=1e-3, rtol=0)
    assert not torch.allclose(mean[0], mean[1], atol=0.1)


def test_an_imagined_episode_is_over_where_its_simulator_ends_it():
    simulators = Counter(2, "cpu")
    simulators.most = 2.5
    rollouts = searching(simulators=simulators).imagine(searching().together(1), 4, Streams(0))
    reached = rollouts.states[0, :, 0, 0] + rollouts.actions[0, :, 0, 0]
    assert reached[2] > 2.5 and rollouts.mask[0, 2].tolist() == [True, False, False, False]
    assert rollouts.mask[0, 0].all()


def step_of(index=None, trial=None):
    no, zeros = torch.zeros(3, dtype=torch.bool), torch.zeros(3)
    return Step({}, torch.zeros(3, 2), torch.zeros(3, 2), zeros, zeros, ~no, no, no, ~no, task_index=index,
                trial=trial)  # fmt: skip


@pytest.mark.parametrize(("tasks", "trial", "index", "players"), [
    (1, 0, [0, 0, 0], [0, 1, 2]), (1, 3, [0, 0, 0], [3, 0, 1]), (4, 3, [2, 0, 3], [2, 0, 3])])  # fmt: skip
def test_policies_take_turns_on_a_single_task_and_own_one_of_several(tasks, trial, index, players):
    agent = searching(tasks)
    agent.acting = agent.together(4)
    agent.acting["weight_2"] = torch.zeros_like(agent.acting["weight_2"])
    agent.acting["bias_2"] = torch.arange(4.0).view(4, 1, 1).expand(4, 1, 2) / 10
    step = step_of(torch.tensor(index), torch.arange(trial, trial + 3))
    action, _ = agent.act(step, agent.begin_task(3), Streams(0), explore=False)
    torch.testing.assert_close(action, torch.tensor(players)[:, None].expand(3, 2) / 10)


def test_an_algorithm_that_is_not_shown_trials_acts_by_its_task():
    agent = searching()
    agent.acting = agent.together(4)
    agent.acting["bias_2"] = torch.arange(4.0).view(4, 1, 1).expand(4, 1, 2) / 10
    step = step_of(torch.zeros(3, dtype=torch.long))
    action, _ = agent.act(step, agent.begin_task(3), Streams(0), explore=False)
    expected, _ = agent.act(dataclasses.replace(step, trial=torch.zeros(3).long()), None, Streams(0), explore=False)
    torch.testing.assert_close(action, expected)


@pytest.mark.parametrize("side_by_side", [1, 4, 10])
def test_all_adapted_policies_play_in_a_round_of_one_task(side_by_side):
    """However many trials there are at once, and whatever was played before."""
    suite = task_suites.get("toy/lqr", episode_steps=4)
    task = BoundTask("t", suite, suite.tasks("train")[0])
    agent = searching(simulators=Counter(4, "cpu"))
    agent.acting = agent.together(10)
    agent.acting["weight_2"] = torch.zeros_like(agent.acting["weight_2"])
    agent.acting["bias_2"] = torch.arange(10.0).view(10, 1, 1).expand(10, 1, 2) / 10
    agent.wants = lambda: 10 * suite.max_episode_steps
    settings = CollectorConfig({"index", "trial"}, torch.zeros(1, 0), 3, 1.0, side_by_side)
    collector = Collector(BoundTarget("t", (task,), (task,), 1), 0, settings, Noise(2, NoiseConfig()))
    replay = SequenceReplay(Spec.of(suite), ReplayConfig())
    for _ in range(2):
        collector.round(agent, replay, Streams(0))
    played = [round(float(replay.read(k)["action"][1:].mean()) * 10) for k in range(3, len(replay.episodes))]
    assert played[0] == 3 and set(played) == set(range(10))


@pytest.mark.parametrize("step", ["take", "adapted"])
def test_a_policy_at_its_floor_can_widen_again(step):
    """Below it the deviation would have no gradient and stay there for ever."""
    agent = searching()
    agent.policy.take(agent.policy.values() | {"log_stddev": torch.full((1, 2), -20.0)})
    floor = torch.full((1, 2), math.log(CONFIG.min_stddev))
    assert torch.equal(agent.policy.log_stddev.detach(), floor)
    features, found = drawn(1, 1, 4, 2), agent.policy
    wide = Rollouts(features, torch.full((1, 1, 4, 2), 0.9), torch.ones(1, 1, 4), torch.ones(1, 1, 4).bool(),
                    torch.zeros(1))  # fmt: skip
    if step == "adapted":
        found = agent.adapted_by(wide, 1e-9).policy
    else:
        loss = agent.policy_gradient(wide)(agent.policy.values() | {
            k: v[None] for k, v in agent.policy.values().items()}, slice(0, 1)).sum()  # fmt: skip
        (slope,) = torch.autograd.grad(loss, agent.policy.log_stddev)
        found.take(found.values() | {"log_stddev": found.log_stddev - 1e-9 * slope})
    assert (found.log_stddev > floor).all()


def test_who_acts_next_is_saved():
    agent, other = searching(), searching()
    agent.acting = {name: value + drawn(*value.shape) for name, value in agent.together(4).items()}
    agent.updates = 7
    agent.scale.mean.fill_(2.0)
    other.load_state(agent.state())
    torch.testing.assert_close(other.acting, agent.acting, rtol=0, atol=0)
    assert other.updates == 7 and (other.scale.mean == 2).all()
