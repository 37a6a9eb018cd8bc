"""The natural-gradient step of TRPO (Schulman et al. 2015, arXiv 1502.05477, appendix C) on parameters by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from meta_latent.ranges import count, nonnegative, positive, share
from meta_latent.types import Metrics

Parameters = dict[str, torch.Tensor]
Scalar = Callable[[Parameters], torch.Tensor]
Projection = Callable[[Parameters], Parameters]
Product = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class TrustRegionConfig:
    """How far a step goes.

    Attributes:
        limit: largest divergence, in nats. iterations: of the conjugate gradient. damping: added to the diagonal of
            the Fisher matrix, in its own units. backtrack: by what a step is shortened. backtracks: how many lengths
            are tried.
    """

    limit: float = positive(0.01, most=100)
    iterations: int = count(10, most=1000)
    damping: float = nonnegative(1e-5, most=100)
    backtrack: float = share(0.8, above=True, below=True)
    backtracks: int = count(15, most=1000)


def flatten(parameters: Parameters) -> torch.Tensor:
    """All values in one vector, in the order of the mapping."""
    return torch.cat([value.reshape(-1) for value in parameters.values()])


def unflatten(vector: torch.Tensor, like: Parameters) -> Parameters:
    """The inverse of `flatten`, with the names and shapes of `like`."""
    parts = vector.split([value.numel() for value in like.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(like.items(), parts, strict=True)}


def hessian_vector_product(value: torch.Tensor, parameters: Parameters) -> Product:
    """v -> H v for the Hessian H of `value` (a scalar with its graph) in `parameters`, both flat.

    Exact (Pearlmutter 1994), by differentiating gradient . v; rllab and MB-MPO's own code take finite differences
    instead. Zeros where a parameter does not enter.
    """
    at = list(parameters.values())
    slopes = torch.autograd.grad(value, at, create_graph=True, materialize_grads=True)
    slope = torch.cat([part.reshape(-1) for part in slopes])

    def product(vector: torch.Tensor) -> torch.Tensor:
        if not slope.requires_grad:  # `value` is linear
            return torch.zeros_like(vector)
        parts = torch.autograd.grad(slope @ vector, at, retain_graph=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in parts])

    return product


def conjugate_gradient(
    product: Product, vector: torch.Tensor, iterations: int, tolerance: float = 1e-10
) -> torch.Tensor:
    """x with product(x) = vector, for a positive definite `product`, from x = 0.

    Stops after `iterations`, once the squared residual is at most `tolerance` times that of x = 0 (relative, so that
    the scale of `vector` does not matter; rllab's is absolute), or where the curvature is not positive (Steihaug 1983).
    """
    found, residual = torch.zeros_like(vector), vector.clone()
    direction, size = residual.clone(), residual @ residual
    enough = tolerance * size
    for _ in range(iterations):
        if size <= enough:
            break
        image = product(direction)
        curvature = direction @ image
        if not curvature > 0:
            break
        length = size / curvature
        found, residual = found + length * direction, residual - length * image
        size, before = residual @ residual, size
        direction = residual + size / before * direction
    return found


def trust_region_step(
    parameters: Parameters,
    objective: Scalar,
    divergence: Scalar,
    config: TrustRegionConfig,
    curvature: Scalar | None = None,
    project: Projection = dict,
) -> tuple[Parameters, Metrics]:
    """Raise `objective` as far as `divergence` from the present parameters may go -> parameters and metrics.

    Args:
        objective: parameters -> scalar, to be maximised. divergence: parameters -> scalar, at most `config.limit`;
            smallest at the present `parameters`.
        curvature: what the Fisher products are the Hessian of (None: `divergence`); cheaper where it leaves out
            what hardly matters for the direction. The line search holds the step to `divergence` itself.
        project: parameters -> the nearest ones that are admitted, among which the line search looks (all are).
    The line search takes the longest step that improves and keeps to the limit; where none does, or numbers are not
    finite, the old parameters stay. Returned are leaves outside the graph which require gradients as `parameters` did.
    Metrics: "improvement" of the objective, "divergence", "step" (share of the full step; 0: rejected).
    """
    at = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    before = objective(at)
    slope = flatten(dict(zip(at, torch.autograd.grad(before, list(at.values()), materialize_grads=True), strict=True)))
    fisher = hessian_vector_product((curvature or divergence)(at), at)

    def damped(vector: torch.Tensor) -> torch.Tensor:
        return fisher(vector) + config.damping * vector

    direction = conjugate_gradient(damped, slope, config.iterations)
    full = direction * (2 * config.limit / (direction @ damped(direction))).sqrt()
    taken, metrics = _line_search(
        _steps(at, full, config, project), float(before.detach()), objective, divergence, config.limit
    ) or (at, {"improvement": 0.0, "divergence": 0.0, "step": 0.0})
    return {name: value.detach().requires_grad_(parameters[name].requires_grad)
            for name, value in taken.items()}, metrics  # fmt: skip


def _steps(
    at: Parameters, full: torch.Tensor, config: TrustRegionConfig, project: Projection
) -> Iterator[tuple[float, Parameters]]:
    """(Share of the full step, parameters after it), from the longest on; none if numbers are not finite."""
    start = flatten(at).detach()
    for k in range(config.backtracks if full.isfinite().all() else 0):
        step = config.backtrack**k
        yield step, project(unflatten(start + step * full, at))


@torch.no_grad()
def _line_search(
    steps: Iterable[tuple[float, Parameters]], before: float, objective: Scalar, divergence: Scalar, limit: float
) -> tuple[Parameters, Metrics] | None:
    for step, tried in steps:
        moved = float(divergence(tried))
        if not moved <= limit:  # NaN is not; most steps fail here, before the dearer objective
            continue
        improvement = float(objective(tried)) - before
        if 0 < improvement < math.inf:
            return tried, {"improvement": improvement, "divergence": moved, "step": step}
    return None
