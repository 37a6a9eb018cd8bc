"""Lift, stack, place: contact does the lifting, rewards lead there, and older tasks stay what they were."""

import hashlib
import json

import numpy as np
import pytest

import task_suites
from task_suites import references
from task_suites.rendering import mujoco
from task_suites.tabletop import scene

PICKS = ("lift", "stack", "place")
FIRST = ("reach", "push", "gather", "match_positions")


def episode(name, seed=0, change=lambda model: None, **options):
    """Yield (env, observation, info) at the start and after each step of the scripted policy."""
    suite = task_suites.get(f"tabletop/{name}", **{"cameras": (), **options})
    task = suite.sample("test", 1, 0)[0]
    env, policy = suite.make(task), suite.scripted(task)
    change(env._model)
    observation, info = env.reset(seed=seed)
    yield env, observation, info
    for _ in range(suite.max_episode_steps):
        observation, _, _, _, info = env.step(policy(info["reward_inputs"]))
        yield env, observation, info
    env.close()


def touching(env, colour):
    """Return the names of the geoms in contact with the block of `colour`."""
    model, data = env._model, env._data
    mujoco.mj_collision(model, data)
    block, found = model.geom(colour).id, set()
    for contact in data.contact[: data.ncon]:
        if block in (contact.geom1, contact.geom2):
            found.add(model.geom(contact.geom1 + contact.geom2 - block).name)
    return found


GRIPS = {"suction": {"cup"}, "fingers": {"left_finger", "right_finger"}}


@pytest.mark.parametrize("gripper", GRIPS)
def test_contact_alone_lifts(gripper):
    heights = []
    for env, _, info in episode("lift", gripper=gripper):
        assert not env._data.xfrc_applied.any() and not env._data.qfrc_applied.any()
        if info["success"]:
            heights.append(info["reward_inputs"][5])
            assert touching(env, "red") == GRIPS[gripper]
            assert np.abs(env._data.actuator_force[4:]).min() > 1  # newtons
    assert len(heights) > 10 and np.ptp(heights[-5:]) < 0.002  # it hangs still


def no_adhesion(model):
    model.actuator("suction").gainprm[0] = 0.0


def little_friction(model):
    for name in GRIPS["fingers"]:  # they push with 6 newtons each: too little for a block of 1 newton
        model.geom(name).friction[0] = 0.05


@pytest.mark.parametrize(("gripper", "spoil"), [("suction", no_adhesion), ("fingers", little_friction)])
def test_without_its_cause_nothing_is_lifted(gripper, spoil):
    inputs = [info["reward_inputs"] for _, _, info in episode("lift", change=spoil, gripper=gripper)]
    assert max(values[5] for values in inputs) < 0.06


@pytest.mark.parametrize("gripper", GRIPS)
def test_wild_actions_throw_no_block_about(gripper):
    suite = task_suites.get("tabletop/lift", cameras=(), gripper=gripper)
    env, rng = suite.make(suite.sample("test", 1, 0)[0]), np.random.default_rng(0)
    for _ in range(10):
        env.reset()
        action = np.zeros(5)
        for _ in range(40):
            action = 0.8 * action + 0.6 * rng.standard_normal(5) - (0, 0, 0.15, 0, 0)
            env.step(action.clip(-1, 1))
            spots = np.array([env._data.body(colour).xpos for colour in scene.COLOURS])
            assert np.abs(spots[:, :2]).max() < 0.2 and 0.02 < spots[:, 2].min() <= spots[:, 2].max() < 0.2
            assert np.abs(env._data.qvel[-18:].reshape(3, 6)[:, :3]).max() < 2  # metres per second
    assert not env._data.warning.number.any()


def test_fingers_change_the_physics_but_no_space():
    suction, fingers = (task_suites.get("tabletop/lift", gripper=name) for name in GRIPS)
    assert fingers.observation_space == suction.observation_space
    assert fingers.action_space == suction.action_space
    assert fingers.reward_input_names == suction.reward_input_names
    assert fingers.fingerprint() != suction.fingerprint()
    task = suction.sample("test", 1, 0)[0]
    assert fingers.sample("test", 1, 0)[0] == task
    assert fingers.reference_key(task) != suction.reference_key(task)
    assert fingers.references(task) and suction.references(task)


def test_fingers_are_drawn_with_and_without_distractors():
    suite = task_suites.get("tabletop/lift", gripper="fingers", image_size=32)
    task, found = suite.sample("test", 1, 0)[0], []
    for distractors in ((), (task_suites.Distractor("colours", 1.0, 1),)):
        env = suite.make(task.replace(distractors=distractors))
        found.append((env.reset(seed=0)[0]["image_fit"], env.reset(seed=0)[1]["reward_inputs"]))
        env.close()
    assert not np.array_equal(found[0][0], found[1][0]) and np.array_equal(found[0][1], found[1][1])


def test_a_stack_stands_by_itself():
    env, _, info = list(episode("stack", seed=1))[-1]
    assert info["success"] and touching(env, "red") == {"green"}
    env._data.ctrl[:] = 0.0
    env._data.ctrl[2] = scene.HAND_HIGH[2]
    mujoco.mj_step(env._model, env._data, 300)
    assert env._data.body("red").xpos[2] == pytest.approx(3 * scene.BLOCK_HALF, abs=0.003)


@pytest.mark.parametrize("name", PICKS)
def test_two_cameras_show_the_work(name):
    shown = [item[1] for item in episode(name, cameras=("left", "right"), image_size=64)]
    assert set(shown[0]) == {"image_left", "image_right", "proprio"}
    assert all(item[f"image_{side}"].shape == (64, 64, 3) for item in shown for side in ("left", "right"))
    first, last = shown[0], shown[-1]
    assert not np.array_equal(first["image_left"], first["image_right"])
    for side in ("image_left", "image_right"):
        pictures = [item[side].astype(int) for item in (first, last)]
        reds = [picture[..., 0] > 2 * picture[..., 1:].max(-1) for picture in pictures]
        assert all(red.sum() > 20 for red in reds)
        middles = [np.argwhere(red).mean(0) for red in reds]
        assert np.linalg.norm(middles[1] - middles[0]) > 3  # pixels: the block is elsewhere in both pictures


def state(suction=0.0, **spots):
    """Return reward_inputs (13,): hand high in the middle, blocks in corners, or where `spots` says."""
    places = {
        "hand": (0, 0, 0.14),
        "red": (0.1, 0.1, 0.03),
        "green": (-0.1, -0.1, 0.03),
        "blue": (0.1, -0.1, 0.03),
    }
    places.update(spots)
    return np.array([*sum((tuple(value) for value in places.values()), ()), suction], np.float32)


GRASPED = [
    state(),
    state(hand=(0.1, 0.1, 0.1)),
    state(hand=(0.1, 0.1, 0.06)),
    state(hand=(0.1, 0.1, 0.06), suction=1),
]
WAYS = {
    "lift": [
        state(hand=(0.1, 0.1, 0.09), red=(0.1, 0.1, 0.06), suction=1),
        state(hand=(0.1, 0.1, 0.14), red=(0.1, 0.1, 0.11), suction=1),
    ],
    "stack": [
        state(hand=(0.1, 0.1, 0.13), red=(0.1, 0.1, 0.1), suction=1),
        state(hand=(-0.1, -0.1, 0.13), red=(-0.1, -0.1, 0.1), suction=1),
        state(hand=(-0.1, -0.1, 0.12), red=(-0.1, -0.1, 0.09), suction=1),
        state(hand=(-0.1, -0.1, 0.145), red=(-0.1, -0.1, 0.09)),
    ],
    "place": [
        state(hand=(0.05, 0.05, 0.09), red=(0.05, 0.05, 0.06), suction=1),
        state(hand=(0, 0, 0.06), red=(0, 0, 0.03), suction=1),
        state(hand=(0, 0, 0.1), red=(0, 0, 0.03)),
    ],
}


def task_of(name, split="test"):
    suite = task_suites.get(f"tabletop/{name}")
    parameters = [task.reward.parameters for task in suite.tasks(split)]
    middle = [item.get("goal_x_metres", 0.0) == item.get("goal_y_metres", 0.0) == 0.0 for item in parameters]
    return suite, suite.tasks(split)[middle.index(True)]


@pytest.mark.parametrize("name", PICKS)
def test_the_reward_rises_along_the_way(name):
    suite, task = task_of(name)
    way = np.stack(GRASPED + WAYS[name])
    paid = suite.reward(task, way, None)
    assert (np.diff(paid) > 0.01).all() and paid[-1] == pytest.approx(1, abs=1e-6)
    assert suite.success(task, way).tolist() == [False] * (len(way) - 1) + [True]
    blue = way[:, [0, 1, 2, 9, 10, 11, 6, 7, 8, 3, 4, 5, 12]]  # the same with colours exchanged
    np.testing.assert_allclose(suite.reward(task_of(name, "train")[1], blue, None), paid, atol=1e-6)
    sparse = task_suites.get(f"tabletop/{name}", sparse=True)
    paid = sparse.reward(
        task.replace(reward=type(task.reward)(name, {**task.reward.parameters, "sparse": True})), way, None
    )
    assert paid.tolist() == [0.0] * (len(way) - 1) + [1.0]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("lift", state(red=(0.1, -0.1, 0.09))),  # it stands on the blue one
        ("stack", state(hand=(-0.1, -0.1, 0.12), red=(-0.1, -0.1, 0.09), suction=1)),  # still held
        ("stack", state(hand=(-0.1, -0.1, 0.12), red=(-0.1, -0.1, 0.09))),  # still touched
        ("stack", state(red=(-0.1, -0.07, 0.09))),  # hangs over the edge
        ("stack", state(red=(-0.1, -0.1, 0.15), green=(-0.1, -0.1, 0.09))),  # in the air
        ("stack", state(green=(0.1, 0.1, 0.09))),  # the wrong way round
        ("place", state(red=(0, 0, 0.09), hand=(0, 0, 0.15))),  # on another block
        ("place", state(red=(0, 0, 0.03), hand=(0, 0, 0.06), suction=1)),  # still held
    ],
)
def test_what_only_looks_done_is_not(name, inputs):
    suite, task = task_of(name)
    assert not suite.success(task, inputs) and suite.reward(task, inputs, None) < 0.97


def test_older_tasks_and_saved_models_stay_valid():
    """Spaces, fingerprints, scene and references of the first four tasks, as they were before these three."""
    for name in FIRST + PICKS:
        suite = task_suites.get(f"tabletop/{name}")
        assert suite.fingerprint() == "3398d29d6dcd"
        assert task_suites.get(suite.name, image_size=32, cameras=("top",)).fingerprint() == "1c68d777d228"
        assert task_suites.get(suite.name, cameras=("left", "right")).fingerprint() == "8dfc82f4582f"
        smooth = task_suites.get(suite.name, antialias=True)  # other pictures than when it was "9748083ced2a"
        assert smooth.fingerprint() not in ("3398d29d6dcd", "9748083ced2a")
        assert len(suite.reward_input_names) == 13 and suite.action_space.shape == (5,)
        assert suite.observation_space["proprio"].shape == (13,)
    assert digest(scene.mjcf()) == "ead08cd3b673"
    known = [f"tabletop/{name}" for name in FIRST]
    old = {key: scores for key, scores in references.load().items() if key.split()[0] in known}
    assert len(old) == 268 and digest(json.dumps(old, sort_keys=True)) == "88ab37c1bf80"


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def test_scripts_take_their_time_from_the_control_rate():
    for name in PICKS:
        assert list(episode(name, control_hz=20))[-1][2]["success"]
