"""Meta-World: same physics and rewards as the package, and each of its traps shown and closed."""

import importlib.util
import pickle

import gymnasium
import numpy as np
import pytest

import task_suites
from task_suites import DISTRACTOR_NAMES, Parameters, Reward, SuiteError, Task
from task_suites.metaworld import layouts, rewards

metaworld = pytest.importorskip("metaworld")
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, ML10_V3, ML25_V3, ML45_V3  # noqa: E402

AT = {name: index for index, name in enumerate(rewards.INPUT_NAMES)}


def suite_of(scene="push", benchmark="ml1", **options):
    return task_suites.get(f"metaworld/{benchmark}", scene=scene, **options)


def environment(scene="push", seed=0, **options):
    suite = suite_of(scene, **options)
    env = suite.make(suite.tasks("train")[0].replace(distractors=suite.distractors))
    return env, *env.reset(seed=seed)


def original(scene, numbers, version="v2"):
    """Meta-World's own environment of a task, started."""
    cls = ALL_V3_ENVIRONMENTS[f"{scene}-v3"]
    env = cls(reward_function_version=version)
    data = {"rand_vec": numbers, "env_cls": cls, "partially_observable": False}
    env.set_task(metaworld.Task(f"{scene}-v3", pickle.dumps(data)))
    return env, env.reset()[0]


def actions(count, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 4)).astype(np.float32)


def compare(scene, version, steps, **options):
    """Hold an environment, once started and used before, against Meta-World's own."""
    suite = suite_of(scene, show_goal=True, start_noise_metres=0.0, reward=version, **options)
    task = suite.tasks("train")[0].replace(distractors=suite.distractors)
    env = suite.make(task)
    env.reset(seed=3)
    for action in actions(5, seed=2):
        env.step(action)
    info = env.reset(seed=4)[1]
    theirs, state = original(scene, layouts.numbers(task.parameters), version)
    for action in actions(steps):
        inputs = info["reward_inputs"]
        assert np.array_equal(inputs[:18], state[:18].astype(np.float32))
        assert np.array_equal(env._simulator.observation(), state)
        info_before = info
        _, paid, terminated, _, info = env.step(action)
        state, reward, _, _, their_info = theirs.step(action)
        assert paid == pytest.approx(reward, rel=1e-6, abs=1e-6) and not terminated
        if version == "v2":
            assert bool(info["reward_inputs"][AT["metaworld_success"]]) == bool(their_info["success"])
        assert info_before["task"] == task
    env.close()
    theirs.close()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_trajectories_and_rewards_are_meta_worlds(version):
    compare("push", version, 30, state=True)


def test_pictures_and_distractors_leave_the_physics_alone():
    compare("drawer-open", "v2", 12, image_size=16, distractors=dict.fromkeys(DISTRACTOR_NAMES, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("scene", layouts.SCENES)
def test_trajectories_and_rewards_of_every_scene_are_meta_worlds(scene):
    for version in ("v1", "v2"):
        compare(scene, version, 40, state=True)


def test_the_comparison_would_notice_another_start():
    env, _, info = environment(state=True, start_noise_metres=0.02)
    _, state = original("push", layouts.numbers(env.task.parameters))
    assert not np.allclose(info["reward_inputs"][:3], state[:3], atol=1e-3)


def test_benchmarks_are_meta_worlds():
    for name, theirs in (("ml10", ML10_V3), ("ml45", ML45_V3)):
        for split, scenes in zip(("train", "test"), layouts.BENCHMARKS[name], strict=True):
            assert {f"{scene}-v3" for scene in scenes} == set(theirs[split])
    assert {f"{scene}-v3" for scene in layouts.SCENES} == set(ALL_V3_ENVIRONMENTS)


def test_ml25_has_no_scene_in_both_splits_though_meta_worlds_has():
    train, test = layouts.BENCHMARKS["ml25"]
    assert set(ML25_V3["train"]) & set(ML25_V3["test"]) == {"basketball-v3"}  # the trap
    assert not set(train) & set(test)
    assert {f"{scene}-v3" for scene in train} == set(ML25_V3["train"]) - {"basketball-v3"}
    assert {f"{scene}-v3" for scene in test} == set(ML25_V3["test"])


def check_space(scene):
    env = ALL_V3_ENVIRONMENTS[f"{scene}-v3"]()
    space = layouts.SPACES[scene]
    np.testing.assert_allclose(env._random_reset_space.low, space.low, atol=1e-9)
    np.testing.assert_allclose(env._random_reset_space.high, space.high, atol=1e-9)
    env.close()


@pytest.mark.parametrize("scene", ["reach", "door-open"])
def test_places_are_drawn_from_meta_worlds_box(scene):
    check_space(scene)


@pytest.mark.slow
def test_places_of_every_scene_are_drawn_from_meta_worlds_box_and_accepted():
    for scene in layouts.SCENES:
        check_space(scene)
        suite = suite_of(scene, state=True)
        for task in suite.sample("test", 3, 0):
            suite.make(task).reset(seed=0)


def test_numbers_of_tasks():
    sizes = {"ml1": (50, 50), "mt1": (50, 50), "ml10": (500, 250), "ml25": (1200, 250), "ml45": (2250, 250)}
    for name, (train, test) in sizes.items():
        suite = task_suites.get(f"metaworld/{name}")
        assert (len(suite.tasks("train")), len(suite.tasks("test"))) == (train, test)


def test_train_really_is_train():
    suite = suite_of("reach", state=True)
    train = suite.tasks("train")
    for kwargs in ({"split": "train"}, {}):
        env = gymnasium.make("task_suites/metaworld-ml1-v0", state=True, **kwargs).unwrapped
        assert env.task in train
        env.reset(seed=0)
        simulated = env._simulator._env._last_rand_vec
        assert simulated.tolist() == [env.task.parameters[name] for name in layouts.NUMBER_NAMES]
        env.close()
    env = gymnasium.make("task_suites/metaworld-ml1-v0", state=True, split="test").unwrapped
    assert env.task in suite.tasks("test") and env.task not in train


@pytest.mark.slow
def test_meta_worlds_registered_train_environments_serve_test_tasks():
    """The trap that `test_train_really_is_train` closes; if this fails, Meta-World has mended it."""
    options = {"env_name": "reach-v3", "seed": 7, "meta_batch_size": 1, "vector_strategy": "sync"}
    envs = gymnasium.make_vec("Meta-World/ML1-train", **options)
    envs.call("sample_tasks")
    envs.reset()
    served = envs.envs[0].unwrapped._last_rand_vec.tolist()
    benchmark = metaworld.ML1("reach-v3", seed=7)
    places = [
        [pickle.loads(task.data)["rand_vec"].tolist() for task in tasks]
        for tasks in (benchmark.train_tasks, benchmark.test_tasks)
    ]
    assert served not in places[0] and served in places[1]
    envs.close()


def places_of(seed, split):
    suite = task_suites.get("metaworld/ml10", benchmark_seed=seed)
    return {tuple(layouts.numbers(task.parameters)) for task in suite.tasks(split)}


def test_no_seeds_test_places_are_another_seeds_train_places():
    drawn = [places_of(seed, split) for seed in range(4) for split in ("train", "test")]
    assert len(set().union(*drawn)) == sum(len(places) for places in drawn)
    assert places_of(2, "train") == drawn[4]
    same = task_suites.get("metaworld/custom", train_scenes="push", test_scenes="push")
    assert not set(same.tasks("train")) & set(same.tasks("test"))


@pytest.mark.slow
def test_meta_worlds_seeds_leak_test_places():
    """The trap that the test above closes."""
    test = [task.data for task in metaworld.ML1("reach-v3", seed=3).test_tasks]
    assert test == [task.data for task in metaworld.ML1("reach-v3", seed=4).train_tasks]


def test_reset_seed_is_real_and_keeps_the_task():
    env, first, info = environment("reach", seed=5, image_size=32)
    goals = {tuple(info["reward_inputs"][18:21])}
    states = [first]
    for seed in (5, None, 6, 5):
        observation, info = env.reset(seed=seed)
        states.append(observation)
        goals.add(tuple(info["reward_inputs"][18:21]))
    same = [np.array_equal(states[0]["proprio"], state["proprio"]) for state in states]
    assert same == [True, True, False, False, True] and len(goals) == 1
    assert np.array_equal(states[0]["image_corner4"], states[4]["image_corner4"])
    env.close()


def test_without_start_noise_every_seed_starts_like_meta_world():
    env, first, _ = environment("reach", state=True, start_noise_metres=0.0, show_goal=True)
    assert np.array_equal(env.reset(seed=9)[0]["proprio"], first["proprio"])
    _, state = original("reach", layouts.numbers(env.task.parameters))
    assert np.array_equal(first["proprio"], state.astype(np.float32))


def test_the_goal_is_zeros_in_a_state_that_hides_it():
    for shown in (False, True):
        env, observation, info = environment("reach", state=True, show_goal=shown)
        observation = env.step(np.zeros(4))[0]
        goal = info["reward_inputs"][18:21] if shown else np.zeros(3)
        np.testing.assert_array_equal(observation["proprio"][36:], goal)


def test_tasks_are_numbers_and_nothing_is_unpickled(monkeypatch):
    def refuse(*_):
        raise AssertionError("unpickled")

    monkeypatch.setattr("metaworld.sawyer_xyz_env.pickle.loads", refuse)
    suite = suite_of("door-open", state=True)
    text = suite.tasks("test")[7].to_json()
    env = suite.make(Task.from_json(text))
    env.reset(seed=0)
    env.step(np.zeros(4))
    with pytest.raises(AssertionError, match="unpickled"):  # control: Meta-World's way would be noticed
        env._simulator._env.set_task(metaworld.Task("door-open-v3", b""))


def solve_and_leave(suite, task):
    """Success, now and so far, at each step of an expert that goes away when it is done."""
    env, policy = suite.make(task), suite.scripted(task)
    policy.reset(np.random.default_rng(0))
    info = env.reset(seed=0)[1]
    rows, away = [], 0
    while away < 40:
        away += bool(away or info["success"])
        action = np.array([0, -1, 1, 0]) if away else policy(info["reward_inputs"])
        info = env.step(action)[4]
        rows.append((info["reward_inputs"][AT["metaworld_success"]], info["success"]))
        assert len(rows) < 400
    env.close()
    return np.array(rows, bool).T


def test_success_at_any_step_counts():
    suite = suite_of("reach", state=True)
    now, so_far = solve_and_leave(suite, suite.tasks("test")[0])
    assert now.any() and not now[-1]
    assert np.array_equal(so_far, np.maximum.accumulate(now))


def test_success_does_not_depend_on_the_reward_version():
    """Under v1, hand-insert's success is computed from a distance that never changes."""
    env, _, info = environment("hand-insert", state=True, reward="v1", start_noise_metres=0.0)
    theirs, _ = original("hand-insert", layouts.numbers(env.task.parameters), "v1")
    policy = suite_of("hand-insert", reward="v1").scripted(env.task)
    policy.reset(np.random.default_rng(0))
    their_success = False
    for _ in range(120):
        action = policy(info["reward_inputs"])
        _, paid, _, _, info = env.step(action)
        _, reward, _, _, their_info = theirs.step(action)
        assert paid == pytest.approx(reward, rel=1e-6)
        their_success |= bool(their_info["success"])
    assert info["success"] and not their_success


def inputs_of(env, count=6):
    return np.stack([env.step(action)[4]["reward_inputs"] for action in actions(count)])


def test_rewards_are_fields_of_one_scene():
    suite = suite_of("push", state=True)
    task = suite.tasks("train")[0]
    env = suite.make(task)
    env.reset(seed=0)
    inputs = inputs_of(env)
    point = dict(zip(rewards.POINT_NAMES, (0.1, 0.6, 0.1), strict=True))
    paid = {
        name: suite.reward(
            task.replace(reward=Reward(name, Parameters(point if name == "reach_point" else {}))),
            inputs,
            None,
        )
        for name in ("v2", "success", *rewards.OWN)
    }
    assert len({values.tobytes() for values in paid.values()}) == len(paid)
    assert all(values.min() >= 0 and values.max() <= 1 for name, values in paid.items() if name != "v2")
    mixed = suite_of("push", state=True, train_reward="reach_object", test_reward="v2")
    assert {task.reward.name for task in mixed.tasks("train")} == {"reach_object"}
    assert {task.reward.name for task in mixed.tasks("test")} == {"v2"}


def test_simulated_rewards_are_refused_for_another_task_and_ours_are_not():
    suite = suite_of("push", state=True)
    first, second = suite.tasks("train")[:2]
    env = suite.make(first)
    env.reset(seed=0)
    inputs = inputs_of(env)
    suite.reward(first, inputs, None)
    for task in (second, first.replace(reward=Reward("v1"))):
        with pytest.raises(SuiteError, match="another task or version"):
            suite.reward(task, inputs, None)
        with pytest.raises(SuiteError, match="another task or version"):
            suite.success(task, inputs)
    assert np.isfinite(suite.reward(second.replace(reward=Reward("object_to_goal")), inputs, None)).all()


def test_a_suite_says_where_its_rewards_can_be_computed():
    suite = suite_of("push", state=True)
    first, second = suite.tasks("train")[:2]
    ours = first.replace(reward=Reward("object_to_goal"))
    assert suite.recomputes(first, first) and suite.recomputes(first, ours)  # which plays the same, paid otherwise
    for played in (None, second, ours.replace(parameters=second.parameters), first.replace(reward=Reward("mine"))):
        assert suite.recomputes(ours, played) and not suite.recomputes(first, played)
    success, other = (first.replace(reward=Reward(name)) for name in ("success", "v1"))
    assert suite.recomputes(success, first) and suite.recomputes(first, success)
    assert not suite.recomputes(first, other) and not suite.recomputes(other, first)


@pytest.mark.parametrize("reward", ["reach_point", "reach_goal"])
def test_scripts_reach(reward):
    suite = suite_of("push", state=True, reward=reward)
    task = suite.tasks("test")[1]
    env, policy = suite.make(task), suite.scripted(task)
    info = env.reset(seed=0)[1]
    assert not info["success"]
    for _ in range(80):
        _, paid, _, _, info = env.step(policy(info["reward_inputs"]))
    assert info["success"] and paid == 1.0


def test_actions_repeat():
    single, _, _ = environment("push", state=True)
    double, _, _ = environment("push", state=True, action_repeat=2)
    action = np.array([1.0, 0.5, -0.5, 0.0])
    single.step(action)
    _, paid, _, _, info = single.step(action)
    _, also, _, _, repeated = double.step(action)
    assert paid == also
    np.testing.assert_array_equal(info["reward_inputs"], repeated["reward_inputs"])
    assert suite_of(action_repeat=5).max_episode_steps == 100


def test_a_missing_package_is_told_at_construction(monkeypatch):
    find = importlib.util.find_spec
    hide = lambda name, *rest: None if name == "metaworld" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hide)
    with pytest.raises(SuiteError, match="Meta-World is not installed: pip install"):
        suite_of()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scene": "reech"}, "reach"),
        ({"reward": "v3"}, "unknown Meta-World reward 'v3'"),
        ({"cameras": "corner9"}, "unknown camera"),
        ({"state": True, "cameras": "corner"}, "cameras is .*state=true"),
        ({"cameras": ("corner", "corner")}, "given twice"),
        ({"image_size": 8}, "image_size is 8"),
        ({"action_repeat": 0}, "action_repeat is 0"),
        ({"episode_steps": 0}, "episode_steps is 0"),
        ({"benchmark_seed": -1}, "benchmark_seed is -1"),
        ({"start_noise_metres": 0.2}, "start_noise_metres is 0.2"),
        ({"distractors": {"video": 2}}, "intensity"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(SuiteError, match=message) as error:
        suite_of(**{"scene": "push", **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scenes", [(), ("push", "push"), ("pusch",)])
def test_wrong_custom_sets_are_named(scenes):
    with pytest.raises(SuiteError, match="train_scenes"):
        task_suites.get("metaworld/custom", train_scenes=scenes)


def test_places_outside_or_too_near_are_refused_instead_of_hanging():
    suite = suite_of("push", state=True)
    task = suite.tasks("train")[0]
    wrong = [
        ({"goal_x_metres": 0.5}, "places are"),
        (
            {"goal_x_metres": 0.0, "object_x_metres": 0.0, "object_y_metres": 0.7, "goal_y_metres": 0.8},
            "apart",
        ),
        ({"scene": "puch"}, "did you mean 'push'"),
        ({"scene": "door-open"}, "parameters are"),
    ]
    for change, message in wrong:
        with pytest.raises(SuiteError, match=message):
            suite.make(task.replace(parameters=Parameters(task.parameters, **change)))
    env = suite.make(task)
    env._simulator._env._last_rand_vec = np.array([0.0, 0.7, 0.02, 0.0, 0.8, 0.015])
    with pytest.raises(SuiteError, match="refuses the places"):  # and if our rule missed one
        env.reset(seed=0)
