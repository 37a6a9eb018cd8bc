"""What to add to my_planner.py to learn a policy by gradients through imagined latents (pathwise derivatives)."""

from __future__ import annotations

from dataclasses import dataclass

from my_planner import METRICS, Planner, PlannerConfig

from meta_latent.algorithms.registry import Algorithm, register
from meta_latent.policies.actors import GaussianActor
from meta_latent.policies.latent_agent import LatentAgent
from meta_latent.ranges import nonnegative, positive, whole


@dataclass(frozen=True)
class PathwiseConfig(PlannerConfig):
    """The planner's settings (`candidates` and `noise` mean nothing here) and the policy's.

    Attributes:
        policy_updates_per_step, first_policy_updates: of the policy. policy_rate: its learning rate.
    """

    policy_updates_per_step: float = nonnegative(2.0, most=1000)
    first_policy_updates: int = whole(300)
    policy_rate: float = positive(1e-3, most=10)


class Pathwise(Planner):
    """A policy that climbs the imagined return; model and reward hold still meanwhile."""

    choose = LatentAgent.choose  # explore: a sample of the policy; else the mean of its running average

    def __init__(self, config, parts):
        model = parts.model
        inputs = model.feature_size + model.relation_size
        actor = GaussianActor(inputs, model.spec.action_size, hidden=64, min_stddev=0.3)
        super().__init__(config, parts, actor)
        self.own({"policy": actor}, {"policy": config.policy_rate})

    def improve(self, steps, first, rng, metrics):
        """The reward, then the policy."""
        super().improve(steps, first, rng, metrics)

        def policy(k, latent):
            return self.actor.sample(self.features(latent), rng.torch("policy"))[0]

        due = self.due("policy", self.config.policy_updates_per_step, steps)
        for _ in range(due + self.config.first_policy_updates * first):
            starts = self.cache.windows(64, 0, rng.numpy("starts")).packed[:, 0]
            imagined = self.imagined_return(self.model.unpack(starts), policy).mean()
            metrics.add({"imagined_return": -self.optimise("policy", -imagined, clip=10.0)})
            self.average_policy(0.02)
            self.updates += 1


register("pathwise", Algorithm(
    config=PathwiseConfig,
    build=lambda config, setting: Pathwise(config, setting.latent_parts()),
    starts=("pretrained", "scratch"),
    metrics=METRICS | {"imagined_return": "what the policy is expected to be paid within its horizon"},
))  # fmt: skip
