"""`meta-latent check NAME`: what a long run would stumble over, tried before it: suites, arms, checkpoints."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from meta_latent.errors import RunError, counted, visible
from meta_latent.experiment.learning import checking
from meta_latent.experiment.settings import experiments
from meta_latent.experiment.settings.schema import ExperimentConfig

NAMED = 4
"""Parts with faults, in the last line; the others are counted."""


def run(name: str, overrides: list[str], write: Callable[[str], object] = print) -> None:
    """Try what the experiment `name` with `overrides` ("a.b=1") would run, and `write` a line of each part.

    Raises RunError if something is wrong.
    """
    experiment = experiments.load(ExperimentConfig, name, overrides)
    begun, parts = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="meta-latent-check-") as folder:
        for part in checking.check(experiment, Path(folder)):
            seconds, begun = time.monotonic() - begun, time.monotonic()
            parts.append(part)
            mark = "wrong" if part.faults else "-" if part.skipped else "ok"
            write(f"{mark:7}{part.subject:34} {part.tried}  ({seconds:.0f} s)")
            for line in (*part.faults, *(f"warned of: {warning}" for warning in part.warned)):
                write(f"       - {visible(line)}")
    wrong = [part.subject for part in parts if part.faults]
    if wrong:
        more = f", and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise RunError(f"faults in {len(wrong)} of {counted(len(parts), 'part')}: {', '.join(wrong[:NAMED])}{more}")
