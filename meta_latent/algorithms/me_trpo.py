"""ME-TRPO and ME-PPO: a policy that is improved in an ensemble of learned models, until the models disagree.

Kurutach, Clavera, Duan, Tamar, Abbeel, "Model-Ensemble Trust-Region Policy Optimization", ICLR 2018
(arXiv 1802.10592). One iteration:
    play the policy; fit K models to all past data
    repeat: imagine episodes in all models, take a trust-region (or PPO) step on them
    until, in less than `improving` of the models, the return is higher than at the last look, every `look` steps

Deviations: those of `mb_mpo`; particles stay in one model for a whole episode, where the paper draws one per step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from meta_latent.algorithms.registry import Algorithm, Setting
from meta_latent.errors import UserError
from meta_latent.models.dynamics_ensemble import METRICS as DYNAMICS_METRICS
from meta_latent.models.dynamics_ensemble import DynamicsConfig, DynamicsEnsemble
from meta_latent.ops.inner_loop import InnerLoop
from meta_latent.ops.trust_region import TrustRegionConfig
from meta_latent.policies.policy_search import PolicyConfig, PolicySearch
from meta_latent.policies.simulators import StateSimulators, check_learned_rewards
from meta_latent.policies.surrogate import METRICS as STEP_METRICS
from meta_latent.policies.surrogate import ProximalConfig, Surrogate
from meta_latent.ranges import count, share
from meta_latent.rng import Streams
from meta_latent.types import Metrics


@dataclass(frozen=True)
class METRPOConfig:
    """Hyper-parameters.

    Attributes:
        steps_per_round: environment steps between fits of the models.
        outer_steps: most steps of the policy per fit. particles: imagined episodes per model and step.
        look: steps between looks at the models' returns. improving: the share of models whose return has to be higher
            than at the last look, or the round ends (0: never). looked_at: episodes per model that a look takes.
        models: the ensemble. policy: the policy and its advantages. trust_region, proximal: the step's settings.
    """

    steps_per_round: int = count(1000)
    outer_steps: int = count(20, most=100_000)
    particles: int = count(40, most=1_000_000)
    look: int = count(5, most=100_000)
    improving: float = share(0.7)
    looked_at: int = count(20, most=1_000_000)
    models: DynamicsConfig = field(default_factory=DynamicsConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    trust_region: TrustRegionConfig = field(default_factory=TrustRegionConfig)
    proximal: ProximalConfig = field(default_factory=ProximalConfig)


class METRPO(PolicySearch):
    """See the module's docstring. Build inside `rng.seeded_construction`; `step`: "trpo" or "ppo"."""

    def __init__(self, config: METRPOConfig, setting: Setting, step: Literal["trpo", "ppo"]):
        spec, device = setting.spec, setting.device
        check(config, setting)
        ensemble = DynamicsEnsemble(config.models, spec.proprio, spec.action_size).to(device)
        simulators = StateSimulators(ensemble, spec.proprio, setting.functions, setting.tasks, owned=False)
        super().__init__(config.policy, simulators, spec.action_size, setting.tasks, setting.max_episode_steps)
        self.config, self.step, self.left, self.last = config, step, 0, torch.zeros(0)

    def wants(self) -> int | None:
        """`steps_per_round` environment steps before each fit of the models, none between its steps."""
        return None if self.left else self.config.steps_per_round

    def update(self, replay, rng: Streams) -> Metrics:
        """One step of the policy; where new data arrived, the models are fitted first."""
        config, metrics, fresh = self.config, {}, not self.left
        if fresh:
            metrics = self.simulators.learn(replay, rng)
            self.left = config.outer_steps
        self.simulators.see(replay)
        if not self.updates:
            self.scale.fit(self.simulators.read(replay))
        if fresh:
            self.last = self.look(rng)
        metrics |= self.improve(rng)
        self.left, self.updates = self.left - 1, self.updates + 1
        if (config.outer_steps - self.left) % config.look == 0:
            now = self.look(rng)
            improved = float((now > self.last).float().mean())
            self.last, metrics["improving"] = now, improved
            self.left = self.left if improved >= config.improving else 0
        return metrics

    def improve(self, rng: Streams) -> Metrics:
        """One step of the policy on what it does in all models."""
        models = self.config.models.members
        acting = self.together(models)
        played = self.imagine(acting, self.config.particles, rng)
        surrogate = Surrogate(self.policy, played, acting, InnerLoop(models))
        found = (surrogate.trust_region_step(self.config.trust_region) if self.step == "trpo"
                 else surrogate.proximal_step(self.config.proximal))  # fmt: skip
        return found | {"imagined_return": float(played.returns.mean())}

    def look(self, rng: Streams) -> torch.Tensor:
        """(K,) the policy's return in each model, from episodes of their own."""
        return self.imagine(self.together(self.config.models.members), self.config.looked_at, rng).returns

    def state(self) -> dict:
        """Everything that a bit-equal continuation needs."""
        return super().state() | {"left": self.left, "last": self.last}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        super().load_state(state)
        self.left, self.last = int(state["left"]), state["last"].to(self.simulators.device)


def check(config: METRPOConfig, setting: Setting) -> None:
    """Raise UserError where a target's tasks do not do."""
    if setting.tasks > config.models.members:
        raise UserError(f"{setting.tasks} training tasks need as many models, one to imagine each in: raise "
                        f"models.members={config.models.members} of me_trpo or me_ppo")  # fmt: skip
    check_learned_rewards(config.models, setting.rewards or range(setting.tasks), owned=False)


def _algorithm(step: Literal["trpo", "ppo"]) -> Algorithm:
    return Algorithm(
        config=METRPOConfig,
        build=lambda config, setting: METRPO(config, setting, step),
        metrics={
            "imagined_return": "return in the models",
            "improving": "share of the models in which the return rose since the last look",
            **STEP_METRICS, **DYNAMICS_METRICS,
        },
        needs=frozenset({"states"}),
        check=check,
    )  # fmt: skip


ALGORITHM, ME_PPO = _algorithm("trpo"), _algorithm("ppo")
