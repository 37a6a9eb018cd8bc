"""The loss on whole trials: what it masks, what it may know, and the rewards of other frames."""

import dataclasses

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, play
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.models import trials
from meta_latent.models.config import CoreConfig, EncoderConfig, EnsembleConfig, LossConfig, ModelConfig
from meta_latent.models.counterfactual import counterfactual_errors, counterfactual_term, masked
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import LearnerConfig, ModelLearner
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Spec

STEPS = 4
SUITE = task_suites.get("toy/hidden_goal", goals="ring", reward="dense", episode_steps=STEPS, image_size=8)
SPEC, TASKS = Spec.of(SUITE), SUITE.sample("train", 6, 0)
WEIGHTS = LossConfig(reward=2.0, counterfactual=3.0, counterfactual_frames=5)


def model(kind="rssm", **more):
    config = ModelConfig(EncoderConfig("conv", channels=(4,), embedding=5), CoreConfig(kind, 6, 4),
                         EnsembleConfig(2, 8, 1), head_hidden=16, **more)  # fmt: skip
    with seeded_construction(0):
        return LatentStateModel(SPEC, config)


@pytest.fixture(scope="module")
def batch():
    """Six trials of two episodes; the last two frames of the first trial are cut off, as if it had ended sooner."""
    replay = SequenceReplay(SPEC, ReplayConfig(), heads=2)
    seeds = np.arange(12).reshape(6, 2)
    played = play(SUITE.make_vector(TASKS), Noise(2, NoiseConfig()), seeds, Streams(0), explore=True, keep=True)
    for k, trial in enumerate(played.episodes):
        for episode in trial:
            replay.add_episode(episode, None, k)
    found = replay.trials(None, 2)
    valid = found.valid.clone()
    valid[0, -2:] = False
    return dataclasses.replace(found, valid=valid)


def rng():
    return torch.Generator().manual_seed(0)


def test_resets_and_padding_are_no_transitions(batch):
    moves = trials.follows(batch)
    assert moves.shape == (6, 2 * STEPS + 1)
    assert not moves[:, STEPS].any()  # from the first episode's last frame to the second one's first
    assert moves[1:].sum() == 5 * 2 * STEPS and moves[0].sum() == 2 * STEPS - 2


@pytest.mark.parametrize("kind", ["rssm", "deterministic", "sequential"])
def test_what_is_padded_counts_for_nothing(batch, kind):
    m = model(kind)
    valid = batch.valid
    other = dataclasses.replace(
        batch, reward=torch.where(valid, batch.reward, 1e3), action=torch.where(valid[..., None], batch.action, 7.0),
        images={c: x * valid[..., None, None, None] for c, x in batch.images.items()})  # fmt: skip
    terms, same = (trials.trial_loss(m, b, b, WEIGHTS, rng())[0] for b in (batch, other))
    assert {"reward", "counterfactual", "image", "divergence"} <= set(terms)
    for name, values in terms.items():
        torch.testing.assert_close(values.mean(), same[name].mean())


def test_the_terms_are_means_over_what_counts(batch):
    values, mask = torch.arange(12.0).view(3, 4), torch.arange(12).view(3, 4) % 3 == 0
    torch.testing.assert_close(masked(values, mask).mean(), values[mask].mean())
    m = model("deterministic")
    for p in m.reward_head[-1].parameters():
        p.data.zero_()
    terms, _ = trials.trial_loss(m, batch, batch, WEIGHTS, rng())
    paid = batch.reward[:, 1:][trials.follows(batch)]
    torch.testing.assert_close(terms["reward"].mean(), 2.0 * paid.square().mean())


def test_the_divergence_is_that_of_transitions_and_in_a_core_that_has_one_of_the_first_prior(batch):
    for kind, first in (("rssm", False), ("sequential", True)):
        terms, _ = trials.trial_loss(model(kind), batch, batch, WEIGHTS, rng())
        moves = trials.follows(batch)
        counts = torch.cat([torch.ones(6, 1, dtype=torch.bool), moves], 1) if first else moves
        assert terms["divergence"].shape == counts.shape
        assert (terms["divergence"][~counts] == 0).all() and (terms["divergence"][counts] > 0).all()


@pytest.mark.parametrize("kind", ["rssm", "deterministic", "sequential"])
def test_a_fed_reward_does_not_reach_its_own_prediction_and_does_reach_the_next(batch, kind):
    fed = batch.reward.clone().requires_grad_()
    terms, _ = trials.trial_loss(model(kind), batch, dataclasses.replace(batch, reward=fed), WEIGHTS, rng())
    (slope,) = torch.autograd.grad(terms["reward"][:, 2].sum(), fed)  # about the reward that arrives with frame 3
    assert slope[:, 2].abs().min() > 0 and (slope[:, 3:] == 0).all()


@pytest.mark.parametrize("kind", ["rssm", "deterministic", "sequential"])
def test_a_step_is_predicted_from_the_action_that_led_there(batch, kind):
    taken, m = batch.action.clone().requires_grad_(), model(kind, loss=LossConfig(free_nats=0.0))
    shown = dataclasses.replace(batch, action=batch.action)  # the memory's own way of actions is closed
    terms, _ = trials.trial_loss(m, dataclasses.replace(batch, action=taken), shown, WEIGHTS, rng())
    for name, place in (("reward", 2), ("divergence", 3 if kind == "sequential" else 2)):
        (slope,) = torch.autograd.grad(terms[name][:, place].sum(), taken, retain_graph=True)
        led = torch.arange(slope.shape[1]) == 3
        assert (slope[:, ~led] == 0).all() and slope[:, led].abs().amax(-1).min() > 0, name


@pytest.mark.parametrize("kind", ["rssm", "deterministic", "sequential"])
def test_a_trial_teaches_the_heads_that_may_learn_from_it(batch, kind):
    m, mask = model(kind, loss=LossConfig(free_nats=0.0)), torch.tensor([[False, True]]).expand(6, -1)
    terms, _ = trials.trial_loss(m, dataclasses.replace(batch, head_mask=mask), batch, WEIGHTS, rng())
    (slope,) = torch.autograd.grad(terms["divergence"].sum(), m.core.transitions.last.weight)
    assert (slope[0] == 0).all() and slope[1].abs().max() > 0


def test_the_memory_is_fed_what_is_shown_and_predicts_what_was_paid(batch):
    m, hidden = model("deterministic"), batch.without_rewards()
    terms, belief = trials.trial_loss(m, batch, hidden, WEIGHTS, rng())
    blind = m.filter(trials.embed(m, batch), batch.action, batch.reward, torch.zeros_like(batch.reward))
    torch.testing.assert_close(belief.memory, blind.memory)
    other, _ = trials.trial_loss(m, dataclasses.replace(batch, reward=batch.reward + 3.0), hidden, WEIGHTS, rng())
    assert not torch.allclose(other["reward"], terms["reward"])


def test_the_memory_runs_on_over_a_reset(batch):
    m = model("deterministic")
    belief = m.filter(trials.embed(m, batch), batch.action, batch.reward, batch.reward_present)
    alone = m.filter(trials.embed(m, batch)[:, STEPS + 1 :], batch.action[:, STEPS + 1 :], batch.reward[:, STEPS + 1 :],
                     batch.reward_present[:, STEPS + 1 :])  # fmt: skip
    assert (belief.memory[:, STEPS + 1] - alone.memory[:, 0]).abs().max() > 1e-3


def test_counterfactual_rewards_are_those_of_paid_frames_of_the_same_trial(batch):
    """A head that says 0, and rewards that tell where they stand: the mean is that over paid frames, whoever asks."""
    m = model("deterministic")
    for p in m.reward_head[-1].parameters():
        p.data.zero_()
    paid = (batch.reward_present > 0) & batch.valid
    told = torch.where(paid, 1.0 + torch.arange(6.0)[:, None].expand_as(batch.reward), 1e4)
    marked, memory = dataclasses.replace(batch, reward=told), torch.zeros(6, 2 * STEPS + 2, 6)
    found = counterfactual_term(m, memory, trials.embed(m, batch), marked, 3, rng())
    wanted = (1.0 + torch.arange(6.0)).square()[:, None].expand_as(found)
    torch.testing.assert_close(found[batch.valid], (wanted / batch.valid.float().mean())[batch.valid])
    assert (found[~batch.valid] == 0).all()


@pytest.mark.parametrize("told_by", ["embedding", "action"])
def test_another_frame_is_told_by_its_own_embedding_and_action(batch, monkeypatch, told_by):
    """Whoever reads its reward off either of them is right about every frame."""
    place = 1.0 + torch.arange(batch.reward.numel()).view_as(batch.reward)
    marked = dataclasses.replace(batch, reward=place, action=place[..., None].expand(-1, -1, 2))
    monkeypatch.setattr("meta_latent.models.counterfactual.reward_guess", lambda _, memory, embedding, action: {
        "embedding": embedding, "action": action}[told_by][..., 0])  # fmt: skip
    found = counterfactual_term(model(), torch.zeros(*place.shape, 6), place[..., None], marked, 3, rng())
    assert (found == 0).all()


def test_a_trial_in_which_nothing_was_paid_is_asked_nothing(batch):
    present = batch.reward_present.clone()
    present[2] = 0
    unpaid, m = dataclasses.replace(batch, reward_present=present), model()
    found = counterfactual_term(m, torch.zeros(*present.shape, 6), trials.embed(m, batch), unpaid, 3, rng())
    assert (found[2] == 0).all() and (found[3] > 0).all()


def test_frames_of_the_future_and_of_the_past_are_asked_for(batch):
    """Whatever is asked at the first instant, each paid frame comes up, and no other."""
    m, paid = model("deterministic"), (batch.reward_present > 0) & batch.valid
    for p in m.reward_head[-1].parameters():
        p.data.zero_()
    seen = []
    for place in range(batch.reward.shape[1]):
        one = torch.zeros_like(batch.reward)
        one[:, place] = 1.0
        found = counterfactual_term(m, torch.zeros(*one.shape, 6), trials.embed(m, batch),
                                    dataclasses.replace(batch, reward=one), 200, rng())  # fmt: skip
        seen.append(found[:, 0] > 0)
    assert torch.equal(torch.stack(seen, 1), paid)


def test_the_error_of_a_memory_that_knows_is_zero_and_of_one_that_knows_the_mean_is_one(batch, monkeypatch):
    m, whole = model("deterministic"), dataclasses.replace(batch, valid=torch.ones_like(batch.valid))
    embeddings, paid = trials.embed(m, whole), whole.reward_present > 0
    knows = torch.zeros(6, 2 * STEPS + 2, 6)
    knows[:, 3:, 0] = 1.0  # from the fourth instant on

    def guess(_, memory, embedding, action):
        mean = whole.reward[paid].mean()
        return torch.where(memory[..., 0] > 0, whole.reward, mean)

    monkeypatch.setattr("meta_latent.models.counterfactual.reward_guess", guess)
    error, distance = counterfactual_errors(m, knows, embeddings, whole)
    torch.testing.assert_close(error, (torch.arange(2 * STEPS + 2) < 3).float())
    torch.testing.assert_close(distance, (torch.arange(2 * STEPS + 2) < 3).float())


def test_rewards_that_are_all_the_same_count_in_their_own_unit(batch):
    m, same = model("deterministic"), dataclasses.replace(batch, reward=2 * batch.reward_present)
    for p in m.reward_head[-1].parameters():
        p.data.zero_()
    memory = torch.zeros(6, 2 * STEPS + 2, 6)
    error, distance = counterfactual_errors(m, memory, trials.embed(m, batch), same)
    assert torch.equal(error, torch.full_like(error, 4.0)) and (distance == 0).all()


def test_a_trial_that_is_over_counts_no_longer(batch, monkeypatch):
    """Its padding holds a memory that knows nothing, and its last belief stands before that."""
    m, paid = model("deterministic"), (batch.reward_present > 0) & batch.valid
    knows = batch.valid.float()[..., None].expand(-1, -1, 6)
    mean = batch.reward[paid].mean()
    monkeypatch.setattr("meta_latent.models.counterfactual.reward_guess",
                        lambda _, memory, *rest: torch.where(memory[..., 0] > 0, batch.reward, mean))  # fmt: skip
    for found in counterfactual_errors(m, knows, trials.embed(m, batch), batch):
        assert (found == 0).all()


@pytest.mark.parametrize("kind", ["rssm", "deterministic", "sequential"])
def test_one_batch_can_be_learned_by_heart(batch, kind):
    m = model(kind, normalise_rewards=True)
    learner, draws = ModelLearner(m, LearnerConfig(learning_rate=1e-2)), rng()
    learner.calibrate_rewards(batch)
    first = learner.trials(batch, batch, WEIGHTS, draws)[0]
    for _ in range(150):
        last = learner.trials(batch, batch, WEIGHTS, draws)[0]
    assert last["counterfactual"] < 0.3 * first["counterfactual"] and last["reward"] < 0.3 * first["reward"]
    assert last["image"] < first["image"]


def test_pictures_teach_encoder_and_decoder(batch):
    m = model()
    terms, _ = trials.trial_loss(m, batch, batch, WEIGHTS, rng())
    for part in (m.encoders, m.decoders):
        slopes = torch.autograd.grad(terms["image"].sum(), list(part.parameters()), retain_graph=True)
        assert all(slope.abs().max() > 0 for slope in slopes)


def test_with_cached_embeddings_encoder_and_decoder_stay_as_they_are(batch):
    m = model()
    before = {k: v.clone() for k, v in m.state_dict().items()}
    learner = ModelLearner(m, LearnerConfig())
    measured, belief = learner.trials(batch, batch, WEIGHTS, rng(), trials.embed(m, batch).detach())
    moved = {k.split(".")[0] for k, v in m.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"core", "reward_head"} and "image" not in measured
    assert not belief.memory.requires_grad
