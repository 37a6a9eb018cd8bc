"""Source data: episodes of every source in turn, by scripts, by noise, by a policy, or from logged data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property

import numpy as np

from meta_latent.data.collect import Actor, Noise, Scripted, play_episode
from meta_latent.data.replay import SequenceReplay
from meta_latent.experiment.pretraining import logged_data
from meta_latent.experiment.settings.schema import ExperimentConfig, PretrainConfig, SourceConfig
from meta_latent.experiment.settings.suites import BoundTask
from meta_latent.rng import Streams, derive

ActorOf = Callable[[BoundTask, int], Actor]
"""(source, number of the episode) -> who plays it."""


def scripted_share(settings: PretrainConfig, source: SourceConfig) -> float:
    """The share of this source's episodes that its script plays; of logged data, none."""
    if source.data:
        return 0.0
    return settings.scripted if source.scripted is None else source.scripted


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
        mask = None
        if self.heads > 1:
            mask = streams.numpy("mask").random(self.heads) < self.config.head_share
        replay.add_episode(episode, mask, which)

    def _played(self, index: int, which: int, actor_of: ActorOf, streams: Streams) -> dict[str, np.ndarray]:
        source, varies = self.sources[which], bool(self.sources[which].task.distractors)
        if varies:
            drawn = derive(self.experiment.seed, "distractors", index) % 1_000_000
            source = source.with_distractor_seed(drawn)
        if not varies and which not in self._rows:
            rows = source.distribution.make_vector([source.task])
            self._rows[which] = self._opened.enter_context(contextlib.closing(rows))
        rows = source.distribution.make_vector([source.task]) if varies else self._rows[which]
        seed = derive(self.experiment.seed, "episode", index) % 2**31
        episode = play_episode(rows, actor_of(source, index), seed, streams, show=("inputs",))
        if varies:
            rows.close()
        return episode

    def behaviour(self, source: BoundTask, index: int) -> Actor:
        """Scripted episodes at regular turns of each source; else correlated noise."""
        actions = source.distribution.action_space.shape[0]
        turn, which = divmod(index, len(self.sources))
        share = scripted_share(self.config, self.config.each_source[which])
        if int((turn + 1) * share) > int(turn * share):
            script = source.distribution.scripted(source.task)
            return Scripted([script], actions, self.config.scripted_noise)
        return Noise(actions, self.experiment.random)

    def trained(self, replay: SequenceReplay) -> np.ndarray:
        """Places of the episodes to train on: all but the last `held_out` share. Empty if there are too few."""
        episodes = len(replay.episodes)
        return np.arange(max(0, episodes - max(2, round(episodes * self.config.held_out))))

    def close(self) -> None:
        """Close the environments."""
        self._opened.close()
