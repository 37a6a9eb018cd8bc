"""MELD's rewards are the published ones."""

import math

import numpy as np
import pytest

import task_suites
from task_suites.meld import rewards

NAMES = ("reacher", "buttons", "peg_insertion", "shelf_placing", "cheetah_velocity")


def suite_of(name, **options):
    return task_suites.get(f"meld/{name}", **{"image_size": 32, **options})


def published_reaching(distance, sparse):
    """Return the published reward of reacher, buttons and peg_insertion for a distance in metres."""
    d = 5 * distance
    paid = -(d**2 + math.log10(d**2 + 1e-5)) + (0.15**2 + math.log10(0.15**2 + 1e-5))
    return paid if not sparse else paid + 1 if d < 0.15 else 0.0


def published_placing(first, second, sparse):
    d = (5 * first + 5 * second) / 2
    if not sparse:
        return -(d**2 + math.log10(d**2 + 1e-5))
    near = min(d, 0.3)
    return -(near**2 + math.log10(near**2 + 1e-5)) + (0.3**2 + math.log10(0.3**2 + 1e-5))


def published_running(speed, action, target, sparse):
    paid = -abs(speed - target) - 0.01 * sum((0.8 * part) ** 2 for part in action)
    return paid if not sparse or abs(speed - target) < 0.5 else 0.0


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", ["reacher", "buttons", "peg_insertion"])
def test_reaching_pays_what_is_published(name, sparse):
    suite = suite_of(name, sparse=sparse)
    task, rng = suite.tasks("test")[1], np.random.default_rng(0)
    goal = np.array(rewards.goal_of(task))
    away = rng.standard_normal((200, 3))
    away *= (10 ** rng.uniform(-4, 0, 200) / np.linalg.norm(away, axis=1))[:, None]
    inputs = np.concatenate([goal + away, np.zeros((200, 7))], 1)
    expected = [published_reaching(np.linalg.norm(part), sparse) for part in away]
    np.testing.assert_allclose(suite.reward(task, inputs, None), expected, rtol=0, atol=2e-6)
    assert suite.success(task, inputs).tolist() == (np.linalg.norm(away, axis=1) < 0.03).tolist()
    assert 0.2 < suite.success(task, inputs).mean() < 0.9


@pytest.mark.parametrize("sparse", [False, True])
def test_placing_and_running_pay_what_is_published(sparse):
    rng = np.random.default_rng(0)
    suite = suite_of("shelf_placing", sparse=sparse)
    task = suite.tasks("test")[0]
    foot = np.array([task.reward.parameters["goal_x_metres"], 0.95, 0.221])
    goals = np.concatenate([foot, foot + (0, 0, 0.1)])
    inputs = np.concatenate(
        [goals + rng.normal(0, 10 ** rng.uniform(-3, -0.5, (200, 1)), (200, 6)), np.zeros((200, 12))], 1
    )
    gaps = np.linalg.norm((inputs[:, :6] - goals).reshape(200, 2, 3), axis=-1)
    expected = [published_placing(*pair, sparse) for pair in gaps]
    np.testing.assert_allclose(suite.reward(task, inputs, None), expected, rtol=0, atol=2e-6)
    assert suite.success(task, inputs).tolist() == (gaps.mean(1) < 0.06).tolist()
    suite = suite_of("cheetah_velocity", sparse=sparse)
    task = suite.tasks("test")[0]
    target, actions = task.reward.parameters["target_metres_per_second"], rng.uniform(-1, 1, (200, 6))
    inputs = np.concatenate([rng.uniform(-1, 4, (200, 1)), np.zeros((200, 17))], 1)
    expected = [published_running(state[0], act, target, sparse) for state, act in zip(inputs, actions, strict=True)]
    np.testing.assert_allclose(suite.reward(task, inputs, actions), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_reward_of_a_scripted_episode_is_what_was_paid(name, sparse):
    suite = suite_of(name, cameras=(), sparse=sparse)
    task = suite.tasks("test")[0]
    env, policy = suite.make(task), suite.scripted(task)
    _, info = env.reset(seed=0)
    inputs, actions, paid = [], [], []
    for _ in range(suite.max_episode_steps):
        actions.append(policy(info["reward_inputs"]))
        _, reward, _, _, info = env.step(actions[-1])
        inputs.append(info["reward_inputs"])
        paid.append(reward)
    np.testing.assert_allclose(suite.reward(task, np.array(inputs), np.array(actions)), paid, rtol=0, atol=1e-6)
    assert np.ptp(paid) > 0.1
