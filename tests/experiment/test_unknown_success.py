"""Success where nobody said when tasks are solved: not 0 but unknown, from the log to the page."""

import json

import gymnasium
import numpy as np
import pytest

import task_suites
from meta_latent import cli
from meta_latent.experiment.commands.evaluate import Result
from meta_latent.experiment.learning.evaluation import Score
from meta_latent.experiment.learning.loop import _words
from meta_latent.experiment.report.build import build
from meta_latent.experiment.runs import metrics

ARM = "transfer/goal/sac/scratch/0"


def reward(inputs, action, x):
    """Minus the distance."""
    return -abs(inputs[..., 0] - x)


@pytest.fixture
def suites(monkeypatch):
    """mine/untold says nothing of success, mine/told does."""
    monkeypatch.setattr(task_suites.registry, "_ENTRIES", dict(task_suites.registry._ENTRIES))
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    for name, success in (("mine/untold", None), ("mine/told", lambda inputs, x: inputs[..., 0] > x)):
        task_suites.with_rewards(name, "toy/lqr", reward=reward, success=success, tasks={"test": [{"x": 0.3}]})


@pytest.mark.parametrize("told", [True, False])
def test_it_is_in_the_log_the_report_and_the_tables_where_it_is_known(toy, suites, tmp_path, capsys, told):
    name = "mine/told" if told else "mine/untold"
    toy.transfer(tmp_path, "sac/scratch", f"transfer.targets={{goal: {{suite: {name}, episodes_per_trial: 2}}}}")
    root = tmp_path / "toy"
    assert ("success" in capsys.readouterr().out) == told
    last = metrics.read(root / ARM, "evaluation")[-1]
    for value in (last["success"], *last["success_by_episode"]):
        assert (value is not None) == told
    assert cli.main(["adapt", str(root / "transfer/goal"), "episodes=3", "cleared=true"]) == 0
    assert ("success" in capsys.readouterr().out) == told
    place = root / "adapt/goal"
    assert (place / "success_by_step.png").exists() == told and (place / "reward_by_step.png").exists()
    played = json.loads((place / "adaptation.json").read_text())["arms"]["sac/scratch"]["seeds"]["0"]
    assert all({key for key in part if key.startswith("success")} == ({"success", "success_by_step"} if told else set())
               for part in (played, played["cleared"]))  # fmt: skip
    assert cli.main(["evaluate", str(root / ARM), "video=0"]) == 0
    assert ("success" in capsys.readouterr().out) == told
    target = build(root)["targets"]["goal"]
    arm, (line, _) = target["arms"]["sac/scratch"], target["adaptations"][0]["lines"]
    assert (arm["final_success_iqm"] is not None) == (line["success"] is not None) == told
    assert bool(arm["steps_to_success"]) == told and arm["final_score_iqm"] is not None
    assert (root / "report/success_goal.png").exists() == told


def test_lines_and_tables_leave_it_out():
    returns, unknown = np.ones((1, 2, 1)), np.full((1, 2, 1), np.nan)
    assert "success" in Result(returns, returns, None).table()
    assert "success" not in Result(returns, unknown, None).table()
    assert _words(Score(1, 1, 0.5, [1], [0.5], [])) == "score 1.000, success 0.50"
    assert _words(Score(1, 1, np.nan, [1], [np.nan], [])) == "score 1.000"
