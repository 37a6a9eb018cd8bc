"""MB-MPO: a policy that is meta-learned to adapt to any of K learned simulators, in one gradient step.

Clavera, Rothfuss, Schulman, Fujita, Asfour, Abbeel, "Model-Based Reinforcement Learning via Meta-Policy
Optimization", CoRL 2018 (arXiv 1809.05214), and its code. One iteration:
    play the adapted policies of the last outer step; fit K models to all past data
    repeat M times, for tasks n = 1 ... N, each a model (where the state is seen) or a transition head of the
    pretrained latent state model (from pixels):
        imagine with pi(theta), and take theta_n = theta - alpha grad L_n(theta)          (L: VPG, linear baseline)
        imagine with pi(theta_n); theta <- a trust-region step on the likelihood-ratio gain of all theta_n,
        differentiated through the inner step

Controls, registered beside it: `mb_mpo_alpha0`, an average over the models without adapting; `mb_mpo_one_model`;
`mb_mpo_first_order`, which does not differentiate through the inner step. Deviations: imagining starts from stored
first observations, not from free resets of the simulator; actions are clipped Gaussians with their own likelihood; what
the policy reads is scaled by the warm-up's deviations; exact products with the Fisher matrix, through a first-order
inner step, in place of finite differences; a transition belongs for ever to a model's training or validation part;
terminal transitions are learned from.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from meta_latent.algorithms.registry import SCRATCH, Algorithm, Setting
from meta_latent.errors import UserError
from meta_latent.models.dynamics_ensemble import METRICS as DYNAMICS_METRICS
from meta_latent.models.dynamics_ensemble import DynamicsConfig, DynamicsEnsemble
from meta_latent.models.losses import METRICS as MODEL_METRICS
from meta_latent.ops.inner_loop import InnerLoop
from meta_latent.ops.trust_region import TrustRegionConfig
from meta_latent.policies.continuation import METRICS as TARGET_METRICS
from meta_latent.policies.policy_search import PolicyConfig, PolicySearch, Rollouts
from meta_latent.policies.simulators import LatentSimulators, RewardConfig, StateSimulators, check_learned_rewards
from meta_latent.policies.surrogate import METRICS as STEP_METRICS
from meta_latent.policies.surrogate import ProximalConfig, Surrogate
from meta_latent.ranges import count, nonnegative, whole
from meta_latent.rng import Streams
from meta_latent.types import Metrics


@dataclass(frozen=True)
class MBMPOConfig:
    """Hyper-parameters.

    Attributes:
        steps_per_round: environment steps between fits of the models.
        outer_steps: M, meta-updates per fit. tasks: N, simulated tasks per meta-update, in states a multiple of
            `models.members`, in latents of the transition heads.
        particles: imagined episodes per task, before and after adapting.
        rate: alpha, of the inner step; 0 adapts nothing. test_rate: of each step of adapting to real episodes.
        second_order: differentiate through the inner step; else as if it moved every theta alike.
        engine: how inner steps are computed, see `ops.inner_loop.InnerLoop`.
        own_tasks: model k learns from training tasks k, k + K, ... alone: for families whose dynamics differ; None:
            in states, wherever there are several tasks. In latents the models are transition heads, which a pretraining
            with `pretrain.own_heads` has shared out among its sources.
        space: what is imagined in: "states", models of what is observed that are learned from scratch, or the "latents"
            of a latent state model; "auto": states from scratch, where rewards follow from what is observed.
        horizon: imagined steps; 0: as long as an episode is at most.
        models: the ensemble of state models. reward: what is learned of the reward, on latents.
        policy: the policy and its advantages. outer: the kind of the outer step, and the settings of either.
    """

    steps_per_round: int = count(1000)
    outer_steps: int = count(20, most=100_000)
    tasks: int = count(10, most=10_000)
    particles: int = count(20, most=1_000_000)
    rate: float = nonnegative(0.01, most=1000)
    test_rate: float = nonnegative(0.05, most=1000)
    second_order: bool = True
    engine: Literal["auto", "stacked", "loop", "learn2learn"] = "auto"
    own_tasks: bool | None = None
    space: Literal["auto", "states", "latents"] = "auto"
    horizon: int = whole(0, most=100_000)
    models: DynamicsConfig = field(default_factory=DynamicsConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    outer: Literal["trpo", "ppo"] = "trpo"
    trust_region: TrustRegionConfig = field(default_factory=TrustRegionConfig)
    proximal: ProximalConfig = field(default_factory=ProximalConfig)


class MBMPO(PolicySearch):
    """See the module's docstring. Build inside `rng.seeded_construction`."""

    def __init__(self, config: MBMPOConfig, setting: Setting):
        super().__init__(config.policy, simulators_of(config, setting), setting.spec.action_size, setting.tasks,
                         config.horizon or setting.max_episode_steps)  # fmt: skip
        self.config, self.left, self.adapted_to = config, 0, 0
        self.acting = self.together(config.tasks)

    def wants(self) -> int | None:
        """`steps_per_round` environment steps before each fit of the models, none between its outer steps."""
        return None if self.left else self.config.steps_per_round

    def update(self, replay, rng: Streams) -> Metrics:
        """One outer step; where new data arrived, the models are fitted first."""
        metrics = {}
        if not self.left:
            metrics = self.simulators.learn(replay, rng)
            self.left = self.config.outer_steps
        self.simulators.see(replay)
        if not self.updates:
            self.scale.fit(self.simulators.read(replay))
        metrics |= self.meta_update(rng)
        self.left, self.updates = self.left - 1, self.updates + 1
        return metrics

    def meta_update(self, rng: Streams) -> Metrics:
        """Imagine, adapt, imagine with the adapted policies, and move theta so that adapting pays more."""
        config, theta = self.config, self.policy.values()
        before = self.imagine(self.together(config.tasks), config.particles, rng)
        inner = self.inner_loop(before)
        # Copies: without an inner step they are views of theta, which is about to move.
        self.acting = {name: value.detach().clone() for name, value in inner.adapted(theta).items()}
        after = self.imagine(self.acting, config.particles, rng)
        found = {"plasticity": self.plasticity(before), "disagreement": self.disagreement(before),
                 "imagined_return": float(before.returns.mean()),
                 "imagined_return_adapted": float(after.returns.mean())}  # fmt: skip
        surrogate = Surrogate(self.policy, after, self.acting, inner)
        return found | (surrogate.trust_region_step(config.trust_region) if config.outer == "trpo"
                        else surrogate.proximal_step(config.proximal))  # fmt: skip

    @torch.no_grad()
    def plasticity(self, rollouts: Rollouts) -> float:
        """How far adapting moved the policy on these tasks: mean KL(before || after) in nats, in what was imagined."""
        old = self.policy(self.together(len(rollouts.returns)), rollouts.features)
        return float(old.divergence(self.policy(self.acting, rollouts.features))[rollouts.mask].mean())

    def inner_loop(self, rollouts: Rollouts) -> InnerLoop:
        """theta -> theta_n = theta - alpha grad L_n(theta) for the tasks of `rollouts`."""
        config = self.config
        return InnerLoop(len(rollouts.returns), self.policy_gradient(rollouts), config.rate, engine=config.engine,
                         second_order=config.second_order, samples=rollouts.mask[0].numel())  # fmt: skip

    # Adapting to real episodes

    def adapt(self, trial, rng: Streams) -> MBMPO:
        """One more policy-gradient step, on the episodes that this agent has played of the trial."""
        fresh = trial.view(since=self.adapted_to)
        other = self.adapted_by(self.real_rollouts(fresh), self.config.test_rate)
        other.adapted_to = trial.added
        return other

    # Saving

    def state(self) -> dict:
        """Everything that a bit-equal continuation needs."""
        return super().state() | {"left": self.left}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        super().load_state(state)
        self.left = int(state["left"])


def simulators_of(config: MBMPOConfig, setting: Setting) -> StateSimulators | LatentSimulators:
    """What policies are imagined in. Raises UserError: see `check`."""
    check(config, setting)
    if _in_latents(config, setting):
        if _misses_states(config, setting):
            warnings.warn("mb_mpo imagines in the latents of a new model, whose heads own no training tasks: "
                          "proprioception is not what rewards follow from. Where reward_inputs are what is observed, "
                          "it learns models of states, which own tasks", stacklevel=2)  # fmt: skip
        return LatentSimulators(config.reward, setting.latent_parts(), bool(config.own_tasks))
    size = setting.spec.proprio
    ensemble = DynamicsEnsemble(config.models, size, setting.spec.action_size).to(setting.device)
    return StateSimulators(ensemble, size, setting.functions, setting.tasks, _owned(config, setting))


def _sees_states(setting: Setting) -> bool:
    return setting.start == SCRATCH and setting.functions.observed


def _in_latents(config: MBMPOConfig, setting: Setting) -> bool:
    return config.space == "latents" or (config.space == "auto" and not _sees_states(setting))


def _misses_states(config: MBMPOConfig, setting: Setting) -> bool:
    """Whether a family is imagined in latents for want of states alone, with nothing said of who owns its tasks."""
    unsaid = config.space == "auto" and config.own_tasks is None
    return unsaid and setting.start == SCRATCH and setting.tasks > 1 and not setting.spec.images


def _owned(config: MBMPOConfig, setting: Setting) -> bool:
    """Whether each model of states has training tasks of its own."""
    return setting.tasks > 1 if config.own_tasks is None else config.own_tasks


def check(config: MBMPOConfig, setting: Setting) -> None:
    """Raise UserError where a target's states or tasks do not do."""
    if _in_latents(config, setting):
        if len(set(setting.rewards)) > 1:
            raise UserError(f"in latents one reward is learned, and the target's {setting.tasks} training tasks pay "
                            "differently: give it one task, or tasks that differ in dynamics alone; in states "
                            "(algorithms.mb_mpo.space=states) each is paid by its own")  # fmt: skip
        if config.own_tasks and (setting.tasks < setting.heads or config.tasks % setting.heads):
            raise UserError(f"own_tasks=true: {setting.tasks} training tasks, tasks={config.tasks} simulated ones, and "
                            f"{setting.heads} transition heads: give the target as many training tasks as there are "
                            "heads or more, and simulate a multiple")  # fmt: skip
        if config.own_tasks:
            _check_first_trials(config, setting, setting.heads)
        _check_tasks(config, setting.heads, "transition heads of the model (model.ensemble.heads)")
        return
    if not _sees_states(setting):
        raise UserError("algorithms.mb_mpo.space=states learns new models of proprioception that rewards follow from "
                        "(suite={observation: reward_inputs}, where a suite has it); arms with a pretrained model, or "
                        "that see pictures, need space=latents")  # fmt: skip
    members, owned = config.models.members, _owned(config, setting)
    _check_tasks(config, members, "models (algorithms.mb_mpo.models.members)")
    if owned and setting.tasks % members:
        raise UserError(f"{setting.tasks} training tasks cannot be shared out among {members} models: set "
                        "algorithms.mb_mpo.models.members to a divisor, or own_tasks=false")  # fmt: skip
    if setting.tasks > config.tasks:
        raise UserError(f"algorithms.mb_mpo.tasks={config.tasks} is less than the {setting.tasks} training tasks")
    check_learned_rewards(config.models, setting.rewards or range(setting.tasks), owned)
    if owned:
        _check_first_trials(config, setting, members)


def _check_tasks(config: MBMPOConfig, count: int, what: str) -> None:
    """Raise UserError where some simulators would have more of the simulated tasks than others."""
    if config.tasks % count:
        raise UserError(f"algorithms.mb_mpo.tasks={config.tasks} is no multiple of the {count} {what}")


def _check_first_trials(config: MBMPOConfig, setting: Setting, models: int) -> None:
    """Raise UserError where the first fit has fewer trials than there are models with training tasks of their own."""
    steps = setting.max_episode_steps * setting.episodes_per_trial
    trials = setting.warmup_trials or math.ceil(config.steps_per_round / steps)
    if trials < models:
        raise UserError(f"each of {models} models learns from training tasks of its own, of which the first {trials} "
                        f"trials leave some without data: set transfer.targets.{setting.target}.warmup_episodes="
                        f"{setting.tasks * setting.episodes_per_trial} or more, a trial of each task")  # fmt: skip


def _algorithm(variant: Callable[[MBMPOConfig], MBMPOConfig]) -> Algorithm:
    return Algorithm(
        config=MBMPOConfig,
        build=lambda config, setting: MBMPO(variant(config), setting),
        starts=("scratch", "pretrained"),
        metrics={
            "imagined_return": "return in the simulators before the inner step",
            "imagined_return_adapted": "return in the simulators after it",
            "plasticity": "how far the inner step moves the policy (KL in nats, mean over imagined states)",
            "disagreement": "standard deviation of the next states that the models predict, as the policy reads them",
            **TARGET_METRICS, **STEP_METRICS, **DYNAMICS_METRICS, **MODEL_METRICS,
        },
        needs=frozenset({"functions"}),
        sees=frozenset({"index", "trial"}),
        adapts=True,
        check=lambda config, setting: check(variant(config), setting),
    )  # fmt: skip


ALGORITHM = _algorithm(lambda config: config)
ALPHA0 = _algorithm(lambda config: replace(config, rate=0.0))
ONE_MODEL = _algorithm(lambda config: replace(config, models=replace(config.models, members=1), own_tasks=False))
FIRST_ORDER = _algorithm(lambda config: replace(config, second_order=False))
