"""A user's own algorithm from a module outside the tree: settings, commands, Python, and wrong registrations."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import meta_latent
import task_suites
from meta_latent import cli
from meta_latent.algorithms import registry
from meta_latent.data.latents import LatentCache
from meta_latent.errors import UserError
from meta_latent.experiment.commands.algorithms import describe
from meta_latent.experiment.settings import extensions
from meta_latent.policies.latent_agent import AdaptationConfig, LatentParts
from meta_latent.rng import Streams
from task_suites.toy.lqr import matrices

PLANNER = Path(__file__).resolve().parents[2] / "examples" / "my_planner.py"
SIZES = ("first_updates=3", "updates_per_step=0.1", "candidates=6", "horizon=3")
SMALL = [f"algorithms.planner.{setting}" for setting in SIZES]
OWN = ["imports=[my_planner]", *SMALL]


@pytest.fixture
def project(toy, tmp_path, monkeypatch, capsys):
    """A working folder that holds my_planner.py; a function that runs a command there: (status, output, errors)."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(PLANNER, folder)
    monkeypatch.chdir(folder)

    def call(command, *arguments):
        capsys.readouterr()
        status = cli.main([command, "toy", *toy.small, *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    yield call
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def cell(arm, out):
    return ["target=goal", f"arm={arm}", "run_seed=0", f"out={out}"]


def test_its_settings_are_as_strict_as_any_other(toy, project, tmp_path):
    given = (tmp_path, "imports=[my_planner]")
    assert toy.experiment(*given, "algorithms.planner.horizon=7").settings_of("planner").horizon == 7
    assert toy.experiment(*given).settings_of("planner").horizon == 4
    for wrong, words in (
        ("horizn=7", "unknown key 'algorithms.planner.horizn' .*did you mean 'algorithms.planner.horizon'"),
        ("horizon=0", "algorithms.planner.horizon=0 .*a whole number from 1 to 1000"),
        ("horizon=far", "algorithms.planner.horizon='far' .*int"),
        ("candidates=1", "algorithms.planner.candidates=1 .*a whole number from 2 to"),
    ):
        with pytest.raises(UserError, match=words):
            toy.experiment(*given, f"algorithms.planner.{wrong}")
    with pytest.raises(UserError, match="unknown key 'algorithms.planer'.*did you mean 'algorithms.planner'"):
        toy.experiment(*given, "algorithms.planer.horizon=7")


def test_it_is_unknown_until_it_is_imported(toy, project, tmp_path):
    for wrong in ("transfer.arms=[planner/scratch]", "algorithms.planner.horizon=7"):
        with pytest.raises(UserError, match="planner"):
            toy.experiment(tmp_path, wrong)


def test_all_commands(toy_model, project, tmp_path):
    given = [*OWN, f"out={tmp_path}", f"pretrained={toy_model / 'model'}"]
    arms = "transfer.arms=[planner/pretrained, planner/scratch]"
    status, _, errors = project("transfer", arms, *given)
    assert status == 0, errors
    for arm in ("planner/pretrained", "planner/scratch"):
        status, said, errors = project("evaluate", *given, *cell(arm, tmp_path), "episodes=3", "video=0")
        assert status == 0 and "raw return" in said and "3 episodes" in said, errors
    assert cli.main(["report", str(tmp_path / "toy")]) == 0
    report = json.loads((tmp_path / "toy" / "report.json").read_text())
    assert set(report["targets"]["goal"]["arms"]) == {"planner/pretrained", "planner/scratch"}
    record = json.loads((tmp_path / "toy/transfer/goal/planner/pretrained/0/run.json").read_text())
    assert record["compared_with"] == "planner/scratch" and record["updates"] >= 3
    assert record["metrics"]["reward_loss"] == "squared error of the reward on observed latents"


def test_from_python(toy, toy_model, project, tmp_path):
    config = meta_latent.configure("toy", *toy.small, *OWN, f"out={tmp_path}", f"pretrained={toy_model / 'model'}")
    folder = meta_latent.transfer(config, "goal", "planner/pretrained")
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    assert meta_latent.evaluate(config, "goal", "planner/pretrained", episodes=2).returns.shape == (1, 2, 1)
    assert "planner/pretrained" in meta_latent.report(config)["targets"]["goal"]["arms"]


@pytest.mark.parametrize("arm", ["planner/pretrained", pytest.param("planner/scratch", marks=pytest.mark.slow)])
def test_killed_and_resumed_it_ends_with_the_same_bits(toy, toy_model, project, tmp_path, arm):
    more = ("transfer.evaluation.interval_env_steps=25", "transfer.budget_env_steps.default=150",
            "transfer.evaluation.episodes=1")  # fmt: skip
    given = [*OWN, *more, f"pretrained={toy_model / 'model'}"]
    whole, cut = (tmp_path / name / "toy/transfer/goal" / arm / "0" for name in ("whole", "cut"))
    assert project("transfer", *given, *cell(arm, tmp_path / "whole"))[0] == 0
    argv = [sys.executable, "-m", "meta_latent.cli", "transfer", "toy", *toy.small, *given]
    child = subprocess.Popen(
        [*argv, *cell(arm, tmp_path / "cut")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    deadline = time.monotonic() + 120
    while not (cut / "checkpoints" / "checkpoint.json").exists():
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert project("transfer", *given, *cell(arm, tmp_path / "cut"))[0] == 0
    assert toy.first_difference(toy.outcome(whole), toy.outcome(cut)) is None


def test_interrupted_after_every_round_it_ends_with_the_same_bits(toy, toy_model, project, tmp_path, monkeypatch):
    from meta_latent.experiment.learning import cells

    given = (*OWN, f"pretrained={toy_model / 'model'}")
    whole = toy.transfer(tmp_path / "whole", "planner/pretrained", *given)
    monkeypatch.setattr(cells, "deferred", toy.StopAfter(0))
    stops = 0
    while True:
        try:
            cut = toy.transfer(tmp_path / "cut", "planner/pretrained", *given)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 2 and toy.first_difference(toy.outcome(whole), toy.outcome(cut)) is None


# It plans

SUITE = task_suites.get("toy/lqr")
TASK = SUITE.sample("test", 1, 0)[0]
A, B = (torch.tensor(x, dtype=torch.float32) for x in matrices(TASK.dynamics["drag_per_second"]))


class State(SimpleNamespace):
    """The true state as a latent, and as its own distribution."""

    def mean(self):
        return self

    def map(self, change):
        return State(sample=change(self.sample), relations=self.relations)


class Truth:
    """The task's own dynamics as a model."""

    spec = SimpleNamespace(action_size=2)
    latent_size, relation_size, heads, device = 4, 0, 2, torch.device("cpu")

    def transition(self, latent, action, head):
        sample = latent.sample @ A.T + action @ B.T
        return State(sample=sample, relations=sample[:, :0])


def normalised_return(act, episodes=16):
    """Of a policy (states -> actions): 0 doing nothing, 1 the optimum."""
    start, totals = torch.zeros(episodes, 4), []
    start[:, :2] = torch.from_numpy(np.random.default_rng(1).uniform(-0.6, 0.6, (episodes, 2)))
    for policy in (act, lambda state: torch.zeros(len(state), 2)):
        state, total = start, torch.zeros(episodes)
        for _ in range(SUITE.max_episode_steps):
            action = policy(state)
            state = state @ A.T + action @ B.T
            total += SUITE.reward(TASK, state, action)
        totals.append(float(total.mean()))
    best = np.mean([SUITE.optimal_return(TASK, state) for state in start.numpy()])
    return (totals[0] - totals[1]) / (best - totals[1])


def test_with_the_true_model_and_reward_it_plans(project):
    sys.path.append(os.getcwd())
    import my_planner

    def planner(**settings):
        parts = LatentParts(Truth(), None, AdaptationConfig(), LatentCache())
        made = my_planner.Planner(my_planner.PlannerConfig(**settings), parts)
        made.reward = lambda latent, action: SUITE.reward(TASK, latent.sample, action)
        return lambda state: made.choose(State(sample=state, relations=state[:, :0]), rng, explore=False)

    rng = Streams(0)
    assert normalised_return(lambda state: torch.rand(state.shape[0], 2) * 2 - 1) < 0
    assert normalised_return(planner(horizon=8, candidates=256)) > 0.7
    assert normalised_return(planner(horizon=1, candidates=256)) < 0.2  # what is far ahead matters
    assert normalised_return(planner(horizon=8, candidates=2)) < 0  # and so does a choice


# Wrong registrations

HEAD = """
from dataclasses import dataclass
import torch
from meta_latent.algorithms.registry import Algorithm, register
from meta_latent.policies.base_agent import BaseAgent
from meta_latent.ranges import positive

@dataclass(frozen=True)
class Config:
    rate: float = positive(1.0)

class Agent(BaseAgent):
    def act(self, step, carry, rng, explore):
        return torch.zeros(len(step.reward), 2), carry
    def update(self, replay, rng):
        self.updates += 1
        return {"surprise": 1.0}

def build(config, setting):
    return Agent()
"""
WRONG = {
    "metric": ('register("mine", Algorithm(Config, build))', 1,
               "mine measures surprise, which its registration does not declare; add it to Algorithm(metrics="),
    "need": ('register("mine", Algorithm(Config, build, needs={"data"}))', 2,
             "mine/scratch learns from logged data: set transfer.targets.goal.data"),
    "default": ('@dataclass(frozen=True)\nclass New:\n    rate: float\nregister("mine", Algorithm(New, build))', 2,
                "New.rate has no default"),
    "range": ('@dataclass(frozen=True)\nclass New:\n    rate: float = 0.1\nregister("mine", Algorithm(New, build))', 2,
              "New.rate has no range; numbers need one, such as positive(1e-3) of meta_latent.ranges"),
    "no config": ('register("mine", Algorithm({"rate": 1.0}, build))', 2, "config is a frozen dataclass, got {'rate'"),
    "taken": ('register("ivg", Algorithm(Config, build))', 2,
              "there is an algorithm 'ivg' already, of the module meta_latent.algorithms; choose another name"),
    "name": ('register("my own", Algorithm(Config, build))', 2, "name is a plain one such as ivg or my_sac"),
    "start": ('register("mine", Algorithm(Config, build, starts=("pretraned",)))', 2,
              "starts from 'pretraned'; choose from scratch, pretrained, encoder"),
    "sees": ('register("mine", Algorithm(Config, build, sees={"rewards"}))', 2,
             "sees 'rewards'; choose from reward, task"),
    "relabels": ('register("mine", Algorithm(Config, build, relabels="share"))', 2,
                 "relabels names 'share', which is no setting of Config"),
    "unknown need": ('register("mine", Algorithm(Config, build, needs="date"))', 2,
                     "needs 'date'; choose from functions, states, data, density"),
    "nothing": ('register("mine", "my_wrong")', 2, "expected an Algorithm or 'module:attribute', got 'my_wrong'"),
    "module": ('register("mine", "my_nothing:ALGORITHM")', 2,
               "'mine' cannot be imported from my_nothing:ALGORITHM: No module named"),
    "attribute": ('register("mine", "my_wrong:NOTHING")', 2, "'mine' cannot be imported from my_wrong:NOTHING"),
    "other": ('register("mine", "my_wrong:build")', 2, "my_wrong:build is no Algorithm"),
}  # fmt: skip


@pytest.mark.parametrize(("head", "setting"), [
    ("", "rate: float | None = 0.1"), ("", "sizes: tuple[int, ...] = (1, 2)"), ("", "sizes: list[float] | None = None"),
    ("", "inner: Inner = Inner()"), ("", "rate: float = 0.1"),
    ("from __future__ import annotations\n", "rate: int | None = None"),
    ("from __future__ import annotations\n", "unknown: Unknown = None; rate: float = 1.0"),
])  # fmt: skip
def test_numbers_within_a_setting_have_a_range_too(head, setting, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_settings", module := types.ModuleType("my_settings"))
    inner = "@dataclass(frozen=True)\nclass Inner:\n    rate: int = 1\n"
    new = f"@dataclass(frozen=True)\nclass New:\n    on: bool = True; word: str = ''; {setting}\n"
    exec(f"{head}from dataclasses import dataclass\n{inner}{new}", vars(module))
    with pytest.raises(UserError, match=r"(New|Inner)\.(rate|sizes) has no range; .*(positive|counts)\("):
        registry.Algorithm(module.New, None)


def test_the_module_of_an_algorithm_may_register_it_anew_and_no_other_may(monkeypatch):
    """As where a cell of a notebook is run again: the new settings are those that count."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    code = HEAD + 'register("mine", Algorithm(Config, build))'
    for rate in (1.0, 2.0):
        exec(code.replace("1.0", str(rate)), {"__name__": "my_cell"})
        config = meta_latent.configure("toy", "algorithms.mine={}")
        assert config.settings_of("mine").rate == registry.get("mine").config().rate == rate
    with pytest.raises(UserError, match="there is an algorithm 'mine' already, of the module my_cell; choose another"):
        exec(code, {"__name__": "elsewhere"})
    registry.register("ivg", registry._ENTRIES["ivg"])  # the same one again, which stays ours
    with pytest.raises(UserError, match="there is an algorithm 'ivg' already, of the module meta_latent.algorithms;"):
        registry.register("ivg", registry.get("mine"))


def test_a_docstring_that_python_made_up_is_not_shown(project):
    Path("my_silent.py").write_text(HEAD + 'register("mine", Algorithm(Config, build))')
    extensions.import_packages(["my_silent"])
    assert "Config(" in registry.get("mine").config.__doc__
    said = describe("mine")
    assert "Config(" not in said and "rate = 1.0" in said


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_registration_is_one_line(project, tmp_path, what):
    text, status, words = WRONG[what]
    Path("my_wrong.py").write_text(HEAD + text)
    found, _, errors = project("transfer", "imports=[my_wrong]", *cell("mine/scratch", tmp_path))
    (line,) = [line for line in errors.splitlines() if line.startswith("meta-latent: ")]
    assert found == status and words in line and "Traceback" not in errors


def test_a_module_that_is_not_there_is_named(project, tmp_path):
    status, _, errors = project("transfer", "imports=[my_nothing]", *cell("mine/scratch", tmp_path))
    assert status == 2 and "imports: there is no module 'my_nothing' in this folder or installed\n" in errors


def test_a_module_whose_name_is_near_is_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for path in ("near_package/__init__.py", "near_package/hovering.py", "near_planner.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    for wrong, right in (("near_plannr", "near_planner"), ("near_packge.hovering", "near_package"),
                         ("near_package.hoverin", "near_package.hovering")):  # fmt: skip
        with pytest.raises(UserError, match=f"no module '{wrong}' in this folder or installed; .* mean '{right}'"):
            extensions.import_packages([wrong])
    for wrong in ("near_planner.hoverin", "my_nothing"):
        with pytest.raises(UserError, match=f"no module '{wrong}' in this folder or installed$"):
            extensions.import_packages([wrong])


# On-policy


@pytest.mark.parametrize("seed", [0, 1])
def test_reinforce_learns_in_fifteen_rounds(tmp_path, monkeypatch, seed):
    """Where old episodes are learned from again, or a round is a single one, it does not."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.syspath_prepend(str(PLANNER.parent))
    monkeypatch.delitem(sys.modules, "my_reinforce", raising=False)
    point = {"suite": "toy/hidden_goal", "options": {"observation": "state", "reward": "dense"}}
    config = meta_latent.configure(
        {"name": "alone", "out": str(tmp_path), "imports": ["my_reinforce"],
         "transfer": {"targets": {"new_place": point}, "arms": ["reinforce/scratch"], "stop_at_threshold": False,
                      "budget_env_steps": {"default": 6000}, "video": False,
                      "evaluation": {"interval_env_steps": 6000, "episodes": 10}}})  # fmt: skip
    run = meta_latent.transfer(config, "new_place", "reinforce/scratch", seed=seed)
    sys.modules.pop("my_reinforce")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (score,) = [record["score"] for record in records if record["kind"] == "evaluation"]
    assert score > 0.6
    assert json.loads((run / "run.json").read_text())["updates"] == 15
