"""The oracle: what it is told counts, time limits are no ends, and it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.algorithms.oracle import Oracle, OracleConfig
from meta_latent.algorithms.registry import Setting
from meta_latent.data.collect import Noise, NoiseConfig, Shown, play
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.rng import Streams, derive, seeded_construction
from meta_latent.types import Spec

SUITE = task_suites.get("toy/hidden_goal", goals="ring", reward="dense", episode_steps=6, observation="state")
TASKS = SUITE.sample("train", 4, 0)
SPEC = Spec.of(SUITE)


def vectors(tasks, suite=SUITE):
    return torch.from_numpy(np.stack([suite.task_vector(task) for task in tasks]))


def build(suite=SUITE, tasks=TASKS, seed=0, **config):
    small = {"hidden": 32, "batch_size": 32, "first_updates": 5, "updates_per_step": 0.1, "channels": ()} | config
    setting = Setting(Spec.of(suite), "scratch", "cpu", seed, len(tasks), vectors(tasks, suite),
                      suite.max_episode_steps, 1, 1000, None, None)  # fmt: skip
    with seeded_construction(derive(seed, "agent")):
        return Oracle(OracleConfig(**small), setting)


def collect(actor, replay, tasks, seed, streams, suite=SUITE, explore=True):
    """One episode of every task; the mean return."""
    rows, seeds = suite.make_vector(tasks), seed + np.arange(len(tasks))[:, None]
    found = play(rows, actor, seeds, streams, explore=explore, shown=Shown({"task"}, vectors(tasks, suite)),
                 keep=True)  # fmt: skip
    for k, (episode,) in enumerate(found.episodes):
        if replay is not None:
            replay.add_episode(episode, None, k)
    return float(found.returns.mean())


def noise():
    return Noise(2, NoiseConfig())


@pytest.mark.parametrize("observation", ["state", "picture"])
def test_policy_and_critics_read_the_task_and_what_is_seen(observation):
    suite = task_suites.get("toy/hidden_goal", observation=observation, image_size=8)
    tasks = suite.sample("train", 4, 0)
    agent, replay = build(suite, tasks), SequenceReplay(Spec.of(suite), ReplayConfig())
    collect(noise(), replay, tasks, 0, Streams(0), suite)
    batch = replay.sequences(16, 2, np.random.default_rng(0))
    task = agent.tasks[batch.task_index][:, None].expand(-1, 2, -1)
    features = agent.critic.features(batch, task)
    assert features.shape == (16, 2, agent.critic.size)
    told = features[..., -task.shape[-1] :]
    assert told.abs().max() < 3 and told.std() > 0.5  # standardised
    for other in (agent.critic.features(batch, task.roll(1, 0)), agent.critic.features(batch, task)[:, [1, 0]]):
        assert not torch.equal(agent.actor.mean_action(features), agent.actor.mean_action(other))
        action = batch.action
        assert not torch.equal(agent.critic.values(features, action), agent.critic.values(other, action))


@pytest.mark.parametrize(("flag", "worth"), [("is_terminal", 1.0), ("is_last", 2.0)])
def test_values_go_on_after_a_time_limit_and_not_after_an_end(flag, worth):
    agent = build(discount=0.5, temperature=1e-6, temperature_learning_rate=1e-9, target_rate=0.2)
    replay, length = SequenceReplay(SPEC, ReplayConfig()), 2
    rng = np.random.default_rng(0)
    for k in range(8):
        draw = {"proprio": rng.standard_normal((length, 2)), "reward_inputs": np.zeros((length, 2)),
                "action": rng.uniform(-1, 1, (length, 2)), "reward": np.array([0, 1.0]),
                "reward_present": np.array([0, 1.0])}  # fmt: skip
        flags = {name: np.zeros(length, bool) for name in ("is_first", "is_last", "is_terminal", "is_task_first")}
        flags["is_first"][0] = flags["is_task_first"][0] = flags[flag][1] = True
        replay.add_episode(draw | flags, None, k % 4)
    streams = Streams(0)
    for _ in range(250):
        found = agent.improve(replay, streams)
    assert found["value"] == pytest.approx(worth, abs=0.15)


def test_the_encoder_learns_from_the_critics_alone():
    suite = task_suites.get("toy/hidden_goal", image_size=8)
    tasks = suite.sample("train", 4, 0)
    agent, replay = build(suite, tasks), SequenceReplay(Spec.of(suite), ReplayConfig())
    collect(noise(), replay, tasks, 0, Streams(0), suite)
    before = [p.clone() for p in agent.critic.encoder.parameters()]
    step, owned = agent.soft.step, []
    agent.soft = replace(
        agent.soft, step=lambda name, *rest: owned.append(name) or (step(name, *rest) if name != "critic" else 0.0)
    )
    agent.improve(replay, Streams(0))
    assert owned == ["critic", "policy", "temperature"]
    assert all(torch.equal(p, q) for p, q in zip(before, agent.critic.encoder.parameters(), strict=True))


def test_targets_are_of_the_slowly_following_encoder():
    suite = task_suites.get("toy/hidden_goal", image_size=8)
    tasks = suite.sample("train", 4, 0)
    replay = SequenceReplay(Spec.of(suite), ReplayConfig())
    collect(noise(), replay, tasks, 0, Streams(0), suite)
    losses = []
    for factor in (1.0, 5.0):
        agent = build(suite, tasks)
        for p in agent.target_critic.encoder.parameters():
            p.data.mul_(factor)
        losses.append(agent.improve(replay, Streams(0))["critic_loss"])
    assert losses[0] != losses[1]


def weights(agent):
    return torch.cat([p.detach().flatten() for n in agent.learned.networks.values() for p in n.parameters()])


def test_it_resumes_bit_for_bit():
    agent, other, replay = build(), build(seed=1), SequenceReplay(SPEC, ReplayConfig())
    streams, later = Streams(0), Streams(3)
    collect(noise(), replay, TASKS, 0, streams)
    agent.update(replay, streams)
    later.load_state(streams.state())
    other.load_state(agent.state())
    collect(noise(), replay, TASKS, 9, Streams(8))
    for learner, rng in ((agent, streams), (other, later)):
        assert learner.update(replay, rng)
    assert torch.equal(weights(agent), weights(other)) and agent.updates == other.updates == 9
    assert agent.debt == other.debt


@pytest.mark.parametrize("count", [1, 4])
def test_it_learns_one_task_and_several_in_seconds(count):
    tasks = TASKS[:count]
    agent = build(tasks=tasks, updates_per_step=1.0, first_updates=50, batch_size=64, hidden=48)
    replay, streams = SequenceReplay(SPEC, ReplayConfig()), Streams(0)
    for turn in range(40):
        collect(noise() if turn < 8 else agent, replay, tasks, turn * 100, streams)
        if turn >= 7:
            agent.update(replay, streams)
        if agent.updates > 500:
            break
    found = collect(agent, None, tasks, 10**6, Streams(1), explore=False)
    assert found > -2.4  # nothing pays about -4.8, straight there about -1.3
