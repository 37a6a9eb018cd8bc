"""Networks, how each is optimised, and what is saved of them: what learners share."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import nn

from meta_latent.errors import RunError
from meta_latent.nets import pack_optimiser, unpack_optimiser

NO_DECAY: Mapping[str, float] = MappingProxyType({})


class Optimised:
    """Named networks on `device`; those with a learning rate in `rates` get Adam.

    owner: who is named when a loss is not finite.
    """

    def __init__(
        self, owner: str, networks: Mapping[str, nn.Module], rates: Mapping[str, float], device: torch.device | str
    ):
        self.owner, self.device = owner, device
        self.networks: dict[str, nn.Module] = {}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.own(networks, rates)

    def own(
        self, networks: Mapping[str, nn.Module], rates: Mapping[str, float], decays: Mapping[str, float] = NO_DECAY
    ) -> None:
        """Take in more of them; `decays`: weight decays, decoupled (AdamW), where there are any."""
        for name, network in networks.items():
            self.networks[name] = network.to(self.device)
        for name, rate in rates.items():
            self.optimisers[name] = torch.optim.AdamW(
                networks[name].parameters(), rate, weight_decay=decays.get(name, 0.0), fused=True
            )

    def step(self, name: str, loss: torch.Tensor, clip: float) -> float:
        """One step of the network called `name` down `loss` (a scalar); -> the loss. clip: the gradient's largest norm.

        Gradients reach that network's parameters only, whatever the loss went through. RunError: not finite.
        """
        if not torch.isfinite(loss):
            raise RunError(f"non-finite loss: the {name} term of {self.owner}; lower its learning rate")
        parameters = [p for p in self.networks[name].parameters() if p.requires_grad]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient.contiguous()  # fused optimisers read memory in order
        if not torch.isfinite(torch.nn.utils.clip_grad_norm_(parameters, clip)):
            raise RunError(f"non-finite gradient: the {name} term of {self.owner}; lower its learning rate")
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
