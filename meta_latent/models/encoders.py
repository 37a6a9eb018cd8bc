"""Image encoders and the decoders that mirror them: uint8 images <-> embeddings."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from meta_latent.errors import UserError
from meta_latent.models.config import EncoderConfig
from meta_latent.nets import Standardiser

MOVED = 60
"""Sum of absolute changes of a pixel's three values (0..765) from which on it counts as moved."""
ATTENDED = 10.0
"""How far a keypoint's logits rise, at first, from the background to what differs from it most."""


def to_float(images: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float in [-0.5, 0.5], channels last in memory."""
    return images.permute(0, 3, 1, 2).float().div_(255.0).sub_(0.5)


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """The inverse of `to_float`: (B, 3, H, W) -> (B, H, W, 3) uint8."""
    return images.detach().add(0.5).mul(255.0).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def pair_differences(points: int) -> torch.Tensor:
    """The matrix that maps [x_1..x_P, y_1..y_P] to x_i - x_j, then y_i - y_j, of all pairs i < j."""
    i, j = torch.triu_indices(points, points, 1)
    identity = torch.eye(points)
    return torch.block_diag(*[(identity[i] - identity[j]).T] * 2)


class KeypointEncoder(nn.Module):
    """Convolutions -> spatial softmax -> expected coordinates and presence of `keypoints` points.

    The idea of Deep Spatial Autoencoders (Finn et al. 2016); the presence, and the `context` numbers that
    describe the background, are ours; so is the body point, which is linear in proprioception: an agent
    knows where its hand is, and need not find it in every picture. Output: (B, size) = [x_1..x_P, y_1..y_P]
    * scale, presence_1..K in (0, 1), context; the P points are K keypoints, then the body point. `calibrate`
    it before training.
    """

    def __init__(self, shape: tuple[int, int, int], config: EncoderConfig, proprio: int):
        super().__init__()
        first, *rest = config.channels
        layers: list[nn.Module] = [nn.Conv2d(3, first, 5, stride=2, padding=2), nn.ReLU()]
        for a, b in zip(config.channels, rest, strict=False):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.maps = nn.Conv2d(config.channels[-1], config.keypoints, 1)
        self.presence = nn.Parameter(
            torch.randn(config.keypoints, config.channels[-1]) / math.sqrt(config.channels[-1])
        )
        self.presence_bias = nn.Parameter(torch.ones(config.keypoints))
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.context = nn.Linear(config.channels[-1], config.context) if config.context else None
        height, width = (math.ceil(n / 2) for n in shape[:2])
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("grid", torch.stack([x.flatten(), y.flatten()], -1), persistent=False)
        body = int(config.body_point and proprio > 0)
        self.body = nn.Linear(proprio, 2) if body else None
        if body:
            nn.init.zeros_(self.body.weight)
            nn.init.zeros_(self.body.bias)
        self.pictured = config.pictured
        self.keypoints, self.points, self.scale = config.keypoints, config.keypoints + body, config.scale
        self.size = 2 * self.points + config.keypoints + config.context
        self.register_buffer("pairs", pair_differences(self.points), persistent=False)

    def forward(self, images: torch.Tensor, proprio: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3) uint8 and (B, P) -> (B, size)."""
        features = self.features(to_float(images))
        attention = self.maps(features).flatten(2).mul(self.temperature.exp()).softmax(-1)
        points = attention @ self.grid
        attended = attention @ features.flatten(2).transpose(1, 2)
        presence = (torch.einsum("bkc,kc->bk", attended, self.presence) + self.presence_bias).sigmoid()
        if self.body is not None:
            points = torch.cat([points, self.body(proprio)[:, None]], 1)
        parts = [points[..., 0] * self.scale, points[..., 1] * self.scale, presence]
        if self.context is not None:
            parts.append(self.context(features.mean((2, 3))))
        return torch.cat(parts, -1)

    @torch.no_grad()
    def calibrate(self, images: torch.Tensor, proprio: torch.Tensor) -> None:
        """Fit the body point to motion: what moves in step with proprioception is the body.

        images (B, T, H, W, 3) uint8 and proprio (B, T, P): the centre of what changed between two frames is
        regressed (least squares) on the mean proprioception of the two. Objects that move now and then only
        add noise.
        """
        if self.pictured:
            self._look_at_what_differs(images.flatten(0, 1))
        if self.body is None:
            return
        change = (images[:, 1:].int() - images[:, :-1].int()).abs().sum(-1).flatten(0, 1).flatten(1).float()
        change = torch.where(change > MOVED, change, 0.0)
        y, x = torch.meshgrid(
            *(torch.linspace(-1, 1, n, device=change.device) for n in images.shape[2:4]), indexing="ij"
        )
        seen = change.sum(-1) > 0
        if not seen.any():
            return
        weight = change[seen] / change[seen].sum(-1, keepdim=True)
        centre = weight @ torch.stack([x.flatten(), y.flatten()], -1)
        between = (0.5 * (proprio[:, 1:] + proprio[:, :-1])).flatten(0, 1)[seen]
        inputs = torch.cat([between, torch.ones_like(between[:, :1])], -1).double()
        ridge = 1e-3 * len(inputs) * torch.eye(inputs.shape[1], dtype=torch.float64, device=inputs.device)
        fit = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ centre.double()).float()
        self.body.weight.copy_(fit[:-1].T)
        self.body.bias.copy_(fit[-1])

    def _look_at_what_differs(self, images: torch.Tensor) -> None:
        """Start with every keypoint on what differs from the background: maps are regressed (least squares) on it, each
        with a tenth of its own. A softmax of random maps is nearly flat, and finds a few pixels late or never.
        """
        pictures = to_float(images)
        differs = (pictures - pictures.median(0).values).abs().sum(1, keepdim=True)
        features = self.features(pictures)
        wanted = functional.interpolate(differs, features.shape[2:], mode="area").flatten()
        if not wanted.max() > 0:
            return
        inputs = functional.pad(features.permute(0, 2, 3, 1).flatten(0, 2), (0, 1), value=1.0).double()
        ridge = 1e-6 * len(inputs) * torch.eye(inputs.shape[1], dtype=torch.float64, device=inputs.device)
        fit = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ (wanted / wanted.max()).double()).float()
        gain = ATTENDED / self.temperature.exp()
        self.maps.weight.copy_(gain * fit[:-1].view(1, -1, 1, 1) + 0.1 * self.maps.weight)

    def relations(self, embedding: torch.Tensor) -> torch.Tensor:
        """(..., size) -> (..., P (P - 1)): exp(-d) and exp(-3 d) of every pair's distance d, in scaled
        coordinates.

        Rewards of manipulation are about distances; a head that reads them needs a tenth of the data.
        """
        squares = (embedding[..., : 2 * self.points] @ self.pairs).square()
        x, y = squares.chunk(2, -1)
        near = torch.exp(-(x + y + 0.01).sqrt())
        return torch.cat([near, near * near * near], -1)

    @property
    def relation_size(self) -> int:
        """Values that `relations` returns."""
        return self.points * (self.points - 1)


class BlobDecoder(nn.Module):
    """A learned background plus one coloured Gaussian blob per keypoint: (B, size) -> (B, 3, H, W).

    The background is a learned image, corrected at low resolution from the `context` numbers.
    """

    def __init__(self, shape: tuple[int, int, int], config: EncoderConfig, proprio: int):
        super().__init__()
        height, width, _ = shape
        self.keypoints, self.points = (
            config.keypoints,
            config.keypoints + int(config.body_point and proprio > 0),
        )
        self.register_buffer("columns", torch.linspace(-1, 1, width), persistent=False)
        self.register_buffer("rows", torch.linspace(-1, 1, height), persistent=False)
        self.colour = nn.Parameter(torch.randn(self.points, 3) * 0.3)
        self.log_width = nn.Parameter(torch.full((self.points,), math.log(0.15)))
        self.background = nn.Parameter(torch.zeros(3, height, width))
        self.correction = nn.Linear(config.context, 3 * 8 * 8) if config.context else None
        self.scale, self.shape = config.scale, shape

    @torch.no_grad()
    def calibrate(self, images: torch.Tensor) -> None:
        """Start from what images (B, T, H, W, 3) uint8 show: the background is the median of every pixel, blobs take
        the mean colour of what differs from it, each with a tenth of its own.
        """
        pictures = to_float(images.flatten(0, 1))
        self.background.copy_(pictures.median(0).values)
        difference = pictures - self.background
        weight = difference.abs().sum(1, keepdim=True)
        weight = torch.where(weight > MOVED / 255, weight, 0.0)
        if weight.sum() > 0:
            colour = (weight * difference).sum((0, 2, 3)) / weight.sum()
            self.colour.copy_(colour + 0.1 * self.colour)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, size) -> (B, 3, H, W) in about [-0.5, 0.5]."""
        n, seen = self.points, 2 * self.points + self.keypoints
        x, y = embedding[:, :n] / self.scale, embedding[:, n : 2 * n] / self.scale
        presence = functional.pad(embedding[:, 2 * n : seen], (0, n - self.keypoints), value=1.0)
        # A round Gaussian is a product of one along each axis: H + W exponentials per blob, not H W.
        sharpness = torch.exp(-self.log_width)[:, None]
        along_x = torch.exp(-0.5 * ((x[..., None] - self.columns) * sharpness).square())
        along_y = presence[..., None] * torch.exp(-0.5 * ((y[..., None] - self.rows) * sharpness).square())
        coloured = torch.einsum("bkh,kc->bchk", along_y, self.colour)
        painted = (coloured.flatten(1, 2) @ along_x).unflatten(1, (3, -1))
        image = self.background + painted
        if self.correction is not None:
            low = self.correction(embedding[:, seen:]).unflatten(-1, (3, 8, 8))
            image = image + functional.interpolate(low, self.shape[:2], mode="bilinear", align_corners=False)
        return image


class ConvEncoder(nn.Module):
    """Strided convolutions and a linear layer: (B, H, W, 3) uint8 -> (B, embedding). `proprio` is not looked
    at.
    """

    def __init__(self, shape: tuple[int, int, int], config: EncoderConfig, proprio: int):
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = 3, shape[0]
        if not min(shape[:2]) >> len(config.channels):
            raise UserError(
                f"channels={list(config.channels)}: each convolution halves the picture, and {shape[0]} x "
                f"{shape[1]} pixels cannot be halved {len(config.channels)} times; give fewer channels"
            )
        for width in config.channels:
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.ELU()]
            channels, side = width, side // 2
        self.features = nn.Sequential(*layers)
        self.project = nn.Linear(channels * side * (shape[1] >> len(config.channels)), config.embedding)
        self.standard = Standardiser(config.embedding) if config.standardise else nn.Identity()
        self.size = config.embedding

    def forward(self, images: torch.Tensor, proprio: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3) uint8 -> (B, embedding)."""
        return self.standard(self.raw(images))

    def raw(self, images: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3) uint8 -> (B, embedding) of any scale."""
        return self.project(self.features(to_float(images)).flatten(1))

    @torch.no_grad()
    def standardise(self, images: torch.Tensor) -> None:
        """Give the embeddings of images like these (B, H, W, 3) mean 0 and stddev 1."""
        if isinstance(self.standard, Standardiser):
            self.standard.fit(self.raw(images))

    relation_size = 0

    def calibrate(self, images: torch.Tensor, proprio: torch.Tensor) -> None:
        """Nothing to calibrate."""

    def relations(self, embedding: torch.Tensor) -> torch.Tensor:
        """(..., size) -> (..., 0): nothing in this embedding is known to be a position."""
        return embedding[..., :0]


class ConvDecoder(nn.Module):
    """Mirror of `ConvEncoder`: (B, embedding) -> (B, 3, H, W); what doubling gives beyond H and W is cut off."""

    def __init__(self, shape: tuple[int, int, int], config: EncoderConfig, proprio: int):
        super().__init__()
        widths, (self.height, self.width, _) = config.channels[::-1], shape
        self.start = (widths[0], *(-(-side >> len(widths)) for side in shape[:2]))
        self.standard = Standardiser(config.embedding) if config.standardise else None
        self.project = nn.Linear(config.embedding, math.prod(self.start))
        layers: list[nn.Module] = []
        for a, b in zip(widths, (*widths[1:], 3), strict=True):
            layers += [nn.ELU(), nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)]
        self.features = nn.Sequential(*layers)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, embedding) -> (B, 3, H, W) in about [-0.5, 0.5]."""
        if self.standard is not None:
            embedding = embedding * self.standard.stddev + self.standard.mean
        return self.features(self.project(embedding).unflatten(-1, self.start))[..., : self.height, : self.width]
