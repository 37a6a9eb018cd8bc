"""Single action values that stray and are held."""

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import play
from meta_latent.data.repeated_noise import LONGEST, RepeatedNoise
from meta_latent.rng import Streams

STEPS, ROWS = 30, 400
SUITE = task_suites.get("toy/hidden_goal", episode_steps=STEPS, image_size=4)
TASKS = SUITE.sample("train", 100, 0) * (ROWS // 100)


class Still:
    """Never moves, and counts what it was shown."""

    def begin_task(self, batch_size):
        return torch.zeros(batch_size)

    def act(self, step, carry, rng, explore):
        return torch.zeros(len(carry), 2), carry + 1


def actions(epsilon, explore=True, episodes=1, streams=None):
    """(episodes, ROWS, STEPS, 2): what is not 0 strayed."""
    seeds = np.arange(ROWS * episodes).reshape(ROWS, episodes)
    actor, streams = RepeatedNoise(Still(), epsilon), streams or Streams(0)
    found = play(SUITE.make_vector(TASKS), actor, seeds, streams, explore=explore, keep=True)
    return np.array([[trial[e]["action"][1:] for trial in found.episodes] for e in range(episodes)])


def held(rows):
    """Lengths of the stretches in which one value is held at one number, of rows (N, STEPS, 2)."""
    lengths = []
    for row in rows:
        start = 0
        for t in range(1, len(row) + 1):
            if t == len(row) or (row[t] != row[start]).any():
                if row[start].any():
                    lengths.append(t - start)
                start = t
    return np.array(lengths)


def test_one_value_at_a_time_strays_each_as_often_over_the_whole_range():
    found = actions(0.2)[0]
    strayed = found != 0
    assert not strayed.all(-1).any()
    each = strayed.any(1).mean(0)
    assert abs(each[0] - each[1]) < 0.1
    values = found[strayed]
    assert values.min() < -0.9 and values.max() > 0.9 and abs(values.mean()) < 0.05


def test_it_begins_with_the_named_probability_and_is_held_for_zeta_distributed_steps():
    found = actions(0.1)[0]
    assert abs((found[:, 0] != 0).any(-1).mean() - 0.1) < 5 * (0.09 / ROWS) ** 0.5
    lengths = held(found[:, : STEPS - LONGEST])
    assert lengths.max() <= LONGEST
    assert abs((lengths == 1).mean() - 6 / np.pi**2) < 0.06
    assert (lengths >= 4).mean() > 0.1


def test_nothing_is_held_over_the_beginning_of_an_episode():
    found = actions(0.1, episodes=2)
    ends, begins = found[0, :, -1], found[1, :, 0]
    assert ends.any(-1).sum() > 20
    assert not ((ends == begins) & (ends != 0)).any()


@pytest.mark.parametrize(("epsilon", "explore"), [(0.0, True), (1.0, False)])
def test_the_actor_alone_decides_without_it_and_in_evaluations(epsilon, explore):
    assert not actions(epsilon, explore).any()


def test_equal_streams_stray_alike():
    first, again = actions(0.3, streams=Streams(3)), actions(0.3, streams=Streams(3))
    np.testing.assert_array_equal(first, again)
    assert (first != actions(0.3, streams=Streams(4))).any()


def test_the_actor_is_shown_every_step():
    noise = RepeatedNoise(Still(), 1.0)
    carries = []

    class Recorder:
        def begin_task(self, batch_size):
            return noise.begin_task(batch_size)

        def act(self, step, carry, rng, explore):
            action, carry = noise.act(step, carry, rng, explore)
            carries.append(carry["actor"].tolist())
            return action, carry

    play(SUITE.make_vector(TASKS[:2]), Recorder(), np.array([[0], [1]]), Streams(0), explore=True)
    assert carries == [[k + 1.0] * 2 for k in range(STEPS)]
