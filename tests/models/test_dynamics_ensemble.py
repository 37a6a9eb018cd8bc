"""Ensembles of models of the observed state: what they learn, from which transitions, and when they stop."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from meta_latent.errors import RunError, UserError
from meta_latent.models import dynamics_ensemble
from meta_latent.models.dynamics_ensemble import METRICS, DynamicsConfig, DynamicsEnsemble, EarlyStop, held_out
from meta_latent.rng import seeded_construction
from meta_latent.types import Transitions

SMALL = DynamicsConfig(members=3, hidden=16, layers=2, batch_size=32, max_epochs=3)
MATRIX = torch.tensor([[0.9, 0.2], [-0.1, 0.95], [0.3, -0.5]])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear_transitions(n=300, seed=0, signs=None, length=20):
    """next = (state, sign * action) @ MATRIX, reward = 5 next[0] + 3, episodes of `length` steps."""
    rng = generator(seed)
    states, actions = torch.randn(n, 2, generator=rng), torch.rand(n, 1, generator=rng) * 2 - 1
    signed = actions if signs is None else actions * signs[:, None]
    following = torch.cat((states, signed), -1) @ MATRIX
    none = torch.zeros(n)
    return Transitions(
        states, following, actions, 5 * following[:, 0] + 3, none[:, None], none[:, None], none.bool(), none.long(),
        torch.arange(n) // length,
    )  # fmt: skip


def rows(transitions, keep):
    return Transitions(**{f.name: getattr(transitions, f.name)[keep] for f in dataclasses.fields(Transitions)})


def ensemble(config=SMALL, seed=0, states=2, actions=1):
    with seeded_construction(seed):
        return DynamicsEnsemble(config, states, actions)


def expected(states, actions, sign=1.0):
    return torch.cat((states, sign * actions), -1) @ MATRIX


def fresh(groups, n=200, seed=9):
    rng = generator(seed)
    return torch.randn(groups, n, 2, generator=rng), torch.rand(groups, n, 1, generator=rng) * 2 - 1


# What is learned


def test_linear_dynamics_and_rewards_are_learned():
    config = dataclasses.replace(SMALL, max_epochs=60, batch_size=100, learning_rate=4e-3, learned_reward=True)
    model, (states, actions) = ensemble(config), fresh(3)
    truth = expected(states, actions)

    def errors():
        with torch.no_grad():
            found = model(states, actions)
            reward = model.rewards(states, actions, truth)
        return (found - truth).square().mean((1, 2)), (reward - (5 * truth[..., 0] + 3)).square().mean(1)

    assert errors()[0].min() > 0.05 and errors()[1].min() > 9
    metrics = model.fit(linear_transitions(1000), None, generator())
    assert errors()[0].max() < 2e-3 and errors()[1].max() < 0.25
    assert set(metrics) == set(METRICS)
    assert metrics["model_error"] < metrics["model_error_worst"] < 1e-2 and metrics["model_reward_error"] < 1e-2


def test_metrics_are_mean_and_worst_held_out_errors_in_standardised_units():
    model, transitions = ensemble(), linear_transitions()
    metrics = model.fit(transitions, None, generator())
    delta = transitions.next_proprio - transitions.proprio
    held = held_out(int(model.split_seed), 3, transitions.episode.numpy(), 0.2)
    with torch.no_grad():
        found = model(transitions.proprio.expand(3, -1, -1), transitions.action.expand(3, -1, -1))
    wrong = ((found - transitions.next_proprio) / delta.std(0, correction=0)).square().mean(-1)
    errors = [wrong[k][torch.from_numpy(held[k])].mean().item() for k in range(3)]
    assert metrics["model_error"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert metrics["model_error_worst"] == pytest.approx(max(errors), rel=1e-4)
    assert metrics["model_epochs"] == 3 and "model_reward_error" not in metrics


def test_members_differ():
    model, (states, actions) = ensemble(), fresh(1)
    model.fit(linear_transitions(), None, generator())
    with torch.no_grad():
        a, b, c = model(states.expand(3, -1, -1), actions.expand(3, -1, -1))
    assert not torch.allclose(a, b, atol=1e-3) and not torch.allclose(b, c, atol=1e-3)


def test_members_that_own_tasks_learn_from_them_alone():
    owners = torch.arange(900) // 20 % 3
    signs = torch.tensor([1.0, -1.0, 0.0])[owners]
    config = dataclasses.replace(SMALL, max_epochs=60, batch_size=60, learning_rate=4e-3)
    (states, actions), transitions = fresh(3), linear_transitions(900, signs=signs)

    def wrong(owners):
        model = ensemble(config)
        model.fit(transitions, owners, generator())
        with torch.no_grad():
            found = model(states, actions)
        each = zip(found, states, actions, (1.0, -1.0, 0.0), strict=True)
        return max((f - expected(s, a, sign)).square().mean().item() for f, s, a, sign in each)

    assert wrong(owners) < 5e-3 < 5e-2 < wrong(None)


def test_a_member_that_owns_nothing_stays_as_it_is():
    model, transitions = ensemble(), linear_transitions()
    before = model.state()
    metrics = model.fit(transitions, torch.zeros(300, dtype=torch.long), generator())
    for name, p in model.networks.named_parameters():
        was = before[f"networks.{name}"]
        assert not torch.equal(p[0], was[0]) and torch.equal(p[1:], was[1:])
    assert metrics["model_error"] == metrics["model_error_worst"] and metrics["model_epochs"] == 3


def test_what_never_changes_stays_and_what_always_changes_alike_is_exact():
    transitions = linear_transitions()
    before = torch.stack((torch.full((300,), 0.7), torch.arange(300) % 20.0), -1)  # a goal, and a clock
    wider = dataclasses.replace(
        transitions, proprio=torch.cat((transitions.proprio, before), -1),
        next_proprio=torch.cat((transitions.next_proprio, before + torch.tensor([0.0, 1.0])), -1),
    )  # fmt: skip
    model = ensemble(states=4)
    model.fit(wider, None, generator())
    states, actions = fresh(3)
    extra = torch.tensor([0.7, 5.0]).expand(3, 200, 2)
    with torch.no_grad():
        found = model(torch.cat((states, extra), -1), actions)
    assert torch.equal(found[..., 2:], extra + torch.tensor([0.0, 1.0]))
    assert found[..., :2].std() > 0.1


def test_predicted_states_stay_within_what_was_seen_widened():
    model, transitions = ensemble(), linear_transitions()
    model.fit(transitions, None, generator())
    seen = torch.cat((transitions.proprio, transitions.next_proprio))
    low, high = seen.amin(0), seen.amax(0)
    far = torch.tensor([1e6, -1e6]).expand(3, 1, 2)
    with torch.no_grad():
        found = model(far, torch.zeros(3, 1, 1))[:, 0]
    edge = torch.stack((high[0] + 10 * (high[0] - low[0]), low[1] - 10 * (high[1] - low[1])))
    torch.testing.assert_close(found, edge.expand(3, -1))
    inside = seen.mean(0).expand(3, 1, 2) + 5 * (high - low)
    assert not torch.isin(model(inside, torch.zeros(3, 1, 1)), torch.cat((model.low, model.high))).any()


def test_biased_models_are_each_wrong_by_a_constant_of_their_own_that_each_fit_draws_anew():
    biased, plain = (ensemble(dataclasses.replace(SMALL, bias=bias)) for bias in (0.5, 0.0))
    states, actions = (x[:1].expand(6, -1, -1) for x in fresh(1))
    shifts = []
    for seed in (1, 2):
        rng, without = generator(seed), generator(seed)
        assert biased.fit(linear_transitions(), None, rng) == plain.fit(linear_transitions(), None, without)
        shift = (biased(states, actions) - plain(states, actions)) / plain.deltas.stddev
        drawn = 0.5 * torch.rand((3, 1, 2), generator=without)
        torch.testing.assert_close(shift, drawn.repeat(2, 1, 1).expand_as(shift), atol=1e-4, rtol=0)
        shifts.append(drawn)
    assert (shifts[0] != shifts[1]).all()
    again = ensemble(dataclasses.replace(SMALL, bias=0.5), seed=5)
    again.load_state(biased.state())
    assert torch.equal(again(states, actions), biased(states, actions))


def test_weight_norm_starts_where_plain_weights_do_and_keeps_length_apart():
    plain, normed = ensemble(), ensemble(dataclasses.replace(SMALL, weight_norm=True, learning_rate=1e-2))
    (states, actions), first = fresh(3), normed.networks.delta[0]
    torch.testing.assert_close(plain(states, actions), normed(states, actions))
    before = normed(states, actions)
    with torch.no_grad():
        for name, p in normed.networks.named_parameters():
            if name.endswith("weight"):
                p.mul_(3.0)
    torch.testing.assert_close(normed(states, actions), before)
    with torch.no_grad():
        first.gain.mul_(3.0)
    assert not torch.allclose(normed(states, actions), before, atol=1e-2)
    once, twice = (normed.fit(linear_transitions(), None, generator())["model_error"] for _ in range(2))
    assert twice < 0.7 * once
    assert not torch.allclose(first.gain, 3 * first.weight.norm(dim=1, keepdim=True), atol=1e-3)


def test_predictions_are_differentiable():
    states, actions = (x.requires_grad_() for x in fresh(3))
    ensemble()(states, actions).sum().backward()
    assert states.grad.abs().min() > 0 and actions.grad.abs().max() > 0


# Whose transitions


def test_the_split_is_a_share_and_each_members_own():
    held = held_out(5, 4, np.arange(20_000) // 100, 0.2)
    np.testing.assert_allclose(held.mean(1), 0.2, atol=0.015)
    both = (held[:, None] & held[None]).mean(-1)
    np.testing.assert_allclose(both[~np.eye(4, dtype=bool)], 0.04, atol=0.01)
    by_place, by_episode = (held.reshape(4, 200, 100).mean(axis) for axis in (1, 2))
    assert by_place.min() > 0.05 and by_place.max() < 0.4  # neither places nor episodes are held out as a whole
    assert by_episode.min() > 0.02 and by_episode.max() < 0.5
    assert (held != held_out(6, 4, np.arange(20_000) // 100, 0.2)).any(1).all()


def test_neither_later_nor_evicted_transitions_change_the_split():
    episodes = np.repeat(np.arange(30), np.arange(30) % 7 + 3)
    whole = held_out(5, 3, episodes, 0.2)
    for keep in (episodes < 12, episodes >= 12, episodes % 3 == 0):
        assert np.array_equal(held_out(5, 3, episodes[keep], 0.2), whole[:, keep])
    renumbered = held_out(5, 3, episodes[episodes >= 12] - 12, 0.2)  # as a split by row would be
    assert not np.array_equal(renumbered, whole[:, episodes >= 12])


def test_two_ensembles_hold_out_different_transitions_by_their_seed():
    a, b, c = ensemble(seed=1), ensemble(seed=1), ensemble(seed=2)
    assert a.split_seed == b.split_seed != c.split_seed


# A plain loop as reference: networks one by one, `torch.optim.Adam`, the published rule written out


def reference_networks(model):
    """One `nn.Sequential` per member, with the ensemble's weights."""
    found = []
    for k in range(model.heads):
        blocks = []
        for block in model.networks.delta:
            if isinstance(block, nn.ReLU):
                blocks.append(nn.ReLU())
                continue
            linear = nn.Linear(*block.weight.shape[1:])
            with torch.no_grad():
                linear.weight.copy_(block.weight[k].T)
                linear.bias.copy_(block.bias[k, 0])
            blocks.append(linear)
        found.append(nn.Sequential(*blocks))
    return found


def reference_fit(model, networks, optimisers, transitions, rng):
    """-> epochs of each member. The ensemble gives the split's seed and the settings only."""
    config = model.config
    x = torch.cat((transitions.proprio, transitions.action), -1)
    y = transitions.next_proprio - transitions.proprio
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean(0)) / y.std(0, correction=0)
    held = torch.from_numpy(held_out(int(model.split_seed), model.heads, transitions.episode.numpy(), 0.2))
    averages, epochs = {}, [0] * model.heads
    running = list(range(model.heads))
    for _ in range(config.max_epochs):
        orders, longest = {}, max(int((~held[k]).sum()) for k in running)
        for k in running:
            mine = (~held[k]).nonzero()[:, 0]
            mine = mine[torch.randperm(len(mine), generator=rng)]
            orders[k] = torch.cat([mine] * 2)[:longest]
        for k in list(running):
            for batch in orders[k].tensor_split(math.ceil(longest / config.batch_size)):
                optimisers[k].zero_grad()
                (networks[k](x[batch]) - y[batch]).square().mean().backward()
                optimisers[k].step()
            with torch.no_grad():
                error = (networks[k](x[held[k]]) - y[held[k]]).square().mean().item()
            average, previous = averages.get(k, (1.5 * error, 2.0 * error))
            average = config.persistence * average + (1 - config.persistence) * error
            averages[k], epochs[k] = (average, average), epochs[k] + 1
            if previous < average:
                running.remove(k)
        if not running:
            break
    return epochs


def noisy(n=60, seed=0):
    transitions = linear_transitions(n, seed)
    noise = 0.3 * torch.randn(n, 2, generator=generator(seed + 50))
    return dataclasses.replace(transitions, next_proprio=transitions.next_proprio + noise)


def test_two_fits_are_those_of_a_plain_loop_with_early_stops_at_different_epochs():
    config = dataclasses.replace(SMALL, members=4, persistence=0.5, max_epochs=60, learning_rate=1e-2, batch_size=16)
    model, ours, theirs = ensemble(config), generator(4), generator(4)
    networks = reference_networks(model)
    optimisers = [torch.optim.Adam(network.parameters(), 1e-2) for network in networks]
    for transitions in (noisy(), noisy(90)):
        metrics = model.fit(transitions, None, ours)
        epochs = reference_fit(model, networks, optimisers, transitions, theirs)
        assert len(set(epochs)) > 2 and max(epochs) < 60
        assert metrics["model_epochs"] == np.mean(epochs)
        for k, network in enumerate(networks):
            for theirs_, ours_ in zip(network.parameters(), model.networks.delta.parameters(), strict=True):
                other = theirs_.T if theirs_.ndim == 2 else theirs_[None]
                torch.testing.assert_close(ours_[k], other, rtol=1e-3, atol=2e-4)
            assert all(s["step"] == model.optimiser.steps[0, k] for s in optimisers[k].state.values())
    assert torch.equal(ours.get_state(), theirs.get_state())


def test_members_left_out_of_a_step_do_not_move_nor_do_their_moments():
    model = ensemble()
    parameters = list(model.networks.parameters())
    gradients = [torch.ones_like(p) for p in parameters]
    model.optimiser.step(model.optimiser.slots(parameters, [0, 1, 2]), gradients)
    before, some = model.state(), [p.detach()[[0, 2]] for p in parameters]
    model.optimiser.step(model.optimiser.slots(some, [0, 2]), [g[:2] for g in gradients])
    with torch.no_grad():
        for p, moved in zip(parameters, some, strict=True):
            p[[0, 2]] = moved
    after = model.state()
    moving = [name for name in before if name.startswith(("networks.", "optimiser.first", "optimiser.second"))]
    assert len(moving) == 3 * len(parameters)
    for name in moving:
        assert torch.equal(after[name][1], before[name][1])
        assert not torch.equal(after[name][0], before[name][0]) and not torch.equal(after[name][2], before[name][2])
    assert torch.equal(after["optimiser.steps"], torch.tensor([2.0, 1.0, 2.0]).expand(len(parameters), -1))


# When they stop


def test_without_persistence_the_first_rise_stops():
    rule = EarlyStop(0.0)
    assert [rule.stops(error) for error in (3.0, 2.0, 1.0, 1.5)] == [False, False, False, True]


def test_with_persistence_single_rises_are_forgiven():
    rule = EarlyStop(0.9)  # means 1.45, 1.405, 1.3645, 1.372 (the last error is above the mean before it)
    assert [rule.stops(error) for error in (1.0, 1.0, 1.0, 1.44)] == [False, False, False, True]
    rule = EarlyStop(0.9)
    assert not any(rule.stops(error) for error in (1.0, 0.5, 1.2, 0.4, 1.1))


# Going on


def test_a_fit_goes_on_from_the_weights_there_are():
    config = dataclasses.replace(SMALL, max_epochs=20)
    model, transitions = ensemble(config), linear_transitions()
    model.fit(transitions, None, generator())
    model.config = dataclasses.replace(config, max_epochs=1)
    warm = model.fit(transitions, None, generator())["model_error"]
    cold = ensemble(model.config).fit(transitions, None, generator())["model_error"]
    assert warm < 0.1 * cold


def test_a_fit_goes_on_bit_for_bit_from_a_saved_state():
    config = dataclasses.replace(SMALL, learned_reward=True)
    model, transitions = ensemble(config), linear_transitions()
    model.fit(transitions, None, generator())
    saved, other = model.state(), ensemble(config, seed=7)
    first = model.fit(transitions, None, generator(3))
    other.load_state(saved)
    second = other.fit(transitions, None, generator(3))
    ours, theirs = model.state(), other.state()
    assert first == second and ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(not torch.equal(ours[name], saved[name]) for name in ours)


def test_moments_are_part_of_the_state():
    model, transitions = ensemble(), linear_transitions()
    model.fit(transitions, None, generator())
    saved = model.state()
    forgetful = {name: torch.zeros_like(x) if name.startswith("optimiser.") else x for name, x in saved.items()}
    ends = []
    for state in (saved, forgetful):
        model.load_state(state)
        model.fit(transitions, None, generator(3))
        ends.append(model.state()["networks.delta.0.weight"])
    assert not torch.equal(*ends)


# Failures


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_error_that_is_not_finite_names_the_member(value):
    model = ensemble()
    with torch.no_grad():
        model.networks.delta[0].bias[1, 0, 0] = value
    with pytest.raises(RunError, match="member 1's held-out error exploded"):
        model.fit(linear_transitions(), None, generator())


def test_a_first_error_that_is_infinite_is_no_measure(monkeypatch):
    monkeypatch.setattr(DynamicsEnsemble, "_errors", lambda *_: [[1.0], [1.0], [math.inf]])
    with pytest.raises(RunError, match="member 2's held-out error exploded, inf at first"):
        ensemble().fit(linear_transitions(), None, generator())


def test_an_error_many_times_the_first_names_the_member(monkeypatch):
    errors = iter([[[2.0], [2.0], [2.0]], [[3.0], [2.0], [21.0]]])
    monkeypatch.setattr(DynamicsEnsemble, "_errors", lambda *_: next(errors))
    model = ensemble(dataclasses.replace(SMALL, explosion=10.0))
    with pytest.raises(RunError, match="member 2's held-out error exploded, 2 at first and now 21; lower"):
        model.fit(linear_transitions(), None, generator())


def test_small_errors_may_grow_by_any_factor_below_what_a_mean_would_predict(monkeypatch):
    errors = iter([[[1e-6]] * 3, [[5.0]] * 3])
    monkeypatch.setattr(DynamicsEnsemble, "_errors", lambda *_: next(errors))
    model = ensemble(dataclasses.replace(SMALL, explosion=10.0))
    assert model.fit(linear_transitions(), None, generator())["model_epochs"] == 2


@pytest.mark.parametrize(("n", "words"), [(0, "0 transitions are too few"), (1, "1 transitions are too few")])
def test_too_few_transitions_are_refused(n, words):
    with pytest.raises(UserError, match=words):
        ensemble().fit(rows(linear_transitions(), slice(n)), None, generator())


# Tasks and members


@pytest.mark.parametrize("tasks", [1, 2, 3, 4, 6, 8])
def test_task_n_goes_through_member_n_mod_k(tasks):
    model, transitions = ensemble(dataclasses.replace(SMALL, learned_reward=True)), linear_transitions()
    model.fit(transitions, None, generator())
    states, actions = fresh(tasks, 5)
    with torch.no_grad():
        found = model.through(states, actions)
        rewards = model.rewards(states, actions, found)
        for n in range(tasks):
            alone = model(states[n].expand(3, -1, -1), actions[n].expand(3, -1, -1))
            torch.testing.assert_close(found[n], alone[n % 3])
            each = model.rewards(*(x[n].expand(3, -1, -1) for x in (states, actions, found)))
            torch.testing.assert_close(rewards[n], each[n % 3])
            assert not torch.allclose(found[n], alone[(n + 1) % 3], atol=1e-4)
    assert rewards.shape == (tasks, 5)


def test_rows_held_out_are_computed_in_chunks_of_any_size(monkeypatch):
    found = []
    for size in (7, 1000):
        monkeypatch.setattr(dynamics_ensemble, "CHUNK", size)
        found.append(ensemble().fit(linear_transitions(), None, generator())["model_error"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
