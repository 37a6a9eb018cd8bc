"""The hidden goal: where goals stand, that they are hidden, the optimum, and that fast rows are exact."""

import itertools

import numpy as np
import pytest

import task_suites
from task_suites import SuiteError
from task_suites.rows import Rows


def goals(suite, split):
    values = [task.reward.parameters for task in suite.tasks(split)]
    return np.array([[value["goal_x_metres"], value["goal_y_metres"]] for value in values])


@pytest.mark.parametrize(("option", "lowest"), [("ring", -0.8), ("half_ring", 0.0)])
def test_goals_lie_on_the_arc_and_test_goals_among_train_goals(option, lowest):
    suite = task_suites.get("toy/hidden_goal", goals=option)
    train, test = goals(suite, "train"), goals(suite, "test")
    assert (len(train), len(test)) == (100, 20)
    everywhere = np.concatenate([train, test])
    assert np.abs(np.hypot(*everywhere.T) - 0.8).max() < 1e-4
    assert lowest - 1e-9 <= everywhere[:, 1].min() < lowest + 0.05
    nearest = np.hypot(*(test[:, None] - train[None]).transpose(2, 0, 1)).min(1)
    assert nearest.max() < 0.05 and nearest.min() > 0.01


@pytest.mark.parametrize("observation", ["picture", "state"])
def test_the_goal_shows_in_nothing_but_the_reward(observation):
    suite = task_suites.get("toy/hidden_goal", observation=observation)
    envs = [suite.make(suite.tasks("train")[i]) for i in (0, 50)]
    shown, paid, rng = [], [], np.random.default_rng(0)
    first, second = (env.reset(seed=1)[0] for env in envs)
    for _ in range(20):
        shown.append((first, second))
        action = rng.uniform(-1, 1, 2)
        (first, *one), (second, *other) = (env.step(action) for env in envs)
        paid.append((one[0], other[0]))
    for first, second in shown:
        assert all(np.array_equal(first[key], second[key]) for key in first)
    assert all(one != other for one, other in paid)


def test_rewards_by_hand():
    for name, near, far in (("dense", -0.25, -0.4), ("sparse", 1.0, 0.0)):
        suite = task_suites.get("toy/hidden_goal", reward=name)
        task = suite.tasks("train")[0].replace(
            reward=task_suites.Reward(name, {"goal_x_metres": 0.8, "goal_y_metres": 0.0})
        )
        env = suite.make(task)
        env.reset(seed=0)
        env._state = np.array([0.0, 0.0])
        paid = [env.step(np.array([1.0, 0.0]))[1] for _ in range(2)]  # at 0.2, then at 0.4
        assert paid[1] == pytest.approx(far)
        _, reward, _, _, info = env.step(np.array([0.75, 0.0]))  # at 0.55
        assert reward == pytest.approx(near) and info["success"]


def test_no_sequence_of_actions_comes_nearer_than_the_script():
    suite = task_suites.get("toy/hidden_goal", episode_steps=4)
    choices = np.array(list(itertools.product((-1.0, -0.5, 0.0, 0.5, 1.0), repeat=2)))
    for task in suite.tasks("test")[::4]:
        env, policy = suite.make(task), suite.scripted(task)
        _, info = env.reset(seed=0)
        reached, total = info["reward_inputs"][None].astype(np.float64), np.zeros(1)
        best = 0.0
        for _ in range(4):
            reached = suite.moved(reached[:, None], choices).reshape(-1, 2)
            total = np.repeat(total, len(choices)) + suite.reward(task, reached, choices)
            best += env.step(policy(info["reward_inputs"]))[1]
            info["reward_inputs"] = env._state.astype(np.float32)
            assert total.max() <= best + 1e-6
            keep = np.argsort(total)[-2000:]
            reached, total = reached[keep], total[keep]


def test_a_move_of_a_tenth_of_a_pixel_shows():
    suite = task_suites.get("toy/hidden_goal")
    for place in ([0.0, 0.0], [0.03, -0.7], [1.0, 1.0]):
        here, there = (suite.observe(np.array(place) + shift)["image_top"] for shift in (0.0, 0.0125))
        assert here.shape == (16, 16, 3) and not np.array_equal(here, there)


def outputs(vector, seeds, actions, alive):
    """All that a vector says of an episode, flat."""
    said = [vector.reset(seeds)]
    said += [vector.step(action, some) for action, some in zip(actions, alive, strict=True)]
    found = []
    for step in said:
        for part in step:
            found += list(part.values()) if isinstance(part, dict) else [part]
    return found + [vector.render(0)]


@pytest.mark.parametrize("reward", ["dense", "sparse"])
@pytest.mark.parametrize("observation", ["picture", "state"])
def test_native_rows_are_bit_for_bit_ordinary_ones(observation, reward):
    options = {"observation": observation, "reward": reward, "goals": "half_ring", "episode_steps": 9}
    suite = task_suites.get("toy/hidden_goal", **options)
    tasks = suite.sample("train", 40, seed=0) + suite.sample("test", 3, seed=0)
    rng = np.random.default_rng(0)
    actions = 2.0 * rng.uniform(-1, 1, (12, 43, 2)).astype(np.float32)  # some beyond the box
    alive = rng.uniform(size=(12, 43)) < 0.8  # some pause and go on
    alive &= alive.cumsum(0) <= 9
    native, ordinary = suite.make_vector(tasks), Rows([suite.make(task) for task in tasks])
    assert not isinstance(native, Rows) and native.render_fps == ordinary.render_fps
    for seeds in (np.arange(43), np.arange(43) + 100):
        pairs = zip(*(outputs(v, seeds, actions, alive) for v in (native, ordinary)), strict=True)
        for one, other in pairs:
            assert one.dtype == other.dtype and np.array_equal(one, other)
    assert 0 < (alive.sum(0) == 9).sum() < 43


@pytest.mark.parametrize("options", [{"goals": "circle"}, {"reward": "both"}, {"observation": "pixels"}])
def test_wrong_options_are_refused(options):
    with pytest.raises(SuiteError, match=f"unknown {next(iter(options))}"):
        task_suites.get("toy/hidden_goal", **options)
