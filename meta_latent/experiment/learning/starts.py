"""From an arm's name to an agent: which algorithm, which start, what of it keeps learning.

| arm | starts from | learns on the target |
|---|---|---|
| ivg/pretrained | the pretrained model | reward, value, policy; transition heads, encoder frozen |
| ivg/pretrained+data | the same | the same, with source episodes in model batches and imagination starts |
| ivg/policy | the same, and the source policy | the same, fine-tuning that policy |
| ivg/scratch | nothing | everything |
| ivg/scratch+data | nothing | everything, with source episodes in model batches and imagination starts |
| sac/pretrained, sac/scratch | as above | critics and policy on the same features, without imagination |
| sb3_sac/scratch | nothing | Stable-Baselines3's SAC on pixels |

Rewards of source episodes are never used.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from meta_latent.algorithms import sb3_sac
from meta_latent.algorithms.ivg import IVG
from meta_latent.algorithms.sac import SAC
from meta_latent.data.latents import LatentCache
from meta_latent.data.source import SourceData
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import model_folder, source_data, source_policy
from meta_latent.experiment.settings.schema import ARMS, ExperimentConfig
from meta_latent.experiment.settings.suites import Bound
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import ModelLearner
from meta_latent.policies.latent_agent import AdaptationConfig
from meta_latent.rng import derive, seeded_construction
from meta_latent.types import Spec

AGENTS = {"ivg": IVG, "sac": SAC}
SCRATCH = AdaptationConfig(
    joint=1.0, transition=1.0, first_joint=300, first_transition=600, transition_scale=1.0
)
FROZEN_ENCODER = AdaptationConfig()


def build(experiment: ExperimentConfig, arm: str, spec: Spec, seed: int, pretrained: Path | None):
    """The agent of `arm` ("ALGORITHM/START") for run `seed`; `pretrained` is the model folder where START
    needs one.

    Raises UserError if the model, its source data or its policy are missing or do not fit.
    """
    algorithm, start = split(arm)
    scratch, transfer = start.startswith("scratch"), experiment.transfer
    with seeded_construction(derive(seed, "agent", arm)):
        if scratch:
            model = LatentStateModel(spec, experiment.model).to(experiment.device)
        else:
            model = model_folder.load_for(pretrained, spec, experiment.device)
        default = SCRATCH if scratch else FROZEN_ENCODER
        adaptation = transfer.adaptation.get(
            arm, transfer.adaptation.get(start.removesuffix("+data"), default)
        )
        settings = dataclasses.replace(getattr(transfer, algorithm), adaptation=adaptation)
        source = None
        if start.endswith("+data"):
            frozen = adaptation.joint == 0 and adaptation.first_joint == 0
            replay = source_data.open_replay(pretrained, spec, model.heads, transfer.source_episodes)
            source = SourceData(replay, len(replay.episodes) if frozen else transfer.source_episodes_at_once)
        agent = AGENTS[algorithm](
            model, ModelLearner(model, experiment.learner), settings, LatentCache(), source
        )
    if start == "policy":
        stored = model_folder.load_policy(pretrained, experiment.device)
        for name in ("policy", "average_policy"):
            source_policy.load_network(agent.networks[name], stored, "policy", pretrained)
    return agent


def build_for(experiment: ExperimentConfig, arm: str, bound: Bound, seed: int, pretrained: Path | None, env):
    """The agent of any arm, third-party ones too, to load a saved state into and act with in `env`."""
    if split(arm)[0] == "sb3_sac":
        return sb3_sac.StableSAC(
            env, experiment.transfer.sb3_sac, derive(seed, "agent", arm), 0, 1, experiment.device
        )
    return build(experiment, arm, Spec.of(bound.distribution), seed, pretrained)


def split(arm: str) -> tuple[str, str]:
    """Algorithm and start of an arm. Raises UserError listing the arms there are."""
    algorithm, _, start = arm.partition("/")
    if start not in ARMS.get(algorithm, ()):
        known = ", ".join(f"{name}/{start}" for name, starts in ARMS.items() for start in starts)
        raise UserError(f"arm={arm!r}; choose from {known}")
    return algorithm, start


def learner_class(arm: str, ours: type) -> type:
    """Who runs a cell of `arm`: `ours`, or a subclass for a third-party learner. Raises UserError if it is
    missing.
    """
    if split(arm)[0] != "sb3_sac":
        return ours
    sb3_sac.require()
    from meta_latent.experiment.learning.third_party import StableTransfer  # which is a subclass of `ours`

    return StableTransfer
