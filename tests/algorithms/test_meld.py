"""MELD: whose belief survives what, what the critics learn from, what is relabelled; and that it learns."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.algorithms.meld import MELD, MELDConfig
from meta_latent.algorithms.registry import Functions, Setting
from meta_latent.data.collect import Noise, NoiseConfig, Shown, play
from meta_latent.data.latents import LatentCache, embed_episode
from meta_latent.data.replay import FLAGS, ReplayConfig, SequenceReplay
from meta_latent.data.source import SourceData
from meta_latent.errors import UserError
from meta_latent.models.config import CoreConfig, EncoderConfig, EnsembleConfig, ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import LearnerConfig, ModelLearner
from meta_latent.policies.latent_agent import AdaptationConfig, LatentParts
from meta_latent.rng import Streams, derive, seeded_construction
from meta_latent.types import Averages, Spec

STEPS, EPISODES = 4, 2
SUITE = task_suites.get("toy/hidden_goal", goals="ring", reward="dense", episode_steps=STEPS, image_size=8)
TASKS, SPEC = SUITE.sample("train", 5, 0), Spec.of(SUITE)


def paid(task_index, inputs, action):
    """The rewards of TASKS, by the suite's own function."""
    rows = [SUITE.reward(TASKS[int(k)], inputs[b], action[b]) for b, k in enumerate(task_index)]
    return torch.stack(rows)


def never(task_index, inputs, action):
    """No episode ends for good."""
    return torch.zeros(inputs.shape[:-1], dtype=torch.bool)


def build(adaptation=None, model=None, reads_rewards=True, remembers_trials=True, rewards=None, training=None, seed=0,
          source=None, **config):  # fmt: skip
    made = model
    if not isinstance(model, ModelConfig):
        made = ModelConfig(EncoderConfig("conv", channels=(4,), embedding=5), CoreConfig("deterministic", 6, 4),
                           EnsembleConfig(1, 8, 1), head_hidden=16, **(model or {}))  # fmt: skip
    adaptation = adaptation or AdaptationConfig(transition=0.0, filter=0.2, first_joint=2)

    def parts():
        latent_model = LatentStateModel(SPEC, made)
        return LatentParts(latent_model, ModelLearner(latent_model, LearnerConfig()), adaptation, LatentCache(),
                           None if source is None else SourceData(source, 1), rewards=rewards)  # fmt: skip

    start = "scratch" if source is None else "scratch+data"
    setting = Setting(SPEC, start, "cpu", 0, len(TASKS), torch.zeros(len(TASKS), 0), STEPS, EPISODES, 1000,
                      Functions(paid, never, False, training), parts, reward_input=made.reward_input)  # fmt: skip
    small = {"hidden": 8, "batch_size": 6, "pixel_batch_size": 3, "transitions": 64, "steps_per_round": 16} | config
    with seeded_construction(derive(seed, "agent")):
        return MELD(MELDConfig(**small), setting, reads_rewards, remembers_trials)


def filled(actor=None, trials=10, episodes=EPISODES, first=0):
    """Episodes from seed `first` on; from 100 on they are stored as those of other tasks, who pay something else."""
    replay, seeds = SequenceReplay(SPEC, ReplayConfig()), np.arange(trials * episodes).reshape(trials, episodes) + first
    which = [k % len(TASKS) for k in range(trials)]
    rows = SUITE.make_vector([TASKS[k] for k in which])
    found = play(rows, actor or Noise(2, NoiseConfig()), seeds, Streams(1), explore=True,
                 shown=Shown({"reward"}), keep=True)  # fmt: skip
    for k, trial in zip(which, found.episodes, strict=True):
        for episode in trial:
            replay.add_episode(episode | {"reward": 0 * episode["reward"]} if first else episode, None, k + first)
    return replay


class Watched:
    """An agent whose beliefs are kept, one per observation that it was shown."""

    def __init__(self, agent):
        self.agent, self.beliefs = agent, []

    def begin_task(self, batch_size):
        return self.agent.begin_task(batch_size)

    def act(self, step, carry, rng, explore):
        action, carry = self.agent.act(step, carry, rng, explore)
        self.beliefs.append(carry)
        return action, carry


# The belief


@pytest.mark.parametrize("remembers_trials", [True, False])
def test_beliefs_while_acting_are_those_that_are_learned_from(remembers_trials):
    agent = build(remembers_trials=remembers_trials, relabel=0.0)
    watched = Watched(agent)
    replay = filled(watched, trials=3)
    acted = torch.stack([belief.memory for belief in watched.beliefs], 1)
    batch = replay.trials(None, EPISODES)
    shown = agent.shown(batch)
    pieces = [slice(0, None)] if remembers_trials else [slice(0, STEPS + 1), slice(STEPS + 1, None)]
    parts = []
    for piece in pieces:
        images = {c: x[:, piece].flatten(0, 1) for c, x in batch.images.items()}
        embeddings = agent.model.embed(images, batch.proprio[:, piece].flatten(0, 1)).unflatten(0, (3, -1))
        parts.append(agent.model.filter(embeddings, shown.action[:, piece], shown.reward[:, piece],
                                        shown.reward_present[:, piece]).memory)  # fmt: skip
    torch.testing.assert_close(acted, torch.cat(parts, 1)[:, :-1])  # the very last observation needs no action


def test_a_belief_survives_an_episodes_end_unless_it_is_not_carried():
    for remembers in (True, False):
        agent = build(remembers_trials=remembers)
        step = replay_step(filled(trials=2))
        dirty = agent.begin_task(2).map(lambda x: x + 1.0)
        _, after = agent.act(step, dirty, Streams(0), False)
        _, fresh = agent.act(step, agent.begin_task(2), Streams(0), False)
        assert torch.equal(after.memory, fresh.memory) == (not remembers)
        _, cleared = agent.act(replace(step, is_task_first=torch.ones(2, dtype=torch.bool)), dirty, Streams(0), False)
        assert torch.equal(cleared.memory, fresh.memory)


def replay_step(replay):
    """The first observations of the second episodes of two trials, as a step."""
    batch, t = replay.trials(None, EPISODES), STEPS + 1
    assert batch.is_first[:, t].all() and not batch.is_task_first[:, t].any()
    return replace(batch, **{
        name: {c: x[:, t] for c, x in value.items()} if isinstance(value, dict) else value[:, t]
        for name, value in vars(batch).items()
        if value is not None and name not in ("task_index", "head_mask", "frames", "valid")})  # fmt: skip


def test_slac_is_blind_to_rewards_and_meld_is_not():
    batch = filled(trials=2).trials(None, EPISODES)
    other = replace(batch, reward=batch.reward + batch.reward_present)
    for reads in (True, False):
        agent = build(reads_rewards=reads)
        beliefs = []
        for trials in (batch, other):
            shown = agent.shown(trials)
            embeddings = torch.zeros(2, batch.reward.shape[1], 5)
            beliefs.append(agent.model.filter(embeddings, shown.action, shown.reward, shown.reward_present).memory)
        assert torch.equal(*beliefs) == (not reads)


def test_a_model_that_never_read_rewards_is_refused():
    with pytest.raises(UserError, match=r"model.reward_input=true"):
        build(model={"reward_input": False})
    build(model={"reward_input": False}, reads_rewards=False)


def test_rewards_of_another_scale_are_warned_about_with_the_numbers():
    with pytest.warns(UserWarning, match=r"100 % of the first rewards .* not 10 to 12"):
        build(rewards=(10.0, 12.0)).update(filled(), Streams(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(rewards=(-1.5, 0.0)).update(filled(), Streams(0))
        build(rewards=(10.0, 12.0), reads_rewards=False).update(filled(), Streams(0))


# Learning


def test_the_policy_learns_and_the_model_does_not_from_it():
    agent, replay, rng = build(relabel=0.0), filled(), Streams(0)
    before = {k: v.clone() for k, v in agent.model.state_dict().items()}
    policy = [p.clone() for p in agent.actor.parameters()]
    trials, belief = agent.infer("", replay, rng, Averages())
    agent.improve(trials, belief, rng, Averages())
    assert all(torch.equal(v, before[k]) for k, v in agent.model.state_dict().items())
    assert any(not torch.equal(p, q) for p, q in zip(policy, agent.actor.parameters(), strict=True))


def test_critics_learn_from_the_reward_that_the_action_led_to_and_from_no_reset():
    """The targets with no value of what comes: exactly the rewards of transitions, and never that of a reset."""
    config = {"relabel": 0.0, "discount": 0.0, "transitions": 2000, "temperature": 1e-6, "reward_scale": 2.0}
    agent, replay, rng = build(**config), filled(), Streams(0)
    trials, belief = agent.infer("", replay, rng, Averages())
    told = torch.where(trials.is_first, 1e6, torch.arange(trials.reward.shape[1]).float())
    marked, seen = replace(trials, reward=told), []
    agent.soft = replace(
        agent.soft, critic=lambda features, action: torch.zeros(len(features), 2, requires_grad=True),
        step=lambda name, loss, clip: seen.append((name, float(loss.detach()))) or 0.0)  # fmt: skip
    agent.improve(marked, belief, rng, Averages())
    places = [t for t in range(2 * STEPS + 2) if t not in (0, STEPS + 1)]
    assert dict(seen)["critic"] == pytest.approx(4 * np.mean(np.square(places)), rel=0.1)


def test_every_part_of_a_transition_stands_where_it_belongs():
    """Frames that tell their place: features before and after, action, reward and end of the same step."""
    agent, rng, seen = build(relabel=0.0, reward_scale=2.0), Streams(0), []
    trials, belief = agent.infer("", filled(), rng, Averages())
    size, length = trials.reward.shape
    place = torch.arange(size * length, dtype=torch.float32).view(size, length)
    trials = replace(trials, reward=place, action=place[..., None].expand(-1, -1, 2), is_terminal=place % 3 == 0)
    agent.features = lambda belief: place[..., None]
    agent.soft = SimpleNamespace(update=lambda batch, draws: seen.append(batch) or {})
    agent.improve(trials, belief, rng, Averages())
    (batch,) = seen
    reached = batch.after[:, 0]
    assert torch.equal(batch.now[:, 0], reached - 1) and torch.equal(batch.target_after, batch.after)
    assert torch.equal(batch.action, reached[:, None].expand(-1, 2)) and torch.equal(batch.reward, 2 * reached)
    assert torch.equal(batch.alive, reached % 3 != 0) and not (reached % (STEPS + 1) == 0).any()


def test_weights_and_sizes_are_those_of_the_settings():
    agent = build(reward_weight=3.0, counterfactual_weight=5.0, counterfactual_frames=7, target_entropy=-1.5,
                  batch_size=6, pixel_batch_size=2)  # fmt: skip
    assert agent.temperature.target == -3.0  # of two action values
    weights, model = agent.weights, agent.model.config.loss
    assert (weights.reward, weights.counterfactual, weights.counterfactual_frames) == (3.0, 5.0, 7)
    assert replace(weights, reward=model.reward, counterfactual=model.counterfactual,
                   counterfactual_frames=model.counterfactual_frames) == model  # fmt: skip
    for pixels, count in ((False, 6), (True, 2)):
        trials, _ = agent.draw(filled(), Streams(0), pixels)
        assert len(trials.reward) == count and bool(trials.images) == pixels


def test_averages_follow_at_their_rates():
    agent, replay, rng = build(target_rate=0.25, average_rate=0.5), filled(), Streams(0)
    pairs = ((agent.target_critic, agent.critic, 0.25), (agent.average_actor, agent.actor, 0.5))
    before = [[p.clone() for p in slow.parameters()] for slow, _, _ in pairs]
    agent.improve(*agent.infer("", replay, rng, Averages()), rng, Averages())
    for old, (slow, fast, rate) in zip(before, pairs, strict=True):
        for was, now, source in zip(old, slow.parameters(), fast.parameters(), strict=True):
            torch.testing.assert_close(now, was.lerp(source, rate))
        assert any(not torch.equal(was, now) for was, now in zip(old, slow.parameters(), strict=True))


def test_the_policy_reads_the_beliefs_parameters_and_not_its_sample():
    agent = build(model=ModelConfig(EncoderConfig("conv", channels=(4,), embedding=5), CoreConfig("rssm", 6, 4),
                                    EnsembleConfig(1, 8, 1), head_hidden=16))  # fmt: skip
    belief = agent.begin_task(3)
    for name, read in (("sample", False), ("mean", True), ("stddev", True), ("memory", True)):
        other = replace(belief, **{name: getattr(belief, name) + 1.0})
        assert torch.equal(agent.features(other), agent.features(belief)) == (not read), name


@pytest.mark.parametrize(("terminal", "worth"), [(True, 0.0), (False, 5.0)])
def test_nothing_is_worth_anything_after_a_terminal_state(terminal, worth):
    agent, replay, rng, seen = build(relabel=0.0, discount=0.5, temperature=1e-9), filled(), Streams(0), []
    trials, belief = agent.infer("", replay, rng, Averages())
    trials = replace(trials, reward=trials.reward * 0, is_terminal=torch.full_like(trials.is_terminal, terminal))
    agent.soft = replace(
        agent.soft, critic=lambda features, action: torch.zeros(len(features), 2, requires_grad=True),
        target_critic=lambda features, action: torch.full((len(features), 2), 10.0),
        step=lambda name, loss, clip: seen.append((name, float(loss.detach()))) or 0.0)  # fmt: skip
    agent.improve(trials, belief, rng, Averages())
    assert dict(seen)["critic"] == pytest.approx(worth**2, abs=1e-4)


@pytest.mark.parametrize("how", ["as played", "recombined", "single episodes"])
def test_trials_are_replayed_as_played_recombined_or_episode_by_episode(how):
    agent = build(remembers_trials=how != "single episodes", recombine=how == "recombined", batch_size=300)
    trials, _ = agent.draw(filled(), Streams(0), pixels=False)
    places = trials.frames[:, :: STEPS + 1] // (STEPS + 1)  # numbers of the episodes
    if how == "single episodes":
        assert trials.reward.shape[1] == STEPS + 1 and set(places.flatten().tolist()) == set(range(20))
    else:
        following = (places[:, 1] == places[:, 0] + 1) & (places[:, 0] % 2 == 0)
        assert following.all() == (how == "as played")


def test_embeddings_get_their_scale_once_the_encoder_has_begun():
    made = ModelConfig(EncoderConfig("conv", channels=(4,), embedding=5, standardise=True),
                       CoreConfig("deterministic", 6, 4), EnsembleConfig(1, 8, 1), head_hidden=16)  # fmt: skip
    agent, replay, rng = build(model=made), filled(), Streams(0)
    agent.update(replay, rng)
    agent.infer("", replay, rng, Averages())
    assert (agent.seen.flat()[0].std(0) - 1).abs().max() < 0.3


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_relabelled_trials_are_paid_as_a_training_task_pays(share):
    agent, rng = build(relabel=share, batch_size=40), Streams(0)
    trials, _ = agent.draw(filled(), rng, pixels=False)
    own = paid(trials.task_index, trials.reward_inputs, trials.action) * trials.reward_present
    if not share:
        torch.testing.assert_close(trials.reward, own)
        return
    every = torch.stack([paid([k] * 40, trials.reward_inputs, trials.action) for k in range(len(TASKS))])
    apart = ((every * trials.reward_present - trials.reward).abs().amax(-1) < 1e-5).float()
    assert (apart.sum(0) == 1).all()  # each as one task, all the way
    assert (apart.sum(1) > 0).all()  # and all tasks come up
    assert (trials.reward * (1 - trials.reward_present) == 0).all()


def test_relabelled_trials_end_where_the_other_task_ends():
    """The end that was met belongs to the task that was played, as its rewards do."""
    agent = build(relabel=1.0, batch_size=40)
    ended = lambda task_index, inputs, action: paid(task_index, inputs, action) > -0.5  # noqa: E731
    agent.functions = replace(agent.functions, terminated=ended)
    trials, _ = agent.draw(filled(), Streams(0), pixels=False)
    arrives = trials.reward_present > 0
    assert torch.equal(trials.is_terminal[arrives], trials.reward[arrives] > -0.5)
    assert trials.is_terminal[arrives].any() and not trials.is_terminal[arrives].all()


def test_relabelled_trials_end_where_the_environment_ended_them_by_no_rule_of_their_task():
    """A body that has fallen has fallen in every task."""
    agent, replay = build(relabel=1.0, batch_size=40), filled()
    for segment in replay.segments:
        last = segment.arrays["flags"] >> FLAGS.index("is_last") & 1
        segment.arrays["flags"] |= last << FLAGS.index("is_terminal")
    trials, _ = agent.draw(replay, Streams(0), pixels=False)
    assert torch.equal(trials.is_terminal, trials.is_last) and trials.is_last.sum() == 80
    ended = lambda task_index, inputs, action: paid(task_index, inputs, action) > -0.5  # noqa: E731
    for more in ({}, {"source": filled(trials=10, first=100)}):  # tasks of sources have rules that are not known
        agent = build(relabel=1.0, batch_size=40, **more)
        agent.functions = replace(agent.functions, terminated=ended)
        trials, _ = agent.draw(replay, Streams(0), pixels=False)
        arrives, mine = trials.reward_present > 0, trials.task_index < len(TASKS)
        own, anyway = (trials.task_index[mine], trials.reward_inputs[mine], trials.action[mine]), arrives & False
        anyway[mine] = trials.is_last[mine] & ~ended(*own)
        owed = (trials.reward > -0.5) | anyway
        assert torch.equal(trials.is_terminal[arrives], owed[arrives])
        assert (anyway & (trials.reward <= -0.5)).any() and (trials.is_last[mine] & ~trials.is_terminal[mine]).any()


# Source data


@pytest.mark.parametrize("pixels", [False, True])
def test_half_of_every_batch_are_source_episodes_paid_as_a_training_task_pays(pixels):
    source = filled(trials=10, episodes=1, first=100)  # no two of one task follow each other
    agent, own = build(source=source, relabel=0.0, batch_size=40, pixel_batch_size=40), filled()
    trials, shown = agent.draw(own, Streams(0), pixels)
    mine, played = trials.task_index < len(TASKS), {}
    assert mine.tolist() == [True] * 20 + [False] * 20
    every = torch.stack([paid([k] * 40, trials.reward_inputs, trials.action) for k in range(len(TASKS))])
    as_task = (every * trials.reward_present - trials.reward).abs().amax(-1) < 1e-5
    assert (as_task.sum(0) == 1).all() and (as_task[:, 20:].sum(1) > 0).all()  # each as one task, and all come up
    assert torch.equal(as_task.int().argmax(0)[:20], trials.task_index[:20])  # nothing was relabelled of its own
    assert torch.equal(shown.reward, trials.reward)
    for name, replay in (("own", own), ("source", source)):
        arrays = [replay.read(i) for i in range(len(replay.episodes))]
        played[name] = {bytes(e["reward_inputs"]) for e in arrays}
    for row, trial in enumerate(trials.reward_inputs.numpy()):
        assert bytes(trial[: STEPS + 1].copy()) in played["own" if row < 20 else "source"]


@pytest.mark.parametrize("small", [{"batch_size": 1}, {"pixel_batch_size": 1}])
def test_batches_of_which_no_half_can_be_source_episodes_are_refused(small):
    build(**small)
    with pytest.raises(UserError, match="batch_size and pixel_batch_size have to be 2 or more"):
        build(source=filled(trials=5, first=100), **small)


def test_source_embeddings_are_those_of_source_frames():
    agent, own = build(source=filled(trials=5, first=100), batch_size=12), filled()
    trials, _ = agent.draw(own, Streams(0), pixels=False)
    found = agent._embeddings(trials, own)
    for replay, rows in ((own, range(6)), (agent.source.replay, range(6, 12))):
        wanted = torch.cat([embed_episode(agent.model, replay, replay.read(i)) for i in range(len(replay.episodes))])
        for row in rows:
            torch.testing.assert_close(found[row], wanted[trials.frames[row]])
    agent._forget_embeddings()
    assert agent.seen.episodes == agent.source_seen.episodes == 0


@pytest.mark.parametrize(("source", "updates"), [(True, 12), (False, 5)])
def test_source_data_are_worth_updates_before_the_first_step_of_the_policy(source, updates):
    agent = build(AdaptationConfig(transition=0.0), source=filled(trials=5) if source else None, first_updates=5,
                  source_updates=7)  # fmt: skip
    agent.update(filled(), Streams(0))
    assert agent.updates == updates


def test_the_scale_of_rewards_is_that_of_those_that_are_learned_from():
    """Dense rewards on the scale of sparse ones would all be clipped to one value."""
    agent = build(model={"normalise_rewards": True}, training=lambda *step: 1000 * paid(*step))
    agent.update(filled(), Streams(0))
    trials, _ = agent.draw(filled(), Streams(0), pixels=False)
    scaled = agent.model.scaled(trials.reward)[trials.reward_present > 0]
    assert scaled.abs().max() < agent.model.rewards.LIMIT and 0.5 < scaled.std() < 2


def test_it_tells_nothing_of_test_rewards_that_it_does_not_learn():
    assert build(training=paid).inspect(filled(trials=4)) == {}


def test_where_training_rewards_are_others_the_memory_is_still_fed_those_that_are_shown():
    """The recipe for sparse tests: a dense reward teaches, of the same task as the sparse one that is seen."""
    agent = build(relabel=1.0, batch_size=40, training=lambda *step: 100 + paid(*step))
    trials, shown = agent.draw(filled(), Streams(0), pixels=False)
    arrives = trials.reward_present > 0
    torch.testing.assert_close(trials.reward[arrives], 100 + shown.reward[arrives])
    assert (trials.reward[~arrives] == 0).all()


@pytest.mark.parametrize(("joint", "first"), [(0.0, 0), (0.05, 0), (0.05, 2)])
def test_a_new_encoder_has_its_closed_forms_fitted_whether_it_learns_or_not(joint, first):
    """They come before the first update, whenever that is; a pretrained encoder keeps its own."""
    for is_new in (True, False):
        agent = build(AdaptationConfig(transition=0.0, joint=joint, first_joint=first),
                      model={"normalise_rewards": True})  # fmt: skip
        agent.learner.new_encoder = is_new
        seen = []
        agent.model.calibrate = lambda *given, seen=seen: seen.append(given)
        agent.update(filled(), Streams(0))
        assert bool(seen) == is_new and agent.model.rewards.fitted


@pytest.mark.parametrize("change", ["joint", "load"])
def test_embeddings_are_never_those_of_an_earlier_encoder(change):
    agent, replay, rng = build(), filled(), Streams(0)
    agent.infer("", replay, rng, Averages())
    if change == "joint":
        agent.infer("joint", replay, rng, Averages())
    else:
        other = build(seed=1)
        agent.load_state(other.state())
    agent.infer("", replay, rng, Averages())
    wanted = torch.cat([embed_episode(agent.model, replay, replay.read(i)) for i in range(len(replay.episodes))])
    torch.testing.assert_close(agent.seen.flat()[0], wanted)


@pytest.mark.parametrize("standardise", [True, False])
def test_what_the_policy_reads_has_one_scale_when_it_begins_to_learn(standardise):
    agent, replay, rng = build(first_updates=0, standardise=standardise), filled(trials=30), Streams(0)
    agent.update(replay, rng)
    trials, belief = agent.infer("", replay, rng, Averages())
    raw, features = (f(belief)[trials.valid] for f in (agent.parameters_of, agent.features))
    moving = raw.std(0) > 1e-3
    assert moving.any() and (raw.std(0)[moving] - 1).abs().max() > 0.5
    torch.testing.assert_close(features.std(0)[moving], torch.ones(int(moving.sum())) if standardise
                               else raw.std(0)[moving], atol=0.5 * standardise, rtol=0)  # fmt: skip


def test_stages_learn_as_often_as_the_adaptation_says(monkeypatch):
    adaptation = AdaptationConfig(joint=0.05, filter=0.2, transition=0.0, first_joint=2, first_filter=3)
    agent, replay, rng, seen = build(adaptation, updates_per_step=0.35, first_updates=4), filled(), Streams(0), []
    real = agent.infer
    monkeypatch.setattr(agent, "infer", lambda stage, *rest: seen.append(stage) or real(stage, *rest))
    agent.update(replay, rng)
    assert seen == ["joint"] * 2 + ["filter"] * 3 + [""] * 5 and agent.updates == 4  # one more for the scales
    seen.clear()
    for episode in range(5):  # 5 x 4 steps
        arrays = dict(replay.read(episode))
        replay.add_episode(arrays, None, int(arrays["task_index"]))
    agent.update(replay, rng)
    assert seen == ["joint"] + ["filter"] * 4 and agent.updates == 4 + 7


@pytest.mark.parametrize("remembers_trials", [True, False])
def test_looking_at_beliefs_sees_those_that_acted(remembers_trials):
    agent = build(remembers_trials=remembers_trials)
    watched = Watched(agent)
    batch = filled(watched, trials=3).trials(None, EPISODES)
    acted = torch.stack([belief.memory for belief in watched.beliefs], 1)
    torch.testing.assert_close(agent.beliefs(batch)[0].memory[:, :-1], acted)


def test_expected_rewards_are_those_of_the_reward_head_in_the_environments_units():
    agent = build(model={"normalise_rewards": True})
    agent.model.rewards.fit(torch.tensor([[1.0], [5.0]]))
    batch = filled(trials=3).trials(None, EPISODES)
    frames = replace(batch, images={c: x[:1] for c, x in batch.images.items()}, proprio=batch.proprio[:1],
                     action=batch.action[:1], reward=batch.reward[:1])  # fmt: skip
    found = agent.believed_rewards(batch, frames)
    belief, embeddings = agent.beliefs(batch)
    inputs = torch.cat([embeddings[0, 4], belief.memory[2, 5], batch.action[0, 4]], -1)
    wanted = agent.model.reward_head(inputs)[0] * agent.model.rewards.stddev[0] + agent.model.rewards.mean[0]
    torch.testing.assert_close(found[2, 5, 4], wanted.detach())
    assert found.shape == (3, 2 * STEPS + 2, 2 * STEPS + 2)


def test_what_it_says_of_held_out_trials_has_one_number_per_observation():
    agent = build()
    found = agent.inspect(filled(trials=4))
    assert set(found) == {"counterfactual_error", "belief_distance"}
    assert all(len(values) == EPISODES * (STEPS + 1) and np.isfinite(values).all() for values in found.values())
    assert found["belief_distance"][-1] == 0
