"""`meta-latent sweep NAME`: every cell of many variants of an experiment, in one pool, and a report over them."""

from __future__ import annotations

from meta_latent.experiment.commands.report import say
from meta_latent.experiment.learning import sweep
from meta_latent.experiment.report.sweep_report import PAGE, table
from meta_latent.experiment.settings import sweep as settings


def run(name: str, overrides: list[str], options: sweep.Options, dry_run: bool) -> None:
    """Run the sweep `name` with `overrides` ("a.b=1"), or say what that would be."""
    if dry_run:
        say(sweep.foretell(name, overrides, options))
        return
    result = sweep.run(name, overrides, options)
    config, _ = settings.load(name, overrides)
    say(f"{table(result)}\n{config.root / PAGE}")
