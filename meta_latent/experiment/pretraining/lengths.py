"""How long source episodes are, against the windows that the stages of a pretraining take of them."""

from __future__ import annotations

import sys

import numpy as np

from meta_latent.data.windows import TOLD_FROM, share_lost
from meta_latent.errors import UserError
from meta_latent.experiment.settings.schema import ExperimentConfig


def taken(experiment: ExperimentConfig) -> dict[str, int]:
    """Observations per window, by the key that says so; whole trials are no windows."""
    sizes, settings = experiment.learner, experiment.pretrain
    filters = settings.filter_updates and settings.episodes_per_trial == 1
    found = {
        "learner.length": sizes.length if settings.joint_updates else 2,
        "learner.filter_length": sizes.filter_length if filters else 2,
        "learner.horizon": sizes.horizon + 1 if settings.transition_updates else 2,
    }
    if settings.policy_updates:
        found["algorithms.ivg.horizon"] = experiment.settings_of("ivg").horizon + 1
    return found


def check(experiment: ExperimentConfig, longest: int) -> None:
    """Raise UserError, naming the key, if a stage takes longer episodes than `longest` (observations)."""
    short = [f"{key} (which takes {count})" for key, count in taken(experiment).items() if count > longest]
    if short:
        raise UserError(
            f"the longest source episode has {longest} observations ({longest - 1} steps): lower "
            f"{', '.join(short)}, or let episodes last longer"
        )


def tell_of_short_ones(experiment: ExperimentConfig, lengths: np.ndarray) -> None:
    """Warn, on stderr, where many of the steps of episodes of so many observations stand in no window of a stage, as
    where bodies fall.
    """
    for key, count in taken(experiment).items():
        lost = share_lost(lengths, count)
        if lost >= TOLD_FROM:
            few, little = f"{100 * (lengths < count).mean():.0f} %", f"{100 * lost:.0f} %"
            print(f"warning: {key} takes {count} observations of an episode: {few} of the source episodes are shorter, "
                  f"and it learns nothing from their {little} of all steps; lower it", file=sys.stderr)  # fmt: skip
