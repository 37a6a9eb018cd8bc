"""What an algorithm may be built from: rewards and ends of many tasks at once."""

import numpy as np
import pytest
import torch

from meta_latent.algorithms.registry import Algorithm
from meta_latent.errors import UserError
from meta_latent.experiment.learning.starts import functions_of
from meta_latent.experiment.settings import config, suites
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.ranges import count


@pytest.fixture(scope="module")
def target():
    goals = "transfer.targets={t: {suite: toy/hidden_goal, tasks: 5, test_tasks: 2, episodes_per_trial: 2}}"
    return suites.bind_target(config.load(ExperimentConfig, [], [goals]), "t")


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray])
def test_each_row_is_paid_by_its_own_task(target, kind):
    rng = np.random.default_rng(0)
    tasks, inputs = rng.integers(5, size=4), rng.uniform(-1, 1, (4, 4, 2)).astype(np.float32)
    paid = functions_of(target).reward(kind(tasks), kind(inputs), kind(np.zeros((4, 4, 2), np.float32)))
    assert isinstance(paid, torch.Tensor) == (kind is torch.as_tensor)
    for b, k in enumerate(tasks):  # (B,) tasks with (B, T) rows, also where B equals T
        wanted = target.distribution.reward(target.tasks[k].task, inputs[b], np.zeros((4, 2)))
        np.testing.assert_allclose(np.asarray(paid)[b], wanted, rtol=1e-5)
    assert not functions_of(target).terminated(kind(tasks), kind(inputs), kind(inputs)).any()


def test_a_task_that_there_is_not_is_refused(target):
    for index in (-1, 5):
        with pytest.raises(ValueError, match="there are 5 tasks"):
            functions_of(target).reward(torch.tensor([index]), torch.zeros(1, 2), torch.zeros(1, 2))


def test_what_is_compared_with_must_be_a_start():
    class Settings:
        size: int = count(3)

    import dataclasses

    settings = dataclasses.dataclass(frozen=True)(Settings)
    with pytest.raises(UserError, match="scrach"):
        Algorithm(settings, lambda config, setting: None, ("pretrained", "scratch"), {"pretrained": "scrach"})
