"""Which cells there are, and how many environment steps each may take."""

import json
import re

import pytest

from meta_latent.algorithms.registry import Arm
from meta_latent.errors import UserError
from meta_latent.experiment.learning import cells as transfer
from meta_latent.experiment.learning.cell_settings import LATITUDE, settings_of
from meta_latent.experiment.runs import checkpoint, run_folder
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig, TransferConfig


def load(*overrides):
    return config.load(ExperimentConfig, [config.find("experiment", "toy")], list(overrides))


def test_the_most_specific_budget_counts():
    budgets = {"default": 1, "ivg/scratch": 2, "goal": 3, "goal/ivg/scratch": 4}
    kinds = [(target, arm) for target in ("goal", "other") for arm in ("ivg/scratch", "sac/scratch")]
    targets = load().transfer.targets
    settings = TransferConfig(targets=targets, budget_env_steps=budgets)
    assert [settings.budget(*kind) for kind in kinds] == [4, 3, 2, 1]
    assert TransferConfig(budget_env_steps={}).budget("goal", "ivg/scratch") == 3000


@pytest.mark.parametrize("key", ["gaol", "goal/ivg/scrach", "ivg/pretraned", "goal/sb3_sac/pretrained"])
def test_a_budget_for_nothing_is_refused(key):
    with pytest.raises(UserError, match="budget_env_steps has no"):
        load(f"transfer.budget_env_steps={{{key}: 5}}")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        # What this experiment has comes before what could be registered, such as goal/ivg/policy.
        ("goal/ivg", "did you mean 'goal/ivg/scratch'?"),
        ("sb3_sac/scrach", "did you mean 'sb3_sac/scratch'?"),
        ("nothing", "choose from default, goal, goal/ivg/scratch, ivg/scratch"),
    ],
)
def test_a_wrong_budget_is_told_of_those_that_the_experiment_has(key, hint):
    arms = "transfer.arms=[ivg/scratch]"
    with pytest.raises(UserError, match=f"{re.escape(hint)}$"):
        load(arms, f"transfer.budget_env_steps={{{key}: 5}}")


def test_a_cell_is_not_another_one_because_another_target_got_a_budget():
    def cell(*overrides):
        return transfer.narrowed(load(*overrides), "goal", "ivg/scratch", 0, None)

    assert cell() == cell("transfer.budget_env_steps={default: 300, sac/scratch: 7, goal/sac/scratch: 8}")
    assert cell() != cell("transfer.budget_env_steps={default: 300, goal/ivg/scratch: 9}")


def test_a_target_can_name_its_own_arms():
    plain = load("transfer.arms=[ivg/scratch, sac/scratch]", "transfer.seeds=[0]")
    own = load(
        "transfer.arms=[ivg/scratch, sac/scratch]", "transfer.seeds=[0]", "transfer.targets.mine.suite=toy/lqr",
        "transfer.targets.mine.arms=[meld/scratch, ivg/scratch]",
    )  # fmt: skip
    goal = [("goal", "ivg/scratch"), ("goal", "sac/scratch")]
    assert plain.transfer.pairs() == goal
    mine = [("mine", "ivg/scratch"), ("mine", "meld/scratch")]
    assert sorted(own.transfer.pairs()) == goal + mine
    named = {cell.name for cell in transfer.cells(own, "toy", [])}
    assert named == {f"{target}/{arm}/0" for target, arm in goal + mine}
    with pytest.raises(UserError, match=r"targets\.goal\.arms: .*scrach"):
        load("transfer.targets.goal.arms=[ivg/scrach]")
    for cell in goal:  # what else learns a target does not make a cell another one
        more = load("transfer.targets.goal.arms=[ivg/scratch, sac/scratch, meld/scratch]")
        assert transfer.narrowed(more, *cell, 0, None) == transfer.narrowed(load(), *cell, 0, None)


@pytest.mark.parametrize(("given", "typed"), [
    ("{}", "default"), ("{default: 9}", "default"), ("{default: 9, ivg/scratch: 9}", "ivg/scratch"),
    ("{ivg/scratch: 9, goal: 9}", "goal"), ("{goal: 9, goal/ivg/scratch: 9}", "goal/ivg/scratch"),
])  # fmt: skip
def test_a_refusal_names_the_budget_as_it_can_be_typed(tmp_path, given, typed):
    def cell(budget, *overrides):
        found = load(f"out={tmp_path}", f"transfer.budget_env_steps={budget}", *overrides)
        return found, transfer.narrowed(found, "goal", "ivg/scratch", 0, None), lambda: "no record's"

    more = 1_234_567
    (tmp_path / "config.yaml").write_text(json.dumps(cell(f"{{goal/ivg/scratch: {more}}}")[1]))  # JSON is YAML
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"kind": "evaluation", "env_steps": more}) + "\n")
    checkpoint.save(tmp_path / "checkpoints", {"at": more})
    with pytest.raises(UserError, match=f"not less than {more}: ") as told:
        transfer.refuse_other_settings(tmp_path, *cell(given))
    override = re.search("holds a run with (.*), but this command says", str(told.value))[1]
    assert override == f"transfer.budget_env_steps.{typed}={more}"
    transfer.refuse_other_settings(tmp_path, *cell(given, override))


def test_where_the_record_says_it_settings_are_not_read_again(tmp_path, monkeypatch):
    """They take ten milliseconds a run, and a sweep may have thousands."""

    def refuse(experiment):
        narrow = transfer.narrowed(experiment, "goal", "ivg/scratch", 0, None)
        settings = settings_of(narrow, Arm.parse("ivg/scratch"), None)
        transfer.refuse_other_settings(tmp_path, experiment, narrow, lambda: settings)

    def no_model_yet():
        raise UserError("there is no model")

    same, other = load("device=cpu"), load("algorithms.ivg.horizon=3")
    narrow = transfer.narrowed(same, "goal", "ivg/scratch", 0, None)
    with run_folder.RunFolder(tmp_path, narrow, seed=0, latitude=LATITUDE) as run:
        run.begin()
        checkpoint.save(tmp_path / "checkpoints", {"at": 1})
        run.finish("interrupted")
    with pytest.raises(UserError, match="horizon"):
        refuse(other)
    with monkeypatch.context() as patch:
        patch.setattr(config, "read_yaml", None)
        refuse(same)
    transfer.refuse_other_settings(tmp_path, same, narrow, no_model_yet)
    text = (tmp_path / "config.yaml").read_text().replace("horizon: 5", "horizon: 4", 1)
    (tmp_path / "config.yaml").write_text(text)  # by hand: it is newer than the record
    with pytest.raises(UserError, match="horizon=4, but this command says"):
        refuse(same)


@pytest.mark.parametrize(("arm", "budget", "interval", "said", "evaluated"), [
    ("sac/scratch", 45, 20,
     "10 random steps, then rounds of 10 steps up to 50 (45 were asked for), an evaluation every 20;", [20, 40, 50]),
    ("sac/scratch", 60, 15,
     "10 random steps, then rounds of 10 steps up to 60, an evaluation about every 15;", [20, 30, 50, 60]),
    ("trpo/scratch", 90, 15,
     "rounds of 40 steps up to 120 (90 were asked for), an evaluation every 40;", [40, 80, 120]),
    ("trpo/scratch", 120, 80, "rounds of 40 steps up to 120, an evaluation every 80;", [80, 120]),
])  # fmt: skip
def test_a_run_says_what_will_happen(toy, tmp_path, capsys, monkeypatch, arm, budget, interval, said, evaluated):
    """Data come in rounds of whole episodes, here of 10 steps each, and evaluations after rounds."""
    settings = (
        tmp_path, arm, f"transfer.budget_env_steps.default={budget}", "algorithms.trpo.steps_per_round=35",
        f"transfer.evaluation.interval_env_steps={interval}", "suite.episode_steps=10",
    )  # fmt: skip
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(transfer, "deferred", toy.StopAfter(0))
        toy.transfer(*settings)
    assert f"{said} rounds are shorter where episodes end early; " in capsys.readouterr().out
    folder = toy.transfer(*settings)
    first = 40 if arm == "trpo/scratch" else 10
    assert capsys.readouterr().out.startswith(f"goes on after {first} of {budget} steps\n")
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert [row["env_steps"] for row in rows if row["kind"] == "evaluation"] == evaluated
    assert run_folder.read_record(folder)["env_steps"] == evaluated[-1]
