"""Simulators of observed states: a model that knows the truth imagines what the environment plays."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.algorithms.mb_mpo import MBMPO, MBMPOConfig
from meta_latent.algorithms.me_trpo import METRPO, METRPOConfig
from meta_latent.algorithms.registry import Functions, Setting
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.models.dynamics_ensemble import DynamicsConfig
from meta_latent.policies.simulators import LatentSimulators, ObservedStates, StateSimulators
from meta_latent.rng import Streams
from meta_latent.types import Spec, Step


class Truth(torch.nn.Module):
    """K models that add (k + 1) times the action, turned or not."""

    config = SimpleNamespace(learned_reward=False)

    def __init__(self, heads=2):
        super().__init__()
        self.heads, self.fitted = heads, []
        self.parameter = torch.nn.Parameter(torch.zeros(1))

    def through(self, states, actions):
        gain = 1.0 + torch.arange(len(states)) % self.heads
        return states + gain[:, None, None] * actions

    def fit(self, data, owners, rng):
        self.fitted.append((data, owners))
        return {}


def functions(invariant=()):
    return Functions(
        reward=lambda task, inputs, action: -inputs.square().sum(-1) - task,
        terminated=lambda task, inputs, action: inputs[..., 0] > 1,
        observed=True, invariant=invariant)  # fmt: skip


def replay_of(starts, tasks, actions=(1.0, 0.5)):
    """Episodes from these states (n, 2), of these tasks, that add the actions to the first value."""
    replay = SequenceReplay(Spec({}, 2, 2, 2), ReplayConfig())
    for start, task in zip(starts, tasks, strict=True):
        moved = np.concatenate([[0.0], np.cumsum(actions)])
        states = np.array(start, np.float32) + np.stack([moved, 0 * moved], 1).astype(np.float32)
        length = len(states)
        names = ("is_first", "is_last", "is_terminal", "is_task_first", "success")
        flags = {name: np.zeros(length, bool) for name in names}
        flags["is_first"][0] = flags["is_task_first"][0] = flags["is_last"][-1] = True
        played = np.zeros((length, 2), np.float32)
        played[1:, 0] = actions
        replay.add_episode({
            "proprio": states, "reward_inputs": states, "action": played, "reward": np.zeros(length, np.float32),
            "reward_present": np.ones(length, np.float32), **flags}, task_index=task)  # fmt: skip
    return replay


def test_a_step_is_the_models_with_the_tasks_reward_and_end():
    simulators = StateSimulators(Truth(), 2, functions(), tasks=4, owned=True)
    states, actions = torch.zeros(4, 3, 2), torch.full((4, 3, 2), 0.75)
    following, rewards, ended = simulators.step(states, actions)
    gain = torch.tensor([0.75, 1.5, 0.75, 1.5])
    torch.testing.assert_close(following, gain[:, None, None].expand(4, 3, 2))
    torch.testing.assert_close(rewards, (-2 * gain.square() - torch.arange(4)).expand(3, 4).T)
    assert ended.tolist() == [[False] * 3, [True] * 3] * 2


def test_imagining_starts_where_episodes_of_the_models_own_tasks_began():
    simulators = StateSimulators(Truth(), 2, functions(), tasks=4, owned=True)
    simulators.see(replay_of([(k, 10 * k) for k in range(4)], range(4)))
    drawn = simulators.begin(4, 50, Streams(0))
    assert {tuple(s) for s in drawn[0].tolist()} == {tuple(s) for s in drawn[2].tolist()} == {(0, 0), (2, 20)}
    assert {tuple(s) for s in drawn[1].tolist()} == {(1, 10), (3, 30)}


def test_shared_models_start_anywhere_and_fit_everything():
    truth = Truth()
    simulators = StateSimulators(truth, 2, functions(), tasks=1, owned=False)
    replay = replay_of([(k, 0) for k in range(4)], [0] * 4)
    simulators.learn(replay, Streams(0))
    simulators.see(replay)
    assert truth.fitted[0][1] is None and len(truth.fitted[0][0].episode) == 8
    assert set(simulators.begin(2, 200, Streams(0))[0, :, 0].tolist()) == {0, 1, 2, 3}


def test_a_model_without_data_is_refused():
    simulators = StateSimulators(Truth(), 2, functions(), tasks=2, owned=True)
    with pytest.raises(UserError, match="some of the 2 models have no data .* or transfer.replay.capacity"):
        simulators.see(replay_of([(0, 0)], [0]))


def test_what_is_invariant_is_not_read_but_goes_on():
    """Models are fitted and asked at the origin; the state that comes out has moved on; policies never read it."""
    truth = Truth(1)
    simulators = StateSimulators(truth, 2, functions(invariant=(0,)), tasks=1, owned=False)
    asked = []
    through = truth.through
    truth.through = lambda states, actions: asked.append(states) or through(states, actions)
    simulators.learn(replay_of([(7, 3)], [0]), Streams(0))
    data = truth.fitted[0][0]
    assert data.proprio.tolist() == [[0, 3], [0, 3]] and data.next_proprio.tolist() == [[1, 3], [0.5, 3]]
    following, *_ = simulators.step(torch.tensor([[[7.0, 3.0]]]), torch.tensor([[[1.0, 1.0]]]))
    assert asked[0].tolist() == [[[0, 3]]] and following.tolist() == [[[8, 4]]]
    assert simulators.feature_size == 1 and simulators.features(following).tolist() == [[[4]]]


def test_learned_rewards_are_asked_for_at_the_origin_too():
    truth, asked = Truth(1), []
    truth.config = SimpleNamespace(learned_reward=True)
    truth.rewards = lambda *given: asked.append(given) or torch.full((1, 1), 5.0)
    simulators = StateSimulators(truth, 2, functions(invariant=(0,)), tasks=1, owned=False)
    _, rewards, _ = simulators.step(torch.tensor([[[7.0, 3.0]]]), torch.tensor([[[1.0, 1.0]]]))
    assert [x.tolist() for x in asked[0]] == [[[[0, 3]]], [[[1, 1]]], [[[1, 4]]]] and rewards.tolist() == [[5]]


@pytest.mark.parametrize(("algorithm", "more"), [
    (MBMPO, {"own_tasks": True}), (MBMPO, {"own_tasks": False}), (MBMPO, {}), (METRPO, {}),
])  # fmt: skip
def test_a_learned_reward_is_that_of_tasks_that_pay_the_same(algorithm, more):
    def build(members, rewards, learned=True):
        models = DynamicsConfig(members=members, hidden=4, layers=1, learned_reward=learned)
        setting = Setting(Spec({}, 2, 2, 2), "scratch", "cpu", 0, 4, torch.zeros(4, 0), 5, 1, 100, functions(), None,
                          rewards=rewards)  # fmt: skip
        if algorithm is MBMPO:
            return MBMPO(MBMPOConfig(tasks=4, models=models, **more), setting)
        return METRPO(METRPOConfig(models=models), setting, "trpo")

    apart = algorithm is MBMPO and more.get("own_tasks", True)
    members = 2 if algorithm is MBMPO else 4
    for rewards in ((), (0, 0, 1, 1)):
        with pytest.raises(UserError, match="4 training tasks pay differently: set it to false"):
            build(members, rewards)
    build(members, (0, 0, 0, 0))
    build(members, (), learned=False)
    if apart:  # a model for each task, or for those that pay the same
        build(4, (0, 1, 2, 3))
        build(2, (0, 1, 0, 1))


def test_after_loading_starts_are_looked_for_again():
    truth = Truth(1)
    truth.load_state = lambda state: None
    simulators = StateSimulators(truth, 2, functions(), tasks=1, owned=False)
    simulators.see(replay_of([(0, 0)], [0]))
    simulators.load_state({})
    simulators.see(replay_of([(5, 5)], [0]))
    assert simulators.begin(1, 3, Streams(0)).unique().tolist() == [5]


class Latent(SimpleNamespace):
    """A latent that is its own distribution."""

    def mean(self):
        return self


@pytest.fixture
def latents():
    """Simulators on a model with two heads, head k adding k + 1, and rewards of what is reached."""
    model = SimpleNamespace(heads=2, device="cpu", route=lambda head: head, unpack=lambda x: Latent(sample=x),
                            pack=lambda latent: latent.sample)  # fmt: skip
    model.transition = lambda latent, action, head: Latent(sample=latent.sample + head[:, None] + 1)
    simulators = object.__new__(LatentSimulators)
    simulators.model, simulators._routes, simulators.cache = model, {}, SimpleNamespace(ends=False)
    simulators.reward = SimpleNamespace(state=lambda latent: latent.sample, estimate=lambda state, action: state[:, 0])
    simulators.continuation = SimpleNamespace(estimate=lambda state, action: (state[:, 0] < 2) * 0.9)
    return simulators


def test_task_n_goes_through_head_n_mod_k_and_is_paid_for_what_it_reaches(latents):
    following, rewards, ended = latents.step(torch.zeros(4, 3, 1), torch.zeros(4, 3, 1))
    assert following[..., 0].tolist() == rewards.tolist() == [[1] * 3, [2] * 3] * 2 and not ended.any()


def test_a_head_that_owns_tasks_imagines_from_what_was_seen_in_them(latents):
    """Frames that are told apart by their number: heads may learn from 0 and 3, from 1 and 2, and 4 is an end."""
    frames = torch.arange(5.0)[:, None]
    mask = torch.tensor([[True, False], [False, True], [False, True], [True, False], [True, False]])
    unused = torch.zeros(5)
    latents.cache = SimpleNamespace(flat=lambda: (frames, frames[:, :0], unused, unused, frames[:, 0] == 4, mask))
    latents.owned = True
    begun = latents.begin(4, 50, Streams(0))
    assert begun.shape == (4, 50, 1)
    assert [set(states.flatten().tolist()) for states in begun] == [{0, 3}, {1, 2}] * 2


@pytest.mark.parametrize("ends", [[], [1, 4], [0, 1, 2, 3, 4, 5]])
def test_nothing_is_imagined_from_where_an_episode_has_ended_for_good(latents, ends):
    drawn = torch.tensor([0, 1, 2, 3, 4, 5])
    terminal = torch.isin(drawn, torch.tensor(ends))[:, None]
    latents._windows = lambda count, horizon, rng: SimpleNamespace(packed=drawn[:, None, None], terminal=terminal)
    latents.owned = False
    begun = latents.begin(2, 3, Streams(0)).flatten().tolist()
    assert begun == ([0, 2, 3, 5, 0, 2] if len(ends) == 2 else drawn.tolist())  # of ends alone any will do


def test_a_head_without_a_task_of_its_own_is_refused(latents):
    frames, mask = torch.zeros(2, 1), torch.tensor([[True, False]] * 2)
    latents.cache = SimpleNamespace(flat=lambda: (frames, frames, frames, frames, torch.tensor([False] * 2), mask))
    latents.owned = True
    with pytest.raises(UserError, match=r"some of the 2 heads .* or transfer.replay.capacity"):
        latents.begin(2, 3, Streams(0))


def test_a_step_ends_what_is_imagined_where_it_is_likely_to_once_an_end_was_seen(latents):
    latents.cache.ends = True
    _, rewards, ended = latents.step(torch.zeros(4, 3, 1), torch.zeros(4, 3, 1))
    assert ended.tolist() == [[False] * 3, [True] * 3] * 2 and rewards.tolist() == [[1] * 3, [2] * 3] * 2


def test_every_episode_is_filtered_on_its_own(latents):
    seen = []
    latents.model.features, zeros = lambda latent: latent.sample, torch.zeros(2)
    latents.model.observe = lambda carry, step: seen.append(step) or Latent(sample=zeros[:, None],
                                                                            relations=zeros[:, None])  # fmt: skip
    first, no = torch.tensor([True, False]), torch.zeros(2, dtype=torch.bool)
    latents.observe(Step({}, zeros[:, None], zeros[:, None], zeros, zeros, first, no, no, no), None)
    assert torch.equal(seen[0].is_task_first, first)


def test_features_of_real_episodes_are_their_states():
    replay = replay_of([(0, 1), (2, 3)], [0, 0])
    first, second = ObservedStates(2, "cpu").episodes(replay)
    assert first.tolist() == [[0, 1], [1, 1], [1.5, 1]] and second[0].tolist() == [2, 3]


@pytest.mark.parametrize(("name", "invariant"), [("locomotion/half_cheetah_run", ("rootx_metres",)),
                                                 ("locomotion/ant_velocity", ("root_x_metres", "root_y_metres")),
                                                 ("locomotion/ant_goal", ()), ("toy/lqr", ())])  # fmt: skip
def test_families_say_what_changes_nothing_but_itself(name, invariant):
    assert task_suites.get(name).invariant_input_names == invariant
