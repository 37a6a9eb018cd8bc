"""`meta-latent adapt`: trials of trained agents, the belief carried on and cleared; what it writes, what it refuses."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from probe_agents import MANY, ONE, learned

import meta_latent
import task_suites
from meta_latent import cli, files
from meta_latent.data.collect import play
from meta_latent.experiment.commands.adapt import AdaptConfig, FolderConfig, Result
from meta_latent.experiment.commands.evaluate import EvaluateConfig
from meta_latent.experiment.learning import adaptation
from meta_latent.experiment.learning.adaptation import Cleared
from meta_latent.experiment.report.figures import trial_figures
from meta_latent.experiment.report.reading import adaptations
from meta_latent.experiment.runs import run_folder
from meta_latent.experiment.settings import type_hints
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.rng import Streams
from meta_latent.types import Step
from task_suites import Rows

# The belief is cleared


class Remembers:
    """Acts by the number of observations it remembers, plus an offset that tasks begin with; writes down the steps."""

    heads, offset = 2, 0.25

    def __init__(self):
        self.steps = []

    def begin_task(self, batch_size):
        return {"frames": (torch.zeros(batch_size), None), "offset": torch.full((batch_size,), self.offset)}

    def act(self, step, carry, rng, explore):
        self.steps.append(step)
        frames = carry["frames"][0] + 1
        action = torch.stack([carry["offset"] + frames / 100, torch.zeros(len(frames))], -1)
        return action, {"frames": (frames, None), "offset": carry["offset"]}

    def adapt(self, trial, rng):
        raise AssertionError("asked to adapt")


def counted(actor, lengths=(2, 4)):
    """First actions of two trials of three episodes, of these lengths, per trial and episode."""
    suites = [task_suites.get("toy/counting", episode_steps=steps, ends="terminate", image_size=4) for steps in lengths]
    rows = Rows([suite.make(suite.sample("train", 1, 0)[0]) for suite in suites])
    played = play(rows, actor, np.arange(6).reshape(2, 3), Streams(0), explore=False, keep=("action",))
    return [[(episode["action"][1:, 0] * 100).round().astype(int).tolist() for episode in trial]
            for trial in played.episodes]  # fmt: skip


def test_a_belief_goes_on_from_episode_to_episode():
    """The last observation of an episode is seen too; a row that waits for the other sees nothing."""
    agent = Remembers()
    assert counted(agent) == [
        [[26, 27], [29, 30], [32, 33]],
        [[26, 27, 28, 29], [31, 32, 33, 34], [36, 37, 38, 39]],
    ]
    assert sum(int(step.is_task_first.all()) for step in agent.steps) == 1


def test_a_cleared_one_begins_anew_with_each_episode():
    agent = Remembers()
    assert counted(Cleared(agent)) == [[[26, 27]] * 3, [[26, 27, 28, 29]] * 3]
    first = [step for step in agent.steps if step.is_first.any()]
    assert len(first) == 3 and all(step.is_task_first.all() and step.is_first.all() for step in first)
    assert not any(step.is_task_first.any() for step in agent.steps if not step.is_first.any())


def test_only_rows_whose_episode_begins_are_cleared():
    agent, no = Remembers(), torch.zeros(3, dtype=torch.bool)
    step = step_of(no, is_first=torch.tensor([True, True, False]), is_task_first=torch.tensor([True, False, False]))
    carry = {"frames": (torch.tensor([7.0, 8.0, 9.0]), None), "offset": torch.zeros(3)}
    action, after = Cleared(agent).act(step, carry, Streams(0), False)
    assert after["frames"][0].tolist() == [8, 1, 10] and after["offset"].tolist() == [0, 0.25, 0]
    assert agent.steps[-1].is_task_first.tolist() == [True, True, False] and action.shape == (3, 2)
    assert Cleared(agent).heads == 2


def test_a_cleared_one_forgets_to_adapt():
    cleared = Cleared(Remembers())
    assert cleared.adapt(None, Streams(0)) is cleared


def step_of(no, **flags):
    """A step of three rows that shows nothing but flags."""
    empty = torch.zeros(3)
    shown = {"is_first": no, "is_last": no, "is_terminal": no, "is_task_first": no} | flags
    return Step({}, torch.zeros(3, 0), torch.zeros(3, 2), empty, empty, **shown)


# The command


@pytest.fixture
def undrawn(monkeypatch):
    """No figures, which take most of the time."""
    monkeypatch.setattr(trial_figures, "figures_of", lambda *given: [])


@pytest.fixture
def runs(probes, tmp_path):
    """A function: the YAML of finished cells in a folder of their own, and runs/NAME."""

    def make(*arms, **kind):
        path, folders = learned(tmp_path, *arms, **kind)
        return str(path), folders[0].parents[4]

    return make


def adapted(place):
    return json.loads((place / "adaptation.json").read_text())


def contents(root):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


@pytest.mark.drawn
def test_seeds_are_pooled_arms_stand_side_by_side_and_runs_stay_as_they_are(runs, capsys):
    path, root = runs("counter/scratch", "silent/scratch", seeds=(0, 1))
    before = contents(root)
    assert cli.main(["adapt", path, "target=goal", "episodes=3", "trials=2", "cleared=true", "video=1"]) == 0
    said = capsys.readouterr().out
    assert {key: value for key, value in contents(root).items() if key in before} == before
    found = adapted(root / "adapt" / "goal")
    assert (found["target"], found["episodes"], found["episodes_per_trial"], found["trials"]) == ("goal", 3, 2, 2)
    assert found["test_tasks"] == ["goal#test0", "goal#test1"] and found["references"] is None
    assert {arm: list(entry["seeds"]) for arm, entry in found["arms"].items()} == {
        "counter/scratch": ["0", "1"], "silent/scratch": ["0", "1"]}  # fmt: skip
    for arm in ("counter", "silent"):
        one = found["arms"][f"{arm}/scratch"]["seeds"]["1"]
        assert one["status"] == "done" and one["inspected"] == {}
        for part in (one, one["cleared"]):
            returns, rewards = np.array(part["returns"]), np.array(part["reward_by_step"])
            assert returns.shape == np.shape(part["success"]) == (2, 2, 3)
            assert rewards.shape == np.shape(part["success_by_step"]) == (3, 4)
            np.testing.assert_allclose(rewards.sum(1), returns.mean((0, 1)), rtol=1e-5)
        same = np.isclose(one["returns"], one["cleared"]["returns"], atol=1e-6).all((0, 1)).tolist()
        assert same == ([True, False, False] if arm == "counter" else [True] * 3)  # what has no memory loses none
    for words in ("counter/scratch, cleared", "raw return, episode 3", "success, episode 1", "only 2 seeds",
                  "3 episodes a trial (learned with 2)", "return_by_episode.png", "1/trial_0.mp4"):  # fmt: skip
        assert words in said
    made = {str(p.relative_to(root / "adapt" / "goal")) for p in (root / "adapt" / "goal").rglob("*") if p.is_file()}
    assert {p.name for p in (root / "adapt").iterdir()} == {"goal", ".lock"}
    figures = {f"{name}.png" for name in ("return_by_episode", "reward_by_step", "success_by_step")}
    films = {f"{arm}/scratch/{seed}/trial_0.mp4" for arm in ("counter", "silent") for seed in (0, 1)}
    assert made == figures | films | {"adaptation.json"}


def test_pictures_and_films_that_an_earlier_call_made_go(runs, undrawn):
    path, root = runs("silent/scratch")
    place = root / "adapt" / "goal"
    old = [place / name for name in ("success_by_step.png", "inspected_spread.png", "silent/scratch/0/trial_0.mp4")]
    kept = ("mine.png", "my_by_step.png", "silent/scratch/0/return_by_episode.png", "silent/scratch/1/trial_0.mp4",
            "silent/scratch/0/trial_best.mp4", "silent/scratch/0/belief_notes.txt")  # fmt: skip
    kept = [place / name for name in kept]
    (place / "silent/scratch/0/belief_0.png").mkdir(parents=True)  # no picture: it stays, too
    for file in (*old, *kept):  # what was kept is a user's, of another call's adaptation.json, and of another agent
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert cli.main(["adapt", path, "target=goal"]) == 0
    assert not any(map(os.path.exists, old)) and all(map(os.path.exists, kept))


def test_by_default_it_plays_what_the_last_evaluation_played_and_longer_trials_begin_with_it(runs):
    path, root = runs("teller/scratch")
    lines = (root / "transfer/goal/teller/scratch/0/metrics.jsonl").read_text().splitlines()
    last = [line for line in map(json.loads, lines) if line["kind"] == "evaluation"][-1]
    assert cli.main(["adapt", path, "target=goal"]) == 0
    measured = adapted(root / "adapt/goal")["arms"]["teller/scratch"]["seeds"]["0"]
    assert np.shape(measured["returns"]) == (2, 3, 2) and "cleared" not in measured
    np.testing.assert_allclose(np.mean(measured["returns"], (0, 1)), last["returns_by_episode"])
    assert measured["inspected"] == last["inspected"]
    assert cli.main(["adapt", path, "target=goal", "episodes=5"]) == 0
    longer = adapted(root / "adapt/goal")["arms"]["teller/scratch"]["seeds"]["0"]
    np.testing.assert_allclose(np.array(longer["returns"])[..., :2], measured["returns"])
    assert longer["inspected"]["number"] == list(range(25))
    assert len(list((root / "adapt/goal").glob("inspected_*.png"))) == 2


def test_scores_are_those_of_the_evaluation(runs, undrawn):
    scaled = MANY | {"options": {"observation": "state", "reward": "sparse", "goals": "half_ring"}}  # with references
    path, root = runs("counter/scratch", target=scaled, overrides=["transfer.budget_env_steps.default=100"])
    line = (root / "transfer/goal/counter/scratch/0/metrics.jsonl").read_text().splitlines()[-1]
    result = meta_latent.adapt(meta_latent.configure(path, "transfer.budget_env_steps.default=100"), "goal")
    (told,) = result.numbers["lines"]
    assert told["score"][-1]["mean"] == pytest.approx(json.loads(line)["score"]) != told["returns"][-1]["mean"]
    assert "score, episode 2" in result.table()


def test_what_was_asked_for_says_where_it_is_written(runs, undrawn, capsys):
    path, root = runs("counter/scratch", "silent/scratch", seeds=(0, 1))
    place = root / "adapt" / "goal"
    assert cli.main(["adapt", path, "target=goal", "arm=counter/scratch"]) == 0
    assert list(adapted(place / "counter/scratch")["arms"]["counter/scratch"]["seeds"]) == ["0", "1"]
    assert cli.main(["adapt", path, "target=goal", "arm=counter/scratch", "run_seed=1"]) == 0
    assert list(adapted(place / "counter/scratch/1")["arms"]["counter/scratch"]["seeds"]) == ["1"]
    assert cli.main(["adapt", path, "target=goal", "run_seed=1"]) == 0
    assert [list(entry["seeds"]) for entry in adapted(place)["arms"].values()] == [["1"], ["1"]]


def test_a_folder_is_enough(runs, undrawn, monkeypatch, capsys):
    path, root = runs("counter/scratch", "silent/scratch", seeds=(0, 1))
    assert cli.main(["adapt", path, "target=goal"]) == 0
    wanted = adapted(root / "adapt" / "goal")["arms"]
    (root / "adapt/goal/adaptation.json").unlink()
    for folder, place, count in ((".", "goal", 2), ("transfer/goal", "goal", 2),
                                 ("transfer/goal/counter/scratch", "goal/counter/scratch", 1),
                                 ("transfer/goal/counter/scratch/1", "goal/counter/scratch/1", 1)):  # fmt: skip
        assert cli.main(["adapt", str(root / folder)]) == 0
        found = adapted(root / "adapt" / place)["arms"]
        assert len(found) == count and all(
            wanted[arm]["seeds"][seed] == measured for arm in found for seed, measured in found[arm]["seeds"].items()
        )
    monkeypatch.chdir(root / "transfer/goal")
    capsys.readouterr()
    assert cli.main(["adapt", "./silent/scratch", "run_seed=0", "video=0"]) == 0
    assert "../../adapt/goal/silent/scratch/0/adaptation.json" in capsys.readouterr().out


def test_seeds_of_other_settings_are_not_pooled(runs, undrawn, capsys):
    path, root = runs("silent/scratch")
    runs("silent/scratch", seeds=(1,), overrides=["transfer.budget_env_steps.default=48"])
    assert cli.main(["adapt", str(root / "transfer/goal")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(f"transfer.budget_env_steps={steps}" in error for steps in (32, 48))
    assert cli.main(["adapt", path, "target=goal"]) == 2
    assert "they are not to be pooled; choose with arm= and run_seed=" in capsys.readouterr().err
    assert cli.main(["adapt", path, "target=goal", "run_seed=1"]) == 0  # whatever its budget was
    assert cli.main(["adapt", str(root / "transfer/goal/silent/scratch/1")]) == 0


def test_what_was_measured_before_a_run_went_on_is_said_to_be_of_before(runs, undrawn):
    path, root = runs("silent/scratch")
    assert cli.main(["adapt", path, "target=goal"]) == 0
    assert not [text for text in meta_latent.report(root)["warnings"] if "measures it again" in text]
    runs("silent/scratch", overrides=["transfer.budget_env_steps.default=48"])
    (told,) = (text for text in meta_latent.report(root)["warnings"] if "measures it again" in text)
    assert "goal, silent/scratch, seed 0 was measured after 4 updates, its run has made 6; " in told


def test_who_adapts_plays_rollouts_and_is_cleared_by_not_adapting(runs, undrawn):
    path, root = runs("turner/scratch", overrides=["transfer.evaluation.rollouts=2"])
    given = ["adapt", path, "target=goal", "transfer.evaluation.rollouts=2", "episodes=3", "cleared=true", "video=1"]
    assert cli.main(given) == 0
    measured = adapted(root / "adapt/goal")["arms"]["turner/scratch"]["seeds"]["0"]
    assert np.shape(measured["returns"]) == (2, 3, 3) and np.shape(measured["reward_by_step"]) == (3, 4)
    gained = np.array(measured["returns"]) - measured["cleared"]["returns"]
    assert (gained[..., 0] == 0).all() and (np.abs(gained[..., 1:]) > 0.01).all()
    np.testing.assert_allclose(np.sum(measured["reward_by_step"], 1), np.mean(measured["returns"], (0, 1)), rtol=1e-5)


def test_more_steps_of_adapting_than_the_run_evaluated_are_called_so(runs, capsys):
    path, root = runs("turner/scratch", overrides=["transfer.evaluation.rollouts=2"])
    capsys.readouterr()
    assert cli.main(["adapt", str(root), "target=goal", "episodes=4", "cleared=true"]) == 0
    said = capsys.readouterr().out
    assert "2 test tasks, 3 trials of each, 3 adaptation steps (evaluated with 1)" in said
    rows = [line for line in said.splitlines() if line.startswith("raw return, ")]
    assert [row.removeprefix("raw return, ").split("  ")[0] for row in rows] == [
        "before adapting", "after step 1", "after step 2", "after step 3"]  # fmt: skip
    assert "turner/scratch, not adapting" in said and "episode 1" not in said
    target = meta_latent.report(root)["targets"]["goal"]
    assert target["adapts"] is target["adaptations"][0]["adapts"] is True
    page = (root / "report.html").read_text()
    for words in ("3 adaptation steps by trained agents", '<th scope="col">before adapting</th>',
                  '<th scope="col">after step 3</th>', "1 step in the runs’ own evaluations",
                  "scored on 2 episodes without exploration", "Arms that adapt take 1 step on each test task",
                  'aria-label="Score on goal against the adaptation step"'):  # fmt: skip
        assert words in page, words
    assert "episode of the trial" not in page


def test_arms_that_do_not_adapt_are_told_in_episodes(runs, undrawn):
    _, root = runs("counter/scratch")
    assert cli.main(["adapt", str(root)]) == 0
    target = meta_latent.report(root)["targets"]["goal"]
    assert target["adapts"] is target["adaptations"][0]["adapts"] is False


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((), "target= is missing; choose from goal"),
        (("target=gaol",), "choose from goal"),
        (("target=goal", "arm=silnt/scratch"), "did you mean 'silent/scratch'"),
        (("target=goal", "arm=teller/scratch"), "no trained agent of target=goal arm=teller/scratch; learn first"),
        (("target=goal", "run_seed=7"), "holds no trained agent of target=goal run_seed=7"),
        (("target=goal", "out=nowhere"), "holds no trained agent"),
        (("target=goal", "episodes=1001"), "from 1 to 1000"),
        (("target=goal", "trials=0"), "from 1 to 100000"),
        (("target=goal", "epsiodes=3"), "did you mean 'episodes'"),
        (("target=goal", "clear=true"), "did you mean 'cleared'"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(runs, capsys, monkeypatch, tmp_path, change, words):
    path, _ = runs("silent/scratch")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert cli.main(["adapt", path, *change]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error


def test_wrong_folders(runs, capsys, tmp_path):
    _, root = runs("silent/scratch")
    transfer = root / "transfer"
    (transfer / "other").mkdir()
    for folder, words, *more in (
        (transfer / "other", "other holds no trained agent; learn first"),
        (tmp_path, "lies in no run: give runs/NAME/transfer/TARGET/ALGORITHM/START/SEED"),
        (transfer, "did you mean 'episodes'", "episods=2"),
        (transfer, "unknown key 'transfer'", "transfer.seeds=[1]"),
    ):
        capsys.readouterr()
        assert cli.main(["adapt", str(folder), *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and words in error, error


def test_one_episode_of_one_task_is_nothing_to_adapt_to(runs, capsys):
    path, root = runs("silent/scratch", target=ONE)
    for given in ([path, "target=goal"], [str(root / "transfer/goal")]):
        capsys.readouterr()
        assert cli.main(["adapt", *given]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "meta-latent evaluate scores it" in error
    assert not (root / "adapt").exists()


def test_episodes_that_no_memory_holds_are_refused(runs, undrawn, capsys, monkeypatch):
    path, _ = runs("teller/scratch", "silent/scratch")
    monkeypatch.setattr(adaptation, "MOST_BYTES", 1000)
    assert cli.main(["adapt", path, "target=goal", "arm=silent/scratch"]) == 0  # nothing is asked of it
    assert cli.main(["adapt", path, "target=goal", "arm=teller/scratch"]) == 2
    assert "lower trials= or episodes=" in capsys.readouterr().err


def test_a_second_process_is_refused_before_it_plays(runs, capsys, monkeypatch):
    path, root = runs("silent/scratch")
    monkeypatch.setattr(adaptation, "played", None)
    with run_folder.held(root / "adapt"):
        assert cli.main(["adapt", path, "target=goal"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"in use by process {os.getpid()}" in error


def test_a_disk_that_fails_is_a_line(runs, undrawn, capsys, monkeypatch):
    """Full when the numbers are written; read-only, before anything is played."""
    path, root = runs("silent/scratch")

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files, "fault_hook", fail)
        assert cli.main(["adapt", path, "target=goal"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "the disk is full" in error and "adaptation.json" in error
    (root / "adapt" / ".lock").unlink()
    (root / "adapt" / ".lock").mkdir()  # as little to be written as on a read-only disk
    monkeypatch.setattr(adaptation, "played", None)
    assert cli.main(["adapt", path, "target=goal"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot write to the run folder" in error


def test_from_python(runs, undrawn):
    path, root = runs("silent/scratch")
    result = meta_latent.adapt(meta_latent.configure(path), "goal", "silent/scratch", episodes=3)
    assert isinstance(result, Result) and result.files[0] == root / "adapt/goal/silent/scratch/adaptation.json"
    assert "raw return, episode 3" in result.table()


@pytest.mark.parametrize("command", ["adapt", "evaluate"])
def test_help_names_each_key_of_the_command(capsys, command):
    schemas = {"adapt": (AdaptConfig, FolderConfig), "evaluate": (EvaluateConfig,)}[command]
    shared = {field.name for field in type_hints.settings_of(ExperimentConfig)} - {"target", "arm", "run_seed"}
    own = {field.name for schema in schemas for field in type_hints.settings_of(schema)} - shared
    assert set(cli._KEYS[command]) == own
    assert cli.main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {key}=" in said and meaning in said for key, meaning in cli._KEYS[command].items())


# What it says


def content(**changed):
    """Two seeds on two tasks, two trials of two episodes each; the first seed is 2 better, the first task 4."""
    returns = np.array([[[1, 5], [3, 7]], [[-3, 1], [-1, 3]]], float)  # (N, R, E) of the worse seed
    seeds = {
        str(seed): {"returns": (returns + 2 * (seed == 0)).tolist(), "success": (returns > 0).astype(float).tolist(),
                    "reward_by_step": [[0, 1], [2 + seed, 3]], "success_by_step": [[0, 0], [0, 1]], "inspected": {}}
        for seed in (0, 1)
    }  # fmt: skip
    return {"format": 1, "target": "goal", "episodes": 2, "episodes_per_trial": 2, "trials": 2,
            "test_tasks": ["a", "b"], "references": [[0, 10], [-10, 0]],
            "arms": {"x/scratch": {"inspects": {}, "seeds": seeds}}} | changed  # fmt: skip


class Draw:
    """Bootstrap whose streams do not matter to the test."""

    resamples = 500

    def rng(self, *names):
        return np.random.default_rng(0)


def numbers(given):
    return adaptations.numbers(adaptations.of(given, None), Draw())


def test_the_table_by_hand(tmp_path):
    (line,) = numbers(content())["lines"]
    assert [entry["mean"] for entry in line["returns"]] == [1, 5]  # mean of 1, 3, -3, -1 is 0; one seed is 2 better
    # Scores of the worse seed: task a 0.2 and 0.6, task b 0.8 and 1.2; of the better one 0.2 more.
    np.testing.assert_allclose([entry["mean"] for entry in line["score"]], [0.6, 1.0])
    assert [entry["mean"] for entry in line["success"]] == [0.5, 1]
    # Seeds and tasks are two each, additive, so every resampled mean lies on a grid of nine; the ends are 1 +- 3.
    assert line["returns"][0]["interval"] == (-2, 4) and line["success"][1]["interval"] == (1, 1)
    assert line["adapts"] is False  # as in files of before, which do not say
    shown = Result({"episodes": 2, "lines": [line]}, (), ()).table().splitlines()
    assert shown[0].split() == ["x/scratch"] and shown[1].split() == ["seeds", "0,", "1"]
    assert shown[2].split() == ["raw", "return,", "episode", "1", "1.00", "[-2.00,", "4.00]"]
    assert shown[4].split()[:5] == ["score,", "episode", "1", "0.60", "[0.20,"]
    assert len(shown) == 2 + 3 * 2


def test_without_references_there_is_no_score_and_one_of_each_has_no_interval():
    (line,) = numbers(content(references=None))["lines"]
    assert line["score"] is None
    assert not any("score" in row for row in Result({"episodes": 2, "lines": [line]}, (), ()).table().splitlines())
    one = content(test_tasks=["a"], references=None)
    seed = one["arms"]["x/scratch"]["seeds"]["0"]
    seed["returns"], seed["success"] = seed["returns"][:1], seed["success"][:1]
    del one["arms"]["x/scratch"]["seeds"]["1"]
    (line,) = numbers(one)["lines"]
    assert line["returns"][0] == {"mean": 4.0, "interval": None}
    assert Result({"episodes": 2, "lines": [line]}, (), ()).table().splitlines()[2].endswith("4.00")


def test_steps_of_unequal_seeds_are_padded():
    given = content()
    given["arms"]["x/scratch"]["seeds"]["0"]["reward_by_step"] = [[1], [2, None, 4]]
    (line,) = adaptations.of(given, None).lines
    np.testing.assert_array_equal(line.reward_by_step[0], [[1, np.nan], [0, 1]])
    np.testing.assert_array_equal(line.reward_by_step[1], [[2, np.nan, 4], [3, 3, np.nan]])


# The report


def test_the_report_shows_it_and_survives_a_damaged_one(runs):
    path, root = runs("teller/scratch", "counter/scratch", seeds=(0, 1))
    assert cli.main(["adapt", path, "target=goal", "episodes=3", "cleared=true"]) == 0
    assert cli.main(["adapt", path, "target=goal", "arm=counter/scratch"]) == 0
    report = meta_latent.report(root)
    whole, single = report["targets"]["goal"]["adaptations"]
    assert [line["label"] for line in whole["lines"]] == [
        "counter/scratch", "counter/scratch, cleared", "teller/scratch", "teller/scratch, cleared"]  # fmt: skip
    assert (whole["episodes"], single["episodes"], whole["cleared"], single["cleared"]) == (3, 2, True, False)
    measured = adapted(root / "adapt/goal")["arms"]["counter/scratch"]["seeds"]
    means = np.mean([measured[seed]["returns"] for seed in "01"], (0, 1, 2))
    np.testing.assert_allclose([entry["mean"] for entry in whole["lines"][0]["returns"]], means)
    assert len(whole["inspected"]["teller/scratch"]["number"]["values"]) == 2
    page = (root / "report.html").read_text()
    assert "Trials of 3 episodes by trained agents" in page and "Trials of 2 episodes by trained agents" in page
    assert page.count('aria-label="Return on goal against the episode of a trial"') == 2
    assert page.count('aria-label="Along trials of goal: number"') == 2  # of the evaluation, and of adapt
    assert not report["warnings"] or not any("adaptation" in text for text in report["warnings"])
    (root / "adapt/goal/adaptation.json").write_text("{")
    report = meta_latent.report(root)
    assert len(report["targets"]["goal"]["adaptations"]) == 1
    assert sum("adaptation.json is left out" in text for text in report["warnings"]) == 1


@pytest.mark.parametrize("damage", ["{", "{}", "[]", '{"format": 2}', "tasks", "ragged", "arms"])
def test_a_damaged_file_is_left_out_with_a_note(tmp_path, damage):
    path = tmp_path / "adapt" / "goal" / "adaptation.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content()))
    notes = []
    assert [one.target for one in adaptations.find(tmp_path, notes)] == ["goal"] and not notes
    ragged = content()
    ragged["arms"]["x/scratch"]["seeds"]["1"]["returns"] = [[[1, 2]], [[1], [2]]]
    odd = {"tasks": content(test_tasks=["a"]), "ragged": ragged, "arms": content(arms=["x/scratch"])}
    path.write_text(json.dumps(odd[damage]) if damage in odd else damage)
    assert adaptations.find(tmp_path, notes) == [] and len(notes) == 1 and "is left out" in notes[0]


def test_several_test_tasks_make_trials_of_one_episode_worth_it(runs, undrawn):
    path, root = runs("silent/scratch", target=MANY | {"episodes_per_trial": 1})
    assert cli.main(["adapt", path, "target=goal"]) == 0
    assert np.shape(adapted(root / "adapt/goal")["arms"]["silent/scratch"]["seeds"]["0"]["returns"]) == (2, 3, 1)
    assert len(meta_latent.report(root)["targets"]["goal"]["adaptations"]) == 1
