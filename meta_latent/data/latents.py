"""What a frozen encoder makes of a replay, computed once: latents that dynamics, rewards and policies learn
from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch

from meta_latent.data.replay import SequenceReplay
from meta_latent.data.windows import draw_windows, multiplicity


@dataclass(frozen=True)
class LatentWindows:
    """Windows of H + 1 consecutive latents: samples (B, H + 1, Z), memories (B, H + 1, M), actions (B, H +
    1, A) and rewards (B, H + 1) that led to them, terminal (B, H + 1) bool, head_mask (B, K), rows (B, H + 1) their
    place in the cache, weights (B, H + 1) with which every step of the cache's episodes counts alike: one over how many
    windows hold it. All are 1 where no episode ever ended for good: then a last step is like any other."""

    samples: torch.Tensor
    memories: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    terminal: torch.Tensor
    head_mask: torch.Tensor
    rows: torch.Tensor
    weights: torch.Tensor

    @property
    def packed(self) -> torch.Tensor:
        """(B, H + 1, Z + M), what `LatentStateModel.unpack` makes latents of."""
        return torch.cat([self.samples, self.memories], -1)

    def joined(self, other: LatentWindows) -> LatentWindows:
        """The windows of both, one after the other."""
        return LatentWindows(*(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def shuffled(self, rng: np.random.Generator) -> LatentWindows:
        """The same windows in random order."""
        order = torch.from_numpy(rng.permutation(len(self.rows))).to(self.rows.device)
        return LatentWindows(*(getattr(self, f.name)[order] for f in fields(self)))


class _OfEpisodes:
    """Columns of what is computed once from whole episodes, flat over time, and follows a replay's evictions."""

    def __init__(self):
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.first = 0  # number of the oldest cached episode, counted from the first one ever replayed
        self.lengths: list[int] = []
        self.parts: list[tuple[torch.Tensor, ...]] = []
        self._flat: tuple[torch.Tensor, ...] | None = None

    def __len__(self) -> int:
        """Frames held."""
        return sum(self.lengths)

    @property
    def episodes(self) -> int:
        """Episodes held."""
        return len(self.lengths)

    def _missing(self, replay: SequenceReplay) -> range:
        """Places of the episodes to append; those that the replay evicted are forgotten."""
        gone = min(max(replay.evicted - self.first, 0), self.episodes)
        if gone:
            start = sum(self.lengths[:gone])
            self.parts = [tuple(column[start:].clone() for column in self.flat())]
            self.lengths, self._flat = self.lengths[gone:], None
        self.first = replay.evicted
        return range(self.episodes, len(replay.episodes))

    def _append(self, *columns: torch.Tensor) -> None:
        self.parts.append(columns)
        self.lengths.append(len(columns[0]))
        self._flat = None

    def flat(self) -> tuple[torch.Tensor, ...]:
        """Every column (N, ...), in the order of the replay's frames."""
        if self._flat is None:
            self._flat = tuple(torch.cat(column) for column in zip(*self.parts, strict=True))
            self.parts = [self._flat] if self.parts else []
        return self._flat


class EmbeddingCache(_OfEpisodes):
    """Embeddings of a replay's frames. An update of the encoder invalidates it: call `clear` and `extend` again."""

    @torch.no_grad()
    def extend(self, model, replay: SequenceReplay, chunk: int = 2048) -> None:
        """Embed the replay's episodes that are not cached yet and append them; evicted ones leave the cache."""
        for index in self._missing(replay):
            self._append(embed_episode(model, replay, replay.read(index), chunk))

    def embeddings(self, frames: torch.Tensor) -> torch.Tensor:
        """(...,) places among the replay's frames, as batches name them, -> (..., Z)."""
        (held,) = self.flat()
        return held[frames.to(held.device)]


class LatentCache(_OfEpisodes):
    """Latents of whole episodes, flat over time. Each is filtered on its own: computed again, it is
    bit-equal.

    `flat` holds samples (N, Z), memories (N, M), actions (N, A), rewards (N,), terminal (N,), head_mask (N, K).
    An update of the encoder or of the core invalidates the cache: call `clear` and `extend` again. ends: whether an
    episode of the replay ever ended for good.
    """

    ends = False

    @torch.no_grad()
    def extend(
        self, model, replay: SequenceReplay, chunk: int = 2048, relabel: Callable[[dict], torch.Tensor] | None = None
    ) -> None:
        """Filter the replay's episodes that are not cached yet and append them; episodes that the replay
        evicted leave the cache. `relabel`: an episode's arrays -> its rewards (T +
        1,), instead of its own.
        """
        self.ends = replay.ended
        for index in self._missing(replay):
            episode = replay.read(index)
            embeddings = embed_episode(model, replay, episode, chunk)
            actions, rewards, present = (
                torch.from_numpy(np.array(episode[k])).to(model.device) for k in ("action", "reward", "reward_present")
            )
            # Filtered without rewards: what a target's reward head learns must not depend on an input it may
            # not have.
            latent = model.filter(embeddings[None], actions[None], rewards[None], torch.zeros_like(present)[None])
            if relabel is not None:
                rewards = relabel(episode).to(model.device)
            mask = torch.from_numpy(episode["head_mask"]).to(model.device).expand(len(actions), -1)
            terminal = torch.from_numpy(episode["is_terminal"]).to(model.device)
            self._append(latent.sample[0], latent.memory[0], actions, rewards, terminal, mask)

    def windows(self, batch_size: int, horizon: int, rng: np.random.Generator, cut: bool = False) -> LatentWindows:
        """Windows of H + 1 within one episode each, uniform over all. UserError: all episodes are shorter.

        cut: windows begin with any transition, uniform over all; those that an episode's end cuts short repeat its last
        frame, as their `rows` tell. Their weights are 1.
        """
        lengths = np.array(self.lengths)
        episode, offset = draw_windows(
            lengths,
            2 if cut else horizon + 1,
            batch_size,
            rng,
            "lower learner.horizon, or what the algorithm unrolls (such as its horizon under algorithms.NAME)",
        )
        ends = lengths.cumsum()
        start = (ends - lengths)[episode] + offset
        rows = torch.from_numpy(np.minimum(start[:, None] + np.arange(horizon + 1), ends[episode, None] - 1))
        *columns, mask = self.flat()
        rows, weights = rows.to(mask.device), torch.ones(rows.shape)
        if self.ends and not cut:
            weights = 1 / torch.from_numpy(multiplicity(lengths[episode], horizon + 1, offset))
        weights = weights.to(columns[3])
        return LatentWindows(*(column[rows] for column in columns), mask[rows[:, 0]], rows, weights)


@torch.no_grad()
def embed_episode(model, replay: SequenceReplay, episode: dict[str, np.ndarray], chunk: int = 2048) -> torch.Tensor:
    """(T + 1, Z) embeddings of one episode, at most `chunk` images at a time."""
    length, device = len(episode["reward"]), model.device
    images = {c: torch.from_numpy(np.array(episode[f"image_{c}"])) for c in replay.spec.images}
    proprio = torch.from_numpy(np.array(episode["proprio"]))
    return torch.cat(
        [
            model.embed({c: x[i : i + chunk].to(device) for c, x in images.items()}, proprio[i : i + chunk].to(device))
            for i in range(0, length, chunk)
        ]
    )
