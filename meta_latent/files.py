"""Writing files so that a kill at any moment leaves the old or the new content, never a mixture; and reading and
writing in folders that others made, whose files may be anything and whose links may lead anywhere.

Every function that writes announces its steps to `fault_hook`, so that tests can stop the process before each of them.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from meta_latent.errors import RunError, UserError

fault_hook: Callable[[str, Path], None] | None = None
"""Called as `fault_hook(event, path)` before each "write", "sync" and "rename". None outside tests."""

TEMPORARY = ".tmp-"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a disk, or a share of it, that is used up."""
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
"""Error numbers of a folder that is renamed to where another one is."""
LARGEST = 2**28
"""Bytes of a text that is read whole."""


def expanded(path: str | os.PathLike[str]) -> str:
    """The path that a person means: a leading ~ is the home folder. Raises UserError for what is no path, and for a
    home folder that there is not.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"expected a path, got {path!r}")
    found = os.path.expanduser(os.fspath(path))
    if found.startswith("~"):
        raise UserError(f"{found}: there is no such home folder (./~name is a folder of that name)")
    return found


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Replace the content of `path` by `data`: afterwards, or after a kill, it is the old or the new content.

    Raises `RunError` naming `path` if the disk is full, read-only or broken; the old content is then still
    there.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        with full_disk_named(path):
            with open(temporary, "wb") as file:
                _announce("write", path)
                file.write(data)
                file.flush()
                _announce("sync", path)
                os.fsync(file.fileno())
            _announce("rename", path)
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Context manager that yields an empty temporary folder; on success it becomes `path`, replacing what
    was there.

    The caller writes ordinary files into the yielded folder. After an exception `path` is untouched. A kill
    between the two renames of a replacement leaves the old folder beside it; `recover_folder(path)` puts it
    back.
    Raises `RunError` naming `path` if the disk is full, read-only or broken.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        with full_disk_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            recover_folder(path)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            _announce("write", path)
            yield temporary
            _sync_tree(temporary)
            while not _put(temporary, path):
                continue
            _sync(path.parent)
        shutil.rmtree(_previous(path), ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, path: Path) -> bool:
    """Make a folder become `path`; False where a reader has put the old one back meanwhile (`recover_folder`)."""
    if path.exists():
        _announce("rename", _previous(path))
        os.rename(path, _previous(path))
    _announce("rename", path)
    try:
        os.rename(temporary, path)
    except OSError as error:
        if error.errno not in _TAKEN or not path.is_dir():
            raise
        return False
    return True


def recover_folder(path: Path | str) -> None:
    """Undo a replacement by `atomic_folder` that was killed half way. Call before reading `path`; cheap."""
    path = Path(path)
    previous = _previous(path)
    if not previous.exists():
        return
    if path.exists():
        shutil.rmtree(previous, ignore_errors=True)
    else:
        try:
            os.rename(previous, path)
        except OSError as error:  # the writer was not killed, or another reader was faster
            if error.errno not in (errno.ENOENT, *_TAKEN):
                raise


def append_bytes(path: Path | str, data: bytes, sync: bool = True) -> int:
    """Append `data` to `path` (made if missing) and return its new length in bytes.

    A failed append is cut off again. With `sync` the data is on the disk when this returns.
    Raises `RunError` naming `path` if the disk is full, read-only or broken, or if `path` is a symbolic link.
    """
    path = Path(path)
    # Unbuffered: a buffer would be flushed again on closing, after the failed append was cut off.
    with full_disk_named(path), open(path, "ab", buffering=0, opener=no_link) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            _announce("write", path)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            if sync:
                _announce("sync", path)
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, before)
            raise
        return before + len(data)


def no_link(path: str, flags: int) -> int:
    """An `opener` that refuses a symbolic link, which could lead to any file of the user's."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def read_bytes(path: Path | str, most: int = LARGEST, first: int = -1) -> bytes:
    """The content of a regular file, or its `first` bytes.

    Raises OSError, and ValueError for anything else (a pipe would never end) and for more than `most` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        if status.st_size > most:
            raise ValueError(f"it has more than {most:,} bytes")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(first)
    finally:
        os.close(descriptor)


def leads_out(path: Path | str, root: Path | str) -> bool:
    """Whether `path`, with its links followed, lies outside of the folder `root`."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def refuse_links(folder: Path | str, root: Path | str) -> None:
    """Raise `UserError` naming a symbolic link, `folder` itself or below it, that leads out of `root`: call before
    writing into a folder that somebody else may have made, or passing on what is in it.
    """
    folder = Path(folder)
    below = (Path(above, name) for above, *names in os.walk(folder) for some in names for name in some)
    for path in (folder, *below):
        if path.is_symlink() and leads_out(path, root):
            raise UserError(
                f"{path} is a link that leads out of {root}: put what it leads to in its place, or remove it"
            )


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_leftovers(folder: Path | str) -> None:
    """Delete what earlier, killed writers left in `folder` (no other writer may be active)."""
    for path in Path(folder).glob(f".*{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _announce(event: str, path: Path) -> None:
    if fault_hook is not None:
        fault_hook(event, path)


def _temporary(path: Path) -> Path:
    # Not by the process alone: in containers and on machines that share a folder, several have one number.
    return path.with_name(f".{path.name}{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}")


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        _sync(path)


def _sync(path: Path) -> None:
    """Write a file, or the names in a folder, to the disk: they may be lost in a power cut otherwise."""
    _announce("sync", path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Context manager that turns the error of a full, read-only or broken disk into a `RunError` naming
    `path`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise RunError(
                f"the disk is full: could not write {path}; free some space and run the same command"
            ) from error
        raise RunError(
            f"could not write {path}: {error.strerror or error}; mend that and run the same command"
        ) from error


def make_folder(path: Path) -> None:
    """Make the folder `path` and those above it. Raises `UserError` naming the one that cannot be made, `RunError` if
    the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in FULL_DISK:
            with full_disk_named(path):
                raise
        missing = next((folder for folder in (*reversed(path.parents), path) if not os.path.lexists(folder)), path)
        raise UserError(f"cannot write the folder {missing}: {error.strerror or error}; choose another with out="
                        ) from error  # fmt: skip


def to_json(value: Any, indent: int | None = None) -> bytes:
    """JSON text of nested dicts, lists and tuples; NumPy scalars and 0-dimensional tensors become numbers,
    paths strings, and numbers that are not finite null, as JSON has no other word for them.

    Raises `TypeError` naming the type of anything else.
    """
    return json.dumps(_plain(value), indent=indent, allow_nan=False).encode()


def indented_json(value: Any, depth: int = 0) -> str:
    """What `json.dumps(value, indent=1, allow_nan=False)` says of dicts with text as keys, lists, and what is in them.

    The standard encoder indents in Python, number by number; here long lists of numbers go through its fast part.
    """
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    pad = "\n" + " " * (depth + 1)
    if not any(isinstance(entry, dict | list) for entry in entries):
        flat = json.dumps(value, allow_nan=False, separators=(f",{pad}", ": "))
        return f"{flat[0]}{pad}{flat[1:-1]}{pad[:-1]}{flat[-1]}" if entries else flat
    inner = [indented_json(entry, depth + 1) for entry in entries]
    if isinstance(value, dict):
        inner = [f"{json.dumps(key)}: {text}" for key, text in zip(value, inner, strict=True)]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}{pad}{f',{pad}'.join(inner)}{pad[:-1]}{closing}"


def from_json(text: bytes | str) -> Any:
    """What a JSON text says. Raises `ValueError` if it is none, or nested too deep to be one of ours."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str | int | float | bool | None) and not hasattr(value, "item"):
        raise TypeError(f"JSON cannot hold {value!r} ({type(value).__name__})")
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
