"""`meta-latent transfer NAME`: every arm learns every target with every seed.

The command schedules all cells, one process each, or those that `target=`, `arm=` and `run_seed=` name; with all three
it runs one, here.
"""

import shlex

from meta_latent.experiment.learning import cells
from meta_latent.experiment.settings import experiments
from meta_latent.experiment.settings.schema import ExperimentConfig


def run(name: str, overrides: list[str]) -> None:
    """Run the transfer part of the experiment `name` with `overrides` ("a.b=1")."""
    experiment = experiments.load(ExperimentConfig, name, overrides)
    if None in (experiment.target, experiment.arm, experiment.run_seed):
        cells.schedule(experiment, name, overrides)
        return
    cell = experiment.target, experiment.arm, experiment.run_seed
    if cells.run_cell(experiment, *cell):
        experiments.write(experiment)  # as where several are scheduled, and some have done something
    else:
        folder = cells.cell_folder(experiment, *cell)
        print(f"{folder} was finished before; meta-latent evaluate {shlex.quote(str(folder))} scores its agent")
