"""Locomotion: Gymnasium's v5 physics and rewards to the bit, and what this family adds to them."""

import gymnasium
import numpy as np
import pytest

import task_suites
from task_suites import DISTRACTOR_NAMES, Distractor, Parameters, Reward, SuiteError, Task
from task_suites.locomotion import bodies, dynamics, rewards
from task_suites.locomotion.bodies import BODIES
from task_suites.locomotion.suite import NAMES
from task_suites.rendering import mujoco

IDS = {
    "half_cheetah": "HalfCheetah-v5",
    "hopper": "Hopper-v5",
    "walker2d": "Walker2d-v5",
    "ant": "Ant-v5",
    "swimmer": "Swimmer-v5",
    "humanoid": "Humanoid-v5",
}
FALLING = ("hopper", "walker2d", "ant", "humanoid")


def suite_of(name, **options):
    return task_suites.get(f"locomotion/{name}", **options)


def first(suite, split="train"):
    return suite.tasks(split)[0]


def actions_of(env, seed, steps, size=1.0):
    return np.random.default_rng(seed).uniform(-size, size, (steps, *env.action_space.shape))


@pytest.mark.parametrize("terminates", [True, False])
@pytest.mark.parametrize("body", BODIES)
def test_trajectories_rewards_and_ends_are_gymnasiums(body, terminates):
    suite = suite_of(f"{body}_run", observation="gymnasium", terminate_when_unhealthy=terminates)
    task = first(suite)
    assert not task.dynamics
    env, largest = suite.make(task), 0.0
    options = {"terminate_when_unhealthy": terminates} if body in FALLING else {}
    theirs = gymnasium.make(IDS[body], **options).unwrapped
    for seed in range(3):
        shown, their_shown = env.reset(seed=seed)[0]["proprio"], theirs.reset(seed=seed)[0]
        assert np.array_equal(shown, their_shown.astype(np.float32))
        for action in actions_of(env, seed, 150):
            observation, paid, ended, _, info = env.step(action)
            their_shown, their_paid, their_end, _, _ = theirs.step(
                action * theirs.model.actuator_ctrlrange[:, 1]
            )
            assert np.array_equal(env.simulation.data.qpos, theirs.data.qpos)
            assert np.array_equal(env.simulation.data.qvel, theirs.data.qvel)
            assert np.array_equal(observation["proprio"], their_shown.astype(np.float32))
            largest = max(largest, abs(paid - their_paid))
            assert ended == their_end
            if ended:
                break
    assert largest < 1e-5


def test_changed_dynamics_leave_gymnasiums_trajectory():
    """The negative control of the test above."""
    suite = suite_of("half_cheetah_run")
    plain, changed = (
        suite.make(first(suite)),
        suite.make(first(suite).replace(dynamics={"mass_scale": 1.001})),
    )
    for env in (plain, changed):
        env.reset(seed=0)
        for action in actions_of(env, 0, 20):
            env.step(action)
    assert not np.array_equal(plain.simulation.data.qpos, changed.simulation.data.qpos)
