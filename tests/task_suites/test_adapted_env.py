"""What a user's own environment is sent, and what it may return."""

import functools
import re
import subprocess
import sys
import warnings
from collections import OrderedDict

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import RescaleAction

import task_suites
from task_suites import SuiteError
from task_suites.gallery import film

Box = gymnasium.spaces.Box


class Recorder(gymnasium.Env):
    """Observes and draws how many steps it has taken, always into the same arrays; keeps what it was sent."""

    observation_space = Box(0, 99, (1,), np.float32)
    action_space = Box(-1, 1, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    render_mode = "rgb_array"
    reward, end = 1.0, ({},)

    def __init__(self, **attributes):
        self.frame, self.seen, self.sent = np.zeros((4, 4, 3), np.uint8), np.zeros(1, np.float32), []
        for name, value in attributes.items():
            setattr(self, name, value)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seen[:] = self.frame[:] = 0
        return (self.seen, *self.end)

    def step(self, action):
        self.sent.append(action)
        self.seen += 1
        return (self.seen, self.reward, False, False, *self.end)

    def render(self):
        self.frame[:] = self.seen[0]
        return self.frame


def opened(of, **attributes):
    suite = of(lambda: Recorder(**attributes), max_episode_steps=3)()
    env = suite.make(suite.tasks("train")[0])
    env.reset(seed=0)
    return env


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (Box(np.float32([-2, 0]), np.float32([2, 4])), [[-2, 0], [0, 2], [1, 3], [2, 4]]),
        (Box(np.float32([-1, 3]), np.float32([1, 3])), [[-1, 3], [0, 3], [0.5, 3], [1, 3]]),
        (Box(-1e308, 1e308, (2,), np.float64), [[-1e308] * 2, [0, 0], [5e307] * 2, [1e308] * 2]),
        (Box(0, 3, (2,), np.int64), [[0, 0], [2, 2], [3, 3], [3, 3]]),
        (Box(np.array([-2, 7]), np.array([2, 7]), dtype=np.int32), [[-2, 7], [0, 7], [1, 7], [2, 7]]),
        (Box(0, 255, (2,), np.uint8), [[0, 0], [128, 128], [192, 192], [255, 255]]),
    ],
)
def test_actions_are_those_of_the_environments_space(of, space, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # numpy's
        env = opened(of, action_space=space)
        sent = env.unwrapped.sent
        for number in (-1.0, 0.0, 0.5, 1.0):
            env.step(np.full(2, number))
    assert [action.tolist() for action in sent[-4:]] == expected
    assert all(space.contains(action) for action in sent)


def test_each_whole_number_has_an_equal_share(of):
    env = opened(of, action_space=Box(-1, 1, (1,), np.int8))
    for number in np.linspace(-1, 1, 300, endpoint=False):
        env.step(np.array([number + 1 / 300]))
    counts = np.unique([action[0] for action in env.unwrapped.sent[-300:]], return_counts=True)
    assert counts[0].tolist() == [-1, 0, 1] and counts[1].tolist() == [100, 100, 100]


@pytest.mark.parametrize("reward", [2, np.float32(2), np.array(2.0), np.array([2.0]), True + True])
def test_a_reward_is_one_number_in_any_form(of, reward):
    _, paid, _, _, info = opened(of, reward=reward).step(np.zeros(1))
    assert type(paid) is float and paid == 2.0
    assert info["reward_inputs"].tolist() == [2.0]


@pytest.mark.parametrize("reward", [None, "much", np.zeros(2), np.zeros((1, 0)), {}])
def test_another_reward_is_refused(of, reward):
    said = "mine/theirs: the reward that its environment paid is .*: expected a number"
    with pytest.raises(SuiteError, match=said):
        opened(of, reward=reward)


@pytest.mark.parametrize(("end", "said"), [((), "(ndarray); expected (obs"), ((3,), "(ndarray, int); exp")])
def test_an_environment_of_another_interface_is_refused(of, end, said):
    with pytest.raises(SuiteError, match=f"mine/theirs: reset returned {re.escape(said)}") as error:
        opened(of, end=end)
    assert "\n" not in str(error.value)


def test_a_step_of_another_interface_is_refused(of):
    class Old(Recorder):
        def step(self, action):
            return self.seen, 1.0, False, {}

    with pytest.raises(SuiteError, match=r"step returned \(ndarray, float, bool, dict\); expected \(obs"):
        of(Old, max_episode_steps=3)()


@pytest.mark.parametrize(
    ("space", "later", "said"),
    [
        (Box(-9, 9, (2,)), np.array([1, np.inf]), r"got as proprio \[1.0, inf\]: numbers have to be finite"),
        (Box(-9, 9, (3,)), np.ones(1), r"got as proprio float32 \(1,\), which is not in its space Box\(-inf, inf, \(3"),
        (
            Box(0, 255, (2, 2, 3), np.uint8),
            np.full((2, 2, 3), 300),
            r"got as image_observation int64 \(2, 2, 3\), wh",
        ),
        (Box(0, 255, (2, 2, 3), np.uint8), np.zeros((1, 2, 3), np.uint8), r"got as image_observation uint8 \(1, 2, 3"),
    ],
)
def test_an_observation_that_turns_into_another_is_refused_in_rows_too(of, space, later, said):
    class Turning(Recorder):
        observation_space, render_mode = space, None

        def reset(self, *, seed=None, options=None):
            self.count = 0
            return np.zeros(space.shape, space.dtype), {}

        def step(self, action):
            self.count += 1
            return np.zeros(space.shape, space.dtype) if self.count < 2 else later, 0.0, False, False, {}

    suite = of(Turning, max_episode_steps=9)()
    rows = suite.make_vector(suite.tasks("train") * 2)
    rows.reset([0, 1])
    rows.step(np.zeros((2, 1)), np.ones(2, bool))
    with pytest.raises(SuiteError, match=f"mine/theirs: {said}"):  # numpy would stretch it, or wrap 300 around to 44
        rows.step(np.zeros((2, 1)), np.ones(2, bool))


def test_fractions_in_a_space_of_whole_numbers_are_kept(of):
    class Fine(Recorder):
        def reset(self, *, seed=None, options=None):
            return self.shown, {}

        def step(self, action):
            return self.shown, 0.0, False, False, {}

    whole, place = Box(-9, 9, (2,), np.int64), np.array([0.7, -2.5])
    nested = OrderedDict(b=gymnasium.spaces.Tuple((whole, gymnasium.spaces.Discrete(2))), a=whole)
    given = {"b": (place, 1), "a": place}
    for space, shown, expected in (
        (whole, place, [0.7, -2.5]),
        (gymnasium.spaces.Dict(nested), given, [0.7, -2.5, 0, 1, 0.7, -2.5]),
    ):
        suite = of(functools.partial(Fine, observation_space=space, shown=shown), max_episode_steps=3)()
        observation, _ = suite.make(suite.tasks("train")[0]).reset(seed=0)
        assert observation["proprio"].tolist() == np.float32(expected).tolist()


@pytest.mark.parametrize("pixels", ["none", "render"])
def test_a_film_moves_though_each_frame_is_drawn_into_the_same_array(of, pixels):
    suite = of(Recorder, max_episode_steps=3, pixels=pixels)()
    assert [frame[0, 0, 0] for frame in film(suite, suite.tasks("train")[0])] == [0, 1, 2, 3]
    vector = suite.make_vector(suite.tasks("train"))
    vector.reset([0])
    frames = [vector.render(0)]
    vector.step(np.zeros((1, 1)), np.ones(1, bool))
    assert [frame[0, 0, 0] for frame in (*frames, vector.render(0))] == [0, 1]


def test_changing_what_was_drawn_changes_no_observation(of):
    space = gymnasium.spaces.Dict({"image_top": Box(0, 255, (4, 4, 3), np.uint8)})

    class Shown(Recorder):
        observation_space, render_mode = space, None

        def reset(self, *, seed=None, options=None):
            return {"image_top": self.frame}, {}

    suite = of(Shown, max_episode_steps=3, reward=lambda inputs, action: action[..., 0])
    with pytest.raises(SuiteError, match="mine/theirs: got an observation of type ndarray"):  # Recorder's
        suite()
    Shown.step = lambda self, action: ({"image_top": self.frame}, 0.0, False, False, {})
    env = suite().make(suite().tasks("train")[0])
    observation = env.reset(seed=0)[0]
    env.render()[:] = 9
    assert not observation["image_top"].any() and not env.render().any()


def rescaled():
    return RescaleAction(Recorder(), np.float32([-3.0]), np.float32([3.0]))


@pytest.mark.parametrize("make", [Recorder, rescaled, "Pendulum-v1", "CartPole-v1"])
def test_the_spec_of_an_own_family_survives_json(of, make):
    suite = of(make, max_episode_steps=3)()
    task = suite.tasks("train")[0]
    env = gymnasium.make("task_suites/mine-theirs-v0", task=task.to_json(), max_episode_steps=2)
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert str(again) == str(env) and again.spec == env.spec and again.get_wrapper_attr("task") == task
    for one in (env, again):
        one.reset(seed=0)
        ends = [one.step(one.action_space.sample())[3] for _ in range(2)]
        assert ends == [False, True]


def test_gymnasium_finds_the_ids_through_the_packages_name():
    code = "import gymnasium; gymnasium.make('task_suites:task_suites/toy-lqr-v0').reset(seed=0)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
    assert "task_suites:task_suites/" in (task_suites.registry.make_environment.__doc__ or "")
