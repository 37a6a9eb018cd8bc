"""Densities and divergences of Gaussians."""

from __future__ import annotations

import math

import torch


def log_prob(x: torch.Tensor, mean: torch.Tensor, stddev: torch.Tensor) -> torch.Tensor:
    """Elementwise log N(x; mean, stddev^2)."""
    return -0.5 * ((x - mean) / stddev).square() - stddev.log() - 0.5 * math.log(2 * math.pi)


def kl(mean_q: torch.Tensor, stddev_q: torch.Tensor, mean_p: torch.Tensor, stddev_p: torch.Tensor) -> torch.Tensor:
    """Elementwise KL(N(mean_q, stddev_q^2) || N(mean_p, stddev_p^2)) in nats."""
    return (
        (stddev_p / stddev_q).log() + (stddev_q.square() + (mean_q - mean_p).square()) / (2 * stddev_p.square()) - 0.5
    )
