"""Run folders: the truth about one run, locked while it runs, refused under another config."""

import contextlib
import datetime
import fcntl
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import meta_latent
from meta_latent import files
from meta_latent.errors import RunError, UserError
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.runs.devices import machine
from meta_latent.experiment.runs.latitude import NO_LATITUDE, Latitude, settings_sha256
from meta_latent.experiment.runs.processes import IN_USE
from meta_latent.experiment.settings.config import read_yaml, to_dict

CONFIG = "config.yaml"
RECORD = "run.json"
LOCK = ".lock"
CHECKPOINT = "checkpoints"
WRITTEN = (".yaml", ".json", ".jsonl", ".log")
"""Endings of the files that a run writes, beside those in its folders."""
STATUSES = ("running", "done", "failed", "interrupted")
_PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "metaworld", "omegaconf", "safetensors")


class RunFolder:
    """One run's folder: `config.yaml`, `run.json` and whatever the run writes through `path(...)`.

        with RunFolder("runs/demo/pretrain/0", config, seed=0) as folder:
            if not folder.done:
                ...
                folder.finish("done", env_steps=1000)

    A finished run that is given more to do (`latitude`) stays on the disk as it was until `begin`, so that one that
    cannot be loaded loses nothing. Leaving the block on Ctrl-C records the status "interrupted", on another exception
    "failed" with its message.

    path: made if missing. config: dataclass instance or nested dict, resolved. seed: recorded in `run.json`.
    latitude: what a run that goes on may have otherwise than it stored.
    A run that failed before it saved a checkpoint may be begun again with another config.
    Raises `UserError` if another process holds the folder (naming its pid), if its config differs (naming
    the first differing key and both values), if the folder cannot be written, or if what it writes is a link that leads
    out of it.
    """

    def __init__(
        self, path: Path | str, config: Any, *, seed: int | None = None, latitude: Latitude = NO_LATITUDE
    ):  # fmt: skip
        self.root = Path(path)
        self.config = config if isinstance(config, dict) else to_dict(config)
        self._settings_sha256, self._seed = settings_sha256(self.config, latitude.may_differ), seed
        with _writable(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.root)
            try:
                self._open(latitude)
            except BaseException:
                self.close()
                raise

    def path(self, *parts: str) -> Path:
        """Path of a file in this folder, as `path("videos", "final.mp4")`; makes the folders above it."""
        result = self.root.joinpath(*parts)
        with files.full_disk_named(result):
            result.parent.mkdir(parents=True, exist_ok=True)
        return result

    def begin(self, **facts: Any) -> None:
        """Record that the run goes on, and what is known of it by now; a finished one that is given more to do is not
        a finished one from here on.
        """
        if self._grows:
            # The record first: at no moment may it look as if what is still to do had been done.
            self.record, self._grows = {key: self.record[key] for key in ("started",) if key in self.record}, False
            self._start()
            self._write_config()
        self.finish("running", **facts)

    def finish(self, status: str, **facts: Any) -> None:
        """Record `status` (one of `STATUSES`) and further JSON-able facts in `run.json`.

        Numbers that are not finite are written as null.
        """
        if status not in STATUSES:
            raise ValueError(f"status {status!r} is not one of {STATUSES}")
        self.record.update(facts, status=status, updated=_now())
        self.done = status == "done"
        self._write_record()

    def close(self) -> None:
        """Release the lock. The folder's content stays as it is."""
        os.close(self._lock)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is not None and not self.done and not self._grows:
                if issubclass(kind, KeyboardInterrupt):
                    self.finish("interrupted")
                else:
                    self.finish("failed", error=f"{kind.__name__}: {error}")
        except (OSError, RunError):
            pass  # such as a disk that is already full: the error that brought us here is the one to show
        finally:
            self.close()

    def _open(self, latitude: Latitude) -> None:
        for entry in self.root.iterdir():
            if entry.is_dir() or entry.suffix in WRITTEN or entry.name == LOCK:  # notes of the user's stay theirs
                files.refuse_links(entry, self.root)
        files.remove_leftovers(self.root)
        self.record = read_record(self.root)
        finished = self.record.get("status") == "done"
        self._grows = self._refuse_other_config(latitude) and finished
        self.done = finished and not self._grows
        if not self._grows:
            self._write_config()
            if not self.done:
                self._start()

    def _refuse_other_config(self, latitude: Latitude) -> bool:
        """Whether the run has more to do now than it had before."""
        path, saved = self.root / CONFIG, checkpoint.exists(self.root / CHECKPOINT)
        if not path.exists() or (self.record.get("status") == "failed" and not saved):
            return False
        stored = read_yaml(path)
        latitude.refuse(self.root, stored, self.config, "give the same value, or choose another folder with out=")
        if not latitude.grows(stored, self.config):
            return False
        if self.root.is_symlink():
            raise UserError(f"{self.root} is a link to a run of {self.root.resolve().parent}, which is not given more "
                            "through it; remove the link, and the run is made here")  # fmt: skip
        if self.record.get("status") == "done" and not saved:
            raise UserError(f"{self.root} holds a finished run without its checkpoint, which cannot go on: give the "
                            "same budget, or choose another folder with out=")  # fmt: skip
        return True

    def _write_config(self) -> None:
        files.atomic_write_bytes(self.root / CONFIG, OmegaConf.to_yaml(OmegaConf.create(self.config)).encode())

    def _start(self) -> None:
        started = self.record.get("started", _now())
        self.record.pop("error", None)
        self.record.update(
            status="running", seed=self._seed, command=sys.argv, pid=os.getpid(), started=started, updated=_now(),
            settings_sha256=self._settings_sha256, versions=versions(), commit=commit(),
            machine=machine(str(self.config.get("device", "cpu"))),
        )  # fmt: skip
        self._write_record()

    def _write_record(self) -> None:
        files.atomic_write_bytes(self.root / RECORD, files.to_json(self.record, indent=1))


def read_record(folder: Path | str) -> dict[str, Any]:
    """A run folder's `run.json`, {} if there is none. Needs no lock. Damaged: `UserError`."""
    path = Path(folder) / RECORD
    if not path.exists():
        return {}
    try:
        record = files.from_json(files.read_bytes(path))
    except ValueError as error:
        raise UserError(
            f"{path} is not valid JSON ({error}); restore it, or choose another folder with out="
        ) from error
    if not isinstance(record, dict):
        raise UserError(f"{path} should hold a JSON object; restore it, or choose another folder with out=")
    return record


def has_finished(folder: Path | str, settings: Callable[[], str], checksum_of: Callable[[dict], str]) -> bool:
    """Whether the run in `folder` is done, with the settings whose checksum (`settings_sha256`) `settings` gives.

    checksum_of: see `is_of`. A damaged record, and a UserError of `settings`, count as not finished. Needs no lock.
    """
    try:
        record = read_record(folder)
        return record.get("status") == "done" and is_of(folder, settings(), checksum_of, record)
    except UserError:
        return False


def is_of(folder: Path | str, settings: str, checksum_of: Callable[[dict], str], record: dict | None = None) -> bool:
    """Whether the run in `folder` has the settings with this checksum: its record (`read_record`) says so or, where
    that is of an older version, `checksum_of` its config does. Raises UserError if either is damaged.
    """
    path, record = Path(folder) / CONFIG, read_record(folder) if record is None else record
    if record.get("settings_sha256") == settings:
        return True
    return path.is_file() and checksum_of(read_yaml(path)) == settings


def records(folder: Path | str, settings: str) -> bool:
    """Whether a record that is at least as new as the config beside it says that the run in `folder` has the settings
    with this checksum. Where it does not, the config may: reading that takes a hundred times as long.
    """
    config, record = Path(folder) / CONFIG, Path(folder) / RECORD
    try:
        said = read_record(folder).get("settings_sha256")
        return said == settings and config.stat().st_mtime_ns <= record.stat().st_mtime_ns
    except (OSError, UserError):
        return False


def in_use(folder: Path | str) -> bool:
    """Whether a process holds the run folder `folder`. Neither makes nor changes anything."""
    try:
        descriptor = os.open(Path(folder) / LOCK, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def versions() -> dict[str, str]:
    """Versions of Python, this package and the installed packages that results depend on."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "meta_latent": meta_latent.__version__, **installed(_PACKAGES)}


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Package -> version, of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def commit() -> str | None:
    """Git commit of this source when the process first asked, with "+changes" if files differ from it; None outside
    git.
    """
    folder = Path(meta_latent.__file__).resolve().parent
    git = ["git", "-C", str(folder)]
    try:
        # A copy installed below somebody's own repository is not part of that repository.
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, timeout=10, check=True
        )
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "diff", "--quiet", "HEAD", "--", "."], capture_output=True, timeout=30
        ).returncode
    except (OSError, subprocess.SubprocessError):
        return None
    return head + "+changes" if changed else head


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turns what keeps us from writing into `folder` into a `UserError`; a full disk into a `RunError`."""
    try:
        yield
    except OSError as error:
        if error.errno in files.FULL_DISK:
            with files.full_disk_named(folder):
                raise error
        raise UserError(
            f"cannot write to the run folder {folder}: {error.strerror or error}; choose another with out="
        ) from error


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Context manager that keeps every other process out of `folder` (made if missing), as a `RunFolder` does.

    Raises `UserError` if one holds it, naming its pid, or if the folder cannot be written.
    """
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
    try:
        yield
    finally:
        os.close(lock)


def holder(folder: Path | str) -> str:
    """The number of the process that took the run folder last, as it wrote it down, or "unknown"."""
    try:
        pid = files.read_bytes(Path(folder) / LOCK, 32).decode(errors="replace").strip()
    except (OSError, ValueError):
        pid = ""
    return pid or "unknown"


def _lock(folder: Path) -> int:
    # The kernel releases the lock with the process, so a kill leaves nothing to clean up.
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        _claim(descriptor, folder)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _claim(descriptor: int, folder: Path) -> None:
    for _ in range(20):  # who asks whether it is `in_use` holds the lock for a moment
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.01)
    else:
        raise UserError(f"{folder} {IN_USE} {holder(folder)}; wait for it, stop it, or choose another folder with out=")
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
