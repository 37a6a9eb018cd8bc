"""What scores 0 and 1: given by users for their own tasks, and measured."""

import gymnasium
import numpy as np
import pytest

import task_suites
from meta_latent import cli
from task_suites import SuiteError, make_references, registry


class Slide(gymnasium.Env):
    """A number that starts at 0 and that actions move; it ends beyond 1.5."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0.0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.place += float(action[0])
        return np.full(1, self.place, np.float32), 0.0, self.place > 1.5, False, {}


def reward(inputs, action, goal):
    """Near the goal."""
    return -abs(inputs[..., 0] - goal)


class Ahead:
    def __init__(self, goal):
        self._goal = goal

    def reset(self, rng):
        pass

    def __call__(self, inputs):
        return np.clip(self._goal - inputs, -1, 1).astype(np.float32)


SLIDE = {
    "reward": reward,
    "reward_inputs": lambda env: [env.place],
    "reward_input_names": ("place",),
    "terminated": lambda inputs, action, goal: inputs[..., 0] > 1.5,
    "max_episode_steps": 3,
}
TASKS = {"train": [{"goal": 1.0}, {"goal": 2.0, "references": [-8, -1]}], "test": [{"goal": -2.0}]}


def test_tasks_have_the_references_of_their_entry_or_else_those_of_all(of):
    suite = of(Slide, **SLIDE, tasks=TASKS, references=(-5, np.float32(0.5)))()
    first, second = suite.tasks("train")
    assert suite.references(first) == suite.references(*suite.tasks("test")) == (-5.0, 0.5)
    assert suite.references(second) == (-8.0, -1.0) and "references" not in second.reward.parameters
    assert of(Slide, **SLIDE, tasks=TASKS)().references(first) is None


def test_own_rewards_on_a_suite_have_references_too(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    given = {"reward": reward, "tasks": {"train": [{"goal": 1.0}, {"goal": 2.0, "references": (-3, 3)}]}}
    task_suites.with_rewards("mine/scaled", "tabletop/reach", **given, references=(-9, 0))
    gymnasium.registry.pop(task_suites.gymnasium_id("mine/scaled"))
    suite = task_suites.get("mine/scaled", image_size=16, distractors={"video": 0.5})
    first, second = sorted(suite.sample("train", 2, 0), key=lambda task: task.reward.parameters["goal"])
    assert suite.references(first) == (-9.0, 0.0) and suite.references(second) == (-3.0, 3.0)
    assert first.distractors  # which change no score


@pytest.mark.parametrize("wrong", [(1, 0), (0, 0), (0,), (0, 1, 2), 3, (0, float("nan")), ("low", "high")])
def test_wrong_references_are_refused(of, wrong):
    with pytest.raises(SuiteError, match=r"references is .*: expected \(floor, reference\)|expected a num"):
        of(Slide, **SLIDE, tasks=TASKS, references=wrong)
    entry = {"train": [{"goal": 1.0, "references": wrong}]}
    with pytest.raises(SuiteError, match=r"references of \{'goal': 1.0, .* is "):
        of(Slide, **SLIDE, tasks=entry)()


def test_measured_returns_are_those_of_episodes_played_to_their_end(of):
    suite = of(Slide, **SLIDE, tasks=TASKS, scripted=Ahead)()
    train, test = (make_references.mean_returns(suite, 6, suite.tasks(split)) for split in ("train", "test"))
    # By hand, goals 1, 2 and -2: doing nothing stays at 0 for three steps; the script reaches 1 in one step,
    # 2 in two, where its episode ends, and -2 in two.
    assert train["nothing"] == [-3.0, -6.0] and test["nothing"] == [-6.0]
    assert train["scripted"] == [0.0, -1.0] and test["scripted"] == [-1.0]
    assert [len(found["random"]) for found in (train, test)] == [2, 1] and max(train["random"] + test["random"]) < 0


def test_few_tasks_are_all_measured_and_of_many_some_evenly():
    assert make_references._spread(list(range(3)), 50) == [0, 1, 2]
    assert make_references._spread(list(range(100)), 4) == [0, 25, 50, 75]


def test_the_command_prints_the_line_to_paste(of, capsys):
    of(Slide, **SLIDE, tasks={"train": [{"goal": 2.0}]}, scripted=Ahead)
    assert cli.main(["tasks", "mine/theirs", "references=4"]) == 0
    said = capsys.readouterr().out
    assert "scripted:     -1 (-1 to -1)" in said and "train tasks (1) and episodes (4 each)" in said
    assert "test tasks" not in said
    line = next(line for line in said.splitlines() if line.startswith("to paste:"))
    suite = of(Slide, **SLIDE, tasks=TASKS, **eval(f"dict({line.partition(':')[2].strip()})"))()
    floor, best = suite.references(suite.tasks("train")[0])
    assert -6.0 <= floor < best == -1.0


def test_the_floors_of_the_splits_are_not_pooled(of, capsys):
    """Doing nothing pays more on the train task, whose goal is nearer, than on the test task, which is scored."""
    of(Slide, **SLIDE, tasks={"train": [{"goal": 0.5}], "test": [{"goal": 2.0}]}, scripted=Ahead)
    assert cli.main(["tasks", "mine/theirs", "references=4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [k for k, line in enumerate(lines) if line.startswith("raw return")]
    assert ["train tasks" in lines[heads[0]], "test tasks" in lines[heads[1]]] == [True, True]
    nothing = [line for line in lines if line.startswith("nothing:")]
    assert [line.split()[1] for line in nothing] == ["-1.5", "-6"]
    floor = float(lines[-1].partition("(")[2].partition(",")[0])
    random = float(lines[heads[1] + 1].split()[1])
    assert lines[-1].startswith("to paste:") and floor == pytest.approx(max(random, -6.0), abs=0.01)


def tenfold(inputs, action, goal):
    """Near the goal, for ten."""
    return 10 * reward(inputs, action, goal)


def test_each_reward_has_a_scale_of_its_own(of, capsys):
    given = SLIDE | {"reward": {"tenfold": tenfold, "plain": reward}}
    tasks = [{"goal": 2.0, "reward": "tenfold"}, {"goal": 2.0, "reward": "plain"}]
    of(Slide, **given, tasks={"train": [{"goal": 1.0, "reward": "plain"}], "test": tasks}, scripted=Ahead)
    assert cli.main(["tasks", "mine/theirs", "references=4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" and")[0] for line in lines if line.startswith("raw return")] == [
        f"raw return, reward {reward!r}, mean over {split} tasks (1)"
        for reward, split in (("plain", "train"), ("plain", "test"), ("tenfold", "test"))
    ]
    pasted = dict(line.removeprefix("to paste:").split("   in each entry with the reward ") for line in lines[-2:])
    entries = [{**task, **eval(f"{{{line}}}")} for line, task in zip(pasted, reversed(tasks), strict=True)]
    assert list(pasted.values()) == ["'plain'", "'tenfold'"]
    suite = of(Slide, **given, tasks={"test": entries})()
    plain, ten = map(suite.references, suite.tasks("test"))
    assert plain[1] == -1.0 and ten == pytest.approx((10 * plain[0], -10.0))


def test_the_command_says_what_is_missing_where_there_is_no_script_or_no_good_one(of, capsys):
    of(Slide, **SLIDE, tasks=TASKS)
    assert cli.main(["tasks", "mine/theirs", "references=4"]) == 0
    assert "GOOD)" in capsys.readouterr().out
    of(Slide, **SLIDE, tasks=TASKS, scripted=lambda goal: Ahead(-9 * goal))
    assert cli.main(["tasks", "mine/theirs", "references=4"]) == 0
    assert "to paste:     nothing: the script" in capsys.readouterr().out
    assert cli.main(["tasks", "toy/hidden_goal", "references=4"]) == 0
    assert "paste" not in capsys.readouterr().out
    assert cli.main(["tasks", "mine/theirs", "references=none"]) == 2
    assert "references is 'none': expected a whole number from 1" in capsys.readouterr().err
