"""What an arm has of an experiment's settings: how its model keeps learning, and whether its actions stray."""

from __future__ import annotations

from meta_latent.algorithms.registry import Arm
from meta_latent.experiment.settings.schema import ExperimentConfig, TransferConfig
from meta_latent.policies.latent_agent import AdaptationConfig

SCRATCH = AdaptationConfig(joint=1.0, transition=1.0, first_joint=300, first_transition=600, transition_scale=1.0)
FROZEN_ENCODER = AdaptationConfig()
NEW_CORE = AdaptationConfig(filter=0.3, first_filter=500)


def strays(transfer: TransferConfig, arm: Arm) -> float:
    """`transfer.epsilon` of an arm: 0 for those that learn from their own policy's actions alone."""
    return transfer.epsilon if arm.entry.warmup else 0.0


def adaptation_of(experiment: ExperimentConfig, arm: Arm) -> AdaptationConfig:
    """How the model of `arm` keeps learning: the most specific of `transfer.adaptation`, else the start's own."""
    own, start = experiment.transfer.adaptation, arm.start.removesuffix("+data")
    everything = arm.from_scratch or start == "sequence"
    default = SCRATCH if everything else NEW_CORE if start == "encoder" else FROZEN_ENCODER
    return own.get(str(arm), own.get(start, default))
