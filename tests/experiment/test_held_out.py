"""What pretraining reports about a model, and whose behaviour its data come from."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, Scripted, play_episode
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import held_out
from meta_latent.experiment.pretraining.model_folder import load, read_card
from meta_latent.experiment.pretraining.source_rewards import SourceRewards
from meta_latent.experiment.pretraining.sources import SourceCollector
from meta_latent.experiment.pretraining.stages import Pretraining
from meta_latent.experiment.report.words.held_out_words import MEASURES
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.runs.run_folder import RunFolder
from meta_latent.experiment.settings.suites import BoundTask, bind, common_spec
from meta_latent.models.config import ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import ModelLearner
from meta_latent.models.losses import one_step
from meta_latent.ops.imagination import imagine
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Spec


@pytest.fixture(scope="module")
def measured(toy_model):
    model = load(toy_model / "model")
    state = checkpoint.load(toy_model / "checkpoints")

    replay = SequenceReplay(model.spec, ReplayConfig(capacity=1_000_000), toy_model / "source", model.heads)
    replay.load_state(state["replay"])
    return model, replay, np.arange(len(replay.episodes))


def test_a_model_folder_says_what_rewards_it_was_trained_on(measured, toy_model):
    _, replay, episodes = measured
    paid = np.concatenate([replay.read(e)["reward"][1:] for e in episodes])
    assert read_card(toy_model / "model")["rewards"] == [paid.min(), paid.max()] and paid.min() < paid.max()


def test_only_the_asked_inputs_count(measured):
    model, replay, episodes = measured
    every = held_out.measure(model, replay, episodes)
    one = held_out.measure(model, replay, episodes, [0])
    names = ("positions_1_minus_r2", "open_loop_r2", "reward_1_minus_r2", "reward_1_minus_r2_blind")
    assert set(every) == set(names) == set(MEASURES)  # the report explains them all
    assert one["positions_1_minus_r2"] != every["positions_1_minus_r2"]
    assert one["reward_1_minus_r2"] == every["reward_1_minus_r2"]


def test_a_model_whose_heads_own_sources_is_measured_by_them(toy, tmp_path, monkeypatch):
    """Sources 0, 1, 2 go round two heads; one of four episodes of each is held out."""
    asked, unrolled = [], []
    monkeypatch.setattr(held_out, "one_step", lambda *args: asked.append(args[-1].tolist()) or one_step(*args))
    monkeypatch.setattr(held_out, "imagine", lambda *args: unrolled.append(args[3].tolist()) or imagine(*args))
    sources = "pretrain.sources=[{suite: toy/hidden_goal, tasks: 3}]"
    run = toy.pretrain(tmp_path, sources, "pretrain.own_heads=true", "pretrain.held_out=0.5")
    card = checkpoint.load(run / "checkpoints")
    model = load(run / "model")
    replay = SequenceReplay(model.spec, ReplayConfig(capacity=1_000_000), run / "source", model.heads)
    replay.load_state(card["replay"])
    episodes = [replay.read(e) for e in range(len(replay.episodes))]
    assert [e["head_mask"].tolist() for e in episodes[:3]] == [[True, False], [False, True], [True, False]]
    assert all(e["head_mask"].tolist() == [e["task_index"] % 2 == k for k in (0, 1)] for e in episodes)
    held = episodes[len(episodes) - len(asked[0]) :]
    owners = [int(e["task_index"]) % 2 for e in held]
    assert asked[0] == owners and len(held) > 3
    assert unrolled == [owners, *([owner] for owner in owners[-2:])]  # the last two are drawn


def test_a_source_policy_is_refused_where_heads_own_sources(toy, tmp_path):
    with pytest.raises(UserError, match="own_heads=true: a source policy .* set pretrain.policy_updates=0"):
        toy.pretrain(tmp_path, "pretrain.own_heads=true", "pretrain.policy_updates=2")


def test_more_heads_than_sources_to_own_are_refused(toy, tmp_path):
    with pytest.raises(UserError, match="1 sources for 2 transition heads.*name more sources, or lower"):
        toy.pretrain(tmp_path, "pretrain.own_heads=true")


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


def with_data(monkeypatch, change):
    """Measure with other held-out data."""
    original = held_out._tensors

    def changed(*arguments):
        data = original(*arguments)
        change(data)
        return data

    monkeypatch.setattr(held_out, "_tensors", changed)


@pytest.mark.parametrize("reward", [0.0, 1.0, -0.3, 1e6, 1e-6])
def test_a_constant_reward_is_not_measured(measured, monkeypatch, reward):
    model, replay, episodes = measured
    before = held_out.measure(model, replay, episodes)
    # As floats have it: the last digit may differ.
    with_data(monkeypatch, lambda data: data["reward"].fill_(reward)[::2].mul_(1 + 1e-7))
    found = held_out.measure(model, replay, episodes)
    assert found["reward_1_minus_r2"] is None and found["reward_1_minus_r2_blind"] is None
    assert found["positions_1_minus_r2"] == pytest.approx(before["positions_1_minus_r2"], rel=0.5)
    said = held_out.describe(found)
    assert "reward_1_minus_r2 not measured: constant, reward_1_minus_r2_blind not measured: constant" in said
    assert f"positions_1_minus_r2 {found['positions_1_minus_r2']:.3g}" in said


def test_a_rare_reward_is_measured(measured, monkeypatch):
    model, replay, episodes = measured

    def rare(data):
        data["reward"].zero_()[0, -1] = 1.0

    with_data(monkeypatch, rare)
    assert 0 < held_out.measure(model, replay, episodes)["reward_1_minus_r2"] < 1e6


def still(*columns, half=slice(None)):
    """Inputs that hardly move: a hundredth of a millimetre."""

    def change(data):
        inputs = data["reward_inputs"]
        for column in columns:
            part = inputs[half, :, column]
            part.copy_(0.3 + 1e-5 * part)

    return change


def test_objects_that_hardly_move_are_left_out(measured, monkeypatch):
    """A door that stays shut; asked for by number, or among all."""
    model, replay, episodes = measured
    one = held_out.measure(model, replay, episodes, [1])
    with monkeypatch.context() as patch:
        with_data(patch, still(0))
        for objects in ([0, 1], None):
            found = held_out.measure(model, replay, episodes, objects)
            assert 0 < found["positions_1_minus_r2"] < 1.5
        assert held_out.measure(model, replay, episodes, [0, 1]) == pytest.approx(one)
    middle = (len(held_out._tensors(model, replay, episodes, False)["reward"])) // 2
    for part in (slice(None), slice(None, middle), slice(middle, None)):  # one half is fitted, one measured
        with monkeypatch.context() as patch:
            with_data(patch, still(0, half=part))
            found = held_out.measure(model, replay, episodes, [0])
            assert found["positions_1_minus_r2"] is None and found["open_loop_r2"] is None
            assert "open_loop_r2 not measured: nothing moved" in held_out.describe(found)
            assert found["reward_1_minus_r2"] is not None


def test_nothing_that_moves_far_is_no_perfect_prediction(measured, monkeypatch):
    model, replay, episodes = measured
    monkeypatch.setattr(held_out, "MOVED", 1e6)
    found = held_out.measure(model, replay, episodes)
    assert found["open_loop_r2"] is None and found["positions_1_minus_r2"] is not None


def behaviours(toy, folder, *overrides):
    experiment = toy.experiment(folder, *overrides)
    sources = [bind(experiment, source) for source in experiment.pretrain.sources]
    with RunFolder(folder / "run", {}) as run:
        running = Pretraining(experiment, sources, common_spec(sources), run)
        return [running.collector.behaviour(sources[i % len(sources)], i) for i in range(40)]


def test_a_source_has_its_own_share_of_scripted_episodes(toy, tmp_path):
    two = "pretrain.sources=[{suite: toy/lqr, scripted: 0}, {suite: toy/lqr, index: 1}]"
    found = behaviours(toy, tmp_path, two, "pretrain.scripted=0.25")
    scripted = [isinstance(b, Scripted) for b in found]
    assert not any(scripted[0::2]) and sum(scripted[1::2]) == 5


def test_random_behaviour_is_what_the_configuration_says():
    rng, first = Streams(0), SimpleNamespace(is_first=torch.ones(50, dtype=torch.bool))
    noise = Noise(2, NoiseConfig((0.2, 0.9), 0.5, (0.0, -0.4)))
    _, carry = noise.act(first, noise.begin_task(50), rng, True)
    assert set(carry["persistence"].flatten().tolist()) == {0.2, 0.9}
    calm, step = Noise(2, NoiseConfig((0.2,), 0.1, (0.0, -0.4))), first  # hardly ever clipped
    carry, actions = calm.begin_task(50), []
    for _ in range(60):
        action, carry = calm.act(step, carry, rng, True)
        actions.append(action)
        step = SimpleNamespace(is_first=~first.is_first)
    assert np.allclose(torch.stack(actions[20:]).mean((0, 1)), (0.0, -0.4), atol=0.02)
    with pytest.raises(UserError, match="drift has 1 values"):
        Noise(2, NoiseConfig(drift=(1.0,)))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_relabelled_sequences_are_paid_as_one_of_the_sources_pays(share):
    suite = task_suites.get("toy/hidden_goal", episode_steps=4, image_size=8)
    tasks, replay = suite.sample("train", 3, 0), SequenceReplay(Spec.of(suite), ReplayConfig())
    for k, task in enumerate(tasks):
        replay.add_episode(play_episode(suite.make_vector([task]), Noise(2, NoiseConfig()), k, Streams(k)), None, k)
    rewards = SourceRewards([BoundTask(str(k), suite, task) for k, task in enumerate(tasks)])
    run = SimpleNamespace(config=SimpleNamespace(relabel=share), model=SimpleNamespace(device="cpu"), rewards=rewards)
    rng = np.random.default_rng(0)
    drawn = replay.sequences(30, 5, rng)
    before = rng.bit_generator.state
    batch, paid = Pretraining._relabelled(run, drawn, rng)
    every = paid["task_rewards"]
    assert paid["known"] is None  # all are
    assert (rng.bit_generator.state == before) == (not share)  # nothing is drawn for nothing
    paid = (every * drawn.reward_present[..., None] - batch.reward[..., None]).abs().amax(1) < 1e-5
    if share:
        assert (paid.sum(1) == 1).all() and (paid.sum(0) > 3).all()  # each as one source, and all come up
        assert 0.3 < (paid.int().argmax(1) != drawn.task_index).float().mean() < 0.95  # two in three are another's
    else:
        assert torch.equal(batch.reward, drawn.reward)
    assert (batch.reward * (1 - batch.reward_present) == 0).all()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_whole_trials_of_a_source_are_what_core_and_heads_are_pretrained_on(toy, tmp_path, monkeypatch, dropout):
    seen = []

    def watched(learner, batch, shown, weights, rng, embeddings=None, scale=1.0):
        seen.append((batch, shown, embeddings, scale))
        return real(learner, batch, shown, weights, rng, embeddings, scale)

    real = ModelLearner.trials
    monkeypatch.setattr(ModelLearner, "trials", watched)
    folder = toy.pretrain(tmp_path, "pretrain.episodes_per_trial=2", "pretrain.sources=[{suite: toy/lqr, tasks: 2}]",
                          "learner.filter_batch_size=40", f"model.reward_dropout={dropout}")  # fmt: skip
    assert len(seen) == 3 and [scale for *_, scale in seen][-1] < 1
    held = np.concatenate([e["action"] for e in _source_episodes(folder)])
    for batch, shown, embeddings, _ in seen:
        assert (batch.is_first.sum(1) == 2).all() and (batch.is_task_first.sum(1) == 1).all()
        assert np.array_equal(held[batch.frames[batch.valid]], batch.action[batch.valid])
        assert embeddings.shape[:2] == batch.valid.shape
        hidden = (shown.reward_present == 0).all(1).float().mean()
        assert hidden == 0 if not dropout else 0.1 < hidden < 0.9
        assert batch.reward_present.any(1).all()  # what is hidden is predicted all the same


def _source_episodes(folder):
    model = load(folder / "model")
    replay = SequenceReplay(model.spec, ReplayConfig(capacity=1_000_000), folder / "source", model.heads)
    replay.load_state(checkpoint.load(folder / "checkpoints")["replay"])
    return [replay.read(e) for e in range(len(replay.episodes))]


def test_held_out_rewards_are_predicted_in_the_environments_units():
    with seeded_construction(0):
        model = LatentStateModel(Spec({}, 3, 2), ModelConfig(normalise_rewards=True))
    model.calibrate_rewards(torch.tensor([1.0, 5.0]))
    for p in model.reward_head[-1].parameters():
        p.data.zero_()
    latent = model.filter(*(torch.zeros(4, 6, n) for n in (3, 2)), *torch.zeros(2, 4, 6))
    found = held_out._one_step_reward(model, latent, torch.zeros(4, 6, 2), torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(found, torch.full((4, 5), 3.0))


def outcomes(toy, folder, *overrides):
    """What is said of the scripts of a source after 20 episodes, half of them scripted."""
    experiment = toy.experiment(folder, "pretrain.scripted=0.5", "pretrain.env_steps=400", *overrides)
    sources = [bind(experiment, source) for source in experiment.pretrain.each_source]
    with RunFolder(folder / "run", {}) as run:
        running = Pretraining(experiment, sources, common_spec(sources), run)
        for _ in range(20):
            running.collector.episode(running.replay, running.collector.behaviour, Streams(0))
        running.collector.close()
        return running.collector.scripted_outcomes(running.replay)


GOAL = "{suite: toy/hidden_goal, options: {observation: state}, tasks: 2}"


def test_scripts_are_counted_by_whether_their_task_was_ever_solved(toy, tmp_path):
    calm, wild = (
        outcomes(toy, tmp_path / str(noise), f"pretrain.sources=[{GOAL}]", f"pretrain.scripted_noise={noise}")[0]
        for noise in (0, 100)
    )
    assert (calm.episodes, calm.solved, calm.solvable) == (10, 10, True)
    assert wild.episodes == 10 and wild.solved < 10 and wild.solvable


def test_a_task_that_nothing_solves_is_not_blamed_on_noise(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(SourceCollector, "_solved", lambda *_: False)
    (found,) = outcomes(toy, tmp_path / "solvable", f"pretrain.sources=[{GOAL}]")
    assert found.solvable
    far = "{suite: toy/hidden_goal, options: {observation: state, episode_steps: 1}, tasks: 2}"
    (found,) = outcomes(toy, tmp_path / "not", f"pretrain.sources=[{far}]", "pretrain.env_steps=20")
    assert (found.episodes, found.solved, found.solvable) == (10, 0, False)


def test_nothing_is_said_of_scripts_where_nobody_knows_when_tasks_are_solved(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(task_suites.TaskDistribution, "tells_success", False)
    assert outcomes(toy, tmp_path, f"pretrain.sources=[{GOAL}]") == []


def test_episodes_of_the_source_policy_are_not_taken_for_scripted_ones(toy, tmp_path):
    short = outcomes(toy, tmp_path, f"pretrain.sources=[{GOAL}]", "pretrain.on_policy=0.5", "pretrain.policy_updates=1")
    assert 0 < short[0].episodes < 10


@pytest.mark.parametrize("solved", [False, True])
def test_noise_that_keeps_a_script_from_its_goal_is_warned_of(toy, tmp_path, monkeypatch, capsys, solved):
    monkeypatch.setattr(SourceCollector, "_solved", lambda *_: solved)
    folder = toy.pretrain(tmp_path, f"pretrain.sources=[{GOAL}]", "pretrain.scripted=0.5")
    (told,) = json.loads((folder / "pretraining.json").read_text())["scripted"]
    assert told["episodes"] > 0 and told["solved"] == told["episodes"] * solved and told["solvable"]
    warned = f"warning: none of the {told['episodes']} scripted episodes" in capsys.readouterr().out
    assert warned == (not solved)


@pytest.mark.parametrize(("missed", "encoder", "told", "pictured"), [
    (0.33, "", True, True), (0.09, "", False, False), (None, "", False, False),
    (0.33, "model.encoder.pictured=true", True, False), (0.33, "model.encoder.kind=conv", True, False),
])  # fmt: skip
def test_a_model_that_does_not_see_where_things_are_is_warned_of(
    toy, tmp_path, monkeypatch, capsys, missed, encoder, told, pictured
):
    measured = {"positions_1_minus_r2": missed, "open_loop_r2": None}
    monkeypatch.setattr(held_out, "measure", lambda *given, **more: measured)
    monkeypatch.setattr(held_out, "draw_strips", lambda *given, **more: None)
    toy.pretrain(tmp_path, *[encoder] * bool(encoder))
    said = capsys.readouterr().out
    assert ("warning: the model misses 33% of where things are" in said) == told
    assert ("set model.encoder.pictured=true" in said) == pictured
