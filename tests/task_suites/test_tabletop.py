"""The tabletop: physics that keeps its energy, tasks that only scripts solve, neutral distractors."""

import mujoco as _unused  # noqa: F401  (a user may import mujoco first: pictures must still work)
import numpy as np
import pytest

import task_suites
from task_suites import DISTRACTOR_NAMES, Distractor, SuiteError
from task_suites.rendering import mujoco
from task_suites.tabletop import rewards, scene

ALL = tuple(Distractor(name, 1.0, 1) for name in DISTRACTOR_NAMES)
TASKS = ("reach", "hover", "push", "gather", "match_positions", "lift", "stack", "place")


@pytest.fixture
def success(success_rate):
    """success(name, how, episodes): on test tasks, drawn without pictures."""

    def share(name, how, episodes, **options):
        suite = task_suites.get(f"tabletop/{name}", cameras=(), **options)
        return success_rate(suite, suite.sample("test", len(suite.tasks("test")), 0), how, episodes)

    return share


@pytest.mark.parametrize("name", TASKS)
def test_scripts_solve_the_task(success, name):
    assert success(name, "scripted", 8) >= 0.75


@pytest.mark.parametrize("name", TASKS)
def test_chance_does_not(success, name):
    assert success(name, "random", 12) <= 0.25


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_scripts_solve_the_task_nearly_always_and_chance_nearly_never(success, name):
    assert success(name, "scripted", 100) > 0.9
    assert success(name, "random", 100) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("control_hz", [20, 25])
@pytest.mark.parametrize("name", ["gather", "stack"])
def test_scripts_work_at_other_control_rates(success, name, control_hz):
    assert success(name, "scripted", 30, control_hz=control_hz) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_scripts_work_with_fingers_and_chance_does_not(success, name):
    assert success(name, "scripted", 50, gripper="fingers") >= 0.8
    assert success(name, "random", 50, gripper="fingers") < 0.07


def largest_energy_ratio(xml, throws):
    """Return the largest mechanical energy of thrown blocks over that at the throw; the hand stays away."""
    model, largest = mujoco.MjModel.from_xml_string(xml), 0.0
    first_position, first_speed = model.nq - 21, model.nv - 18
    bodies, velocity = [model.body(colour).id for colour in scene.COLOURS], np.zeros(6)

    def energy():
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        total = 0.0
        for body in bodies:
            mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_BODY, body, velocity, 1)
            moving = (
                model.body_mass[body] * (velocity[3:] @ velocity[3:]) + model.body_inertia[body] @ velocity[:3] ** 2
            )
            total += moving / 2 + model.body_mass[body] * 9.81 * data.xpos[body][2]
        return total

    for throw in range(throws):
        rng, data = np.random.default_rng(throw), mujoco.MjData(model)
        data.qpos[2] = data.ctrl[2] = scene.HAND_HIGH[2]
        for block in range(3):
            turn = rng.standard_normal(4)
            spot = (block - 1) * 0.11, rng.uniform(-0.1, 0.1), rng.uniform(0.06, 0.12)
            position, speed = first_position + 7 * block, first_speed + 6 * block
            data.qpos[position : position + 7] = *spot, *(turn / np.linalg.norm(turn))
            data.qvel[speed : speed + 6] = *rng.uniform(-0.7, 0.7, 3), *rng.uniform(-5, 5, 3)
        start = energy()
        for _ in range(150):
            mujoco.mj_step(model, data)
            largest = max(largest, energy() / start)
    return largest


@pytest.mark.parametrize("gripper", scene.GRIPPERS)
def test_thrown_blocks_gain_no_energy(gripper):
    assert largest_energy_ratio(scene.mjcf(gripper), throws=8) < 1.1


def test_the_energy_test_sees_a_solver_that_makes_energy():
    xml = scene.mjcf().replace('cone="pyramidal" impratio="1"', 'cone="elliptic" impratio="10"')
    assert largest_energy_ratio(xml.replace('ls_iterations="20"', 'ls_iterations="10"'), throws=8) > 2


def states(task, options, seed=9, steps=25):
    """Return the physics states (steps, n) of a scripted episode with some noise."""
    suite = task_suites.get("tabletop/gather", image_size=32, **options)
    env, policy, rng = suite.make(task), suite.scripted(task), np.random.default_rng(0)
    env.reset(seed=seed)
    _, info = env.reset()  # the stream that goes on is the same, too
    found = []
    for _ in range(steps):
        info = env.step(policy(info["reward_inputs"]) + rng.uniform(-0.3, 0.3, 5))[4]
        found.append(np.concatenate([env._data.qpos, env._data.qvel, [info["success"]]]))
    env.close()
    return np.array(found)


@pytest.mark.parametrize(
    "distractors", [(item,) for item in ALL] + [ALL], ids=lambda items: "+".join(i.name for i in items)
)
def test_distractors_never_touch_the_physics(distractors):
    task = task_suites.get("tabletop/gather").sample("train", 1, 0)[0]
    plain = states(task, {})
    assert np.array_equal(plain, states(task.replace(distractors=distractors), {}))
    assert np.ptp(plain[:, 4:7], axis=0).max() + np.ptp(plain[:, 18:21], axis=0).max() > 0.02  # something moved


def test_cameras_never_touch_the_physics():
    task = task_suites.get("tabletop/gather").sample("train", 1, 0)[0]
    assert np.array_equal(states(task, {}), states(task, {"cameras": ()}))


def pictures(distractors, seed=5, steps=4, task_seed=0, size=32):
    suite = task_suites.get("tabletop/push", image_size=size)
    env = suite.make(suite.sample("train", 1, task_seed)[0].replace(distractors=distractors))
    found = [env.reset(seed=seed)[0]["image_fit"]]
    found += [env.step(np.zeros(5))[0]["image_fit"] for _ in range(steps)]
    env.close()
    return np.array(found).astype(int)


@pytest.mark.parametrize("name", DISTRACTOR_NAMES)
def test_each_distractor_changes_the_picture_by_its_intensity_and_seed(name):
    plain = pictures(())
    assert np.array_equal(plain, pictures((Distractor(name, 0.0, 1),)))
    weak, strong = pictures((Distractor(name, 0.3, 1),)), pictures((Distractor(name, 1.0, 1),))
    assert 0 < np.abs(weak - plain).mean() < np.abs(strong - plain).mean()
    assert np.array_equal(strong, pictures((Distractor(name, 1.0, 1),)))
    assert not np.array_equal(strong, pictures((Distractor(name, 1.0, 2),)))
    assert not np.array_equal(strong[0] - plain[0], pictures((Distractor(name, 1.0, 1),), seed=6)[0] - plain[0])


@pytest.mark.parametrize("name", ["objects", "video", "camera"])
def test_these_distractors_move(name):
    moving = pictures((Distractor(name, 1.0, 1),), steps=12)
    plain = pictures((), steps=12)
    assert np.abs(plain[12] - plain[11]).mean() < 0.1  # the hand has come to rest
    assert np.abs(moving[12] - moving[2]).mean() > 0.5


def test_an_episode_leaves_nothing_on_the_next_ones_pictures():
    suite = task_suites.get("tabletop/push", image_size=32)
    env = suite.make(suite.sample("train", 1, 0)[0].replace(distractors=ALL))
    first = env.reset(seed=1)[0]["image_fit"]
    env.reset(seed=2)
    env.step(np.ones(5))
    env.render()  # a second renderer has its own copy of the textures
    assert np.array_equal(env.reset(seed=1)[0]["image_fit"], first)
    env.close()


def test_a_renderer_made_late_or_early_shows_the_same():
    suite = task_suites.get("tabletop/push", image_size=32)
    movies = []
    for early in (True, False):
        env = suite.make(suite.sample("train", 1, 0)[0].replace(distractors=ALL))
        env.reset(seed=1)
        if early:
            env.render()
        for _ in range(5):
            env.step(np.zeros(5))
        movies.append(env.render())
        env.close()
    assert movies[0].shape == (256, 256, 3) and np.array_equal(*movies)


def test_hovering_is_beside_the_green_block_within_the_hands_reach():
    suite = task_suites.get("tabletop/hover", cameras=())
    task = suite.tasks("test")[0]
    values = task.reward.parameters
    beside = [values["beside_x_metres"], values["beside_y_metres"], scene.BLOCK_HALF + values["above_metres"]]
    inputs = np.zeros((3, 13))
    inputs[:, 6:9] = (0.01, -0.02, 0.03), (0.01, -0.02, 0.03), (0.18, 0.18, 0.1)
    inputs[0, :3] = inputs[0, 6:9] + beside
    inputs[1, :3] = inputs[0, :3] + (0, 0.13, 0)  # 10 cm more than the 3 that count as there
    inputs[2, :3] = np.clip(inputs[2, 6:9] + beside, scene.HAND_LOW[:3], scene.HAND_HIGH[:3])
    np.testing.assert_allclose(suite.reward(task, inputs, None), [1, np.exp(-1), 1], atol=1e-5)
    assert suite.success(task, inputs).tolist() == [True, False, True]


def test_no_place_to_hover_at_is_both_trained_and_tested_on():
    suite = task_suites.get("tabletop/hover", cameras=())
    train, test = ({task.reward.parameters for task in suite.tasks(split)} for split in ("train", "test"))
    assert (len(train), len(test)) == (60, 20) and not train & test


def test_a_hidden_goal_is_hidden():
    goals = [pictures((), task_seed=seed) for seed in (0, 1)]
    suite = task_suites.get("tabletop/push")
    assert suite.sample("train", 1, 0) != suite.sample("train", 1, 1)
    assert np.array_equal(*goals)


def colour_share(picture, channel):
    """Return the share of pixels in which `channel` clearly outshines the two others."""
    picture = picture.astype(int)
    others = np.delete(picture, channel, axis=-1).max(-1)
    return (picture[..., channel] > 2 * others).mean()


@pytest.mark.parametrize("size", [32, 64])
def test_blocks_are_visible(size):
    suite = task_suites.get("tabletop/gather", image_size=size)
    env = suite.make(suite.sample("train", 1, 0)[0])
    shares = [colour_share(env.reset(seed=seed)[0]["image_fit"], channel) for seed in range(30) for channel in range(3)]
    env.close()
    pixels = 32 * 32 * np.array(shares)
    assert np.median(pixels) > 12
    assert (pixels < 4).mean() < 0.05  # now and then the hand hides one


def state(task_name="gather", **blocks):
    """Return reward_inputs (13,) with the hand high in the middle and blocks where `blocks` says."""
    spots = {
        "red": (0.1, 0.1, 0.03),
        "green": (-0.1, -0.1, 0.03),
        "blue": (0.1, -0.1, 0.03),
        "hand": (0, 0, 0.1),
    }
    spots.update(blocks)
    return np.array([*spots["hand"], *spots["red"], *spots["green"], *spots["blue"], 0.0], np.float32)


@pytest.mark.parametrize("name", TASKS)
def test_dense_rewards_lie_in_the_unit_interval_and_pay_one_when_done(name):
    suite = task_suites.get(f"tabletop/{name}")
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-0.2, 0.2, (5000, 13)).astype(np.float32)
    inputs[:, [2, 5, 8, 11]] = rng.uniform(0.02, 0.15, (5000, 4))
    inputs[:, 12] = rng.integers(2, size=5000)
    for task in suite.sample("test", 1, 0) + suite.sample("train", 1, 0):
        paid, done = suite.reward(task, inputs, None), suite.success(task, inputs)
        assert paid.min() >= 0 and paid.max() <= 1 + 1e-6
        if done.any():
            assert paid[done].min() > 0.99


def test_gather_pays_more_on_the_way_to_the_goal():
    suite = task_suites.get("tabletop/gather")
    task = suite.sample("test", 1, 0)[0]
    way = [
        state(),
        state(hand=(0.08, 0.08, 0.1)),
        state(hand=(0.1, 0.1, 0.07)),
        state(hand=(0.05, 0.05, 0.07), red=(0.05, 0.05, 0.03)),
        state(hand=(-0.04, -0.04, 0.07), red=(-0.04, -0.04, 0.03)),
    ]
    paid = suite.reward(task, np.stack(way), None)
    assert (np.diff(paid) > 0.02).all() and paid[-1] == pytest.approx(1)
    lifted = state(hand=(-0.04, -0.04, 0.14), red=(-0.04, -0.04, 0.1))
    assert suite.reward(task, lifted, None) < paid[-1] - 0.2 and not suite.success(task, lifted)


def test_sparse_rewards_pay_for_success_only():
    suite = task_suites.get("tabletop/gather", sparse=True)
    task = suite.sample("test", 1, 0)[0]
    near, far = state(red=(-0.04, -0.04, 0.03)), state()
    assert suite.reward(task, np.stack([near, far]), None).tolist() == [1.0, 0.0]


def test_the_latch_keeps_what_it_holds():
    suite = task_suites.get("tabletop/reach", cameras=())
    env = suite.make(suite.sample("train", 1, 0)[0])
    env.reset(seed=0)
    grips = [(0.1, 1), (0.0, 1), (-0.59, 1), (-0.61, -1), (0.0, -1), (-0.5, -1), (0.5, 1)]
    assert [env.step(np.array([0, 0, 0, 0, grip]))[0]["proprio"][12] for grip, _ in grips] == [on for _, on in grips]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cameras": ("fti",)}, "'fit'"),
        ({"cameras": ("fit", "fit")}, "twice"),
        ({"image_size": 4}, "image_size"),
        ({"control_hz": 7}, "control_hz"),
        ({"episode_steps": 0}, "episode_steps"),
        ({"gripper": "finger"}, "'fingers'"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(SuiteError, match=said):
        task_suites.get("tabletop/reach", **options)


def test_inputs_are_named():
    assert len(rewards.INPUT_NAMES) == len(set(rewards.INPUT_NAMES)) == 13
