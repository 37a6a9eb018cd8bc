"""Objectives of policy gradients, and the linear baseline, for N tasks at once.

Task n owns row n of every tensor. P trajectories of H steps are (N, P, H); `mask` is bool, True where a step counts,
None where all do. Objectives take (N, ...) and give (N,): means over the steps that count, 0 where none does.
"""

from __future__ import annotations

import torch

from meta_latent.ops import gaussian

OBSERVATION_LIMIT = 10.0
RIDGE_TRIES = 5


def vpg_loss(log_prob: torch.Tensor, advantage: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """-mean(log pi(a) A), to be minimised: (N, ...) -> (N,). Its gradient is that of REINFORCE (Williams 1992)."""
    return -_mean(log_prob * advantage, mask)


def likelihood_ratio(
    log_prob: torch.Tensor, old_log_prob: torch.Tensor, advantage: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """mean(pi(a) / pi_old(a) A), to be maximised: (N, ...) -> (N,). Source: Schulman et al. 2015 (arXiv 1502.05477),
    eq. 14.
    """
    return _mean((log_prob - old_log_prob).exp() * advantage, mask)


def clipped_surrogate(
    log_prob: torch.Tensor,
    old_log_prob: torch.Tensor,
    advantage: torch.Tensor,
    clip: float,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """mean(min(ratio A, clip(ratio, 1 - clip, 1 + clip) A)), to be maximised: (N, ...) -> (N,). Source: Schulman et
    al. 2017 (arXiv 1707.06347), eq. 7.
    """
    ratio = (log_prob - old_log_prob).exp()
    return _mean(torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage), mask)


def gaussian_log_prob(x: torch.Tensor, mean: torch.Tensor, log_stddev: torch.Tensor) -> torch.Tensor:
    """Log density (...,) of a diagonal Gaussian at `x` (..., A)."""
    return gaussian.log_prob(x, mean, log_stddev.exp()).sum(-1)


def gaussian_divergence(
    mean: torch.Tensor, log_stddev: torch.Tensor, new_mean: torch.Tensor, new_log_stddev: torch.Tensor
) -> torch.Tensor:
    """KL(old || new) in nats (...,) of diagonal Gaussians (..., A)."""
    return gaussian.kl(mean, log_stddev.exp(), new_mean, new_log_stddev.exp()).sum(-1)


def standardised(advantages: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Advantages (N, ...) with mean 0 and standard deviation 1 in each task, zeros where no step counts."""
    spread = (1,) * (advantages.ndim - 1)
    centred = advantages - _mean(advantages, mask).view(-1, *spread)
    scaled = centred / (_mean(centred.square(), mask).sqrt() + 1e-8).view(-1, *spread)
    return scaled if mask is None else scaled.where(mask, 0.0)


# The linear baseline of rllab (Duan et al. 2016, arXiv 1604.06778, section 4)


def baseline_features(observations: torch.Tensor) -> torch.Tensor:
    """Observations (N, P, H, F) -> (N, P, H, 2 F + 4): o, o^2, t/100, its square and cube, 1; o is clipped to
    +-OBSERVATION_LIMIT.
    """
    clipped = observations.clamp(-OBSERVATION_LIMIT, OBSERVATION_LIMIT)
    time = torch.arange(observations.shape[-2], dtype=observations.dtype, device=observations.device) / 100
    powers = torch.stack([time, time.square(), time**3, torch.ones_like(time)], -1)
    return torch.cat([clipped, clipped.square(), powers.expand(*observations.shape[:-1], 4)], -1)


@torch.no_grad()
def fit_baseline(
    features: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor | None = None, ridge: float = 1e-5
) -> torch.Tensor:
    """Ridge regression of each task: features (N, P, H, D) and returns (N, P, H) -> coefficients (N, D).

    Normal equations in double precision. Where they cannot be solved, `ridge` is raised tenfold, as in rllab, up to
    RIDGE_TRIES times; only inputs that are not finite give coefficients that are not.
    """
    rows, targets = features.flatten(1, -2).double(), returns.flatten(1).double()[..., None]
    if mask is not None:
        counts = mask.flatten(1)[..., None]
        rows, targets = rows.where(counts, 0.0), targets.where(counts, 0.0)
    products, moments = rows.mT @ rows, rows.mT @ targets
    identity = torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device)
    ridges = torch.full((len(rows), 1, 1), ridge, dtype=rows.dtype, device=rows.device)
    for _ in range(RIDGE_TRIES):
        factors, failed = torch.linalg.cholesky_ex(products + ridges * identity)
        found = torch.cholesky_solve(moments, factors)[..., 0]
        unsolved = (failed > 0) | ~found.isfinite().all(-1)
        if not unsolved.any():
            break
        ridges = torch.where(unsolved[:, None, None], 10 * ridges, ridges)
    return found.to(features.dtype)


def baseline_values(features: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Features (N, P, H, D) and coefficients (N, D) -> predicted returns (N, P, H)."""
    return torch.einsum("nphd,nd->nph", features, coefficients)


def _mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """(N, ...) -> (N,): means over what counts; what does not may hold anything, infinities too."""
    if mask is None:
        return values.flatten(1).mean(1)
    return values.where(mask, 0.0).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)
