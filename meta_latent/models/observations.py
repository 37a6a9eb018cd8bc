"""Observations as one vector, for learners without a model: pictures through convolutions, beside proprioception."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from meta_latent.models.config import EncoderConfig
from meta_latent.models.encoders import ConvEncoder, to_float
from meta_latent.nets import Standardiser
from meta_latent.types import Spec, Step

COARSE = 3
"""Independent initial weights along each side of a picture; those between are interpolated."""


class ObservationEncoder(nn.Module):
    """Pictures and proprioception of a `Step` or a `SequenceBatch` -> (..., size), `embedding` values a camera.

    channels: of the convolutions, each with stride 2; () for one linear map. What differs from `ConvEncoder` is how
    it begins, since rewards alone teach it little: initial weights vary smoothly over the picture, so that an
    object's embedding changes smoothly with its place (with independent ones every place would be learned on its
    own); and `calibrate` takes away what is the same in all pictures, and scales what few pixels change to deviation
    1. Call that before training.
    """

    def __init__(self, spec: Spec, channels: Sequence[int], embedding: int):
        super().__init__()
        config = EncoderConfig(kind="conv", channels=tuple(channels), embedding=embedding)
        self.cameras = nn.ModuleDict(
            {camera: ConvEncoder(shape, config, spec.proprio) for camera, shape in spec.images.items()}
        )
        for camera, (height, width, _) in spec.images.items():
            _smooth(self.cameras[camera].project, height >> len(channels), width >> len(channels))
        self.embedded = embedding * len(self.cameras)
        self.size = self.embedded + spec.proprio
        self.standard = Standardiser(self.size)
        for camera, encoder in self.cameras.items():
            self.register_buffer(f"mean_{camera}", torch.zeros(encoder.project.in_features))

    def forward(self, step: Step) -> torch.Tensor:
        """Cameras in the spec's order, then proprioception."""
        found = self.standard(self._raw(step))
        return torch.cat([nn.functional.elu(found[..., : self.embedded]), found[..., self.embedded :]], -1)

    @torch.no_grad()
    def calibrate(self, step: Step, mask: torch.Tensor | None = None) -> None:
        """Give what is passed on mean 0 and deviation 1 over these steps, those of `mask` (...,) if there is one."""
        for camera in self.cameras:
            maps = self._maps(camera, step)
            getattr(self, f"mean_{camera}").copy_((maps if mask is None else maps[mask]).flatten(0, -2).mean(0))
        raw = self._raw(step)
        self.standard.fit(raw if mask is None else raw[mask])

    def _maps(self, camera: str, step: Step) -> torch.Tensor:
        images, encoder = step.images[camera], self.cameras[camera]
        flat = encoder.features(to_float(images.flatten(0, -4))).flatten(1)
        return flat.unflatten(0, images.shape[:-3])

    def _raw(self, step: Step) -> torch.Tensor:
        # Without their mean: what is the same in all pictures would drown what is not in every gradient.
        parts = [encoder.project(self._maps(camera, step) - getattr(self, f"mean_{camera}"))
                 for camera, encoder in self.cameras.items()]  # fmt: skip
        return torch.cat([*parts, step.proprio], -1)


@torch.no_grad()
def _smooth(layer: nn.Linear, height: int, width: int) -> None:
    """Initial weights (outputs, maps * height * width) that vary smoothly over height and width."""
    coarse = torch.randn(layer.out_features, layer.in_features // (height * width), COARSE, COARSE)
    fine = nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    layer.weight.copy_(fine.flatten(1) / layer.in_features**0.5)
