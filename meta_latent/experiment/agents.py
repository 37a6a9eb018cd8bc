"""From an arm's name to an agent: which algorithm, which start, what of it keeps learning."""

from __future__ import annotations

import dataclasses
from pathlib import Path


from meta_latent.algorithms.ivg import IVG
from meta_latent.algorithms.sac import SAC
from meta_latent.data.latents import LatentCache
from meta_latent.experiment import model_folder
from meta_latent.experiment.schema import ExperimentConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import ModelLearner
from meta_latent.policies.latent_agent import AdaptationConfig
from meta_latent.rng import derive, seeded_construction
from meta_latent.types import Spec

AGENTS = {"ivg": IVG, "sac": SAC}
SCRATCH = AdaptationConfig(joint=1.0, transition=1.0, first_joint=300, first_transition=600, transition_scale=1.0)
FROZEN_ENCODER = AdaptationConfig()


def build(experiment: ExperimentConfig, arm: str, spec: Spec, seed: int, pretrained: Path | None):
    """The agent of `arm` ("ALGORITHM/START") for run `seed`; `pretrained` is the model folder where START needs one."""
    algorithm, _, start = arm.partition("/")
    transfer = experiment.transfer
    with seeded_construction(derive(seed, "agent", arm)):
        if start.startswith("scratch"):
            model = LatentStateModel(spec, experiment.model).to(experiment.device)
        else:
            model = model_folder.load_for(pretrained, spec, experiment.device)
        settings = getattr(transfer, algorithm)
        default = SCRATCH if start.startswith("scratch") else FROZEN_ENCODER
        adaptation = transfer.adaptation.get(arm, transfer.adaptation.get(start, default))
        settings = dataclasses.replace(settings, adaptation=adaptation)
        source = None
        return AGENTS[algorithm](model, ModelLearner(model, experiment.learner), settings, LatentCache(), source)
