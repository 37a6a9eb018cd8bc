"""What pretraining reports about a model, and whose behaviour its data come from."""

import numpy as np
import pytest

from meta_latent.data.collect import CorrelatedNoise, NoiseConfig, Scripted
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import held_out
from meta_latent.experiment.pretraining.model_folder import load
from meta_latent.experiment.pretraining.stages import Pretraining
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.runs.run_folder import RunFolder
from meta_latent.experiment.settings.suites import bind, common_spec


@pytest.fixture(scope="module")
def measured(toy_model):
    model = load(toy_model / "model")
    state = checkpoint.load(toy_model / "checkpoints")

    replay = SequenceReplay(model.spec, ReplayConfig(capacity=1_000_000), toy_model / "source", model.heads)
    replay.load_state(state["replay"])
    return model, replay, np.arange(len(replay.episodes))


def test_only_the_asked_inputs_count(measured):
    model, replay, episodes = measured
    every = held_out.measure(model, replay, episodes)
    one = held_out.measure(model, replay, episodes, [0])
    names = ("positions_1_minus_r2", "open_loop_r2", "reward_1_minus_r2", "reward_1_minus_r2_blind")
    assert set(every) == set(names)
    assert one["positions_1_minus_r2"] != every["positions_1_minus_r2"]
    assert one["reward_1_minus_r2"] == every["reward_1_minus_r2"]


def test_a_position_in_the_proprioception_is_read_out_and_noise_is_not(measured, monkeypatch):
    model, replay, episodes = measured
    assert held_out.measure(model, replay, episodes)["positions_1_minus_r2"] < 0.05
    original = held_out._tensors

    def shuffled(*arguments):
        data = original(*arguments)
        data["reward_inputs"] = data["reward_inputs"].flip(0)  # inputs of another episode
        return data

    monkeypatch.setattr(held_out, "_tensors", shuffled)
    assert held_out.measure(model, replay, episodes)["positions_1_minus_r2"] > 0.5


def behaviours(toy, folder, *overrides):
    experiment = toy.experiment(folder, *overrides)
    sources = [bind(experiment, source) for source in experiment.pretrain.sources]
    with RunFolder(folder / "run", {}) as run:
        running = Pretraining(experiment, sources, common_spec(sources), run)
        rng = np.random.default_rng(0)
        return [running._behaviour(sources[i % len(sources)], i, rng) for i in range(40)]


def test_a_source_has_its_own_share_of_scripted_episodes(toy, tmp_path):
    two = "pretrain.sources=[{suite: toy/lqr, scripted: 0}, {suite: toy/lqr, index: 1}]"
    found = behaviours(toy, tmp_path, two, "pretrain.scripted=0.25")
    scripted = [isinstance(b, Scripted) for b in found]
    assert not any(scripted[0::2]) and sum(scripted[1::2]) == 5


def test_random_behaviour_is_what_the_configuration_says():
    rng = np.random.default_rng(0)
    noise = NoiseConfig((0.2, 0.9), 0.5, (0.0, -0.4))
    drawn = [noise.draw(2, rng) for _ in range(50)]
    assert {b.persistence for b in drawn} == {0.2, 0.9}
    calm = NoiseConfig((0.2,), 0.1, (0.0, -0.4)).draw(2, rng)  # hardly ever clipped
    calm.begin(rng)
    actions = np.stack([calm.act({}, None, 0.0, False, {}) for _ in range(2000)])
    assert np.allclose(actions[20:].mean(0), (0.0, -0.4), atol=0.02)
    with pytest.raises(UserError, match="drift has 1 values"):
        CorrelatedNoise(2, drift=(1.0,))
