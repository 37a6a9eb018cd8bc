"""Rounds of collecting: how much is played, of which tasks, from which seeds; and the cells around them."""

import dataclasses

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.experiment.learning.collector import Collector, CollectorConfig
from meta_latent.experiment.settings.suites import BoundTarget, BoundTask
from meta_latent.rng import Streams
from meta_latent.types import Spec

STEPS, TASKS = 4, 5
SUITE = task_suites.get("toy/hidden_goal", episode_steps=STEPS, image_size=4)
SPEC = Spec.of(SUITE)
CONFIG = CollectorConfig((), torch.zeros(TASKS, 0), 0, 1.0, 3)


class Wanting:
    """Wants `steps` environment steps each time, and tells which task it is shown."""

    def __init__(self, steps, heads=1):
        self.steps, self.heads, self.tasks = steps, heads, []

    def begin_task(self, batch_size):
        return None

    def act(self, step, carry, rng, explore):
        assert explore
        self.tasks.append(step.task)
        return torch.zeros(len(step.reward), 2), None

    def wants(self):
        return self.steps


def collector(episodes=2, seed=0, **config):
    bound = tuple(BoundTask("", SUITE, task) for task in SUITE.sample("train", TASKS, 0))
    target = BoundTarget("name", bound, bound, episodes)
    return Collector(target, seed, dataclasses.replace(CONFIG, **config), Noise(2, NoiseConfig()))


def replay(heads=1):
    return SequenceReplay(SPEC, ReplayConfig(), heads=heads)


def played(source, wanted, rounds=1, **more):
    """A replay after so many rounds, and how many steps each added."""
    store, streams, sizes = replay(more.get("heads", 1)), Streams(0), []
    for _ in range(rounds):
        before = store.env_steps
        source.round(Wanting(wanted, **more), store, streams)
        sizes.append(store.env_steps - before)
    source.close()
    return store, sizes


@pytest.mark.parametrize(
    ("wanted", "side_by_side", "size"),
    [
        (None, 3, 0),
        (0, 3, 2 * STEPS),  # one trial
        (1, 3, 2 * STEPS),
        (2 * STEPS + 1, 3, 4 * STEPS),
        (7 * STEPS, 3, 2 * 3 * 2 * STEPS),  # 3.5 trials, three at once
        (7 * STEPS, 1, 4 * 2 * STEPS),
    ],
)
def test_a_round_adds_what_is_wanted(wanted, side_by_side, size):
    """Nothing, one trial, or at least so many steps and less than one more batch."""
    assert played(collector(side_by_side=side_by_side), wanted, 2)[1] == [size, size]


@pytest.mark.parametrize("wanted", [0, 6 * STEPS])
def test_every_task_comes_once_before_one_comes_again(wanted):
    store, _ = played(collector(), wanted, 10 if wanted == 0 else 4)
    tasks = [store.episodes[trial[0]].task for trial in store.whole_trials()]
    assert len(tasks) >= 2 * TASKS
    turns = [tasks[k : k + TASKS] for k in range(0, len(tasks) - TASKS + 1, TASKS)]
    assert all(sorted(turn) == list(range(TASKS)) for turn in turns) and turns[0] != turns[1]
    for trial in store.whole_trials():
        assert len(trial) == 2 and len({store.episodes[k].task for k in trial}) == 1


def test_episodes_are_of_the_task_that_they_name():
    store, _ = played(collector(), 0, TASKS)
    for k, episode in enumerate(store.episodes):
        arrays, task = store.read(k), SUITE.sample("train", TASKS, 0)[episode.task]
        wanted = SUITE.reward(task, arrays["reward_inputs"][1:], arrays["action"][1:])
        np.testing.assert_allclose(arrays["reward"][1:], wanted, rtol=1e-5)


def test_the_task_is_told_where_the_algorithm_may_see_it():
    vectors = torch.arange(2.0 * TASKS).view(TASKS, 2)
    source, agent, store = collector(show=("task",), task_vectors=vectors), Wanting(6 * STEPS), replay()
    source.round(agent, store, Streams(0))
    first = [store.episodes[trial[0]].task for trial in store.whole_trials()]
    assert torch.equal(agent.tasks[0], vectors[first]) and len(set(first)) == 3
    hidden = Wanting(0)
    collector(task_vectors=vectors).round(hidden, replay(), Streams(0))
    assert hidden.tasks[0] is None


def test_the_random_episodes_come_first_alone_and_once():
    """Three episodes in trials of two: two trials."""
    store, sizes = played(source := collector(warmup_episodes=3), 0, 3)
    paid = [float(np.sum(store.read(k)["reward"])) for k in range(4)]
    assert source.random_returns == pytest.approx(paid) and sum(paid)
    (again := collector()).load_state(source.state())
    assert again.random_returns == source.random_returns
    again.load_state({"trials": 3})  # as before it was kept
    assert sizes == [4 * STEPS, 2 * STEPS, 2 * STEPS]
    acted = [bool(store.read(k)["action"].any()) for k in range(8)]
    assert acted == [True] * 4 + [False] * 4  # `Wanting` does nothing
    assert played(collector(warmup_episodes=3), None, 2)[1] == [0, 0]


def test_trials_start_alike_however_many_are_played_at_once_and_after_a_pause():
    def starts(store):
        return [store.read(k)["reward_inputs"][0].tobytes() for k in range(12)]

    whole, _ = played(collector(), 6 * STEPS, 2)
    single, _ = played(collector(side_by_side=1), 0, 6)
    source, store, streams = collector(), replay(), Streams(0)
    for _ in range(6):
        source.round(Wanting(0), store, streams)
        state, source = source.state(), collector()
        source.load_state(state)
    assert starts(whole) == starts(single) == starts(store) and len(set(starts(whole))) == 12
    assert starts(played(collector(seed=1), 0, 6)[0]) != starts(whole)


def test_heads_train_on_their_share_of_the_episodes():
    store, _ = played(collector(head_share=0.7), 0, 200, heads=4)
    masks = np.stack([store.read(k)["head_mask"] for k in range(400)])
    assert (abs(masks.mean(0) - 0.7) < 5 * (0.21 / 400) ** 0.5).all()
    assert played(collector(head_share=0.0), 0, 3)[0].read(0)["head_mask"].all()  # of one head: everything


def test_a_head_that_owns_tasks_trains_on_their_episodes_alone():
    store, _ = played(collector(head_share=0.7, own_heads=True), 0, 10, heads=2)
    episodes = [store.read(k) for k in range(len(store.episodes))]
    assert {int(episode["task_index"]) for episode in episodes} == set(range(TASKS))
    assert all(e["head_mask"].tolist() == [e["task_index"] % 2 == k for k in (0, 1)] for e in episodes)


def test_learned_episodes_stray_where_epsilon_says_so_and_no_others():
    """A `Wanting` stands still: whatever moved has strayed."""
    moved = {}
    for epsilon in (0.0, 0.5):
        store, _ = played(collector(episodes=1, epsilon=epsilon), 20 * STEPS)
        moved[epsilon] = [bool(store.read(i)["action"].any()) for i in range(len(store.episodes))]
    assert len(moved[0.5]) >= 20 and np.mean(moved[0.5]) > 0.9
    assert not any(moved[0.0])
