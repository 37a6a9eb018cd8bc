"""Where Meta-World's goals are hidden, and in which scenes they are seen all the same."""

import numpy as np
import pytest

import task_suites
from task_suites import Parameters
from task_suites.metaworld import layouts

pytest.importorskip("metaworld")


def suite_of(scene, **options):
    return task_suites.get("metaworld/ml1", scene=scene, **options)


def with_other_goals(scene):
    """Return the first task of `scene` and one that differs in the goal alone."""
    task, space = suite_of(scene).tasks("train")[0], layouts.SPACES[scene]
    numbers, rng = layouts.numbers(task.parameters), np.random.default_rng(0)
    while True:
        drawn = np.concatenate([numbers[:3], space.draw(rng)[3:]])
        if space.allows(drawn) and np.abs(drawn - numbers).max() > 1e-3:
            changed = dict(zip(layouts.NUMBER_NAMES, drawn.tolist(), strict=True))
            return task, task.replace(parameters=Parameters(task.parameters, **changed))


def seen_of(task, **options):
    """Return what a few steps of `task` show, one list of pictures or states."""
    env = suite_of(task.parameters["scene"], image_size=32, **options).make(task)
    actions = np.random.default_rng(1).uniform(-1, 1, (4, 4))
    found = [env.reset(seed=1)[0], *(env.step(action)[0] for action in actions)]
    env.close()
    return found


def differ(first, second):
    """Return the keys of what differs."""
    pairs = list(zip(first, second, strict=True))
    return {key for a, b in pairs for key in a if not np.array_equal(a[key], b[key])}


# Those with a goal of their own to vary: six numbers, and the goal's not all but fixed.
GOAL_SCENES = [
    scene
    for scene, space in layouts.SPACES.items()
    if len(space.low) == 6 and np.ptp([space.low[3:], space.high[3:]], axis=0).max() > 0.01
]
QUICK = ("reach", "push", "soccer", "box-close")


@pytest.mark.parametrize("scene", ["reach", "push"])
def test_a_shown_goal_is_seen(scene):
    first, second = (seen_of(task, show_goal=True) for task in with_other_goals(scene))
    assert all("image_corner4" in differ([a], [b]) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "scene",
    [scene if scene in QUICK else pytest.param(scene, marks=pytest.mark.slow) for scene in GOAL_SCENES],
)
def test_a_hidden_goal_is_hidden_but_where_it_is_said_to_be_seen(scene):
    tasks = with_other_goals(scene)
    pictures_differ = differ(*(seen_of(task) for task in tasks))
    assert pictures_differ == ({"image_corner4"} if scene in layouts.GOALS_IN_PICTURES else set())
    states_differ = differ(*(seen_of(task, state=True) for task in tasks))
    assert states_differ == ({"proprio"} if scene in layouts.GOALS_IN_STATE else set())


def test_its_smooth_pictures_are_what_they_were():
    assert task_suites.get("metaworld/ml1").fingerprint() == "c975868c6fee"
