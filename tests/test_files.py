"""Atomic writing: old or new content after a fault before any step; a full disk is a RunError."""

import contextlib
import errno
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from meta_latent import files
from meta_latent.errors import RunError


class Stop(Exception):
    """Stands for a kill."""


def fail_at(monkeypatch, step, error):
    """Raise `error` before the step with this number; returns the list of events seen so far."""
    seen = []

    def hook(event, path):
        seen.append(event)
        if len(seen) - 1 == step:
            raise error

    monkeypatch.setattr(files, "fault_hook", hook)
    return seen


def test_write_announces_write_sync_rename_and_folder_sync_in_this_order(tmp_path, monkeypatch):
    seen = fail_at(monkeypatch, None, None)
    files.atomic_write_bytes(tmp_path / "a", b"new")
    assert seen == ["write", "sync", "rename", "sync"]
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("step", range(4))
def test_interrupted_write_leaves_old_or_new(tmp_path, monkeypatch, step):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    fail_at(monkeypatch, step, Stop())
    with pytest.raises(Stop):
        files.atomic_write_bytes(path, b"new")
    assert path.read_bytes() == (b"old" if step < 3 else b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", range(3))
def test_full_disk_is_a_run_error_that_names_the_file(tmp_path, monkeypatch, step, code):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    fail_at(monkeypatch, step, OSError(code, "full"))
    with pytest.raises(RunError, match=r"disk is full.*/a;"):
        files.atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old"


WRITERS = {
    "write": lambda path: files.atomic_write_bytes(path, b"new"),
    "append": lambda path: files.append_bytes(path, b"new"),
    "folder": lambda path: build(path, "new"),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_disk_that_cannot_be_written_is_a_run_error_that_names_the_file(tmp_path, monkeypatch, writer, code):
    fail_at(monkeypatch, 0, OSError(code, "broken disk"))
    with pytest.raises(RunError, match="could not write .*/a: broken disk; ") as caught:
        WRITERS[writer](tmp_path / "a")
    assert "full" not in str(caught.value)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_path_that_cannot_be_is_a_run_error(tmp_path, writer):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a", tmp_path / ("a" * 300), "/proc/nothing"):
        with pytest.raises(RunError, match="could not write"):
            WRITERS[writer](path)


def test_a_bug_in_the_block_of_a_folder_stays_what_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError), files.atomic_folder(tmp_path / "a"):
        raise ZeroDivisionError


def test_append_returns_length_and_cuts_off_what_failed(tmp_path, monkeypatch):
    path = tmp_path / "a"
    assert files.append_bytes(path, b"123") == 3
    assert files.append_bytes(path, b"45", sync=False) == 5
    fail_at(monkeypatch, 1, OSError(errno.ENOSPC, "full"))  # written, but not synced
    with pytest.raises(RunError):
        files.append_bytes(path, b"678")
    assert path.read_bytes() == b"12345"


def test_append_to_a_really_full_device():
    with pytest.raises(RunError, match="/dev/full"):
        files.append_bytes("/dev/full", b"x")


def build(path, text):
    with files.atomic_folder(path) as folder:
        (folder / "x").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "y").write_text(text)


def test_folder_replaces_the_old_one(tmp_path):
    build(tmp_path / "model", "old")
    build(tmp_path / "model", "new")
    assert (tmp_path / "model" / "sub" / "y").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_interrupted_folder_is_old_or_new_after_recovery(tmp_path, monkeypatch):
    path = tmp_path / "model"
    seen = fail_at(monkeypatch, None, None)
    build(path, "old")
    build(path, "old")
    steps, outcomes = len(seen), set()
    for step in range(steps):
        build(path, "old")
        fail_at(monkeypatch, step, Stop())
        with pytest.raises(Stop):
            build(path, "new")
            build(path, "new")
        monkeypatch.setattr(files, "fault_hook", None)
        files.recover_folder(path)
        texts = {(path / "x").read_text(), (path / "sub" / "y").read_text()}
        assert len(texts) == 1, "a mixture"
        outcomes |= texts
    assert outcomes == {"old", "new"}


def test_folder_can_be_replaced_after_a_kill_just_before_the_old_one_was_deleted(tmp_path):
    build(tmp_path / "model", "old")
    build(tmp_path / ".model.previous", "older")
    build(tmp_path / "model", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "x").read_text() == "new"


def test_who_reads_a_folder_while_it_is_replaced_takes_the_writer_for_no_killed_one(tmp_path, monkeypatch):
    path, readers = tmp_path / "model", ["one"]
    with files.atomic_folder(path) as folder:
        (folder / "x").write_text("old")

    def read(event, at):
        if (event, at) == ("rename", path) and readers:
            readers.pop()
            files.recover_folder(path)
            assert (path / "x").read_text() == "old"

    monkeypatch.setattr(files, "fault_hook", read)
    with files.atomic_folder(path) as folder:
        (folder / "x").write_text("new")
    assert (path / "x").read_text() == "new" and not readers and [one.name for one in tmp_path.iterdir()] == ["model"]


def test_a_writer_that_may_not_rename_gives_up(tmp_path, monkeypatch):
    path, tries, rename = tmp_path / "model", [], files.os.rename
    build(path, "old")

    def refused(source, to):
        tries.append(to)
        if to == path and len(tries) < 9:
            rename(files._previous(path), path)  # what a reader does
            raise OSError(errno.EACCES, "no")
        rename(source, to)

    monkeypatch.setattr(files.os, "rename", refused)
    with pytest.raises(RunError, match="could not write"):
        build(path, "new")
    assert (path / "x").read_text() == "old" and len(tries) == 2


@pytest.mark.parametrize(("code", "told"), [(errno.ENOENT, False), (errno.ENOTEMPTY, False), (errno.EACCES, True)])
def test_a_reader_does_not_mind_that_another_one_was_faster(tmp_path, monkeypatch, code, told):
    def rename(*_):
        raise OSError(code, "no")

    (tmp_path / ".model.previous").mkdir()
    monkeypatch.setattr(files.os, "rename", rename)
    with pytest.raises(OSError, match="no") if told else contextlib.nullcontext():
        files.recover_folder(tmp_path / "model")


def test_exception_in_the_folder_block_changes_nothing(tmp_path):
    build(tmp_path / "model", "old")
    with pytest.raises(Stop), files.atomic_folder(tmp_path / "model") as folder:
        (folder / "x").write_text("new")
        raise Stop
    assert (tmp_path / "model" / "x").read_text() == "old"


@pytest.mark.parametrize("event", ["write", "sync", "rename"])
def test_a_process_of_the_same_number_elsewhere_may_write_the_same_file_meanwhile(tmp_path, monkeypatch, event):
    """As cells in containers do, of which each is process 1, when they begin and keep the experiment's settings."""

    def hook(now, path):
        if now == event:
            monkeypatch.setattr(files, "fault_hook", None)
            files.atomic_write_bytes(path, b"of the other")
            assert path.read_bytes() == b"of the other"

    monkeypatch.setattr(files, "fault_hook", hook)
    files.atomic_write_bytes(tmp_path / "a", b"mine")
    assert (tmp_path / "a").read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 1


def test_leftovers_go_and_other_files_stay(tmp_path):
    (tmp_path / f".a{files.TEMPORARY}1").write_text("")
    (tmp_path / f".b{files.TEMPORARY}1").mkdir()
    (tmp_path / ".hidden").write_text("")
    files.remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".hidden"]


def test_json_has_no_word_for_what_is_not_finite():
    """And numbers of other libraries are numbers."""
    value = {
        "a": [math.nan, {"b": -math.inf}, (1e300 * 1e10, 0.5)],
        "c": np.float32("nan"),
        "d": np.int64(3),
        "e": torch.tensor(math.inf),
        "f": Path("x"),
        "g": [None, True, "NaN", np.bool_(False)],
    }
    text = files.to_json(value)
    for indent in (None, 1):
        assert files.from_json(files.to_json(value, indent)) == {
            "a": [None, {"b": None}, [None, 0.5]],
            "c": None,
            "d": 3,
            "e": None,
            "f": "x",
            "g": [None, True, "NaN", False],
        }
    assert b"Infinity" not in text
    for wrong in ({"a": object()}, {1: {2}}, [b"bytes"]):
        with pytest.raises(TypeError, match="JSON cannot hold"):
            files.to_json(wrong)


def test_json_nested_without_end_is_damaged_and_no_traceback():
    for text in ("[" * 100_000, '{"a":' * 100_000, "{", b"\xff"):
        with pytest.raises(ValueError):
            files.from_json(text)


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_indented_json_is_that_of_the_standard_encoder_without_its_slow_part(monkeypatch):
    values = ({}, [], [[]], {"a": {}}, 1.5, "ä\n", [1, None, True, -2.5e-7, "x, y"], {"b": 1, "ü": "[1, 2]"},
              {"rows": [[0.1, None], [1e22, 3]], "deep": [{"one": [], "two": [1, [2, {"three": None}]]}]})  # fmt: skip
    expected = [json.dumps(value, indent=1) for value in values]

    def slow(*_):
        raise AssertionError("number by number, in Python")

    monkeypatch.setattr(json.encoder, "_make_iterencode", slow)
    assert [files.indented_json(value) for value in values] == expected
    with pytest.raises(ValueError, match="JSON compliant"):
        files.indented_json({"a": [math.inf]})
    with pytest.raises(AssertionError, match="in Python"):
        json.dumps([1.0], indent=1)
