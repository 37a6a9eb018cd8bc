"""The few network blocks that models and policies share."""

from __future__ import annotations

import math

import torch
from torch import nn


class MLP(nn.Sequential):
    """Fully connected network with ELU units: (..., inputs) -> (..., outputs).

    Args:
        inputs, outputs: sizes; hidden: width; layers: number of hidden layers (0: one linear map).
        output_scale: multiplies the initial weights of the last layer (0: starts as the zero function).
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, layers: int, output_scale: float = 1.0):
        sizes = [inputs, *[hidden] * layers]
        blocks: list[nn.Module] = []
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            blocks += [nn.Linear(a, b), nn.ELU()]
        last = nn.Linear(sizes[-1], outputs)
        with torch.no_grad():
            last.weight.mul_(output_scale)
            last.bias.mul_(output_scale)
        super().__init__(*blocks, last)


class EnsembleLinear(nn.Module):
    """K independent linear maps applied to K groups of rows: (K, B, inputs) -> (K, B, outputs)."""

    def __init__(self, heads: int, inputs: int, outputs: int, scale: float = 1.0):
        super().__init__()
        bound = scale / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(heads, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One map per group."""
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleMLP(nn.Module):
    """K MLPs with ELU units, the first `shared_layers` hidden layers common to all: (K, B, inputs) -> (K, B,
    outputs).
    """

    def __init__(
        self,
        heads: int,
        inputs: int,
        outputs: int,
        hidden: int,
        layers: int,
        shared_layers: int = 0,
        output_scale: float = 1.0,
    ):
        super().__init__()
        shared_layers = min(shared_layers, layers)
        sizes = [inputs, *[hidden] * layers]
        self.shared = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1]) for i in range(shared_layers))
        self.own = nn.ModuleList(EnsembleLinear(heads, sizes[i], sizes[i + 1]) for i in range(shared_layers, layers))
        self.last = EnsembleLinear(heads, sizes[-1], outputs, output_scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Each group of rows through its own head."""
        for layer in (*self.shared, *self.own):
            x = nn.functional.elu(layer(x))
        return self.last(x)


class Standardiser(nn.Module):
    """(x - mean) / stddev per value, clipped to +-LIMIT; the identity within the limit until `fit`.

    A value that did not vary keeps its unit: what a constant would be worth is not known.
    """

    LIMIT = 10.0

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("stddev", torch.ones(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., size) -> (..., size)."""
        return ((x - self.mean) / self.stddev).clamp(-self.LIMIT, self.LIMIT)

    @property
    def fitted(self) -> bool:
        """Whether `fit` was called."""
        return bool((self.mean != 0).any() or (self.stddev != 1).any())

    @torch.no_grad()
    def fit(self, x: torch.Tensor) -> None:
        """Take mean and stddev from (..., size)."""
        flat = x.flatten(0, -2)
        stddev = flat.std(0)
        self.mean.copy_(flat.mean(0))
        self.stddev.copy_(torch.where(stddev > 1e-4, stddev, 1.0))


@torch.no_grad()
def update_target(target: nn.Module, source: nn.Module, rate: float) -> None:
    """target <- (1 - rate) target + rate source, for every parameter."""
    pairs = list(zip(target.parameters(), source.parameters(), strict=True))
    torch._foreach_lerp_([t for t, _ in pairs], [s for _, s in pairs], rate)


def pack_optimiser(optimiser: torch.optim.Optimizer) -> dict:
    """An optimiser's moments with string keys; learning rates are configuration, not state."""
    return {str(k): dict(v) for k, v in optimiser.state_dict()["state"].items()}


def unpack_optimiser(optimiser: torch.optim.Optimizer, state: dict) -> None:
    """The inverse of `pack_optimiser`."""
    whole = optimiser.state_dict()
    whole["state"] = {int(k): {n: x.clone() for n, x in v.items()} for k, v in state.items()}
    optimiser.load_state_dict(whole)
