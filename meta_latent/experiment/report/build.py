"""The report of a run: ``report.json`` (numbers), ``report.html`` (one self-contained page), ``report/*.png`` and
``report/evaluations.csv``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meta_latent.errors import UserError
from meta_latent.experiment.report.page import evaluations, page
from meta_latent.experiment.report.reading.records import number
from meta_latent.experiment.report.reading.sources import read_run
from meta_latent.experiment.report.statistics.analysis import analyse
from meta_latent.experiment.report.statistics.numbers import Bootstrap
from meta_latent.experiment.report.words import lead, told_tasks
from meta_latent.experiment.report.words.summary import summary
from meta_latent.files import atomic_write_bytes, indented_json, refuse_links
from meta_latent.ops import learning_speed as ls

ROOMS = ("transfer", "pretrain")
"""Folders in a folder of runs."""


def build(
    path: str | Path, *, thresholds: Sequence[float] = (), resamples: int = ls.RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Write report.json, report.html, report/*.png and report/evaluations.csv into run folder ``path``; returns the
    content of report.json.

    ``thresholds``: instead of those that the runs recorded; a run that had stopped at a lower one counts as
    censored where it stopped. ``resamples``, ``seed``: of the bootstrap. Raises UserError when ``path`` is no
    folder, holds no runs, cannot be written to, or has a link from report/ to elsewhere.
    """
    path, draw = Path(path), Bootstrap(resamples, seed)
    if not path.is_dir():
        raise UserError(f"{path} is not a folder")
    refuse_links(path / "report", path)
    run = read_run(path)
    if not run.cells and not run.pretraining:
        inside = [folder for folder in sorted(path.iterdir()) if any((folder / room).is_dir() for room in ROOMS)]
        meant = f"; did you mean {inside[0]}?" if inside else ""
        raise UserError(
            f"{path} holds no runs: expected transfer/TARGET/ALGORITHM/START/SEED or pretrain/SEED in it{meant}"
        )
    result = analyse(run, draw, thresholds)
    result |= {"lead": lead.sentence(result), "summary": summary(result)}
    result["not_imported"] = told_tasks.not_imported(run)
    try:
        atomic_write_bytes(path / "report.json", indented_json(result).encode())
        (path / "report").mkdir(exist_ok=True)
        atomic_write_bytes(path / "report" / evaluations.FILE, evaluations.table(run).encode(errors="replace"))
        # A name of a folder need not be valid text; the page shows what it can of it.
        atomic_write_bytes(path / "report.html", page.render(run, result, draw).encode(errors="replace"))
    except OSError as error:
        raise UserError(f"cannot write the report into {path}: {error.strerror or error}") from error
    return result


def checked_thresholds(given: Sequence[float]) -> tuple[float, ...]:
    """Thresholds that Python was given, in an array too: each once, in order of size. Raises UserError."""
    plain = given.tolist() if hasattr(given, "tolist") else given
    found = [number(value) for value in plain] if isinstance(plain, Sequence) else [None]
    if None in found:
        hint = "; to compare runs, give a list of them: report([A, B])" if isinstance(given, str | Path) else ""
        raise UserError(f"report: thresholds={given!r} should be a list of numbers, such as [0.5, 0.85]{hint}")
    return tuple(sorted(set(found)))
