"""Cores: what is remembered, how it is filtered, and K heads that predict the next step. The recurrent one is here.

A latent is a Gaussian `sample` in the space of embeddings and the `memory` of what was there before. `RecurrentCore`
remembers in a GRU that has read every sample, action and (where present) reward so far. Compared with the RSSM of
PlaNet/Dreamer (Hafner et al. 2019):

* the posterior reads the current embedding alone, as in STORM (Zhang et al. 2023): filtering is parallel
  over time;
* its mean IS the embedding and the prior's mean is the previous sample plus a predicted change, so that what
  an encoder makes explicit (keypoints, proprioception) stays explicit under imagination;
* the reward enters the GRU with a presence flag, never the sample: a fed reward cannot leak into its own
  prediction;
* K prior heads (with or without a common trunk) instead of one; they also read `relations` of the sample,
  such as distances between keypoints.

The `deterministic` core is the same without noise (IVG's "expected" observations). `sequential_core` has the third.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import nn

from meta_latent.models.config import CoreConfig, EnsembleConfig
from meta_latent.nets import MLP, EnsembleMLP
from meta_latent.ops import gaussian, shares


@dataclass(frozen=True)
class Latent:
    """What the model remembers: (B, ...) tensors.

    Attributes:
        sample: (B, Z) a draw of the Gaussian state (its mean in a deterministic core). mean, stddev: (B, Z)
            of the distribution it was drawn from; an expected future is a point, with stddev 0.
        memory: (B, M) what the core goes on from, such as a GRU's state. relations: (B, R) what the encoder makes
            explicit about pairs in the sample, such as distances.
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
    """p(next latent | latent, action) of one head per row: a Gaussian over the next sample, and the core's memory of
    it.
    """

    def __init__(
        self, core: Core, latent: Latent, action: torch.Tensor, mean: torch.Tensor, raw_stddev: torch.Tensor | None
    ):
        self._core, self._latent, self._action = core, latent, action
        self.loc, self._raw_stddev = mean, raw_stddev

    @property
    def stddev(self) -> torch.Tensor:
        """(B, Z); zeros in a deterministic core. Computed on demand: expected futures do not need it."""
        raw = self._raw_stddev
        return torch.zeros_like(self.loc) if raw is None else self._core.stddev(raw)

    def _next(self, sample: torch.Tensor, stddev: torch.Tensor, rng: torch.Generator | None = None) -> Latent:
        memory = self._core.remember(self._latent.memory, sample, self._action, rng)
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
        return self._next(self.loc + stddev * noise, stddev, rng)

    def log_prob(self, sample: torch.Tensor) -> torch.Tensor:
        """(B, Z) -> (B,) log density; a deterministic core has none and raises."""
        if not self._core.stochastic:
            raise ValueError("a deterministic core has no density; use a model whose core is 'rssm' or 'sequential'")
        return gaussian.log_prob(sample, self.loc, self.stddev).sum(-1)


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


class Core(nn.Module, ABC):
    """What every core answers: `observe` one step, `filter` a sequence, `transition` to imagine one.

    Args:
        size: Z, of embeddings and samples. memory_size: M, of a latent's memory. core, ensemble: its settings.
        relate: maps samples (..., Z) to `relations` (..., R), such as distances: contact is about those.

    A subclass makes its networks, the heads (`make_heads`) last, and writes the abstract methods.
    """

    first_has_prior = False
    """Whether the first frame's posterior is held against a prior, the distribution of `initial`."""

    def __init__(
        self,
        size: int,
        memory_size: int,
        core: CoreConfig,
        ensemble: EnsembleConfig,
        relate: Callable[[torch.Tensor], torch.Tensor],
    ):
        super().__init__()
        self.stochastic = core.kind != "deterministic"
        self.size, self.memory_size, self.heads = size, memory_size, ensemble.heads
        self.min_stddev, self.relate = core.min_stddev, relate

    def make_heads(self, inputs: int, ensemble: EnsembleConfig) -> EnsembleMLP:
        """K networks that say what sample comes next."""
        outputs = 2 * self.size if self.stochastic else self.size
        return EnsembleMLP(
            ensemble.heads, inputs, outputs, ensemble.hidden, ensemble.layers, ensemble.shared_layers, output_scale=0.1
        )

    def initial(self, batch_size: int, device=None) -> Latent:
        """The latent before the first observation: zeros, stddev 1."""
        zeros = torch.zeros(batch_size, self.size, device=device)
        memory = torch.zeros(batch_size, self.memory_size, device=device)
        return self.latent(zeros, zeros, torch.ones_like(zeros), memory)

    def latent(self, sample, mean, stddev, memory) -> Latent:
        """A latent with the relations of its sample."""
        return Latent(sample, mean, stddev, memory, self.relate(sample))

    def stddev(self, raw: torch.Tensor) -> torch.Tensor:
        """Unbounded outputs -> standard deviations of at least `min_stddev`."""
        return nn.functional.softplus(raw - 2.0) + self.min_stddev

    def draw(self, mean: torch.Tensor, stddev: torch.Tensor, rng: shares.Draws | None) -> torch.Tensor:
        """A sample of a Gaussian (its mean without a generator or without noise)."""
        if rng is None or not self.stochastic:
            return mean
        return mean + stddev * shares.randn(mean.shape, rng).to(mean.device)

    def through_heads(
        self, inputs: torch.Tensor, head: torch.Tensor | Routing
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Rows (B, ...), each through its head, (B,) or a `Routing` of it -> (B, Z) and raw stddevs, if there are
        any.
        """
        routing = route(head, self.heads)
        out = routing.scatter(self.transitions(routing.group(inputs)))
        return out.chunk(2, -1) if self.stochastic else (out, None)

    @abstractmethod
    def observe(self, memory, embedding, action, reward, present, rng=None) -> Latent:
        """Filter one step: memory before (B, M), embedding (B, Z), action (B, A), reward and its presence (B,).
        Without a generator samples are means."""

    @abstractmethod
    def filter(self, embeddings, actions, rewards, present, rng=None, memory=None) -> Latent:
        """Filter sequences: (B, T, ...) -> leading (B, T); `memory`: (B, M) before (None: that of `initial`)."""

    @abstractmethod
    def transition(self, latent: Latent, action: torch.Tensor, head: torch.Tensor | Routing) -> TransitionDistribution:
        """p(next latent | latent, action) for rows (B, ...), each by its head: `head` (B,) or a `Routing` of
        it.
        """

    @abstractmethod
    def remember(self, memory, sample, action, rng=None) -> torch.Tensor:
        """Memory (B, M) once `action` has led to `sample` and no reward was seen."""

    @abstractmethod
    def recall(self, memory: torch.Tensor) -> torch.Tensor:
        """(..., M) -> (..., `core.memory`): what predictors and policies read of a memory beside a sample."""

    @abstractmethod
    def belief(self, memory: torch.Tensor) -> torch.Tensor:
        """(..., M) -> (..., B): what they read of it beside the parameters of a sample's distribution."""


class RecurrentCore(Core):
    """Posterior, memory and K transition heads over embeddings of size `size`: see the module's docstring.

    The heads also read `relations` values about pairs in a sample, which `relate` makes of it.
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
        super().__init__(size, core.memory, core, ensemble, relate)
        self.gru = nn.GRU(size + action_size + 2, core.memory, batch_first=True)
        self.spread = MLP(size, size, core.hidden, 1, output_scale=0.1) if self.stochastic else None
        self.transitions = self.make_heads(size + relations + core.memory + action_size, ensemble)

    def posterior(self, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(..., Z) -> mean and stddev of q(sample | embedding)."""
        if self.spread is None:
            return embedding, torch.zeros_like(embedding)
        return embedding, self.stddev(self.spread(embedding))

    def observe(self, memory, embedding, action, reward, present, rng=None) -> Latent:
        """See `Core`."""
        mean, stddev = self.posterior(embedding)
        sample = self.draw(mean, stddev, rng)
        signal = torch.stack([reward * present, present], -1)
        return self.latent(sample, mean, stddev, self._read(memory, sample, action, signal))

    def filter(self, embeddings, actions, rewards, present, rng=None, memory=None) -> Latent:
        """See `Core`; parallel over time but for the GRU."""
        mean, stddev = self.posterior(embeddings)
        sample = self.draw(mean, stddev, rng)
        signal = torch.stack([rewards * present, present], -1)
        start = None if memory is None else memory[None].contiguous()
        return self.latent(sample, mean, stddev, self.gru(torch.cat([sample, actions, signal], -1), start)[0])

    def transition(self, latent: Latent, action: torch.Tensor, head: torch.Tensor | Routing) -> TransitionDistribution:
        """See `Core`: the mean is the sample and a predicted change."""
        inputs = torch.cat([latent.sample, latent.relations, latent.memory, action], -1)
        change, raw_stddev = self.through_heads(inputs, head)
        return TransitionDistribution(self, latent, action, latent.sample + change, raw_stddev)

    def remember(self, memory, sample, action, rng=None) -> torch.Tensor:
        """See `Core`: one GRU step without noise."""
        return self._read(memory, sample, action, torch.zeros(*sample.shape[:-1], 2, device=sample.device))

    def recall(self, memory: torch.Tensor) -> torch.Tensor:
        """See `Core`: all of it."""
        return memory

    belief = recall

    def _read(self, memory, sample, action, signal) -> torch.Tensor:
        """One GRU step: (B, M), (B, Z), (B, A) and a reward with its presence (B, 2) -> (B, M)."""
        gru = self.gru
        return torch.gru_cell(
            torch.cat([sample, action, signal], -1),
            memory,
            gru.weight_ih_l0,
            gru.weight_hh_l0,
            gru.bias_ih_l0,
            gru.bias_hh_l0,
        )
