"""Settings that are words with rules: names that become folders, paths, devices; and short forms of lists."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any

from meta_latent.errors import UserError
from meta_latent.experiment.settings.config import parse_override
from meta_latent.experiment.settings.structure import PREPARE
from meta_latent.files import expanded
from meta_latent.ranges import Entries, Items, Outside, limited

LONGEST_NAME = 100


class FolderName:
    """A name that becomes one folder: no path, no hidden folder, nothing that a disk or a log cannot hold."""

    def read(self, value: str) -> str:
        """See `ranges.Limits`."""
        reason = _no_folder(value)
        if reason:
            raise Outside(value, f"one folder's name, {reason}")
        return value


class TargetName(FolderName):
    """A folder's name that the command line can say again: every cell's command holds `target=NAME`."""

    def read(self, value: str) -> str:
        """See `ranges.Limits`."""
        value = super().read(value)
        try:
            said = parse_override(f"target={value}")[1]
        except UserError:
            said = None
        if said != value or "${" in value:
            kind = "something else" if said is None or isinstance(said, str) else repr(said)
            raise Outside(value, f"a name that YAML reads as text (target={value} is {kind}), such as task_1")
        return value


class UserPath:
    """A path; a leading ~ is the home folder. may_be_empty: "" is allowed and stays."""

    def __init__(self, may_be_empty: bool = False):
        self.may_be_empty = may_be_empty

    def read(self, value: str | None) -> str | None:
        """See `ranges.Limits`."""
        if value is None or (value == "" and self.may_be_empty):
            return value
        if not value.strip() or "\0" in value:
            raise Outside(value, "a path")
        try:
            return expanded(value)
        except UserError as error:
            raise Outside(value, f"a path; {error}") from error


class Device:
    """ "cpu", "cuda" or "cuda:N", where this machine has it."""

    def read(self, value: str) -> str:
        """See `ranges.Limits`."""
        if not re.fullmatch(r"cpu|cuda(:\d{1,4})?", value):
            raise Outside(value, "cpu, cuda or cuda:N")
        if value != "cpu":
            import torch

            found = torch.cuda.device_count() if torch.cuda.is_available() else 0
            if int(value.partition(":")[2] or 0) >= found:
                have = f"cuda:0 to cuda:{found - 1}" if found else "no CUDA device"
                raise Outside(value, f"a device of this machine: PyTorch finds {have} (cpu always works)")
        return value


class SuiteOptions:
    """Options of a task distribution, which checks them itself; its distractors' folders may start with ~."""

    def read(self, value: dict[str, Any]) -> dict[str, Any]:
        """See `ranges.Limits`."""
        given = value.get("distractors")
        if not isinstance(given, list):
            return value
        read = [
            {**item, "folder": UserPath(may_be_empty=True).read(item["folder"])}
            if isinstance(item, Mapping) and isinstance(item.get("folder"), str) else item
            for item in given
        ]  # fmt: skip
        return {**value, "distractors": read}


def folder_name(default: Any = MISSING) -> Any:
    """A field that becomes a folder's name."""
    return limited(FolderName(), default)


def targets() -> Any:
    """A field that maps names of targets to tasks; empty by default."""
    return limited(Entries(names=TargetName()), {})


def path(default: Any = MISSING, may_be_empty: bool = False) -> Any:
    """A field that holds a path."""
    return limited(UserPath(may_be_empty), default)


def device(default: str = "cpu") -> Any:
    """A field that names a device."""
    return limited(Device(), default)


def suite_options() -> Any:
    """A field with options of a task distribution; empty by default."""
    return limited(SuiteOptions(), {})


def distractors() -> Any:
    """A field with a list of distractors, also given as a mapping `{video: 0.5}`; empty by default."""
    return limited(Items(may_be_empty=True, may_repeat=False), (), **{PREPARE: listed_distractors})


def listed_distractors(value: Any) -> Any:
    """`{"video": 0.5}` as `[{"name": "video", "intensity": 0.5}]`; all else as it is."""
    if not isinstance(value, Mapping):
        return value
    return [
        {"name": name, **(given if isinstance(given, Mapping) else {"intensity": given})}
        for name, given in value.items()
    ]


def _no_folder(name: str) -> str:
    """Why `name` is no single folder's name; "" if it is one."""
    if not name:
        return "not empty"
    if len(name) > LONGEST_NAME or len(name.encode(errors="replace")) > 2 * LONGEST_NAME:
        return f"at most {LONGEST_NAME} characters and {2 * LONGEST_NAME} bytes"
    if "/" in name or "\\" in name:
        return "without / and \\"
    if name.startswith("."):
        return "not starting with a dot"
    if name != name.strip():
        return "without spaces at its ends"
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        return "without control characters"
    return ""
