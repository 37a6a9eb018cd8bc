"""MELD's tasks: hidden goals, published ranges, physics that distractors leave alone, scripts."""

import gymnasium
import numpy as np
import pytest

import task_suites
from task_suites import DISTRACTOR_NAMES, Distractor, SuiteError
from task_suites.meld import arm, cheetah, make_gait, rewards, scenes
from task_suites.meld.scripts import Kinematics, Place
from task_suites.rendering import mujoco
from task_suites.task import Parameters, Reward

NAMES = ("reacher", "buttons", "peg_insertion", "shelf_placing", "cheetah_velocity")
ALL = tuple(Distractor(name, 1.0, 1) for name in DISTRACTOR_NAMES)
OTHER_GOAL = {
    "reacher": {"goal_x_metres": 0.8, "goal_y_metres": -0.25, "goal_z_metres": 0.65},
    "buttons": {"button": "blue"},
    "peg_insertion": {"box": 4},
    "shelf_placing": {"goal_x_metres": -0.15},
    "cheetah_velocity": {"target_metres_per_second": 2.5},
}


def suite_of(name, **options):
    return task_suites.get(f"meld/{name}", **{"image_size": 32, **options})


def first_task(name, **options):
    return suite_of(name, **options).tasks("train")[0]


def another_goal(task, name):
    return task.replace(reward=Reward(task.reward.name, Parameters(task.reward.parameters, **OTHER_GOAL[name])))


def play(suite, task, steps=6, seed=5, size=1.0):
    """Return (observations, rewards, states) of random actions that `seed` determines."""
    env, rng = suite.make(task), np.random.default_rng(seed)
    observations, paid = [env.reset(seed=seed)[0]], []
    states = [np.concatenate([env._data.qpos, env._data.qvel])]
    for _ in range(steps):
        observation, reward, *_ = env.step(size * rng.uniform(-1, 1, env.action_space.shape))
        observations.append(observation)
        paid.append(reward)
        states.append(np.concatenate([env._data.qpos, env._data.qvel]))
    env.close()
    return observations, paid, np.array(states)


def equal(first, second):
    return all(np.array_equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a)


def test_render_shows_the_camera_that_is_named_first():
    movies = {}
    for cameras in (("side",), ("side", "front"), ("front", "side")):
        env = suite_of("reacher", cameras=cameras).make(first_task("reacher"))
        assert list(env.reset(seed=0)[0]) == list(env.observation_space.spaces)
        movies[cameras] = env.render()
        env.close()
    assert np.array_equal(movies["side", "front"], movies[("side",)])
    assert not np.array_equal(movies["side", "front"], movies["front", "side"])


@pytest.mark.parametrize("name", NAMES)
def test_the_goal_is_in_no_observation(name):
    suite = suite_of(name, cameras=suite_of(name).all_cameras)
    task = first_task(name)
    seen, paid, _ = play(suite, task)
    for distractors in ((), ALL):
        changed = another_goal(task, name).replace(distractors=distractors)
        other, other_paid, _ = play(suite, changed)
        assert other_paid != paid
        plain = seen if not distractors else play(suite, task.replace(distractors=distractors))[0]
        assert equal(plain, other)


def test_what_is_not_hidden_is_seen():
    suite = suite_of("buttons")
    task = first_task("buttons")
    moved = task.replace(
        parameters=Parameters(panel_x_metres=0.78 if task.parameters["panel_x_metres"] < 0.75 else 0.72)
    )
    assert not equal(play(suite, task)[0], play(suite, moved)[0])
    suite = suite_of("shelf_placing", cameras=())
    light, heavy = (first_task("shelf_placing").replace(dynamics=Parameters(mug_mass_kg=kg)) for kg in (5.0, 15.0))
    assert not equal(play(suite, light, 12)[0], play(suite, heavy, 12)[0])


COUNTS = {
    "reacher": (60, 10),
    "buttons": (15, 12),
    "peg_insertion": (30, 10),
    "shelf_placing": (40, 10),
    "cheetah_velocity": (20, 10),
}


@pytest.mark.parametrize("name", NAMES)
def test_there_are_as_many_tasks_as_published(name):
    suite = suite_of(name)
    assert tuple(len(suite.tasks(split)) for split in ("train", "test")) == COUNTS[name]
    assert suite.max_episode_steps == (50 if name == "cheetah_velocity" else 40)
    scenes_seen = [{(task.parameters, task.dynamics) for task in suite.tasks(split)} for split in ("train", "test")]
    if name in ("buttons", "peg_insertion", "shelf_placing"):
        assert not scenes_seen[0] & scenes_seen[1]


def test_buttons_and_boxes_come_with_every_goal():
    for name, goals in (("buttons", 3), ("peg_insertion", 4)):
        tasks = suite_of(name).tasks("train")[: 3 * goals]
        assert len({task.parameters for task in tasks}) == 3
        assert len({task.reward for task in tasks}) == goals


@pytest.fixture
def success(success_rate):
    """success(name, how, episodes): on all tasks, drawn without pictures."""

    def share(name, how, episodes):
        suite = suite_of(name, cameras=())
        return success_rate(suite, suite.tasks("test") + suite.tasks("train"), how, episodes)

    return share


@pytest.mark.parametrize("name", NAMES)
def test_scripts_solve_the_task(success, name):
    assert success(name, "scripted", 6) >= 0.8


@pytest.mark.parametrize("name", NAMES[:4])
def test_chance_does_not(success, name):
    assert success(name, "random", 6) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_scripts_solve_the_task_nearly_always_and_chance_nearly_never(success, name):
    assert success(name, "scripted", 50) >= 0.9
    # A cheetah that stays near where it is has the right speed where the target is slow.
    assert success(name, "random", 50) <= (0.35 if name == "cheetah_velocity" else 0.02)


def change(first, second):
    """Return how much the pictures of two episodes differ, in grey levels."""
    pairs = [(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a if key != "proprio"]
    return np.mean([np.abs(a.astype(int) - b) for a, b in pairs])


@pytest.mark.parametrize("name", NAMES)
def test_distractors_change_pictures_and_never_the_physics(name):
    suite, task = suite_of(name), first_task(name)
    seen, _, states = play(suite, task)
    for distractor in ALL:
        shown, _, other = play(suite, task.replace(distractors=(distractor,)))
        assert np.array_equal(states, other)
        nothing = play(suite, task.replace(distractors=(Distractor(distractor.name, 0.0, 1),)))[0]
        weak = play(suite, task.replace(distractors=(Distractor(distractor.name, 0.3, 1),)))[0]
        assert equal(seen, nothing)
        assert 0 < change(seen, weak) < change(seen, shown), distractor.name
    assert np.array_equal(states, play(suite_of(name, cameras=()), task)[2])


def test_the_cheetah_is_gymnasiums():
    ours, theirs = first_cheetah(), gymnasium.make("HalfCheetah-v5", frame_skip=10).unwrapped
    ours.reset(seed=0)
    theirs.reset(seed=0)
    mujoco.mj_resetData(theirs.model, theirs.data)  # the solver starts from what it found before
    theirs.set_state(ours._data.qpos.copy(), ours._data.qvel.copy())
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(-1, 1, 6)
        _, _, _, _, info = ours.step(action)
        speed = theirs.step(0.8 * action)[4]["x_velocity"]
        assert info["reward_inputs"][0] == np.float32(speed)
    assert np.array_equal(ours._data.qpos, theirs.data.qpos)
    theirs.model.geom_friction[:] *= 1.01  # the comparison would see a change
    ours.step(action)
    theirs.step(0.8 * action)
    assert not np.array_equal(ours._data.qpos, theirs.data.qpos)
    theirs.close()


def first_cheetah(**options):
    suite = suite_of("cheetah_velocity", **options)
    return suite.make(suite.tasks("train")[0])


def test_the_camera_travels_with_the_cheetah():
    env = first_cheetah(image_size=64)
    env.reset(seed=0)
    policy = cheetah.Gait(2.5, cheetah.gaits())
    _, info = env.reset(seed=0)
    middles = []
    for _ in range(30):
        observation, _, _, _, info = env.step(policy(info["reward_inputs"]))
        picture = observation["image_side"].astype(int)
        middles.append(np.nonzero(picture[..., 0] > picture[..., 2] + 60)[1].mean())
    env.close()
    assert env._data.qpos[0] > 3
    assert all(22 < middle < 42 for middle in middles)


def test_a_gait_is_found_from_a_small_one(monkeypatch):
    monkeypatch.setattr(make_gait, "CANDIDATES", 10)
    monkeypatch.setattr(make_gait, "ELITE", 2)
    suite, table, rng = (
        suite_of("cheetah_velocity", cameras=()),
        cheetah.gaits().copy(),
        np.random.default_rng(0),
    )
    table[5, 6:18] *= 0.5
    refined = make_gait.refine(suite, table, 5, 3, rng)
    assert np.array_equal(np.delete(refined, 5, 0), np.delete(table, 5, 0))
    earned = [np.mean([make_gait.episode_return(suite, t, 2.0, seed) for seed in range(3)]) for t in (table, refined)]
    assert earned[1] > earned[0] + 1


def test_an_action_moves_each_joint_by_its_step_and_none_holds_still():
    env = suite_of("reacher", cameras=()).make(first_task("reacher"))
    env.reset(seed=0)
    for direction in (1, -1, 1):
        before = env._data.qpos.copy()
        env.step(np.full(7, direction))
        np.testing.assert_allclose(env._data.qpos - before, 0.04 * direction, rtol=0.15)
    env.step(np.zeros(7))
    before = env._data.qpos.copy()
    env.step(np.zeros(7))
    np.testing.assert_allclose(env._data.qpos, before, atol=1e-3)


def lowest_tip(place):
    """Return how low the peg gets when it is pushed down at `place` (x, y)."""
    suite = suite_of("peg_insertion", cameras=())
    task = suite.tasks("test")[0]
    env, kinematics = suite.make(task), Kinematics(suite.scene(task))
    _, info = env.reset(seed=0)
    for _ in range(40):
        inputs = info["reward_inputs"].astype(float)
        kinematics.set(inputs[3:10])
        aside = np.array(place) - inputs[:2]
        move = np.array([*aside, -0.05 if np.linalg.norm(aside) < 0.003 else 0.1 - inputs[2]])
        turn = np.cross(kinematics.pointing(), (0, 0, -1))
        info = env.step(kinematics.steps(move, turn, 0.04) / 0.04)[4]
    return info["reward_inputs"][2]


def test_boxes_are_solid_and_their_holes_are_not():
    task = suite_of("peg_insertion").tasks("test")[0]
    x, y, _ = rewards.goal_of(task)
    assert lowest_tip((x, y)) < 0.005
    assert lowest_tip((x + 0.045, y)) > 0.055
    assert lowest_tip((x + 0.008, y)) > 0.055


def test_a_script_that_is_wrong_about_the_mass_fails():
    suite = suite_of("shelf_placing", cameras=())
    heavy = suite.tasks("train")[0].replace(dynamics=Parameters(mug_mass_kg=15.0))
    for told, works in ((15.0, True), (5.0, False)):
        env = suite.make(heavy)
        policy = Place(scenes.shelf_placing(told), heavy.replace(dynamics=Parameters(mug_mass_kg=told)))
        _, info = env.reset(seed=0)
        total = 0.0
        for _ in range(40):
            _, reward, _, _, info = env.step(policy(info["reward_inputs"]))
            total += reward
        floor, reference = suite.references(heavy) if suite.references(heavy) else (-150.0, 80.0)
        assert ((total - floor) / (reference - floor) > 0.8) == works


def test_a_mug_left_alone_stands_and_one_thrown_away_stays_on_the_floor():
    suite = suite_of("shelf_placing", cameras=())
    env = suite.make(suite.tasks("train")[0])
    _, info = env.reset(seed=0)
    for _ in range(4):
        after = env.step(np.zeros(9))[4]
    np.testing.assert_allclose(after["reward_inputs"][:6], info["reward_inputs"][:6], atol=2e-3)
    env.reset(seed=0)
    env._data.qpos[9:12] = 1.5, 0.7, 0.5
    for _ in range(8):
        after = env.step(np.zeros(9))[4]
    assert -0.6 < after["reward_inputs"][2] < 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cameras": ("fornt",)}, "'front'"),
        ({"cameras": ("front", "front")}, "twice"),
        ({"cameras": (), "proprio": False}, "nothing would be observed"),
        ({"image_size": 4}, "image_size"),
        ({"episode_steps": 0}, "episode_steps"),
        ({"distractors": {"fog": 1}}, "distractor"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(SuiteError, match=said):
        task_suites.get("meld/reacher", **options)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("reacher", {"reward": Reward("press")}, "reward of meld/reacher 'press'"),
        ("reacher", {"reward": Reward("reach", {"sparse": False})}, "goal_x_metres is missing"),
        ("buttons", {"parameters": {"panel_x_metres": 0.9}}, "panel_x_metres .* is 0.9, .* 0.72 to 0.78"),
        ("buttons", {"reward": Reward("press", {"button": "pink", "sparse": False})}, "button in .* 'pink'"),
        ("buttons", {"parameters": {"panel_x": 0.75}}, "panel_x_metres"),
        ("shelf_placing", {"dynamics": {"mug_mass_kg": 50.0}}, "mug_mass_kg .* is 50.0"),
        ("cheetah_velocity", {"dynamics": {"mass": 1.0}}, "dynamics .* 'mass'"),
        ("peg_insertion", {"reward": Reward("insert", {"box": 5, "sparse": False})}, "box .* is 5"),
    ],
)
def test_wrong_tasks_are_named(name, changes, said):
    suite, task = suite_of(name), first_task(name).replace(**changes)
    for call in (lambda: suite.make(task), lambda: suite.reward(task, np.zeros((1, 18)), np.zeros((1, 9)))):
        with pytest.raises(SuiteError, match=said) as error:
            call()
        assert "\n" not in str(error.value)


def test_proprioception_can_be_left_out_as_in_the_paper():
    suite = suite_of("reacher", proprio=False)
    observation = play(suite, suite.tasks("train")[0], 1)[0][0]
    assert set(observation) == set(suite.observation_space.spaces) == {"image_front", "image_side"}


def test_the_arm_is_where_its_joints_say():
    model = mujoco.MjModel.from_xml_string(scenes.reacher())
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    # Sawyer stretched out: its Denavit-Hartenberg lengths, the last one up to our flange, and the stylus.
    stretched = 0.081 + 0.4 + 0.4 + 0.109 + 0.09, 0.1925 - 0.1685 + 0.1363, 0.317
    assert data.site("tip").xpos == pytest.approx(stretched, abs=0.005)
    assert model.jnt_range[:7, 0] == pytest.approx(arm.LOW) and model.jnt_range[:7, 1] == pytest.approx(arm.HIGH)
