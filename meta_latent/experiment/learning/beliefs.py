"""Maps of what a trained agent's belief expects to be paid where, along trials of test tasks.

An agent says what its beliefs expect in frames (`Agent.believed_rewards`); the frames are those of episodes that were
played, so that any family has maps that names its `workspace`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from meta_latent.data.collect import Noise, NoiseConfig, Played, Scripted, Shown, play
from meta_latent.experiment.learning.evaluation import Evaluation
from meta_latent.experiment.learning.inspection import replay_of
from meta_latent.experiment.learning.saved import SavedCell
from meta_latent.experiment.report.figures import belief_figures, drawing
from meta_latent.experiment.report.reading import beliefs
from meta_latent.experiment.report.reading.beliefs import Belief, Facts
from meta_latent.experiment.runs.video import Film, write_mp4
from meta_latent.experiment.settings.suites import BoundTarget
from meta_latent.protocols import Agent
from meta_latent.rng import Streams, derive
from meta_latent.types import SequenceBatch, Spec
from task_suites import SuiteError, Task, TaskDistribution

GRID = 48
"""Points of a map along each axis."""
CELLS, PER_CELL = 24, 3
"""Frames are thinned to so many in each of CELLS x CELLS cells of the workspace."""
REACH = 3.0
"""Points of a map that are farther than so many cells from every frame stay blank."""
EPISODES = 64
"""Of random and of scripted behaviour each, to visit the workspace."""
FILM_FPS = 5.0
"""At most: a belief takes longer to read than a scene."""


@dataclass(frozen=True)
class Workspace:
    """Frames (1, N) at places of the plane that the family `suite` calls its workspace."""

    suite: TaskDistribution
    frames: SequenceBatch

    @classmethod
    def of(cls, suite: TaskDistribution, episodes: Sequence[dict[str, np.ndarray]]) -> Workspace:
        """From whole `episodes`, thinned evenly over the workspace; first observations, which nothing led to, are left
        out.
        """
        empty = cls(suite, None)
        inputs = np.concatenate([episode["reward_inputs"][1:] for episode in episodes])
        left, right, bottom, top = empty.extent
        chosen = _thinned(inputs[:, empty.columns], np.array([left, bottom]), np.array([right, top]))
        return cls(suite, _frames(episodes, chosen))

    @property
    def axes(self) -> tuple[str, str]:
        """The reward inputs that span it."""
        return tuple(self.suite.workspace)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top."""
        return tuple(float(end) for ends in self.suite.workspace.values() for end in ends)

    @property
    def columns(self) -> list[int]:
        """Where its axes stand among the reward inputs."""
        return [self.suite.reward_input_names.index(name) for name in self.axes]

    def paid(self, task: Task) -> np.ndarray:
        """What `task` pays at the frames, (N,)."""
        inputs, action = self.frames.reward_inputs[0].numpy(), self.frames.action[0].numpy()
        return np.asarray(self.suite.reward(task, inputs, action), np.float64)

    def map(self, values: np.ndarray) -> np.ndarray:
        """Values (..., N) at the frames as maps (..., GRID, GRID), row 0 lowest: means weighted by a Gaussian of half a
        cell's width (kernel regression: Nadaraya 1964, Watson 1964), NaN beyond `REACH`.
        """
        left, right, bottom, top = self.extent
        places = self.frames.reward_inputs[0].numpy()[:, self.columns]
        cell = np.array([right - left, top - bottom]) / CELLS
        middle = (np.arange(GRID) + 0.5) / GRID
        points = np.stack(np.meshgrid(left + (right - left) * middle, bottom + (top - bottom) * middle), -1)
        square = (((points.reshape(-1, 1, 2) - places) / cell) ** 2).sum(-1)
        nearest = square.min(1, keepdims=True)
        weights = np.exp(-2.0 * (square - nearest))
        weights /= weights.sum(1, keepdims=True)
        weights[nearest[:, 0] > REACH**2] = np.nan
        return (values @ weights.T).reshape(*values.shape[:-1], GRID, GRID)


def _thinned(places: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which of `places` (n, 2) stay: at most `PER_CELL` in each cell between `low` and `high`, drawn."""
    cells = np.floor((places - low) / (high - low) * CELLS).clip(0, CELLS - 1).astype(int)
    inside = np.flatnonzero(((places >= low) & (places <= high)).all(1))
    taken, chosen = np.zeros((CELLS, CELLS), int), []
    for k in Streams(derive(0, "workspace")).numpy("frames").permutation(inside):
        if taken[tuple(cells[k])] < PER_CELL:
            taken[tuple(cells[k])] += 1
            chosen.append(k)
    return np.sort(np.array(chosen, int))


def _frames(episodes: Sequence[dict[str, np.ndarray]], chosen: np.ndarray) -> SequenceBatch:
    """The `chosen` of all frames but the first ones, as one sequence."""

    def whole(name: str) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([episode[name][1:] for episode in episodes])[chosen])[None]

    images = {name.removeprefix("image_"): whole(name) for name in episodes[0] if name.startswith("image_")}
    flags = ("reward", "reward_present", "is_first", "is_last", "is_terminal", "is_task_first", "reward_inputs")
    return SequenceBatch(images, whole("proprio"), whole("action"), *map(whole, flags))


def visited(target: BoundTarget, played: Played) -> list[dict[str, np.ndarray]]:
    """Whole episodes that went about the workspace: those that were `played`, random ones, and scripted ones with noise
    where the family has scripts; of training tasks, whose observations are those of test tasks.
    """
    tasks = [target.tasks[k % len(target.tasks)] for k in range(EPISODES)]
    size, found = target.distribution.action_space.shape[0], [e for trial in played.episodes for e in trial]
    actors = [Noise(size, NoiseConfig())]
    with contextlib.suppress(SuiteError):  # own tasks need no script
        actors.append(Scripted([task.distribution.scripted(task.task) for task in tasks], size, noise=0.5))
    rows = target.distribution.make_vector([task.task for task in tasks])
    try:
        for number, actor in enumerate(actors):
            rng, seeds = Streams(derive(0, "workspace", number)), np.arange(len(tasks))[:, None]
            episodes = play(rows, actor, seeds, rng, explore=True, shown=Shown({"inputs"}), keep=True).episodes
            found += [episode for (episode,) in episodes]
    finally:
        rows.close()
    return found


def chosen_tasks(first: np.ndarray, count: int) -> list[tuple[int, int]]:
    """(test task, how many paid less) of `count` of them, evenly from the one that paid least on in its first episode;
    `first`: returns (N,) of those.
    """
    order, count = np.argsort(first, kind="stable"), min(count, len(first))
    return [(int(order[k * len(first) // count]), k * len(first) // count) for k in range(count)]


def looked(
    cell: SavedCell, evaluation: Evaluation, agent: Agent, played: Played, count: int, folder: Path
) -> list[Path]:
    """Write what the belief of `agent` expects in trials of `count` test tasks into `folder`: belief_K.npz and .png,
    and a film of the first, belief_0.mp4. `played`: the evaluation's trials, whole episodes kept.
    """
    suite, tasks = cell.target.learned_from()
    workspace, written = Workspace.of(suite, visited(cell.target, played)), []
    if not workspace.frames.reward.numel():
        where = f"its workspace {dict(suite.workspace)}"
        warnings.warn(f"no maps: no episode of {suite.name} came into {where}", stacklevel=2)
        return []
    for k, (n, below) in enumerate(chosen_tasks(played.returns[:, 0, 0], count)):
        scenes, path = Film(), folder / f"{beliefs.PREFIX}{k}.npz"
        trial = evaluation.again(agent, n * evaluation.repeats, scenes, keep=True)
        facts = Facts(
            str(cell.arm), cell.target.name, cell.seed, cell.target.test_tasks[n].name, below, len(tasks),
            tuple(trial.returns.flat), tuple(len(episode["reward"]) for episode in trial.episodes[0]), workspace.axes,
            workspace.extent, suite.goal(tasks[n]), evaluation.inspected(agent, trial))  # fmt: skip
        belief = believed(agent, workspace, facts, workspace.paid(tasks[n]), trial.episodes[0], scenes.frames)
        written.append(beliefs.save(belief.at(beliefs.moments(facts.lengths)), path))
        strip = belief_figures.strip(beliefs.read(path))
        written.append(drawing.save_png(strip, path.with_suffix(".png"), dpi=90))
        if k == 0:
            frames = np.stack(list(belief_figures.film(belief)))
            written.append(write_mp4(path.with_suffix(".mp4"), frames, min(FILM_FPS, scenes.fps)))
    return written


def believed(
    agent: Agent, workspace: Workspace, facts: Facts, paid: np.ndarray, trial: Sequence[dict[str, np.ndarray]],
    scenes: Sequence[np.ndarray | None],
) -> Belief:  # fmt: skip
    """What `agent`'s belief expects at every observation of a `trial`, beside the rewards (N,) `paid` at the frames;
    `scenes`: a picture, or None, of each.
    """
    batch = replay_of(Spec.of(workspace.suite), [trial], agent.heads).trials(None, len(trial))
    expected = agent.believed_rewards(batch, workspace.frames)[0].numpy().astype(np.float64)
    drawn = all(scene is not None for scene in scenes)
    pictures = np.stack(scenes) if drawn else np.zeros((0, 1, 1, 3), np.uint8)
    places = batch.reward_inputs[0].numpy()[:, workspace.columns]
    maps = workspace.map(np.concatenate([expected, paid[None]])).astype(np.float32)
    return Belief(facts, np.arange(len(expected)), maps[:-1], maps[-1], pictures, places)
