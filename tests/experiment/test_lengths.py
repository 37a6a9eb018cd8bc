"""What is said of source episodes that are shorter than the windows that stages take."""

import contextlib
import warnings
from types import SimpleNamespace

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
from task_suites import TaskDistribution


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


def sources_of(*steps, ends=False):
    """Sources whose episodes take so many steps, or may end for good before."""
    rule = (lambda *_: True) if ends else TaskDistribution.terminated
    suites = [type("Suite", (), {"max_episode_steps": count, "terminated": rule})() for count in steps]
    return [SimpleNamespace(distribution=suite) for suite in suites]


@pytest.mark.parametrize("share", [0.0, 0.08, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
def test_the_fewest_episodes_that_are_needed_leave_one_to_train_on(share):
    settings = load(f"pretrain.held_out={share}").pretrain
    count = lengths.needed(settings)
    assert count - lengths.held_out(settings, count) >= 1 > count - 1 - lengths.held_out(settings, count - 1)


def test_steps_that_make_too_few_episodes_are_refused_before_the_first_one():
    few, sources = load("pretrain.env_steps=40"), sources_of(30, 10)
    with pytest.raises(UserError) as refused:
        lengths.check_steps(few, sources)
    assert str(refused.value) == (
        "pretrain.env_steps=40 is too little: 3 episodes are needed, of which 2 are held out; 41 steps are enough"
    )
    lengths.check_steps(load("pretrain.env_steps=41"), sources)
    lengths.check_steps(few, sources_of(30, 10, ends=True))  # three may fit into 40
    with pytest.raises(UserError, match="too little"):
        lengths.check_steps(load("pretrain.env_steps=2"), sources_of(30, 10, ends=True))
    twice = ["pretrain.on_policy=0.5", "pretrain.policy_updates=1"]  # the first round has half of the steps
    with pytest.raises(UserError, match="82 steps are enough"):
        lengths.check_steps(load("pretrain.env_steps=80", *twice), sources)
    lengths.check_steps(load("pretrain.env_steps=82", *twice), sources)


def test_too_few_steps_leave_the_folder_free(toy, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="env_steps=10 is too little: 3 episodes are needed"):
        toy.pretrain(tmp_path, "pretrain.env_steps=10")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(lengths, "check_steps", lambda *_: None)  # as where episodes may end early
    with pytest.raises(UserError, match="env_steps=10 is too little: .* 51 steps are enough"):
        toy.pretrain(tmp_path, "pretrain.env_steps=10", "pretrain.held_out=0")
    folder = toy.pretrain(tmp_path, "pretrain.env_steps=51", "pretrain.held_out=0")
    assert (folder / "model").is_dir()
