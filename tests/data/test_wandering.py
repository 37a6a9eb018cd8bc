"""Episodes that go on at random from some step on."""

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, play
from meta_latent.data.wandering import Wandering
from meta_latent.rng import Streams

STEPS, ROWS = 10, 400
SUITE = task_suites.get("toy/hidden_goal", episode_steps=STEPS, image_size=4)
TASKS = SUITE.sample("train", 100, 0) * (ROWS // 100)


class Still:
    """Never moves, and counts what it was shown."""

    def begin_task(self, batch_size):
        return torch.zeros(batch_size)

    def act(self, step, carry, rng, explore):
        return torch.zeros(len(carry), 2), carry + 1


def moving(share, explore=True, episodes=1, streams=None):
    """(episodes, ROWS, STEPS) bool: which actions were random."""
    actor = Wandering(Still(), Noise(2, NoiseConfig(persistences=(0.0,))), share, STEPS)
    seeds = np.arange(ROWS * episodes).reshape(ROWS, episodes)
    found = play(SUITE.make_vector(TASKS), actor, seeds, streams or Streams(0), explore=explore, keep=True)
    return np.array([[(trial[e]["action"][1:] != 0).any(-1) for trial in found.episodes] for e in range(episodes)])


def test_the_named_share_of_episodes_goes_on_at_random_from_an_evenly_drawn_step():
    random = moving(0.5)[0]
    begun = random.any(1)
    assert abs(begun.mean() - 0.5) < 0.1
    assert (np.diff(random.astype(int), axis=1) >= 0).all()  # once begun, to the end
    first = random[begun].argmax(1)
    assert np.bincount(first, minlength=STEPS).min() > 0.3 * begun.sum() / STEPS
    assert abs(first.mean() - (STEPS - 1) / 2) < 0.7


def test_each_episode_of_a_trial_is_drawn_anew():
    one, other = moving(0.5, episodes=2).any(-1)
    assert 0.35 < (one != other).mean() < 0.65


@pytest.mark.parametrize(("share", "explore"), [(0.0, True), (1.0, False)])
def test_the_actor_alone_decides_without_a_share_and_in_evaluations(share, explore):
    assert not moving(share, explore).any()


def test_all_wander_where_the_share_is_one_and_equal_streams_wander_alike():
    first, again = moving(1.0, streams=Streams(3)), moving(1.0, streams=Streams(3))
    assert first[0].any(1).all()
    np.testing.assert_array_equal(first, again)
    assert (first != moving(1.0, streams=Streams(4))).any()


def test_the_actor_is_shown_every_step_so_that_its_memory_has_no_gap():
    actor = Wandering(Still(), Noise(2, NoiseConfig()), 1.0, STEPS)
    rows, streams, carry = SUITE.make_vector(TASKS[:2]), Streams(0), actor.begin_task(2)
    seen = []

    class Recorder:
        def begin_task(self, batch_size):
            return carry

        def act(self, step, carry, rng, explore):
            action, carry = actor.act(step, carry, rng, explore)
            seen.append(carry["actor"].tolist())
            return action, carry

    play(rows, Recorder(), np.array([[0], [1]]), streams, explore=True)
    assert seen == [[k + 1.0] * 2 for k in range(STEPS)]
