"""What agents that learn by soft actor-critic from a replay share: networks and what trains them; without a model
(`SoftAgent`) also when to update, and saving.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import nn

from meta_latent.policies.actors import GaussianActor, Temperature
from meta_latent.policies.base_agent import BaseAgent
from meta_latent.policies.critics import Twin
from meta_latent.policies.latent_agent import LatentAgent, LatentParts
from meta_latent.policies.optimised import Optimised
from meta_latent.policies.soft_actor_critic import SoftActorCritic
from meta_latent.rng import Streams
from meta_latent.types import Averages, Metrics


class SoftAgent(BaseAgent):
    """A critic and its slowly following copy, a policy, the weight of its entropy; a subclass writes `act`,
    `calibrate` and `improve`.

    Args:
        name: who is named when a loss is not finite. config: sizes and rates, as those of `oracle` and `pearl`.
        critic: what learns with the critics' error: `values` (n, size), (n, A) -> (n, 2), and encoders before it.
        size: values that policy and critics read. actions: A. averaged: whether the policy has a running average.
    """

    def __init__(self, name: str, config: Any, critic: nn.Module, size: int, actions: int, device: str,
                 averaged: bool = False):  # fmt: skip
        self.config, self.device, self.critic = config, device, critic
        self.target_critic = deepcopy(critic)
        self.actor = GaussianActor(size, actions, config.hidden, config.layers)
        networks = {"critic": critic, "target_critic": self.target_critic, "policy": self.actor}
        if averaged:
            self.average_actor = networks["average_policy"] = deepcopy(self.actor)
        self.temperature = networks["temperature"] = Temperature(config.temperature, config.target_entropy * actions)
        self.learned = Optimised(name, networks, _rates(config), device)
        self.soft = SoftActorCritic(self.actor, self.temperature, critic.values, self.target_critic.values,
                                    (critic, self.target_critic), self.learned.step, config.gradient_clip,
                                    config.target_rate)  # fmt: skip
        self.seen_steps, self.debt = 0, float(config.first_updates)

    def wants(self) -> int:
        """`steps_per_round` environment steps before the next update."""
        return self.config.steps_per_round

    def update(self, replay, rng: Streams) -> Metrics:
        """`updates_per_step` updates for each step that arrived since the last call, the first ones more."""
        self.debt += self.config.updates_per_step * (replay.env_steps - self.seen_steps)
        if not self.seen_steps:
            self.calibrate(replay, rng)
            self.target_critic.load_state_dict(self.critic.state_dict())
        self.seen_steps = replay.env_steps
        due, metrics = int(self.debt), Averages()
        self.debt -= due
        for _ in range(due):
            metrics.add(self.improve(replay, rng))
            self.updates += 1
        return metrics.means()

    @abstractmethod
    def calibrate(self, replay, rng: Streams) -> None:
        """Set the scales of what the critic's encoders read, before anything is learned."""

    @abstractmethod
    def improve(self, replay, rng: Streams) -> Metrics:
        """One update of everything."""

    def state(self) -> dict:
        """Everything that a bit-equal continuation needs."""
        return super().state() | self.learned.state() | {"seen_steps": self.seen_steps, "debt": self.debt}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        super().load_state(state)
        self.learned.load_state(state)
        self.seen_steps, self.debt = int(state["seen_steps"]), float(state["debt"])


class SoftLatentAgent(LatentAgent):
    """A `LatentAgent` with twin critics on what its policy reads; a subclass writes `improve`, in which `self.soft`
    makes an update.

    Args:
        config: sizes and rates, as those of `sac` and `meld`. parts: see `LatentAgent`.
        size: values that policy and critics read. actions: A. more: other networks that are saved, by name.
    """

    def __init__(self, config: Any, parts: LatentParts, size: int, actions: int, more: Mapping[str, nn.Module]):
        super().__init__(parts, GaussianActor(size, actions, config.hidden, config.layers))
        self.config, self.critic = config, Twin(size + actions, config.hidden, config.layers)
        self.target_critic = deepcopy(self.critic)
        self.temperature = Temperature(config.temperature, config.target_entropy * actions)
        networks = {"critic": self.critic, "policy": self.actor, "temperature": self.temperature,
                    "target_critic": self.target_critic, **more}  # fmt: skip
        self.own(networks, _rates(config))
        self.soft = SoftActorCritic(self.actor, self.temperature, self.critic, self.target_critic,
                                    (self.critic, self.target_critic), self.optimise, config.gradient_clip,
                                    config.target_rate)  # fmt: skip


def _rates(config: Any) -> dict[str, float]:
    """Learning rates of what is trained."""
    return {"critic": config.learning_rate, "policy": config.learning_rate,
            "temperature": config.temperature_learning_rate}  # fmt: skip
