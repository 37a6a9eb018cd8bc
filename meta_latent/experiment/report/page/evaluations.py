"""All evaluations of a run as one table of comma-separated values, for a reader's own figures."""

from __future__ import annotations

import csv
import io
import math

import numpy as np

from meta_latent.experiment.report.reading.sources import Run
from meta_latent.ops.learning_curve import UNITS

FILE = "evaluations.csv"
COLUMNS = ("target", "arm", "seed", *UNITS, "score", "raw_return", "success")


def table(run: Run) -> str:
    """A line per evaluation of every run; empty where a run did not record a number."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for cell in (cell for cell in run.cells if cell.curve is not None):
        clocks = (getattr(cell.curve, unit) for unit in UNITS)
        columns = map(_shown, (*clocks, cell.curve.scores, cell.log.raw_return, cell.log.success))
        writer.writerows((cell.target, cell.arm, cell.seed, *row) for row in zip(*columns, strict=True))
    return buffer.getvalue()


def _shown(column: np.ndarray) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.10g}" for value in column.tolist()]
