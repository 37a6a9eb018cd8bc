"""`meta-latent demo`: pretrain, transfer and report in one command; arms that need no model start at once."""

from __future__ import annotations

from pathlib import Path

from meta_latent.experiment.commands import report
from meta_latent.experiment.learning import cells
from meta_latent.experiment.pretraining import pretrain
from meta_latent.experiment.runs.processes import Cell, command
from meta_latent.experiment.settings import experiments
from meta_latent.experiment.settings.schema import ExperimentConfig


def run(name: str, overrides: list[str]) -> None:
    """Run the experiment `name` from pretraining to report; what is done already is not done again."""
    experiment = experiments.load(ExperimentConfig, name, overrides)
    argv = command("pretrain", name, *overrides)
    before = (Cell("pretrain", argv, (), pretrain.folder_of(experiment) / "output.log"),)
    if experiment.pretrained is not None:
        before = ()
    cells.schedule(experiment, name, overrides, before)
    report.run(str(Path(experiment.out) / experiment.name))
