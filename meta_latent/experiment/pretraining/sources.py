"""Source data: episodes of every source in turn, by scripts, by noise, by a policy, or from logged data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from meta_latent.data.collect import Actor, Noise, Scripted, Shown, head_mask, play_episode
from meta_latent.data.replay import SequenceReplay
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import lengths, logged_data
from meta_latent.experiment.settings.schema import ExperimentConfig, PretrainConfig, SourceConfig
from meta_latent.experiment.settings.suites import BoundTask
from meta_latent.rng import Streams, derive

ActorOf = Callable[[BoundTask, int], Actor]
"""(source, number of the episode) -> who plays it."""

KEPT_OPEN = 16
"""Sources whose environments stay open. One of Meta-World takes 70 MB, and is made in the time of ten steps."""


def scripted_share(settings: PretrainConfig, source: SourceConfig) -> float:
    """The share of this source's episodes that its script plays; of logged data, none."""
    if source.data:
        return 0.0
    return settings.scripted if source.scripted is None else source.scripted


@dataclass(frozen=True)
class ScriptedOutcome:
    """How far the scripts of one of `pretrain.sources` got: episodes that they played, those that came to where their
    task is solved, and whether the script comes there without the noise.
    """

    pays: str
    episodes: int
    solved: int
    solvable: bool


class SourceCollector:
    """Plays episode after episode, the sources in turn; where one varies its distractors, they are drawn anew.

    Episode k starts from a seed that follows from the experiment's seed and k alone.
    """

    def __init__(self, experiment: ExperimentConfig, sources: list[BoundTask], heads: int):
        self.experiment, self.config, self.sources = experiment, experiment.pretrain, sources
        self.heads = heads
        self._rows: dict[int, object] = {}
        self._opened = contextlib.ExitStack()

    @cached_property
    def logged(self) -> dict[int, logged_data.LoggedSource]:
        """The episodes of sources that have data, opened when the first one is asked for."""
        return logged_data.of_sources(self.config.each_source, self.sources)

    def has_next(self, replay: SequenceReplay) -> bool:
        """Whether there is a next episode: logged data can be used up."""
        turn, which = divmod(len(replay.episodes), len(self.sources))
        return which not in self.logged or turn < len(self.logged[which])

    def episode(self, replay: SequenceReplay, actor_of: ActorOf, streams: Streams) -> None:
        """Add the next episode to the replay."""
        turn, which = divmod(len(replay.episodes), len(self.sources))
        if which in self.logged:
            episode = self.logged[which].episode(turn)
        else:
            episode = self._played(len(replay.episodes), which, actor_of, streams)
        owner = which if self.config.own_heads else None
        replay.add_episode(episode, head_mask(self.heads, self.config.head_share, streams, owner), which)

    def _played(self, index: int, which: int, actor_of: ActorOf, streams: Streams) -> dict[str, np.ndarray]:
        source, varies = self.sources[which], bool(self.sources[which].task.distractors)
        if varies:
            drawn = derive(self.experiment.seed, "distractors", index) % 1_000_000
            source = source.with_distractor_seed(drawn)
        if not varies and which not in self._rows and len(self._rows) < KEPT_OPEN:
            rows = source.distribution.make_vector([source.task])
            self._rows[which] = self._opened.enter_context(contextlib.closing(rows))
        seed = derive(self.experiment.seed, "episode", index) % 2**31
        with contextlib.ExitStack() as anew:
            rows = None if varies else self._rows.get(which)
            if rows is None:
                rows = anew.enter_context(contextlib.closing(source.distribution.make_vector([source.task])))
            try:
                return play_episode(rows, actor_of(source, index), seed, streams, Shown({"inputs"}))
            except UserError as error:
                raise UserError(f"{source.name}: {error}") from error

    def behaviour(self, source: BoundTask, index: int) -> Actor:
        """Scripted episodes at regular turns of each source; else correlated noise."""
        actions = source.distribution.action_space.shape[0]
        if self._is_scripted(index):
            script = source.distribution.scripted(source.task)
            return Scripted([script], actions, self.config.scripted_noise)
        return Noise(actions, self.experiment.random)

    def _is_scripted(self, index: int) -> bool:
        turn, which = divmod(index, len(self.sources))
        share = scripted_share(self.config, self.config.each_source[which])
        return int((turn + 1) * share) > int(turn * share)

    def scripted_outcomes(self, replay: SequenceReplay) -> list[ScriptedOutcome]:
        """Of the episodes that `behaviour` had played, the first ones of a replay. A script that its own noise keeps
        from ever solving its task shows the model nothing of what comes then. None are of suites that do not tell.
        """
        steps = replay.lengths() - 1
        played = np.flatnonzero(steps.cumsum() - steps < round(self.config.env_steps * (1 - self.config.on_policy)))
        scripted = [int(index) for index in played if self._is_scripted(int(index))]
        found, first = [], 0
        for settings in self.config.sources:
            own = range(first, first + settings.tasks)
            solved = [self._solved(index, replay) for index in scripted if index % len(self.sources) in own]
            if solved and self.sources[first].distribution.tells_success:
                solvable = any(solved) or self._solvable(self.sources[first])
                found.append(ScriptedOutcome(self.sources[first].in_words(), len(solved), sum(solved), solvable))
            first = own.stop
        return found

    def _solved(self, index: int, replay: SequenceReplay) -> bool:
        source = self.sources[index % len(self.sources)]
        return bool(np.any(source.distribution.success(source.task, replay.read(index)["reward_inputs"])))

    def _solvable(self, source: BoundTask) -> bool:
        script = Scripted([source.distribution.scripted(source.task)], source.distribution.action_space.shape[0], 0.0)
        with contextlib.closing(source.distribution.make_vector([source.task])) as rows:
            episode = play_episode(rows, script, 0, Streams(0), Shown({"inputs"}))
        return bool(episode["success"].any())

    def trained(self, replay: SequenceReplay) -> np.ndarray:
        """Places of the episodes to train on: all but the last `held_out` share. Empty if there are too few."""
        episodes = len(replay.episodes)
        return np.arange(max(0, episodes - lengths.held_out(self.config, episodes)))

    def close(self) -> None:
        """Close the environments."""
        self._opened.close()
