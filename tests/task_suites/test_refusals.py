"""Wrong tasks, options and names are refused in one line that names the field; equal tasks score alike."""

import gymnasium
import numpy as np
import pytest

import task_suites
from task_suites import Distractor, Parameters, Reward, SuiteError, Task, registry
from task_suites.meld import scenes

LQR_GOAL = {"goal_x_metres": 0.0, "goal_y_metres": 0.0}
POINT = {"point_x_metres": 0.0, "point_y_metres": 0.6, "point_z_metres": 0.1}
BLIND = {"tabletop": {"cameras": ()}, "metaworld": {"state": True}}


def suite_of(name, **options):
    return task_suites.get(name, **BLIND.get(name.split("/")[0], {}), **options)


def paid(name, **parameters):
    return {"reward": Reward(name, parameters)}


def push(**changes):
    given = {"colour": "blue", "sparse": False, "goal_x_metres": 0.0, "goal_y_metres": 0.0, **changes}
    return paid("push", **{name: value for name, value in given.items() if value is not None})


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("tabletop/push", push(goal_x_metres=None), "goal_x_metres is missing"),
        (
            "tabletop/push",
            push(goal_x_metres="far"),
            "goal_x_metres .* is 'far', expected a number from -0.17",
        ),
        ("tabletop/push", push(goal_x_metres=99.0), "goal_x_metres .* is 99.0"),
        ("tabletop/push", push(goal_x_metres=True), "goal_x_metres .* is True"),
        ("tabletop/push", push(colour="purple"), "colour in .* 'purple'"),
        ("tabletop/push", push(sparse=1), "sparse .* is 1"),
        ("tabletop/push", push(gaol=1), "'gaol'"),
        ("tabletop/push", paid("gather", colour="green", sparse=False), "colour in .* 'green'"),
        ("tabletop/push", paid("shove"), "reward .* 'shove'"),
        ("tabletop/push", {"parameters": {"bogus": 5}}, "parameters of tabletop/push: got 'bogus'"),
        ("tabletop/push", {"dynamics": {"mass_scale": 5.0}}, "dynamics of tabletop/push: got 'mass_scale'"),
        ("toy/lqr", paid("cubic", **LQR_GOAL), "reward of toy/lqr 'cubic'"),
        ("toy/lqr", paid("quadratic"), "goal_x_metres is missing"),
        ("toy/lqr", {"dynamics": {}}, "drag_per_second is missing"),
        ("toy/lqr", {"dynamics": {"drag_per_second": 1e6}}, "drag_per_second .* is 1000000.0"),
        ("toy/counting", paid("count", per_step=1.0), "per_action is missing"),
        ("metaworld/ml1", {"dynamics": {"mass_scale": 5.0}}, "dynamics of metaworld/ml1: got 'mass_scale'"),
        ("metaworld/ml1", {"parameters": {}}, "scene is missing"),
        (
            "metaworld/ml1",
            paid("reach_point", **{**POINT, "point_x_metres": "a"}),
            "point_x_metres .* is 'a'",
        ),
        (
            "metaworld/ml1",
            paid("reach_point", **{**POINT, "point_x_metres": 1e6}),
            "point_x_metres .* is 1000",
        ),
        ("metaworld/ml1", paid("v2", **POINT), "got 'point_x_metres'"),
        ("locomotion/hopper_velocity", {"parameters": {"bogus": 1}}, "parameters .* got 'bogus'"),
        (
            "locomotion/hopper_velocity",
            paid("velocity", target_metres_per_second=1e9),
            "target_metres_per_second .* is 1000000000.0",
        ),
    ],
)
def test_a_task_that_says_what_it_may_not_is_refused_wherever_it_is_given(name, changes, said):
    suite = suite_of(name)
    task = suite.tasks("train")[0].replace(**changes)
    for use in (suite.check, suite.make, suite.describe, suite.references, suite.scripted):
        with pytest.raises(SuiteError, match=said) as error:
            use(task)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("tabletop/reach", {"sparse": "false"}, "sparse is 'false': expected true or false"),
        ("tabletop/reach", {"antialias": 1}, "antialias is 1"),
        ("tabletop/reach", {"cameras": 3}, "cameras is 3"),
        ("tabletop/reach", {"control_hz": 10.0}, "control_hz is 10.0"),
        ("tabletop/reach", {"image_size": None}, "image_size is None"),
        ("tabletop/reach", {"cameras": (), "distractors": {"video": 0.5}}, "distractors: there are no pict"),
        ("meld/reacher", {"proprio": "no"}, "proprio is 'no'"),
        ("toy/lqr", {"hide_position": "no"}, "hide_position is 'no'"),
        ("toy/lqr", {"image_size": 0}, "image_size is 0: expected a whole number from 1"),
        ("metaworld/ml1", {"scene": ["reach", "push"]}, "scene \\['reach', 'push'\\]"),
        ("metaworld/ml1", {"scene": 3}, "scene 3"),
        ("metaworld/ml1", {"train_scenes": ["push"]}, "train_scenes is \\['push'\\]: ml1 has no such choice"),
        ("metaworld/ml10", {"scene": "push"}, "scene is 'push': ml10 has no such choice"),
        ("metaworld/custom", {"scene": "push"}, "scene is 'push'"),
        ("metaworld/custom", {"train_scenes": 3}, "train_scenes is 3"),
        ("metaworld/ml1", {"state": "no"}, "state is 'no'"),
        ("metaworld/ml1", {"show_goal": 0}, "show_goal is 0"),
        ("metaworld/ml1", {"state": True, "distractors": {"video": 0.5}}, "distractors: there are no pict"),
        ("locomotion/hopper_run", {"distractors": {"video": 0.5}}, "distractors: there are no pictures"),
        ("locomotion/half_cheetah_direction", {"train_tasks": 5}, "train_tasks is 5: .* one task per direc"),
        ("locomotion/half_cheetah_velocity", {"dynamics": "x"}, "dynamics is 'x'"),
        ("locomotion/half_cheetah_velocity", {"dynamics": ["mass_scale"]}, "dynamics is \\['mass_scale'\\]"),
        ("locomotion/hopper_run", {"terminate_when_unhealthy": 1}, "terminate_when_unhealthy is 1"),
        ("locomotion/half_cheetah_direction", {"published_splits": "no"}, "published_splits is 'no'"),
    ],
)
def test_an_option_of_the_wrong_kind_or_without_effect_is_refused(name, options, said):
    with pytest.raises(SuiteError, match=said) as error:
        task_suites.get(name, **options)
    assert "\n" not in str(error.value)


def test_a_name_is_no_option():
    with pytest.raises(SuiteError, match="option of tabletop/reach 'name'"):
        task_suites.get("tabletop/reach", name="tabletop/push")


def test_whole_numbers_of_numpy_are_as_good():
    suite = suite_of("toy/lqr", image_size=np.int64(8))
    assert suite.fingerprint() == suite_of("toy/lqr", image_size=8).fingerprint()
    table = suite_of("tabletop/reach", control_hz=np.int64(20))
    assert table.fingerprint() == suite_of("tabletop/reach", control_hz=20).fingerprint()
    assert suite.sample("train", np.int64(2), np.int64(1)) == suite.sample("train", 2, 1)
    for count, seed, said in ((1, -1, "seed"), (1, "a", "seed"), (2.0, 0, "count"), ("2", 0, "count")):
        with pytest.raises(SuiteError, match=f"{said} is"):
            suite.sample("train", count, seed)


def test_a_suite_without_pictures_refuses_a_tasks_distractors_and_one_with_them_says_its_own():
    blind = suite_of("tabletop/reach")
    with pytest.raises(SuiteError, match="pictures have no distractors"):
        blind.make(blind.tasks("train")[0].replace(distractors=(Distractor("video"),)))
    assert "video" in repr(task_suites.get("tabletop/reach", distractors={"video": 0.5}))


def test_equal_tasks_have_equal_references_and_a_bool_is_no_number():
    suite = suite_of("tabletop/push")
    whole, broken = (
        suite.tasks("train")[0].replace(**push(goal_x_metres=zero, goal_y_metres=zero)) for zero in (0, -0.0)
    )
    assert whole == broken and hash(whole) == hash(broken)
    assert suite.references(whole) == suite.references(broken) != None  # noqa: E711
    assert Parameters(x=1) == Parameters(x=1.0) and Parameters(x=1) != Parameters(x=True)


def test_names_of_one_family_know_each_others_references():
    for ours, other, split in (("push", "match_positions", "test"), ("lift", "reach", "train")):
        suite = suite_of(f"tabletop/{ours}")
        task = suite.tasks(split)[0]
        for steps in (None, 30, 60):
            found = suite_of(f"tabletop/{other}", episode_steps=steps or suite.max_episode_steps)
            expected = suite_of(f"tabletop/{ours}", episode_steps=steps).references(task)
            assert found.references(task) == expected
        assert suite.references(task) is not None


@pytest.mark.parametrize(("body", "reward"), [("hopper", "upright"), ("ant", "goal")])
def test_a_task_ends_by_its_reward_whatever_name_makes_it(body, reward):
    own, other = (task_suites.get(f"locomotion/{body}_{name}") for name in (reward, "run"))
    task, back = own.tasks("train")[0], other.tasks("train")[0]
    assert own.references(task) == other.references(task) is not None
    assert own.references(back) == other.references(back) is not None
    fallen = np.zeros((1, len(own.reward_input_names)), np.float32)
    for suite in (own, other):
        assert not suite.terminated(task, fallen, None).any() and suite.terminated(back, fallen, None).all()
        assert not play_until_the_end(suite, task) and play_until_the_end(suite, back)
    always = task_suites.get(f"locomotion/{body}_{reward}", terminate_when_unhealthy=True)
    assert always.terminated(task, fallen, None).all() and play_until_the_end(always, task)


def play_until_the_end(suite, task):
    env, rng = suite.make(task), np.random.default_rng(0)
    env.reset(seed=0)
    ended = truncated = False
    while not ended and not truncated:
        _, _, ended, truncated, _ = env.step(rng.uniform(-1, 1, env.action_space.shape))
    return ended


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("tabletop/reach", {"distractors": {"video": 0.5}}, "distractors"),
        ("tabletop/reach", {"sparse": True}, "sparse"),
        ("tabletop/reach", {"split": "test"}, "split"),
        ("tabletop/reach", {"task_seed": 0}, "task_seed"),
        ("locomotion/hopper_velocity", {"dynamics": {"mass_scale": 2.0}}, "dynamics"),
        ("metaworld/ml1", {"scene": "push"}, "scene"),
    ],
)
def test_gymnasium_refuses_a_task_beside_what_says_which_task(name, options, said):
    suite = task_suites.get(name)
    task = suite.tasks("train")[0]
    with pytest.raises(SuiteError, match=f"{said} says which task is sampled"):
        gymnasium.make(task_suites.gymnasium_id(name), task=task, **options)


@pytest.mark.parametrize("name", ["zz/bad@name", "zz/bad name", 3, None, "tabletop/mine", "ant/mine", "lqr/mine"])
def test_a_name_that_gymnasium_or_a_family_of_ours_rules_out_is_not_kept(name):
    for _ in range(2):
        with pytest.raises(SuiteError, match="name"):
            task_suites.register(name, dict)
    assert name not in task_suites.names()


@pytest.mark.parametrize(("given", "said"), [
    ({"factory": 3}, "factory is 3: expected a callable, or 'module:attribute'"),
    ({"factory": "my_module"}, "factory is 'my_module': expected a callable"),
    ({"factory": dict, "tags": 3}, "tags is 3: expected words"),
])  # fmt: skip
def test_what_builds_no_distribution_is_not_kept(given, said):
    with pytest.raises(SuiteError, match=f"^zz/mine: {said}"):
        task_suites.register("zz/mine", **given)
    assert "zz/mine" not in task_suites.names()


def test_two_names_of_one_id_are_refused(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    task_suites.register("aa-bb/cc", dict)
    try:
        with pytest.raises(SuiteError, match=f"registered already, as 'aa-bb/cc', by the module {__name__}: choose"):
            task_suites.register("aa/bb-cc", dict)
    finally:
        gymnasium.registry.pop(task_suites.gymnasium_id("aa-bb/cc"))


WAYS = {
    "register": "register(name, lambda name: get('toy/lqr', episode_steps=steps))",
    "gymnasium_task": "gymnasium_task(name, 'Pendulum-v1', max_episode_steps=steps, tags=(f'steps{steps}',))",
    "with_rewards": "with_rewards(name, f'toy/{suite}', reward=lambda inputs, action: inputs[..., 0])",
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("way", WAYS)
def test_the_module_of_a_name_may_register_it_anew_and_no_other_may(monkeypatch, way):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    steps = {}
    try:
        for suite, limit in (("lqr", 20), ("counting", 12)):
            given = {"__name__": "__main__", "name": "aa/again", "suite": suite, "steps": limit}
            exec(f"from task_suites import *\n{WAYS[way]}", given)
            assert task_suites.names("aa") == ["aa/again"]
            steps[suite] = task_suites.get("aa/again").max_episode_steps
            with gymnasium.make(task_suites.gymnasium_id("aa/again")) as env:
                assert env.observation_space == task_suites.get("aa/again").observation_space
        assert steps["lqr"] != steps["counting"]
        assert "steps20" not in task_suites.tags("aa/again")
        with pytest.raises(SuiteError, match="name 'aa/again' is registered already, by the module __main__: choose"):
            exec(f"from task_suites import *\n{WAYS[way]}", {**given, "__name__": "elsewhere"})
        with pytest.raises(SuiteError, match="this family is the package's own"):
            exec(f"from task_suites import *\n{WAYS[way]}", {**given, "name": "toy/lqr"})
    finally:
        gymnasium.registry.pop(task_suites.gymnasium_id("aa/again"), None)


def test_families_of_ours_are_nobody_elses_and_tags_are_true():
    for name in task_suites.names():
        suite, tags = task_suites.get(name), task_suites.tags(name)
        with pytest.raises(SuiteError, match="the package's own"):
            task_suites.register(f"{suite.family}/mine", dict)
        pictures = [key for key in suite.observation_space.spaces if key.startswith("image_")]
        assert bool(pictures) == ("images" in tags)
    with pytest.raises(SuiteError, match="unknown tag '' \\(valid"):
        task_suites.names("")


@pytest.mark.parametrize("text", [b"\xff", "[" * 100_000, 3], ids=["bytes", "deep", "number"])
def test_what_is_no_text_of_a_task_is_refused(text):
    with pytest.raises(SuiteError, match="not a task in JSON"):
        Task.from_json(text)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Reward(3), "name is 3"),
        (lambda: Task("tabletop", None), "reward is None"),
        (lambda: Task(["tabletop"], Reward("reach")), "family is \\['tabletop'\\]"),
        (lambda: Parameters("ab"), "parameters are 'ab'"),
        (lambda: Task("a", Reward("b"), dynamics={"g": (1, 2, 3)}), "^task: dynamics: .* 3 numbers: g_x, g_y, g_z$"),
    ],
)
def test_fields_of_another_type_are_refused(make, said):
    with pytest.raises(SuiteError, match=said):
        make()


GOALS = [
    *((f"tabletop/{name}", {}) for name in ("reach", "push", "gather", "match_positions", "stack", "place")),
    *(("metaworld/ml1", {"reward": name}) for name in ("reach_point", "reach_goal")),
    ("meld/shelf_placing", {}),
]


@pytest.mark.parametrize(("name", "options"), GOALS)
def test_gradients_are_finite_where_distances_are_zero(name, options):
    torch = pytest.importorskip("torch")
    suite = suite_of(name, **options)
    task = suite.tasks("train")[12 if name == "tabletop/push" else 0]  # of push: whose goal is at zeros
    values = task.reward.parameters
    inputs = torch.zeros(1, len(suite.reward_input_names), dtype=torch.float64)
    if name == "tabletop/reach":
        inputs[0, 2] = 0.03  # the tip at the middle of the block's top
    if name == "meld/shelf_placing":
        inputs[0, :3] = torch.tensor([values["goal_x_metres"], scenes.GOAL_Y_METRES, scenes.GOAL_Z_METRES])
    if "point_x_metres" in values:
        inputs[0, 21:24] = torch.tensor(list(values.values()))
    inputs.requires_grad_(True)
    suite.reward(task, inputs, torch.zeros(1, 9)).sum().backward()
    assert torch.isfinite(inputs.grad).all()
