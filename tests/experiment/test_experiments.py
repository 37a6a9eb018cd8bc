"""Which experiment a command means, and which of its cells."""

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import meta_latent
from meta_latent import cli
from meta_latent.algorithms.registry import Arm
from meta_latent.errors import RunError, UserError
from meta_latent.experiment.learning import cell_settings, cells, refusals, sweep
from meta_latent.experiment.pretraining import model_folder, pretrain
from meta_latent.experiment.runs import checkpoint, run_folder
from meta_latent.experiment.runs.processes import Cell
from meta_latent.experiment.settings import config, experiments, suites
from meta_latent.experiment.settings.chosen import chosen_pairs
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.types import Spec

CHOICES = ["transfer.arms=[ivg/scratch, sac/scratch]", "transfer.seeds=[3, 4]", "transfer.targets.far.suite=toy/lqr",
           "transfer.targets.far.arms=[sac/scratch]"]  # fmt: skip


MISFIT = ["transfer.targets.goal.options={image_size: 8}", "transfer.arms=[ivg/pretrained, ivg/scratch]"]


def load(*overrides):
    return experiments.load(ExperimentConfig, "toy", [*CHOICES, *overrides])


@pytest.mark.parametrize(("chosen", "names"), [
    ((), {f"{pair}/{seed}" for pair in ("goal/ivg/scratch", "goal/sac/scratch", "far/sac/scratch") for seed in (3, 4)}),
    (("target=far",), {"far/sac/scratch/3", "far/sac/scratch/4"}),
    (("arm=sac/scratch", "run_seed=4"), {"goal/sac/scratch/4", "far/sac/scratch/4"}),
    (("target=goal", "arm=ivg/scratch"), {"goal/ivg/scratch/3", "goal/ivg/scratch/4"}),
])  # fmt: skip
def test_target_arm_and_seed_choose_cells(chosen, names):
    assert {cell.name for cell in cells.cells(load(*chosen), "toy", list(chosen))} == names


@pytest.mark.parametrize(("chosen", "text"), [
    ("target=gaol", "there is no target=gaol; did you mean 'goal'?"),
    ("arm=sac/scrach", "there is no arm=sac/scrach; did you mean 'sac/scratch'?"),
    ("run_seed=5", "there is no run_seed=5; choose from 3, 4"),
])  # fmt: skip
def test_a_choice_of_nothing_is_one_line(chosen, text, capsys, tmp_path):
    assert cli.main(["transfer", "toy", *CHOICES, chosen, f"out={tmp_path}"]) == 2
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="its arms are sac/scratch"):
        chosen_pairs(load("target=far", "arm=ivg/scratch"))


def test_a_folder_of_runs_holds_the_settings_they_began_with(tmp_path, monkeypatch):
    scheduled = []
    monkeypatch.setattr(cells, "run_cells", lambda found, *_, **__: scheduled.append(found) or {})
    out = tmp_path / "runs"
    assert cli.main(["transfer", "toy", "transfer.arms=[sac/scratch]", "transfer.seeds=[7]", f"out={out}"]) == 0
    moved = out.rename(tmp_path / "moved") / "toy"
    assert cli.main(["transfer", str(moved), "target=goal"]) == 0
    first, second = scheduled
    assert [cell.name for cell in first] == [cell.name for cell in second] == ["goal/sac/scratch/7"]
    assert second[0].log == moved / "transfer" / "goal" / "sac" / "scratch" / "7" / "output.log"
    again = meta_latent.configure(moved, "transfer.seeds=[7, 8]")
    assert (again.target, again.out, again.transfer.seeds) == (None, str(moved.parent), (7, 8))
    experiments.write(again)
    assert meta_latent.configure(moved).transfer.seeds == (7, 8)
    for ends, kept in (({"a": "failed"}, (7, 8)), ({"a": "failed", "b": "done"}, (9,))):
        monkeypatch.setattr(cells, "run_cells", lambda *_, ends=ends, **__: ends)
        assert cli.main(["transfer", str(moved), "transfer.seeds=[9]"]) == 1
        assert meta_latent.configure(moved).transfer.seeds == kept
    monkeypatch.chdir(moved.parent)
    assert meta_latent.configure("./toy").transfer.seeds == (9,)
    assert meta_latent.configure("toy").transfer.seeds != (9,)  # the preset, whatever lies here
    with pytest.raises(UserError, match=f"^{tmp_path} holds no experiment.yaml: give the folder runs/NAME"):
        meta_latent.configure(tmp_path)
    (moved.parent / "notes").mkdir()
    (moved.parent / "notes" / "of.txt").touch()  # no run, and not offered as one
    with pytest.raises(UserError, match=f"^there is no folder of runs {moved.parent / 'none'}.*; choose from toy$"):
        meta_latent.configure(moved.parent / "none")


def test_a_command_that_leaves_out_an_entry_goes_on_after_a_cell_of_it_wrote_the_settings(tmp_path):
    experiments.write(meta_latent.configure("toy", f"out={tmp_path}", "transfer.targets.far.suite=toy/lqr"))
    folder = tmp_path / "toy"
    for source in (folder, folder, folder / experiments.FILE):
        found = meta_latent.configure(source, "transfer.targets.far=null", "transfer.video=false")
        assert list(found.transfer.targets) == ["goal"] and not found.transfer.video
        experiments.write(found)
    for wrong in ("transfer.target=null", "transfer.targets.goal.suite=null", "transfer.seeds=null"):
        with pytest.raises(UserError, match=wrong.partition("=")[0]):
            meta_latent.configure(folder, wrong)
    with pytest.warns(UserWarning, match="goall=null leaves out an entry that is not there; did you mean 'goal'"):
        meta_latent.configure(folder, "transfer.targets.goall=null")


def test_a_folder_takes_overrides_one_after_the_other_as_a_name_does(tmp_path):
    experiments.write(meta_latent.configure("toy", f"out={tmp_path}"))
    for source in ("toy", tmp_path / "toy"):
        for given in ("transfer.targets.far.suite=toy/lqr", "transfer.targets={far: {suite: toy/lqr}}"):
            found = meta_latent.configure(source, given, "transfer.targets.far=null")
            assert list(found.transfer.targets) == ["goal"]
        for wrong in (["seed=1"], 3):
            with pytest.raises(UserError, match="is not text of the form key=value"):
                meta_latent.configure(source, wrong)


@pytest.mark.parametrize(("statuses", "status"), [
    ((0, 0), 0), ((2, 2), 2), ((2, 0), 2), ((2, 1), 1), ((1, 0), 1), ((2, 130), 1),
])  # fmt: skip
def test_cells_that_all_failed_for_wrong_input_are_wrong_input(statuses, status, tmp_path, monkeypatch, capsys):
    def stand_ins(experiment, *unused):
        return [Cell(f"goal/sac/scratch/{seed}", (sys.executable, "-S", "-c", f"raise SystemExit({end})"),
                     log=tmp_path / f"{seed}/log") for seed, end in zip((3, 4), statuses, strict=True)]  # fmt: skip

    monkeypatch.setattr(cells, "cells", stand_ins)
    assert cli.main(["transfer", "toy", *CHOICES, f"out={tmp_path}", "arm=sac/scratch", "target=goal"]) == status
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("meta-latent: ")]
    assert [line.partition(" cells did not finish: goal/sac/scratch/")[0] for line in told] == (
        [f"meta-latent: {2 - statuses.count(0)} of 2"] if any(statuses) else [])  # fmt: skip


@pytest.mark.parametrize(("given", "arms", "said"), [
    ({}, ["ivg/pretrained", "ivg/scratch"], ""),
    ({"head_hidden": 7}, ["ivg/pretrained", "sac/scratch"], "scratch makes: model.head_hidden 7 there and 32 here;"),
    ({"head_hidden": 7}, ["ivg/pretrained", "rl2/scratch"], ""),  # makes no such model
])  # fmt: skip
def test_a_given_model_of_other_sizes_is_told_of(given, arms, said, capsys):
    experiment = load("model.head_hidden=32")
    card = {"config": config.to_dict(experiment.model) | given}
    cells._say_whether_models_differ(experiment, [Arm.parse(arm) for arm in arms], card)
    text = capsys.readouterr().err
    assert said in text and bool(text) == bool(said)


def test_a_given_model_of_an_older_version_is_told_of_where_it_differs(capsys):
    """A key that was added since is at its default there."""
    old = config.to_dict(load().model)
    del old["encoder"]["pictured"]
    for overrides, said in (((), ""), (["model.encoder.pictured=true"], "encoder.pictured False there and True here;")):
        experiment = load(*overrides)
        cells._say_whether_models_differ(experiment, [Arm.parse("ivg/scratch")], {"config": old})
        text = capsys.readouterr().err
        assert said in text and bool(text) == bool(said)


def test_no_seed_learns_with_other_settings_than_the_rest(tmp_path, monkeypatch, capsys):
    scheduled = []
    monkeypatch.setattr(cells, "run_cells", lambda found, *_, **__: scheduled.append(found) or {})
    command = ["transfer", "toy", *CHOICES, f"out={tmp_path}"]
    folder = cells.cell_folder(load(f"out={tmp_path}"), "goal", "ivg/scratch", 3)
    folder.mkdir(parents=True)
    narrow = cell_settings.narrowed(load(f"out={tmp_path}"), "goal", "ivg/scratch", 3, None)
    (folder / "config.yaml").write_text(json.dumps(narrow | {"model_sha256": "of then"}))
    assert cli.main([*command, "algorithms.ivg.horizon=4"]) == 0  # it has not learned anything yet
    checkpoint.save(folder / "checkpoints", {})
    assert cli.main(command) == 0 and len(scheduled) == 2
    assert cli.main([*command, "algorithms.ivg.horizon=4"]) == 2 and len(scheduled) == 2
    said = capsys.readouterr().err
    assert "goal/ivg/scratch/3 holds a run with" in said and "horizon=4; nothing was started" in said
    assert cli.main([*command, "algorithms.ivg.horizon=4", "target=far"]) == 0  # it is not among those


def test_a_single_cell_keeps_the_settings_of_the_whole_where_none_are_kept(tmp_path, monkeypatch):
    nothing = SimpleNamespace(facts=dict, run=lambda interrupts: None)
    monkeypatch.setattr(cells, "Learning", lambda *given: nothing)
    one = ["transfer", "toy", *CHOICES, f"out={tmp_path}", "target=goal", "arm=ivg/scratch"]
    assert cli.main([*one, "run_seed=3"]) == 0
    kept = experiments.load(ExperimentConfig, str(tmp_path / "toy"))
    assert kept == load(f"out={tmp_path}")
    assert cli.main([*one, "run_seed=4", "transfer.seeds=[4, 5]"]) == 0
    assert experiments.load(ExperimentConfig, str(tmp_path / "toy")).transfer.seeds == (4, 5)  # it did something
    monkeypatch.setattr(cells, "run_cell", lambda *given: False)
    assert cli.main([*one, "run_seed=4", "transfer.seeds=[4]"]) == 0
    assert experiments.load(ExperimentConfig, str(tmp_path / "toy")).transfer.seeds == (4, 5)


def test_python_keeps_settings_as_the_command_does(tmp_path, monkeypatch):
    nothing = SimpleNamespace(facts=dict, run=lambda interrupts: None)
    monkeypatch.setattr(cells, "Learning", lambda *given: nothing)
    for seeds in ("[3]", "[3, 4]"):  # of which a report says what is missing
        more = meta_latent.configure("toy", f"out={tmp_path}", f"transfer.seeds={seeds}")
        meta_latent.transfer(more, "goal", "sac/scratch", 3)
        assert meta_latent.configure(tmp_path / "toy").transfer.seeds == more.transfer.seeds
    monkeypatch.setattr(cells, "run_cell", lambda *given: False)
    meta_latent.transfer(meta_latent.configure(tmp_path / "toy", "transfer.seeds=[3]"), "goal", "sac/scratch", 3)
    assert meta_latent.configure(tmp_path / "toy").transfer.seeds == (3, 4)  # nothing was done


def test_thresholds_that_finished_runs_did_not_record_are_told_of(tmp_path, capsys):
    """They end no run, and so are none of its settings: it stays finished, and its report asks what it did before."""
    given = ["transfer.stop_at_threshold=false", "transfer.arms=[sac/scratch]", f"out={tmp_path}",
             "transfer.targets.far={suite: toy/lqr, thresholds: [0.3]}"]  # fmt: skip
    experiment = meta_latent.configure("toy", *given)
    for target, thresholds in (("goal", [0.6]), ("far", [0.3])):
        folder = cells.cell_folder(experiment, target, "sac/scratch", 0)
        folder.mkdir(parents=True)
        narrow = cell_settings.narrowed(experiment, target, "sac/scratch", 0, None)
        settings = cell_settings.settings_of(narrow, Arm.parse("sac/scratch"), None)
        record = {"status": "done", "settings_sha256": settings, "thresholds": thresholds}
        (folder / "run.json").write_text(json.dumps(record))
    for more in ([], ["transfer.targets.goal.thresholds=[]"]):
        assert cli.main(["transfer", "toy", *given, *more]) == 0
        assert "recorded the thresholds" not in capsys.readouterr().err
    assert cli.main(["transfer", "toy", *given, "transfer.thresholds=[0.9, 0.5]"]) == 0
    said = capsys.readouterr().err
    assert "goal: finished runs recorded the thresholds [0.6], which reports ask about" in said and "far: f" not in said
    assert f"meta-latent report {tmp_path / 'toy'} 'thresholds=[0.5, 0.9]'" in said


def test_finished_cells_start_no_process(tmp_path, monkeypatch, capsys):
    scheduled = []

    def run_cells(found, *_, **__):
        scheduled.append([cell.name for cell in found])
        return dict.fromkeys(scheduled[-1], "done")

    monkeypatch.setattr(cells, "run_cells", run_cells)
    command = ["transfer", "toy", *CHOICES, f"out={tmp_path}"]
    experiment, whole = load(f"out={tmp_path}"), ["goal/ivg/scratch", "goal/sac/scratch", "far/sac/scratch"]

    def finish(target, arm, seed, **told):
        folder = cells.cell_folder(experiment, target, arm, seed)
        folder.mkdir(parents=True, exist_ok=True)
        narrow = cell_settings.narrowed(experiment, target, arm, seed, None)
        record = {"status": "done", "settings_sha256": cell_settings.settings_of(narrow, Arm.parse(arm), None)} | told
        (folder / "run.json").write_text(json.dumps(record))

    finish("goal", "ivg/scratch", 3)
    finish("far", "sac/scratch", 4)
    finish("goal", "sac/scratch", 3, status="interrupted")
    finish("goal", "sac/scratch", 4, settings_sha256="of other settings")
    assert cli.main(command) == 0
    assert "2 of 6 runs were finished before" in capsys.readouterr().err
    left = {f"{pair}/{seed}" for pair in whole for seed in (3, 4)} - {"goal/ivg/scratch/3", "far/sac/scratch/4"}
    assert set(scheduled.pop()) == left
    for seed in (3, 4):
        for pair in whole:
            finish(*pair.split("/", 1), seed)
    assert cli.main(command) == 0 and not scheduled
    assert "6 of 6 runs were finished before" in capsys.readouterr().err


def test_a_finished_pretraining_starts_no_process_either(tmp_path, monkeypatch, capsys):
    scheduled = []
    monkeypatch.setattr(cells, "run_cells", lambda found, *_, **__: scheduled.extend(found) or {})
    experiment = load(f"out={tmp_path}")
    before = (Cell("pretrain", ("true",)),)
    cells.schedule(experiment, "toy", CHOICES, before)
    assert scheduled[0].name == "pretrain" and len(scheduled) == 7
    folder = pretrain.folder_of(experiment)
    folder.mkdir(parents=True)
    record = {"status": "done", "settings_sha256": pretrain.settings_of(pretrain.narrowed(experiment))}
    (folder / "run.json").write_text(json.dumps(record))
    scheduled.clear()
    cells.schedule(experiment, "toy", CHOICES, before)
    assert len(scheduled) == 6 and "the pretraining was finished before" in capsys.readouterr().err
    assert cells._done_before(2, 6, True) == "the pretraining and 2 of 6 runs were finished before"


def test_a_cell_that_another_process_works_on_is_waited_for(tmp_path, monkeypatch, capsys):
    """The folder of one cell is held, as by a process that saves into it, until `transfer` says that it waits."""
    experiment, told = load(f"out={tmp_path}", "target=goal", "arm=ivg/scratch"), []
    folder = cells.cell_folder(experiment, "goal", "ivg/scratch", 3)
    folder.mkdir(parents=True)
    narrow = cell_settings.narrowed(experiment, "goal", "ivg/scratch", 3, None)
    record = {"status": "done", "settings_sha256": cell_settings.settings_of(narrow, Arm.parse("ivg/scratch"), None)}
    lock, tell = run_folder._lock(folder), cells._tell

    def note(event):
        told.append((event.kind, event.cell.name[-1]))
        if event.kind == "waits":
            (folder / "run.json").write_text(json.dumps(record))
            os.close(lock)
        tell(event)

    monkeypatch.setattr(cells, "_tell", note)
    monkeypatch.setattr(cells, "command", lambda *words: (sys.executable, "-c", "", *words))
    cells.schedule(experiment, "toy", [])
    assert ("waits", "3") in told and ("found", "3") in told and ("done", "4") in told
    said = capsys.readouterr().err
    assert (
        "waits   goal/ivg/scratch/3: another process works on it, process " in said
        and "another process finished it" in said
    )


def test_runs_that_finished_before_count_among_those_that_are_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cells, "command", lambda *words: (sys.executable, "-S", "-c", ""))
    experiment = load(f"out={tmp_path}", "target=goal", "workers=1")
    narrow = cell_settings.narrowed(experiment, "goal", "ivg/scratch", 3, None)
    folder = cells.cell_folder(experiment, "goal", "ivg/scratch", 3)
    folder.mkdir(parents=True)
    settings = cell_settings.settings_of(narrow, Arm.parse("ivg/scratch"), None)
    (folder / "run.json").write_text(json.dumps({"status": "done", "settings_sha256": settings}))
    cells.schedule(experiment, "toy", [])
    told = re.findall(r"[(](\d of \d done)", capsys.readouterr().err)
    assert told == ["2 of 4 done", "3 of 4 done", "4 of 4 done"]


def test_every_cell_that_ends_says_how_many_of_how_many_are_done(tmp_path, monkeypatch, capsys):
    code = "import sys; sys.exit('out of luck' if sys.argv[-1] == 'run_seed=4' else print('score 0.5'))"
    monkeypatch.setattr(cells, "command", lambda *words: (sys.executable, "-S", "-c", code, *words))
    with pytest.raises(RunError, match="2 of 4 cells did not finish"):
        cells.schedule(load(f"out={tmp_path}", "target=goal", "workers=1"), "toy", [])
    ended = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("done ", "failed "))]
    assert [re.sub(r"[0-9]+ s:", "s:", line.partition("/scratch/")[2]) for line in ended] == [
        "3  s: score 0.5  (1 of 4 done, 0 running, 0 failed)", "3  s: score 0.5  (2 of 4 done, 0 running, 0 failed)",
        "4: out of luck  (2 of 4 done, 0 running, 1 failed)", "4: out of luck  (2 of 4 done, 0 running, 2 failed)",
    ]  # fmt: skip


def test_a_model_that_is_missing_is_told_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cells, "run_cells", None)
    assert cli.main(["transfer", "toy", "transfer.arms=[ivg/pretrained]", "run_seed=0", f"out={tmp_path / 'a b'}"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    command = f"run meta-latent pretrain toy 'transfer.arms=[ivg/pretrained]' 'out={tmp_path / 'a b'}', or name a model"
    assert "was never started" in said and command in said
    assert not list(tmp_path.iterdir())


def test_suites_that_a_missing_package_may_have_brought_are_not_called_unknown(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("imports: [no_such_package]\npretrain: {sources: [{suite: mine/x}]}\n")
    assert cli.main(["pretrain", str(tmp_path / "mine.yaml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no_such_package" in line and "mine/x" not in line


@pytest.mark.parametrize("command", ["pretrain", "transfer", "demo", "sweep"])
def test_heads_that_would_own_no_task_are_refused_before_a_model_is_made(command, tmp_path, monkeypatch, capsys):
    for module in (cells, sweep):
        monkeypatch.setattr(module, "run_cells", None)  # nothing is begun
    monkeypatch.setattr(pretrain, "Pretraining", None)
    arm = f"mb_mpo/{'scratch' if command == 'transfer' else 'pretrained'}"  # those of a model ask for that first
    overrides = ["transfer.targets.rotated.tasks=5", f"out={tmp_path}", "workers=1", f"transfer.arms=[{arm}]"]
    if command == "sweep":
        overrides += ["sweep.grid.seed=[0, 1]"]
    assert cli.main([command, "mb_mpo_heads", *overrides]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{arm} on target rotated: own_tasks=true: 5 training tasks, tasks=10 simulated" in said
    assert "10 transition heads: give the target" in said and not list(tmp_path.iterdir())


def test_only_what_a_pretraining_that_is_not_begun_is_chosen_for_is_asked(tmp_path, monkeypatch):
    """Python's `pretrain`, which takes the settings as they are."""
    monkeypatch.setattr(pretrain, "pretrain", lambda experiment: experiment)

    def heads(*overrides):
        return meta_latent.configure("mb_mpo_heads", "transfer.targets.rotated.tasks=5", f"out={tmp_path}", *overrides)

    for refused in (heads(), heads("target=rotated", "arm=mb_mpo_alpha0/pretrained")):
        with pytest.raises(UserError, match="on target rotated: own_tasks=true: 5 training tasks"):
            meta_latent.pretrain(refused)
    turned = "suite: toy/rotated_actuators, tasks: 10, test_tasks: 10, warmup_episodes: 10"
    without = f"transfer.targets.turned={{{turned}}}"
    chosen = heads("transfer.arms=[mb_mpo/scratch]"), heads(without, "target=turned"), heads("arm=mb_mpo/scratch")
    for experiment in chosen:
        assert meta_latent.pretrain(experiment) is experiment
    monkeypatch.setattr(refusals.checkpoint, "exists", lambda folder: folder.parent.parent.parent.parent == tmp_path)
    assert meta_latent.pretrain(heads())


@pytest.mark.parametrize(("suite", "arm", "said"), [
    ("toy/rotated_actuators, tasks: 8, test_tasks: 1", "me_trpo/scratch", "8 training tasks need as many models"),
    ("toy/puck", "trpo/scratch", "trpo and ppo read proprioception alone"),
    ("toy/rotated_actuators, tasks: 5, test_tasks: 1, episodes_per_trial: 2, warmup_episodes: 8", "mb_mpo/scratch",
     r"each of 5 models .* 4 trials .* set transfer\.targets\.goal\.warmup_episodes=10 or more"),
])  # fmt: skip
def test_what_an_algorithm_cannot_learn_is_refused_before_its_cell_begins(tmp_path, suite, arm, said):
    experiment = load(f"transfer.targets={{goal: {{suite: {suite}}}}}", f"transfer.arms=[{arm}]", f"out={tmp_path}")
    with pytest.raises(UserError, match=f"{arm} on target goal: {said}"):
        refusals.check(experiment, suites.bind_target(experiment, "goal"), Arm.parse(arm))


@pytest.mark.parametrize(("command", "given"), [
    ("transfer", True), ("check", True), ("demo", True), ("check", False), ("demo", False), ("pretrain", False),
])  # fmt: skip
def test_meld_refuses_a_model_that_reads_no_rewards_before_anything_starts(
    command, given, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(cells, "run_cells", None)
    monkeypatch.setattr(pretrain, "Pretraining", None)
    out, blind = tmp_path / "runs", ["model.reward_input=false"]
    if given:
        experiment = load(*blind)
        spec = Spec.of(suites.bind_target(experiment, "goal").distribution)
        model_folder.save(tmp_path / "model", LatentStateModel(spec, experiment.model), {})
        blind = [f"pretrained={tmp_path / 'model'}"]
    arms = "transfer.arms=[no_carry/pretrained, slac/pretrained, sac/scratch]"
    assert cli.main([command, "toy", *blind, arms, f"out={out}"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "no_carry/pretrained on target goal: MELD infers tasks from rewards, and this model is made without" in said
    assert said.endswith("use one with model.reward_input=true, or the algorithm slac") and not out.exists()


@pytest.mark.parametrize(("command", "arm"), [
    ("transfer", "ivg/pretrained"), ("check", "ivg/pretrained"), ("demo", "ivg/pretrained"),
    ("transfer", "ivg/scratch+data"),
])  # fmt: skip
def test_a_model_of_other_pictures_is_refused_before_anything_starts(
    command, arm, toy_model, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(cells, "run_cells", None)
    model, arms = toy_model / "model", f"transfer.arms=[{arm}, sac/scratch]"
    assert cli.main([command, "toy", f"pretrained={model}", "suite.image_size=8", arms, f"out={tmp_path}"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{model} does not fit the task: images: the model takes" in said and not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["demo", "check", "transfer", "sweep"])
def test_a_target_that_the_model_to_be_made_could_not_read_is_refused_before_it_is_made(
    command, tmp_path, monkeypatch, capsys
):
    for module, name in ((pretrain, "Pretraining"), (cells, "run_cells"), (sweep, "run_cells")):
        monkeypatch.setattr(module, name, None)
    out, name = tmp_path / "runs", "toy"
    if command == "sweep":
        name = str(tmp_path / "grid.yaml")
        Path(name).write_text("name: grid\nsweep: {of: toy, grid: {seed: [0, 1]}}\n")
    assert cli.main([command, name, *MISFIT, f"out={out}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    said = [line for line in lines if "target goal does not fit the model of pretrain.sources: images: the" in line]
    assert len(said) == 1 and len(lines) == (2 if command == "transfer" else 1), lines
    assert not out.exists()


def test_sources_are_not_asked_where_there_is_a_model(toy_model, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "run_cells", lambda found, *_, **__: {})
    given = [f"pretrained={toy_model / 'model'}", f"out={tmp_path}", "transfer.arms=[ivg/pretrained]"]
    assert cli.main(["transfer", "toy", *given, "pretrain.sources=[{suite: toy/lqr, options: {image_size: 8}}]"]) == 0


def test_a_pretraining_may_be_meant_for_other_targets(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "pretrain", lambda experiment: experiment)
    misfit = load(*MISFIT, f"out={tmp_path}")
    assert meta_latent.pretrain(misfit) is misfit


@pytest.mark.parametrize(("arm", "given", "made", "heads"), [
    ("mb_mpo/pretrained", True, 1, 2), ("mb_mpo/pretrained", False, 1, 1), ("mb_mpo/pretrained", False, 3, 3),
    ("mb_mpo/scratch", True, 1, 1), ("mb_mpo/scratch", True, 3, 3),
])  # fmt: skip
def test_heads_are_those_of_the_model_that_an_arm_learns_with(toy_model, tmp_path, arm, given, made, heads):
    """A given one has two, whatever `model` says of what is made; a sweep names one that is not there yet."""
    experiment = load(f"model.ensemble.heads={made}", "algorithms.mb_mpo={own_tasks: true, space: latents}",
                      f"pretrained={toy_model / 'model' if given else tmp_path / 'not yet'}")  # fmt: skip
    target = suites.bind_target(experiment, "goal")
    refused = pytest.raises(UserError, match=f"{arm} on target goal: own_tasks=true: 1 .* {heads} transition")
    with refused if heads > 1 else contextlib.nullcontext():
        refusals.check(experiment, target, Arm.parse(arm))
