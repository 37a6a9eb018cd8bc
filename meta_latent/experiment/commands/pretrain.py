"""`meta-latent pretrain NAME`: pretrain a latent state model on the experiment's sources."""

from meta_latent.experiment.learning import refusals
from meta_latent.experiment.pretraining.pretrain import pretrain
from meta_latent.experiment.settings import experiments
from meta_latent.experiment.settings.schema import ExperimentConfig


def run(name: str, overrides: list[str]) -> None:
    """Pretrain the experiment `name` (a YAML of configs/experiment/, or runs/NAME) with `overrides` ("a.b=1")."""
    experiment = experiments.load(ExperimentConfig, name, overrides)
    refusals.check_before_pretraining(experiment)
    pretrain(experiment)
