"""Families of changed bodies to train on and to adapt to; what earlier options give stays as it was."""

import hashlib

import numpy as np
import pytest

import task_suites
from task_suites import SuiteError
from task_suites.locomotion import bodies, dynamics
from task_suites.locomotion.bodies import BODIES
from task_suites.locomotion.suite import NAMES

KINDS = ["mass", "disabled", "reversed"]


def suite_of(name, **options):
    return task_suites.get(f"locomotion/{name}", **options)


def changes(suite, split):
    return [dict(task.dynamics) for task in suite.tasks(split)]


def test_tasks_without_the_option_are_what_they_were():
    """Of all names, both splits: runs and references count on them."""
    digest = hashlib.sha256()
    for name in NAMES:
        for split in ("train", "test"):
            for task in suite_of(name).tasks(split):
                digest.update(task.to_json().encode())
    assert digest.hexdigest()[:16] == "d4b50b6e136e0f34"
    plain, changed = suite_of("ant_run"), suite_of("ant_run", changes=KINDS)
    assert plain.fingerprint() == changed.fingerprint() and plain.tasks("train") != changed.tasks("train")
    assert changed.references(changed.tasks("train")[0]) == plain.references(plain.tasks("train")[0]) is not None


@pytest.mark.parametrize("body", BODIES)
def test_a_reversed_joint_pushes_the_other_way_and_the_others_do_not(body):
    suite, names = suite_of(f"{body}_run"), bodies.joints(BODIES[body])
    plain, turned = (
        suite.make(suite.tasks("train")[0].replace(dynamics=dynamics))
        for dynamics in ({}, {"reversed_joint": names[-1]})
    )
    actions, ends = np.random.default_rng(0).uniform(-1, 1, (5, len(names))), {}
    for name, env, sign in (("plain", plain, 1), ("turned", turned, 1), ("back", turned, -1)):
        env.reset(seed=0)
        for action in actions:
            env.step(np.append(action[:-1], sign * action[-1]))
        ends[name] = env.simulation.data.qpos.copy()
    assert np.array_equal(ends["back"], ends["plain"]) and not np.array_equal(ends["turned"], ends["plain"])


def test_the_half_cheetahs_family_is_ten_bodies_and_nine_others():
    suite = suite_of("half_cheetah_run", changes=KINDS)
    train, test = changes(suite, "train"), changes(suite, "test")
    assert train[0] == {} and {} not in test and (len(train), len(test)) == (10, 9)
    joints = {"disabled": ["bthigh", "fthigh", "fshin"], "reversed": ["bshin", "bfoot", "ffoot"]}
    for kind, other in (("disabled", "reversed"), ("reversed", "disabled")):
        assert [c[f"{kind}_joint"] for c in train if f"{kind}_joint" in c] == joints[kind]
        assert [c[f"{kind}_joint"] for c in test if f"{kind}_joint" in c] == joints[other]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kinds", [KINDS, ["disabled"], ["strength", "friction"], "reversed"])
def test_each_joint_is_changed_in_both_splits_in_two_ways(body, kinds):
    suite, names = suite_of(f"{body}_run", changes=kinds), bodies.joints(BODIES[body])
    train, test = changes(suite, "train"), changes(suite, "test")
    assert all(len(change) == 1 for change in train[1:] + test)
    assert len({str(change) for change in train + test}) == len(train + test)
    for kind in ("disabled", "reversed"):
        both = [[c[f"{kind}_joint"] for c in split if f"{kind}_joint" in c] for split in (train, test)]
        assert sorted(both[0] + both[1]) == (sorted(names) if kind in kinds else [])
        assert kind not in kinds or min(map(len, both)) > 0
    for split in (train, test):
        factors = [list(c.values())[0] for c in split if c and next(iter(c)).endswith("_scale")]
        assert all(1.499 < max(factor, 1 / factor) < 2.251 for factor in factors)
    if kinds == KINDS and len(names) > 3:
        masses = [c["mass_scale"] for c in train if "mass_scale" in c]
        assert len(masses) == len(names) // 2 and min(masses) < 1 < max(masses)


def test_more_of_each_scale_can_be_drawn_and_other_kinds_change_none():
    few = suite_of("hopper_upright", changes=["mass", "damping"], train_tasks=2, test_tasks=3)
    many = suite_of("hopper_upright", changes=["damping", "reversed", "mass"], train_tasks=500)
    assert (len(few.tasks("train")), len(few.tasks("test"))) == (5, 6)
    assert set(few.tasks("train")) <= set(many.tasks("train"))
    assert len(set(many.tasks("train"))) == 1 + 1000 + 2 and not set(many.tasks("train")) & set(many.tasks("test"))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("half_cheetah_run", {"changes": ["disable"]}, "'disabled'"),
        ("half_cheetah_run", {"changes": []}, "at least one"),
        ("half_cheetah_run", {"changes": ["mass", "mass"]}, "none twice"),
        ("half_cheetah_run", {"changes": 3}, "changes is 3"),
        ("half_cheetah_run", {"changes": "disabled", "train_tasks": 5}, "train_tasks is 5"),
        ("half_cheetah_velocity", {"changes": KINDS}, "do not differ in their dynamics"),
        ("swimmer_run", {"changes": ["damping"]}, "'damping'"),
        ("ant_run", {"dynamics": {"mass_scale": 2.0}, "changes": KINDS}, "dynamics"),
        ("ant_velocity", {"dynamics": {"reversed_joint": "tail"}}, "reversed_joint"),
    ],
)
def test_wrong_changes_are_named(name, options, said):
    with pytest.raises(SuiteError, match=said) as error:
        suite_of(name, **options)
    assert "\n" not in str(error.value)


def test_scales_of_test_tasks_are_others_than_those_of_training():
    """Not the same draws on a grid of their own, 1e-6 away."""
    body = BODIES["half_cheetah"]
    train, test = ([float(value) for task in dynamics.family(body, ("mass", "friction"), split, 6) if task
                    for value in task.values()] for split in ("train", "test"))  # fmt: skip
    assert len(train) == len(test) == 12 and min(abs(a - b) for a in train for b in test) > 1e-4
