"""RL^2: its objective in closed form, memory within trials and nowhere else, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.algorithms.registry import Setting
from meta_latent.algorithms.rl2 import RL2, RL2Config, _timed, trial_advantages
from meta_latent.data.collect import Noise, NoiseConfig, Shown, play
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.experiment.learning.collector import Collector, CollectorConfig
from meta_latent.experiment.settings.suites import BoundTarget, BoundTask
from meta_latent.ops.advantages import generalised_advantages
from meta_latent.rng import Streams, derive, seeded_construction
from meta_latent.types import Spec

SUITE = task_suites.get("toy/hidden_goal", goals="ring", reward="dense", episode_steps=6, observation="state")
TASKS = SUITE.sample("train", 4, 0)
SPEC = Spec.of(SUITE)


def build(suite=SUITE, tasks=TASKS, seed=0, **config):
    small = {"memory": 24, "hidden": 24, "steps_per_round": 48, "epochs": 2, "minibatches": 2} | config
    setting = Setting(Spec.of(suite), "scratch", "cpu", seed, len(tasks), torch.zeros(len(tasks), 0),
                      suite.max_episode_steps, 2, 1000, None, None)  # fmt: skip
    with seeded_construction(derive(seed, "agent")):
        return RL2(RL2Config(**small), setting)


def collector(suite=SUITE, tasks=TASKS, seed=0):
    bound = tuple(BoundTask(f"goal{k}", suite, task) for k, task in enumerate(tasks))
    config = CollectorConfig({"reward"}, torch.zeros(len(tasks), 0), 0, 0.8, 100)
    return Collector(BoundTarget("goals", bound, bound, 2), seed, config, Noise(2, NoiseConfig()))


def played(agent, count=4, streams=None):
    """`count` trials of two episodes, as a batch."""
    replay, seeds = SequenceReplay(SPEC, ReplayConfig()), np.arange(2 * count).reshape(count, 2)
    rows = SUITE.make_vector([TASKS[k % 4] for k in range(count)])
    found = play(rows, agent, seeds, streams or Streams(1), explore=True, shown=Shown({"reward"}), keep=True)
    for k, trial in enumerate(found.episodes):
        for episode in trial:
            replay.add_episode(episode, None, k % 4)
    return replay.trials(None, 2)


# The objective


def test_an_action_better_than_expected_becomes_likelier():
    agent = build(entropy_weight=0.0, value_weight=0.0, learning_rate=1e-3)
    batch = agent.prepare(played(agent))
    mask = batch.decided
    for sign in (1.0, -1.0):
        agent = build(entropy_weight=0.0, value_weight=0.0, learning_rate=1e-3)
        features, _ = agent.policy(batch.trials, agent.begin_task(4))
        before = agent.policy.actor.log_prob(features[mask], batch.action[mask]).mean()
        batch.advantage[mask] = sign
        agent.surrogate_update(batch, Streams(0))
        features, _ = agent.policy(batch.trials, agent.begin_task(4))
        after = agent.policy.actor.log_prob(features[mask], batch.action[mask]).mean()
        assert sign * float((after - before).detach()) > 1e-3


def test_returns_run_over_the_whole_trial_and_end_with_it():
    decided = torch.tensor([[1, 1, 0, 1, 1, 1, 0], [1, 0, 1, 0, 0, 0, 0]]).bool()
    rng = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 7, generator=rng), torch.randn(2, 7, generator=rng)
    found = trial_advantages(rewards, values, decided, 0.9, 0.8)
    for b in range(2):
        own = decided[b]
        end = torch.cat([values[b][own], torch.zeros(1)])[None]  # nothing to bootstrap from
        torch.testing.assert_close(found[b][own], generalised_advantages(rewards[b][own][None], end, 0.9, 0.8)[0])
        assert not found[b][~own].any()


# Memory


def test_learning_sees_what_acting_saw():
    class Recording(RL2):
        def act(self, step, carry, rng, explore):
            action, after = super().act(step, carry, rng, explore)
            with torch.no_grad():
                features, _ = self.policy(_timed(step), carry)
                self.said.append(self.policy.actor.log_prob(features[:, 0], action))
            return action, after

    agent = build()
    agent.__class__, agent.said = Recording, []
    round_ = agent.prepare(played(agent))
    said = torch.stack(agent.said, 1)  # 6 steps, the last observation, 6 steps
    torch.testing.assert_close(round_.log_prob[:, :6], said[:, :6], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(round_.log_prob[:, 7:13], said[:, 7:13], atol=1e-4, rtol=1e-4)
    assert not round_.log_prob[:, 6].any() and not round_.log_prob[:, 13].any()


def test_trials_know_nothing_of_each_other_and_of_their_own_future():
    agent = build()
    trials = played(agent)
    whole, _ = agent.policy(trials, agent.begin_task(4))
    changed = trials.reward.clone()
    changed[0] += 5.0
    changed[1, 9:] += 5.0
    changed *= trials.reward_present
    other, _ = agent.policy(replace(trials, reward=changed), agent.begin_task(4))
    assert not torch.equal(other[0], whole[0])
    assert torch.equal(other[1, :9], whole[1, :9]) and not torch.equal(other[1, 9:], whole[1, 9:])
    assert torch.equal(other[2:], whole[2:])


def test_a_memory_outlives_an_episode_and_dies_with_its_trial():
    agent = build()
    trials = played(agent)
    features, _ = agent.policy(trials, agent.begin_task(4))
    size = agent.config.memory
    assert (features[:, 7, -size:] - features[:, 0, -size:]).abs().max() > 0.01  # both are first observations
    assert not agent.begin_task(4).any()


# Updates


def weights(agent):
    return torch.cat([value.flatten() for value in agent.policy.state_dict().values()])


def test_it_resumes_bit_for_bit_and_learns_from_no_episode_twice():
    agent, other, replay, streams = build(), build(seed=1), SequenceReplay(SPEC, ReplayConfig()), Streams(0)
    collect = collector()
    collect.round(agent, replay, streams)
    agent.update(replay, streams)
    later = Streams(5)
    later.load_state(streams.state())
    other.load_state(agent.state())
    seen = []
    for learner, rng in ((agent, streams), (other, later)):
        held = replay.view()
        again = collector()
        again.load_state(collect.state())
        learner.prepare = lambda trials, own=learner.prepare: seen.append(len(trials.reward)) or own(trials)
        copy = SequenceReplay(SPEC, ReplayConfig())
        for index in range(len(held.episodes)):
            copy.add_episode(held.read(index), None, 0)
        again.round(learner, copy, rng)
        learner.update(copy, rng)
    assert torch.equal(weights(agent), weights(other)) and seen == [4, 4]
    assert agent.updates == other.updates == 8


def test_values_are_counted_in_deviations_of_returns():
    agent = build()
    round_ = agent.prepare(played(agent))
    assert agent.policy.offset.item() < 0 and agent.policy.scale.item() > 0.01
    target = round_.target[round_.decided]
    assert abs(float(target.mean())) < 1e-4 and float(target.std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_it_learns_a_single_task_in_seconds():
    tasks = TASKS[:1]
    agent = build(tasks=tasks, steps_per_round=480, epochs=6, minibatches=4, discount=0.9, learning_rate=3e-3)
    replay, streams, collect = SequenceReplay(SPEC, ReplayConfig()), Streams(0), collector(tasks=tasks)
    for _ in range(12):
        collect.round(agent, replay, streams)
        agent.update(replay, streams)
    seeds = np.arange(8).reshape(4, 2)
    rows = SUITE.make_vector(tasks * 4)
    found = play(rows, agent, seeds, Streams(1), explore=False, shown=Shown({"reward"})).returns.mean()
    best = -0.8 * 6 + 6 * 0.2 + 5 * 0.2  # staying in the middle pays -4.8; straight there about -1.3
    assert found > best


def test_rewards_are_read_by_their_deviation():
    seen = []
    for scale in (1.0, 50.0):
        agent, trials = build(), played(build())
        trials = replace(trials, reward=trials.reward * scale)
        agent.policy.calibrate(trials)
        seen.append(agent.policy(trials, agent.begin_task(4))[0])
    torch.testing.assert_close(*seen, atol=1e-4, rtol=1e-4)


def test_a_replay_that_cannot_hold_a_round_is_refused():
    agent, streams = build(), Streams(0)
    for capacity, fits in ((1000, True), (20, False)):
        replay = SequenceReplay(SPEC, ReplayConfig(capacity=capacity, segment=14))
        agent.seen = 0
        collector().round(agent, replay, streams)
        if fits:
            agent.update(replay, streams)
        else:
            with pytest.raises(UserError, match="transfer.replay.capacity.*steps_per_round=48"):
                agent.update(replay, streams)
