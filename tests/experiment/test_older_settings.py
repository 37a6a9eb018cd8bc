"""Run folders of versions that knew fewer keys: the same runs where this command leaves those keys alone."""

import copy
import functools
import json

import pytest
from fabricated_runs import ramp, write_cell, write_pretraining

from meta_latent.errors import UserError
from meta_latent.experiment.learning import cell_settings, cells, selected, sweep_plan
from meta_latent.experiment.pretraining import pretrain
from meta_latent.experiment.report.gain import gain_points
from meta_latent.experiment.report.reading import settings_shown
from meta_latent.experiment.report.reading.sources import read_run
from meta_latent.experiment.report.statistics.numbers import Bootstrap
from meta_latent.experiment.runs.latitude import filled_in, settings_sha256
from meta_latent.experiment.runs.run_folder import RunFolder
from meta_latent.experiment.settings import config, experiments, sweep
from meta_latent.experiment.settings.schema import ExperimentConfig

ADDED = ["model.encoder.pictured", "learner.length", "transfer.replay", "task.options", "transfer.evaluation.trials",
         "transfer.adaptation.joint", "algorithms.ivg.horizon"]  # fmt: skip
"""Keys that an older version may not have known, as a cell's folder names them."""


def load(*overrides):
    return experiments.load(ExperimentConfig, "toy", ["transfer.arms=[ivg/scratch]", *overrides])


def without(settings, key):
    """`settings` as a version wrote them that knew no `key`."""
    old = inner = copy.deepcopy(settings)
    *above, last = key.split(".")
    for name in above:
        inner = inner[int(name) if isinstance(inner, list) else name]
    del inner[last]
    return old


def narrowed(*overrides):
    return cell_settings.narrowed(load(*overrides), "goal", "ivg/scratch", 0, None)


@pytest.mark.parametrize("name", ["demo", "toy", "meld_toy", "mb_mpo_toy"])
def test_what_lacks_nothing_is_completed_to_itself(name):
    experiment = experiments.load(ExperimentConfig, name)
    for target, arm in dict(experiment.transfer.pairs()).items():
        narrow = cell_settings.narrowed(experiment, target, arm, 3, None)
        assert cell_settings.completed(narrow) == narrow
    narrow = pretrain.narrowed(experiment)
    assert pretrain.completed(narrow) == narrow


@pytest.mark.parametrize("key", ADDED)
def test_a_cell_of_an_older_version_is_the_same_run_where_a_new_key_is_at_its_default(key, tmp_path):
    arm_default = ["transfer.adaptation={}"]  # the toy experiment gives some
    defaults = [f"algorithms.ivg.horizon={type(load().settings_of('ivg'))().horizon}",
                f"learner.length={ExperimentConfig().learner.length}", "transfer.targets.goal.options={}"]  # fmt: skip
    wanted = narrowed(*arm_default, *defaults)
    wanted["transfer"]["adaptation"]["joint"] = 0.0  # of the schema
    old = without(wanted, key)
    assert cell_settings.completed(old) == wanted
    RunFolder(tmp_path, old).close()
    RunFolder(tmp_path, wanted, latitude=cell_settings.LATITUDE).close()
    assert config.read_yaml(tmp_path / "config.yaml") == wanted  # from now on it says so


@pytest.mark.parametrize("device", ["cuda:9", "cpu"])
def test_what_an_older_version_left_on_another_machine_is_completed_without_its_device(device):
    for narrow, complete, key in ((narrowed(), cell_settings.completed, "transfer.video"),
                                  (pretrain.narrowed(load()), pretrain.completed, "pretrain.relabel")):  # fmt: skip
        whole = {**narrow, "device": device}
        assert complete(without(whole, key)) == whole


def test_another_value_than_the_default_stays_refused(tmp_path):
    old = without(narrowed(), "model.encoder.pictured")
    with RunFolder(tmp_path, old, latitude=cell_settings.LATITUDE):
        pass
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(UserError, match="with model.encoder.pictured=False, but this command says .*pictured=True"):
        RunFolder(tmp_path, narrowed("model.encoder.pictured=true"), latitude=cell_settings.LATITUDE)
    with pytest.raises(UserError, match=r"model.encoder.pictured=\(not set\)"):
        RunFolder(tmp_path, narrowed())
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_nothing_that_is_stored_changes():
    """Keys that this version does not know keep a run refused, wherever they are."""
    for old in (narrowed() | {"gone": 1}, filled_in({"model": {"gone": 1}}, narrowed())):
        completed = cell_settings.completed(old)
        assert settings_sha256(completed) == settings_sha256(old) != settings_sha256(narrowed())
    assert filled_in({"a": [{"b": 1}], "c": 2}, {"a": [{"b": 3, "d": 4}], "c": 5, "e": {}}) == {
        "a": [{"b": 1, "d": 4}], "c": 2, "e": {}}  # fmt: skip
    assert filled_in({"a": [{"b": 1}]}, {"a": [{"b": 1}, {"b": 2}]}) == {"a": [{"b": 1}]}
    assert cell_settings.completed({"target": "t", "transfer": None}) == {"target": "t", "transfer": None}


def test_stored_settings_import_nothing(tmp_path, monkeypatch):
    (tmp_path / "planted_here.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    named = {"imports": ["planted_here"]}
    assert cell_settings.completed(narrowed() | named) == narrowed() | named
    narrow = pretrain.narrowed(load())
    assert pretrain.completed(without(narrow, "model.encoder.pictured") | named) == narrow | named


def finish(folder, old, checksum):
    """Fabricate the finished run of an older version."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps(old))
    (folder / "run.json").write_text(json.dumps({"status": "done", "settings_sha256": checksum}))


def test_a_finished_cell_and_pretraining_of_an_older_version_are_finished(tmp_path):
    out = f"out={tmp_path}"
    old = without(narrowed(out), "model.encoder.pictured")
    finish(cells.cell_folder(load(out), "goal", "ivg/scratch", 0), old, settings_sha256(old, cell_settings.MAY_DIFFER))
    assert cells.finished(load(out))("goal/ivg/scratch/0")
    assert not cells.finished(load(out, "model.encoder.pictured=true"))("goal/ivg/scratch/0")
    old = without(without(pretrain.narrowed(load(out)), "model.encoder.pictured"), "pretrain.sources.0.index")
    finish(pretrain.folder_of(load(out)), old, pretrain.settings_of(old))
    assert pretrain.has_finished(load(out))
    assert not pretrain.has_finished(load(out, "pretrain.sources.0.index=1"))


def test_seeds_of_two_versions_are_pooled(tmp_path):
    folders = [tmp_path / "0", tmp_path / "1"]
    finish(folders[0], without(narrowed(), "model.encoder.pictured"), "")
    finish(folders[1], narrowed() | {"seed": 1}, "")
    selected._refuse_mixture(folders)
    (folders[1] / "config.yaml").write_text(json.dumps(narrowed("model.encoder.pictured=true") | {"seed": 1}))
    with pytest.raises(UserError, match="not to be pooled"):
        selected._refuse_mixture(folders)


def test_a_sweep_finds_what_an_older_version_pretrained_and_ran(tmp_path):
    arms = {"arms": ["ivg/scratch", "ivg/pretrained"], "seeds": [0]}
    base = {"name": "s", "out": str(tmp_path), "transfer": arms, "sweep": {"of": "toy"}}
    first, *runs = sweep_plan.plan(*sweep.load(base))
    called = "pretraining_00000000"
    old = without(first.narrow, "model.encoder.pictured") | {"name": called}
    folder = tmp_path / "s" / called / "pretrain" / str(first.seed)
    finish(folder, old, pretrain.settings_of(old))
    (folder / "model").mkdir()
    again, *_ = sweep_plan.plan(*sweep.load(base))
    assert again.folder == folder and sweep_plan.Finished()(again)
    (scratch,) = (one for one in runs if one.kind == "goal/ivg/scratch")
    old = without(scratch.narrow, "model.encoder.pictured")
    finish(scratch.folder, old, settings_sha256(old, cell_settings.MAY_DIFFER))
    assert sweep_plan.Finished()(scratch)
    other, *_ = sweep_plan.plan(*sweep.load(base, ["model.encoder.pictured=true"]))
    assert other.folder not in (folder, first.folder)


def two_versions(root):
    """Two runs with real settings; the arm from scratch is in the older one, which knows some keys less."""
    for name, steps, arms in (("old", 900, {"scratch": 750, "pretrained": 250}), ("new", 100, {"pretrained": 500})):
        narrow, older = pretrain.narrowed(load()), name == "old"
        (write_pretraining(root / name, env_steps=steps) / "config.yaml").write_text(
            json.dumps(without(narrow, "pretrain.sources.0.index") if older else narrow)
        )
        for start, ready in arms.items():
            kept = cell_settings.narrowed(load(), "goal", f"ivg/{start}", 0, None)
            for key in ("task.options", "algorithms.ivg.horizon", "transfer.replay") if older else ():
                kept = without(kept, key)
            kept["algorithms"]["ivg"] |= {} if older else {"horizon": type(load().settings_of("ivg"))().horizon}
            kept["task"] |= {} if older else {"options": {}}
            cell = write_cell(root / name, "goal", f"ivg/{start}", 0, ramp(ready))
            (cell / "config.yaml").write_text(json.dumps(kept))
    return [read_run(root / name) for name in ("old", "new")]


@pytest.mark.parametrize(
    "other", [("algorithms", "ivg", "horizon"), ("model", "core", "hidden"), ("learner", "length")]
)
def test_a_scratch_arm_of_an_older_version_is_lent_to_a_newer_run(tmp_path, other):
    runs, draw = two_versions(tmp_path), Bootstrap(resamples=50)
    assert {p.pretraining_env_steps: p.ratio.value for p in gain_points(runs, draw)} == {900: 3, 100: 1.5}
    path = runs[1].cells[0].path / "config.yaml"
    newer = json.loads(path.read_text())
    *above, key = other
    holds = functools.reduce(dict.__getitem__, above, newer)
    holds[key] += 1
    path.write_text(json.dumps(newer))
    assert [p.pretraining_env_steps for p in gain_points(runs, draw)] == [900]


def test_a_key_that_was_added_since_does_not_differ_on_pages(tmp_path):
    runs = two_versions(tmp_path)
    shown = {key for key, _ in settings_shown.between_runs(runs, ["old", "new"])["rows"]}
    assert shown <= {f"transfer.adaptation.{key}" for key in narrowed()["transfer"]["adaptation"]}
    mixed = [*(cell for cell in runs[0].cells if cell.arm == "ivg/scratch"), *runs[1].cells]
    rows = dict(settings_shown.between_arms(mixed)["rows"])
    assert rows and set(rows) <= {f"transfer.adaptation.{key}" for key in narrowed()["transfer"]["adaptation"]}
    write_pretraining(tmp_path / "bare")
    assert settings_shown.of_pretraining(tmp_path / "bare" / "pretrain" / "0") == {}
