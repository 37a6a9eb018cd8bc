"""`meta_latent.load` opens what `pretrain` and `transfer` left: a model, or an agent that acts as it did."""

import numpy as np
import pytest

import meta_latent
from meta_latent.data.collect import play
from meta_latent.errors import UserError
from meta_latent.experiment.learning.evaluation import evaluation_seed
from meta_latent.experiment.runs import metrics
from meta_latent.experiment.settings import suites
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.rng import Streams


@pytest.mark.parametrize("arm", ["sac/scratch", "ivg/pretrained"])
def test_the_loaded_agent_scores_what_the_run_scored(toy, toy_model, tmp_path, arm):
    options = (f"pretrained={toy_model / 'model'}", "transfer.targets.goal.index=0")
    folder = toy.transfer(tmp_path, arm, *options)
    agent = meta_latent.load(folder)
    target = suites.bind_target(toy.experiment(tmp_path), "goal")
    rows = target.distribution.make_vector([target.tasks[0].task] * 2)
    seeds = np.array([[evaluation_seed(k)] for k in range(2)])
    returns = play(rows, agent, seeds, Streams(0), explore=False).returns
    assert returns.mean() == pytest.approx(metrics.read(folder, "evaluation")[-1]["raw_return"])
    for parameter in agent.networks["average_policy"].parameters():
        parameter.data.zero_()
    assert play(rows, agent, seeds, Streams(0), explore=False).returns.mean() != pytest.approx(returns.mean())


def test_a_model_is_still_a_model_and_anything_else_is_refused(toy, toy_model, tmp_path):
    assert isinstance(meta_latent.load(toy_model / "model"), LatentStateModel)
    with pytest.raises(UserError, match="model.json is missing"):
        meta_latent.load(tmp_path)


def test_an_agent_whose_model_is_gone_says_so(toy, toy_model, tmp_path):
    import shutil

    shutil.copytree(toy_model / "model", tmp_path / "model")
    shutil.copytree(toy_model / "source", tmp_path / "source")
    folder = toy.transfer(tmp_path, "sac/pretrained", f"pretrained={tmp_path / 'model'}")
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(UserError, match="which is not there"):
        meta_latent.load(folder)
