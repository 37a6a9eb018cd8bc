"""Source episodes beside a target's: for the model's batches and for imagination starts, never for
rewards.
"""

from __future__ import annotations

import numpy as np

from meta_latent.data.latents import LatentCache, LatentWindows
from meta_latent.data.replay import SequenceReplay
from meta_latent.data.windows import telling
from meta_latent.types import SequenceBatch


class SourceData:
    """A source replay that an agent (`LatentAgent`) learns from while it learns a target.

    The agent's loop is: ``sequences`` for the model's losses, ``clear`` after the encoder or the core
    changed, ``extend`` before ``windows`` of latents are drawn.

    Args:
        replay: the source episodes. at_once: episodes whose latents are held; where the encoder stays frozen
            all of them, else a part, because each change of the encoder costs encoding them again. `clear`
            turns to the next part, so that all get their turn.
    """

    def __init__(self, replay: SequenceReplay, at_once: int):
        self.replay, self.at_once, self.turn = replay, min(at_once, len(replay.episodes)), 0
        self.cache = LatentCache()

    def sequences(self, batch_size: int, length: int, rng: np.random.Generator) -> SequenceBatch:
        """(B, T) windows whose rewards are hidden: zero, with presence flag 0."""
        return self.replay.sequences(batch_size, length, rng).without_rewards()

    def clear(self) -> None:
        """Forget the latents and turn to the next episodes."""
        self.cache.clear()
        self.turn += 1

    def extend(self, model) -> None:
        """Encode this turn's episodes, unless that is done."""
        if self.cache.episodes == 0:
            chosen = (self.turn * self.at_once + np.arange(self.at_once)) % len(self.replay.episodes)
            self.cache.extend(model, self.replay.subset(chosen))

    def windows(self, batch_size: int, horizon: int, rng: np.random.Generator) -> LatentWindows:
        """Windows of H + 1 latents of this turn's episodes (see `LatentCache.windows`); do not use their
        rewards.
        """
        with telling(None):  # the pretraining has told of short ones
            return self.cache.windows(batch_size, horizon, rng)

    def state(self) -> dict:
        """Whose turn it is; latents are encoded again."""
        return {"turn": self.turn}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        self.turn = int(state["turn"])
        self.cache.clear()
