"""What a trained agent makes of trials, longer ones than it learned in too, and what its memory has to do with it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meta_latent import ranges
from meta_latent.data.answers import acted
from meta_latent.data.collect import Played, select
from meta_latent.data.segments import predicted_bytes
from meta_latent.errors import UserError
from meta_latent.experiment.learning.beliefs import looked
from meta_latent.experiment.learning.evaluation import Evaluation
from meta_latent.experiment.learning.inspection import by_step
from meta_latent.experiment.learning.saved import SavedCell
from meta_latent.experiment.report.reading.beliefs import PREFIX
from meta_latent.experiment.runs.run_folder import read_record
from meta_latent.protocols import Agent
from meta_latent.rng import Streams
from meta_latent.types import Spec, Step

MOST_EPISODES = 1000
MOST_BYTES = 4e9
"""Of episodes that are kept to ask an agent what it believed."""


@dataclass(frozen=True)
class AdaptOptions:
    """How trained agents are played.

    Attributes:
        episodes: of each trial (null: as many as it was learned with); in more of them the belief goes on.
        trials: of each test task (null: as in the run's own evaluations).
        cleared: play the same trials again, with the belief cleared between episodes.
        video: film so many trials of the first test task.
        maps: of the first seed of each arm whose agents can tell, draw for so many test tasks which rewards the belief
            expects where, from the task whose first episode paid least on.
    """

    episodes: int | None = ranges.count(None, most=MOST_EPISODES)
    trials: int | None = ranges.count(None, most=100_000)
    cleared: bool = False
    video: int = ranges.whole(0, most=1000)
    maps: int = ranges.whole(2, most=100)


class Cleared:
    """An agent whose trials are over with every episode: what it reaches without what it found out before.

    The carry begins anew in rows where an inner episode does, and it does not adapt.
    """

    def __init__(self, agent: Agent):
        self.agent = agent

    @property
    def heads(self) -> int:
        """Those of the agent."""
        return self.agent.heads

    def begin_task(self, batch_size: int) -> Any:
        """As the agent."""
        return self.agent.begin_task(batch_size)

    def act(self, step: Step, carry: Any, rng: Streams, explore: bool) -> tuple[torch.Tensor, Any]:
        """As the agent, to which every episode's first observation is a trial's first one."""
        inner = step.is_first & ~step.is_task_first
        if inner.any():
            carry = select(inner, self.agent.begin_task(len(inner)), carry)
            step = dataclasses.replace(step, is_task_first=step.is_task_first | inner)
        return acted(self.agent, step, carry, rng, explore)

    def adapt(self, trial: Any, rng: Streams) -> Cleared:
        """Itself: what the trial tells is forgotten."""
        return self


def facts_of(cell: SavedCell, options: AdaptOptions) -> dict[str, Any]:
    """What is the same for all cells of a target: JSON values."""
    target = cell.target
    return {
        "target": target.name,
        "episodes": options.episodes or target.episodes_per_trial,
        "episodes_per_trial": target.episodes_per_trial,
        "trials": _evaluation(cell, options).repeats,
        "rollouts": cell.experiment.transfer.evaluation.rollouts,
        "test_tasks": [task.name for task in target.test_tasks],
        "references": target.references(),
    }


def played(cell: SavedCell, options: AdaptOptions, films: Path) -> tuple[dict[str, Any], list[Path]]:
    """Play the trials of a cell's evaluations with its agent: what was measured, as JSON values, and the videos and
    maps that were written into `films`, where those of earlier calls are removed. Without exploration; algorithms that
    adapt play as in their evaluations.

    Raises UserError if keeping the episodes takes too much memory.
    """
    evaluation, record = _evaluation(cell, options), read_record(cell.folder)
    mapped = options.maps > 0 and cell.arm.entry.maps and bool(cell.target.distribution.workspace)
    whole = evaluation.inspects or mapped
    if whole:
        _refuse_too_much(cell, evaluation)
    with contextlib.closing(evaluation):
        agent = cell.load()
        kept = evaluation.play(agent, keep=whole or ("reward", "success"))
        measured = _measured(kept) | {"inspected": evaluation.inspected(agent, kept)}
        if options.cleared:
            measured["cleared"] = _measured(evaluation.play(Cleared(agent), keep=("reward", "success")))
        remove(films, ("trial_[0-9]*.mp4", *(f"{PREFIX}[0-9]*.{kind}" for kind in ("npz", "png", "mp4"))))
        videos = [evaluation.film(agent, k, films / f"trial_{k}.mp4")
                  for k in range(min(options.video, evaluation.repeats))]  # fmt: skip
        if mapped:
            videos += looked(cell, evaluation, agent, kept, options.maps, films)
    facts = {"status": record.get("status"), "updates": agent.updates, "env_steps": record.get("env_steps")}
    return facts | measured, [path for path in videos if path]


def remove(folder: Path, patterns: Iterable[str]) -> None:
    """Remove the files of these names: what an earlier call drew of other trials would be taken for this one's."""
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        if path.is_file() or path.is_symlink():
            path.unlink()


def _evaluation(cell: SavedCell, options: AdaptOptions) -> Evaluation:
    longer = dataclasses.replace(cell.target, episodes_per_trial=options.episodes or cell.target.episodes_per_trial)
    transfer = cell.experiment.transfer
    return Evaluation(longer, cell.arm.entry, transfer.evaluation, transfer.side_by_side, options.trials)


def _measured(kept: Played) -> dict[str, Any]:
    """Returns and, where the suite tells it, success (N, R, E), and their course: per episode of the trial a mean after
    each of its steps.
    """
    found = {"returns": kept.returns.tolist(), "reward_by_step": by_step(kept.episodes, "reward")}
    if np.isnan(kept.success).any():
        return found
    return found | {"success": kept.success.astype(float).tolist(),
                    "success_by_step": by_step(kept.episodes, "success")}  # fmt: skip


def _refuse_too_much(cell: SavedCell, evaluation: Evaluation) -> None:
    target, distribution = evaluation.target, cell.target.distribution
    frames = len(target.test_tasks) * evaluation.repeats * target.episodes_per_trial
    frames *= distribution.max_episode_steps + 1
    size = 2 * predicted_bytes(Spec.of(distribution), frames)
    if size > MOST_BYTES:
        raise UserError(f"asking {cell.arm} what it believed takes {size / 1e9:.0f} GB of episodes in memory, at most "
                        f"{MOST_BYTES / 1e9:.0f} are taken: lower trials= or episodes=")  # fmt: skip
