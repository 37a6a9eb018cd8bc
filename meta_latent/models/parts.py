"""Which encoders there are: ours, and those that a package of yours registers.

    register_encoder("mine", MyEncoder, MyDecoder)       # then model.encoder.kind=mine, with imports=[my_package]

An encoder is made of ((H, W, 3), `EncoderConfig`, size of proprioception), as its decoder is. See `Encoder`, `Decoder`.
"""

from __future__ import annotations

import importlib
from typing import Protocol

import torch

from meta_latent.errors import UserError, calling_module


class Encoder(Protocol):
    """A torch module. size: of the embedding. relation_size: values that `relations` returns, 0 for none."""

    size: int
    relation_size: int

    def forward(self, images: torch.Tensor, proprio: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3) uint8 and (B, P) -> embeddings (B, size)."""

    def calibrate(self, images: torch.Tensor, proprio: torch.Tensor) -> None:
        """Before the first update, with frames (B, T, H, W, 3) uint8 and (B, T, P): fit what has a closed form."""

    def relations(self, embedding: torch.Tensor) -> torch.Tensor:
        """(..., size) -> (..., relation_size): what policies and rewards read beside the embedding."""


class Decoder(Protocol):
    """A torch module."""

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, size) -> pictures (B, 3, H, W), about -0.5 to 0.5."""


_OURS = {"keypoints": ("KeypointEncoder", "BlobDecoder"), "conv": ("ConvEncoder", "ConvDecoder")}
"""In `meta_latent.models.encoders`, which is imported when it is used."""
_OTHERS: dict[str, tuple[type, type]] = {}
_MODULES: dict[str, str] = {}
"""Whose code registered each of the others."""


def register_encoder(name: str, encoder: type[Encoder], decoder: type[Decoder]) -> None:
    """Make `model.encoder.kind=NAME` known; the module that did so may do it again, and the new one counts.

    UserError: one of ours, or another module's, has that name.
    """
    module, given = calling_module("meta_latent"), (encoder, decoder)
    if _OTHERS.get(name) == given:
        return
    holder = "meta_latent.models.encoders" if name in _OURS else _MODULES[name] if name in _OTHERS else module
    if holder != module:
        raise UserError(f"there is an encoder {name!r} already, of the module {holder}; give yours another name")
    _OTHERS[name], _MODULES[name] = given, module


def encoder_names() -> list[str]:
    """All that are registered, sorted."""
    return sorted((*_OURS, *_OTHERS))


def encoder_classes(name: str) -> tuple[type[Encoder], type[Decoder]]:
    """Encoder and decoder that are registered as `name`."""
    if name in _OTHERS:
        return _OTHERS[name]
    module = importlib.import_module("meta_latent.models.encoders")
    encoder, decoder = (getattr(module, part) for part in _OURS[name])
    return encoder, decoder
