"""TRPO and ME-TRPO: which data a step is taken on, and when the models have had enough of a policy."""

import contextlib
import dataclasses

import pytest
import torch

from meta_latent.algorithms import trpo
from meta_latent.algorithms.me_trpo import METRPOConfig
from meta_latent.algorithms.trpo import TRPOConfig
from meta_latent.errors import UserError
from meta_latent.models.dynamics_ensemble import DynamicsConfig
from meta_latent.policies.surrogate import Surrogate

FAMILY = {"suite": "toy/rotated_actuators", "tasks": 4, "test_tasks": 2, "options": {"episode_steps": 6}}


@pytest.fixture
def running(bench, tmp_path):
    """A function: (arm, settings, target) -> the loop of that cell."""
    with contextlib.ExitStack() as stack:

        def start(arm, settings, target=None):
            experiment = bench.experiment(tmp_path, arm, target=target or {"suite": "toy/lqr"})
            algorithms = {**experiment.algorithms, arm.partition("/")[0]: settings}
            return stack.enter_context(bench.learning(dataclasses.replace(experiment, algorithms=algorithms), arm))

        yield start


def test_each_episode_is_learned_from_once_as_who_played_it(running, bench, monkeypatch):
    """In the first round the policy reads raw values, thereafter scaled ones."""
    steps = []
    monkeypatch.setattr(trpo, "Surrogate", lambda *args: steps.append(Surrogate(*args)) or steps[-1])
    learning = running("trpo/scratch", TRPOConfig(steps_per_round=60))
    agent, replay = learning.agent, learning.replay
    for turn in range(3):
        before = replay.added
        learning.collector.round(agent, replay, learning.streams)
        fresh = replay.view(since=before)
        played = agent.real_rollouts(fresh)
        expected = agent.policy(agent.together(1), played.features).log_prob(played.actions).detach()
        agent.update(replay, learning.streams)
        assert steps[turn].rollouts.features.shape[1] == len(fresh.lengths()) > 0
        torch.testing.assert_close(steps[turn].old_log_prob, expected)
    assert (agent.scale.stddev != 1).any() and not torch.allclose(steps[0].rollouts.features, played.features)
    raw = steps[0].old.log_prob(steps[0].rollouts.actions)
    assert not torch.allclose(raw, steps[0].old_log_prob)  # so it matters


def test_a_round_ends_when_the_policy_improves_in_too_few_models(running, bench):
    """Each look is compared with the one before it; 0.7 of four models are three."""
    looks = [[0, 0, 0, 0], [1, 1, 1, -1], [2, 2, 0, 0], [3, 3, -1, -1], [0, 0, 0, 0]]
    models = DynamicsConfig(members=4, hidden=8, max_epochs=1)
    learning = running("me_trpo/scratch", METRPOConfig(steps_per_round=60, outer_steps=20, look=2, models=models))
    agent, left = learning.agent, iter(looks)
    agent.look = lambda rng: torch.tensor(next(left), dtype=torch.float32)
    learning.collector.round(agent, learning.replay, learning.streams)
    found = [agent.update(learning.replay, learning.streams).get("improving") for _ in range(6)]
    assert found == [None, 0.75, None, 0.75, None, 0.5] and agent.wants() == 60
    assert "model_error" in agent.update(learning.replay, learning.streams) and agent.wants() is None


def test_the_policy_is_looked_at_in_every_model(running, bench):
    models = DynamicsConfig(members=4, hidden=8, max_epochs=1)
    learning = running("me_trpo/scratch", METRPOConfig(steps_per_round=60, models=models))
    bench.round(learning)
    agent, own = learning.agent, []
    agent.simulators.functions = dataclasses.replace(
        agent.simulators.functions,
        reward=lambda task, states, actions: own.append(states) or torch.arange(4.0)[:, None].expand(states.shape[:2]),
    )
    torch.testing.assert_close(agent.look(learning.streams), torch.arange(4.0) * agent.horizon)
    assert own[0].shape[1] == METRPOConfig().looked_at


def test_tasks_that_no_model_imagines_are_refused(running):
    models = DynamicsConfig(members=3, hidden=8)
    with pytest.raises(UserError, match="4 training tasks need as many models"):
        running("me_trpo/scratch", METRPOConfig(models=models), FAMILY)
