"""PEARL: beliefs within trials and nowhere else, z held or following, what is learned from what; that it infers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.algorithms.pearl import PEARL, PEARLConfig
from meta_latent.algorithms.registry import Functions, Setting
from meta_latent.data.collect import Noise, NoiseConfig, Shown, play
from meta_latent.data.replay import FLAGS, ReplayConfig, SequenceReplay
from meta_latent.models.context import Evidence
from meta_latent.rng import Streams, derive, seeded_construction
from meta_latent.types import Spec

STEPS = 5
SUITE = task_suites.get("toy/hidden_goal", goals="ring", reward="dense", episode_steps=STEPS, observation="state")
TASKS, SPEC = SUITE.sample("train", 30, 0), Spec.of(SUITE)


def paid(task_index, inputs, action):
    """The rewards of TASKS, by the suite's own function."""
    return torch.stack([SUITE.reward(TASKS[int(k)], inputs[b], action[b]) for b, k in enumerate(task_index)])


def ended(task_index, inputs, action):
    """A task ends within 0.9 m of its goal."""
    return paid(task_index, inputs, action) > -0.9


def build(training=None, seed=0, dynamics=(0,) * 30, **config):
    small = {"hidden": 24, "batch_size": 6, "transitions": 60, "latent": 3, "first_updates": 2,
             "updates_per_step": 0.0} | config  # fmt: skip
    setting = Setting(SPEC, "scratch", "cpu", 0, len(TASKS), torch.zeros(len(TASKS), 0), STEPS, 2, 1000,
                      Functions(paid, ended, False, training), None, dynamics)  # fmt: skip
    with seeded_construction(derive(seed, "agent")):
        return PEARL(PEARLConfig(**small), setting)


def filled(actor=None, trials=8, first=0):
    replay, seeds = SequenceReplay(SPEC, ReplayConfig()), np.arange(2 * trials).reshape(trials, 2)
    which = [(first + k) % len(TASKS) for k in range(trials)]
    rows = SUITE.make_vector([TASKS[k] for k in which])
    found = play(rows, actor or Noise(2, NoiseConfig()), seeds, Streams(1), explore=True,
                 shown=Shown({"reward"}), keep=True)  # fmt: skip
    for k, trial in zip(which, found.episodes, strict=True):
        for episode in trial:
            replay.add_episode(episode, None, k)
    return replay


class Watched:
    """An agent whose carries are kept, one per observation that it was shown."""

    def __init__(self, agent):
        self.agent, self.begin_task, self.carries = agent, agent.begin_task, []

    def act(self, step, carry, rng, explore):
        action, carry = self.agent.act(step, carry, rng, explore)
        self.carries.append(carry)
        return action, carry


def at(batch, t):
    """The step at time t of a batch of trials."""
    timed = ("proprio", "action", "reward", "reward_present", "is_first", "is_last", "is_terminal", "is_task_first")
    return replace(batch, images={}, **{name: getattr(batch, name)[:, t] for name in timed})


# The belief


def test_beliefs_while_acting_are_those_that_are_learned_from():
    agent = build()
    watched = Watched(agent)
    trials = filled(watched, trials=3).trials(None, 2)
    with torch.no_grad():
        told = agent.critic.evidence(agent.critic.encoder(trials), trials)
    for t, carry in enumerate(watched.carries):
        torch.testing.assert_close(carry.evidence.weighted, told.weighted[:, t])
        torch.testing.assert_close(carry.evidence.precision, told.precision[:, t])
    assert len(watched.carries) == 2 * STEPS + 1  # the very last observation needs no action


def test_evidence_is_the_sum_over_the_trials_transitions():
    agent, trials = build(), filled(trials=2).trials(None, 2)
    critic, first = agent.critic, trials.is_first
    with torch.no_grad():
        seen = critic.encoder(trials)
        told = critic.evidence(seen, trials)
        for b in range(2):
            weighted = torch.zeros(3)
            for t in range(2 * STEPS + 2):
                if not first[b, t]:  # nothing leads over a reset
                    parts = seen[b, t - 1], trials.action[b, t], trials.reward[b, t], seen[b, t]
                    weighted += critic.context(*parts).weighted
                torch.testing.assert_close(told.weighted[b, t], weighted)


def test_a_belief_outlives_an_episode_and_dies_with_its_trial():
    agent, trials = build(), filled(trials=2).trials(None, 2)
    carry = agent.begin_task(2)
    for t in range(STEPS + 1):
        _, carry = agent.act(at(trials, t), carry, Streams(0), False)
    step = at(trials, STEPS + 1)
    assert step.is_first.all() and not step.is_task_first.any() and carry.evidence.precision.min() > 0
    _, inner = agent.act(step, carry, Streams(0), False)
    assert torch.equal(inner.evidence.weighted, carry.evidence.weighted)
    _, cleared = agent.act(replace(step, is_task_first=torch.ones(2).bool()), carry, Streams(0), False)
    assert not cleared.evidence.precision.any() and not cleared.evidence.weighted.any()


@pytest.mark.parametrize("hold", [True, False])
def test_z_is_drawn_at_an_episodes_start_and_held_or_follows_by_the_same_noise(hold):
    watched = Watched(build(hold=hold))
    filled(watched, trials=3)
    carries = watched.carries
    episodes = carries[: STEPS + 1], carries[STEPS + 1 :]
    for episode in episodes:
        first = episode[0]
        torch.testing.assert_close(first.z, first.evidence.drawn(first.noise))
        for carry in episode[1:]:
            assert torch.equal(carry.noise, first.noise)
            assert torch.equal(carry.z, first.z) == hold
            if not hold:
                torch.testing.assert_close(carry.z, carry.evidence.drawn(first.noise))
    assert (episodes[0][0].noise - episodes[1][0].noise).abs().min() > 0
    assert torch.equal(carries[0].z, carries[0].noise)  # the prior


# What is learned from what


def test_without_relabelling_each_task_learns_from_its_own():
    agent, replay = build(relabel=0.0), filled()
    contexts, steps = agent.draw(replay, replay, np.random.default_rng(0))
    assert torch.equal(steps.task_index, contexts.task_index.repeat_interleave(10))
    stored = {tuple(x.tolist()) for x in replay.transitions().next_reward_inputs}
    assert {tuple(x.tolist()) for x in steps.reward_inputs[:, 1]} <= stored
    owed = paid(steps.task_index, steps.reward_inputs[:, 1:], steps.action[:, 1:])
    torch.testing.assert_close(steps.reward[:, 1:], owed)


@pytest.mark.parametrize("numbers", [(), tuple(k % 2 for k in range(30)), (0,) * 30])
def test_relabelled_contexts_learn_from_transitions_of_their_own_dynamics(numbers):
    agent, replay = build(relabel=0.7, dynamics=numbers), filled()
    contexts, steps = agent.draw(replay, replay, np.random.default_rng(0))
    own, each = contexts.task_index.repeat_interleave(10), torch.arange(60) // 10
    numbers = torch.tensor(numbers or range(30))
    assert torch.equal(numbers[steps.task_index], numbers[own])
    others = (steps.task_index != own)[each < 4]
    assert bool(others.any()) == (len(set(numbers.tolist())) < 30)  # what tasks share is pooled
    assert torch.equal(steps.task_index[each >= 4], own[each >= 4])


def test_relabelled_contexts_and_their_transitions_are_paid_as_the_same_task():
    agent, replay = build(relabel=1.0), filled()
    contexts, steps = agent.draw(replay, replay, np.random.default_rng(0))
    goals = torch.tensor([[t.reward.parameters[f"goal_{c}_metres"] for c in "xy"] for t in TASKS])
    owed = -(contexts.reward_inputs[:, None] - goals[None, :, None]).norm(dim=-1) * contexts.reward_present[:, None]
    task = (owed - contexts.reward[:, None]).abs().amax(-1).argmin(1)
    torch.testing.assert_close(owed[torch.arange(6), task], contexts.reward, atol=1e-5, rtol=0)
    expected = -(steps.reward_inputs[:, 1] - goals[task].repeat_interleave(10, 0)).norm(dim=-1)
    torch.testing.assert_close(steps.reward[:, 1], expected, atol=1e-5, rtol=0)
    assert len(set(task.tolist())) > 1 and not steps.reward[steps.is_first].any()  # resets pay nothing


def test_relabelled_transitions_end_as_the_task_does_that_they_are_paid_as():
    agent, replay = build(relabel=0.7), filled()
    steps = agent.draw(replay, replay, np.random.default_rng(0))[1]
    assert not replay.transitions().terminal.any()  # none ended as it was played
    said, owed = steps.is_terminal[:, 1], steps.reward[:, 1] > -0.9
    assert torch.equal(said[:40], owed[:40]) and 0 < int(said.sum()) < 40
    assert owed[40:].any() and not said[40:].any()  # what is not relabelled ends as it did


def test_relabelled_transitions_end_where_the_environment_ended_them_by_no_rule_of_their_task():
    agent, replay = build(relabel=1.0), filled()
    for segment in replay.segments:
        last = segment.arrays["flags"] >> FLAGS.index("is_last") & 1
        segment.arrays["flags"] |= last << FLAGS.index("is_terminal")
    steps = agent.draw(replay, replay, np.random.default_rng(0))[1]
    last, owed = steps.is_last[:, 1], steps.reward[:, 1] > -0.9
    by_rule = ended(steps.task_index, steps.reward_inputs, steps.action)[:, 1]
    assert torch.equal(steps.is_terminal[:, 1], owed | (last & ~by_rule))
    assert (last & ~by_rule & ~owed).any() and (last & by_rule & ~owed).any()


def test_critics_may_learn_from_other_rewards_than_contexts_show():
    agent, replay = build(training=lambda k, x, a: 7.0 + 0.0 * x[..., 0], relabel=1.0), filled()
    contexts, steps = agent.draw(replay, replay, np.random.default_rng(0))
    assert torch.equal(steps.reward[:, 1], torch.full((60,), 7.0)) and contexts.reward.max() <= 0


def test_contexts_are_drawn_from_recent_trials_and_transitions_from_all(monkeypatch):
    agent, replay, seen = build(recent=2, relabel=1.0), filled(), []
    draw = agent.draw
    monkeypatch.setattr(agent, "draw", lambda *given: seen.append((given[1], draw(*given)[1])) or draw(*given))
    agent.update(replay, Streams(0))
    recent, steps = seen[0]
    assert [e.number for e in recent.episodes] == [12, 13, 14, 15]
    assert set(steps.task_index.tolist()) > {6, 7}


def test_beliefs_of_every_length_are_drawn_none_of_them_from_padding():
    agent, trials = build(), filled(trials=2).trials(None, 2)
    valid = trials.valid.clone()
    valid[1, 3:] = False
    time = torch.arange(valid.shape[1]).float()[None, :, None].expand(2, -1, 1)
    row = torch.tensor([0.0, 100.0])[:, None, None]
    some = agent._some(Evidence(row + time, time), replace(trials, valid=valid), 400, torch.Generator().manual_seed(0))
    assert set(some.weighted[:200, 0].tolist()) == set(range(12))
    assert set(some.weighted[200:, 0].tolist()) == {100, 101, 102}


def test_the_critics_error_alone_teaches_the_context_encoder():
    agent, replay = build(reward_weight=0.0, divergence_weight=0.0), filled()
    before = {name: x.clone() for name, x in agent.critic.state_dict().items()}
    contexts, steps = agent.draw(replay, replay, np.random.default_rng(0))
    agent.learn(contexts, steps, Streams(0))
    moved = {name for name, x in agent.critic.state_dict().items() if not torch.equal(x, before[name])}
    assert {f"context.net.{k}.weight" for k in (0, 2, 4)} <= moved
    assert not {name for name in moved if name.startswith("rewards")}  # which the critics' error does not reach


def test_rewards_of_the_frames_that_are_asked_for_are_guessed():
    agent, trials = build(), filled(trials=2).trials(None, 2)
    critic, z = agent.critic, torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0))
    frame = torch.randint(12, (2, 12, 2), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        seen = critic.encoder(trials)
        errors = critic.reward_errors(z, seen, trials, frame)
        for b, t, k in ((0, 0, 0), (1, 7, 1), (1, 11, 0)):
            j = frame[b, t, k]
            guess = critic.rewards(torch.cat([seen[b, j], z[b, t], trials.action[b, j]]))
            assert float(errors[b, t, k]) == pytest.approx(float((guess - trials.reward[b, j]).square()), rel=1e-4)


def test_it_learns_what_the_task_is():
    """Rewards of a trial's frames are guessed from z; not from that of another trial."""
    agent = build(first_updates=200, learning_rate=5e-3, reward_weight=1.0, divergence_weight=1e-3, reward_frames=2,
                  batch_size=16, transitions=16)  # fmt: skip
    agent.update(filled(trials=30), Streams(0))
    trials = filled(trials=30, first=7).trials(None, 2)
    with torch.no_grad():
        seen = agent.critic.encoder(trials)
        z, _ = agent.critic.evidence(seen, trials).posterior()
        frame = torch.arange(1, STEPS + 1).expand(30, 12, -1)
        own, others = (agent.critic.reward_errors(x, seen, trials, frame).mean((0, 2)) for x in (z, z.roll(1, 0)))
    assert own[-1] < 0.5 and own[-1] < 0.5 * own[0] and own[-1] < 0.3 * others[-1]
