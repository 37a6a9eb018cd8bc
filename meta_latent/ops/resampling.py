"""Which runs a bootstrap sample holds, where runs are grouped by the pretrained model that they started from.

The cluster bootstrap with two stages (Davison & Hinkley 1997, section 3.8): models are drawn with replacement, and of
each as many of its runs as it has; :mod:`meta_latent.ops.hierarchical` says what its intervals cover.
"""

from __future__ import annotations

import numpy as np


def picked_runs(counts: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(R, P, most) which of its runs each drawn model contributes, with replacement; -1: it has fewer than the most.

    ``counts`` (P,): runs of each model. ``chosen`` (R, P): the models that were drawn.
    """
    most = int(counts.max())
    picked = (rng.random((*chosen.shape, most)) * np.maximum(counts, 1)[chosen][..., None]).astype(int)
    return np.where(np.arange(most) < counts[chosen][..., None], picked, -1)


def clustered_rows(models: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """(resamples, n) indices of runs whose models are ``models`` (S,), -1 for none."""
    _, place = np.unique(models, return_inverse=True)
    counts = np.bincount(place)
    table = np.zeros((len(counts), counts.max()), int)
    for model, row in enumerate(table):
        row[: counts[model]] = np.flatnonzero(place == model)
    chosen = rng.integers(0, len(counts), size=(resamples, len(counts)))
    picked = picked_runs(counts, chosen, rng)
    return np.where(picked < 0, -1, table[chosen[..., None], picked]).reshape(resamples, -1)
