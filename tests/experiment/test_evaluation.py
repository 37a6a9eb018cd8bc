"""`meta-latent evaluate`: the saved agent, the same episodes, one clear line when something is missing."""

import json
import shutil

import numpy as np
import pytest

import meta_latent
from meta_latent import cli
from meta_latent.data.collect import play
from meta_latent.errors import UserError
from meta_latent.experiment.commands import evaluate as evaluation
from meta_latent.experiment.commands.evaluate import Result
from meta_latent.experiment.pretraining import model_folder, source_policy
from meta_latent.experiment.runs import checkpoint, metrics, run_folder
from meta_latent.experiment.settings import suites
from meta_latent.rng import Streams

CELL = ("target=goal", "arm=sac/scratch", "run_seed=0")


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """Folder of all runs, with one finished cell in it."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def command(toy, cell):
    """Arguments of the command after NAME."""
    toy.transfer(cell, "sac/scratch")
    return [*toy.small, f"out={cell}", "video=0", *CELL]


def settings(overrides):
    return evaluation.config.load(evaluation.EvaluateConfig, [evaluation.config.find("experiment", "toy")], overrides)


def test_the_last_evaluation_of_the_run_is_reproduced(command, cell):
    result = evaluation.evaluate(settings(command))
    folder = cell / "toy/transfer/goal/sac/scratch/0"
    last = metrics.read(folder, "evaluation")[-1]
    assert 0 < last["cpu_seconds"] == run_folder.read_record(folder)["cpu_seconds"]
    assert result.returns.shape == (1, 2, 1)
    assert result.returns.mean() == pytest.approx(last["raw_return"], abs=1e-5)
    assert result.scores.mean() == pytest.approx(last["score"], abs=1e-4)


def test_more_episodes_begin_with_the_fixed_ones_and_fresh_ones_differ(command):
    fixed = evaluation.evaluate(settings(command)).returns[0, :, 0]
    more = evaluation.evaluate(settings([*command, "episodes=5"])).returns[0, :, 0]
    assert len(more) == 5 and np.allclose(more[:2], fixed, atol=1e-5) and len(set(more.round(4))) == 5
    fresh = evaluation.evaluate(settings([*command, "fresh=1"])).returns[0, :, 0]
    assert not np.allclose(fresh, fixed, atol=1e-3)
    assert np.array_equal(fresh, evaluation.evaluate(settings([*command, "fresh=1"])).returns[0, :, 0])


def test_the_command_prints_a_table_and_films(command, capsys, cell):
    assert cli.main(["evaluate", "toy", *command, "video=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-5:-2]] == ["raw", "score", "success"]
    videos = sorted((cell / "toy/transfer/goal/sac/scratch/0/videos").glob("evaluation_*.mp4"))
    assert [str(path) for path in videos] == lines[-2:] and len(videos) == 2
    assert all(path.stat().st_size > 500 for path in videos)


def test_a_run_folder_needs_no_override(command, capsys, cell):
    folder = str(cell / "toy/transfer/goal/sac/scratch/0")
    assert cli.main(["evaluate", "toy", *command]) == 0
    by_name = capsys.readouterr().out
    assert cli.main(["evaluate", folder, "video=0"]) == 0
    assert capsys.readouterr().out == by_name
    assert cli.main(["evaluate", folder, "video=0", "seed=1"]) == 2
    assert "unknown key 'seed'" in capsys.readouterr().err


def test_an_agent_whose_run_goes_on_is_called_so(capsys, cell, tmp_path):
    folder = shutil.copytree(cell / "toy", tmp_path / "toy") / "transfer/goal/sac/scratch/0"
    words = ["evaluate", str(folder), "video=0", "episodes=2"]
    assert cli.main(words) == 0 and "not finished" not in capsys.readouterr().out
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    assert cli.main(words) == 0
    assert "the agent's run is not finished: this is its last checkpoint\n" in capsys.readouterr().out


def test_standard_errors_and_scale():
    returns, success = np.array([1.0, 3.0]).reshape(1, 2, 1), np.array([True, False]).reshape(1, 2, 1)
    table = Result(returns, success, (returns + 1) / 4).table().splitlines()
    assert table[1].split() == ["raw", "return", "2.000", "1.000"]
    assert table[2].split() == ["score", "0.750", "0.250"]
    assert table[3].split() == ["success", "0.500", "0.500"]
    raw = Result(returns[:, :1], success[:, :1], None).table().splitlines()
    assert len(raw) == 3 and raw[1].split()[-1] == "-"
    by_episode = Result(returns.reshape(1, 1, 2), success.reshape(1, 1, 2), None).table()
    assert "episode 1" in by_episode and "episode 2" in by_episode
    tasks = np.repeat([[0.0], [10.0]], 100, 1)[..., None]  # what trials of one task share is no evidence about others
    assert Result(tasks, tasks > 5, None).table().splitlines()[1].split() == ["raw", "return", "5.000", "5.000"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("run_seed=1",), "holds no saved agent"),
        (("arm=sac/pretrain",), "sac/pretrained"),
        (("target=gaol",), "choose from goal"),
        (("run_seed=null", "target=gaol"), "holds no trained agent of target=gaol"),
        (("algorithms.sac.hidden=17",), "algorithms.sac.hidden=16"),
        (("episodes=0",), "from 1 to 100000"),
        (("epsiodes=3",), "episodes"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(command, capsys, change, words):
    assert cli.main(["evaluate", "toy", *command, *change]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error


@pytest.mark.parametrize("damage", ["edited", "another version"])
def test_an_agent_that_cannot_be_opened_says_how_to_redo_its_run(command, capsys, cell, tmp_path, damage):
    folder = tmp_path / "toy/transfer/goal/sac/scratch/0"
    shutil.copytree(cell / "toy/transfer/goal/sac/scratch/0", folder)
    index = folder / "checkpoints/checkpoint.json"
    if damage == "edited":
        index.write_text(index.read_text().replace('"state"', '"stated"', 1))
    else:
        state = checkpoint.load(index.parent)
        del state["agent"]
        checkpoint.save(index.parent, state)
    assert cli.main(["evaluate", "toy", *command, f"out={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "out=" not in error
    assert f"or move {folder} away and learn it anew: meta-latent transfer with the same NAME and options, " in error
    assert " ".join(CELL) in error


def test_a_finished_run_says_that_there_is_nothing_to_learn(command, capsys, cell):
    capsys.readouterr()
    assert cli.main(["transfer", "toy", *(word for word in command if word != "video=0")]) == 0
    folder = cell / "toy/transfer/goal/sac/scratch/0"
    assert capsys.readouterr().out == f"{folder} was finished before; meta-latent evaluate {folder} scores its agent\n"


def test_of_the_keys_as_many_are_needed_as_name_one_agent(command, capsys, monkeypatch, cell):
    assert cli.main(["evaluate", "toy", *command]) == 0
    whole = capsys.readouterr().out
    for given in (["target=goal"], ["arm=sac/scratch", "target=null"], ["run_seed=0", "target=null"]):
        left = [f"{key}=null" for key in ("arm", "run_seed") if not given[0].startswith(key)]
        assert cli.main(["evaluate", "toy", *command, *left, *given]) == 0
        assert capsys.readouterr().out == whole
    several = [cell / "toy/transfer/goal" / rest for rest in ("ivg/scratch/0", "sac/scratch/0", "sac/scratch/1")]
    monkeypatch.setattr(evaluation.saved, "saved_cells", lambda root: several)
    assert cli.main(["evaluate", "toy", *command, "run_seed=null", "arm=null"]) == 2
    said = capsys.readouterr().err
    assert "3 trained agents in" in said and "arm=ivg/scratch or sac/scratch, run_seed=0 or 1" in said
    assert "target=" not in said


def test_the_api_scores_the_same_agent(toy, command, cell):
    result = meta_latent.evaluate(toy.experiment(cell), "goal", "sac/scratch")
    assert np.array_equal(result.returns, evaluation.evaluate(settings(command)).returns)


def test_the_source_policy_is_scored_on_its_source_task(toy, toy_model):
    where = [*toy.small, f"pretrained={toy_model / 'model'}", "video=0", "episodes=3"]
    result = evaluation.evaluate(settings(where))
    agent = source_policy.load_agent(toy_model / "model")
    bound = suites.bind(settings(where), settings(where).pretrain.sources[0])
    rows = bound.distribution.make_vector([bound.task] * 3)
    seeds = np.array([[evaluation.evaluation_seed(k)] for k in range(3)])
    rewards = play(rows, agent, seeds, Streams(5), explore=False).returns
    assert np.array_equal(result.returns[0], rewards)
    for parameter in agent.networks["average_policy"].parameters():
        parameter.data.zero_()
    other = play(rows, agent, seeds, Streams(5), explore=False).returns
    assert not np.allclose(rewards, other)


def test_a_run_without_a_source_policy_says_so(toy, tmp_path):
    folder = toy.pretrain(tmp_path)
    with pytest.raises(UserError, match="no source policy"):
        evaluation.evaluate(settings([*toy.small, f"pretrained={folder / 'model'}"]))


def test_a_folder_of_trained_agents_names_one(command, capsys, cell):
    folder, wanted = cell / "toy", cell / "toy/transfer/goal/sac/scratch/0"
    said = f"{folder} holds 1 trained agent; name one, such as {wanted}, or give target=, arm= and run_seed="
    for words in (["toy", *command, "target=null", "arm=null", "run_seed=null"], [str(folder)]):
        assert cli.main(["evaluate", *words]) == 2
        assert said in capsys.readouterr().err
    for above in (folder / "transfer", wanted.parent.parent, wanted.parent):
        assert cli.main(["evaluate", str(above)]) == 2
        assert f"{above} holds 1 trained agent; name one, such as {wanted}\n" in capsys.readouterr().err


def test_an_edited_source_policy_is_refused(toy_model, tmp_path):
    import shutil

    shutil.copytree(toy_model / "model", tmp_path / "model")
    source_policy.load_agent(tmp_path / "model")
    path = tmp_path / "model" / model_folder.POLICY
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="policy.safetensors"):
        source_policy.load_agent(tmp_path / "model")
