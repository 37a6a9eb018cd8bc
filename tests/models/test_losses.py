"""Losses: what they hold, what their gradients reach, and one of them against a plain loop."""

import dataclasses

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, play_episode
from meta_latent.data.latents import LatentCache
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import RunError
from meta_latent.experiment.runs import checkpoint
from meta_latent.models import losses
from meta_latent.models.config import CoreConfig, EncoderConfig, EnsembleConfig, ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import LearnerConfig, ModelLearner
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Spec

SUITE = task_suites.get("toy/lqr")
SPEC = Spec.of(SUITE)
SMALL = ModelConfig(
    EncoderConfig(channels=(8, 8), keypoints=3),
    CoreConfig(memory=8, hidden=16),
    EnsembleConfig(3, 32, 2),
    head_hidden=32,
    continuation=True,
)
CORES = ("rssm", "deterministic", "sequential")


def model(core="rssm", encoder="keypoints", **more):
    config = dataclasses.replace(
        SMALL,
        core=dataclasses.replace(SMALL.core, kind=core),
        encoder=dataclasses.replace(SMALL.encoder, kind=encoder),
        **more,
    )
    with seeded_construction(0):
        return LatentStateModel(SPEC, config, ("a", "b"))


def replay(count=8):
    rows, rng = SUITE.make_vector(SUITE.sample("train", 1, 0)), np.random.default_rng(0)
    found = SequenceReplay(SPEC, ReplayConfig(), heads=3)
    for k in range(count):
        found.add_episode(play_episode(rows, Noise(2, NoiseConfig()), k, Streams(k)), rng.random(3) < 0.7)
    return found


@pytest.fixture(scope="module")
def data():
    return replay()


def batch_of(data, size=4, length=6):
    return data.sequences(size, length, np.random.default_rng(0))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def embeddings_of(m, batch):
    flat = m.embed({c: x.flatten(0, 1) for c, x in batch.images.items()}, batch.proprio.flatten(0, 1))
    return flat.unflatten(0, batch.reward.shape)


@pytest.mark.parametrize("encoder", ["keypoints", "conv"])
@pytest.mark.parametrize("core", CORES)
def test_terms_have_names_and_shapes_and_are_finite(data, core, encoder):
    m, batch = model(core, encoder), batch_of(data)
    terms = losses.loss(m, batch, rng(), torch.zeros(4, 6, 2))
    wanted = {"divergence", "reward", "task_reward", "continuation", "open_loop", "image", "image_ahead"}
    assert wanted <= terms.keys() and ("embedding" in terms) == (core != "deterministic")
    for term in terms.values():
        assert term.shape[0] == 4 and term.dim() <= 2 and torch.isfinite(term).all()
    cached = losses.loss(m, batch, rng(), None, embeddings_of(m, batch).detach())
    assert not {"image", "image_ahead", "task_reward"} & cached.keys() and "divergence" in cached


@pytest.mark.parametrize("core", CORES)
def test_gradients_reach_every_part_and_on_cached_embeddings_no_pixels(data, core):
    m, batch = model(core), batch_of(data)
    head_used = torch.ones(4, 3, dtype=torch.bool)
    batch = dataclasses.replace(batch, head_mask=head_used)
    losses.total(losses.loss(m, batch, rng(), torch.zeros(4, 6, 2))).backward()
    assert all(p.grad is not None for p in m.parameters())
    m.zero_grad(set_to_none=True)
    losses.total(losses.loss(m, batch, rng(), None, embeddings_of(m, batch).detach())).backward()
    for name, p in m.named_parameters():
        assert (p.grad is None) == name.startswith(("encoders", "decoders", "task_reward_head")), name


def test_every_step_counts_alike_in_where_episodes_end(data):
    m, batch = model(), batch_of(data)
    assert batch.multiplicity[:, 1:].unique().numel() > 1
    found = losses.loss(m, batch, rng())["continuation"]
    plain = losses.loss(m, dataclasses.replace(batch, multiplicity=None), rng())["continuation"]
    once = 1 / batch.multiplicity[:, 1:]
    torch.testing.assert_close(found, plain * once / once.mean())


def test_reward_dropout_hides_the_reward_from_the_filter(data):
    batch = batch_of(data)
    other = dataclasses.replace(batch, reward=batch.reward + batch.reward_present)

    def terms(m, batch):
        found = losses.loss(m, batch, rng())
        return {k: v for k, v in found.items() if k != "reward"}

    hidden, shown = model(reward_dropout=1.0), model(reward_dropout=0.0)
    a, b = terms(hidden, batch), terms(hidden, other)
    assert all(torch.equal(a[k], b[k]) for k in a)
    a, b = terms(shown, batch), terms(shown, other)
    assert not torch.allclose(a["divergence"], b["divergence"])


def test_masked_heads_get_no_gradient(data):
    m, batch = model(), batch_of(data)
    batch = dataclasses.replace(batch, head_mask=torch.tensor([[True, False, True]]).expand(4, -1))
    losses.total(losses.loss(m, batch, rng())).backward()
    gradient = m.core.transitions.last.weight.grad.abs().sum((1, 2))
    assert gradient[1] == 0 and gradient[0] + gradient[2] > 0


def test_heads_are_drawn_evenly_among_the_allowed():
    mask = torch.tensor([[True, False, True]] * 6000 + [[False, False, False]] * 6000)
    head = losses.draw_heads(mask, rng())
    assert (head[:6000] != 1).all()
    for part, share in ((head[:6000] == 0, 1 / 2), (head[6000:] == 1, 1 / 3)):
        assert abs(part.float().mean() - share) < 5 * (share * (1 - share) / 6000) ** 0.5


@pytest.mark.parametrize("core", CORES)
def test_transition_loss_equals_a_plain_loop(data, core):
    m, cache = model(core), LatentCache()
    cache.extend(m, data)
    windows = cache.windows(5, 3, np.random.default_rng(0))
    head = torch.tensor([0, 1, 2, 2, 0])
    found = losses.transition_loss(m, windows.samples, windows.memories, windows.actions, head)
    assert found.shape == (5, 3)
    for row in range(5):
        sample, memory = windows.samples[row, :1], windows.memories[row, :1]
        for k in range(3):
            action = windows.actions[row, k + 1 : k + 2]
            found_step = m.transition(m.unpack(torch.cat([sample, memory], -1)), action, head[row : row + 1])
            mean, stddev = found_step.loc, found_step.stddev
            expected = (mean - windows.samples[row, k + 1]).square().sum()
            if k == 0 and core != "deterministic":
                likelihood = torch.distributions.Normal(mean, stddev).log_prob(windows.samples[row, 1]).mean()
                first = losses.CALIBRATION * likelihood
            if core != "deterministic":
                expected = expected - first
            torch.testing.assert_close(found[row, k], expected)
            sample, memory = mean, m.core.remember(memory, mean, action)


def test_the_image_loss_by_hand():
    images = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 2, 2, 3)
    decoded = torch.zeros(2, 3, 2, 2)
    # every pixel is 0.5 from its mean and 0.5 from what was decoded
    torch.testing.assert_close(losses.image_loss(decoded, images, 8.0), torch.full((2,), (1 + 8 * 0.25) * 0.25))


@pytest.mark.parametrize("core", CORES)
def test_one_batch_can_be_learned_by_heart(data, core):
    m, batch = model(core), batch_of(data, 8, 6)
    learner = ModelLearner(m, LearnerConfig(learning_rate=3e-3))
    first = learner.joint(batch, rng())
    for k in range(150):
        last = learner.joint(batch, rng(k))
    assert last["image"] < 0.5 * first["image"] and last["reward"] < 0.3 * first["reward"]


@pytest.mark.parametrize("core", CORES)
def test_each_stage_changes_its_own_part(data, core):
    m, batch = model(core), batch_of(data)
    cache, learner = LatentCache(), ModelLearner(m, LearnerConfig())
    cache.extend(m, data)
    windows = cache.windows(8, 3, np.random.default_rng(0))
    stages = {
        "joint": lambda: learner.joint(batch, rng(), torch.zeros(4, 6, 2)),
        "filter": lambda: learner.filter(batch, embeddings_of(m, batch).detach(), rng()),
        "transition": lambda: learner.transition(windows, rng()),
    }
    frozen = {
        "joint": (),
        "filter": ("encoders", "decoders"),
        "transition": (
            "encoders",
            "decoders",
            "core.gru",
            "core.spread",
            "core.posterior",
            "core.second",
            "reward_head",
            "task_reward_head",
            "continuation_head",
        ),
    }
    for stage, update in stages.items():
        before = {name: p.detach().clone() for name, p in m.named_parameters()}
        update()
        changed = {name for name, p in m.named_parameters() if not torch.equal(p, before[name])}
        assert changed and not any(name.startswith(frozen[stage]) for name in changed if frozen[stage]), stage


def test_a_learner_goes_on_bit_for_bit_from_a_checkpoint(data, tmp_path):
    batch = batch_of(data)
    whole, half = (ModelLearner(model(), LearnerConfig()) for _ in range(2))
    for k in range(4):
        whole.joint(batch, rng(k))
    for k in range(2):
        half.joint(batch, rng(k))
    checkpoint.save(tmp_path, half.state())
    resumed = ModelLearner(model(), LearnerConfig())
    resumed.load_state(checkpoint.load(tmp_path))
    for k in range(2, 4):
        resumed.joint(batch, rng(k))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_what_is_not_finite_stops_and_is_named(data):
    m, batch = model(), batch_of(data)
    learner = ModelLearner(m, LearnerConfig())
    with pytest.raises(RunError, match="reward, .*term of the joint stage"):
        learner.joint(dataclasses.replace(batch, reward=torch.full_like(batch.reward, float("nan"))), rng())
    before = {k: v.clone() for k, v in m.state_dict().items()}
    m.reward_head[0].weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(RunError, match="non-finite gradient of the joint stage"):
        learner.joint(batch, rng())
    assert all(torch.equal(v, before[k]) for k, v in m.state_dict().items())
