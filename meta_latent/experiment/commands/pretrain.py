"""`meta-latent pretrain NAME`: pretrain a latent state model on the experiment's sources."""

from meta_latent.experiment.pretraining.pretrain import pretrain
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig


def run(name: str, overrides: list[str]) -> None:
    """Pretrain the experiment `name` (a YAML of configs/experiment/) with `overrides` ("a.b=1")."""
    pretrain(config.load(ExperimentConfig, [config.find("experiment", name)], overrides))
