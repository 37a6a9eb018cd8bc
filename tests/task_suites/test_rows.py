"""Rows in lockstep: only those alive move, and wrong use is refused before any row has moved."""

import numpy as np
import pytest

import task_suites
from task_suites import SuiteError

NOTHING, ALL = np.zeros((2, 2)), np.ones(2, bool)


@pytest.fixture(params=["toy/counting", "toy/hidden_goal", "toy/rotated_actuators"])
def vector(request):
    suite = task_suites.get(request.param, episode_steps=3)
    vector = suite.make_vector(suite.sample("train", 1, 0) * 2)
    yield vector
    vector.close()


def test_a_row_that_is_not_alive_repeats_its_last_outputs_and_earns_nothing(vector):
    vector.reset([1, 2])
    for _ in range(3):
        last = vector.step(NOTHING + 0.5, ALL)
    assert last[3].all()
    observation, reward, terminated, truncated, info = vector.step(NOTHING, ~ALL)
    assert reward.tolist() == [0, 0] and truncated.all() and not terminated.any()
    for before, after in ((last[0], observation), (last[4], info)):
        assert before.keys() == after.keys()
        for key in before:
            assert np.array_equal(before[key], after[key]) and not np.shares_memory(before[key], after[key])


def test_what_was_returned_stays_as_it_was(vector):
    observation, info = vector.reset([1, 2])
    kept = [value.copy() for value in (*observation.values(), *info.values())]
    vector.step(NOTHING + 1, ALL)
    assert all(map(np.array_equal, kept, (*observation.values(), *info.values())))


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda v: v.reset([1]), "1 seeds, expected 2"),
        (lambda v: v.step(np.zeros((2, 3)), ALL), r"shape \(2, 3\): expected \(2, 2\)"),
        (lambda v: v.step(np.full((2, 2), np.nan), np.array([False, True])), r"rows \[1\] are not finite"),
        (lambda v: v.step(NOTHING, np.ones(3, bool)), r"alive is bool \(3,\)"),
        (lambda v: v.step(NOTHING, np.ones(2)), "alive is float64"),
    ],
)
def test_wrong_use_is_told_and_moves_nothing(vector, use, said):
    before = vector.reset([1, 2])[1]["reward_inputs"]
    with pytest.raises(SuiteError, match=said):
        use(vector)
    assert np.array_equal(vector.step(NOTHING, ~ALL)[4]["reward_inputs"], before)


def test_no_step_before_a_reset_nor_after_an_end(vector):
    with pytest.raises(SuiteError, match="step before reset"):
        vector.step(NOTHING, ALL)
    vector.reset([1, 2])
    for _ in range(3):
        vector.step(NOTHING, np.array([True, False]))
    with pytest.raises(SuiteError, match=r"rows \[0\] are over"):
        vector.step(NOTHING, ALL)
    vector.step(NOTHING, np.array([False, True]))


def test_an_action_of_a_row_that_is_not_alive_is_not_looked_at(vector):
    vector.reset([1, 2])
    vector.step(np.array([[0, 0], [np.nan, 9]]), np.array([True, False]))


def test_after_an_error_of_an_environment_a_reset_comes_next():
    suite = task_suites.get("toy/counting", episode_steps=3)
    vector = suite.make_vector(suite.sample("train", 1, 0) * 2)
    vector.reset([1, 2])

    def broken(action):
        raise RuntimeError("broken")

    vector._envs[1].step = broken
    with pytest.raises(RuntimeError, match="broken"):
        vector.step(NOTHING, ALL)
    with pytest.raises(SuiteError, match="reset"):
        vector.step(NOTHING, ALL)
    assert vector.reset([1, 2])[1]["reward_inputs"][:, 0].tolist() == [0, 0]


def test_no_tasks_are_refused():
    for name in ("toy/counting", "toy/hidden_goal", "toy/rotated_actuators"):
        with pytest.raises(SuiteError, match="at least one"):
            task_suites.get(name).make_vector([])
