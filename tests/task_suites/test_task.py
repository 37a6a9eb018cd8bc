"""Tasks, distractors and the registry as values: what is refused, and how it is said."""

import json

import pytest

import task_suites
from task_suites import Distractor, Parameters, Reward, SuiteError, Task

TASK = Task("family", Reward("go", {"goal_x_metres": 0.1}), {"size": 3}, {"drag": 0.5}, (Distractor("video", 0.5, 2),))


def test_json_keeps_every_field_and_is_plain():
    value = json.loads(TASK.to_json())
    assert value["distractors"] == [{"name": "video", "intensity": 0.5, "seed": 2}]
    assert Task.from_json(TASK.to_json()) == TASK
    assert Task.from_json(TASK.replace(distractors=()).to_json()) != TASK


def stored(**changes):
    """TASK as JSON with fields changed; None leaves one out."""
    value = {**json.loads(TASK.to_json()), **changes}
    return json.dumps({key: item for key, item in value.items() if item is not None})


def test_a_task_of_another_version_is_refused_and_one_of_before_versions_is_read():
    assert json.loads(TASK.to_json())["version"] == 1
    assert Task.from_json(stored(version=None)) == TASK
    for version in (0, 2, "1"):
        with pytest.raises(SuiteError, match=f"version is {version!r}, this release reads 1"):
            Task.from_json(stored(version=version, goal=[0.1, 0.2]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a task in JSON"),
        ("[]", "task is \\[\\]"),
        ("{}", "task: family is missing"),
        (stored(family=3), "family is 3"),
        (stored(dynamics=None), "dynamics is missing"),
        (stored(parameters=[1]), "parameters is \\[1\\]"),
        (stored(parameters={"size": [1]}), "parameter 'size'"),
        (stored(goal=1), "field of task 'goal'"),
        (stored(reward="go"), "reward is 'go'"),
        (stored(reward={"name": "go"}), "reward: parameters is missing"),
        (stored(distractors={"video": 7}), "intensity is 7"),
        (stored(distractors="video"), "distractors: got 'video'"),
        (stored(distractors=[3]), "distractors: got 3"),
        (stored(distractors=[{"name": "video", "intensity": 1, "sed": 2}]), "'sed'; did you mean 'seed'"),
        (stored(distractors=[{"name": "video", "intensity": 7, "seed": 2}]), "intensity is 7"),
    ],
)
def test_json_that_is_no_task_is_refused_naming_the_field(text, said):
    with pytest.raises(SuiteError, match=said) as error:
        Task.from_json(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("vidoe", 0.5, 0), "'video'"),
        (("video", 1.5, 0), "intensity is 1.5"),
        (("video", -0.1, 0), "intensity is -0.1"),
        (("video", float("nan"), 0), "intensity is nan"),
        (("video", True, 0), "intensity is True"),
        (("video", 0.5, -1), "seed is -1"),
        (("video", 0.5, 0.5), "seed is 0.5"),
    ],
)
def test_bad_distractors_name_the_field(arguments, said):
    with pytest.raises(SuiteError, match=said):
        Distractor(*arguments)


def test_bad_tasks_are_refused():
    with pytest.raises(SuiteError, match="twice"):
        TASK.replace(distractors=(Distractor("video"), Distractor("video")))
    with pytest.raises(SuiteError, match="'reward'"):
        TASK.replace(rewards=Reward("go"))
    with pytest.raises(SuiteError, match="finite"):
        Parameters(size=float("inf"))
    with pytest.raises(SuiteError, match="plain scalar"):
        Parameters(goal=[0.1, 0.2])
    with pytest.raises(SuiteError, match="Distractor"):
        TASK.replace(distractors=("video",))


def test_parameters_are_an_immutable_mapping():
    values = Parameters(b=1, a="x")
    assert dict(values) == {"a": "x", "b": 1} and values == {"b": 1, "a": "x"}
    assert hash(values) == hash(Parameters(a="x", b=1))
    with pytest.raises(TypeError):
        values["a"] = "y"


def test_names_tags_and_unknown_names():
    assert "tabletop/gather" in task_suites.names() == sorted(task_suites.names())
    assert all(name.startswith("toy/") for name in task_suites.names("toy"))
    with pytest.raises(SuiteError, match="did you mean 'tabletop/gather'"):
        task_suites.get("tabletop/gathr")
    with pytest.raises(SuiteError, match="tag"):
        task_suites.names("tabeltop")


@pytest.mark.parametrize("name", ["reach", "Tabletop/reach", "a/b/c", "tabletop/", "tabletop/gather"])
def test_bad_or_taken_names_are_refused(name):
    with pytest.raises(SuiteError, match="name"):
        task_suites.register(name, dict)


@pytest.mark.parametrize(
    "value", ["video", {"video": 2.0}, [{"intensity": 1.0}], [{"name": "video", "strength": 1}], [3]]
)
def test_the_distractors_option_is_checked(value):
    with pytest.raises(SuiteError, match="distractor"):
        task_suites.get("tabletop/reach", distractors=value)


def test_a_mapping_of_distractors_is_read_wherever_a_task_is():
    plain, expected = TASK.replace(distractors=()), (Distractor("video", 0.5), Distractor("lights", 1.0))
    given = {"video": 0.5, "lights": 1}
    assert Task(plain.family, plain.reward, distractors=given).distractors == expected
    assert plain.replace(distractors=given).distractors == expected
    listed = [{"name": "video", "intensity": 0.5}, {"name": "lights"}]
    assert plain.replace(distractors=listed).distractors == expected
    written = json.loads(plain.to_json())
    assert Task.from_json(json.dumps({**written, "distractors": given})).distractors == expected
    assert task_suites.as_distractors(given) == expected


def test_the_distractors_option_is_put_on_sampled_tasks():
    suite = task_suites.get("tabletop/reach", distractors={"video": 0.5})
    assert suite.sample("train", 1, 0)[0].distractors == (Distractor("video", 0.5, 0),)
    with pytest.raises(SuiteError, match="no distractors"):
        toy = task_suites.get("toy/lqr")
        toy.make(toy.sample("train", 1, 0)[0].replace(distractors=(Distractor("video"),)))


def test_two_tasks_are_drawn_in_the_order_in_which_they_are_listed(of):
    """So says docs/suites/own.md of a target with `index: 1`."""
    mine = of("Pendulum-v1", tasks={"test": [{"dynamics": {"g": 9.0}}, {"dynamics": {"g": 1.0}}]})()
    assert mine.sample("test", 2, seed=0) == mine.tasks("test")


def test_a_task_is_known_by_being_the_same_and_not_by_its_place_in_memory():
    """A later task may lie where one lay that was checked and is gone."""
    suite = task_suites.get("toy/lqr")
    mine, other = suite.tasks("train")[0], task_suites.get("toy/puck").tasks("train")[0]
    assert suite.check(mine) is mine
    suite._checked[id(other)] = suite._checked.pop(id(mine))
    with pytest.raises(task_suites.SuiteError, match="task is of family 'puck', expected 'lqr'"):
        suite.check(other)
    with pytest.raises(task_suites.SuiteError, match="got NoneType, expected a Task"):
        suite.check(None)
