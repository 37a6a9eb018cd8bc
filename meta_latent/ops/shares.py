"""A batch that several processes share: each holds some of its rows, and what they find adds up to what one process
finds on all rows.

Losses draw and average through this module. With a `torch.Generator` they do what torch does. With a `Share` in its
place they draw for the whole batch and keep their own rows, and means over the batch are those over all processes. A
draw that bypasses this module fails there: torch takes no `Share`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Share:
    """Rows `start` to `stop` of a batch of `size`.

    generator: in the same state in every process. total: the sum of a tensor over all processes, which all ask at once.
    """

    generator: torch.Generator
    start: int
    stop: int
    size: int
    total: Callable[[torch.Tensor], torch.Tensor]

    @property
    def rows(self) -> slice:
        """Its rows, as an index."""
        return slice(self.start, self.stop)


Draws = torch.Generator | Share
"""What a loss draws from."""


def bounds(size: int, count: int) -> list[tuple[int, int]]:
    """Start and stop of each of `count` shares of `size` rows, as equal as can be."""
    ends = [size * k // count for k in range(count + 1)]
    return list(zip(ends[:-1], ends[1:], strict=True))


def rand(shape: tuple[int, ...], rng: Draws) -> torch.Tensor:
    """`torch.rand`; the first dimension is that of the batch, here and below."""
    return _drawn(shape, rng, lambda whole, generator: torch.rand(whole, generator=generator))


def randn(shape: tuple[int, ...], rng: Draws) -> torch.Tensor:
    """`torch.randn`."""
    return _drawn(shape, rng, lambda whole, generator: torch.randn(whole, generator=generator))


def randint(high: int, shape: tuple[int, ...], rng: Draws) -> torch.Tensor:
    """`torch.randint` from 0 to below `high`."""
    return _drawn(shape, rng, lambda whole, generator: torch.randint(high, whole, generator=generator))


def multinomial(weights: torch.Tensor, count: int, replacement: bool, rng: Draws) -> torch.Tensor:
    """`torch.multinomial` of weights (B, n): (B, count)."""
    if not isinstance(rng, Share):
        return torch.multinomial(weights, count, replacement, generator=rng)
    # What a row draws depends on its own weights and on how many rows are before it.
    whole = weights.new_ones(rng.size, weights.shape[1])
    whole[rng.rows] = weights
    return torch.multinomial(whole, count, replacement, generator=rng.generator)[rng.rows]


def mean(values: torch.Tensor, rng: Draws | None) -> torch.Tensor:
    """Mean over the first dimension, outside the graph; in a share over that of all shares, whatever their lengths."""
    values = values.detach()
    if not isinstance(rng, Share):
        return values.mean(0)
    sums = rng.total(torch.cat([values.sum(0).flatten(), values.new_tensor([len(values)])]))
    return (sums[:-1] / sums[-1]).reshape(values.shape[1:])


def weight(rng: Draws) -> float:
    """What the mean over a share's rows counts in the mean over the batch."""
    return (rng.stop - rng.start) / rng.size if isinstance(rng, Share) else 1.0


def averaged(values: dict[str, float], rng: Draws) -> dict[str, float]:
    """Means over a share's rows -> over the batch."""
    if not isinstance(rng, Share):
        return values
    found = rng.total(torch.tensor(list(values.values()), dtype=torch.float64) * weight(rng))
    return dict(zip(values, found.tolist(), strict=True))


@torch.no_grad()
def add_up(tensors: Iterable[torch.Tensor], rng: Draws) -> None:
    """Replace tensors, such as gradients, by their sums over all shares; one message for all of them."""
    if isinstance(rng, Share):
        tensors = list(tensors)
        flat = rng.total(torch.cat([x.flatten() for x in tensors]))
        for x, total in zip(tensors, flat.split([x.numel() for x in tensors]), strict=True):
            x.copy_(total.view_as(x))


def _drawn(shape, rng: Draws, draw: Callable[[tuple[int, ...], torch.Generator], torch.Tensor]) -> torch.Tensor:
    if not isinstance(rng, Share):
        return draw(tuple(shape), rng)
    return draw((rng.size, *shape[1:]), rng.generator)[rng.rows]
