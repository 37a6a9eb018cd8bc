"""What sources pay on each other's episodes: one reward function a name, and where each can be computed.

Most rewards are functions of the privileged inputs and pay any frame that holds inputs of the same names. What only a
simulator can compute (Meta-World's own, or what an environment of a user's pays itself) is known in episodes of its own
task, and masked elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from meta_latent.errors import Faults, UserError
from meta_latent.experiment.settings.schema import PretrainConfig
from meta_latent.experiment.settings.suites import BoundTask
from meta_latent.types import SequenceBatch, Spec


class SourceRewards:
    """The reward functions of S `sources`, N by name: sources of one name share one, the last, if each one's is known
    in the episodes of all.

    names_of: S names, that of each source's function. known: (S, N) bool, whether function n can be computed in
    episodes of source s.

    Args:
        logged: places of the sources with logged data, whose episodes may have been played in any task.
    """

    def __init__(self, sources: Sequence[BoundTask], logged: Collection[int] = ()):
        # Logged episodes of a task whose reward is known there alone are taken for its own; where inputs tell
        # (Meta-World), others are refused.
        played = [replace(source, task=None) if place in logged and _holds(source, None) else source
                  for place, source in enumerate(sources)]  # fmt: skip
        sharing: dict[str, list[int]] = {}
        for place, source in enumerate(sources):
            name, number = source.name, 1
            while not all(_holds(source, played[k]) and _holds(sources[k], played[place])
                          for k in sharing.get(name, ())):  # fmt: skip
                number += 1
                name = f"{source.name} ({number})"
            sharing.setdefault(name, []).append(place)
        name_of = {place: name for name, places in sharing.items() for place in places}
        self.names_of = tuple(name_of[place] for place in range(len(sources)))
        self._functions = {name: sources[places[-1]] for name, places in sharing.items()}
        self.known = torch.tensor(
            [
                [name == own or _holds(function, there) for name, function in self._functions.items()]
                for own, there in zip(self.names_of, played, strict=True)
            ]
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the N functions."""
        return tuple(self._functions)

    def of(self, batch: SequenceBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, T, N) rewards of every function, zero where it is not known, and (B, N) bool, where it is: None if all
        sources' rewards are known everywhere.
        """
        if self.known.all():
            return torch.stack([_paid(source, batch.reward_inputs, batch.action)
                                for source in self._functions.values()], -1), None  # fmt: skip
        known = self.known[batch.task_index]
        every = torch.zeros(*batch.reward.shape, len(self._functions))
        for column, source in enumerate(self._functions.values()):
            rows = known[:, column]
            if rows.any():
                every[rows, :, column] = _paid(source, batch.reward_inputs[rows], batch.action[rows])
        return every, known


def _holds(function: BoundTask, played: BoundTask | None) -> bool:
    if played is not None and Spec.of(played.distribution).other_inputs(Spec.of(function.distribution)):
        return False
    alike = played is not None and played.distribution.name == function.distribution.name
    return function.distribution.recomputes(function.task, played.task if alike else None)


def _paid(source: BoundTask, inputs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(source.distribution.reward(source.task, inputs, action)).float()


def check(settings: PretrainConfig, sources: Sequence[BoundTask]) -> None:
    """Raise UserError if a setting takes what a source pays to be known in the episodes of all, and it is not."""
    rewards = SourceRewards(sources, settings.logged)
    partly = [name for name, known in zip(rewards.names, rewards.known.T, strict=True) if not known.all()]
    with Faults() as faults:
        with faults.noted():
            if partly and settings.relabel:
                raise UserError(
                    f"pretrain.relabel={settings.relabel} pays sequences as other sources pay, but what {partly[0]} "
                    "pays is known in its own episodes alone: set pretrain.relabel=0, or give it a reward that can be "
                    "computed for any"
                )
        with faults.noted():
            number = settings.policy_source
            if settings.policy_updates and rewards.names_of[number] in partly:
                raise UserError(
                    f"pretrain.policy_source={number}: its policy learns from all source episodes, but what "
                    f"{rewards.names_of[number]} pays is known in its own alone: choose a source whose reward can be "
                    "computed for any, or set pretrain.policy_updates=0"
                )
