"""What is said of source episodes that are shorter than the windows that stages take."""

import warnings

import numpy as np
import pytest

from meta_latent.data import windows
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


def test_a_run_is_told_once_of_each_length():
    def draw(told, counts, length):
        with warnings.catch_warnings(record=True) as found, windows.telling(told):
            warnings.simplefilter("always")
            windows.draw_windows(np.array(counts), length, 1, np.random.default_rng(0), "lower it")
        return [str(one.message) for one in found]

    told = set()
    assert draw(told, [3, 31, 31], 8) == []  # these are few
    for length in (8, 31):
        assert draw(told, [3, 7, 7, 31], length) == [
            f"windows take {length} observations of an episode: 75 % of the episodes so far are shorter, and nothing "
            "is learned there from their 32 % of all steps: lower it"
        ]
        assert draw(told, [3, 7, 7, 31], length) == []
    assert len(draw(set(), [3, 7, 7, 31], 8)) == 1  # the next run
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a pretraining has told by then
        windows.draw_windows(np.array([3, 7, 7, 31]), 31, 1, np.random.default_rng(0), "")


def test_whole_trials_are_no_windows(capsys):
    trials = load("pretrain.episodes_per_trial=2")
    lengths.tell_of_short_ones(trials, np.array([5, 5]))
    lengths.check(trials, 5)
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"lower learner\.filter_length \(which takes 8\)"):
        lengths.check(load(), 5)
