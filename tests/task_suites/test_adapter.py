"""A user's own environment behaves like every other task distribution."""

import functools
import gc
import re
import sys
import warnings
import weakref

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.utils.env_checker import check_env

import task_suites
from task_suites import adapter, own_rewards, registry

BITS = gymnasium.spaces.Sequence(gymnasium.spaces.Discrete(2))


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
    assert places == pytest.approx([start + 1, start + 0.5, start + 1.5, start + 3.5], abs=1e-5)  # actions in [-2, 2]
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


def test_gymnasium_make_makes_it_too(suite):
    suite()
    env = gymnasium.make("task_suites/mine-walk-v0", split="test")
    assert env.reset(seed=0)[1]["task"].reward.parameters["goal"] == 3.0
    assert "mine/walk" in task_suites.names("own")


def test_an_id_is_enough_and_its_own_reward_can_be_relabelled(random_steps, of):
    mine = of("Pendulum-v1")()
    assert mine.max_episode_steps == 200 and mine.reward_input_names == (adapter.OWN_REWARD,)
    assert np.array_equal(mine.action_space.high, [1.0])
    task, rows = random_steps(mine)
    bare, rng = gymnasium.make("Pendulum-v1"), np.random.default_rng(3)
    bare.reset(seed=3)
    theirs = [bare.step(2 * rng.uniform(-1, 1, 1).astype(np.float32))[1] for _ in range(8)]
    assert [reward for _, reward, _ in rows[1:]] == pytest.approx(theirs, rel=1e-5)
    inputs = np.stack([info["reward_inputs"] for _, _, info in rows[1:]])
    assert mine.reward(task, inputs, None) == pytest.approx(theirs, rel=1e-5)
    assert mine.describe(task) == "what the environment itself pays"
    with pytest.raises(task_suites.SuiteError, match="0 test task"):
        mine.sample("test", 1, seed=0)


def test_discrete_actions_are_chosen_by_the_largest(of):
    mine = of("CartPole-v1")()
    assert mine.action_space.shape == (2,)
    env, bare = mine.make(mine.sample("train", 1, seed=0)[0]), gymnasium.make("CartPole-v1")
    env.reset(seed=1), bare.reset(seed=1)
    for action in ((0.9, 0.1), (-0.5, -0.4), (-1.0, 1.0)):
        ours, theirs = env.step(np.array(action))[0]["proprio"], bare.step(int(np.argmax(action)))[0]
        assert np.array_equal(ours, theirs)


def upright(inputs, action, weight):
    """High is good."""
    return weight * inputs[..., 0]


def test_rewards_by_name_and_dynamics_make_tasks(of):
    mine = of(
        "Pendulum-v1",
        reward={"upright": upright, "own": None},
        reward_inputs=lambda env: [np.cos(env.state[0])],
        reward_input_names=("height",),
        tasks={
            "train": [{"reward": "own"}, {"reward": "upright", "weight": 2.0, "dynamics": {"g": 3.0}}],
            "test": [{"reward": "upright", "weight": -1.0}],
        },
    )()
    own, changed = mine.tasks("train")
    assert mine.reward_input_names == ("height", adapter.OWN_REWARD)
    assert changed.dynamics["g"] == 3.0 and mine.make(changed).unwrapped.g == 3.0
    assert mine.make(own).unwrapped.g == 10.0
    assert task_suites.Task.from_json(changed.to_json()) == changed
    env = mine.make(changed)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.zeros(1))
    assert reward == pytest.approx(2 * np.cos(env.unwrapped.state[0]), rel=1e-5)
    assert mine.reward(own, info["reward_inputs"], None) == info["reward_inputs"][1] != reward
    assert mine.describe(changed) == "high is good (reward 'upright' with weight=2.0)"


def test_rendered_pictures_are_made_as_small_as_wanted(suite):
    suite(pixels="render")
    mine = task_suites.get("mine/walk", image_size=2)
    env = mine.make(mine.sample("train", 1, seed=0)[0])
    assert mine.observation_space["image_render"].shape == (2, 2, 3)
    assert env.observation_space.contains(env.reset(seed=0)[0])


def test_gymnasiums_checker_passes(of):
    of("Pendulum-v1")
    env = gymnasium.make("task_suites/mine-theirs-v0").unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to bound every Box
        check_env(env, skip_render_check=True)


def test_step_takes_finite_actions_after_a_reset(suite):
    mine = suite()
    env = mine.make(mine.sample("train", 1, seed=0)[0])
    with pytest.raises(task_suites.SuiteError, match="before reset"):
        env.step(np.zeros(1))
    env.reset(seed=0)
    for wrong in (np.zeros(3), np.array([np.nan])):
        with pytest.raises(task_suites.SuiteError, match="finite numbers"):
            env.step(wrong)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": {"train": [{"gaol": 1.0}]}}, "gaol"),
        ({"tasks": {"train": [{"goal": 1.0, "reward": "run"}]}}, "'reward'"),
        ({"tasks": {"train": []}}, "tasks is empty"),
        ({"max_episode_steps": None}, "max_episode_steps is None"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0"),
        ({"pixels": "rendered"}, "'render'"),
        ({"pixels": "mujoco"}, "physics"),
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
            {"make": lambda: type("Odd", (Walk,), {"observation_space": BITS})()},
            "observations",
        ),
        ({"tasks": {"trian": []}}, "^unknown split in the tasks of mine/walk 'trian'; did you mean 'train'"),
        ({"tasks": {"train": [["goal", 1.0]]}}, "expected a mapping of parameters"),
        ({"tasks": {"train": [{"goal": 1.0}], "test": [{"goal": 1.0}]}}, "is in train and again in test"),
        ({"tasks": {"train": [{"goal": 1.0}, {"goal": 1}]}}, "is in train and again in train"),
        ({"tasks": {"train": [{"goal": 1.0, "dynamics": 3}]}}, "dynamics is 3"),
        ({"tasks": {"train": [{"goal": 1.0, "dynamics": {"g": 3}}]}}, "'g': 3"),
        ({"reward": lambda inputs, action, goal: float(inputs[0] - goal)}, "reward 'walk', given numpy"),
        ({"reward": lambda inputs, action, goal: inputs - goal}, r"returned ndarray \(2, 3, 1\)"),
        (
            {"reward": lambda inputs, action, goal: inputs.sum(0)[..., 0] - goal},
            r"returned ndarray \(3,\); expected ndarray \(2, 3\): functions reduce the last dimension alone, an",
        ),
        (
            {"reward": lambda inputs, goal: inputs[..., 0] - goal},
            r"reward 'walk': multiple .*; it has to take \(inputs, action, goal\), and takes \(inputs, goal\)$",
        ),
        ({"reward": lambda inputs, action, goal: inputs[..., 0] > goal}, "returned bool instead of floats"),
        ({"reward": lambda inputs, action, goal: inputs.__array__()[..., 0]}, "given torch .* returned nda"),
        (
            {"reward": lambda inputs, action, goal: inputs[..., 0] * float("nan")},
            r"given numpy .*: returned nan where inputs are place=-?0\.\d+ and actions 0: numbers have to be finite$",
        ),
        (
            {"reward_inputs": None, "reward_input_names": ()},
            "reward 'reward', given numpy .*IndexError: .*; without reward_inputs= its inputs are empty: pass ",
        ),
        (
            {
                "reward_inputs": None,
                "reward_input_names": (),
                "reward": {"own": None, "mine": lambda inputs, action, goal: inputs[..., 1]},
                "tasks": {"train": [{"reward": "mine", "goal": 1.0}]},
            },
            "reward 'mine', .*; without reward_inputs= its inputs hold what the environment itself paid and nothing e",
        ),
        ({"reward": lambda inputs, action, goal: inputs[..., 1]}, "IndexError: .*; expected ndarray"),
        ({"reward_inputs": None}, r"names are \('place',\), but there is no function .*: pass reward_inputs="),
        ({"reward_inputs": lambda env: env.palce}, "reward_inputs.* failed: AttributeError"),
        ({"success": lambda inputs: inputs[..., 0] > 1}, "success: got an unexpected keyword .*goal"),
        ({"success": lambda inputs, goal: inputs[..., 0]}, "success.* returned float32 instead of booleans"),
        ({"terminated": lambda inputs, action, goal: inputs[..., 0]}, "terminated.* instead of booleans"),
        ({"make": "Wakl-v1"}, "Wakl"),
        ({"make": dict}, "not a Gymnasium environment"),
        ({"make": 3}, "^mine/walk: make is 3: expected a Gymnasium id, or a function"),
        ({"max_episode_steps": "4"}, "^mine/walk: max_episode_steps is '4': expected a whole number from 1"),
        ({"reward_input_names": None}, "^mine/walk: reward_input_names is None: expected words"),
        ({"reward_input_names": ("place", "place")}, "^mine/walk: reward_input_names .* name one twice"),
        ({"reward_input_names": (3,)}, r"^mine/walk: reward_input_names is \(3,\): expected words"),
        ({"keep": 3}, "^mine/walk: keep is 3: expected words"),
        ({"tags": None}, "^mine/walk: tags is None: expected words"),
        ({"tasks": [{"goal": 1.0}]}, r"^mine/walk: tasks is \[.*\]: expected a mapping from split to a list of"),
        ({"tasks": {"train": {"goal": 1.0}}}, "^mine/walk: tasks: train is {.*}: expected a list of mappings"),
        ({"tasks": {"train": None}}, "^mine/walk: tasks: train is None: expected a list of mappings, such"),
        ({"reward": "near"}, "^mine/walk: reward is 'near': expected a function, or functions by name, or None for wh"),
        ({"reward": {}}, "^mine/walk: reward is {}: expected a function"),
        ({"reward": {"near": 3}}, "^mine/walk: reward is {'near': 3}: expected a function"),
        ({"reward": {3: None}}, "^mine/walk: reward is {3: None}: expected a function"),
        ({"reward_inputs": "place"}, "^mine/walk: reward_inputs is 'place': expected a function, or None"),
        ({"success": True}, "^mine/walk: success is True: expected a function, or None"),
        ({"terminated": 3}, "^mine/walk: terminated is 3: expected a function, or None"),
        ({"scripted": "mine"}, "^mine/walk: scripted is 'mine': expected a function, or None"),
        ({"references": 3}, r"^mine/walk: references is 3: expected \(floor, reference\)"),
        (
            {"tasks": {"train": [{"goal": 1.0, "dynamics": {"wind": [0.08, 0.0]}}]}},
            r"^mine/walk: dynamics: parameter 'wind' is \[0.08, 0.0\]: .* scalar; give 2 numbers: wind_x, wind_y$",
        ),
        (
            {"tasks": {"train": [{"goal": np.zeros(4)}]}},
            "^mine/walk: the task {'goal': .*: parameter 'goal' .*; give 4 numbers: goal_0, goal_1, goal_2, ...$",
        ),
        (
            {"make": lambda: type("Free", (Walk,), {"action_space": gymnasium.spaces.Box(-np.inf, np.inf, (1,))})()},
            r"bounded Box with one dimension: give .*TransformAction\(env, lambda action: action, .*\(-1, 1, \(1,.*$",
        ),
        (
            {"make": lambda: type("Off", (Walk,), {"observation_space": gymnasium.spaces.Box(8, 9, (2,))})()},
            r"float32 \(1,\), which is not in its space",
        ),
        (
            {"make": lambda: type("Lost", (Walk,), {"step": lambda *_: (np.full(1, np.nan), 0.0, False, False, {})})()},
            r"got as proprio \[nan\]: numbers have to be finite",
        ),
    ],
)
def test_what_is_wrong_is_named(suite, changes, words):
    with pytest.raises(task_suites.SuiteError, match=words):
        mine = suite(**changes)
        mine.make(mine.sample("train", 1, seed=0)[0]).reset(seed=0)


def test_one_word_is_as_good_as_several(suite):
    mine = suite(reward_input_names="place", tags="short", keep="floor")
    assert mine.reward_input_names == ("place",) and task_suites.tags("mine/walk") == ["mine", "own", "short"]


def test_actions_without_bounds_are_taken_as_the_refusal_says(suite):
    class Free(Walk):
        action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    with pytest.raises(task_suites.SuiteError, match="bounded Box") as told:
        suite(make=Free)
    code = str(told.value).partition("let make return ")[2]
    mine = suite(make=lambda: eval(code, {"gymnasium": gymnasium, "env": Free()}))
    assert task_suites.faults(mine) == []


def test_without_torch_functions_are_for_numpy(suite, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    suite(reward=lambda inputs, action, goal: inputs.__array__()[..., 0])


def test_a_reward_that_is_not_finite_stops_the_run(suite):
    mine = suite(reward=lambda inputs, action, goal: inputs[..., 0] / (abs(action[..., 0]) < 0.5))
    env = mine.make(task := mine.sample("train", 1, seed=0)[0])
    env.reset(seed=0)
    named = f"reward 'walk' is -?inf .*, in the task {re.escape(task.to_json())}$"
    with np.errstate(all="ignore"), pytest.raises(task_suites.SuiteError, match=named):
        env.step(np.ones(1))


def test_an_episode_ends_where_the_task_or_the_environment_says_so(suite):
    def beyond(inputs, action, goal):
        return inputs[..., 0] > goal

    mine = suite(terminated=beyond, max_episode_steps=9)
    env = mine.make(mine.tasks("train")[0])
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while not (step := env.step(np.full(1, 0.4)))[2]:
            assert not mine.terminated(env.task, step[4]["reward_inputs"], None)
    assert 1 < step[4]["reward_inputs"][0] < 5 and not step[3]
    deaf = mine.make(mine.tasks("train")[0].replace(reward=task_suites.Reward("reward", {"goal": 99.0})))
    with pytest.warns(UserWarning, match="mine/walk: its environment ended an episode where terminated"):
        ended(deaf)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        ended(deaf)


def ended(env):
    env.reset(seed=0)
    while not env.step(np.ones(1))[2]:
        pass


def test_an_unseeded_episode_is_another_each_time(suite):
    mine = suite(pixels="render")
    task = mine.tasks("train")[0]
    assert len({float(mine.make(task).reset()[0]["proprio"][0]) for _ in range(3)}) == 3


def walk(cells):
    return lambda: (cells, Walk())[1]


def test_fingerprints_tell_makers_apart(of, monkeypatch):
    def made(make):
        given = {"reward_inputs": lambda env: [env.place], "reward_input_names": ("place",)}
        opened = of(make, max_episode_steps=4, **given)
        return opened().fingerprint()

    pendulum = functools.partial(gymnasium.make, "Pendulum-v1")
    makers = [Walk, walk(1), walk(2), lambda: (1, Walk())[1], lambda: (2, Walk())[1]]
    assert len({made(make) for make in makers}) == 5 and made(walk(1)) == made(walk(1))
    monkeypatch.setattr(PendulumEnv, "place", 0.0, raising=False)
    changed = functools.partial(pendulum, g=3.0)
    assert made(pendulum) == made(functools.partial(pendulum)) != made(changed)

    def named():
        return gymnasium.make("Pendulum-v1", g=GRAVITY[0])

    before = made(named)
    monkeypatch.setitem(globals(), "GRAVITY", [4.0])
    assert made(named) != before


GRAVITY = [3.0]


def test_what_cannot_be_drawn_has_no_render_mode_and_what_can_is_drawn(suite):
    mine = suite()
    with pytest.raises(task_suites.SuiteError, match="unknown render_mode 'rgb_array': there is none"):
        gymnasium.make("task_suites/mine-walk-v0", render_mode="rgb_array")
    env = mine.make(mine.tasks("train")[0])
    env.reset(seed=0)
    assert env.render() is None


def test_what_gymnasium_misses_is_named(of, monkeypatch):
    def reset(self, **given):
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr(PendulumEnv, "reset", reset)
    with pytest.raises(task_suites.SuiteError, match="mine/theirs: pygame is not installed"):
        of("Pendulum-v1")()
    with pytest.raises(task_suites.SuiteError, match="'image_size': there is none"):
        of("Pendulum-v1")(image_size=8)


def test_what_a_task_may_not_say_is_refused_before_it_is_played(suite):
    mine = suite()
    task = mine.tasks("train")[0]
    assert mine.check(task.replace(reward=task_suites.Reward("reward", {"goal": 7.0})))
    with pytest.raises(task_suites.SuiteError, match="task {'gaol': 1.0}, reward 'reward': .*goal"):
        mine.make(task.replace(reward=task_suites.Reward("reward", {"gaol": 1.0})))
    with pytest.raises(task_suites.SuiteError, match="{'nonsense': 1}: expected none"):
        mine.make(task.replace(parameters={"nonsense": 1}))


def test_a_limit_of_numpys_is_as_good(suite):
    assert type(suite(max_episode_steps=np.int64(3)).max_episode_steps) is int


def test_no_script_says_what_to_set(suite):
    mine = suite()
    with pytest.raises(task_suites.SuiteError, match="pretrain.scripted=0"):
        mine.scripted(mine.sample("train", 1, seed=0)[0])
    assert isinstance(mine, adapter.Adapted)


@pytest.mark.parametrize(("docstring", "said"), [
    ("Minus the distance to the goal.", "minus the distance to the goal"),
    ("Minus the distance between tip\n    and goal. For torch.\n\n    More.",
     "minus the distance between tip and goal"),
    ("RMS of the error.", "RMS of the error"), ("L2 norm of x", "L2 norm of x"), ("X of the hand.", "X of the hand"),
    ("Euclidean distance.", "Euclidean distance"), ("Newton's cost.", "Newton's cost"), ("A bonus, 0.5 a step.",
    "a bonus, 0.5 a step"), ("", ""),
])  # fmt: skip
def test_the_docstring_of_a_reward_becomes_a_part_of_a_sentence(docstring, said):
    assert own_rewards._in_a_sentence(docstring) == said


def test_an_environment_that_is_made_once_for_all_tasks_is_refused(of):
    class Carried(gymnasium.Env):
        """Moves by what its task says."""

        action_space, observation_space = gymnasium.spaces.Box(-1, 1, (1,)), gymnasium.spaces.Box(-9, 9, (1,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.place = np.zeros(1, np.float32)
            return self.place.copy(), {}

        def step(self, action):
            self.place += self.speed
            return self.place.copy(), 0.0, False, False, {}

    def made(speed, env=None):
        env = Carried() if env is None else env
        env.speed = speed
        return env

    tasks = {"train": [{"dynamics": {"speed": speed}} for speed in (1.0, 2.0)]}
    suite = of(made, max_episode_steps=3, tasks=tasks)()
    rows = suite.make_vector(suite.tasks("train"))
    rows.reset([0, 0])
    assert rows.step(np.zeros((2, 1)), np.ones(2, bool))[0]["proprio"].tolist() == [[1], [2]]
    shared = of(functools.partial(made, env=Carried()), max_episode_steps=3, tasks=tasks)()
    with pytest.raises(task_suites.SuiteError, match="mine/theirs: make returned an environment that it returned b"):
        shared.make_vector(shared.tasks("train"))  # one state, and both rows with the speed of the last
    held = Carried()
    wrapped = of(lambda speed: gymnasium.Wrapper(made(speed, held)), max_episode_steps=3, tasks=tasks)()
    with pytest.raises(task_suites.SuiteError, match="returned before"):  # in a wrapper of its own each time
        wrapped.make_vector(wrapped.tasks("train"))
    wraps = of(lambda: gymnasium.Wrapper(suite.make(suite.tasks("train")[0])), "mine/wraps", max_episode_steps=3)()
    assert wraps.make_vector(wraps.tasks("train") * 2).reset([0, 0])[0]["proprio"].tolist() == [[0], [0]]
    left = weakref.ref(suite.make(suite.tasks("train")[0]).unwrapped)
    gc.collect()
    assert left() is None  # remembered, but not kept


def test_an_id_may_say_which_module_registers_it(of, tmp_path, monkeypatch):
    text = 'import gymnasium\ngymnasium.register("Theirs-v0", "gymnasium.envs.classic_control:PendulumEnv")\n'
    (tmp_path / "registers_theirs.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        tasks = {"train": [{"dynamics": {"g": 3.0}}]}
        suite = of("registers_theirs:Theirs-v0", max_episode_steps=3, tasks=tasks)()
        assert suite.make(suite.tasks("train")[0]).unwrapped.g == 3.0
        with pytest.raises(task_suites.SuiteError, match="make is 'nowhere:Theirs-v0': No module named 'nowhere'"):
            of("nowhere:Theirs-v0", max_episode_steps=3)()
    finally:
        gymnasium.registry.pop("Theirs-v0", None)
        sys.modules.pop("registers_theirs", None)
