"""Run folders: the lock, the config check, and the record of how a run ended."""

import errno
import fcntl
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from meta_latent import files
from meta_latent.errors import RunError, UserError
from meta_latent.experiment.runs import checkpoint, run_folder
from meta_latent.experiment.runs.latitude import Latitude
from meta_latent.experiment.runs.run_folder import RunFolder

CONFIG = {"seed": 1, "model": {"sizes": [1, 2]}, "device": "cpu"}


@dataclass(frozen=True)
class Config:
    """A dataclass config."""

    rate: float = 0.1
    sizes: tuple[int, ...] = (1, 2)


def record(path):
    return json.loads((path / "run.json").read_text())


def test_a_run_from_start_to_done(tmp_path):
    path = tmp_path / "a" / "0"
    with RunFolder(path, CONFIG, seed=5) as folder:
        assert not folder.done and record(path)["status"] == "running"
        assert folder.path("videos", "a.mp4").parent.is_dir()
        folder.finish("done", env_steps=7)
    found = record(path)
    assert (found["status"], found["env_steps"], found["seed"]) == ("done", 7, 5)
    assert found["versions"]["torch"].startswith("2.") and found["command"] == sys.argv
    assert set(found["machine"]) == {"system", "processor", "cores"} and found["machine"]["cores"].endswith("cores")
    with RunFolder(path, CONFIG, seed=5) as folder:
        assert folder.done and folder.record["env_steps"] == 7
    assert record(path) == found  # a finished run stays finished


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "interrupted"), (ValueError("bad"), "failed")])
def test_how_a_run_ends_is_recorded_and_it_can_be_resumed(tmp_path, error, status):
    with pytest.raises((KeyboardInterrupt, ValueError)), RunFolder(tmp_path, CONFIG):
        raise error
    found = record(tmp_path)
    assert found["status"] == status and found.get("error") == {"failed": "ValueError: bad"}.get(status)
    with RunFolder(tmp_path, CONFIG) as folder:
        assert not folder.done
    again = record(tmp_path)
    assert again["status"] == "running" and "error" not in again and again["started"] == found["started"]


def test_an_error_after_done_does_not_undo_it(tmp_path):
    with pytest.raises(ValueError), RunFolder(tmp_path, CONFIG) as folder:
        folder.finish("done")
        raise ValueError
    assert record(tmp_path)["status"] == "done"


def test_the_first_differing_key_is_named_with_both_values(tmp_path):
    RunFolder(tmp_path, CONFIG).close()
    for change, text in [
        ({"seed": 2}, "seed=1, but this command says seed=2"),
        ({"model": {"sizes": [1, 3]}}, r"model.sizes\[1\]=2, but this command says model.sizes\[1\]=3"),
        ({"model": {"sizes": [1]}}, r"model.sizes\[1\]=2, .* model.sizes\[1\]=\(not set\)"),
        ({"extra": 1}, r"extra=\(not set\), .* extra=1"),
    ]:
        with pytest.raises(UserError, match=text):
            RunFolder(tmp_path, {**CONFIG, **change})
    RunFolder(tmp_path, CONFIG).close()  # a refused folder is unchanged and not left locked


def test_allowed_differences(tmp_path):
    RunFolder(tmp_path, CONFIG).close()
    RunFolder(tmp_path, {**CONFIG, "device": "cuda"}, latitude=Latitude(("device",))).close()
    assert "cuda" in (tmp_path / "config.yaml").read_text()
    with pytest.raises(UserError, match=r"devices=\(not set\)"):
        RunFolder(tmp_path, {**CONFIG, "devices": 2}, latitude=Latitude(("device",)))


@pytest.fixture
def finished(tmp_path):
    """Opens a run of 5 steps that has finished, with its checkpoint, with other numbers of steps."""

    def opened(steps, latitude=Latitude(may_grow=("of.steps",)), at=tmp_path / "run", **more):  # noqa: B008
        return RunFolder(at, {**CONFIG, "of": {"steps": steps}, **more}, seed=3, latitude=latitude)

    with opened(5) as folder:
        checkpoint.save(folder.path(run_folder.CHECKPOINT), {"at": 5})
        folder.finish("done", steps=5)
    return opened


def test_what_may_grow_goes_on_with_a_finished_run(finished, tmp_path, monkeypatch):
    with finished(5) as folder:
        assert folder.done
    for wrong in ({"steps": None}, {"steps": 6, "seed": 2}):
        with pytest.raises(UserError, match="give the same value"):
            finished(**wrong)
    with pytest.raises(UserError, match=r"of\.steps=5, .* says of\.steps=4; it may get more, and not less than 5: "):
        finished(4)
    with pytest.raises(UserError, match=r"of\.steps=6; give the same value"):
        finished(6, Latitude())
    before, written, write = record(tmp_path / "run"), [], files.atomic_write_bytes
    monkeypatch.setattr(files, "atomic_write_bytes", lambda path, data: written.append(path.name) or write(path, data))
    with finished(6) as folder:
        assert not folder.done and not written
        folder.begin(budget=6)
        now = record(tmp_path / "run")
        assert (now["status"], now["budget"], now["seed"]) == ("running", 6, 3) and "steps" not in now
        assert now["settings_sha256"] != before["settings_sha256"] and now["started"] == before["started"]
    assert written[:2] == ["run.json", "config.yaml"]  # a kill between the two leaves no finished run of 6 steps
    with finished(6) as folder:
        assert not folder.done


def test_a_finished_run_that_cannot_go_on_is_left_as_it_was(finished, tmp_path):
    files_ = [tmp_path / "run" / name for name in ("run.json", "config.yaml")]
    before = [path.read_bytes() for path in files_]
    for error in (UserError("the replay is gone"), KeyboardInterrupt()):
        with pytest.raises(type(error)), finished(6):
            raise error  # before `begin`
        assert [path.read_bytes() for path in files_] == before
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(UserError, match="is a link to a run of .*, which is not given more through it"):
        finished(6, at=tmp_path / "link")
    shutil.rmtree(tmp_path / "run" / run_folder.CHECKPOINT)
    with pytest.raises(UserError, match="holds a finished run without its checkpoint, which cannot go on"):
        finished(6)
    assert [path.read_bytes() for path in files_] == before
    with finished(5) as folder:
        assert folder.done


def test_dataclass_config_survives_its_round_trip(tmp_path):
    for _ in range(2):
        RunFolder(tmp_path, Config(rate=1e-7)).close()
    with pytest.raises(UserError, match="rate=1e-07"):
        RunFolder(tmp_path, Config())


def test_nan_equals_nan_in_a_config(tmp_path):
    for _ in range(2):
        RunFolder(tmp_path, {"x": float("nan"), "y": float("inf")}).close()


HOLDER = """
import sys
from meta_latent.experiment.runs.latitude import Latitude
from meta_latent.experiment.runs.run_folder import RunFolder
with RunFolder(sys.argv[1], {"seed": 1, "model": {"sizes": [1, 2]}, "device": "cpu"}):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_refused_with_the_holders_pid_until_it_is_killed(tmp_path):
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid}"):
            RunFolder(tmp_path, CONFIG)
        holder.kill()
        holder.wait()
        RunFolder(tmp_path, CONFIG).close()


def test_who_only_asks_whether_a_folder_is_in_use_does_not_keep_it_from_a_run(tmp_path, monkeypatch):
    """The question takes the lock for a moment; here for as long as two tries of the run take."""
    real, refused = fcntl.flock, []

    def flock(descriptor, operation):
        if operation & fcntl.LOCK_EX and len(refused) < 2:
            refused.append(descriptor)
            raise BlockingIOError
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with RunFolder(tmp_path, CONFIG) as folder:
        assert len(refused) == 2 and not folder.done


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "a").write_text("")
    for path in (tmp_path / "a", tmp_path / "a" / "b", "/proc/x", tmp_path / ("n" * 300)):
        with pytest.raises(UserError, match="cannot write to the run folder"):
            RunFolder(path, CONFIG)


@pytest.mark.parametrize("call", ["os.mkdir", "os.open", "os.write", "os.ftruncate"])
@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (errno.EROFS, UserError, "cannot write to the run folder .*: Read-only"),
        (errno.EIO, UserError, "cannot write to the run folder .*: Input/output"),
        (errno.ENOSPC, RunError, "disk is full"),
        (errno.EDQUOT, RunError, "disk is full"),
    ],
)
def test_a_disk_that_fails_at_the_first_step(tmp_path, monkeypatch, call, code, error, text):
    """A read-only one, and one that is full when the lock is written."""

    def fail(*arguments, **options):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        with pytest.raises(error, match=text):
            RunFolder(tmp_path / "run", CONFIG)
    RunFolder(tmp_path / "run", CONFIG).close()  # and the lock is free


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC])
def test_a_disk_that_fails_later(tmp_path, monkeypatch, code):
    def hook(event, path):
        raise OSError(code, "no")

    monkeypatch.setattr(files, "fault_hook", hook)
    with pytest.raises(RunError, match=r"config\.yaml"):
        RunFolder(tmp_path, CONFIG)


def test_a_record_never_holds_what_json_lacks(tmp_path):
    with RunFolder(tmp_path, CONFIG) as folder:
        held_out = {"a": [np.float32("inf")], "b": -np.inf}
        folder.finish("done", threshold=float("nan"), held_out=held_out, n=1.5)
    text = (tmp_path / "run.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    found = record(tmp_path)
    assert found["threshold"] is None and found["held_out"] == {"a": [None], "b": None} and found["n"] == 1.5


@pytest.mark.parametrize("text", ["{", "[]", '{"a":' * 100_000])
def test_a_damaged_record_is_a_user_error(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json"):
        RunFolder(tmp_path, CONFIG)
    assert run_folder.read_record(tmp_path / "nowhere") == {}


def test_a_damaged_config_is_a_user_error(tmp_path):
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match=r"config\.yaml"):
        RunFolder(tmp_path, CONFIG)


def test_facts_keep_their_types(tmp_path):
    with RunFolder(tmp_path, CONFIG) as folder:
        folder.finish("done", score=np.float32(0.5), steps=np.int64(3), model=tmp_path)
        with pytest.raises(TypeError, match="object"):
            folder.finish("done", bad=object())
    found = record(tmp_path)
    assert (found["score"], found["steps"], found["model"]) == (0.5, 3, str(tmp_path))


def test_a_full_disk_at_the_end_does_not_hide_the_error_that_came_first(tmp_path, monkeypatch):
    def hook(event, path):
        raise OSError(28, "No space left on device")

    with pytest.raises(ZeroDivisionError), RunFolder(tmp_path, CONFIG):
        monkeypatch.setattr(files, "fault_hook", hook)
        raise ZeroDivisionError
    monkeypatch.setattr(files, "fault_hook", None)
    RunFolder(tmp_path, CONFIG).close()  # and the lock is free


def test_the_commit_is_ours_or_none(tmp_path, monkeypatch):
    def git(*arguments):
        options = ["-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
        subprocess.run(["git", *options, *arguments], check=True, capture_output=True)

    package = tmp_path / "site-packages" / "meta_latent"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(run_folder.meta_latent, "__file__", str(package / "__init__.py"))
    commit = run_folder.commit.__wrapped__  # without its memory
    assert commit() is None
    git("init")
    git("commit", "--allow-empty", "-m", "somebody else's repository")
    assert commit() is None
    git("add", ".")
    git("commit", "-m", "ours")
    clean = commit()
    assert len(clean) == 40
    (package / "__init__.py").write_text("changed = 1")
    assert commit() == f"{clean}+changes"


def test_a_process_asks_for_commit_and_versions_once(monkeypatch):
    before = run_folder.commit(), run_folder.versions()
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.setattr(importlib.metadata, "version", None)
    run_folder.versions()["numpy"] = "a copy"
    assert (run_folder.commit(), run_folder.versions()) == before


def test_unknown_status(tmp_path):
    with RunFolder(tmp_path, CONFIG) as folder, pytest.raises(ValueError, match="finished"):
        folder.finish("finished")
