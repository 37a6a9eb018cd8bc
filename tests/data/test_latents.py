"""Cached latents: equal to filtering, bit-equal when computed again, windows at the right place."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, play_episode
from meta_latent.data.latents import LatentCache, embed_episode
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.models.config import CoreConfig, EncoderConfig, EnsembleConfig, ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Spec

SUITE = task_suites.get("toy/counting", episode_steps=6, image_size=8)
SPEC = Spec.of(SUITE)
MODEL = ModelConfig(EncoderConfig(channels=(4,), keypoints=2), CoreConfig(memory=3, hidden=4), EnsembleConfig(3, 8, 1))


@pytest.fixture(scope="module", params=["rssm", "sequential"])
def model(request):
    with seeded_construction(0):
        return LatentStateModel(SPEC, replace(MODEL, core=replace(MODEL.core, kind=request.param)))


def replay_of(count, **config):
    rng, replay = np.random.default_rng(0), SequenceReplay(SPEC, ReplayConfig(**config), heads=3)
    for k in range(count):
        replay.add_episode(episode(k), rng.random(3) < 0.5)
    return replay


def episode(seed):
    rows = SUITE.make_vector(SUITE.sample("train", 1, 0))
    return play_episode(rows, Noise(2, NoiseConfig()), seed, Streams(seed))


def test_bit_equal_however_it_was_built(model):
    replay, grown, whole = replay_of(5), LatentCache(), LatentCache()
    for upto in (1, 2, 4):
        grown.extend(model, replay.subset(range(upto)))
        grown.flat()
    grown.extend(model, replay)
    whole.extend(model, replay)
    assert grown.episodes == 5 and len(grown) == 35
    assert all(torch.equal(x, y) for x, y in zip(grown.flat(), whole.flat(), strict=True))


def test_evicted_episodes_leave_the_cache(model):
    replay, cache = replay_of(3, capacity=12, segment=7), LatentCache()
    cache.extend(model, replay)
    for k in range(3, 9):
        replay.add_episode(episode(k))
        if k != 5:  # two episodes arrive and leave at once
            cache.extend(model, replay)
    fresh = LatentCache()
    fresh.extend(model, replay)
    assert cache.episodes == fresh.episodes == len(replay.episodes) == 2
    assert all(torch.equal(x, y) for x, y in zip(cache.flat(), fresh.flat(), strict=True))


def test_that_episodes_end_for_good_is_known_after_those_that_did_were_forgotten(model):
    replay, cache = SequenceReplay(SPEC, ReplayConfig(capacity=12, segment=7), heads=3), LatentCache()
    for k in range(6):
        found = episode(k)
        replay.add_episode({**found, "is_terminal": found["is_last"]} if k == 1 else found)
        cache.extend(model, replay)
        assert cache.ends == (k > 0)
    assert not cache.flat()[4].any()
    cache.clear()
    cache.extend(model, replay)
    assert cache.ends


def test_latents_are_those_of_filtering_without_rewards(model):
    replay, cache = replay_of(2), LatentCache()
    cache.extend(model, replay)
    episode = replay.read(1)
    embeddings = embed_episode(model, replay, episode, chunk=3)
    torch.testing.assert_close(embeddings, embed_episode(model, replay, episode))
    latent, zeros = model.initial(1), torch.zeros(1)
    for t in range(7):
        action = torch.from_numpy(episode["action"][t])[None]
        latent = model.core.observe(latent.memory, embeddings[t][None], action, zeros, zeros)
        torch.testing.assert_close(cache.flat()[0][7 + t], latent.sample[0])
        torch.testing.assert_close(cache.flat()[1][7 + t], latent.memory[0])


def test_windows_lie_within_episodes_and_cover_them_evenly(model):
    replay, cache = replay_of(4), LatentCache()
    cache.extend(model, replay)
    windows = cache.windows(12_000, 4, np.random.default_rng(0))
    starts, counts = torch.unique(windows.rows[:, 0], return_counts=True)
    assert starts.tolist() == [e * 7 + o for e in range(4) for o in range(3)]
    assert (counts - 1000).abs().max() < 5 * (12_000 / 12 * 11 / 12) ** 0.5
    assert torch.equal(windows.rows, windows.rows[:, :1] + torch.arange(5))
    samples, memories, actions, rewards, terminal, mask = cache.flat()
    assert torch.equal(windows.samples, samples[windows.rows]) and torch.equal(windows.memories, memories[windows.rows])
    for k in range(20):  # against the replay itself
        which, offset = divmod(int(windows.rows[k, 0]), 7)
        arrays = replay.read(which)
        assert np.array_equal(windows.actions[k].numpy(), arrays["action"][offset : offset + 5])
        assert np.array_equal(windows.rewards[k].numpy(), arrays["reward"][offset : offset + 5])
        assert np.array_equal(windows.head_mask[k].numpy(), arrays["head_mask"])
    assert not windows.terminal.any() and len(terminal) == len(mask) == 28


def test_packed_windows_are_what_the_model_makes_latents_of(model):
    cache = LatentCache()
    cache.extend(model, replay_of(2))
    windows = cache.windows(5, 2, np.random.default_rng(0))
    latent = model.unpack(windows.packed[:, 1])
    assert torch.equal(latent.sample, windows.samples[:, 1]) and torch.equal(latent.memory, windows.memories[:, 1])


def test_too_long_windows_are_refused(model):
    cache = LatentCache()
    cache.extend(model, replay_of(1))
    with pytest.raises(UserError, match="take 8: lower learner.horizon"):
        cache.windows(1, 7, np.random.default_rng(0))
