"""What an experiment's `target`, `arm` and `run_seed` choose of its runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from meta_latent.algorithms.registry import Arm
from meta_latent.errors import UserError
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.structure import nearest


def chosen_cells(experiment: ExperimentConfig) -> list[tuple[str, Arm, int]]:
    """(target, arm, seed), seed by seed."""
    pairs = [(target, Arm.parse(arm)) for target, arm in chosen_pairs(experiment)]
    seeds = _chosen(experiment, "run_seed", experiment.transfer.seeds)
    return [(target, arm, seed) for seed in seeds for target, arm in pairs]


def chosen_pairs(experiment: ExperimentConfig) -> list[tuple[str, str]]:
    """(target, arm) of what is learned, as far as `experiment.target` and `arm` choose. UserError: of none."""
    pairs = experiment.transfer.pairs()
    targets = _chosen(experiment, "target", experiment.transfer.targets)
    arms = _chosen(experiment, "arm", list(dict.fromkeys(arm for _, arm in pairs)))
    found = [(target, arm) for target, arm in pairs if target in targets and arm in arms]
    if not found:
        raise UserError(f"target {experiment.target} is not learned by {experiment.arm}: its arms are "
                        f"{', '.join(arm for target, arm in pairs if target in targets)}")  # fmt: skip
    return found


def _chosen(experiment: ExperimentConfig, key: str, every: Iterable) -> list:
    """Those of `every` that the experiment's `key` chooses: all, where it is None."""
    wanted, every = getattr(experiment, key), list(every)
    if wanted is None:
        return every
    if wanted not in every:
        also = f'; set "transfer.arms=[{wanted}]" to add it' if _is_registered(key, wanted) else ""
        raise UserError(f"there is no {key}={wanted}{also or nearest(str(wanted), map(str, every))}")
    return [wanted]


def _is_registered(key: str, wanted: str) -> bool:
    with contextlib.suppress(UserError):
        return key == "arm" and bool(Arm.parse(wanted))
    return False
