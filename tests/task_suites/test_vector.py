"""Environments stepped together equal the same environments stepped alone, and tasks survive resets."""

import os
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import task_suites
from task_suites import SuiteError, TaskVector

ROOT = Path(__file__).resolve().parents[2]
STEPS = 7


@pytest.fixture(scope="module")
def suite():
    return task_suites.get("toy/lqr", episode_steps=3)


def alone(suite, task, seeds, actions):
    """One environment by hand: its observations, rewards and ends, with a new episode after each end."""
    env, seeds, rows = suite.make(task), iter(seeds), []
    observation, info = env.reset(seed=next(seeds))
    rows.append((observation["proprio"], 0.0, False, info["reward_inputs"]))
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        rows.append((observation["proprio"], reward, terminated or truncated, info["reward_inputs"]))
        if terminated or truncated:
            observation, info = env.reset(seed=next(seeds))
            rows.append((observation["proprio"], 0.0, False, info["reward_inputs"]))
    return rows


def together(vector, actions):
    """The same for all places of a vector: one list of rows per place."""
    episode = np.zeros(len(vector), int)
    seeds = np.arange(len(vector)) * 100
    observation, info = vector.reset(seeds)
    rows = [[(observation["proprio"][i], 0.0, False, info["reward_inputs"][i])] for i in range(len(vector))]
    for action in actions:
        observation, reward, terminated, truncated, info = vector.step(action)
        done = terminated | truncated
        for i, row in enumerate(rows):
            row.append((observation["proprio"][i], reward[i], done[i], info["reward_inputs"][i]))
        if done.any():
            episode += done
            observation, info = vector.reset_ended(seeds + episode)
            for i in np.flatnonzero(done):
                rows[i].append((observation["proprio"][i], 0.0, False, info["reward_inputs"][i]))
    return rows


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_together_is_as_alone(suite, processes):
    tasks = suite.sample("train", 3, seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, 3, 2)).astype(np.float32)
    with TaskVector(suite, tasks, processes=processes) as vector:
        rows = together(vector, actions)
        assert vector.tasks == tasks
    for i, task in enumerate(tasks):
        expected = alone(suite, task, range(100 * i, 100 * i + 9), actions[:, i])
        assert len(expected) == len(rows[i]) == STEPS + 1 + 2
        for found, wanted in zip(rows[i], expected, strict=True):
            for a, b in zip(found, wanted, strict=True):
                assert np.array_equal(a, b)


def paid(vector, seeds):
    """Rewards of one step of nothing from the states of `seeds`, then of one step of the next episodes."""
    found = []
    vector.reset(seeds)
    for _ in range(2):
        while not vector.ended.any():
            _, reward, *_ = vector.step(np.zeros((len(vector), 2)))
        found.append(reward)
        vector.reset_ended(seeds)
    return found


def test_tasks_survive_a_reset_and_change_when_told(suite):
    first, second = suite.sample("train", 2, seed=0), suite.sample("test", 2, seed=0)
    with TaskVector(suite, first) as vector:
        for reward in paid(vector, [5, 5]):
            assert reward[0] != reward[1]  # the same state, two goals
        before = paid(vector, [5, 5])
        vector.reset([5, 5], tasks=second)
        assert vector.tasks == second
        for reward, other in zip(paid(vector, [5, 5]), before, strict=True):
            assert (reward != other).all()


def test_options_of_a_reset_are_lost_where_gymnasium_resets_by_itself():
    """Why this module exists: the negative control."""

    class Told(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 9, (1,))
        action_space = gymnasium.spaces.Box(-1, 1, (1,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.task = (options or {}).get("task", 0)
            return np.array([self.task], np.float32), {}

        def step(self, action):
            return np.array([self.task], np.float32), 0.0, True, False, {}

    vector = gymnasium.vector.SyncVectorEnv([Told])
    assert vector.reset(options={"task": 3})[0].item() == 3
    vector.step(np.zeros((1, 1)))
    assert vector.step(np.zeros((1, 1)))[0].item() == 0


def test_wrong_use_is_told(suite):
    task = suite.sample("train", 1, seed=0)[0]
    with pytest.raises(SuiteError, match="at least one"):
        TaskVector(suite, [])
    with TaskVector(suite, [task, task]) as vector:
        with pytest.raises(SuiteError, match="call reset first"):
            vector.step(np.zeros((2, 2)))
        vector.reset([0, 1])
        with pytest.raises(SuiteError, match=r"shape \(2,\)"):
            vector.step(np.zeros(2))
        with pytest.raises(SuiteError, match="no episode has ended"):
            vector.reset_ended([0, 1])
        with pytest.raises(SuiteError, match="expected 2"):
            vector.reset([0, 1], tasks=[task])
        with pytest.raises(SuiteError, match="1 seeds"):
            vector.reset([0])
        for _ in range(3):
            vector.step(np.zeros((2, 2)))
        assert vector.ended.all()
        with pytest.raises(SuiteError, match="reset_ended first"):
            vector.step(np.zeros((2, 2)))
    vector.close()


def test_no_place_steps_when_one_action_is_not_finite(suite):
    with TaskVector(suite, suite.sample("train", 2, seed=0)) as vector:
        vector.reset([0, 1])
        wrong = np.array([[0, 0], [0, np.nan]])
        with pytest.raises(SuiteError, match=r"places \[1\] are not finite"):
            vector.step(wrong)
        ended = [vector.step(np.zeros((2, 2)))[3].tolist() for _ in range(3)]
        assert ended == [[False] * 2] * 2 + [[True] * 2]


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_error_at_one_place_ends_the_vector(suite, processes):
    with TaskVector(suite, suite.sample("train", 2, seed=0), processes=processes) as vector:
        vector.reset([0, 1])
        with pytest.raises(Exception, match="-1"):
            vector.reset([0, -1])
        for use in (lambda: vector.step(np.zeros((2, 2))), lambda: vector.reset([0, 1]), vector.render):
            with pytest.raises(SuiteError, match="earlier error .* -1"):
                use()


SPAWNED = """
import numpy as np
import task_suites
from task_suites import TaskVector

if __name__ == "__main__":
    suite = task_suites.get("tabletop/reach", image_size=32, distractors={"video": 1.0})
    task, = suite.sample("train", 1, 0)
    pictures = []
    for processes in (False, True):
        with TaskVector(suite, [task, task], processes=processes) as vector:
            vector.reset([3, 4])
            pictures.append(vector.step(np.zeros((2, 5)))[0]["image_fit"])
    assert pictures[0].shape == (2, 32, 32, 3) and np.array_equal(*pictures)
    print("equal")
"""


@pytest.mark.slow
def test_spawned_processes_draw_the_same_pictures(tmp_path):
    (tmp_path / "script.py").write_text(SPAWNED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert child.returncode == 0 and child.stdout == "equal\n", child.stderr
    assert child.stderr == ""


def test_only_one_place_knows_about_autoreset():
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in ("task_suites", "meta_latent", "examples", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if re.search("autoreset", path.read_text(), re.IGNORECASE)
    ]
    assert found == ["task_suites/vector.py"]
