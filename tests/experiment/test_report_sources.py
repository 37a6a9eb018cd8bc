"""What a report finds: the run folder meant, the pretraining that its runs started from, damaged files."""

import contextlib
import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest
from fabricated_runs import new_facts, ramp, write_cell, write_pretraining

from meta_latent import files
from meta_latent.errors import RunError, UserError
from meta_latent.experiment.commands import report
from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.figures import pictures
from meta_latent.experiment.report.gain import gain_points, write_gain
from meta_latent.experiment.report.reading import settings_shown
from meta_latent.experiment.report.reading.sources import read_run
from meta_latent.experiment.report.statistics.analysis import analyse
from meta_latent.experiment.report.statistics.numbers import Bootstrap
from meta_latent.experiment.report.words import held_out_words


def numbers(root):
    return analyse(read_run(root), Bootstrap(resamples=50))


def started(root, given, sha256="abc", seed=0):
    """A finished cell that opened the model ``given``."""
    facts = {"pretrained": given, "model_sha256": sha256, "facts": new_facts}
    return write_cell(root, "t", "a/pretrained", seed, ramp(250), **facts)


def test_models_of_one_seed_from_two_folders_keep_what_each_measured(tmp_path):
    for seed, (name, error) in enumerate((("first", 0.01), ("second", 0.99))):
        made = write_pretraining(tmp_path / name, held_out={"image_mse": error}, sha256=name)
        started(tmp_path / "x", str(made / "model"), name, seed)
    found = numbers(tmp_path / "x")["pretraining"]
    assert found["seeds"] == [str(tmp_path / name / "pretrain" / "0") for name in ("first", "second")]
    assert [row["values"] for row in held_out_words.table(found)["rows"]] == [["0.01", "0.99"]]
    build(tmp_path / "x", resamples=10)
    page = (tmp_path / "x" / "report.html").read_text()
    assert all(f'<th scope="col">{folder}</th>' in page for folder in found["seeds"])


def test_a_relative_pretrained_is_found_from_anywhere_by_its_checksum(tmp_path, monkeypatch):
    write_pretraining(tmp_path / "here" / "runs" / "base", sha256="abc")
    started(tmp_path / "here" / "runs" / "x", "runs/base/pretrain/0/model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    # another pretraining lies at the same relative path
    write_pretraining(tmp_path / "elsewhere" / "runs" / "base", env_steps=9, sha256="other")
    for folder in (tmp_path / "here" / "runs" / "x", Path("../here/runs/x")):
        assert numbers(folder)["pretraining"]["env_steps"] == 2400
    started(tmp_path / "elsewhere" / "runs" / "y", "runs/base/pretrain/0/model")
    found = numbers(tmp_path / "elsewhere" / "runs" / "y")
    assert found["pretraining"] is None
    assert any("sha256 abc (pretrained=runs/base" in w and "not counted" in w for w in found["warnings"])


def test_an_older_run_says_its_checksum_in_its_settings_only(tmp_path):
    write_pretraining(tmp_path / "runs" / "base", sha256="abc")
    cell = write_cell(tmp_path / "runs" / "x", "t", "a/pretrained", 0, ramp(250),
                      pretrained="runs/base/pretrain/0/model")  # fmt: skip
    assert numbers(tmp_path / "runs" / "x")["pretraining"] is None  # nothing to know it by
    (cell / "config.yaml").write_text("model_sha256: abc\n")
    assert numbers(tmp_path / "runs" / "x")["pretraining"]["env_steps"] == 2400
    (cell / "config.yaml").write_text("model_sha256: other\n")
    assert numbers(tmp_path / "runs" / "x")["pretraining"] is None


def test_a_pretraining_in_the_folder_that_no_run_started_from_is_not_charged(tmp_path):
    write_pretraining(tmp_path / "x", env_steps=7, sha256="unused")
    write_pretraining(tmp_path / "base", sha256="abc")
    started(tmp_path / "x", str(tmp_path / "base" / "pretrain" / "0" / "model"))
    found = numbers(tmp_path / "x")
    assert found["pretraining"]["env_steps"] == 2400 and found["pretraining"]["model_sha256"] == "abc"
    assert any("No run started from the model that" in warning for warning in found["warnings"])


@pytest.mark.parametrize("run", ["A/transfer/runs/toy", "runs/transfer", "pretrain/x", "runs/demo"])
@pytest.mark.parametrize("target", ["t", "pretrain", "transfer"])
def test_the_run_folder_is_found_whatever_it_is_called(tmp_path, monkeypatch, run, target):
    monkeypatch.chdir(tmp_path)
    cell = write_cell(run, target, "a/scratch", 0, ramp(300))
    (cell / "videos").mkdir()
    parts = [part for part in (cell / "videos", *(cell / "videos").parents) if part.is_relative_to(run)]
    assert len(parts) == 7
    assert {report.find(str(part)) for part in parts} == {Path(run)}
    monkeypatch.chdir(cell)
    assert report.find(".") == tmp_path / run


def test_a_name_under_runs_is_not_hidden_by_an_empty_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cell("runs/demo", "t", "a/scratch", 0, ramp(300))
    Path("demo").mkdir()
    assert report.find("demo") == Path("runs/demo")


def test_a_hidden_target_is_seen_and_leftovers_are_not(tmp_path):
    cell = write_cell(tmp_path, ".hidden", "a/scratch", 0, ramp(300))
    leftover = tmp_path / "transfer" / ".t.tmp-12" / "a" / "scratch" / "0"
    leftover.mkdir(parents=True)
    (leftover / "run.json").write_text((cell / "run.json").read_text())
    assert list(build(tmp_path, resamples=50)["targets"]) == [".hidden"]
    assert len(read_run(tmp_path).cells) == 1


def test_targets_with_similar_names_have_pictures_and_ids_of_their_own(tmp_path):
    names = ["a b", "a_b", "a.b", "äb", "äö", "日本", "x" * 200, "x" * 201]
    assert len({pictures.slug(name).lower() for name in names}) == len(names)
    assert pictures.slug("a_b") == "a_b"
    assert all(pictures.slug(name).isascii() and pictures.slug(name) for name in names)
    assert max(len(pictures.slug(name)) for name in names) < 120
    for name in names[:2]:
        write_cell(tmp_path, name, "a/scratch", 0, ramp(300))
    build(tmp_path, resamples=50)
    assert len(list((tmp_path / "report").glob("curves_env_steps_*.png"))) == 2
    ids = [part.split('"')[0] for part in (tmp_path / "report.html").read_text().split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_numbers_and_seeds_that_are_none_are_survived(tmp_path):
    """Superscript digits, numbers that overflow, deep nesting, and values of a wrong kind."""
    rows = [(0, 0.0), (100, 0.5), (200, 1e308), (300, 1e308)]
    write_cell(tmp_path, "t", "a/scratch", 0, rows)
    huge = {"threshold": 1e308, "floor": 1e308, "budget_env_steps": 10**400}
    write_cell(tmp_path, "t", "a/scratch", "²", ramp(300), **huge)
    odd = {"versions": ["x"], "command": 7, "metrics": "none", "clock": [], "compared_with": ["x"]}
    odd |= {"thresholds": ["x"], "floor": True, "error": {}}
    write_cell(tmp_path, "t", "a/scratch", 1, ramp(300), facts=new_facts, **odd)
    deep = write_cell(tmp_path, "t", "a/scratch", 2, ramp(300))
    (deep / "run.json").write_text("[" * 200_000)
    with (deep / "metrics.jsonl").open("a") as log:
        log.write("[" * 200_000 + '\n{"kind": "evaluation", "env_steps": 1' + "0" * 400 + "}\n{}\n")
    write_pretraining(tmp_path, held_out=["x"])
    found = build(tmp_path, resamples=50)
    arm = found["targets"]["t"]["arms"]["a/scratch"]
    assert arm["seeds"] == [0, 1, 2, "²"] and arm["curve"]["score"][0][:4] == [0, 0.5, None, None]
    assert any("too large evaluation at 200" in warning for warning in found["warnings"])
    assert found["targets"]["t"]["thresholds"] == [0.8]


def test_options_of_the_command(tmp_path, capsys):
    write_cell(tmp_path, "t", "a/scratch", 0, ramp(300))
    report.run(tmp_path, "thresholds=[0.9, 0.25]", "resamples=50")
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["targets"]["t"]["thresholds"] == [0.25, 0.9]
    report.run(tmp_path, "thresholds=0.25", "resamples=50")
    for wrong in ("seed=²", "seed=-1", "resamples=9", "thresholds=[]", "thresholds=a", "thresholds=nan",
                  "thresholds=1e400", "threshold=0.5"):  # fmt: skip
        with pytest.raises(UserError, match="report: ") as error:
            report.run(tmp_path, wrong)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_a_terminal_without_our_signs_is_written_to(tmp_path, monkeypatch, encoding):
    for seed in range(2):
        write_cell(tmp_path / "ü日", "t", "a/pretrained", seed, ramp(250))
        write_cell(tmp_path / "ü日", "t", "a/scratch", seed, ramp(750))
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with contextlib.redirect_stdout(stream):
        report.run(tmp_path / "ü日", "resamples=50")
    stream.flush()
    assert "3.0x on t" in stream.buffer.getvalue().decode(encoding)
    assert sys.stdout is not stream


@pytest.mark.parametrize(("code", "words"), [
    (errno.EROFS, "could not write .*{}.*: Read-only"), (errno.ENOSPC, "the disk is full: could not write .*{}"),
])  # fmt: skip
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, code, words):
    def fail(event, path):
        raise OSError(code, os.strerror(code))

    for name, steps in (("little", 100), ("much", 900)):
        write_pretraining(tmp_path / name, env_steps=steps)
        write_cell(tmp_path / name, "t", "a/pretrained", 0, ramp(250))
        write_cell(tmp_path / name, "t", "a/scratch", 0, ramp(750))
    monkeypatch.setattr(files, "fault_hook", fail)
    with pytest.raises(RunError, match=words.format("much")):
        build(tmp_path / "much", resamples=50)
    points = gain_points([read_run(tmp_path / name) for name in ("little", "much")], Bootstrap(50))
    assert {point.ratio.interval for point in points} == {None}
    with pytest.raises(RunError, match=words.format("gain_against_pretraining")):
        write_gain(points, [tmp_path], tmp_path)


def test_commands_are_those_that_a_user_types(tmp_path):
    command = ["/x/site-packages/meta_latent/cli.py", "transfer", "demo", "seed=3", "target=t"]
    write_cell(tmp_path, "t", "a/scratch", 0, ramp(300), command=command)
    build(tmp_path, resamples=50)
    text = (tmp_path / "report.html").read_text()
    assert "meta-latent transfer demo seed=3\n" in text.replace("</pre>", "\n") and "cli.py" not in text


def test_a_report_is_found_by_the_experiment_that_made_its_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lamp.yaml").write_text("name: light\nout: elsewhere\nsweep: {of: toy}\n")
    with pytest.raises(UserError, match="runs would lie in elsewhere/light.*meta-latent sweep lamp.yaml"):
        report.find("lamp.yaml")
    for root in ("elsewhere/light", "runs/puck"):
        write_cell(root, "t", "ivg/scratch", 0, ramp(300))
    assert report.find("lamp.yaml") == Path("elsewhere/light")
    assert report.find("puck") == report.find("runs/puck") == Path("runs/puck")
    with pytest.raises(UserError, match="would lie in runs/toy"):
        report.find("toy")  # a preset that has not been run
    with pytest.raises(UserError, match="there is no file lump.yaml"):
        report.find("lump.yaml")
    with pytest.raises(UserError, match="no run called 'poin' under runs/"):
        report.find("poin")


@pytest.mark.parametrize(
    ("measured", "model", "has_model"),
    [
        ({"embedding": 1.0}, None, True),
        ({"divergence": 1.0}, None, True),  # of a deterministic core
        ({"loss": 1.0}, None, False),  # it learned from states
        ({"loss": 1.0}, "abc", True),  # its model stays as it is
        ({}, None, True),  # nothing was measured yet
    ],
)
def test_an_algorithm_that_may_have_a_model_has_one_where_its_run_says_so(tmp_path, measured, model, has_model):
    declared = {"embedding": "", "divergence": "", "loss": ""}
    for arm, found, joint in (("mb_mpo/pretrained", {"embedding": 1.0}, 0), ("mb_mpo/scratch", measured, 1)):
        facts = {"metrics": declared, "model_sha256": "abc" if joint == 0 else model}
        folder = write_cell(tmp_path, "t", arm, 0, ramp(300), train=lambda *_, found=found: found, **facts)
        (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text().replace('"loss": 3.0', '"x": 3.0'))
        (folder / "config.yaml").write_text(f"transfer: {{adaptation: {{joint: {joint}}}}}")
    rows = settings_shown.between_arms(read_run(tmp_path).cells)["rows"]
    assert rows == ([("transfer.adaptation.joint", ["0", "1"])] if has_model else [])
