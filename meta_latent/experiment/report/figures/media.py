"""Pictures and films that lie beside runs: in the page while they are small, else linked from it."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from urllib.parse import quote

from meta_latent.experiment.report.reading.sources import Run

LARGEST_VIDEO = 300_000
LARGEST_VIDEOS = 700_000
LARGEST_STRIPS = 500_000
"""Bytes of one embedded video, and of all embedded videos and pictures together: pages stay light enough to mail."""


def link(path: Path, root: Path) -> str:
    """The address of ``path`` on a page in ``root``."""
    return quote(os.path.relpath(path, root).replace(os.sep, "/"))


def data_uri(path: Path, kind: str) -> str:
    """The file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def strips(run: Run) -> list[dict[str, str]]:
    """The pretrainings' pictures of real above imagined frames; linked where all together would be too large."""
    found, total = [], 0
    for pretraining in run.pretraining:
        for path in pretraining.images:
            total += path.stat().st_size
            label = f"seed {pretraining.seed}: {path.stem.replace('_', ' ')}"
            src = data_uri(path, "image/png") if total < LARGEST_STRIPS else link(path, run.path)
            found.append({"src": src, "label": label})
    return found


def videos(run: Run) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(embedded, linked): the first seed's videos of every target and arm are embedded while they are small
    enough.
    """
    embedded, linked, shown, total = [], [], set(), 0
    for cell in run.cells:
        first = (cell.target, cell.arm) not in shown
        for path in cell.videos:
            size = path.stat().st_size
            entry = {"label": f"{cell.target}, {cell.arm}, seed {cell.seed}: {path.stem}"}
            if first and size < LARGEST_VIDEO and total + size < LARGEST_VIDEOS:
                total += size
                shown.add((cell.target, cell.arm))
                embedded.append(entry | {"src": data_uri(path, "video/mp4")})
            else:
                linked.append(entry | {"src": link(path, run.path)})
    return embedded, linked
