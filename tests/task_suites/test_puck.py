"""The puck: contact, the tray, where places stand, that they are hidden, what is paid, the script, the pictures."""

import numpy as np
import pytest

import task_suites
from task_suites import SuiteError
from task_suites.toy import puck

SUITE, FLOAT = task_suites.get("toy/puck"), 1e-9


def pushed(state, action):
    return SUITE.moved(np.array(state, np.float64), np.array(action, np.float64))


def starts(seeds):
    return np.stack([SUITE.start(np.random.default_rng(seed)) for seed in seeds])


def places(suite, split):
    return np.array([suite.goal(task) for task in suite.tasks(split)])


def test_pusher_and_puck_never_overlap_and_stay_in_their_boxes():
    rng, state = np.random.default_rng(0), starts(range(500))
    moved = np.zeros(500, bool)
    for _ in range(60):
        towards = np.sign(state[:, 2:] - state[:, :2]) * (rng.uniform(size=(500, 1)) < 0.5)
        after = SUITE.moved(state, (towards + rng.uniform(-1, 1, (500, 2))).clip(-1, 1))
        moved |= (after[:, 2:] != state[:, 2:]).any(1)
        state = after
        assert np.hypot(*(state[:, 2:] - state[:, :2]).T).min() >= puck.TOUCH_METRES - FLOAT
        assert np.abs(state[:, :2]).max() <= 1 and np.abs(state[:, 2:]).max() <= puck.TRAY_METRES
    assert moved.mean() > 0.9
    assert (np.abs(state[:, 2:]) > puck.TRAY_METRES - 0.01).any(1).mean() > 0.2  # the tray's edge was tried


def test_a_centred_push_moves_the_puck_as_far_as_the_pusher_comes_after_contact():
    np.testing.assert_allclose(pushed([0, -0.4, 0, 0], [0, 1]), [0, -0.2, 0, 0.1], atol=FLOAT)
    np.testing.assert_allclose(pushed([0, -0.4, 0, 0], [0, 0.5]), [0, -0.3, 0, 0], atol=FLOAT)  # it only touches
    np.testing.assert_allclose(pushed([0, -0.3, 0, 0], [0, -1]), [0, -0.5, 0, 0], atol=FLOAT)  # nothing is pulled


def test_a_push_beside_the_centre_turns_the_puck_aside():
    after = pushed([0.1, -0.35, 0, 0], [0, 1])
    assert after[2] < -0.02 and after[3] > 0.02
    mirrored = pushed([-0.1, -0.35, 0, 0], [0, 1])
    np.testing.assert_allclose(mirrored * [-1, 1, -1, 1], after, atol=FLOAT)


def test_at_the_edge_of_the_tray_there_is_no_room_and_one_can_get_behind():
    at_edge = [0, 0.4, 0, puck.TRAY_METRES]
    assert pushed(at_edge, [0, 1]).tolist() == at_edge
    behind = [0, 1.0, 0, puck.TRAY_METRES]
    np.testing.assert_allclose(pushed(behind, [0, -1])[2:], [0, 0.5], atol=FLOAT)


def test_test_places_are_others_among_the_train_places():
    suite = task_suites.get("toy/puck")
    train, test = places(suite, "train"), places(suite, "test")
    assert (len(train), len(test)) == (50, 10)
    everywhere = np.concatenate([train, test])
    assert np.abs(np.hypot(*everywhere.T) - puck.RADIUS_METRES).max() < 1e-4 and everywhere[:, 1].min() > 0.29
    nearest = np.hypot(*(test[:, None] - train[None]).transpose(2, 0, 1)).min(1)
    assert nearest.min() > 0.01 and nearest.max() < 0.05


@pytest.mark.parametrize("observation", ["picture", "state"])
def test_the_place_shows_in_nothing_but_the_reward(observation):
    suite, rng = task_suites.get("toy/puck", observation=observation), np.random.default_rng(0)
    envs = [suite.make(suite.tasks("train")[i]) for i in (0, 49)]
    first, second = (env.reset(seed=1)[0] for env in envs)
    for _ in range(15):
        assert all(np.array_equal(first[key], second[key]) for key in first)
        action = rng.uniform(-1, 1, 2)
        (first, paid, *_), (second, other, *_) = (env.step(action) for env in envs)
        assert paid != other


def test_rewards_and_success_by_hand():
    suite = task_suites.get("toy/puck")
    task = suite.tasks("train")[0].replace(
        reward=task_suites.Reward("dense", {"goal_x_metres": 0.0, "goal_y_metres": 0.5})
    )
    env = suite.make(task)
    env.reset(seed=0)
    env._state = np.array([0.0, -0.8, 0.0, 0.0])
    _, reward, *_, info = env.step(np.zeros(2))
    assert reward == pytest.approx(-(0.5 + 0.25 * 0.5)) and not info["success"]
    env._state = np.array([0.0, 0.1, 0.0, 0.4])
    _, reward, *_, info = env.step(np.zeros(2))
    assert reward == pytest.approx(-0.1) and info["success"]
    away = np.array([[0.0, 0.0, 0.0, 0.5 - metres] for metres in (0.0, 0.19, 0.21, -0.19)])
    assert suite.success(task, away).tolist() == [True, True, False, True]


def test_the_script_succeeds_from_nearly_all_starts_and_even_in_front_of_the_puck():
    suite = task_suites.get("toy/puck")
    for task in (suite.tasks("train")[0], suite.tasks("train")[-1], suite.tasks("test")[5]):
        policy, state = suite.scripted(task), starts(range(40))
        for _ in range(suite.max_episode_steps):
            state = SUITE.moved(state, np.array([policy(row) for row in state], np.float64))
        assert suite.success(task, state).mean() >= 0.95
        state = np.array([[0.05, 0.5, 0.0, -0.1], [0.0, 0.2, 0.0, -0.1], [-0.6, -0.1, 0.0, -0.1]])
        for _ in range(2 * suite.max_episode_steps):
            state = SUITE.moved(state, np.array([policy(row) for row in state], np.float64))
        assert suite.success(task, state).all()


def test_pictures_show_both_in_their_colours_and_where_they_are():
    suite = task_suites.get("toy/puck")
    picture = suite.observe(np.array([-0.5, -0.5, 0.25, 0.5]))["image_top"].astype(int)
    assert picture.shape == (16, 16, 3)
    for colour, (x, y) in ((0, (-0.5, -0.5)), (2, (0.25, 0.5))):
        light = picture[..., colour] - picture[..., 2 - colour]
        row, column = np.unravel_index(light.argmax(), light.shape)
        assert abs((column + 0.5) / 8 - 1 - x) < 0.1 and abs(1 - (row + 0.5) / 8 - y) < 0.1
    for shift in ([0.0125, 0, 0, 0], [0, 0, 0, 0.0125]):  # a tenth of a pixel
        here, there = (suite.observe(np.array([0.3, -0.7, 0.0, 0.2]) + s)["image_top"] for s in (np.zeros(4), shift))
        assert not np.array_equal(here, there)


@pytest.mark.parametrize("options", [{"observation": "pixels"}, {"episode_steps": 0}, {"image_size": 0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(SuiteError, match=next(iter(options))):
        task_suites.get("toy/puck", **options)
