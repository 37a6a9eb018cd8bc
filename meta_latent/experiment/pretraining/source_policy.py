"""The source policy: IVG's policy and value for one source task, learned at the end of pretraining in
imagination only.

`policy.safetensors` beside the model holds both; the arm `ivg/policy` starts from the policy, `meta-latent
evaluate` scores it on its source task.
"""

from __future__ import annotations

from pathlib import Path

import torch

from meta_latent.algorithms.ivg import IVG, IVGConfig
from meta_latent.data.latents import LatentCache
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import model_folder
from meta_latent.experiment.settings import structure
from meta_latent.experiment.settings.suites import BoundTask
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import LearnerConfig, ModelLearner
from meta_latent.policies.latent_agent import AdaptationConfig, LatentParts
from meta_latent.rng import Streams, derive, seeded_construction
from meta_latent.types import Metrics

NETWORKS = ("policy", "value")
NOTHING = AdaptationConfig(transition=0.0)
"""Nothing of the model learns with the policy."""


class SourcePolicy:
    """An IVG agent that learns a source's reward on source latents; it takes no environment step.

    Args:
        model: the pretrained model, which stays as it is. source: whose reward is learned. seed: of the
            networks.
    """

    def __init__(self, model: LatentStateModel, learner: ModelLearner, config: IVGConfig, source: BoundTask, seed: int):
        self.config, self.source = config, source
        with seeded_construction(derive(seed, "source policy")):
            self.agent = IVG(config, LatentParts(model, learner, NOTHING, LatentCache()))

    def open(self, replay) -> None:
        """Filter the source episodes of `replay`, with the source's rewards; call when a stage begins."""
        self.agent.cache.clear()
        self.agent.cache.extend(self.agent.model, replay, relabel=self._rewards)

    def _rewards(self, episode: dict) -> torch.Tensor:
        rewards = self.source.distribution.reward(self.source.task, episode["reward_inputs"], episode["action"])
        return torch.as_tensor(rewards).float() * torch.as_tensor(episode["reward_present"])

    def update(self, rng: Streams) -> Metrics:
        """One update of reward, policy and value."""
        metrics = self.agent.fit_reward(rng) | self.agent.follow_value_gradient(rng)
        self.agent.updates += 1
        return metrics

    def tensors(self) -> dict[str, torch.Tensor]:
        """The content of `policy.safetensors`; the policy is its running average."""
        networks = {**self.agent.networks, "policy": self.agent.average_actor}
        return {f"{name}.{key}": value for name in NETWORKS for key, value in networks[name].state_dict().items()}

    def facts(self) -> dict:
        """What `model.json` says about the policy."""
        return {
            "source": self.source.name,
            "updates": self.agent.updates,
            "config": structure.plain(self.config),
        }

    def state(self) -> dict:
        """Everything that a bit-equal continuation needs beside the model."""
        return {key: value for key, value in self.agent.state().items() if key != "learner"}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        self.agent.load_state({**state, "learner": self.agent.learner.state()})


def load_agent(folder: Path | str, device: str | torch.device = "cpu") -> IVG:
    """The pretrained model with its source policy, ready to act. Raises UserError if there is none."""
    card = model_folder.read_card(folder)
    stored = model_folder.load_policy(folder, device)
    model = model_folder.load(folder, device)
    # Models of earlier versions name how the model adapts, which the policy never depended on.
    settings = {key: value for key, value in card["policy"]["config"].items() if key != "adaptation"}
    config = structure.build(IVGConfig, settings, lambda key: str(Path(folder) / model_folder.CARD))
    with seeded_construction(0):
        agent = IVG(config, LatentParts(model, ModelLearner(model, LearnerConfig()), NOTHING, LatentCache()))
    for name in NETWORKS:
        load_network(agent.networks[name], stored, name, folder)
    load_network(agent.average_actor, stored, "policy", folder)
    return agent


def load_network(network: torch.nn.Module, stored: dict[str, torch.Tensor], name: str, folder: Path | str) -> None:
    """Copy the tensors "NAME.*" of `policy.safetensors` into a network. Raises UserError naming one that does
    not fit.
    """
    mine = {key.removeprefix(f"{name}."): value for key, value in stored.items() if key.startswith(f"{name}.")}
    own = network.state_dict()
    for key in sorted(own.keys() | mine.keys()):
        if key not in own or key not in mine or own[key].shape != mine[key].shape:
            raise UserError(
                f"{Path(folder) / model_folder.POLICY}: {name}.{key} does not fit algorithms.ivg (hidden, "
                "layers); give the values that the source policy was trained with"
            )
    network.load_state_dict(mine)
