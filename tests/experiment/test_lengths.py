"""What is said of source episodes that are shorter than the windows that stages take."""

import numpy as np
import pytest

from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import lengths
from meta_latent.experiment.settings import experiments
from meta_latent.experiment.settings.schema import ExperimentConfig


def load(*overrides):
    return experiments.load(
        ExperimentConfig, "toy", ["learner.length=4", "learner.filter_length=8", "learner.horizon=3", *overrides]
    )


def test_how_much_stands_in_no_window_is_told_where_it_is_much(capsys):
    lengths.tell_of_short_ones(load(), np.array([3, 7, 7, 31]))
    assert capsys.readouterr().err.splitlines() == [
        "warning: learner.filter_length takes 8 observations of an episode: 75 % of the source episodes are shorter, "
        "and it learns nothing from their 32 % of all steps; lower it"
    ]
    lengths.tell_of_short_ones(load(), np.array([3, 31, 31]))
    assert capsys.readouterr().err == ""


def test_whole_trials_are_no_windows(capsys):
    trials = load("pretrain.episodes_per_trial=2")
    lengths.tell_of_short_ones(trials, np.array([5, 5]))
    lengths.check(trials, 5)
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"lower learner\.filter_length \(which takes 8\)"):
        lengths.check(load(), 5)
