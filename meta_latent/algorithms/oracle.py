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

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from meta_latent.algorithms.registry import Algorithm, Setting
from meta_latent.models.observations import ObservationEncoder
from meta_latent.nets import Standardiser
from meta_latent.policies.actors import GaussianActor, Temperature
from meta_latent.policies.base_agent import BaseAgent
from meta_latent.policies.critics import Twin
from meta_latent.policies.optimised import Optimised
from meta_latent.policies.soft_actor_critic import METRICS, SoftActorCritic, SoftBatch
from meta_latent.ranges import between, count, counts, nonnegative, positive, share, whole
from meta_latent.rng import Streams
from meta_latent.types import Averages, Metrics, Step

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


class Oracle(BaseAgent):
    """See the module's docstring. Build inside `rng.seeded_construction`."""

    def __init__(self, config: OracleConfig, setting: Setting):
        self.config, self.device = config, setting.device
        actions = setting.spec.action_size
        self.tasks = setting.task_vectors.to(setting.device)
        self.critic = Critic(config, setting)
        self.target_critic = deepcopy(self.critic)
        self.actor = GaussianActor(self.critic.size, actions, config.hidden, config.layers)
        self.temperature = Temperature(config.temperature, config.target_entropy * actions)
        networks = {"critic": self.critic, "target_critic": self.target_critic, "policy": self.actor,
                    "temperature": self.temperature}  # fmt: skip
        rates = {"critic": config.learning_rate, "policy": config.learning_rate,
                 "temperature": config.temperature_learning_rate}  # fmt: skip
        self.learned = Optimised("oracle", networks, rates, setting.device)
        self.soft = SoftActorCritic(
            self.actor, self.temperature, self.critic.values, self.target_critic.values,
            (self.critic, self.target_critic), self.learned.step, config.gradient_clip, config.target_rate)  # fmt: skip
        self.seen_steps, self.debt = 0, float(config.first_updates)

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

    def wants(self) -> int:
        """`steps_per_round` environment steps before the next update."""
        return self.config.steps_per_round

    def update(self, replay, rng: Streams) -> Metrics:
        """`updates_per_step` updates for each step that arrived since the last call, the first ones more."""
        self.debt += self.config.updates_per_step * (replay.env_steps - self.seen_steps)
        if not self.seen_steps:
            self.calibrate(replay, rng)
        self.seen_steps = replay.env_steps
        due, metrics = int(self.debt), Averages()
        self.debt -= due
        for _ in range(due):
            metrics.add(self.soft_update(replay, rng))
            self.updates += 1
        return metrics.means()

    def calibrate(self, replay, rng: Streams) -> None:
        """Scale what the encoders give, before anything is learned."""
        batch = replay.sequences(CALIBRATION, 1, rng.numpy("update")).to(self.device)
        self.critic.encoder.calibrate(batch)
        self.target_critic.load_state_dict(self.critic.state_dict())

    def soft_update(self, replay, rng: Streams) -> Metrics:
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

    # Saving

    def state(self) -> dict:
        """Everything that a bit-equal continuation needs."""
        return super().state() | self.learned.state() | {"seen_steps": self.seen_steps, "debt": self.debt}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        super().load_state(state)
        self.learned.load_state(state)
        self.seen_steps, self.debt = int(state["seen_steps"]), float(state["debt"])


ALGORITHM = Algorithm(
    config=OracleConfig,
    build=Oracle,
    metrics=METRICS,
    sees=frozenset({"task"}),
)
