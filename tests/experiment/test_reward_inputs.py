"""Rewards are computed from inputs of the names that they were written for, and where they are not, it is said."""

import dataclasses

import gymnasium
import numpy as np
import pytest

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, play_episode
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import logged_data, source_data
from meta_latent.experiment.pretraining.source_rewards import SourceRewards
from meta_latent.experiment.settings.schema import SourceConfig
from meta_latent.experiment.settings.suites import BoundTarget, BoundTask, common_spec
from meta_latent.rng import Streams
from meta_latent.types import Spec
from task_suites import registry

METRES = ("x_metres", "y_metres")
INPUTS = {"mine/place": METRES, "mine/speed": METRES, "mine/force": ("force_newton", "heat_kelvin"),
          "mine/all": (*METRES, "heat_kelvin")}  # fmt: skip


class Still(gymnasium.Env):
    """Nothing moves."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}


def numbers(count):
    return lambda env: np.arange(1.0, 1.0 + count)


@pytest.fixture(autouse=True, scope="module")
def registered():
    for name, inputs in INPUTS.items():
        task_suites.gymnasium_task(
            name, Still, reward=lambda inputs, action: inputs[..., 0], max_episode_steps=5, reward_input_names=inputs,
            reward_inputs=numbers(len(inputs)))  # fmt: skip
    yield
    for name in INPUTS:
        registry._ENTRIES.pop(name)
        gymnasium.registry.pop(task_suites.gymnasium_id(name))


def bound(name):
    suite = task_suites.get(name)
    return BoundTask(name, suite, suite.tasks("train")[0])


def episodes(source):
    """A replay with one episode."""
    replay = SequenceReplay(Spec.of(source.distribution), ReplayConfig())
    replay.add_episode(play(source))
    return replay


def play(source):
    rows = source.distribution.make_vector([source.task])
    return play_episode(rows, Noise(2, NoiseConfig()), 0, Streams(0))


def test_sources_pay_each_others_episodes_where_inputs_have_the_same_names():
    place, speed, force = bound("mine/place"), bound("mine/speed"), bound("mine/force")
    assert common_spec([place, speed]) == Spec.of(place.distribution)
    mixed = common_spec([place, speed, force])
    assert mixed.reward_input_names == ("x_metres or force_newton", "y_metres or heat_kelvin")
    assert all(mixed.other_inputs(Spec.of(source.distribution)) for source in (place, force))
    assert SourceRewards([place, speed]).known.all()
    np.testing.assert_array_equal(SourceRewards([place, force]).known, np.eye(2, dtype=bool))


def test_sources_with_another_number_of_inputs_cannot_share_their_data():
    with pytest.raises(UserError, match="mine/place and mine/all cannot share a model: reward inputs: there are x_met"):
        common_spec([bound("mine/place"), bound("mine/all")])


@pytest.mark.parametrize(("data", "named", "fits"), [
    ("mine/place", True, True), ("mine/speed", True, True), ("mine/force", True, False), ("mine/force", False, True),
])  # fmt: skip
def test_logged_data_with_other_inputs_are_refused(data, named, fits, monkeypatch):
    """Of data that do not say how theirs are called the number has to do."""
    held = logged_data.ReplayEpisodes(episodes(bound(data)))
    if not named:
        held.replay.spec = dataclasses.replace(held.replay.spec, reward_input_names=())
    monkeypatch.setattr(logged_data, "open_data", lambda name: held)
    sources = [SourceConfig(suite="mine/place", data="logged")], [bound("mine/place")]
    if fits:
        assert logged_data.of_sources(*sources)[0].episode(0)["reward"].tolist() == [0, 1, 1, 1, 1, 1]
        return
    with pytest.raises(UserError, match="logged does not fit mine/place: its reward inputs are force_newton, heat_kel"):
        logged_data.of_sources(*sources)


@pytest.mark.parametrize(("source", "opened", "paid"), [
    ("mine/place", True, True), ("mine/force", True, False), ("mine/all", False, False),
])  # fmt: skip
def test_source_episodes_of_a_model_with_other_inputs_are_not_paid_anew(source, opened, paid, tmp_path, monkeypatch):
    target = bound("mine/place")
    replay = SequenceReplay(Spec.of(bound(source).distribution), ReplayConfig(), tmp_path / "source")
    replay.add_episode(play(bound(source)))
    replay.flush()
    card = source_data.describe(replay, tmp_path)
    monkeypatch.setattr(source_data, "read_card", lambda folder: card)
    monkeypatch.setattr(source_data, "read_model_card", lambda folder: {})

    def said(call, *given):
        try:
            call(*given)
        except UserError as error:
            return str(error)
        return ""

    told = said(source_data.open_replay, tmp_path, Spec.of(target.distribution), replay.heads, 1)
    assert ("reward inputs: there are x_metres, y_metres, heat_kelvin" in told) == (not opened), told
    told = said(source_data.refuse_unknown_rewards, BoundTarget("goal", (target,), (target,), 1), tmp_path)
    assert ("cannot be paid anew: reward inputs: there are" in told) == (not paid) and bool(told) == (not paid)
