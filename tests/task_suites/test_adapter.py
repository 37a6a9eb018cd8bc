"""A user's own environment behaves like every other task distribution."""

import gymnasium
import numpy as np
import pytest
import torch

import task_suites
from task_suites import adapter, registry


class Walk(gymnasium.Env):
    """A number that actions in [-2, 2] move."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    frame = np.zeros((4, 6, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1)
        return np.array([self.place]), {}

    def step(self, action):
        self.place += float(action[0])
        self.frame[:] = 10
        return np.array([self.place]), 99.0, self.place > 5, False, {"own": 1}

    def render(self):
        return self.frame


def reward(inputs, action, goal):
    return -abs(inputs[..., 0] - goal) - action[..., 0] ** 2


@pytest.fixture
def suite(monkeypatch):
    """A function that registers Walk with changes and opens it; names are free again afterwards."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    def make(**changes):
        given = dict(
            make=Walk,
            reward=reward,
            reward_inputs=lambda env: [env.place],
            reward_input_names=("place",),
            tasks={"train": [{"goal": 1.0}, {"goal": 2.0}], "test": [{"goal": 3.0}]},
            max_episode_steps=4,
        )
        task_suites.gymnasium_task("mine/walk", **{**given, **changes})
        return task_suites.get("mine/walk")

    yield make
    gymnasium.registry.pop(task_suites.gymnasium_id("mine/walk"), None)


def test_episodes_pay_the_tasks_reward_and_stop_in_time(suite):
    mine = suite(success=lambda inputs, goal: abs(inputs[..., 0] - goal) < 0.5)
    task = mine.sample("test", 1, seed=0)[0]
    env = mine.make(task)
    observation, info = env.reset(seed=3)
    start = float(observation["proprio"][0])
    assert observation["proprio"].dtype == np.float32 and set(observation) == {"proprio"}
    paid, ends, places = [], [], []
    for action in (0.5, -0.25, 0.5, 3.0):
        observation, got, terminated, truncated, info = env.step(np.array([action]))
        paid.append(got)
        ends.append((terminated, truncated))
        places.append(float(info["reward_inputs"][0]))
    assert places == pytest.approx(
        [start + 1, start + 0.5, start + 1.5, start + 3.5], abs=1e-5
    )  # actions in [-2, 2]
    squares = (0.25, 0.0625, 0.25, 1.0)
    assert paid == pytest.approx([-abs(p - 3) - a for p, a in zip(places, squares, strict=True)], abs=1e-5)
    assert ends == [(False, False)] * 3 + [(False, True)]
    assert info["own"] == 1 and info["task"] == task and info["success"] == (abs(places[-1] - 3) < 0.5)
    again = env.reset(seed=3)[0]
    assert float(again["proprio"][0]) == pytest.approx(start) and mine.observation_space.contains(again)


def test_numpy_and_torch_rewards_agree(suite):
    mine = suite()
    task = mine.sample("train", 2, seed=0)[0]
    inputs, action = np.linspace(-2, 2, 6).reshape(3, 2, 1), np.linspace(-1, 1, 6).reshape(3, 2, 1)
    ours = mine.reward(task, inputs, action)
    theirs = mine.reward(task, torch.from_numpy(inputs), torch.from_numpy(action))
    assert np.allclose(ours, theirs.numpy()) and ours.shape == (3, 2)


def test_pictures_are_shown_and_share_no_memory(suite):
    mine = suite(pixels="render")
    env = mine.make(mine.sample("train", 1, seed=0)[0])
    before = env.reset(seed=0)[0]["image_render"]
    kept = before.copy()
    after = env.step(np.zeros(1))[0]["image_render"]
    assert before.shape == (4, 6, 3) and np.array_equal(before, kept) and (after == 10).all()
    assert mine.observation_space["image_render"].shape == (4, 6, 3)


def test_an_environment_that_ends_terminates(suite):
    mine = suite(max_episode_steps=3)
    env = mine.make(mine.sample("train", 1, seed=0)[0])
    env.reset(seed=0)
    ends = [env.step(np.ones(1))[2:4] for _ in range(3)]
    assert ends[-1] == (
        True,
        False,
    )  # beyond 5 in the last step that the limit allows: an end, not a time limit


def test_it_passes_gymnasiums_checker_through_gymnasium_make(suite):
    suite()
    env = gymnasium.make("task_suites/mine-walk-v0", split="test")
    assert env.reset(seed=0)[1]["task"].reward.parameters["goal"] == 3.0
    assert "mine/walk" in task_suites.names("own")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reward_input_names": ("place", "speed")}, "2 reward_input_names"),
        (
            {"pixels": "render", "make": lambda: type("Blank", (Walk,), {"render": lambda self: None})()},
            "render",
        ),
        (
            {"make": lambda: type("Counts", (Walk,), {"action_space": gymnasium.spaces.MultiBinary(2)})()},
            "bounded Box",
        ),
        (
            {"make": lambda: type("Odd", (Walk,), {"observation_space": gymnasium.spaces.Text(2)})()},
            "observations",
        ),
        ({"tasks": {"trian": []}}, "train"),
    ],
)
def test_what_is_wrong_is_named(suite, changes, words):
    with pytest.raises(task_suites.SuiteError, match=words):
        mine = suite(**changes)
        mine.make(mine.sample("train", 1, seed=0)[0]).reset(seed=0)


def test_no_script_says_what_to_set(suite):
    mine = suite()
    with pytest.raises(task_suites.SuiteError, match="pretrain.scripted=0"):
        mine.scripted(mine.sample("train", 1, seed=0)[0])
    assert isinstance(mine, adapter.Adapted)
