"""Image encoders and the decoders that mirror them: uint8 images <-> embeddings."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from meta_latent.models.config import EncoderConfig


def to_float(images: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float in [-0.5, 0.5], channels last in memory."""
    return images.permute(0, 3, 1, 2).float().div_(255.0).sub_(0.5)


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """The inverse of `to_float`: (B, 3, H, W) -> (B, H, W, 3) uint8."""
    return images.detach().add(0.5).mul(255.0).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)


class KeypointEncoder(nn.Module):
    """Convolutions -> spatial softmax -> expected coordinates and presence of `keypoints` points.

    The idea of Deep Spatial Autoencoders (Finn et al. 2016); the presence, and the `context` numbers that describe
    the background, are ours. Output: (B, size) = [x_1..x_K, y_1..y_K] * scale, presence_1..K in (0, 1), context.
    """

    def __init__(self, shape: tuple[int, int, int], config: EncoderConfig):
        super().__init__()
        first, *rest = config.channels
        layers: list[nn.Module] = [nn.Conv2d(3, first, 5, stride=2, padding=2), nn.ReLU()]
        for a, b in zip(config.channels, rest, strict=False):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.maps = nn.Conv2d(config.channels[-1], config.keypoints, 1)
        self.presence = nn.Parameter(torch.randn(config.keypoints, config.channels[-1]) / math.sqrt(config.channels[-1]))
        self.presence_bias = nn.Parameter(torch.ones(config.keypoints))
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.context = nn.Linear(config.channels[-1], config.context) if config.context else None
        height, width = (math.ceil(n / 2) for n in shape[:2])
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("grid", torch.stack([x.flatten(), y.flatten()], -1), persistent=False)
        self.keypoints, self.scale = config.keypoints, config.scale
        self.size = 3 * config.keypoints + config.context

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3) uint8 -> (B, size)."""
        features = self.features(to_float(images))
        attention = self.maps(features).flatten(2).mul(self.temperature.exp()).softmax(-1)
        points = attention @ self.grid
        attended = attention @ features.flatten(2).transpose(1, 2)
        presence = (torch.einsum("bkc,kc->bk", attended, self.presence) + self.presence_bias).sigmoid()
        parts = [points[..., 0] * self.scale, points[..., 1] * self.scale, presence]
        if self.context is not None:
            parts.append(self.context(features.mean((2, 3))))
        return torch.cat(parts, -1)


class BlobDecoder(nn.Module):
    """A learned background plus one coloured Gaussian blob per keypoint: (B, size) -> (B, 3, H, W).

    The background is a learned image, corrected at low resolution from the `context` numbers.
    """

    def __init__(self, shape: tuple[int, int, int], config: EncoderConfig):
        super().__init__()
        height, width, _ = shape
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("grid_x", x.flatten(), persistent=False)
        self.register_buffer("grid_y", y.flatten(), persistent=False)
        self.colour = nn.Parameter(torch.randn(config.keypoints, 3) * 0.3)
        self.log_width = nn.Parameter(torch.full((config.keypoints,), math.log(0.15)))
        self.background = nn.Parameter(torch.zeros(3, height, width))
        self.correction = nn.Linear(config.context, 3 * 8 * 8) if config.context else None
        self.keypoints, self.scale, self.shape = config.keypoints, config.scale, shape

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, size) -> (B, 3, H, W) in about [-0.5, 0.5]."""
        n = self.keypoints
        x, y, presence = embedding[:, :n] / self.scale, embedding[:, n:2 * n] / self.scale, embedding[:, 2 * n:3 * n]
        squares = (x[..., None] - self.grid_x).square() + (y[..., None] - self.grid_y).square()
        blobs = presence[..., None] * torch.exp(-0.5 * squares * torch.exp(-2 * self.log_width)[:, None])
        painted = torch.einsum("bkp,kc->bcp", blobs, self.colour).unflatten(-1, self.shape[:2])
        image = self.background + painted
        if self.correction is not None:
            low = self.correction(embedding[:, 3 * n:]).unflatten(-1, (3, 8, 8))
            image = image + functional.interpolate(low, self.shape[:2], mode="bilinear", align_corners=False)
        return image


class ConvEncoder(nn.Module):
    """Strided convolutions and a linear layer: (B, H, W, 3) uint8 -> (B, embedding)."""

    def __init__(self, shape: tuple[int, int, int], config: EncoderConfig):
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = 3, shape[0]
        for width in config.channels:
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.ELU()]
            channels, side = width, side // 2
        self.features = nn.Sequential(*layers)
        self.project = nn.Linear(channels * side * (shape[1] >> len(config.channels)), config.embedding)
        self.size = config.embedding

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3) uint8 -> (B, embedding)."""
        return self.project(self.features(to_float(images)).flatten(1))


class ConvDecoder(nn.Module):
    """Mirror of `ConvEncoder`: (B, embedding) -> (B, 3, H, W)."""

    def __init__(self, shape: tuple[int, int, int], config: EncoderConfig):
        super().__init__()
        widths = config.channels[::-1]
        self.start = (widths[0], shape[0] >> len(widths), shape[1] >> len(widths))
        self.project = nn.Linear(config.embedding, math.prod(self.start))
        layers: list[nn.Module] = []
        for a, b in zip(widths, (*widths[1:], 3), strict=True):
            layers += [nn.ELU(), nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)]
        self.features = nn.Sequential(*layers)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, embedding) -> (B, 3, H, W) in about [-0.5, 0.5]."""
        return self.features(self.project(embedding).unflatten(-1, self.start))


ENCODERS = {"keypoints": (KeypointEncoder, BlobDecoder), "conv": (ConvEncoder, ConvDecoder)}
