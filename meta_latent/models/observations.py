"""Observations as one vector, for learners without a model: pictures through convolutions, beside proprioception."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from meta_latent.models.config import EncoderConfig
from meta_latent.models.encoders import ConvEncoder
from meta_latent.types import Spec, Step


class ObservationEncoder(nn.Module):
    """Pictures and proprioception of a `Step` or a `SequenceBatch` -> (..., size), `embedding` values a camera.

    channels: of the convolutions, each with stride 2. Proprioception is passed on as it is.
    """

    def __init__(self, spec: Spec, channels: Sequence[int], embedding: int):
        super().__init__()
        config = EncoderConfig(kind="conv", channels=tuple(channels), embedding=embedding)
        self.cameras = nn.ModuleDict({
            camera: ConvEncoder(shape, config, spec.proprio) for camera, shape in spec.images.items()
        })
        self.size = embedding * len(self.cameras) + spec.proprio

    def forward(self, step: Step) -> torch.Tensor:
        """Cameras in the spec's order, then proprioception."""
        leading, parts = step.proprio.shape[:-1], []
        for camera, encoder in self.cameras.items():
            flat = step.images[camera].flatten(0, len(leading) - 1)
            # A unit's activation: what reads the embedding need not begin with one.
            parts.append(nn.functional.elu(encoder(flat, flat)).unflatten(0, leading))
        return torch.cat([*parts, step.proprio], -1)
