"""Committed raw scores that define the normalised scale: floor and reference episode returns."""

from __future__ import annotations

import functools
import json
from pathlib import Path

PATH = Path(__file__).with_name("references.json")


@functools.cache
def load() -> dict[str, tuple[float, float]]:
    """Return {key: (floor, reference)} from references.json (see `task_suites.make_references`)."""
    if not PATH.exists():
        return {}
    scores = json.loads(PATH.read_text())["scores"]
    return {key: (entry["floor"], entry["reference"]) for key, entry in scores.items()}
