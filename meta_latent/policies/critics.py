"""Estimates of what actions are worth."""

from __future__ import annotations

import torch
from torch import nn

from meta_latent.nets import MLP


class Twin(nn.Module):
    """Two critics: features (B, F) and actions (B, A) -> (B, 2)."""

    def __init__(self, inputs: int, hidden: int, layers: int):
        super().__init__()
        self.first, self.second = MLP(inputs, 1, hidden, layers), MLP(inputs, 1, hidden, layers)

    def forward(self, features: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Both estimates."""
        x = torch.cat([features, actions], -1)
        return torch.cat([self.first(x), self.second(x)], -1)
