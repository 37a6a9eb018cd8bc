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
    """Never moves, and counts what it was shown; `explored`: whether it was asked to explore."""

    explored = None

    def begin_task(self, batch_size):
        return torch.zeros(batch_size)

    def act(self, step, carry, rng, explore):
        self.explored = explore
        return torch.zeros(len(carry), 2), carry + 1


def actions(epsilon, explore=True, episodes=1, streams=None):
    """(episodes, ROWS, STEPS, 2): what is not 0 strayed."""
    seeds = np.arange(ROWS * episodes).reshape(ROWS, episodes)
    actor, streams = RepeatedNoise(Still(), epsilon), streams or Streams(0)
    found = play(SUITE.make_vector(TASKS), actor, seeds, streams, explore=explore, keep=True)
    return np.array([[trial[e]["action"][1:] for trial in found.episodes] for e in range(episodes)])


class Recorder:
    """Acts with noise on a `Still`, and keeps the carries."""

    def __init__(self, epsilon):
        self.noise, self.carries = RepeatedNoise(Still(), epsilon), []

    def begin_task(self, batch_size):
        return self.noise.begin_task(batch_size)

    def act(self, step, carry, rng, explore):
        action, carry = self.noise.act(step, carry, rng, explore)
        self.carries.append(carry)
        return action, carry


def recorded(epsilon, rows):
    """The carries after each step of one episode of each of so many rows."""
    recorder = Recorder(epsilon)
    play(SUITE.make_vector(TASKS[:rows]), recorder, np.arange(rows)[:, None], Streams(0), explore=True)
    return recorder.carries


def test_one_value_at_a_time_strays_each_as_often_and_to_both_ends():
    found = actions(0.2)[0]
    strayed = found != 0
    assert not strayed.all(-1).any()
    each = strayed.any(1).mean(0)
    assert abs(each[0] - each[1]) < 0.1
    assert set(np.unique(found)) == {-1, 0, 1} and abs(found[strayed].mean()) < 0.1


def test_it_begins_with_the_named_probability_and_is_held_for_zeta_distributed_steps():
    found = actions(0.1)[0]
    assert abs((found[:, 0] != 0).any(-1).mean() - 0.1) < 5 * (0.09 / ROWS) ** 0.5
    steps = recorded(1.0, ROWS)[0]["left"].numpy() + 1
    assert steps.max() == LONGEST
    assert abs((steps == 1).mean() - 6 / np.pi**2) < 0.1
    assert 0.05 < (steps == 2).mean() < 0.25


def test_as_many_steps_stray_as_it_begins_and_lasts():
    """The share of a cycle of waiting, (1 - epsilon) / epsilon steps, and straying."""
    epsilon, n = 0.1, np.arange(1, 10_000)
    share = n**-2.0 / (n**-2.0).sum()
    lasts = (np.minimum(n, LONGEST) * share).sum()
    found = (actions(epsilon)[0, :, 10:] != 0).any(-1).mean()
    assert abs(found - lasts / (lasts + (1 - epsilon) / epsilon)) < 0.03


def test_rows_stray_each_for_itself():
    first = actions(1.0)[0, :, 0]
    kinds, counts = np.unique(first, axis=0, return_counts=True)
    assert len(kinds) == 4 and counts.min() > ROWS / 8


def test_what_strays_is_held_for_the_drawn_steps():
    carries = recorded(0.1, 100)
    lasting = 0
    for before, after in zip(carries, carries[1:], strict=False):
        on = before["left"] > 0
        lasting += int(on.sum())
        assert torch.equal(after["left"][on], before["left"][on] - 1)
        assert torch.equal(after["which"][on], before["which"][on])
        assert torch.equal(after["value"][on], before["value"][on])
    assert lasting > 100


def test_nothing_is_held_over_the_beginning_of_an_episode():
    """Something is held from each step to the next, until an episode of the trial ends."""

    class Holding(Recorder):
        def act(self, step, carry, rng, explore):
            action, carry = super().act(step, carry, rng, explore)
            rows = len(action)
            return action, carry | {"left": torch.full((rows,), 5), "value": torch.ones(rows)}

    seeds = np.arange(6).reshape(3, 2)
    found = play(SUITE.make_vector(TASKS[:3]), Holding(0.0), seeds, Streams(0), explore=True, keep=True)
    for trial in found.episodes:
        for episode in trial:
            assert not episode["action"][1].any() and (episode["action"][2:] == [1, 0]).all()


def test_the_actor_explores_or_not_as_it_is_asked_to():
    for explore in (True, False):
        noise = RepeatedNoise(Still(), 0.5)
        play(SUITE.make_vector(TASKS[:1]), noise, np.zeros((1, 1), int), Streams(0), explore=explore)
        assert noise.actor.explored is explore


@pytest.mark.parametrize(("epsilon", "explore"), [(0.0, True), (1.0, False)])
def test_the_actor_alone_decides_without_it_and_in_evaluations(epsilon, explore):
    assert not actions(epsilon, explore).any()


def test_equal_streams_stray_alike():
    first, again = actions(0.3, streams=Streams(3)), actions(0.3, streams=Streams(3))
    np.testing.assert_array_equal(first, again)
    assert (first != actions(0.3, streams=Streams(4))).any()


def test_the_actor_is_shown_every_step():
    assert [c["actor"].tolist() for c in recorded(1.0, 2)] == [[k + 1.0] * 2 for k in range(STEPS)]
