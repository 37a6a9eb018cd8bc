"""Distractors of a YAML: a user's own folder behind the scene, refused before the run where it is broken."""

import numpy as np
import pytest
import yaml
from PIL import Image

from meta_latent import cli
from meta_latent.errors import UserError
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import bind, bind_target
from task_suites import SuiteError
from task_suites.tabletop.suite import Tabletop

RED = (250, 0, 0)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "clips"
    path.mkdir()
    Image.fromarray(np.full((20, 20, 3), RED, np.uint8)).save(path / "red.png")
    return path


@pytest.fixture
def write(tmp_path):
    """Writes an experiment with one target behind a video, and a source with the distractors `source`."""

    def written(folder, *, suite="tabletop/reach", source=(), **options):
        distractors = [{"name": "video", "intensity": 1.0, "folder": str(folder)}]
        content = {
            "name": "own_video",
            "suite": {"image_size": 32, "cameras": ["left"], **options},
            "model": "keypoints_rssm",
            "pretrain": {"sources": [{"suite": suite, "distractors": list(source)}]},
            "transfer": {
                "targets": {"filmed": {"suite": suite, "distractors": distractors}},
                "arms": ["ivg/scratch"],
            },
        }
        path = tmp_path / "own_video.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return written


def test_a_folder_of_the_yaml_is_what_is_behind_the_scene(folder, write, monkeypatch):
    monkeypatch.chdir(folder.parent)
    experiment = config.load(ExperimentConfig, [write("clips")])
    bound = bind(experiment, experiment.transfer.targets["filmed"], "filmed")
    assert bound.task.distractors[0].folder == "clips"
    assert bound.with_distractor_seed(5).task.distractors[0].folder == "clips"
    env = bound.make()
    picture = env.reset(seed=0)[0]["image_left"]
    env.close()
    assert np.allclose(picture[:3], RED, atol=2)


def test_the_suites_distractors_are_on_tasks_that_name_none(folder, write):
    experiment = config.load(ExperimentConfig, [write(folder, distractors={"lights": 0.3})])
    (source,), target = experiment.pretrain.sources, experiment.transfer.targets["filmed"]
    assert [item.name for item in bind(experiment, source).task.distractors] == ["lights"]
    assert [item.name for item in bind(experiment, target).task.distractors] == ["video"]


def emptied(folder):
    (folder / "red.png").unlink()


def broken(folder):
    (folder / "red.png").write_bytes((folder / "red.png").read_bytes()[:50])


def no_video(folder):
    (folder / "film.mp4").write_bytes(b"no video at all" * 50)


def stray(folder):
    (folder / "film.xyz").write_text("of no known kind")


def missing(folder):
    emptied(folder)
    folder.rmdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (missing, "clips': there is no such folder"),
        (emptied, "clips' is empty"),
        (broken, "red.png' cannot be read as an image"),
        (no_video, "film.mp4' cannot be read as a video"),
        (stray, "film.xyz' is neither a video nor an image"),
    ],
)
def test_a_folder_that_cannot_be_shown_is_wrong_input(folder, write, tmp_path, capsys, spoil, said):
    spoil(folder)
    experiment = config.load(ExperimentConfig, [path := write(folder)])
    with pytest.raises(
        UserError, match="^transfer.targets.filmed.distractors: "
    ):  # first: else the command would train
        bind_target(experiment, "filmed")
    assert cli.main(["transfer", str(path), f"out={tmp_path / 'runs'}"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("meta-latent: transfer.targets.filmed.distractors: ") and said in message
    assert message.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["pretrain", "demo"])
def test_that_of_a_source_is_told_before_anything_runs(folder, write, tmp_path, capsys, command):
    video = {"name": "video", "intensity": 0.5, "folder": str(tmp_path / "nowhere")}
    path = write(folder, source=[video])
    assert cli.main([command, str(path), f"out={tmp_path / 'runs'}"]) == 2
    assert "pretrain.sources.0.distractors: " in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_what_else_is_wrong_is_not_said_of_distractors(folder, write, monkeypatch):
    def check(self, task):
        raise SuiteError("its goal is too far")

    monkeypatch.setattr(Tabletop, "check", check)
    experiment = config.load(ExperimentConfig, [write(folder)])
    with pytest.raises(UserError, match="^transfer.targets.filmed: its goal is too far"):
        bind_target(experiment, "filmed")


def test_a_suite_without_distractors_says_so(folder, write, tmp_path, capsys):
    path = write(folder, suite="toy/lqr")
    path.write_text(path.read_text().replace("  cameras:\n  - left\n", ""))
    assert cli.main(["transfer", str(path), f"out={tmp_path / 'runs'}"]) == 2
    assert "toy/lqr: its pictures have no distractors" in capsys.readouterr().err
