"""Files made to do harm: none runs code, reads or writes outside its folder, hangs or ends in a traceback.

Each attack is a real file. What is refused is refused in one line that names the file.
"""

import contextlib
import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from meta_latent import cli, files
from meta_latent.errors import RunError, UserError, visible
from meta_latent.experiment.pretraining import logged_data, source_data
from meta_latent.experiment.report import sweep_report
from meta_latent.experiment.report.reading import beliefs, records, settings_shown
from meta_latent.experiment.report.statistics import saved
from meta_latent.experiment.runs import checkpoint, metrics, run_folder
from meta_latent.experiment.runs.ledger import Ledger
from meta_latent.experiment.runs.processes import Cell, LocalProcess, Output
from meta_latent.experiment.runs.run_folder import RunFolder
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig

CONFIG = {"seed": 1}
SECRET = "a secret of the user's"


@pytest.fixture
def victim(tmp_path):
    """A file of the user's outside of the run folder; it must stay as it is."""
    path = tmp_path / "victim"
    path.write_text(SECRET)
    yield path
    assert path.read_text() == SECRET


@pytest.fixture
def root(tmp_path):
    """The folder of a run."""
    path = tmp_path / "run"
    path.mkdir()
    return path


class Shell:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def pickled(tmp_path):
    """A pickle that leaves a mark when it is read."""
    mark = tmp_path / "run_by_a_pickle"
    yield pickle.dumps(Shell(mark))
    assert not mark.exists()


def refused(call, *words):
    """`call` must raise a UserError of one line that holds all words."""
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert str(word) in str(caught.value)


# Files that are none


def test_a_pipe_a_device_and_a_giant_are_no_texts(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "giant", "wb") as file:
        file.truncate(files.LARGEST + 1)
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(ValueError, match="no regular file"):
            files.read_bytes(path)
    with pytest.raises(ValueError, match="more than 268,435,456 bytes"):
        files.read_bytes(tmp_path / "giant")
    with open(tmp_path / "giant", "wb") as file:
        file.truncate(3)
    assert files.read_bytes(tmp_path / "giant", most=3) == bytes(3)


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "metrics.jsonl", "checkpoint.json", "sweep.jsonl",
                                  "source.json", "report.json"])  # fmt: skip
def test_no_reader_waits_for_a_pipe(root, name):
    readers = {
        "config.yaml": config.read_yaml, "run.json": lambda path: run_folder.read_record(path.parent),
        "metrics.jsonl": lambda path: metrics.read(path.parent), "sweep.jsonl": Ledger, "report.json": saved.read,
        "checkpoint.json": lambda path: checkpoint._read_index(path),
        "source.json": lambda path: source_data.read_card(path.parent),
    }  # fmt: skip
    os.mkfifo(root / name)
    refused(lambda: readers[name](root / name), root / name)


# YAML


def laughs(levels):
    lines = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(["a0: &a0 [x]", *lines])


@pytest.mark.parametrize("text", [
    "a: !!python/object/apply:os.system ['touch mark']", "!!python/name:os.system", laughs(9), "a: &a [*a]",
    "a: " + "9" * 5000, "a: 1\na: 2", "? [1, 2]\n: 3", "a: \0", "a: ${b", "[1, 2]", "null: 1",
    "a: " + "[" * 50 + "]" * 50, "\n".join(" " * i + "a:" for i in range(52)),
])  # fmt: skip
def test_a_hostile_yaml_is_a_line(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(text)
    refused(lambda: config.read_yaml(tmp_path / "x.yaml"), tmp_path / "x.yaml")
    assert not (tmp_path / "mark").exists()


def test_a_pickle_is_no_yaml(tmp_path, pickled):
    (tmp_path / "x.yaml").write_bytes(pickled)
    refused(lambda: config.read_yaml(tmp_path / "x.yaml"), "cannot read")


def test_as_many_levels_as_settings_have_are_read(tmp_path):
    (tmp_path / "x.yaml").write_text("a: " + "[" * 49 + "]" * 49)
    value, levels = config.read_yaml(tmp_path / "x.yaml")["a"], 1
    while value:
        (value,), levels = value, levels + 1
    assert levels == 49


def test_a_yaml_without_end_does_not_end_the_process(tmp_path):
    """In a process of its own: the parser's recursion is C, and would take all of this one with it.

    Some builds of libyaml have a limit of their own, in other words.
    """
    (tmp_path / "x.yaml").write_text("a: " + "[" * 100_000)
    argv = [sys.executable, "-m", "meta_latent", "config", str(tmp_path / "x.yaml")]
    found = subprocess.run(argv, capture_output=True, text=True)
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert "x.yaml" in found.stderr and ("levels deep" in found.stderr or "nesting depth" in found.stderr)


@pytest.mark.parametrize(("given", "words"), [
    ({"name": "${oc.env:A_SECRET}"}, "takes the name of another key"),
    ({"seed": "${oc.decode:'9'}"}, "takes the name of another key"),
    ({"name": "x${oc.create:{a: 1}}"}, "takes the name of another key"),
    ({"name": "${${out}}"}, "takes the name of another key"),
    ({"name": "${.out}"}, "takes the name of another key"),
    ({"name": "${out}", "out": "${name}"}, "holds a ${...} itself"),
    ({"suite": {"a": "x", **{f"a{i}": [f"${{suite.a{i - 1}}}"] * 9 for i in range(1, 12)}}}, "another key"),
    ({"suite": {"b0": "x", **{f"b{i}": f"${{suite.b{i - 1}}}${{suite.b{i - 1}}}" for i in range(1, 99)}}}, "itself"),
])  # fmt: skip
def test_references_read_no_environment_and_do_not_multiply(monkeypatch, given, words):
    monkeypatch.setenv("A_SECRET", SECRET.replace(" ", "_"))
    if "a1" in given.get("suite", {}):
        given["suite"]["a0"], words = given["suite"].pop("a"), "holds a ${...} itself"
    refused(lambda: config.load(ExperimentConfig, [config.find("experiment", "toy"), given]), words)


def test_a_reference_to_a_value_is_that_value():
    given = {"seed": 3, "name": "n_${seed}", "out": "${pretrain.env_steps}"}
    with contextlib.suppress(UserError):
        config.load(ExperimentConfig, [given])
    assert config.load(ExperimentConfig, [given | {"out": "x"}]).name == "n_3"


# Checkpoints


def header(content):
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


def torch_file():
    file = io.BytesIO()
    torch.save({"a": 1}, file)
    return file.getvalue()


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


HUGE = {"state.a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}


@pytest.mark.parametrize("change", [
    {"blob": torch_file()}, {"blob": b""}, {"blob": struct.pack("<Q", 2**63) + b"{}"}, {"blob": header(HUGE) + b"0000"},
    {"blob": header({"state.a": {"dtype": "OBJ", "shape": [1], "data_offsets": [0, 4]}}) + b"0000"},
    {"state": {"a": {"$tensor": "gone"}}}, {"state": {"a": {"$tensor": ["x"]}}}, {"state": {"a": {"$float": "x"}}},
    {"state": [1]}, {"state": {"a": nested(900)}}, {"tensors": ".."}, {"tensors": "../x"}, {"tensors": "a\0b"},
    {"tensors": 3}, {"blob": "pickle"},
])  # fmt: skip
def test_a_checkpoint_with_the_right_checksums_is_still_refused(root, pickled, change):
    checkpoint.save(root, {"a": torch.ones(3), "b": np.ones(2)})
    index = json.loads((root / checkpoint.INDEX).read_text())
    blob = change.get("blob", (root / index["tensors"]).read_bytes())
    blob = pickled if blob == "pickle" else blob
    (root / "t.safetensors").write_bytes(blob)
    index |= {"tensors": "t.safetensors", "tensors_sha256": hashlib.sha256(blob).hexdigest()}
    index |= {key: value for key, value in change.items() if key != "blob"}
    index["state_sha256"] = checkpoint._tree_sha256(index["state"])
    (root / checkpoint.INDEX).write_text(json.dumps(index))

    def load():
        with checkpoint.fitting(root):
            pass

    refused(load, "checkpoint file", root)


@pytest.mark.parametrize("line", ["[]", "1", "null", "{}", '"kind"'])
def test_a_line_of_another_kind_is_no_record(root, line):
    (root / "metrics.jsonl").write_text(f"{line}\n")
    refused(lambda: metrics.read(root, "evaluation"), "metrics.jsonl, line 1", "out=")


@pytest.mark.parametrize("place", ['"x"', "null", "[]", "1e999"])
def test_a_log_whose_clock_is_none(root, place):
    (root / "metrics.jsonl").write_text(f'{{"kind": "train", "env_steps": {place}}}\n')
    refused(lambda: metrics.MetricLog(root), "has no env_steps")


# Links


def links_of(root, victim):
    """Links that a run would write through, by name."""
    (root.parent / "elsewhere").mkdir()
    return {
        "metrics.jsonl": victim, ".lock": victim, "checkpoints": root.parent / "elsewhere",
        "source/segment_000000/reward.bin": victim, "videos/../images": root.parent / "elsewhere",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["metrics.jsonl", ".lock", "checkpoints", "source/segment_000000/reward.bin"])
def test_a_run_writes_through_no_link(root, victim, name):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(links_of(root, victim)[name])
    refused(lambda: RunFolder(root, CONFIG), root)
    assert os.listdir(root.parent / "elsewhere") == []
    path.unlink()
    RunFolder(root, CONFIG).close()  # and the lock is free


def test_a_users_own_link_beside_the_files_of_a_run_stays(root, victim):
    (root / "notes.md").symlink_to(victim)
    with run_folder.RunFolder(root, {}, seed=0) as folder:
        folder.finish("done")


def test_links_within_the_run_and_to_the_whole_of_it_stay(root, tmp_path):
    (root / "a").write_text("")
    (root / "b").symlink_to("a")
    (tmp_path / "link").symlink_to(root)
    for folder in (root, tmp_path / "link"):
        RunFolder(folder, CONFIG).close()


def test_links_that_lead_in_a_circle_are_refused(root):
    (root / "a").symlink_to("../b")
    (root.parent / "b").symlink_to("run/a")
    with contextlib.suppress(UserError):  # inside or outside: it leads nowhere
        RunFolder(root, CONFIG).close()


def test_nothing_is_appended_through_a_link(root, victim):
    for name in ("sweep.jsonl", "output.log"):
        (root / name).symlink_to(victim)
    with pytest.raises(RunError, match="could not write .*sweep.jsonl"):
        Ledger(root / "sweep.jsonl").add("a", "k", "s", outcome="done", seconds=1.0, status=0, line="")
    process = LocalProcess(Cell("a", (sys.executable, "-c", "print('said')"), log=root / "output.log"))
    process.wait()
    assert "cannot write" in process.reason()


def test_reading_a_replay_cuts_nothing(toy, toy_model, tmp_path):
    """A model's card may name any folder as its data, and any length."""
    import shutil

    run = tmp_path / "run"
    shutil.copytree(toy_model, run)
    path = run / "source" / "segment_000000" / "reward.bin"
    path.write_bytes(path.read_bytes() + b"more")
    card = json.loads((run / "model" / "source.json").read_text())
    card["sha256"] = source_data.digest(run / "source")
    (run / "model" / "source.json").write_text(json.dumps(card))
    before = path.read_bytes()
    replay = source_data.open_replay(run / "model", source_data.spec_of(card, run), card["heads"], 3)
    assert len(replay.episodes) == 3 and path.read_bytes() == before
    for change in ({"config": {}}, {"config": {"segment": 1, "memory_map": False}, "state": {}},
                   {"state": card["state"] | {"episodes": [[9, 0, 1]]}},
                   {"state": card["state"] | {"episodes": [[0, -5, 2**70]]}}):  # fmt: skip
        (run / "model" / "source.json").write_text(json.dumps(card | change))
        refused(lambda: source_data.open_replay(run / "model", source_data.spec_of(card, run), card["heads"], 3),
                "source.json is damaged")  # fmt: skip
    for spec in ([], {"images": 3}, {"images": {}, "proprio": "x", "action_size": 1, "reward_inputs": 0}):
        refused(lambda s=spec: source_data.spec_of({"spec": s}, run), "source.json is damaged")


@pytest.mark.parametrize("command", [["report"], ["adapt"], ["evaluate", "video=1"]])
def test_no_command_writes_through_a_link(toy, toy_cell, victim, capsys, command):
    root = toy_cell.parents[4]
    elsewhere = victim.parent / "elsewhere"
    elsewhere.mkdir()
    name, *options = command
    link = {"report": root / "report", "adapt": root / "adapt", "evaluate": toy_cell / "videos"}[name]
    link.symlink_to(elsewhere)
    try:
        assert cli.main([name, str(toy_cell if name == "evaluate" else root), *options]) == 2
    finally:
        link.unlink()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "leads out of" in error and str(link) in error
    assert os.listdir(elsewhere) == []


def test_no_file_elsewhere_is_exported_as_episodes(toy_cell, victim):
    path = toy_cell / "replay" / "segment_000000" / "reward.bin"
    kept = path.rename(victim.parent / "reward.bin")
    path.symlink_to(kept)
    try:
        refused(lambda: logged_data.open_run(toy_cell), path, "leads out of")
    finally:
        path.unlink()
        kept.rename(path)
    assert len(logged_data.open_run(toy_cell).episodes) > 0


def test_a_lock_that_is_a_pipe_is_not_waited_for(root):
    os.mkfifo(root / run_folder.LOCK)
    assert not run_folder.in_use(root)


@pytest.fixture(scope="module")
def toy_cell(tmp_path_factory):
    """A finished run on many short trials, so that `adapt` takes it."""
    from conftest import run_transfer

    target = "{suite: toy/lqr, tasks: 2, test_tasks: 2}"
    return run_transfer(tmp_path_factory.mktemp("cell"), "sac/scratch", f"transfer.targets.goal={target}")


# What a report shows


PNG, MP4 = b"\x89PNG\r\n\x1a\n", b"\0\0\0\x20ftypisom"


@pytest.mark.parametrize(("suffix", "mark"), [(".png", PNG), (".mp4", MP4)])
def test_only_pictures_and_films_of_the_run_are_shown(root, victim, suffix, mark):
    (root / f"a{suffix}").write_bytes(mark + b"data")
    (root / f"b{suffix}").write_bytes(b"<svg onload='alert(1)'/>")
    (root / f"c{suffix}").symlink_to(victim)
    (root.parent / f"outside{suffix}").write_bytes(mark)
    (root / f"d{suffix}").symlink_to(root.parent / f"outside{suffix}")
    os.mkfifo(root / f"e{suffix}")
    (root / f"f{suffix}").mkdir()
    notes = []
    assert records.media(root, suffix, notes) == (root / f"a{suffix}",)
    assert len(notes) == 5 and all("is left out" in note for note in notes)


def test_a_folder_of_films_that_leads_out_of_its_run_is_left_out(root):
    private = root.parent / "private"
    private.mkdir()
    (private / "holiday.mp4").write_bytes(MP4 + b"data")
    (root / "videos").symlink_to(private)
    notes = []
    assert records.media(root / "videos", ".mp4", notes) == () and "videos/ is left out: it is a link" in notes[0]


def test_a_comparison_is_not_written_through_a_link(toy_cell, victim, capsys):
    root, elsewhere = toy_cell.parents[4], victim.parent / "elsewhere"
    elsewhere.mkdir()
    (root / "report").symlink_to(elsewhere)
    try:
        assert cli.main(["report", str(root), str(root)]) == 2
    finally:
        (root / "report").unlink()
    assert "leads out of" in capsys.readouterr().err and os.listdir(elsewhere) == []


@pytest.mark.parametrize("arms", [[{"a": 1}], [["x"]], [5]])
def test_arms_of_another_kind_are_not_planned(root, arms):
    told = {"transfer": {"arms": [*arms, "sac/scratch"], "targets": {"goal": {}}, "seeds": [0]}}
    (root / "experiment.yaml").write_text(json.dumps(told))
    assert settings_shown.planned(root) == ({"goal": ["sac/scratch"]}, ["0"])


def test_a_report_passes_on_nothing_that_a_link_leads_to(root, tmp_path):
    (tmp_path / "hosts.yaml").write_text(f"token: {SECRET}\n")
    (tmp_path / "other.json").write_text(json.dumps({"token": SECRET}))
    for name, to in (("config.yaml", "hosts.yaml"), ("run.json", "other.json"), ("metrics.jsonl", "other.json")):
        (root / name).symlink_to(tmp_path / to)
    notes = []
    assert settings_shown.stored(root) == {} and records.read_json(root / "run.json", notes) == {}
    assert records.read_log(root / "metrics.jsonl", "env_steps", None, notes).train == ()
    assert notes == ["run.json cannot be read (ValueError)", "metrics.jsonl cannot be read (ValueError)"]
    (tmp_path / "link").symlink_to(root)  # as in a sweep, whose equal runs are one
    (root / "run.json").unlink()
    (root / "run.json").write_text('{"status": "done"}')
    assert records.read_json(tmp_path / "link" / "run.json", notes) == {"status": "done"}


# Beliefs


FACTS = {"arm": "a/b", "target": "t", "seed": 0, "task": "x", "below": 1, "tasks": 2, "returns": [1.0], "lengths": [3],
         "axes": ["x", "y"], "extent": [0, 1, 0, 1], "goal": None, "told": {}, "format": 1}  # fmt: skip


def belief(path, facts=None, **arrays):
    whole = {"observations": np.zeros(1, int), "maps": np.zeros((1, 2, 2)), "paid": np.zeros((2, 2)),
             "scenes": np.zeros((0, 1, 1, 3), np.uint8), "places": np.zeros((3, 2))}  # fmt: skip
    np.savez_compressed(path, facts=np.array(facts or json.dumps(FACTS)), **{**whole, **arrays})


def bomb(path):
    """Some hundred bytes that unpack to more than is let in."""
    belief(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("more.npy", bytes(2**20))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<L", 2**20), struct.pack("<L", beliefs.LARGEST + 1)))


def endless(path):
    """An array whose header says that it has ten thousand million numbers."""
    belief(path)
    with zipfile.ZipFile(path) as file:
        kept = {name: file.read(name) for name in file.namelist() if name != "observations.npy"}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<i8", "fortran_order": False, "shape": (10**13,)})
    with zipfile.ZipFile(path, "w") as file:
        for name, data in {**kept, "observations.npy": head.getvalue()}.items():
            file.writestr(name, data)


ATTACKS = {
    "objects": lambda path: belief(path, maps=np.array([[["x"]]], dtype=object)),
    "deep": lambda path: belief(path, '{"a":' * 100_000),
    "a word": lambda path: belief(path, '"x"'),
    "told a list": lambda path: belief(path, json.dumps(FACTS | {"told": [1]})),
    "lengths of words": lambda path: belief(path, json.dumps(FACTS | {"lengths": ["a"]})),
    "flat maps": lambda path: belief(path, maps=np.zeros(1)),
    "complex maps": lambda path: belief(path, maps=np.zeros((1, 2, 2), complex)),
    "maps of words": lambda path: belief(path, maps=np.full((1, 2, 2), "a")),
    "an array": lambda path: np.save(path.open("wb"), np.ones(1)),
    "bomb": bomb,
    "endless": endless,
    "pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_belief_is_left_out_with_a_note(root, attack):
    path = root / "adapt" / "t" / "a" / "b" / "0" / "belief_0.npz"
    path.parent.mkdir(parents=True)
    belief(path)
    notes = []
    assert len(beliefs.find(root, notes)) == 1 and not notes
    path.unlink()
    ATTACKS[attack](path)
    assert beliefs.find(root, notes) == [] and len(notes) == 1 and "is left out" in notes[0]


def test_a_pickle_is_no_belief(root, pickled):
    path = root / "adapt" / "t" / "a" / "b" / "0" / "belief_0.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickled)
    notes = []
    assert beliefs.find(root, notes) == [] and len(notes) == 1


# Names


@pytest.mark.parametrize("variants", [
    [{"name": "../../x", "group": "g", "values": {}}], [{"name": "/etc", "group": "g", "values": {}}],
    [{"name": "..", "group": "g", "values": {}}], [3], {"name": "x"}, [{"name": "x"}], None,
    [{"name": "x", "group": "g", "values": 3}], [{"name": ["x"], "group": "g", "values": {}}],
])  # fmt: skip
def test_a_sweep_has_its_variants_inside(root, variants):
    (root / "sweep.json").write_text(json.dumps({"format": 1, "variants": variants}))
    refused(lambda: sweep_report.build(root), "holds no sweep")


@pytest.mark.parametrize("text", ["[]", "3", '{"format": 1}', '{"format": [1]}', "{" * 5000, '{"a":' * 100_000])
def test_a_report_json_of_another_kind(root, text):
    (root / "report.json").write_text(text)
    refused(lambda: saved.read(root / "report.json"), "report.json")


# Terminals


ESCAPES = "\x1b]0;title\x07\x1b[2Jname\x9b31m\u202e"


def quiet(text):
    return not any(letter in text for letter in "\x1b\x07\x9b\u202e")


def test_escapes_are_shown_and_not_sent(capsys, tmp_path):
    from meta_latent.experiment.commands.report import say
    from meta_latent.experiment.learning.sweep import _tail

    assert visible("a\tb\nä 日本 × \u200d") == "a\tb\nä 日本 × \u200d"
    assert visible("\x1b[2J\r") == "\\x1b[2J\\r"
    say(ESCAPES)
    assert cli._report(UserError(ESCAPES), 2) == 2
    output = Output()
    output.add(f"meta-latent: {ESCAPES}\n")
    ledger = tmp_path / "sweep.jsonl"
    ledger.write_text(json.dumps({"cell": "a", "kind": "k", "settings": "s", "seconds": 1, "outcome": "failed",
                                  "line": ESCAPES}) + "\n")  # fmt: skip
    (tmp_path / "output.log").write_text(ESCAPES)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err, output.last_line, output.reason(1), Ledger(ledger).line("a"),
                 *_tail(tmp_path / "output.log")):  # fmt: skip
        assert "name" in text and quiet(text)


def test_a_checkpoint_that_is_passed_over_is_named_without_escapes(toy, tmp_path, capsys, monkeypatch):
    from meta_latent.experiment.runs.resumable import Progress, Resumable

    with RunFolder(tmp_path, CONFIG) as folder:
        run = Resumable(folder, {"progress": Progress(n=0)})
        run.save()
        run._parts["progress"]["n"] = 1
        run.save()
        index = tmp_path / "checkpoints" / checkpoint.INDEX
        content = json.loads(index.read_text()) | {"tensors": ESCAPES}
        index.write_text(json.dumps(content))
        assert run.resume()
    assert quiet(capsys.readouterr().err)
