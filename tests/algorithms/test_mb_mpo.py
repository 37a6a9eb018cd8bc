"""MB-MPO: the meta-gradient, what is asked for when, and that the controls are what they say."""

import contextlib
import dataclasses
from copy import copy

import pytest
import torch

from meta_latent.algorithms import mb_mpo
from meta_latent.algorithms.mb_mpo import MBMPOConfig
from meta_latent.algorithms.registry import Arm
from meta_latent.errors import UserError
from meta_latent.experiment.learning import starts
from meta_latent.ops.inner_loop import stacked
from meta_latent.ops.trust_region import flatten, unflatten
from meta_latent.policies import continuation
from meta_latent.policies.simulators import LatentSimulators
from meta_latent.policies.surrogate import Surrogate
from meta_latent.rng import Streams
from meta_latent.types import Step

FAMILY = {"suite": "toy/rotated_actuators", "tasks": 4, "test_tasks": 2, "episodes_per_trial": 2, "warmup_episodes": 8,
          "options": {"episode_steps": 6}}  # fmt: skip
SETTINGS = {"steps_per_round": 24, "outer_steps": 3, "tasks": 4, "particles": 5, "rate": 0.5,
            "models": {"members": 4, "hidden": 8, "max_epochs": 2}}  # fmt: skip


def learning(bench, tmp_path, arm="mb_mpo/scratch", **settings):
    name = Arm.parse(arm).algorithm
    experiment = bench.experiment(tmp_path, arm, target=FAMILY)
    entry = MBMPOConfig(**{k: v for k, v in SETTINGS.items() if k != "models"} | settings,
                        models=dataclasses.replace(MBMPOConfig().models, **SETTINGS["models"]))  # fmt: skip
    experiment = dataclasses.replace(experiment, algorithms={**experiment.algorithms, name: entry})
    return bench.learning(experiment, arm)


def collected(running):
    """The agent and the replay after the random episodes."""
    running.collector.round(running.agent, running.replay, running.streams)
    return running.agent, running.replay


def test_data_are_asked_for_once_per_fit_of_the_models(bench, tmp_path):
    with learning(bench, tmp_path) as running:
        agent, replay = collected(running)
        asked = []
        for _ in range(4):
            asked.append(agent.wants())
            found = agent.update(replay, running.streams)
            asked.append("model_error" in found)
        assert asked == [24, True, None, False, None, False, 24, True] and agent.updates == 4


def test_the_gradient_goes_through_the_inner_step(bench, tmp_path):
    """Of the outer objective, against finite differences in double precision; the first-order one is another."""
    with learning(bench, tmp_path) as running:
        agent, replay = collected(running)
        agent.update(replay, running.streams)
        streams, theta = Streams(0), agent.policy.values()
        before = agent.imagine(stacked(theta, 4), 5, streams)
        after = agent.imagine(agent.inner_loop(before).adapted(theta), 5, streams)
        agent.policy.double()
        before, after, theta = _double(before), _double(after), agent.policy.values()
        inner = agent.inner_loop(before)
        acting = {name: value.detach() for name, value in inner.adapted(theta).items()}
        surrogate = Surrogate(agent.policy, after, acting, inner)
        exact = flatten(dict(zip(theta, torch.autograd.grad(surrogate.gain(theta), list(theta.values())), strict=True)))
        first = Surrogate(agent.policy, after, acting, dataclasses.replace(inner, second_order=False))
        shifted = flatten(dict(zip(theta, torch.autograd.grad(first.gain(theta), list(theta.values())), strict=True)))
        direction = torch.randn(len(exact), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        moved = [float(surrogate.gain(unflatten(flatten(theta).detach() + h * direction, theta)).detach())
                 for h in (1e-5, -1e-5)]  # fmt: skip
        slope = (moved[0] - moved[1]) / 2e-5
        assert float(exact @ direction) == pytest.approx(slope, rel=1e-5)
        assert float(shifted @ direction) != pytest.approx(slope, rel=1e-2)


def _double(rollouts):
    fields = {f.name: getattr(rollouts, f.name) for f in dataclasses.fields(rollouts)}
    return type(rollouts)(**{k: v.double() if v.is_floating_point() else v for k, v in fields.items()})


def test_an_update_moves_the_policy_within_the_trust_region_and_keeps_the_adapted_ones(bench, tmp_path):
    with learning(bench, tmp_path) as running:
        agent, replay = collected(running)
        old = flatten(agent.policy.values()).detach().clone()
        found = agent.update(replay, running.streams)
        assert not torch.equal(old, flatten(agent.policy.values())) and 0 < found["divergence"] <= 0.01
        shared = stacked(agent.policy.values(), 4)
        assert all(len(value) == 4 for value in agent.acting.values())
        assert not torch.allclose(agent.acting["bias_2"], shared["bias_2"])


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_those_that_play_adapted_the_policy_of_before_the_step(bench, tmp_path, rate):
    with learning(bench, tmp_path, rate=rate) as running:
        agent, replay = collected(running)
        old = stacked(agent.policy.values(), 4)["bias_2"].detach().clone()
        agent.update(replay, running.streams)
        assert not torch.equal(old, stacked(agent.policy.values(), 4)["bias_2"])
        assert torch.equal(agent.acting["bias_2"], old) == (rate == 0)


def test_a_row_of_a_known_task_is_played_by_that_tasks_policy(bench, tmp_path):
    """In training alone: an evaluation, which tells nothing of tasks, is of the meta-policy."""
    with learning(bench, tmp_path) as running:
        agent, replay = collected(running)
        agent.update(replay, running.streams)
        agent.acting["bias_2"] = torch.arange(4.0).view(4, 1, 1).expand(4, 1, 2) / 10
        for name in ("weight_0", "weight_1", "weight_2"):
            agent.acting[name] = torch.zeros_like(agent.acting[name])
        step = _step(torch.tensor([3, 1]))
        action, _ = agent.act(step, agent.begin_task(2), Streams(0), explore=False)
        torch.testing.assert_close(action, torch.tensor([[0.3, 0.3], [0.1, 0.1]]))
        untold = dataclasses.replace(step, task_index=None)
        tested, _ = agent.act(untold, agent.begin_task(2), Streams(0), explore=False)
        assert not torch.allclose(tested, action)


def _step(index):
    count, no = len(index), torch.zeros(len(index), dtype=torch.bool)
    zeros = torch.zeros(count)
    return Step({}, torch.zeros(count, 2), torch.zeros(count, 2), zeros, zeros, ~no, no, no, ~no, task_index=index)


def test_the_adapted_policies_imagine_what_the_outer_step_is_taken_on(bench, tmp_path):
    """And they, not those of the shared parameters, play the next real episodes."""
    with learning(bench, tmp_path) as running:
        agent, replay = collected(running)
        played, imagine = [], agent.imagine
        agent.imagine = lambda parameters, *rest: played.append(parameters) or imagine(parameters, *rest)
        agent.update(replay, running.streams)
        before, after = played
        assert after is agent.acting and not torch.allclose(before["bias_2"], after["bias_2"])
        assert torch.equal(before["bias_2"][0], before["bias_2"][3])


def test_the_scale_is_that_of_the_random_episodes(bench, tmp_path):
    """A scale that moved would make another policy of the same weights."""
    with learning(bench, tmp_path, outer_steps=1) as running:
        agent, replay = collected(running)
        agent.update(replay, running.streams)
        scale = {name: value.clone() for name, value in agent.scale.state_dict().items()}
        seen = replay.transitions().proprio
        torch.testing.assert_close(scale["mean"], seen.mean(0))
        bench.round(running)
        assert not torch.allclose(replay.transitions().proprio.mean(0), seen.mean(0))
        torch.testing.assert_close(agent.scale.state_dict(), scale, rtol=0, atol=0)


@pytest.mark.parametrize(("horizon", "expected"), [(0, 6), (4, 4)])
def test_imagined_episodes_are_as_long_as_asked_or_as_real_ones(bench, tmp_path, horizon, expected):
    with learning(bench, tmp_path, horizon=horizon) as running:
        agent, replay = collected(running)
        agent.update(replay, running.streams)
        assert agent.imagine(agent.acting, 2, running.streams).mask.shape == (4, 2, expected)


def test_each_model_learns_from_its_own_tasks_unless_told_otherwise(bench, tmp_path):
    for own, expected in ((None, True), (False, False)):
        with learning(bench, tmp_path / str(own), own_tasks=own) as running:
            agent, replay = collected(running)
            owners = []
            agent.simulators.ensemble.fit = lambda data, who, rng, owners=owners: owners.append(who) or {}
            agent.simulators.learn(replay, running.streams)
            assert (owners[0] is not None) is expected
            assert not expected or torch.equal(owners[0], replay.transitions().task_index % 4)


def test_each_adaptation_step_is_taken_on_what_was_played_since_the_last(bench, tmp_path):
    with learning(bench, tmp_path, test_rate=0.3) as running:
        agent, replay = collected(running)
        agent.update(replay, running.streams)
        calls = []
        agent.real_rollouts = lambda view: calls.append([e.number for e in view.episodes]) or "rollouts"
        agent.adapted_by = lambda rollouts, rate: calls.append(rate) or copy(agent)
        for more, numbers in ((2, [0, 1]), (3, [2, 3, 4])):
            trial = replay.subset(range(numbers[0] + more))
            agent = agent.adapt(trial, running.streams)
            assert calls == [numbers, 0.3]
            calls.clear()


def test_adapting_is_a_policy_gradient_step_on_the_newest_episodes(bench, tmp_path):
    with learning(bench, tmp_path, test_rate=0.3) as running:
        agent, replay = collected(running)
        agent.update(replay, running.streams)
        rollouts = agent.real_rollouts(replay.view(since=replay.added - 2))
        theta = {name: value.detach().clone().requires_grad_() for name, value in agent.policy.values().items()}
        loss = agent.policy_gradient(rollouts)(stacked(theta, 1), slice(0, 1)).sum()
        expected = {k: v - 0.3 * g for (k, v), g in zip(theta.items(), torch.autograd.grad(loss, list(theta.values())),
                                                        strict=True)}  # fmt: skip
        other = agent.adapted_by(rollouts, 0.3)
        for name, value in other.policy.values().items():
            torch.testing.assert_close(value, expected[name])
        assert other.simulators is agent.simulators and not torch.equal(other.policy.bias_2, agent.policy.bias_2)


def test_controls_are_what_they_say():
    config = MBMPOConfig(own_tasks=True)
    seen = {}
    for name in ("ALGORITHM", "ALPHA0", "ONE_MODEL", "FIRST_ORDER"):
        entry = getattr(mb_mpo, name)
        original, mb_mpo.MBMPO = mb_mpo.MBMPO, lambda settings, setting: settings
        try:
            seen[name] = entry.build(config, None)
        finally:
            mb_mpo.MBMPO = original
    assert seen["ALGORITHM"] == config and seen["ALPHA0"] == dataclasses.replace(config, rate=0.0)
    assert seen["FIRST_ORDER"] == dataclasses.replace(config, second_order=False)
    assert seen["ONE_MODEL"].models.members == 1 and seen["ONE_MODEL"].own_tasks is False


@pytest.mark.parametrize(("arm", "imagined", "simulators"), [
    ("mb_mpo/scratch", 8, ""), ("mb_mpo/scratch", 6, r"4 models \(algorithms\.mb_mpo\.models\.members\)"),
    ("mb_mpo_one_model/scratch", 5, ""),  # which has one, whatever is said of members
    ("mb_mpo/pretrained", 6, ""), ("mb_mpo/pretrained", 5, r"2 transition heads of the model \(model\.ensemble"),
])  # fmt: skip
def test_simulated_tasks_are_a_multiple_of_what_simulates_them(bench, tmp_path, arm, imagined, simulators):
    target = FAMILY if "scratch" in arm else bench.target(arm)
    experiment, name = bench.experiment(tmp_path, arm, target=target), Arm.parse(arm).algorithm
    entry = MBMPOConfig(tasks=imagined, models=dataclasses.replace(MBMPOConfig().models, members=4))
    experiment = dataclasses.replace(experiment, algorithms={**experiment.algorithms, name: entry})
    said = f"algorithms.mb_mpo.tasks={imagined} is no multiple of the {simulators}"
    refused = pytest.raises(UserError, match=said) if simulators else contextlib.nullcontext()
    with refused, bench.learning(experiment, arm):
        pass


def test_training_tasks_that_cannot_be_shared_out_are_refused(bench, tmp_path):
    experiment = bench.experiment(tmp_path, "mb_mpo/scratch", target=FAMILY | {"tasks": 3})
    entry = MBMPOConfig(tasks=4, models=dataclasses.replace(MBMPOConfig().models, members=2))
    experiment = dataclasses.replace(experiment, algorithms={**experiment.algorithms, "mb_mpo": entry})
    with pytest.raises(UserError, match="3 training tasks"), bench.learning(experiment, "mb_mpo/scratch"):
        pass


def test_more_training_tasks_than_are_imagined_are_refused(bench, tmp_path):
    experiment = bench.experiment(tmp_path, "mb_mpo/scratch", target=FAMILY)
    entry = MBMPOConfig(tasks=2, models=dataclasses.replace(MBMPOConfig().models, members=2))
    experiment = dataclasses.replace(experiment, algorithms={**experiment.algorithms, "mb_mpo": entry})
    with pytest.raises(UserError, match="less than the 4 training tasks"), bench.learning(experiment, "mb_mpo/scratch"):
        pass


def test_a_family_whose_inputs_are_not_what_is_observed_is_told_that_models_own_no_tasks(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(starts, "_observed", lambda target: False)
    told = pytest.warns(UserWarning, match="heads own no training tasks: proprioception is not what rewards")
    with told, learning(bench, tmp_path) as running:
        assert isinstance(running.agent.simulators, LatentSimulators)
    for said in ({"space": "latents"}, {"own_tasks": False}):  # warnings are errors
        with learning(bench, tmp_path / "".join(said), **said) as running:
            assert isinstance(running.agent.simulators, LatentSimulators)
    seen = FAMILY | {"options": {"observation": "picture"}}
    for name, target in {"alone": {"suite": "toy/rotated_actuators"}, "pictures": seen}.items():
        experiment = bench.experiment(tmp_path / name, "mb_mpo/scratch", target=target)
        with bench.learning(experiment, "mb_mpo/scratch") as running:
            assert isinstance(running.agent.simulators, LatentSimulators)


def test_in_latents_tasks_that_pay_differently_are_refused(bench, tmp_path):
    target = {"suite": "toy/hidden_goal", "tasks": 2, "test_tasks": 1}
    for arm in ("mb_mpo/pretrained", "mb_mpo/scratch"):
        experiment = bench.experiment(tmp_path, arm, target=target)
        message = "in latents one reward is learned, and the target's 2 training tasks pay differently"
        with pytest.raises(UserError, match=message), bench.learning(experiment, arm):
            pass


def test_every_transition_head_learns_on_the_target(bench, tmp_path):
    experiment = bench.experiment(tmp_path, "mb_mpo/pretrained", "transfer.adaptation.pretrained.first_transition=12")
    with bench.learning(experiment, "mb_mpo/pretrained") as running:
        agent = running.agent
        model = agent.simulators.model
        assert agent.heads == running.replay.heads == model.heads == 2
        states = torch.randn(2, 3, model.latent_size + model.core.memory_size)
        actions = torch.rand(2, 3, running.replay.spec.action_size)
        before = agent.simulators.step(states, actions)[0]
        bench.round(running)
        moved = (agent.simulators.step(states, actions)[0] - before).abs().amax((1, 2))
        assert (moved > 1e-4).all()


def test_heads_that_own_tasks_learn_from_these_alone(bench, tmp_path):
    more = ("algorithms.mb_mpo.own_tasks=true", "transfer.warmup_episodes=8")
    experiment = bench.experiment(tmp_path, "mb_mpo/pretrained", *more)
    with bench.learning(experiment, "mb_mpo/pretrained") as running:
        collected(running)
        episodes = [running.replay.read(i) for i in range(len(running.replay.episodes))]
    owners = [episode["head_mask"].nonzero()[0].tolist() for episode in episodes]
    assert owners == [[episode["task_index"] % 2] for episode in episodes] and len(episodes) > 3


@pytest.mark.parametrize("owned", [True, False])
def test_rewards_are_fitted_to_what_the_owner_of_an_episode_unrolls(bench, tmp_path, monkeypatch, owned):
    asked, original = [], continuation.window_states
    monkeypatch.setattr(continuation, "window_states", lambda *args: asked.append(args[1:]) or original(*args))
    more = (f"algorithms.mb_mpo.own_tasks={str(owned).lower()}", "transfer.warmup_episodes=8", "transfer.head_share=1")
    with bench.learning(bench.experiment(tmp_path, "mb_mpo/pretrained", *more), "mb_mpo/pretrained") as running:
        bench.round(running)
    for windows, route in asked:
        assert set(route.tolist()) == {0, 1} and windows.head_mask.sum(1).tolist() == [1 if owned else 2] * len(route)
        assert windows.head_mask[torch.arange(len(route)), route].all()


@pytest.mark.parametrize(("tasks", "imagined"), [(1, 10), (5, 5)])  # fewer tasks than heads, or no multiple of them
def test_heads_that_would_own_no_task_are_refused(bench, tmp_path, tasks, imagined):
    target = bench.target("mb_mpo/pretrained") if tasks > 1 else {"suite": "toy/hidden_goal"}
    experiment = bench.experiment(tmp_path, "mb_mpo/pretrained", target=target)
    entry = MBMPOConfig(tasks=imagined, own_tasks=True)
    experiment = dataclasses.replace(experiment, algorithms={**experiment.algorithms, "mb_mpo": entry})
    message = f"{tasks} training tasks, tasks={imagined} simulated ones, and 2 transition heads"
    with pytest.raises(UserError, match=message), bench.learning(experiment, "mb_mpo/pretrained"):
        pass


@pytest.mark.parametrize(("tasks", "members", "owned", "warmup", "each", "refused"), [
    (4, 4, True, 7, 2, False), (4, 4, True, 6, 2, True), (8, 4, True, 14, 2, False), (8, 4, True, 6, 2, True),
    (4, 4, False, 1, 2, False), (4, 4, True, 0, 2, True), (4, 4, True, 0, 1, False),  # rounds of 24 steps, 6 an episode
])  # fmt: skip
def test_fewer_first_trials_than_models_are_refused(bench, tmp_path, tasks, members, owned, warmup, each, refused):
    target = FAMILY | {"tasks": tasks, "warmup_episodes": warmup, "episodes_per_trial": each}
    experiment = bench.experiment(tmp_path, "mb_mpo/scratch", target=target)
    models = dataclasses.replace(MBMPOConfig().models, members=members, hidden=8, max_epochs=2)
    entry = MBMPOConfig(**SETTINGS | {"tasks": tasks, "models": models, "own_tasks": owned})
    experiment = dataclasses.replace(experiment, algorithms={**experiment.algorithms, "mb_mpo": entry})
    said = rf"without data: set transfer\.targets\.target\.warmup_episodes={tasks * each} or more"
    expected = pytest.raises(UserError, match=said) if refused else contextlib.nullcontext()
    with expected, bench.learning(experiment, "mb_mpo/scratch") as running:
        bench.round(running)
