"""Soft actor-critic that is told the task: the upper reference of every comparison in meta-reinforcement learning.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018 (arXiv 1812.05905), with twin critics and a
tuned temperature, on whole episodes of many tasks. Policy and critics read the observation, pictures through
convolutions, beside the numbers that tell the task from others (standardised over the training tasks). What it
reaches is what inference of the task could at most add. Deviations: the encoder learns from the critics' error
alone, and the policy reads its features outside the graph (Yarats et al. 2021, arXiv 1910.01741, without their
autoencoder); the policy's standard deviation is bounded (`policies.actors`). Values are bootstrapped through time
limits and not through terminal states; they know no trials.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from meta_latent.algorithms.registry import Algorithm, Setting
from meta_latent.models.observations import ObservationEncoder
from meta_latent.nets import Standardiser
from meta_latent.policies.critics import Twin
from meta_latent.policies.soft_actor_critic import METRICS, SoftBatch
from meta_latent.policies.soft_agent import SoftAgent
from meta_latent.ranges import between, count, counts, nonnegative, positive, share, whole
from meta_latent.rng import Streams
from meta_latent.types import Metrics, Step

CALIBRATION = 512
"""Steps over which the encoder is calibrated."""


@dataclass(frozen=True)
class OracleConfig:
    """Hyper-parameters.

    Attributes:
        discount: of later rewards, per step. temperature: first weight of the entropy bonus.
        target_entropy: nats per action value that it is tuned to hold. batch_size: transitions per update.
        updates_per_step: updates per environment step. first_updates: updates when learning starts.
        steps_per_round: environment steps between updates.
        channels: feature maps of each convolution, () for one linear map. embedding: values per camera.
        hidden: width of critics and policy. layers: their hidden layers. learning_rate: of critics and policy.
        temperature_learning_rate: of the weight of the entropy bonus.
        target_rate: how fast the target critics follow. gradient_clip: largest norm per network.
    """

    discount: float = share(0.9, below=True)
    temperature: float = positive(0.1)
    target_entropy: float = between(-1.0, -100, 100)
    batch_size: int = count(128, most=1_000_000)
    updates_per_step: float = nonnegative(0.25, most=1000)
    first_updates: int = whole(200)
    steps_per_round: int = whole(200)
    channels: tuple[int, ...] = counts((16, 32), most=4096, may_be_empty=True)
    embedding: int = count(32, most=16_384)
    hidden: int = count(128, most=16_384)
    layers: int = whole(2, most=64)
    learning_rate: float = positive(1e-3, most=10)
    temperature_learning_rate: float = positive(1e-3, most=10)
    target_rate: float = share(0.01, above=True)
    gradient_clip: float = positive(10.0, most=1e9)


class Critic(nn.Module):
    """The encoder and two critics on what it gives beside the task; task_vectors: (N, P) of the training tasks."""

    def __init__(self, config: OracleConfig, setting: Setting):
        super().__init__()
        self.encoder = ObservationEncoder(setting.spec, config.channels, config.embedding)
        vectors = setting.task_vectors
        self.standard = Standardiser(vectors.shape[1])
        if len(vectors) > 1:  # a single one says nothing of scales
            self.standard.fit(vectors)
        self.size = self.encoder.size + vectors.shape[1]
        self.values = Twin(self.size + setting.spec.action_size, config.hidden, config.layers)

    def features(self, step: Step, task: torch.Tensor) -> torch.Tensor:
        """Observations (..., ) and tasks (..., P) -> (..., size)."""
        return torch.cat([self.encoder(step), self.standard(task)], -1)


class Oracle(SoftAgent):
    """See the module's docstring. Build inside `rng.seeded_construction`."""

    def __init__(self, config: OracleConfig, setting: Setting):
        critic = Critic(config, setting)
        super().__init__("oracle", config, critic, critic.size, setting.spec.action_size, setting.device)
        self.tasks = setting.task_vectors.to(setting.device)

    # Acting

    @torch.no_grad()
    def act(self, step: Step, carry: None, rng: Streams, explore: bool) -> tuple[torch.Tensor, None]:
        """-> actions (B, A) in [-1, 1]: drawn from the policy with `explore`, else its mean."""
        step = step.to(self.device)
        features = self.critic.features(step, step.task)
        if explore:
            return self.actor.sample(features, rng.torch("explore"))[0].cpu(), None
        return self.actor.mean_action(features).cpu(), None

    # Learning

    def calibrate(self, replay, rng: Streams) -> None:
        """Scale what the encoders give, before anything is learned."""
        batch = replay.sequences(CALIBRATION, 1, rng.numpy("update")).to(self.device)
        self.critic.encoder.calibrate(batch)

    def improve(self, replay, rng: Streams) -> Metrics:
        """One update of critics, policy and temperature on replayed transitions."""
        config, draws = self.config, rng.torch("update")
        batch = replay.sequences(config.batch_size, 2, rng.numpy("update")).to(self.device)
        task = self.tasks[batch.task_index][:, None].expand(-1, 2, -1)
        features = self.critic.features(batch, task)
        with torch.no_grad():
            target_after = self.target_critic.features(batch, task)[:, 1]
        return self.soft.update(SoftBatch(
            features[:, 0], features[:, 1].detach(), target_after, batch.action[:, 1], batch.reward[:, 1],
            ~batch.is_terminal[:, 1], config.discount), draws)  # fmt: skip


ALGORITHM = Algorithm(
    config=OracleConfig,
    build=Oracle,
    metrics=METRICS,
    sees=frozenset({"task"}),
)
