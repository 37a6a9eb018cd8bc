"""Committed raw scores that define the normalised scale: floor and reference episode returns."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("references.json")


@functools.cache
def entries() -> dict[str, dict[str, Any]]:
    """Return what references.json says by key (see `task_suites.make_references`)."""
    return json.loads(PATH.read_text())["scores"] if PATH.exists() else {}


@functools.cache
def load() -> dict[str, tuple[float, float]]:
    """Return {key: (floor, reference)} from references.json."""
    return {key: (entry["floor"], entry["reference"]) for key, entry in entries().items()}
