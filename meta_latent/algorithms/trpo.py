"""TRPO and PPO: policy gradients on real episodes, without a model; what model-based learners are held against.

Schulman et al. 2015 (arXiv 1502.05477) and 2017 (arXiv 1707.06347). One iteration: play `steps_per_round` steps, one
trust-region (or PPO) step on them. Policy, baseline and advantages are those of `mb_mpo`: a linear baseline fitted to
the same episodes, clipped Gaussians.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from meta_latent.algorithms.registry import Algorithm, Setting
from meta_latent.errors import UserError
from meta_latent.ops.inner_loop import InnerLoop
from meta_latent.ops.trust_region import TrustRegionConfig
from meta_latent.policies.policy_search import PolicyConfig, PolicySearch
from meta_latent.policies.simulators import ObservedStates
from meta_latent.policies.surrogate import METRICS as STEP_METRICS
from meta_latent.policies.surrogate import ProximalConfig, Surrogate
from meta_latent.ranges import count
from meta_latent.rng import Streams
from meta_latent.types import Metrics


@dataclass(frozen=True)
class TRPOConfig:
    """Hyper-parameters.

    Attributes:
        steps_per_round: environment steps that each step of the policy is taken on.
        policy: the policy and its advantages. trust_region, proximal: the step's settings.
    """

    steps_per_round: int = count(2000)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    trust_region: TrustRegionConfig = field(default_factory=TrustRegionConfig)
    proximal: ProximalConfig = field(default_factory=ProximalConfig)


class TRPO(PolicySearch):
    """See the module's docstring. Build inside `rng.seeded_construction`; `step`: "trpo" or "ppo"."""

    def __init__(self, config: TRPOConfig, setting: Setting, step: Literal["trpo", "ppo"]):
        check(config, setting)
        states = ObservedStates(setting.spec.proprio, setting.device)
        super().__init__(config.policy, states, setting.spec.action_size, setting.tasks, setting.max_episode_steps)
        self.config, self.step, self.seen = config, step, 0

    def wants(self) -> int:
        """`steps_per_round` environment steps of this very policy."""
        return self.config.steps_per_round

    def update(self, replay, rng: Streams) -> Metrics:
        """One step on the episodes that arrived since the last call, each used once."""
        fresh, arrived = replay.view(since=self.seen), replay.added - self.seen
        if len(fresh.lengths()) < arrived:
            raise UserError(f"of the {arrived} episodes of this round the replay kept {len(fresh.lengths())}: raise "
                            "transfer.replay.capacity to several times steps_per_round="
                            f"{self.config.steps_per_round}")  # fmt: skip
        self.seen = replay.added
        played, likelihood = self.real_rollouts(fresh), None
        if not self.updates:  # whoever played these read raw values, which makes another policy of the same weights
            likelihood = self.policy(self.together(1), played.features).log_prob(played.actions)
            self.scale.fit(self.simulators.read(fresh))
            played = self.real_rollouts(fresh)
        surrogate = Surrogate(self.policy, played, self.together(1), InnerLoop(1), likelihood)
        found = (surrogate.trust_region_step(self.config.trust_region) if self.step == "trpo"
                 else surrogate.proximal_step(self.config.proximal))  # fmt: skip
        self.updates += 1
        return found | {"played_return": float(played.returns)}

    def state(self) -> dict:
        """Everything that a bit-equal continuation needs; `seen` episodes are not learned from again."""
        return super().state() | {"seen": self.seen}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        super().load_state(state)
        self.seen = int(state["seen"])


def check(config: TRPOConfig, setting: Setting) -> None:
    """Raise UserError where a target cannot be seen."""
    if not setting.spec.proprio:
        raise UserError("trpo and ppo read proprioception alone, and this target has none")


def _algorithm(step: Literal["trpo", "ppo"]) -> Algorithm:
    return Algorithm(
        config=TRPOConfig,
        build=lambda config, setting: TRPO(config, setting, step),
        metrics={"played_return": "return of the episodes that the step was taken on", **STEP_METRICS},
        warmup=False,
        check=check,
    )


ALGORITHM, PPO = _algorithm("trpo"), _algorithm("ppo")
