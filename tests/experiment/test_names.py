"""Settings that are words: names of folders, paths, devices, distractors; refused when they are loaded."""

import sys
from pathlib import Path

import pytest
import torch

import meta_latent
from meta_latent import cli
from meta_latent.errors import UserError
from meta_latent.experiment.settings import config, extensions
from meta_latent.experiment.settings.schema import DistractorConfig, ExperimentConfig
from meta_latent.experiment.settings.suites import bind

TOY = {"suite": "toy/lqr"}


def load(*overrides, **values):
    return config.load(ExperimentConfig, [values], list(overrides))


def message(*overrides, **values):
    with pytest.raises(UserError) as caught:
        load(*overrides, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


NO_FOLDERS = [
    "", ".", "..", "a/b", "../x", "/etc", "a\\b", ".hidden", " a", "a ", "x" * 101, "目" * 90, "a\nb", "a\0b",
    "a\x1bb", "\udcff", "a\u2028b",
]  # fmt: skip
FOLDERS = ["toy", "größe 2", "目" * 60, "a-b_c.d", "x" * 100, "it's 50 %", "a=b", "émile & co"]


@pytest.mark.parametrize("name", NO_FOLDERS)
def test_a_name_that_is_no_single_folder_is_refused(name):
    assert "name=" in message(name=name) and "one folder's name" in message(name=name)
    text = message(transfer={"targets": {name: TOY}})
    assert f"the name {name!r} should be one folder's name" in text


@pytest.mark.parametrize("name", FOLDERS)
def test_a_name_that_is_one_folder_is_taken(name):
    made = load(name=name, transfer={"targets": {name: TOY}})
    assert (made.name, list(made.transfer.targets)) == (name, [name])
    assert config.parse_override(f"target={name}") == ("target", name)  # how a cell is told


@pytest.mark.parametrize("name", [
    "1", "1.5", "1e3", "null", "~", "on", "true", "a: b", "[a]", "{a}", "'a'", "a${b}", "*a", "&a", "!a",
    "@a", "`a", "#a", "%a", "- a", "2001-01-01", "[", "a #b",
])  # fmt: skip
def test_a_target_is_called_something_that_a_command_can_say(name):
    """Whatever name is taken, `target=NAME` means it."""
    try:
        load(transfer={"targets": {name: TOY}})
    except UserError as error:
        assert f"the name {name!r} should be a name that YAML reads as text" in str(error)
        assert "\n" not in str(error)
    else:
        assert config.load(ExperimentConfig, [], [f"target={name}"]).target == name


def test_which_names_yaml_reads_as_something_else(tmp_path):
    for name in ("1", "null", "on", "a: b"):
        assert "YAML reads as text" in message(transfer={"targets": {name: TOY}})
    path = tmp_path / "numbered.yaml"
    path.write_text("transfer:\n  targets:\n    1: {suite: toy/lqr}\n")
    with pytest.raises(UserError, match=r"targets \(in .*numbered\.yaml\): the name '1' .*target=1 is 1"):
        config.load(ExperimentConfig, [path])


def test_a_home_folder_is_spelled_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    videos = {"distractors": [{"name": "video", "intensity": 0.5, "folder": "~/clips"}]}
    sources = [{**TOY, **videos, "options": videos}]
    made = load("out=~/x", pretrained="~/model", suite=videos, pretrain={"sources": sources})
    source = made.pretrain.sources[0]
    assert (made.out, made.pretrained) == (f"{tmp_path}/x", f"{tmp_path}/model")
    found = [source.distractors[0].folder, source.options["distractors"][0]["folder"],
             made.suite["distractors"][0]["folder"]]  # fmt: skip
    assert found == [f"{tmp_path}/clips"] * 3
    assert load("out=./~x").out == "./~x" and load("out=a/~/b").out == "a/~/b"
    assert "no such home folder" in message("out=~nobody_at_all/x")


@pytest.mark.parametrize("opened", [
    meta_latent.load, meta_latent.player, meta_latent.report, lambda path: meta_latent.report([path, path]),
    meta_latent.configure, lambda path: meta_latent.export(path, "minari:toy/lqr-v0"),
])  # fmt: skip
def test_python_s_functions_spell_out_the_home_folder(monkeypatch, tmp_path, opened):
    monkeypatch.setenv("HOME", str(tmp_path))
    for form in (str, Path):
        with pytest.raises(UserError, match=f"{tmp_path}/gone"):
            opened(form("~/gone"))
        with pytest.raises(UserError, match="~nobody_at_all/x: there is no such home folder"):
            opened(form("~nobody_at_all/x"))


@pytest.mark.parametrize("command", ["report", "evaluate", "adapt", "config", "check", "transfer", "pretrain",
                                     "export minari:toy/lqr-v0"])  # fmt: skip
def test_commands_spell_out_the_home_folder(monkeypatch, tmp_path, capsys, command):
    monkeypatch.setenv("HOME", str(tmp_path))
    word, *rest = command.split()
    assert cli.main([word, "~/gone", *rest]) == 2
    assert f"{tmp_path}/gone" in capsys.readouterr().err
    assert cli.main([word, "~nobody_at_all/x", *rest]) == 2
    assert "~nobody_at_all/x: there is no such home folder" in capsys.readouterr().err


@pytest.mark.parametrize("override", ["out=''", "out=' '", "pretrained=''"])
def test_an_empty_path_is_refused(override):
    assert "should be a path" in message(override)


@pytest.mark.parametrize("device", ["", "gpu", "meta", "cuda:", "cuda:x", "cuda:-1", "CPU", "cpu:0", "mps"])
def test_a_device_that_there_is_not_anywhere(device):
    assert f"device={device!r} (in the given values) should be cpu, cuda or cuda:N" == message(device=device)


@pytest.mark.parametrize(
    ("count", "good", "bad"), [(0, ["cpu"], ["cuda", "cuda:0"]), (2, ["cuda", "cuda:1"], ["cuda:2"])]
)
def test_a_device_that_this_machine_lacks(monkeypatch, count, good, bad):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert [load(device=name).device for name in good] == good
    for name in bad:
        assert f"device={name!r}" in message(device=name) and "this machine" in message(device=name)


def test_a_missing_device_is_wrong_input_to_every_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command in ("pretrain", "transfer", "evaluate", "demo"):
        assert cli.main([command, "toy", "device=cuda", f"out={tmp_path}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("meta-latent: device='cuda'") and said.count("\n") == 1


def test_no_targets_are_wrong_input_and_not_silence(capsys, tmp_path):
    for command in ("transfer", "demo"):
        assert cli.main([command, "toy", "transfer.targets={}", f"out={tmp_path}"]) == 2
        assert "transfer.targets is empty" in capsys.readouterr().err


def test_distractors_in_short():
    both = (DistractorConfig("video", 0.5), DistractorConfig("lights", 0.25, 3))
    short = {"video": 0.5, "lights": {"intensity": 0.25, "seed": 3}}
    arm = {"suite": "tabletop/reach"}
    made = load("transfer.targets.other.distractors={video: 0.5}",
                pretrain={"sources": [{**arm, "distractors": short}]},
                suite={"distractors": {"video": 0.5}},
                transfer={"targets": {"goal": {**arm, "distractors": short}, "other": arm}})  # fmt: skip
    assert made.pretrain.sources[0].distractors == made.transfer.targets["goal"].distractors == both
    assert made.transfer.targets["other"].distractors == both[:1]
    assert config.load(ExperimentConfig, [config.to_dict(made)]) == made
    source = bind(made, made.pretrain.sources[0]).task.distractors
    assert [(x.name, x.intensity, x.seed) for x in source] == [("video", 0.5, 0), ("lights", 0.25, 3)]
    plain = config.load(ExperimentConfig, [config.to_dict(made)], ["transfer.targets.other.distractors=[]"])
    suites = bind(plain, plain.transfer.targets["other"]).task.distractors
    assert [(item.name, item.intensity) for item in suites] == [("video", 0.5)]


@pytest.mark.parametrize(
    ("distractors", "said"),
    [
        ({"video": 1.5}, "distractors.0.intensity=1.5"),
        ({"video": "much"}, "distractors.0.intensity='much'"),
        ({"video": {"intensity": 1, "sede": 2}}, "distractors.0.seed'?"),
        ({"video": {}}, "distractors.0.intensity has no value"),
        ("video", "should be a list, each item a mapping with the keys name, intensity, seed, folder"),
        ([{"name": "video", "intensity": 1}] * 2, "in the list once"),
    ],
)
def test_mistakes_in_distractors(distractors, said):
    text = message(transfer={"targets": {"goal": {**TOY, "distractors": distractors}}})
    assert said in text and "transfer.targets.goal" in text
    assert "the defaults" not in text and "DistractorConfig(" not in text


@pytest.mark.parametrize(
    ("key", "near"),
    [("ivg/scrach", "ivg/scratch"), ("pretrained+data", "pretrained"), ("scrach", "scratch"), ("goal", "")],
)
def test_an_adaptation_of_nothing_is_refused(key, near):
    text = message(f"transfer.adaptation={{{key}: {{transition: 1}}}}")
    assert f"adaptation has no {key!r}" in text
    assert f"did you mean {near!r}" in text or not near


def test_adaptation_is_of_arms_and_starts():
    keys = ["pretrained", "scratch", "policy", "ivg/scratch", "ivg/pretrained+data"]
    made = load(transfer={"adaptation": {key: {"joint": 0.5} for key in keys}})
    assert [made.transfer.adaptation[key].joint for key in keys] == [0.5] * len(keys)


def test_modules_of_the_working_folder_replace_no_others(tmp_path, monkeypatch):
    (tmp_path / "fractions.py").write_text("raise RuntimeError('the wrong one')")
    (tmp_path / "beside_it.py").write_text("import fractions")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "fractions", raising=False)
    before = list(sys.path)
    extensions.import_packages([])
    load()
    assert sys.path == before  # only `imports=` looks there
    load("imports=[beside_it]")
    assert sys.path == [*before, str(tmp_path)]


@pytest.mark.parametrize("name", [".rel", "..", "", "a.", "no_such_module_anywhere", "os.nothing_there"])
def test_what_cannot_be_imported_is_named(name):
    assert repr(name) in message(imports=[name])


def test_a_picture_of_a_million_pixels_is_refused_before_it_is_drawn():
    for suite in ("toy/lqr", "toy/counting"):
        made = load(suite={"image_size": 1_000_000}, transfer={"targets": {"goal": {"suite": suite}}})
        with pytest.raises(UserError, match="suite.image_size is 1000000: expected a whole number from 1 to 1024"):
            bind(made, made.transfer.targets["goal"])
