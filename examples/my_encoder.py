"""An encoder and a decoder of your own: a perceptron on all pixels, fit for pictures as small as a toy's.

`imports=[my_encoder] model.encoder.kind=pixels` uses them in every command; they keep to `meta_latent.models.parts`.
"""

from __future__ import annotations

import math

import torch
from torch import nn

import meta_latent
from meta_latent.models.encoders import to_float


class PixelEncoder(nn.Module):
    """`model.encoder.channels` are the widths of the hidden layers here."""

    relation_size = 0

    def __init__(self, shape: tuple[int, int, int], config, proprio: int):
        super().__init__()
        widths, layers = [math.prod(shape), *config.channels], []
        for before, after in zip(widths, config.channels, strict=False):
            layers += [nn.Linear(before, after), nn.ELU()]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], config.embedding))
        self.size = config.embedding

    def forward(self, images: torch.Tensor, proprio: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3) uint8 -> (B, embedding); proprioception is not read."""
        return self.network(to_float(images).flatten(1))

    def calibrate(self, images: torch.Tensor, proprio: torch.Tensor) -> None:
        """Nothing to fit in closed form."""

    def relations(self, embedding: torch.Tensor) -> torch.Tensor:
        """(..., embedding) -> (..., 0): no value is known to be a position."""
        return embedding[..., :0]


class PixelDecoder(nn.Module):
    """Its mirror."""

    def __init__(self, shape: tuple[int, int, int], config, proprio: int):
        super().__init__()
        height, width, colours = shape
        widths, layers = [config.embedding, *config.channels[::-1]], []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(before, after), nn.ELU()]
        layers += [nn.Linear(widths[-1], math.prod(shape)), nn.Unflatten(1, (colours, height, width))]
        self.network = nn.Sequential(*layers)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, embedding) -> (B, 3, H, W)."""
        return self.network(embedding)


meta_latent.register_encoder("pixels", PixelEncoder, PixelDecoder)
