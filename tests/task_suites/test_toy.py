"""The toy environments against closed forms."""

import numpy as np
import pytest

import task_suites
from task_suites.toy import lqr


@pytest.mark.parametrize(("ends", "flags"), [("terminate", (True, False)), ("truncate", (False, True))])
def test_counting_says_step_episode_and_action(ends, flags):
    suite = task_suites.get("toy/counting", episode_steps=3, ends=ends)
    task = suite.sample("train", 1, 0)[0]
    env = suite.make(task)
    env.reset(seed=41)
    observation, _ = env.reset()
    assert observation["proprio"].tolist() == [0, 42, 0, 0]
    for step in (1, 2, 3):
        action = np.array([0.25 * step, -0.5], np.float32)
        observation, reward, *ended, info = env.step(action)
        assert observation["proprio"].tolist() == [step, 42, 0.25 * step, -0.5]
        assert (observation["image_top"] == [step, 42, 0]).all()
        assert reward == pytest.approx(0.1 * step + 0.25 * step, abs=1e-6)
        assert tuple(ended) == (flags if step == 3 else (False, False))
        assert bool(suite.terminated(task, info["reward_inputs"], action)) == ended[0]


def run(suite, task, policy, seed):
    env = suite.make(task)
    _, info = env.reset(seed=seed)
    start, total, largest = info["reward_inputs"], 0.0, 0.0
    for _ in range(suite.max_episode_steps):
        action = policy(info["reward_inputs"])
        largest = max(largest, np.abs(action).max())
        _, reward, _, _, info = env.step(action)
        total += reward
    return start, total, largest


def test_the_optimal_policy_earns_the_closed_form_return_inside_the_box():
    suite = task_suites.get("toy/lqr")
    for task in suite.tasks("train") + suite.tasks("test"):
        start, total, largest = run(suite, task, suite.scripted(task), seed=1)
        assert total == pytest.approx(suite.optimal_return(task, start), abs=1e-4)
        assert largest < 1.0


def test_no_other_gain_does_better():
    suite = task_suites.get("toy/lqr")
    task = suite.sample("test", 1, 0)[0]
    rng = np.random.default_rng(0)
    for _ in range(20):
        policy = suite.scripted(task)
        shift = 0.02 * rng.standard_normal((2, 4))
        start, total, _ = run(suite, task, lambda x, p=policy, d=shift: p(x) + d @ (x - p._goal), seed=2)
        assert total < suite.optimal_return(task, start)


def test_long_horizons_reach_the_stationary_gain():
    solution = lqr.solve(0.5, 400)
    np.testing.assert_allclose(solution.gains[0], solution.stationary_gain, atol=1e-9)
    assert np.abs(solution.gains[-1] - solution.stationary_gain).max() > 0.1


def test_the_blob_is_where_the_state_is():
    picture = task_suites.get("toy/lqr").picture(np.array([0.5, -0.5]), 32).astype(float).sum(-1)
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    assert (row, column) in {(23, 23), (23, 24), (24, 23), (24, 24)}  # y up: below the middle


def test_position_can_be_hidden():
    suite = task_suites.get("toy/lqr", hide_position=True)
    observation, _ = suite.make(suite.sample("train", 1, 0)[0]).reset(seed=0)
    assert observation["proprio"].shape == (2,)
