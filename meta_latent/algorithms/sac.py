"""Soft actor-critic (SAC) on the features of a latent state model.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018 (arXiv 1812.05905), with twin critics
and a tuned temperature. The control for IVG: the same model, encoder training and features, but rewards and
values learned from replayed transitions alone, no imagination. Published are one-step returns of transitions drawn
uniformly, bootstrapped unless the state reached is terminal. Deviations: n-step returns without correction (`steps`),
from every transition alike; an episode's end cuts them short, and a time limit is bootstrapped from the last state,
discounted by the steps until there. Evaluated is a running average of the policy, as in IVG.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from meta_latent.algorithms.registry import Algorithm
from meta_latent.models.losses import METRICS as MODEL_METRICS
from meta_latent.policies.latent_agent import LatentParts
from meta_latent.policies.soft_actor_critic import METRICS, SoftBatch
from meta_latent.policies.soft_agent import SoftLatentAgent
from meta_latent.ranges import between, count, nonnegative, positive, share, whole
from meta_latent.rng import Streams
from meta_latent.types import Averages, Metrics


@dataclass(frozen=True)
class SACConfig:
    """Hyper-parameters.

    Attributes:
        discount: of later rewards, per step. steps: n of the n-step returns, fewer where the episode ends before.
        temperature: first weight of the entropy bonus. target_entropy: nats per action value that it is tuned to hold.
        batch_size: transitions per update. updates_per_step: updates per environment step.
        first_updates: updates when learning starts. hidden: width of critics and policy. layers: their hidden layers.
        learning_rate: of critics and policy. temperature_learning_rate: of the weight of the entropy bonus.
        target_rate: how fast the target critics follow. average_rate: how fast the policy's running average follows,
            which is what is evaluated. gradient_clip: largest norm per network.
    """

    discount: float = share(0.93, below=True)
    steps: int = count(3, most=1000)
    temperature: float = positive(0.1)
    target_entropy: float = between(-1.0, -100, 100)
    batch_size: int = count(128, most=1_000_000)
    updates_per_step: float = nonnegative(2.0, most=1000)
    first_updates: int = whole(300)
    hidden: int = count(128, most=16_384)
    layers: int = whole(2, most=64)
    learning_rate: float = positive(1e-3, most=10)
    temperature_learning_rate: float = positive(1e-3, most=10)
    target_rate: float = share(0.02, above=True)
    average_rate: float = share(0.03, above=True)
    gradient_clip: float = positive(10.0, most=1e9)


class SAC(SoftLatentAgent):
    """See the module's docstring. Build inside `rng.seeded_construction`."""

    def __init__(self, config: SACConfig, parts: LatentParts):
        model = parts.model
        super().__init__(config, parts, model.feature_size + model.relation_size, model.spec.action_size, {})

    def improve(self, steps: int, first: bool, rng: Streams, metrics: Averages) -> None:
        """`updates_per_step` updates for each new environment step."""
        count = self.due("improve", self.config.updates_per_step, steps) + self.config.first_updates * first
        for _ in range(count):
            metrics.add(self.soft_update(rng))
            self.updates += 1

    def soft_update(self, rng: Streams) -> Metrics:
        """One update of critics, policy and temperature on replayed transitions (time limits are
        bootstrapped through).
        """
        config = self.config
        windows = self.cache.windows(config.batch_size, config.steps, rng.numpy("replay"), cut=True)
        now, after = self.features(self.model.unpack(windows.packed[:, :: config.steps])).unbind(1)  # first, last
        taken = windows.rows.diff() > 0  # (n, steps): none after the episode's end
        powers = config.discount ** torch.arange(config.steps, device=now.device)
        reward = (windows.rewards[:, 1:] * taken * powers).sum(1)
        batch = SoftBatch(now, after, after, windows.actions[:, 1], reward, ~windows.terminal[:, -1],
                            config.discount ** taken.sum(1))  # fmt: skip
        measured = self.soft.update(batch, rng.torch("replay"))
        self.average_policy(config.average_rate)
        return measured


ALGORITHM = Algorithm(
    config=SACConfig,
    build=lambda config, setting: SAC(config, setting.latent_parts()),
    starts=("pretrained", "scratch"),
    metrics=METRICS | MODEL_METRICS,
)
