"""The two kinds of failure that a person sees as a line, not as a traceback; several of the first are told at once; and
what a line may show.
"""

from __future__ import annotations

import contextlib
import sys
import sysconfig
import traceback
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

_OURS = tuple(Path(__file__).resolve().parent.parent / name for name in ("meta_latent", "task_suites"))
_PYTHON = Path(sysconfig.get_paths()["stdlib"])


class UserError(Exception):
    """Wrong input, knowable before the first step (unknown key, missing folder, locked folder).

    The message is one line that names what was got, what was expected and what to do. Exit status 2.
    """


class UserErrors(UserError):
    """Several faults that do not hide each other. faults: a line each; the message is these lines."""

    def __init__(self, faults: Sequence[str]):
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple:
        return type(self), (self.faults,)


class Faults:
    """Collects what is wrong, so that all of it is told at once::

        with Faults() as faults:
            for key in keys:
                with faults.noted():
                    check(key)

    Leaving the block raises what was noted: one `UserError` as it was, one of another kind as a `UserError`, several
    as `UserErrors`. Another error passes.
    """

    def __init__(self) -> None:
        self._noted: list[Exception] = []

    @contextlib.contextmanager
    def noted(self, *also: type[Exception]) -> Iterator[None]:
        """Keep a `UserError`, or an error of the kinds `also`, for later."""
        try:
            yield
        except (UserError, *also) as error:
            self._noted.append(error)

    def __enter__(self) -> Faults:
        return self

    def __exit__(self, kind: type[BaseException] | None, *unused: object) -> None:
        if kind is not None or not self._noted:
            return
        lines = [line for error in self._noted for line in getattr(error, "faults", [str(error)])]
        if len(faults := list(dict.fromkeys(lines))) > 1:
            raise UserErrors(faults) from self._noted[0]
        first = self._noted[0]
        if isinstance(first, UserError):
            raise first
        raise UserError(str(first)) from first


def calling_module(*through: str) -> str:
    """The name of the module whose code called the caller of this: "__main__" of a script or notebook. through: modules
    that pass on what others give them.
    """
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in through:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))


def visible(text: str) -> str:
    """`text` with control characters, and those that turn the direction of writing, as escapes such as \\x1b: what
    comes from files is shown on a terminal, and must not command it. Line ends and tabs stay.
    """
    return "".join(letter.encode("unicode_escape").decode() if _commands(letter) else letter for letter in text)


def counted(number: int, noun: str) -> str:
    """ "1 run", "2 runs", "1,000 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _commands(letter: str) -> bool:
    if unicodedata.category(letter) == "Cc":
        return letter not in "\n\t"
    return "\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069"


class RunError(Exception):
    """A run that started correctly failed (full disk, non-finite loss). One line; exit status 1."""


def described(error: BaseException) -> str:
    """What somebody's code raised, and the last place of it outside of Python, installed packages and this project."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<") and "site-packages" not in frame.filename
           and not any(Path(frame.filename).is_relative_to(package) for package in (*_OURS, _PYTHON))]  # fmt: skip
    last = (own or frames)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}:{last.lineno}, in {last.name})"
