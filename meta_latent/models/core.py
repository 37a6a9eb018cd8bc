"""The recurrent core: what is remembered, how it is filtered, and K heads that predict the next step.

A latent is a Gaussian `sample` in the space of embeddings and the `memory` of a GRU that has read every
sample, action and (where present) reward so far. Compared with the RSSM of PlaNet/Dreamer (Hafner et al.
2019):

* the posterior reads the current embedding alone, as in STORM (Zhang et al. 2023): filtering is parallel
  over time;
* its mean IS the embedding and the prior's mean is the previous sample plus a predicted change, so that what
  an encoder makes explicit (keypoints, proprioception) stays explicit under imagination;
* the reward enters the GRU with a presence flag, never the sample: a fed reward cannot leak into its own
  prediction;
* K prior heads (with or without a common trunk) instead of one; they also read `relations` of the sample,
  such as distances between keypoints.

The `deterministic` core is the same without noise (IVG's "expected" observations).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import nn

from meta_latent.models.config import CoreConfig, EnsembleConfig
from meta_latent.nets import MLP, EnsembleMLP


@dataclass(frozen=True)
class Latent:
    """What the model remembers: (B, ...) tensors.

    Attributes:
        sample: (B, Z) a draw of the Gaussian state (its mean in a deterministic core). mean, stddev: (B, Z)
            of the distribution it was drawn from; an expected future is a point, with stddev 0.
        memory: (B, M) the GRU's state. relations: (B, R) what the encoder makes explicit about pairs in the
            sample, such as distances.
    """

    sample: torch.Tensor
    mean: torch.Tensor
    stddev: torch.Tensor
    memory: torch.Tensor
    relations: torch.Tensor

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Latent:
        """The latent with every tensor changed, such as ``latent.map(lambda x: x.flatten(0, 1))``."""
        return Latent(*(change(getattr(self, f.name)) for f in fields(self)))

    def detach(self) -> Latent:
        """The same values outside the graph."""
        return self.map(torch.Tensor.detach)

    def __getitem__(self, index) -> Latent:
        return self.map(lambda x: x[index])


class TransitionDistribution:
    """p(next latent | latent, action) of one head per row; a Gaussian over the next sample, a GRU step for
    the memory.
    """

    def __init__(self, core: RecurrentCore, latent: Latent, action: torch.Tensor, mean: torch.Tensor,
                 raw_stddev: torch.Tensor | None):
        self._core, self._latent, self._action = core, latent, action
        self.loc, self._raw_stddev = mean, raw_stddev

    @property
    def stddev(self) -> torch.Tensor:
        """(B, Z); zeros in a deterministic core. Computed on demand: expected futures do not need it."""
        raw = self._raw_stddev
        return torch.zeros_like(self.loc) if raw is None else self._core.stddev(raw)

    def _next(self, sample: torch.Tensor, stddev: torch.Tensor) -> Latent:
        memory = self._core.remember(self._latent.memory, sample, self._action)
        return Latent(sample, self.loc, stddev, memory, self._core.relate(sample))

    def mean(self) -> Latent:
        """The expected next latent (IVG), a point: its stddev is 0."""
        return self._next(self.loc, torch.zeros_like(self.loc))

    def sample(self, rng: torch.Generator) -> Latent:
        """A reparameterised draw; in a deterministic core the mean."""
        if not self._core.stochastic:
            return self.mean()
        noise = torch.randn(self.loc.shape, generator=rng).to(self.loc.device)
        stddev = self.stddev
        return self._next(self.loc + stddev * noise, stddev)

    def log_prob(self, sample: torch.Tensor) -> torch.Tensor:
        """(B, Z) -> (B,) log density; a deterministic core has none and raises."""
        if not self._core.stochastic:
            raise ValueError("a deterministic core has no density; use a model whose core is 'rssm'")
        return gaussian_log_prob(sample, self.loc, self.stddev).sum(-1)


def gaussian_log_prob(x: torch.Tensor, mean: torch.Tensor, stddev: torch.Tensor) -> torch.Tensor:
    """Elementwise log N(x; mean, stddev^2)."""
    return -0.5 * ((x - mean) / stddev).square() - stddev.log() - 0.5 * math.log(2 * math.pi)


def gaussian_kl(mean_q, stddev_q, mean_p, stddev_p) -> torch.Tensor:
    """Elementwise KL(N(mean_q, stddev_q^2) || N(mean_p, stddev_p^2)) in nats."""
    return (
        (stddev_p / stddev_q).log()
        + (stddev_q.square() + (mean_q - mean_p).square()) / (2 * stddev_p.square())
        - 0.5
    )


@dataclass(frozen=True)
class Routing:
    """Which rows go through which head: `rows` (K, n) row per slot (short groups repeat row 0), `slots` (B,)
    slot per row; `in_place`: slot and row are the same, as in K equal groups one after the other, and nothing
    needs to be moved. Made once by `route` and reused along a trajectory."""

    rows: torch.Tensor
    slots: torch.Tensor
    in_place: bool

    def group(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, ...) -> (K, n, ...)."""
        return rows.unflatten(0, self.rows.shape) if self.in_place else rows[self.rows]

    def scatter(self, groups: torch.Tensor) -> torch.Tensor:
        """The inverse: (K, n, ...) -> (B, ...)."""
        return groups.flatten(0, 1) if self.in_place else groups.flatten(0, 1)[self.slots]


def route(head: torch.Tensor | Routing, heads: int) -> Routing:
    """Group the rows of `head` (B,), values 0..heads-1."""
    if isinstance(head, Routing):
        return head
    order = torch.argsort(head, stable=True)
    counts = torch.bincount(head, minlength=heads)
    largest = int(counts.max())
    starts = counts.cumsum(0) - counts
    within = torch.arange(len(head), device=head.device) - starts[head[order]]
    slot = head[order] * largest + within
    rows = torch.zeros(heads * largest, dtype=torch.long, device=head.device)
    rows[slot] = order
    slots = torch.empty_like(head)
    slots[order] = slot
    every_row = torch.arange(len(head), device=head.device)
    in_place = len(head) == heads * largest and torch.equal(slots, every_row)
    return Routing(rows.view(heads, largest), slots, in_place)


class RecurrentCore(nn.Module):
    """Posterior, memory and K transition heads over embeddings of size `size`.

    `relate` maps samples (..., Z) to `relations` further inputs of the heads, such as distances: contact is
    about those.
    """

    def __init__(
        self,
        size: int,
        action_size: int,
        core: CoreConfig,
        ensemble: EnsembleConfig,
        relate: Callable[[torch.Tensor], torch.Tensor] = lambda sample: sample[..., :0],
        relations: int = 0,
    ):
        super().__init__()
        self.relate = relate
        self.stochastic = core.kind == "rssm"
        self.size, self.memory_size, self.heads, self.min_stddev = (
            size,
            core.memory,
            ensemble.heads,
            core.min_stddev,
        )
        self.gru = nn.GRU(size + action_size + 2, core.memory, batch_first=True)
        self.spread = MLP(size, size, core.hidden, 1, output_scale=0.1) if self.stochastic else None
        outputs = 2 * size if self.stochastic else size
        self.transitions = EnsembleMLP(
            ensemble.heads,
            size + relations + core.memory + action_size,
            outputs,
            ensemble.hidden,
            ensemble.layers,
            ensemble.shared_layers,
            output_scale=0.1,
        )

    def initial(self, batch_size: int, device=None) -> Latent:
        """The latent before the first observation: zeros."""
        zeros = torch.zeros(batch_size, self.size, device=device)
        memory = torch.zeros(batch_size, self.memory_size, device=device)
        return self.latent(zeros, zeros, torch.ones_like(zeros), memory)

    def latent(self, sample, mean, stddev, memory) -> Latent:
        """A latent with the relations of its sample."""
        return Latent(sample, mean, stddev, memory, self.relate(sample))

    def stddev(self, raw: torch.Tensor) -> torch.Tensor:
        """Unbounded outputs -> standard deviations of at least `min_stddev`."""
        return nn.functional.softplus(raw - 2.0) + self.min_stddev

    def posterior(self, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(..., Z) -> mean and stddev of q(sample | embedding)."""
        if self.spread is None:
            return embedding, torch.zeros_like(embedding)
        return embedding, self.stddev(self.spread(embedding))

    def draw(self, mean: torch.Tensor, stddev: torch.Tensor, rng: torch.Generator | None) -> torch.Tensor:
        """A sample of the posterior (its mean without a generator or without noise)."""
        if rng is None or not self.stochastic:
            return mean
        return mean + stddev * torch.randn(mean.shape, generator=rng).to(mean.device)

    def remember(self, memory, sample, action, reward=None, present=None) -> torch.Tensor:
        """One GRU step: (B, M), (B, Z), (B, A) and an optional reward (B,) -> (B, M)."""
        if reward is None:
            signal = torch.zeros(*sample.shape[:-1], 2, device=sample.device)
        else:
            signal = torch.stack([reward * present, present], -1)
        gru = self.gru
        return torch.gru_cell(
            torch.cat([sample, action, signal], -1),
            memory,
            gru.weight_ih_l0,
            gru.weight_hh_l0,
            gru.bias_ih_l0,
            gru.bias_hh_l0,
        )

    def remember_sequence(self, samples, actions, rewards, present, memory=None) -> torch.Tensor:
        """Memory after every step of a sequence: (B, T, ...) -> (B, T, M)."""
        signal = torch.stack([rewards * present, present], -1)
        start = None if memory is None else memory[None].contiguous()
        return self.gru(torch.cat([samples, actions, signal], -1), start)[0]

    def transition(
        self, latent: Latent, action: torch.Tensor, head: torch.Tensor | Routing
    ) -> TransitionDistribution:
        """p(next latent | latent, action) for rows (B, ...), each by its head: `head` (B,) or a `Routing` of
        it.
        """
        routing = route(head, self.heads)
        inputs = torch.cat([latent.sample, latent.relations, latent.memory, action], -1)
        out = routing.scatter(self.transitions(routing.group(inputs)))
        change, raw_stddev = out.chunk(2, -1) if self.stochastic else (out, None)
        return TransitionDistribution(self, latent, action, latent.sample + change, raw_stddev)
