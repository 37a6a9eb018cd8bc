"""What is said of source episodes that are shorter than the windows that stages take."""

import contextlib
import warnings

import numpy as np
import probe_agents
import pytest

from meta_latent.algorithms.registry import Algorithm, register
from meta_latent.data import windows
from meta_latent.errors import UserError
from meta_latent.experiment.learning import cells
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


def draw_one(counts, length):
    windows.draw_windows(np.array(counts), length, 1, np.random.default_rng(0), "lower it")


def test_a_run_is_told_once_of_each_length():
    def draw(told, counts, length):
        with warnings.catch_warnings(record=True) as found, windows.telling(told):
            warnings.simplefilter("always")
            draw_one(counts, length)
        return [str(one.message) for one in found]

    told = []
    assert draw(told, [3, 31, 31], 8) == []  # these are few
    for length in (8, 31):
        assert draw(told, [3, 7, 7, 31], length) == [
            f"windows take {length} observations of an episode: 75 % of the episodes so far are shorter, and nothing "
            "is learned there from their 32 % of all steps: lower it"
        ]
        assert draw(told, [3, 7, 7, 31], length) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a pretraining has told by then
        draw_one([3, 7, 7, 31], 31)


class Drawing(probe_agents.Probe):
    """Learns from episodes of which most are too short."""

    def update(self, replay, rng):
        draw_one([3, 7, 7, 31], np.int64(8))
        return super().update(replay, rng)


def test_every_run_of_a_process_is_told_but_none_again_that_goes_on(toy, probes, tmp_path, monkeypatch):
    register("drawing", Algorithm(probe_agents.Settings, lambda *given: Drawing(), warmup=False))

    def told_of(seeds, queries):
        monkeypatch.setattr(cells, "deferred", toy.StopAfter(queries))
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("default")  # as in a process of a user
            for seed in seeds:
                with contextlib.suppress(KeyboardInterrupt):
                    probe_agents.learned(tmp_path, "drawing/scratch", target=probe_agents.ONE, seeds=[seed])
        return [str(warning.message).partition(" observations")[0] for warning in found]

    assert told_of([0, 1], queries=0) == ["windows take 8"] * 2
    assert told_of([0, 1, 2], queries=1000) == ["windows take 8"]


def test_whole_trials_are_no_windows(capsys):
    trials = load("pretrain.episodes_per_trial=2")
    lengths.tell_of_short_ones(trials, np.array([5, 5]))
    lengths.check(trials, 5)
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"lower learner\.filter_length \(which takes 8\)"):
        lengths.check(load(), 5)
