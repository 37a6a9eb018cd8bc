"""What MB-MPO measures of itself: how far adapting moves the policy, how far its models lie apart."""

import dataclasses
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from meta_latent.algorithms.mb_mpo import MBMPOConfig
from meta_latent.models.dynamics_ensemble import DynamicsConfig
from meta_latent.policies.policy_search import LOOKED_AT
from meta_latent.rng import Streams

FAMILY = {"suite": "toy/rotated_actuators", "tasks": 2, "test_tasks": 2, "episodes_per_trial": 2, "warmup_episodes": 4,
          "options": {"episode_steps": 5}}  # fmt: skip


@pytest.fixture
def agent_of(bench, tmp_path):
    """A function: settings -> an agent after its first fit of the models, and what its update measured."""

    def make(members=2, **settings):
        models = DynamicsConfig(members=members, hidden=8, max_epochs=2)
        config = MBMPOConfig(steps_per_round=10, tasks=4, particles=3, models=models, **settings)
        experiment = bench.experiment(tmp_path / f"{members}{settings}", "mb_mpo/scratch", target=FAMILY)
        experiment = dataclasses.replace(experiment, algorithms={**experiment.algorithms, "mb_mpo": config})
        with bench.learning(experiment, "mb_mpo/scratch") as running:
            return running.agent, bench.round(running)

    return make


def test_plasticity_is_the_divergence_between_the_policy_and_its_adapted_ones(agent_of):
    agent, found = agent_of(rate=0.5)
    assert found["plasticity"] > 0
    rollouts = agent.imagine(agent.together(4), 3, Streams(1))
    rollouts.mask[:, :, 3:] = False
    expected = []
    for task in range(4):
        own = {name: value[task : task + 1] for name, value in agent.acting.items()}
        for row in rollouts.features[task][:, :3].flatten(0, 1):
            old, new = (agent.policy(p, row[None, None]) for p in (agent.together(1), own))
            old, new = (Normal(one.mean.flatten(), one.log_stddev.exp().flatten()) for one in (old, new))
            expected.append(float(kl_divergence(old, new).sum().detach()))
    assert len(expected) == 36 and agent.plasticity(rollouts) == pytest.approx(sum(expected) / 36, rel=1e-3)


def test_who_does_not_adapt_does_not_move(agent_of):
    _, found = agent_of(rate=0.0)
    assert found["plasticity"] == pytest.approx(0, abs=1e-6) and found["disagreement"] > 0


def test_disagreement_is_the_deviation_over_all_models_of_every_next_state(agent_of):
    agent, _ = agent_of()
    rollouts = agent.imagine(agent.together(4), 3, Streams(1))
    rollouts.mask[1] = False
    ensemble, total, count = agent.simulators.ensemble.requires_grad_(False), 0.0, 0
    for task in (0, 2, 3):
        pairs = (x[task].flatten(0, 1) for x in (rollouts.states, rollouts.actions))
        for state, action in zip(*pairs, strict=True):
            first, second = (ensemble.through(state.expand(2, 1, -1), action.expand(2, 1, -1))[k, 0] for k in (0, 1))
            total += float(((first - second).abs() / 2 / agent.scale.stddev).mean())
            count += 1
    assert count == 45 < LOOKED_AT and agent.disagreement(rollouts) == pytest.approx(total / count, rel=1e-3)


def test_models_that_are_alike_agree(agent_of):
    agent, _ = agent_of()
    rollouts = agent.imagine(agent.together(4), 3, Streams(1))
    for parameter in agent.simulators.ensemble.parameters():
        parameter.data[:] = parameter.data[:1].clone()
    assert agent.disagreement(rollouts) == pytest.approx(0, abs=1e-6)


def test_a_single_model_has_nobody_to_disagree_with(agent_of):
    _, found = agent_of(members=1, own_tasks=False)
    assert found["disagreement"] == 0 and math.isfinite(found["plasticity"])


def test_of_many_steps_a_part_is_looked_at(agent_of):
    agent, _ = agent_of()
    asked = []
    step = agent.simulators.step
    agent.simulators.step = lambda states, actions: asked.append(states) or step(states, actions)
    rollouts = agent.imagine(agent.together(4), 20, Streams(1))
    asked.clear()
    agent.disagreement(rollouts)
    (states,) = asked
    assert states.shape[:2] == (2, 200) and torch.equal(states[0], states[1])  # every second of 400 steps
    torch.testing.assert_close(states[0], rollouts.states.flatten(0, 2)[::2])
