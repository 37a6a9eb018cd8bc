"""What `update` of an agent on a latent state model does: how often each stage learns, how fast, on what."""

import dataclasses

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.algorithms.sac import SAC, SACConfig
from meta_latent.data.collect import Noise, NoiseConfig, play, play_episode
from meta_latent.data.latents import LatentCache
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.data.source import SourceData
from meta_latent.models.config import CoreConfig, EncoderConfig, EnsembleConfig, ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import LearnerConfig, ModelLearner
from meta_latent.policies.latent_agent import AdaptationConfig, LatentParts
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Spec, Step

STEPS = 5
SUITE = task_suites.get("toy/counting", episode_steps=STEPS, image_size=8)
SPEC = Spec.of(SUITE)
MODEL = ModelConfig(
    EncoderConfig(channels=(4,), keypoints=2), CoreConfig(memory=3, hidden=4), EnsembleConfig(2, 8, 1), head_hidden=8
)
LEARNER = LearnerConfig(batch_size=5, length=3, transition_batch_size=7, horizon=2)
NOTHING = AdaptationConfig(transition=0.0)


def make(adaptation=NOTHING, source=None, **more):
    """A SAC agent that hardly learns by itself, as an agent like any other."""
    config = SACConfig(hidden=4, batch_size=4, steps=1,
                       **{"first_updates": 0, "updates_per_step": 0.0, **more})  # fmt: skip
    with seeded_construction(0):
        model = LatentStateModel(SPEC, MODEL)
        return SAC(config, LatentParts(model, ModelLearner(model, LEARNER), adaptation, LatentCache(), source))


def grow(replay, episodes=1, number=0):
    """Add episodes whose pictures and proprioception say `number`, `number` + 1, ..."""
    rows = SUITE.make_vector(SUITE.sample("train", 1, 0))
    for k in range(number, number + episodes):
        replay.add_episode(play_episode(rows, Noise(2, NoiseConfig()), k, Streams(k)))
    return replay


def empty():
    return SequenceReplay(SPEC, ReplayConfig(), heads=2)


@pytest.fixture
def calls(monkeypatch):
    """What the learner is asked for: (stage, batch) in order."""
    seen = []
    for stage in ("calibrate", "joint", "transition"):
        real = getattr(ModelLearner, stage)

        def spy(self, batch, *rest, stage=stage, real=real, **more):
            seen.append((stage, batch))
            return real(self, batch, *rest, **more)

        monkeypatch.setattr(ModelLearner, stage, spy)
    return seen


def count(calls, stage):
    return sum(name == stage for name, _ in calls)


@pytest.mark.parametrize("stage", ["joint", "transition", "improve"])
def test_fractions_of_updates_are_carried_over(calls, stage):
    """0.3 updates per step and 5 steps each time: 1.5, 3, 4.5 and 6 updates are due."""
    if stage == "improve":
        agent = make(updates_per_step=0.3)
    else:
        agent = make(AdaptationConfig(**{"transition": 0.0, stage: 0.3}))
    replay, streams, done = empty(), Streams(0), []
    for _ in range(4):
        agent.update(grow(replay), streams)
        done.append(agent.updates if stage == "improve" else count(calls, stage))
    assert done == [1, 3, 4, 6]


@pytest.mark.parametrize("wanted", [True, False])
def test_embeddings_are_standardised_after_the_first_joint_updates_where_the_model_says_so(wanted):
    encoder = EncoderConfig(kind="conv", channels=(4,), embedding=3, standardise=wanted)
    with seeded_construction(0):
        model = LatentStateModel(SPEC, dataclasses.replace(MODEL, encoder=encoder))
        parts = LatentParts(model, ModelLearner(model, LEARNER), AdaptationConfig(first_joint=5), LatentCache())
        agent = SAC(SACConfig(hidden=4, batch_size=4, steps=1, first_updates=0, updates_per_step=0.0), parts)
    agent.update(grow(empty(), episodes=3), Streams(0))
    spread = agent.cache.flat()[0].std(0)
    assert bool((spread > 0.3).all()) == wanted and bool((spread < 0.1).any()) != wanted


def test_updates_are_owed_under_any_name_each_with_its_own_fraction():
    agent, other = make(), make()
    assert [agent.due("mine", 0.5, 3), agent.due("yours", 0.25, 2)] == [1, 0]
    other.load_state(agent.state())
    assert [other.due("mine", 0.5, 1), other.due("yours", 0.25, 2)] == [1, 1]


def test_the_rate_counts_all_steps_that_came_since_the_last_update(calls):
    agent, replay, streams = make(AdaptationConfig(transition=0.2)), empty(), Streams(0)
    agent.update(grow(replay, 3), streams)
    agent.update(replay, streams)  # nothing new
    assert count(calls, "transition") == 3
    agent.update(grow(replay, 2), streams)
    assert count(calls, "transition") == 5


def test_the_first_update_begins_with_calibration_and_updates_of_its_own(calls):
    adaptation = AdaptationConfig(joint=0.2, transition=0.2, first_joint=2, first_transition=3)
    agent, replay, streams = make(adaptation, first_updates=4, updates_per_step=0.2), empty(), Streams(0)
    agent.update(grow(replay), streams)
    assert [name for name, _ in calls] == ["calibrate"] + ["joint"] * 3 + ["transition"] * 4
    assert agent.updates == 5
    calls.clear()
    agent.update(grow(replay), streams)
    assert [name for name, _ in calls] == ["joint", "transition"] and agent.updates == 6


@pytest.mark.parametrize(("joint", "is_new"), [(0.01, True), (0.01, False), (0.0, True)])
def test_a_new_encoder_is_calibrated_without_first_updates_too_whether_it_learns_or_not(calls, joint, is_new):
    agent, replay, streams = make(AdaptationConfig(joint=joint, transition=0.0)), empty(), Streams(0)
    agent.learner.new_encoder = is_new
    for _ in range(2):
        agent.update(grow(replay), streams)
    assert [name for name, _ in calls] == ["calibrate"] * is_new


def test_the_scales_of_a_new_model_are_found_where_its_encoder_never_learns(monkeypatch):
    monkeypatch.setattr(f"{__name__}.MODEL", dataclasses.replace(MODEL, normalise_proprio=True, normalise_rewards=True))
    agent = make(AdaptationConfig(joint=0.0, transition=0.2))
    agent.update(grow(empty()), Streams(0))
    assert agent.model.proprio.fitted and agent.model.rewards.fitted


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_transition_heads_learn_at_a_rate_of_their_own(scale):
    agent = make(AdaptationConfig(joint=0.2, transition=0.2, transition_scale=scale))
    agent.update(grow(empty()), Streams(0))
    rates = {name: o.param_groups[0]["lr"] for name, o in agent.learner.optimisers.items() if o.state}
    rate = LEARNER.learning_rate
    assert rates == {"joint": pytest.approx(rate), "transition": pytest.approx(scale * rate)}


def test_latents_are_those_of_the_model_that_has_just_learned():
    agent, replay, streams = make(AdaptationConfig(joint=0.2, transition=0.0)), empty(), Streams(0)
    stale = LatentCache()
    for _ in range(2):
        stale.clear()
        stale.extend(agent.model, grow(replay))
        agent.update(replay, streams)
    fresh = LatentCache()
    fresh.extend(agent.model, replay)
    for mine, new, old in zip(agent.cache.flat()[:2], fresh.flat()[:2], stale.flat()[:2], strict=True):
        assert torch.equal(mine, new) and not torch.equal(mine, old)


def test_half_of_every_batch_is_source_data_also_where_it_cannot_be(calls):
    """Batches of 5 and 7; the source's episodes have numbers from 100 on."""
    agent = make(AdaptationConfig(joint=0.4, transition=0.4), SourceData(grow(empty(), 4, 100), 4))
    agent.update(grow(empty(), 4), Streams(0))
    assert count(calls, "joint") == count(calls, "transition") == 8
    assert calls.pop(0)[0] == "calibrate"
    for stage, batch in calls:
        episode = (batch.proprio[:, 0] if stage == "joint" else batch.samples[:, 0, -4:])[:, 1]
        theirs = episode >= 100
        assert [int((~theirs).sum()), int(theirs.sum())] == ([2, 3] if stage == "joint" else [3, 4])
        if stage == "joint":
            assert not batch.reward[theirs].any() and not batch.reward_present[theirs].any()
            assert batch.reward_present[~theirs].any()


def test_exploring_draws_from_the_policy_and_evaluating_takes_the_mean_of_its_average():
    agent, replay = make(updates_per_step=1.0, learning_rate=0.1), grow(empty())
    agent.update(replay, Streams(0))
    found = replay.sequences(2, 1, np.random.default_rng(0))
    now = {field.name: getattr(found, field.name) for field in dataclasses.fields(Step)}
    images = {camera: x[:, 0] for camera, x in now.pop("images").items()}
    step = Step(images, **{name: x[:, 0] for name, x in now.items() if x is not None and x.ndim > 1})
    features = agent.features(agent.model.observe(agent.begin_task(2), step))
    evaluated, _ = agent.act(step, agent.begin_task(2), Streams(1), explore=False)
    torch.testing.assert_close(evaluated, agent.average_actor.mean_action(features))
    assert not torch.allclose(evaluated, agent.actor.mean_action(features), atol=1e-3)
    a, b, c = (agent.act(step, agent.begin_task(2), Streams(seed), explore=True)[0] for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.allclose(a, c) and not torch.allclose(a, evaluated)


def test_acting_remembers_an_episode_and_not_the_ones_before_it():
    """As the cached latents that are learned from: also in trials of several episodes."""
    agent, rows = make(), SUITE.make_vector(SUITE.sample("train", 1, 0))
    seen, observe = [], agent.model.observe

    def spy(*arguments):
        seen.append(observe(*arguments))
        return seen[-1]

    agent.model.observe = spy
    played = play(rows, agent, np.array([[3, 4]]), Streams(0), explore=True, keep=True)
    replay = empty()
    for episode in played.episodes[0]:
        replay.add_episode(episode)
    agent.cache.extend(agent.model, replay)
    acted = torch.cat([latent.memory for latent in seen])  # an inner episode's last observation among them
    torch.testing.assert_close(acted, agent.cache.flat()[1][: len(acted)])
    assert len(acted) == 2 * (STEPS + 1) - 1
