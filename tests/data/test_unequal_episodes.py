"""Windows of episodes of unequal length: none crosses into the next, all are as likely, ends are ends."""

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, play_episode
from meta_latent.data.latents import LatentCache
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.data.source import SourceData
from meta_latent.models.config import CoreConfig, EncoderConfig, EnsembleConfig, ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Spec

LENGTHS = (4, 1, 9, 2, 3, 6)  # steps; episode k is of number k, every second one ends in a terminal state
MODEL = ModelConfig(EncoderConfig(channels=(4,), keypoints=2), CoreConfig(memory=3, hidden=4), EnsembleConfig(2, 8, 1))


def suite(steps, ends="truncate"):
    return task_suites.get("toy/counting", episode_steps=steps, image_size=4, ends=ends)


SPEC = Spec.of(suite(1))


def filled(**config):
    replay = SequenceReplay(SPEC, ReplayConfig(**config), heads=2)
    for k, steps in enumerate(LENGTHS):
        made = suite(steps, ("truncate", "terminate")[k % 2])
        rows = made.make_vector(made.sample("train", 1, 0))
        replay.add_episode(play_episode(rows, Noise(2, NoiseConfig()), k, Streams(k)))
    return replay


@pytest.fixture(scope="module")
def model():
    with seeded_construction(0):
        return LatentStateModel(SPEC, MODEL)


def check(step, episode, size, chosen=range(6)):
    """(B, `size`) step and episode numbers: consecutive, of one episode; all windows are as frequent."""
    step, episode = step.round().long(), episode.round().long()
    assert step.shape[1] == size and (step[:, 1:] == step[:, :-1] + 1).all()
    assert (episode == episode[:, :1]).all()
    windows, counts = torch.unique(torch.stack([episode[:, 0], step[:, 0]]), dim=1, return_counts=True)
    wanted = [[k, first] for k in chosen for first in range(LENGTHS[k] + 2 - size)]
    assert windows.T.tolist() == wanted
    share = 1 / len(wanted)
    assert (counts / len(step) - share).abs().max() < 5 * (share * (1 - share) / len(step)) ** 0.5


@pytest.mark.parametrize("size", [2, 4, 8])
def test_windows_of_latents_stay_within_episodes(model, size):
    cache = LatentCache()
    cache.extend(model, filled())
    windows = cache.windows(6000, size - 1, np.random.default_rng(0))
    step, episode = windows.samples[..., -4], windows.samples[..., -3]  # what is proprioception is explicit
    check(step, episode, size)
    ends = torch.tensor(LENGTHS)[episode.long()]
    assert torch.equal(windows.terminal, (step == ends) & (episode % 2 == 1))
    assert windows.terminal.any() == (size < 8)  # the only episode of eight states or more meets a time limit
    assert not windows.terminal[:, :-1].any()
    check_counts(step, episode, windows.weights, size)


@pytest.mark.parametrize("size", [2, 4, 16])
def test_windows_that_ends_cut_short_begin_with_any_transition_and_repeat_the_last_state(model, size):
    cache = LatentCache()
    cache.extend(model, filled())
    windows = cache.windows(6000, size - 1, np.random.default_rng(0), cut=True)
    step, episode = windows.samples[..., -4].round().long(), windows.samples[..., -3].round().long()
    ends = torch.tensor(LENGTHS)[episode]
    check(torch.stack([step[:, 0], step[:, 0] + 1], 1), episode[:, :2], 2)
    assert (
        torch.equal(step, torch.minimum(step[:, :1] + torch.arange(size), ends)) and (episode == episode[:, :1]).all()
    )
    assert torch.equal(windows.rows.diff() > 0, step[:, 1:] > step[:, :-1]) and (windows.weights == 1).all()
    assert torch.equal(windows.terminal, (step == ends) & (episode % 2 == 1))


def test_where_no_episode_ends_for_good_all_steps_weigh_1(model):
    replay = SequenceReplay(SPEC, ReplayConfig(), heads=2)
    made = suite(5)
    for k in range(3):
        replay.add_episode(
            play_episode(made.make_vector(made.sample("train", 1, 0)), Noise(2, NoiseConfig()), k, Streams(k))
        )
    cache = LatentCache()
    cache.extend(model, replay)
    assert (cache.windows(50, 3, np.random.default_rng(0)).weights == 1).all()


@pytest.mark.parametrize("size", [2, 4, 8])
def test_windows_of_the_replay_stay_within_episodes(size):
    batch = filled().sequences(6000, size, np.random.default_rng(0))
    step, episode = batch.proprio[..., 0], batch.proprio[..., 1]
    check(step, episode, size)
    last = step == torch.tensor(LENGTHS)[episode.long()]
    assert torch.equal(batch.is_last, last) and torch.equal(batch.is_first, step == 0)
    assert torch.equal(batch.is_terminal, last & (episode % 2 == 1))
    check_counts(step, episode, 1 / batch.multiplicity, size)


def check_counts(step, episode, weights, size):
    """Weighed so, every step that windows hold as another than their first counts alike."""
    steps = torch.stack([episode, step])[..., 1:].flatten(1).round().long()
    seen, place = torch.unique(steps, dim=1, return_inverse=True)
    sums = torch.zeros(seen.shape[1]).index_add(0, place, weights[:, 1:].flatten().float())
    assert seen.shape[1] == sum(steps for steps in LENGTHS if steps + 1 >= size)
    assert (sums / sums.mean() - 1).abs().max() < 0.25


def test_also_after_the_oldest_were_evicted(model):
    replay, cache = filled(), LatentCache()
    cache.extend(model, replay.subset(range(3)))
    replay = filled(capacity=10, segment=8)
    kept = tuple(range(replay.evicted, len(LENGTHS)))
    assert 0 < len(kept) < len(LENGTHS)
    cache.extend(model, replay)
    samples = cache.windows(6000, 2, np.random.default_rng(0)).samples
    check(samples[..., -4], samples[..., -3], 3, kept)
    batch = replay.sequences(6000, 3, np.random.default_rng(0))
    check(batch.proprio[..., 0], batch.proprio[..., 1], 3, kept)


def test_source_windows_come_from_the_episodes_whose_turn_it_is(model):
    source, seen = SourceData(filled(), 4), []
    for chosen in ((0, 1, 2, 3), (0, 1, 4, 5), (2, 3, 4, 5)):
        source.extend(model)
        samples = source.windows(6000, 1, np.random.default_rng(0)).samples
        check(samples[..., -4], samples[..., -3], 2, chosen)
        seen += chosen
        source.clear()
    assert sorted(seen) == sorted([*range(6)] * 2)


def test_the_comparison_above_can_fail():
    step, episode = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4]]), torch.zeros(4, 2, dtype=torch.long)
    other = torch.tensor([[0, 0], [0, 0], [0, 0], [0, 1]])
    check(step, episode, 2, (0,))
    for steps, episodes in ((step, other), (step % 4, episode), (step[:3], episode[:3])):
        with pytest.raises(AssertionError):
            check(steps, episodes, 2, (0,))
    with pytest.raises(AssertionError):  # one window ten times as often as the others
        check(torch.cat([step, *[step[:1]] * 9]).repeat(99, 1), episode[:1].expand(1287, 2), 2, (0,))
