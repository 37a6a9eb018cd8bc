"""What an agent says of the trials it played: through evaluation, log and report; what it may not say."""

import json

import numpy as np
import pytest
import torch
from probe_agents import ONE, Settings, Teller, learned

import meta_latent
from meta_latent.algorithms.registry import Algorithm
from meta_latent.data.collect import play
from meta_latent.errors import RunError, UserError
from meta_latent.experiment.learning.inspection import UNKNOWN, by_step, replay_of
from meta_latent.rng import Streams
from meta_latent.types import Spec
from task_suites import Rows, get


def evaluations(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == "evaluation"]


def test_every_evaluation_asks_of_its_own_trials(probes, tmp_path):
    _, (folder,) = learned(tmp_path, "teller/scratch")
    records = evaluations(folder)
    assert len(records) == 2 and len(probes) == 2
    for record, trials in zip(records, probes, strict=True):
        assert record["inspected"]["number"] == list(range(10))  # two episodes of 5 observations
        paid = np.array(record["inspected"]["reward"]).reshape(2, 5)
        np.testing.assert_allclose(paid.sum(1), record["returns_by_episode"], rtol=1e-5)
        assert (paid[:, 0] == 0).all() and (paid[:, 1:] < 0).all()
        assert [len(places) for places in trials.whole_trials()] == [2] * 6
        assert {episode.task for episode in trials.episodes} == {UNKNOWN}


def test_the_last_one_stands_in_the_report_with_its_meaning_and_a_figure(probes, tmp_path):
    _, folders = learned(tmp_path, "teller/scratch", seeds=(0, 1))
    report = meta_latent.report(tmp_path / "probe")
    found = report["targets"]["goal"]["arms"]["teller/scratch"]["inspected"]
    last = [evaluations(folder)[-1]["inspected"] for folder in folders]
    assert found["number"] == {"meaning": "of the observation", "values": [row["number"] for row in last]}
    assert found["reward"]["values"] == [row["reward"] for row in last]
    page = (tmp_path / "probe" / "report.html").read_text()
    assert page.count('aria-label="Along trials') == 2 and "mean &lt;reward&gt;" in page


def test_who_declares_nothing_is_not_asked(probes, tmp_path):
    _, (folder,) = learned(tmp_path, "silent/scratch")
    assert not probes and evaluations(folder)[-1]["inspected"] == {}
    assert meta_latent.report(tmp_path / "probe")["targets"]["goal"]["arms"]["silent/scratch"]["inspected"] == {}


def test_there_is_nothing_to_ask_of_one_episode_of_one_task(probes, tmp_path):
    learned(tmp_path, "teller/scratch", target=ONE)
    assert not probes


@pytest.mark.parametrize(
    ("arm", "more", "words"),
    [
        ("leaky", 0, "Teller.inspect returns 'reward', which its registration does not declare; add it to "),
        ("teller", -1, "returns 9 numbers as 'number'; these trials of 2 episodes have 10 observations"),
        ("teller", 1, "returns 11 numbers"),
    ],
)
def test_what_it_may_not_say(probes, tmp_path, arm, more, words):
    with pytest.raises(RunError, match=words):
        learned(tmp_path, f"{arm}/scratch", overrides=[f"algorithms.{arm}.more={more}"])


def test_who_adapts_has_no_belief_along_a_trial():
    with pytest.raises(UserError, match="leave out inspects"):
        Algorithm(Settings, Teller, adapts=True, inspects={"number": ""})
    with pytest.raises(UserError, match="leave out inspects and maps"):
        Algorithm(Settings, Teller, adapts=True, maps=True)


def unequal(keep=True):
    """Two trials of two episodes, 2 and 4 steps long, each paying its step's number."""
    suites = [get("toy/counting", episode_steps=steps, ends="terminate", image_size=4) for steps in (2, 4)]
    rows = Rows([suite.make(suite.sample("train", 1, 0)[0]) for suite in suites])
    agent = Teller(Settings(), None)
    agent.act = lambda step, carry, rng, explore: (torch.zeros(len(step.reward), 2), carry)
    return play(rows, agent, np.arange(4).reshape(2, 2), Streams(0), explore=False, keep=keep).episodes, suites[0]


def test_a_value_by_step_is_a_mean_over_those_that_are_there():
    trials, _ = unequal()
    means = by_step(trials, "reward")  # 0.1 per step so far
    np.testing.assert_allclose(means, [[0.1, 0.2, 0.3, 0.4]] * 2, rtol=1e-6)
    assert by_step(trials, "success") == [[0.0, 0.5, 0.0, 1.0]] * 2  # solved at the end of each
    named, _ = unequal(keep=("reward", "success"))
    assert by_step(named, "reward") == means and set(named[0][0]) == {"reward", "success"}


def test_a_replay_of_trials_holds_them_as_they_were_played():
    trials, suite = unequal()
    replay = replay_of(Spec.of(suite), trials, heads=2)
    batch = replay.trials(None, 2)
    assert batch.valid.sum(1).tolist() == [6, 10] and batch.task_index.tolist() == [UNKNOWN] * 2
    assert batch.is_task_first.sum(1).tolist() == [1, 1] and batch.is_first.sum(1).tolist() == [2, 2]
    assert batch.proprio[1, :, 0].tolist() == [0, 1, 2, 3, 4] * 2 and batch.head_mask.shape == (2, 2)
