"""The preset `hidden_goal`, shortened: an oracle nears the optimum, RL^2 explores and then goes straight there."""

import json

import numpy as np
import pytest

from meta_latent.algorithms.registry import Arm
from meta_latent.experiment.learning import cells
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig


def last(out, target, arm, budget, seeds=(20, 21, 22)):
    """The last evaluation of S seeds: scores (S,), and returns per episode of a trial (S, E)."""
    given = [f"out={out}", f"transfer.budget_env_steps={{default: {budget}}}",
             f"transfer.evaluation.interval_env_steps={budget}"]  # fmt: skip
    experiment = config.load(ExperimentConfig, [config.find("experiment", "hidden_goal")], given)
    found = []
    for seed in seeds:
        cells.run_cell(experiment, target, arm, seed)
        path = cells.cell_folder(experiment, target, arm, seed) / "metrics.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        found.append([r for r in records if r["kind"] == "evaluation"][-1])
    return (np.array([e["score"] for e in found]), np.array([e["returns_by_episode"] for e in found]))


def test_the_preset_needs_no_model():
    experiment = config.load(ExperimentConfig, [config.find("experiment", "hidden_goal")], [])
    assert not experiment.pretrain.sources
    assert not any(Arm.parse(arm).needs_model for arm in experiment.transfer.arms)


@pytest.mark.slow
def test_an_oracle_nears_the_scripted_optimum(tmp_path):
    score, returns = last(tmp_path, "sparse", "oracle/scratch", 6000)
    assert np.median(score) > 0.8
    assert np.abs(returns[:, 1] - returns[:, 0]).max() < 1.5  # nothing to find out


@pytest.mark.slow
def test_rl2_finds_the_goal_in_a_first_episode_and_remembers_it(tmp_path):
    score, returns = last(tmp_path, "sparse", "rl2/scratch", 100_000, seeds=(20,))
    assert np.median(score) > 0.7
    assert np.median(returns[:, 1] - returns[:, 0]) > 1.0
