"""How many source episodes there are, and how long they are against the windows that the stages of a pretraining take
of them.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence

import numpy as np

from meta_latent.data.windows import TOLD_FROM, share_lost
from meta_latent.errors import UserError
from meta_latent.experiment.settings.schema import ExperimentConfig, PretrainConfig
from meta_latent.experiment.settings.suites import BoundTask
from task_suites import TaskDistribution


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


def held_out(settings: PretrainConfig, episodes: int) -> int:
    """How many of so many episodes are kept for the report."""
    return max(2, round(episodes * settings.held_out))


def needed(settings: PretrainConfig) -> int:
    """The fewest episodes of which one is trained on."""
    first = max(3, int(0.5 / (1 - settings.held_out)))  # fewer are all held out
    return next(count for count in itertools.count(first) if count > held_out(settings, count))


def check_steps(experiment: ExperimentConfig, sources: Sequence[BoundTask]) -> None:
    """Raise UserError if `pretrain.env_steps` make too few episodes, however early those end that may."""
    settings = experiment.pretrain
    shortest = _before_the_last_needed(settings, [_shortest(source) for source in sources])
    if round(settings.env_steps * (1 - settings.on_policy)) <= shortest:
        raise too_few(experiment, sources)


def too_few(experiment: ExperimentConfig, sources: Sequence[BoundTask]) -> UserError:
    """What is said where no episode is left to train on."""
    settings, count = experiment.pretrain, needed(experiment.pretrain)
    said = f"{count} episodes are needed, of which {held_out(settings, count)} are held out"
    if settings.logged:
        return UserError(f"pretrain.env_steps={settings.env_steps}: {said}, and the logged data or these steps hold "
                         "fewer: give more of them, or lower pretrain.held_out")  # fmt: skip
    longest = _before_the_last_needed(settings, [source.distribution.max_episode_steps for source in sources])
    enough = math.ceil((longest + 1) / (1 - settings.on_policy))
    return UserError(f"pretrain.env_steps={settings.env_steps} is too little: {said}; {enough:,} steps are enough")


def _before_the_last_needed(settings: PretrainConfig, steps: Sequence[int]) -> int:
    """Steps that all episodes that are needed take but for the last one, where those of each source take so many."""
    turns, more = divmod(needed(settings) - 1, len(steps))
    return turns * sum(steps) + sum(steps[:more])


def _shortest(source: BoundTask) -> int:
    """The least steps of an episode: all, where the suite never ends one for good."""
    suite = source.distribution
    return suite.max_episode_steps if type(suite).terminated is TaskDistribution.terminated else 1


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
