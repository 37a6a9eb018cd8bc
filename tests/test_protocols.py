"""The real classes satisfy the protocols, with the same parameters, and the loops in the docstrings run."""

import inspect

import numpy as np
import pytest
import torch

from meta_latent import protocols
from meta_latent.algorithms.ivg import IVG
from meta_latent.algorithms.sac import SAC
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.models.config import ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.types import Spec, Step

PAIRS = [
    (protocols.WorldModel, LatentStateModel),
    (protocols.Agent, IVG),
    (protocols.Agent, SAC),
    (protocols.Replay, SequenceReplay),
]
SPEC = Spec({"top": (16, 16, 3)}, 2, 3)


def missing(protocol, kind) -> list[str]:
    """Methods that `kind` lacks, or that take other parameters than the protocol says."""
    problems = []
    for name, wanted in vars(protocol).items():
        if not inspect.isfunction(wanted) or name.startswith("_") and name != "__len__":
            continue
        found = getattr(kind, name, None)
        if found is None or list(inspect.signature(found).parameters) != list(inspect.signature(wanted).parameters):
            problems.append(name)
    return problems


@pytest.mark.parametrize(("protocol", "kind"), PAIRS)
def test_the_class_has_the_methods_with_their_parameters(protocol, kind):
    assert missing(protocol, kind) == []


def test_a_missing_method_and_another_parameter_are_noticed():
    class Wrong:
        def begin_task(self, size): ...

    assert {"begin_task", "act", "update"} <= set(missing(protocols.Agent, Wrong))


def test_instances_satisfy_the_protocols():
    model = LatentStateModel(SPEC, ModelConfig())
    replay = SequenceReplay(SPEC, ReplayConfig())
    assert isinstance(model, protocols.WorldModel) and isinstance(replay, protocols.Replay)
    assert not isinstance(replay, protocols.WorldModel) and not isinstance(model, protocols.Replay)


def test_the_loop_of_a_world_model():
    model, no = LatentStateModel(SPEC, ModelConfig()), torch.zeros(2, dtype=torch.bool)
    latent = model.initial(2)
    for first in (True, False):
        images = {"top": torch.from_numpy(np.full((2, 16, 16, 3), 90, np.uint8))}
        step = Step(
            images,
            torch.zeros(2, 2),
            torch.zeros(2, 3),
            torch.zeros(2),
            torch.zeros(2),
            no | first,
            no,
            no,
            no | first,
        )
        latent = model.observe(latent, step)
    action = torch.zeros(2, 3)
    following = model.transition(latent, action, torch.tensor([0, 1])).mean()
    assert model.predict(latent, action, following).reward.shape == (2,)
    assert model.decode(following)["top"].shape == (2, 16, 16, 3)
    assert torch.equal(model.features(model.unpack(model.pack(following))), model.features(following))
