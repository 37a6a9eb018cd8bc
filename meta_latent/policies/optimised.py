"""Networks and how each is optimised: what learners without a model share."""

from __future__ import annotations

import torch
from torch import nn

from meta_latent.errors import RunError
from meta_latent.nets import pack_optimiser, unpack_optimiser


class Optimised:
    """Named networks on `device`; those with a learning rate in `rates` get Adam.

    owner: who is named when a loss is not finite.
    """

    def __init__(self, owner: str, networks: dict[str, nn.Module], rates: dict[str, float], device: str):
        self.owner = owner
        self.networks = {name: network.to(device) for name, network in networks.items()}
        self.optimisers = {
            name: torch.optim.Adam(networks[name].parameters(), rate, fused=True) for name, rate in rates.items()
        }

    def step(self, name: str, loss: torch.Tensor, clip: float) -> float:
        """One step of the network called `name`, whose parameters alone see gradients; -> the loss.

        Raises RunError if loss or gradient is not finite.
        """
        parameters = [p for p in self.networks[name].parameters() if p.requires_grad]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient.contiguous()  # fused optimisers read memory in order
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
        if not torch.isfinite(loss.detach() + norm):
            raise RunError(f"non-finite loss or gradient: the {name} of {self.owner}; lower its learning rate")
        self.optimisers[name].step()
        return float(loss.detach())

    def state(self) -> dict:
        """Weights and moments."""
        return {"networks": {name: network.state_dict() for name, network in self.networks.items()},
                "optimisers": {name: pack_optimiser(o) for name, o in self.optimisers.items()}}  # fmt: skip

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, optimiser in self.optimisers.items():
            unpack_optimiser(optimiser, state["optimisers"][name])
