"""`meta-latent transfer NAME`: every arm learns every target with every seed.

Without `target=`, `arm=` and `run_seed=` the command schedules all cells, one process each; with the three it
runs one.
"""

from meta_latent.errors import UserError
from meta_latent.experiment.learning import cells
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig


def run(name: str, overrides: list[str]) -> None:
    """Run the transfer part of the experiment `name` with `overrides` ("a.b=1")."""
    experiment = config.load(ExperimentConfig, [config.find("experiment", name)], overrides)
    if experiment.target is None and experiment.arm is None and experiment.run_seed is None:
        cells.schedule(experiment, name, overrides)
        return
    for key in ("target", "arm", "run_seed"):
        if getattr(experiment, key) is None:
            raise UserError(f"one cell needs target=, arm= and run_seed=; {key} is missing")
    cells.run_cell(experiment, experiment.target, experiment.arm, experiment.run_seed)
