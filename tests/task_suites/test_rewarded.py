"""Rewards of a user on suites that are there already."""

import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import task_suites
from task_suites import registry
from task_suites.distribution import TaskDistribution
from task_suites.rewarded import OF_THE_SUITE


def low(inputs, action, target_metres):
    """The hand is as low as wanted."""
    return -abs(inputs[..., 2] - target_metres)


@pytest.fixture
def suite(monkeypatch):
    """suite(base, **changes) registers mine/task and gives a function that opens it with options."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    def make(base="tabletop/push", **changes):
        tasks = {"train": [{"target_metres": 0.2}], "test": [{"target_metres": 0.1}]}
        task_suites.with_rewards("mine/task", base, **{"reward": low, "tasks": tasks, **changes})
        return lambda **options: task_suites.get("mine/task", **options)

    yield make
    gymnasium.registry.pop(task_suites.gymnasium_id("mine/task"), None)


def test_physics_pictures_and_options_are_the_suites_and_only_the_reward_is_not(suite):
    options = {"image_size": 16, "cameras": ("top",), "distractors": {"video": 0.5}}
    mine = suite(success=lambda inputs, target_metres: inputs[..., 2] < target_metres)(**options)
    base = task_suites.get("tabletop/push", **options)
    assert mine.fingerprint() == base.fingerprint() and mine.object_input_names == base.object_input_names
    assert mine.workspace == base.workspace
    task, theirs = mine.sample("test", 1, seed=0)[0], base.sample("test", 1, seed=0)[0]
    assert task.distractors == theirs.distractors and task.family == "tabletop"
    assert task_suites.Task.from_json(task.to_json()) == task and mine.references(task) is None
    ours, other = mine.make(task), base.make(theirs)
    assert np.array_equal(ours.reset(seed=2)[0]["image_top"], other.reset(seed=2)[0]["image_top"])
    for action in np.random.default_rng(0).uniform(-1, 1, (5, 5)):
        seen, paid, _, _, info = ours.step(action)
        expected = other.step(action)
        assert np.array_equal(seen["image_top"], expected[0]["image_top"])
        assert paid == pytest.approx(-abs(info["reward_inputs"][2] - 0.1)) != expected[1]
        assert info["success"] == (info["reward_inputs"][2] < 0.1) and info["task"] == task
    assert mine.describe(task) == "the hand is as low as wanted (reward 'low' with target_metres=0.1)"
    assert {"own", "mujoco"} <= set(task_suites.tags("mine/task"))
    with pytest.raises(task_suites.SuiteError, match="pretrain.scripted=0"):
        mine.scripted(task)


OF_THE_REWARD = {"name", "reward_words", "reward_values", "options_type", "tells_success"}


def test_all_that_a_suite_says_is_of_it_or_of_the_reward():
    """What is added to `TaskDistribution` belongs to one of the two."""
    assert set(OF_THE_SUITE) | OF_THE_REWARD == set(TaskDistribution.__annotations__)
    assert not set(OF_THE_SUITE) & OF_THE_REWARD


def test_what_imagining_leaves_out_and_how_dynamics_are_numbered_are_the_suites(suite):
    tasks = {"train": [{"scene": 1}]}  # without a thigh, of those there are
    pays = {"reward": lambda inputs, action: inputs[..., 0], "tasks": tasks}
    options = {"changes": ["disabled"], "observation": "reward_inputs"}
    mine = suite("locomotion/hopper_run", **pays)(**options)
    base = task_suites.get("locomotion/hopper_run", **options)
    assert mine.invariant_input_names == base.invariant_input_names == ("rootx_metres",)
    assert mine.task_vector(mine.tasks("train")[0]).tolist() == [0, 0, 1]


def test_scenes_are_the_suites_tasks_by_number(suite):
    tasks = {"train": [{"target_metres": 0.2, "scene": 3}, {"target_metres": 0.2}]}
    mine, base = suite("meld/buttons", tasks=tasks)(cameras=()), task_suites.get("meld/buttons")
    scenes = base.sample("train", 4, seed=0)
    assert [task.parameters for task in mine.tasks("train")] == [scenes[3].parameters, scenes[0].parameters]


def test_the_suites_own_end_is_kept_and_another_added(suite):
    def fast(inputs, action):
        return inputs[..., 0] > 1.0

    mine = suite("locomotion/hopper_velocity", reward=lambda inputs, action: inputs[..., 0], tasks=None,
                 terminated=fast)()  # fmt: skip
    task, base = mine.tasks("train")[0], task_suites.get("locomotion/hopper_velocity")
    inputs = np.zeros((2, len(mine.reward_input_names)), np.float32)
    fallen = base.terminated(base.tasks("train")[0], inputs, None)
    assert fallen.all() and mine.terminated(task, inputs, None).all()
    env, rng = mine.make(task), np.random.default_rng(0)
    info, over = env.reset(seed=0)[1], False
    while not over:
        _, _, over, truncated, info = env.step(rng.uniform(-1, 1, 3))
        assert over == mine.terminated(task, info["reward_inputs"], None) and not truncated


def test_the_suites_tasks_are_not_listed_at_every_step(suite, monkeypatch):
    mine = suite()(cameras=())
    task = mine.tasks("train")[0]
    monkeypatch.setattr(type(mine._base), "tasks", lambda self, split: pytest.fail("listed"))
    env = mine.make(task)
    env.reset(seed=0)
    env.step(np.zeros(5))


def test_a_suite_may_have_test_tasks_only(suite):
    task_suites.gymnasium_task("mine/pole", "CartPole-v1", tasks={"test": [{}]})
    given = {"base": "mine/pole", "reward": lambda inputs, action: inputs[..., 0]}
    try:
        mine = suite(**given, tasks={"test": [{}]})()
        assert mine.make(mine.tasks("test")[0]).reset(seed=0)[1]["task"] == mine.tasks("test")[0]
        registry._ENTRIES.pop("mine/task")
        gymnasium.registry.pop(task_suites.gymnasium_id("mine/task"))
        with pytest.raises(task_suites.SuiteError, match="mine/pole has no train tasks"):
            suite(**given, tasks=None)()
    finally:
        gymnasium.registry.pop(task_suites.gymnasium_id("mine/pole"))


def test_options_that_say_what_is_sampled_stay_so(suite):
    task = suite()().tasks("train")[0]
    with pytest.raises(task_suites.SuiteError, match="sparse says which task is sampled"):
        gymnasium.make("task_suites/mine-task-v0", task=task, sparse=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base": "tabletop/pusch"}, "tabletop/push"),
        ({"base": "mine/task"}, "suite is 'mine/task', which is made of 'mine/task' itself"),
        ({"reward": {"own": None}}, "expected a function, or functions by name$"),
        ({"success": "near"}, "^mine/task: success is 'near': expected a function, or None"),
        ({"tags": 3}, "^mine/task: tags is 3: expected words"),
        (
            {"tasks": {"train": [{"target_metres": 1.0}, {"target_metres": 1.0, "scene": 3}]}},
            "again in train \\(scenes 0 and 3 are the same\\)",
        ),
        ({"tasks": {"train": [{"target_metres": 1.0, "scene": 25}]}}, "scene is 25: .* 0 to 24"),
        ({"tasks": {"train": [{"target": 1.0}]}}, "target_metres"),
        ({"reward": lambda inputs, action, target_metres: inputs}, "reward 'task', given numpy"),
    ],
)
def test_what_is_wrong_is_named(suite, changes, words):
    with pytest.raises(task_suites.SuiteError, match=words):
        suite(**changes)()


def test_a_suite_is_not_made_of_itself_where_it_is_registered_again(suite):
    given = {"reward": lambda inputs, action: inputs[..., 0]}
    suite(**given, tasks=None)
    try:
        task_suites.with_rewards("mine/other", "mine/task", **given)
        with pytest.raises(
            task_suites.SuiteError, match="^mine/task: suite is 'mine/other', which is made of 'mine/task'"
        ):
            suite(**given, base="mine/other")
        suite(base="toy/lqr", **given, tasks=None)
        assert task_suites.get("mine/other").family == "lqr"  # of what is registered now
    finally:
        gymnasium.registry.pop(task_suites.gymnasium_id("mine/other"))


def test_the_code_of_the_documentation_runs(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    text = (Path(__file__).resolve().parents[2] / "docs" / "suites" / "own.md").read_text()
    section = text.partition("## Your own reward on a suite")[2].partition("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)
    exec(code, {})
    mine = task_suites.get("mine/apart", cameras=())
    env = mine.make(mine.sample("test", 1, seed=0)[0])
    inputs = env.reset(seed=0)[1]["reward_inputs"]
    paid = mine.reward(env.task, inputs, None)
    assert paid == pytest.approx(-abs(inputs[9] - inputs[3] - 0.3))
    gymnasium.registry.pop(task_suites.gymnasium_id("mine/apart"), None)
