"""`task_suites.faults` finds what an environment of one's own may get wrong, and nothing in suites that are right."""

import re

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import task_suites
from task_suites import Reward, Task, TaskDistribution, registry
from task_suites.adapted_env import outside


class Walk(gymnasium.Env):
    """A number that actions move; `steps` of an episode."""

    def __init__(self, suite, task):
        self.suite, self.task = suite, task
        self.observation_space, self.action_space = suite.observation_space, suite.action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.time = np.array([self.np_random.uniform(-1, 1)], np.float32), 0
        return self.seen(), self.info()

    def step(self, action):
        self.place, self.time = self.place + np.asarray(action, np.float32), self.time + 1
        last = self.time >= self.suite.max_episode_steps
        return self.seen(), float(-abs(self.place[0])), bool(self.place[0] > 1), last, self.info()

    def seen(self):
        return {"proprio": self.place.copy()}

    def info(self):
        return {"reward_inputs": self.place.copy(), "success": bool(abs(self.place[0]) < 0.1), "task": self.task}


class Family(TaskDistribution):
    """Walks; `change`: attributes that are otherwise."""

    name, family, max_episode_steps = "mine/walk", "mine", 5
    observation_space = gymnasium.spaces.Dict({"proprio": gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)})
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    reward_input_names = ("place",)
    environment = Walk

    def __init__(self):
        self.options = {}

    def tasks(self, split):
        return (Task("mine", Reward("near"), {"number": float(split == "test")}),)

    def make(self, task):
        return self.environment(self, task)

    def reward(self, task, inputs, action):
        return -abs(inputs[..., 0])

    def success(self, task, inputs):
        return abs(inputs[..., 0]) < 0.1

    def terminated(self, task, inputs, action):
        return inputs[..., 0] > 1

    def scripted(self, task):
        raise task_suites.SuiteError("there is none")


def walking(**changes):
    return {"environment": type("Changed", (Walk,), changes)}


def by_global_numbers(self, *, seed=None, options=None):
    Walk.reset(self, seed=seed)
    self.place = np.random.uniform(-1, 1, 1).astype(np.float32)
    return self.seen(), self.info()


def one_buffer(self):
    self.__dict__.setdefault("buffer", np.zeros(1, np.float32))[:] = self.place
    return {"proprio": self.buffer}


def numbered(self, suite, task, made=[]):  # noqa: B006 (of all environments)
    Walk.__init__(self, suite, task)
    made.append(self)
    number = np.float32(len(made))
    self.seen = lambda: {"proprio": self.place + number}


def goes_on(self, *, seed=None, options=None):
    before = getattr(self, "place", 0)
    Walk.reset(self, seed=seed)
    self.place = self.place + 0.1 * before
    return self.seen(), self.info()


def endless(self, action):
    return (*Walk.step(self, action)[:2], False, False, self.info())


def short(self, action):
    observation, reward, terminated, _, info = Walk.step(self, action)
    return observation, reward, terminated, self.time >= 3, info


WRONG = {
    "global generator": (walking(reset=by_global_numbers), "seed and actions gave another proprio .*, after reset"),
    "not in the space": (walking(seen=lambda self: {"proprio": self.place.astype(np.float64)}),
                         r"observation 0 is not in observation_space: .*float64\(1,\)"),
    "not finite": (walking(seen=lambda self: {"proprio": self.place * np.float32("inf")}), 
                   r"proprio of observation 0 is -?inf at \[0\]: numbers have to be finite"),
    "not a number": (walking(seen=lambda self: {"proprio": self.place * np.float32("nan")}),
                     r"proprio of observation 0 is nan at \[0\]: numbers have to be finite"),
    "shared memory": (walking(seen=one_buffer), "an observation changes after it was returned"),
    "another reward": ({"reward": lambda self, task, inputs, action: -abs(inputs[..., 0]) + 1},
                       "reward computed from reward_inputs is .* the environment said"),
    "not for arrays": ({"reward": lambda self, task, inputs, action: -abs(float(inputs[..., 0]))},
                       "reward of whole arrays, here .* fails with TypeError"),
    "mean over steps": ({"reward": lambda self, task, inputs, action: -abs(inputs[..., 0]).mean()},
                        r"reward of inputs \(\d, 1\) has the shape \(\), expected \(\d,\): it has to reduce the last"),
    "no action": ({"reward": lambda self, task, inputs: -abs(inputs[..., 0])},
                  r"reward: too many .*; it has to take \(task, inputs, action\), and takes \(task, inputs\)$"),
    "not for leading axes": ({"reward": lambda self, task, inputs, action: -abs(inputs[:, 0])},
                             r"reward of inputs \(1, \d, 1, 1\) has the shape"),
    "numpy alone": ({"success": lambda self, task, inputs: np.abs(np.asarray(inputs))[..., 0] < 0.1},
                    "success of torch tensors is no tensor but ndarray"),
    "numpy functions": ({"reward": lambda self, task, inputs, action: -np.linalg.norm(inputs[..., :1], axis=-1)},
                        "reward of torch tensors is no tensor"),
    "another success": ({"success": lambda self, task, inputs: inputs[..., 0] < 9}, "success computed .* said False"),
    "ends unsaid": ({"terminated": TaskDistribution.terminated}, "terminated computed .* is False .* said True"),
    "endless": (walking(step=endless) | {"terminated": TaskDistribution.terminated},
                "an episode goes on after max_episode_steps=5"),
    "cut off": (walking(step=short), "an episode is truncated after 3 steps, max_episode_steps is 5"),
    "both splits": ({"tasks": lambda self, split: (Task("mine", Reward("near")),)}, r"1 task\(s\) are in both splits"),
    "no tasks": ({"tasks": lambda self, split: ()}, "it has no tasks"),
    "no success": (walking(info=lambda self: {"reward_inputs": self.place.copy()}), "info of reset has no success"),
    "no inputs": (walking(info=lambda self: {}), "info of reset has no reward_inputs and no success"),
    "more inputs": (walking(info=lambda self: Walk.info(self) | {"reward_inputs": np.zeros(2, np.float32)}),
                    r"reward_inputs has the shape \(2,\), reward_input_names are 1"),
    "raises": (walking(step=lambda self, action: 1 / 0), r"ZeroDivisionError: .*test_checks\.py:\d+, in <lambda>"),
    "old gym": (walking(step=lambda self, action: Walk.step(self, action)[:4]), "step returned 4 values, expected"),
    "no info": (walking(reset=lambda self, seed=None, options=None: Walk.reset(self, seed=seed)[0]),
                "reset returned dict, expected"),
    "noisy inputs": (walking(info=lambda self: Walk.info(self) | {"reward_inputs": np.float32(np.random.rand(1))}),
                     "seed and actions gave another reward_inputs"),
    "others": (walking(__init__=numbered), "actions gave another proprio in a second environment, after reset"),
    "remembers": (walking(reset=goes_on), "seed and actions gave another proprio when it was reset to it again"),
    "refuses": (walking(reset=lambda self, **given: Walk.reset(self, seed=1) if not given else self.refuse(),
                        refuse=lambda self: (_ for _ in ()).throw(task_suites.SuiteError("no picture"))), "no picture"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named(what):
    pytest.importorskip("torch")
    changes, words = WRONG[what]
    found = [fault for seed in range(4) for fault in task_suites.faults(type("Mine", (Family,), changes)(), seed=seed)]
    assert any(re.search(words, fault) for fault in found), found
    assert not any("\n" in fault for fault in found)
    if what not in ("shared memory", "noisy inputs"):  # rewards are then of other places, too
        assert len(set(re.sub(r"[-\d.]+", "", fault) for fault in found)) <= 2, found


def test_nothing_is_said_of_what_is_right():
    assert all(task_suites.faults(Family(), seed=seed) == [] for seed in range(4))


class Several(Family):
    """Five tasks each of `train` and `test`, called 0 to 4 and 5 to 9; `wrong`: numbers of those that are."""

    wrong = ()

    def tasks(self, split):
        return tuple(Task("mine", Reward("near"), {"number": float(k + 5 * (split == "test"))}) for k in range(5))

    def is_wrong(self, task):
        return task.parameters["number"] in self.wrong


def fails(self, task, inputs, action):
    return -1 / 0 if self.is_wrong(task) else Family.reward(self, task, inputs, action)


def grows(self, task, inputs, action):
    return Family.reward(self, task, inputs, action) * (np.inf if self.is_wrong(task) else 1)


def ends_early(self, task, inputs, action):
    return inputs[..., 0] > (0.5 if self.is_wrong(task) else 1)


def cannot_be_made(self, task):
    return 1 / 0 if self.is_wrong(task) else Walk(self, task)


LATER = {
    "fails": ({"reward": fails}, "reward of whole arrays, here .* fails with ZeroDivisionError", (1, 3, 6)),
    "not finite": ({"reward": grows}, r"reward computed from reward_inputs is not finite: \S+ at step \d+", (1, 8)),
    "ends early": ({"terminated": ends_early}, "terminated computed .* is True .* said False", (2, 4, 7, 9)),
    "is not made": ({"make": cannot_be_made}, "ZeroDivisionError: .*test_checks", (2, 4, 7, 9)),
}
"""What later tasks may get wrong, and which, of those of either split, are found."""


@pytest.mark.parametrize(("what", "number"), [(what, number) for what in LATER for number in LATER[what][2]])
def test_a_later_task_with_a_fault_is_named(what, number):
    changes, words, _ = LATER[what]
    suite = type("Mine", (Several,), changes | {"wrong": (number,)})()
    found = [fault for seed in range(3) for fault in task_suites.faults(suite, seed=seed)]
    named = [fault for fault in found if re.search(f'{words}.*, in the task .*"number": {number}.0', fault)]
    assert found == named != []
    first, *others = suite.tasks("train" if number < 5 else "test")
    assert task_suites.faults(suite, [first]) == []
    assert set(task_suites.faults(suite, [first], others=others)) <= set(named)


def test_of_one_fault_of_many_tasks_one_line_is_said():
    suite = type("Mine", (Several,), {"reward": fails, "wrong": range(10)})()
    assert len(task_suites.faults(suite)) == 1
    suite.wrong = range(1, 5)
    assert len(task_suites.faults(suite)) == 1


def test_a_reward_is_asked_of_no_episodes_that_it_does_not_hold_for():
    told = {"recomputes": lambda self, task, played=None: task == played, "reward": fails, "wrong": (1,)}
    assert task_suites.faults(type("Mine", (Several,), told)()) == []


@pytest.mark.parametrize("name", ["toy/lqr", "toy/counting", "toy/hidden_goal", "toy/puck", "locomotion/hopper_run"])
def test_nothing_is_said_of_suites_that_are_here(name):
    assert task_suites.faults(name) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", task_suites.names())
def test_nothing_is_said_of_any(name):
    small = {
        "meld": {"image_size": 32},
        "metaworld": {"image_size": 32, "antialias": False},
        "tabletop": {"image_size": 32},
    }
    assert task_suites.faults(task_suites.get(name, **small.get(name.split("/")[0], {}))) == []


class Unseeded(gymnasium.Wrapper):
    """Its episodes begin anywhere, whatever the seed."""

    def reset(self, *, seed=None, options=None):
        self.env.reset(seed=seed)
        self.unwrapped.state = np.random.uniform(-1, 1, 2)
        return self.unwrapped._get_obs(), {}


def test_environments_that_were_adapted(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    made = {"mine/right": "Pendulum-v1", "mine/wrong": lambda: Unseeded(gymnasium.make("Pendulum-v1"))}
    try:
        for name, make in made.items():
            task_suites.gymnasium_task(
                name, make, max_episode_steps=20, tasks={"train": [{"goal": 1.0}], "test": [{"goal": 2.0}]},
                reward=lambda inputs, action, goal: -abs(inputs[..., 0] - goal),
                reward_inputs=lambda env: env.state, reward_input_names=("angle", "speed"),
            )  # fmt: skip
        assert task_suites.faults(task_suites.get("mine/right")) == []
        (found,) = task_suites.faults(task_suites.get("mine/wrong"))
        assert "the same seed and actions gave another proprio when it was reset to it again, after reset" in found
    finally:
        for name in made:
            gymnasium.registry.pop(task_suites.gymnasium_id(name), None)


def test_what_an_adapted_environment_itself_promises_is_held_against_it(of):
    class Late(gymnasium.Env):
        """Observes how many steps it has taken."""

        action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

        def __init__(self, high):
            self.observation_space = gymnasium.spaces.Box(0, high, (1,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.count = 0
            return np.zeros(1), {}

        def step(self, action):
            self.count += 1
            return np.full(1, self.count, np.float64), 0.0, False, False, {}

    assert task_suites.faults(of(lambda: Late(60), max_episode_steps=60)()) == []  # float64 is converted
    narrow = of(lambda: Late(52), max_episode_steps=60)()
    assert task_suites.faults(narrow) == [
        "observation 53 of the environment itself holds 53.0 at [0], which is not in [0.0, 52.0]: let its "
        "observation_space say what it returns"
    ]
    later = of(Late, max_episode_steps=60, tasks={
        "train": [{"dynamics": {"high": high}} for high in (60, 5)], "test": [{"dynamics": {"high": 61}}],
    })()  # fmt: skip
    (found,) = task_suites.faults(later)
    assert "observation 6 of the environment itself holds 6.0" in found and '{"high": 5}' in found
    env = narrow.make(narrow.tasks("train")[0])  # nothing relies on that space
    env.reset(seed=0)
    assert all(env.step(np.zeros(1))[0]["proprio"] == t + 1 for t in range(60))


def test_an_observation_of_another_shape_than_its_space_is_named(of):
    class Column(gymnasium.Env):
        """Returns a column from steps where its space holds two numbers."""

        action_space, observation_space = gymnasium.spaces.Box(-1, 1, (1,)), gymnasium.spaces.Box(-1, 1, (2,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(2, np.float32), {}

        def step(self, action):
            return np.zeros((2, 1), np.float32), 0.0, False, False, {}

    assert task_suites.faults(of(Column, max_episode_steps=5)()) == [
        "observation 1 of the environment itself holds an array of shape (2, 1), which is not (2,): let its "
        "observation_space say what it returns"
    ]


@pytest.mark.parametrize(("space", "right", "wrong", "words"), [
    (spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(-1, 1, (2,))), {"a": 1, "b": [0, 1]}, {"a": 1, "b": [0, 2]},
     r"^2\.0 at \['b'\]\[1\], which is not in \[-1\.0, 1\.0\]"),
    (spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))), (0, 2), (0, -1),
     r"^-1 at \[1\], which is not in Discrete\(3\)"),
    (spaces.Box(0, 9, (2,), np.uint8), np.array([0, 9]), np.array([0, -1]), r"^-1 at \[1\], which is not in \[0, 9\]"),
    (spaces.Box(-1, np.float32(0.7), (1,)), np.array([0.7]), np.array([0.8]), r"^0\.8"),
    (spaces.Box(-1, 1, (3,)), np.ones(3), np.full(3, 7.0), r"^7\.0 at \[0\], which is not in \[-1\.0, 1\.0\]"),
    (spaces.Box(-1, 1, (3,)), [0, 0, 0], np.zeros((3, 1)), r"^an array of shape \(3, 1\), which is not \(3,\)$"),
    (spaces.Discrete(3), np.array([1]), np.array([3]), r"which is not in Discrete\(3\)"),
    (spaces.MultiDiscrete([3, 3], dtype=np.int8), np.array([1, 2]), np.array([1, 257]), "which is not in Multi"),
    (spaces.MultiDiscrete([3, 3]), np.array([1, 2]), np.array([[1], [2]]), "which is not in Multi"),
    (spaces.MultiBinary(2), np.array([0.0, 1.0]), np.array([0.0, 0.5]), "which is not in MultiBinary"),
])  # fmt: skip
def test_what_is_outside_of_a_space_is_said(space, right, wrong, words):
    assert outside(space, right) is None and re.search(words, outside(space, wrong))
