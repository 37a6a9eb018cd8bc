"""Pretraining from logged data: a run's own episodes give that run's model again, up to the rounding of rewards that
are computed anew; what does not fit is refused in a line.
"""

import contextlib
import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import meta_latent
import task_suites
from meta_latent import cli
from meta_latent.data.collect import Noise, NoiseConfig, play_episode
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import logged_data
from meta_latent.experiment.runs.run_folder import read_record
from meta_latent.experiment.settings.schema import SourceConfig
from meta_latent.experiment.settings.suites import bind
from meta_latent.rng import Streams
from meta_latent.types import Spec

FEW = ("pretrain.env_steps=150", "pretrain.joint_updates=2", "pretrain.filter_updates=1", "pretrain.scripted=0",
       "pretrain.transition_updates=1")  # fmt: skip


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A finished pretraining on two sources."""
    from conftest import run_pretrain

    return run_pretrain(tmp_path_factory.mktemp("played"), *FEW, "pretrain.sources=[{suite: toy/lqr, tasks: 2}]")


def again(toy, out, data, *overrides):
    return toy.pretrain(out, *FEW, f"pretrain.sources=[{{suite: toy/lqr, tasks: 2, data: '{data}'}}]", *overrides)


def stored(folder):
    replay = logged_data.open_run(folder)
    return [replay.read(place) for place in range(len(replay.episodes))]


def assert_same(ours, theirs, rounding=0.0):
    """All arrays are equal, rewards up to a relative `rounding`."""
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        for key in mine.keys() & other.keys():
            assert mine[key].dtype == other[key].dtype, key
            np.testing.assert_allclose(mine[key], other[key], rtol=rounding if key == "reward" else 0, err_msg=key)


def assert_same_model(one, other):
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (one, other))
    ours.pop("encoders.top.maps.bias")  # a softmax heeds no constant: its gradient is rounding, which Adam makes large
    for name, values in ours.items():
        torch.testing.assert_close(values, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_runs_own_episodes_give_its_model_again(toy, played, tmp_path):
    for number, data in enumerate((played, played / "model")):
        folder = again(toy, tmp_path / str(number), data)
        assert_same(stored(played), stored(folder), rounding=1e-6)
        assert_same_model(played, folder)
    card = json.loads((folder / "model" / "model.json").read_text())
    assert [source["data"] for source in card["sources"]] == [str(played / "model")] * 2


def test_collecting_ends_when_the_data_are_used_up_and_resumes(toy, played, tmp_path, monkeypatch, capsys):
    from meta_latent.experiment.pretraining import pretrain

    whole = again(toy, tmp_path / "whole", played, "pretrain.env_steps=1000")
    assert len(stored(whole)) == len(stored(played)) and "used up" in capsys.readouterr().out
    stopped = tmp_path / "stopped"
    for queries in (2, 1):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(pretrain, "deferred", toy.StopAfter(queries))
            again(toy, stopped, played, "pretrain.env_steps=1000")
    resumed = again(toy, stopped, played, "pretrain.env_steps=1000")
    assert toy.first_difference(toy.outcome(whole), toy.outcome(resumed)) is None


def test_a_sources_share_is_paid_as_its_task_pays(toy, played, tmp_path):
    chosen = toy.experiment(tmp_path)
    settings = tuple(SourceConfig("toy/lqr", index=index, data=str(played)) for index in (3, 4, 3))
    sources = [bind(chosen, source) for source in settings]
    found, before = logged_data.of_sources(settings, sources), stored(played)
    assert sum(len(source) for source in found.values()) == len(before)
    episode, other = found[1].episode(1), found[0].episode(1)
    assert np.array_equal(episode["action"], before[4]["action"])
    assert np.array_equal(other["action"], before[3]["action"])
    for t in range(1, len(episode["reward"])):
        paid = sources[1].distribution.reward(sources[1].task, episode["reward_inputs"][t], episode["action"][t])
        assert episode["reward"][t] == pytest.approx(float(paid), rel=1e-6)
    assert episode["reward"][0] == 0
    if sources[1].task.reward != sources[0].task.reward:
        assert not np.array_equal(episode["reward"], before[4]["reward"])


def test_episodes_of_a_transfer_are_data_too(toy, tmp_path):
    run = toy.transfer(tmp_path / "learned", "sac/scratch")
    folder = toy.pretrain(tmp_path / "again", *FEW, f"pretrain.sources=[{{suite: toy/lqr, data: '{run}'}}]")
    ours, theirs = stored(run), stored(folder)
    assert 0 < len(theirs) <= len(ours)
    for mine, other in zip(ours, theirs, strict=False):
        assert np.array_equal(mine["image_top"], other["image_top"]) and np.array_equal(mine["action"], other["action"])


def test_what_is_no_data_is_refused(toy, played, tmp_path, monkeypatch):
    from meta_latent.experiment.pretraining import pretrain

    def refused(data, words, *overrides):
        with pytest.raises(UserError, match=words) as caught:
            source = f"pretrain.sources=[{{suite: toy/lqr, data: '{data}'}}]"
            toy.pretrain(tmp_path / "refused", *FEW, source, *overrides)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "nothing", "is neither a run")
    shapes = r"image_top is uint8 of shape \(\d+, 16, 16, 3\), expected uint8 of shape \(\d+, 32"
    refused(played, shapes, "suite.image_size=32")
    refused(played, "on_policy=0.5 plays more episodes", "pretrain.on_policy=0.5", "pretrain.policy_updates=1")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretrain, "deferred", toy.StopAfter(1))
        toy.pretrain(tmp_path / "begun", *FEW)
    refused(tmp_path / "begun" / "toy" / "pretrain" / "0", "has not finished")
    with pytest.raises(UserError, match="holds [0-9]+ episodes for"):
        many = tuple(SourceConfig("toy/lqr", data=str(played)) for _ in range(len(stored(played)) + 1))
        logged_data.of_sources(many, [None] * len(many))


@pytest.mark.parametrize("change, words", [
    (lambda e: e.update(action=e["action"][:, :1]), "action is float32 of shape"),
    (lambda e: e.update(action=e["action"] * 0 + 1.5), "actions up to 1.5"),
    (lambda e: e.update(reward_inputs=e["reward_inputs"][:, 1:]), "reward_inputs is"),
    (lambda e: e.update(proprio=e["proprio"] * np.nan), "proprio that are not finite"),
    (lambda e: e.update(image_top=e["image_top"].astype(np.float32)), "image_top is float32"),
    (lambda e: e.update(image_side=e["image_top"]), "it has image_top, image_side, expected image_top"),
    (lambda e: e.pop("image_top"), "it has no pictures, expected image_top"),
])  # fmt: skip
def test_episodes_that_do_not_fit_are_refused(toy, tmp_path, change, words):
    source = bind(toy.experiment(tmp_path), SourceConfig("toy/lqr"))
    suite = source.distribution
    episode = play_episode(suite.make_vector([source.task]), Noise(suite.action_space.shape[0], NoiseConfig()), 0,
                           Streams(0))  # fmt: skip
    assert "proprio" not in words or episode["proprio"].size
    logged_data.check(episode, Spec.of(suite), "it", source.name)
    change(episode)
    with pytest.raises(UserError, match=words) as caught:
        logged_data.check(episode, Spec.of(suite), "it", source.name)
    assert "\n" not in str(caught.value)


def test_a_folder_of_before_this_setting_is_the_same_run(toy, played):
    from meta_latent.experiment.pretraining import pretrain
    from meta_latent.experiment.settings.config import read_yaml

    assert all("data" not in source for source in read_yaml(played / "config.yaml")["pretrain"]["sources"])
    assert "data" in json.dumps(pretrain.narrowed(toy.experiment(
        "x", "pretrain.sources=[{suite: toy/lqr, data: y}]"))["pretrain"]["sources"])  # fmt: skip


def test_without_minari_a_line_says_what_to_install(monkeypatch, played, capsys):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    assert cli.main(["export", str(played), "minari:toy/lqr-v0"]) == cli.WRONG_INPUT
    assert "pip install 'meta-latent[offline]'" in capsys.readouterr().err
    assert cli.main(["export", str(played), "elsewhere"]) == cli.WRONG_INPUT
    assert "expected minari:DATASET_ID" in capsys.readouterr().err


@pytest.fixture
def minari(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return pytest.importorskip("minari")


@pytest.mark.offline
def test_minari_and_back_is_bit_equal(toy, minari, played, tmp_path, capsys):
    assert cli.main(["export", str(played), "minari:toy/lqr-v0"]) == cli.DONE
    assert f"{len(stored(played))} episodes" in capsys.readouterr().out
    data = logged_data.open_data("minari:toy/lqr-v0")
    assert_same(stored(played), [data[place] for place in range(len(data))])
    assert data.reward_input_names == task_suites.get("toy/lqr").reward_input_names
    assert minari.load_dataset("toy/lqr-v0").total_steps == read_record(played)["env_steps"]
    folder = again(toy, tmp_path / "again", "minari:toy/lqr-v0")
    assert_same_model(played, folder)
    assert cli.main(["export", str(played), "minari:toy/lqr-v0"]) == cli.WRONG_INPUT
    assert "choose another id" in capsys.readouterr().err


@pytest.mark.offline
@pytest.mark.parametrize("lossy", [False, True])
def test_what_the_documents_record_can_be_learned_from(minari, lossy):
    page = (Path(__file__).resolve().parents[2] / "docs" / "offline.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert "jpeg_encoding=False" in code
    exec(compile(code.replace("jpeg_encoding=False", f"jpeg_encoding={lossy}"), "offline.md", "exec"), {})
    with pytest.warns(UserWarning, match="have lost detail") if lossy else contextlib.nullcontext():
        data, suite = logged_data.open_data("minari:mine/lqr-v0"), task_suites.get("toy/lqr")
    for place in range(len(data)):
        logged_data.check(data[place], Spec.of(suite), "it", "toy/lqr")
    task = suite.sample("train", 1, seed=0)[0]
    paid = suite.reward(task, data[3]["reward_inputs"], data[3]["action"])[1:]
    np.testing.assert_allclose(paid, data[3]["reward"][1:], rtol=1e-5)


@pytest.mark.offline
def test_half_an_export_is_none(minari, played, monkeypatch):
    from meta_latent.data.replay import SequenceReplay

    read = SequenceReplay.read
    monkeypatch.setattr(SequenceReplay, "read", lambda self, k: read(self, k) if k < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        meta_latent.export(played, "minari:toy/lqr-v0")
    monkeypatch.undo()
    assert "toy/lqr-v0" not in minari.list_local_datasets()


@pytest.mark.offline
def test_other_data_sets_end_where_they_say_and_need_reward_inputs(minari, played):
    import gymnasium

    space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def made(name, **infos):
        episode = minari.data_collector.EpisodeBuffer(
            observations=np.zeros((4, 2), np.float32), actions=np.ones((3, 2), np.float32), rewards=np.arange(1.0, 4.0),
            terminations=[False, False, True], truncations=[False] * 3, infos=infos)  # fmt: skip
        minari.create_dataset_from_buffers(name, [episode], observation_space=space, action_space=space)
        return logged_data.open_data(f"minari:{name}")

    episode = made("with-v0", reward_inputs=np.zeros((4, 5), np.float32))[0]
    assert episode["reward"].tolist() == [0, 1, 2, 3] and episode["reward_present"].tolist() == [0, 1, 1, 1]
    assert episode["action"].tolist() == [[0, 0], [1, 1], [1, 1], [1, 1]]
    assert episode["is_terminal"].tolist() == [False, False, False, True] == episode["is_last"].tolist()
    assert episode["is_task_first"].tolist() == [True, False, False, False] and episode["proprio"].shape == (4, 2)
    with pytest.raises(UserError, match="has no infos"):
        made("without-v0")[0]
    with pytest.raises(UserError, match="there is no local data set missing-v0"):
        logged_data.open_data("minari:missing-v0")
    with pytest.raises(UserError, match="no id of a data set"):
        meta_latent.export(played, "minari:a b")


# Data sets made to do harm


MARK = "run_by_a_data_set"


def metadata_of(folder, **changes):
    path = folder / "data" / "metadata.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def runs_code(folder, h5py):
    """Without spaces Minari makes the environment, by calling any function of any module."""
    from gymnasium.envs.registration import EnvSpec

    call = EnvSpec("Evil-v0", entry_point="subprocess:getoutput", kwargs={"cmd": f"touch {folder / MARK}"},
                   disable_env_checker=True, order_enforce=False)  # fmt: skip
    metadata_of(folder, env_spec=call.to_json(), observation_space=None, action_space=None)


def takes(make):
    """An attack that replaces an array of the first episode; `make`: (file, its group, h5py, another file's path)."""

    def attack(folder, h5py):
        other = folder.parent / "other.hdf5"
        with h5py.File(other, "w") as file:
            file["secret"] = np.zeros(3)
        with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
            group = file["episode_0"]
            del group["rewards"]
            make(file, group, h5py, other)

    return attack


def a_virtual_one(file, group, h5py, other):
    layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(other), "secret", shape=(3,))
    group.create_virtual_dataset("rewards", layout)


def linked(name):
    def attack(folder, h5py):
        path = folder / "data" / name
        path.rename(folder.parent / name)
        path.symlink_to(folder.parent / name)

    return attack


HOSTILE = {
    "code": runs_code,
    "another format": lambda folder, h5py: metadata_of(folder, data_format="arrow"),
    "metadata elsewhere": linked("metadata.json"),
    "data elsewhere": linked("main_data.hdf5"),
    "metadata without end": lambda folder, h5py: (folder / "data" / "metadata.json").write_text('{"a":' * 100_000),
    "an external link": takes(lambda f, g, h5py, o: g.__setitem__("rewards", h5py.ExternalLink(str(o), "secret"))),
    "a soft link": takes(lambda f, g, h5py, o: g.__setitem__("rewards", h5py.SoftLink("/episode_1/rewards"))),
    "bytes of a file": takes(lambda f, g, h5py, o: g.create_dataset("rewards", (1,), "f8", external=[(str(o), 0, 8)])),
    "a virtual array": takes(a_virtual_one),
    "a group in itself": takes(lambda f, g, h5py, o: g["infos"].__setitem__("again", f["episode_0"])),
    "an array without end": takes(lambda f, g, h5py, o: g.create_dataset("rewards", (10**12,), "f8", chunks=(10**6,))),
    "no episodes": lambda folder, h5py: metadata_of(folder, total_episodes="x"),
}  # fmt: skip


@pytest.mark.offline
@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_data_set_is_a_line(minari, played, tmp_path, attack):
    h5py = pytest.importorskip("h5py")
    meta_latent.export(played, "minari:toy/lqr-v0")
    folder = tmp_path / "minari" / "toy" / "lqr-v0"
    logged_data.open_data("minari:toy/lqr-v0")[0]
    HOSTILE[attack](folder, h5py)
    with pytest.raises(UserError, match="data set toy/lqr-v0 cannot be read: .") as caught:
        len(logged_data.open_data("minari:toy/lqr-v0"))
    assert "\n" not in str(caught.value) and not (folder / MARK).exists()


@pytest.mark.offline
@pytest.mark.parametrize("name", ["../toy/lqr-v0", "/etc/x-v0", "..-v0/../x-v0", "x", ""])
def test_an_id_that_leads_elsewhere_is_refused(minari, played, name):
    for call in (lambda: logged_data.open_data(f"minari:{name}"), lambda: meta_latent.export(played, f"minari:{name}")):
        with pytest.raises(UserError, match="is no id of a data set|expected minari"):
            call()


@pytest.mark.offline
def test_a_second_export_of_the_same_leaves_the_first_alone(minari, played, tmp_path, monkeypatch):
    from meta_latent.data.replay import SequenceReplay

    read, said = SequenceReplay.read, []

    def meanwhile(self, place):
        if not said:
            said.append("")
            with pytest.raises(UserError, match="another process exports toy/lqr-v0") as caught:
                meta_latent.export(played, "minari:toy/lqr-v0")
            said.append(str(caught.value))
        return read(self, place)

    monkeypatch.setattr(SequenceReplay, "read", meanwhile)
    assert meta_latent.export(played, "minari:toy/lqr-v0") == len(stored(played)) and len(said) == 2
    assert len(logged_data.open_data("minari:toy/lqr-v0")) == len(stored(played))


@pytest.mark.offline
@pytest.mark.parametrize(("code", "status", "words"), [
    (errno.ENOSPC, cli.FAILED, "the disk is full"), (errno.EIO, cli.FAILED, "could not write"),
])  # fmt: skip
def test_a_disk_that_fails_during_an_export_is_a_line(minari, played, monkeypatch, capsys, code, status, words):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(minari, "create_dataset_from_buffers", fail)
    assert cli.main(["export", str(played), "minari:toy/lqr-v0"]) == status
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error and "lqr-v0" in error
    monkeypatch.undo()


@pytest.mark.offline
def test_an_export_to_a_folder_that_cannot_be_written_is_a_line(minari, played, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x", "/proc/nothing"):
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(path))
        assert cli.main(["export", str(played), "minari:toy/lqr-v0"]) == cli.WRONG_INPUT
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "set MINARI_DATASETS_PATH to another one" in error
