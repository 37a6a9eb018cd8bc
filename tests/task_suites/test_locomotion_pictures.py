"""Locomotion's pictures follow the runner, show no targets and leave the physics alone."""

import numpy as np
import pytest

import task_suites
from task_suites import DISTRACTOR_NAMES, Distractor
from task_suites.locomotion import bodies
from task_suites.locomotion.bodies import BODIES

ALL = tuple(Distractor(name, 1.0, 1) for name in DISTRACTOR_NAMES)


def suite_of(name, **options):
    return task_suites.get(f"locomotion/{name}", **options)


def first(suite, split="train"):
    return suite.tasks(split)[0]


def at_random(env, seed, steps, size=1.0):
    return np.random.default_rng(seed).uniform(-size, size, (steps, *env.action_space.shape))


def pixels(name, distractors=(), steps=10, seed=2, **options):
    """Return (pictures, qpos, rewards) of some random steps, drawn at every step."""
    suite = suite_of(name, image_size=32, terminate_when_unhealthy=False, **options)
    env = suite.make(first(suite).replace(distractors=distractors))
    found = [env.reset(seed=seed)[0]]
    states, paid = [], []
    for action in at_random(env, seed, steps):
        observation, reward, _, _, _ = env.step(action)
        found.append(observation)
        states.append(env.simulation.data.qpos.copy())
        paid.append(reward)
    env.close()
    return found, np.array(states), np.array(paid)


@pytest.mark.parametrize("body", BODIES)
def test_pictures_and_distractors_never_touch_the_physics(body):
    plain = pixels(f"{body}_run")
    for distractors in ((), ALL):
        drawn = pixels(f"{body}_run", distractors, cameras=("side", "top"))
        assert np.array_equal(plain[1], drawn[1]) and np.array_equal(plain[2], drawn[2])
        for a, b in zip(plain[0], drawn[0], strict=True):
            assert np.array_equal(a["proprio"], b["proprio"])


@pytest.mark.parametrize("name", DISTRACTOR_NAMES)
def test_each_distractor_changes_the_picture_and_none_at_intensity_0(name):
    plain = pixels("walker2d_run", cameras=("side",), steps=3)[0]
    none = pixels("walker2d_run", (Distractor(name, 0.0),), cameras=("side",), steps=3)[0]
    full = pixels("walker2d_run", (Distractor(name, 1.0),), cameras=("side",), steps=3)[0]
    assert all(np.array_equal(a["image_side"], b["image_side"]) for a, b in zip(plain, none, strict=True))
    for a, b in zip(plain, full, strict=True):
        assert np.abs(a["image_side"].astype(int) - b["image_side"]).mean() > 1


@pytest.mark.parametrize("body", BODIES)
def test_cameras_follow_and_the_floor_never_ends(body):
    suite = suite_of(f"{body}_run", cameras=("side", "top"), image_size=48)
    env = suite.make(first(suite))
    env.reset(seed=0)

    def at(metres):
        env.simulation.data.qpos[0] += metres
        shown = {name: env._pictures.draw(name, 0).astype(int) for name in bodies.CAMERAS}
        env.simulation.data.qpos[0] -= metres
        return shown

    here, far, between = at(0.0), at(25 * bodies.FLOOR_PERIOD_METRES), at(25.3)
    for name in bodies.CAMERAS:
        assert np.abs(here[name] - far[name]).mean() < 1.5
        assert np.abs(here[name] - between[name]).mean() > 1.5  # the floor shows how far it went
    env.close()


@pytest.mark.parametrize("name", ["half_cheetah_velocity", "ant_goal", "humanoid_direction"])
def test_targets_show_in_no_observation(name):
    suite = suite_of(name, cameras=("side",), image_size=32)
    runs = []
    for task in (suite.tasks("train")[0], suite.tasks("test")[-1]):
        env = suite.make(task)
        runs.append([env.reset(seed=1)[0], *(env.step(action)[0] for action in at_random(env, 1, 5))])
        env.close()
    for a, b in zip(*runs, strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in a)


def test_pictures_can_be_all_that_is_observed():
    alone, beside = (suite_of("half_cheetah_direction", cameras=("side",), image_size=16, observation=kind)
                     for kind in ("pictures", "compact"))  # fmt: skip
    assert set(alone.observation_space) == {"image_side"} and set(beside.observation_space) == {"image_side", "proprio"}
    found = []
    for suite in (alone, beside):
        env = suite.make(first(suite))
        assert env.observation_space == suite.observation_space
        found.append([env.reset(seed=1)[0], *(env.step(action)[0] for action in at_random(env, 1, 3))])
        env.close()
    for a, b in zip(*found, strict=True):
        assert set(a) == {"image_side"} and np.array_equal(a["image_side"], b["image_side"])
    with pytest.raises(task_suites.SuiteError, match="name cameras"):
        suite_of("half_cheetah_direction", observation="pictures")
