"""What an algorithm may be built from: rewards and ends of many tasks at once."""

import contextlib
import inspect
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from meta_latent.algorithms import registry
from meta_latent.algorithms.registry import Algorithm, Arm
from meta_latent.data.collect import Noise, NoiseConfig, play_episode
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.experiment.learning import cell_settings
from meta_latent.experiment.learning.loop import Learning
from meta_latent.experiment.learning.starts import (
    functions_of,
    latent_parts,
    refuse_other_rewards,
    setting_of,
    with_part,
)
from meta_latent.experiment.pretraining import logged_data
from meta_latent.experiment.runs.run_folder import RunFolder
from meta_latent.experiment.settings import config, suites
from meta_latent.experiment.settings.arms import adaptation_of, strays
from meta_latent.experiment.settings.schema import ExperimentConfig, TargetConfig
from meta_latent.models.config import CoreConfig, EncoderConfig, ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import LearnerConfig, ModelLearner
from meta_latent.ranges import count
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Spec


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


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray])
def test_rows_of_one_task_are_paid_as_they_are(target, kind):
    inputs = np.random.default_rng(0).uniform(-1, 1, (4, 3, 2)).astype(np.float32)
    paid = functions_of(target).reward(kind(np.full((4, 3), 2)), kind(inputs), kind(np.zeros((4, 3, 2), np.float32)))
    wanted = target.distribution.reward(target.tasks[2].task, kind(inputs), kind(np.zeros((4, 3, 2))))
    assert type(paid) is type(wanted) and paid.shape == (4, 3) and np.array_equal(np.asarray(paid), np.asarray(wanted))


def test_a_task_that_there_is_not_is_refused(target):
    for index in (-1, 5):
        with pytest.raises(ValueError, match="there are 5 tasks"):
            functions_of(target).reward(torch.tensor([index]), torch.zeros(1, 2), torch.zeros(1, 2))


@pytest.mark.parametrize(("name", "wrong", "said"), [
    ("reward", lambda task, inputs, action: -(inputs**2).sum(),
     "reward of inputs (1, 2, 4) has the shape (), expected (1, 2): it has to reduce the last dimension alone"),
    ("reward", lambda task, inputs: -(inputs**2).sum(-1),
     "reward: too many positional arguments; it has to take (task, inputs, action), and takes (task, inputs)"),
    ("terminated", lambda task, inputs, action: (inputs > 9).any(),
     "terminated of inputs (1, 2, 4) has the shape (), expected (1, 2): it has to reduce the last dimension alone"),
    ("reward", lambda task, inputs, action: np.asarray([float(row[0]) for row in inputs]),
     "reward, of inputs of shape (1, 2, 4), raised TypeError: "),
    ("terminated", lambda task, inputs, action: [k for k in inputs][3],
     "terminated, of inputs of shape (1, 2, 4), raised IndexError: list index out of range ("),
    ("terminated", lambda task, inputs: inputs[..., 0] > 9, "terminated: too many positional arguments; it has to tak"),
])  # fmt: skip
def test_a_function_of_another_shape_or_other_arguments_is_told_as_that(name, wrong, said, monkeypatch):
    bound = suites.bind_target(config.load(ExperimentConfig, [], ["transfer.targets={t: {suite: toy/lqr}}"]), "t")
    monkeypatch.setattr(bound.distribution, name, wrong)
    with pytest.raises(UserError, match=re.escape(f"target t: {said}")):
        functions_of(bound)


@pytest.mark.parametrize("arm", ["meld/scratch", "ivg/scratch"])
def test_every_task_is_paid_as_its_function_says(arm, monkeypatch, tmp_path):
    """The first task is looked at before the run starts, the others when they are played."""
    given = {"targets": {"t": {"suite": "toy/hidden_goal", "tasks": 3, "test_tasks": 2, "episodes_per_trial": 2}},
             "warmup_episodes": 8}  # fmt: skip
    experiment = config.load(ExperimentConfig, [config.find("experiment", "meld_toy"), {"transfer": given}], [])
    bound = suites.bind_target(experiment, "t")
    true, last = bound.distribution.reward, bound.tasks[2].task
    wrong = lambda task, *given: true(task, *given) + 5 * (task == last)  # noqa: E731
    monkeypatch.setattr(bound.distribution, "reward", wrong)
    with RunFolder(tmp_path / "run", {}, seed=0) as folder:
        learning = Learning(experiment, bound, Arm.parse(arm), 0, None, folder)
        with contextlib.closing(learning.collector):
            if arm.startswith("ivg"):  # which reads no functions
                return learning.round()
            said = r"was paid -?[\d.]+ for step 1 of an episode, its reward function says [\d.]+: they have to be equal"
            with pytest.raises(UserError, match=rf"^target t: task 2 \(.*\) {said}$"):
                learning.round()


@pytest.mark.parametrize(("later", "said"), [
    (lambda paid: 1 / 0, "reward, of inputs of shape (11, 2) in task 2, raised ZeroDivisionError: "),
    (lambda paid: paid[:, None], "reward of inputs (11, 2) has the shape (11, 1), expected (11,): it has to"),
    (lambda paid: paid * np.nan, "for step 1 of an episode, its reward function says nan: they have to be equal"),
])  # fmt: skip
def test_what_a_later_tasks_reward_does_wrong_is_a_line(target, monkeypatch, later, said):
    true, last = target.distribution.reward, target.tasks[2].task

    def reward(task, *given):
        return later(true(task, *given)) if task == last else true(task, *given)

    monkeypatch.setattr(target.distribution, "reward", reward)
    present = np.arange(11) > 0
    inputs, action = np.ones((11, 2), np.float32), np.zeros((11, 2), np.float32)
    episode = {"reward_inputs": inputs, "action": action, "reward_present": present.astype(np.float32),
               "reward": true(last, inputs, action) * present}  # fmt: skip
    with pytest.raises(UserError, match=re.escape(said)):
        refuse_other_rewards(target, 2, episode)
    refuse_other_rewards(target, 1, episode | {"reward": true(target.tasks[1].task, inputs, action) * present})


def test_rewards_of_no_rows_are_none(target):
    for empty in (np.zeros((0, 4, 2)), torch.zeros(0, 4, 2)):
        assert functions_of(target).reward(np.zeros(0, int), empty, empty).shape == (0, 4)


@pytest.mark.parametrize(("suite", "dynamics", "rewards"), [
    ("toy/hidden_goal", (0, 0, 0, 0), (0, 1, 2, 3)),
    ("toy/rotated_actuators", (0, 1, 2, 3), (0, 0, 0, 0)),
])  # fmt: skip
def test_it_is_known_which_tasks_differ_in_dynamics_and_which_in_rewards(suite, dynamics, rewards):
    chosen = config.load(ExperimentConfig, [], [f"transfer.targets={{t: {{suite: {suite}, tasks: 4, test_tasks: 2}}}}"])
    setting = setting_of(chosen, suites.bind_target(chosen, "t"), Arm.parse("pearl/scratch"), 0, None)
    assert (setting.dynamics, setting.rewards) == (dynamics, rewards)


def distribution(more=""):
    options = "{sparse: true, cameras: [front], image_size: 16}"
    target = f"{{suite: meld/reacher, options: {options}, tasks: 4, test_tasks: 2{more}}}"
    return config.load(ExperimentConfig, [], [f"transfer.targets={{t: {target}}}"])


def test_policies_may_be_trained_on_other_rewards_of_the_same_goals():
    bound = suites.bind_target(distribution(", training_options: {sparse: false}"), "t")
    inputs = np.zeros((4, 3, len(bound.distribution.reward_input_names)), np.float32)
    inputs[..., :3] = np.random.default_rng(0).uniform(0.3, 0.9, (4, 3, 3))
    functions = functions_of(bound)
    both = functions.reward, functions.training_reward
    shown, trained = (function(np.arange(4), inputs, np.zeros((4, 3, 7))) for function in both)
    assert (shown == 0).all() and (trained < -0.5).all()  # far from the goals
    for k, task in enumerate(bound.training_tasks):
        assert task.task.reward.parameters["sparse"] != bound.tasks[k].task.reward.parameters["sparse"]
        wanted = task.distribution.reward(task.task, inputs[k], np.zeros((3, 7)))
        np.testing.assert_allclose(trained[k], wanted, rtol=1e-5)
    assert functions_of(suites.bind_target(distribution(), "t")).training_reward is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("{goals: half_ring}", "change goal_x_metres"),
        ("{reward: sparse, episode_steps: 7}", "change episodes or observations"),
        ("{reward: sparse, observation: state}", "change episodes or observations"),
        ("{reward: dense}", "change no reward"),
    ],
)
def test_training_options_that_change_more_than_rewards_or_nothing_are_refused(options, words):
    goals = f"transfer.targets={{t: {{suite: toy/hidden_goal, tasks: 5, test_tasks: 2, training_options: {options}}}}}"
    with pytest.raises(UserError, match=words):
        suites.bind_target(config.load(ExperimentConfig, [], [goals]), "t")


def test_the_settings_name_all_who_heed_training_options():
    heed = {name for name in registry.names() if "training_reward" in source_of(name)}
    said = re.search(r"Of ([\w,\s]+) and\s+(\w+); other algorithms", TargetConfig.__doc__)
    assert heed == {*re.split(r",\s+", said[1]), said[2]}


def source_of(algorithm):
    return inspect.getsource(inspect.getmodule(registry.get(algorithm).config))


def test_training_options_take_a_distribution():
    single = "transfer.targets={t: {suite: toy/hidden_goal, training_options: {reward: sparse}}}"
    with pytest.raises(UserError, match="training_options are for distributions"):
        config.load(ExperimentConfig, [], [single])


def test_a_source_of_many_tasks_is_as_many_sources():
    given = ["pretrain.sources=[{suite: toy/hidden_goal, tasks: 3, index: 2, scripted: 0}, {suite: toy/hidden_goal}]"]
    experiment = config.load(ExperimentConfig, [], given)
    assert [(s.index, s.tasks, s.scripted) for s in experiment.pretrain.each_source] == [
        (2, 1, 0), (3, 1, 0), (4, 1, 0), (0, 1, None)]  # fmt: skip
    many = ["pretrain.sources=[{suite: toy/hidden_goal, tasks: 3}]", "pretrain.policy_source=2"]
    assert config.load(ExperimentConfig, [], many).pretrain.policy_source == 2
    with pytest.raises(UserError, match="there are 3 sources"):
        config.load(ExperimentConfig, [], [many[0], "pretrain.policy_source=3"])


@pytest.mark.parametrize("part", ["encoder", "sequence"])
def test_a_part_of_the_pretrained_model_is_taken_and_the_rest_is_new(part):
    made = ModelConfig(EncoderConfig("conv", channels=(4,), embedding=5), CoreConfig("deterministic", 6, 4),
                       normalise_rewards=True)  # fmt: skip
    with seeded_construction(0):
        old = LatentStateModel(Spec({"top": (8, 8, 3)}, 2, 2, 2), made)
    old.calibrate_rewards(torch.tensor([1.0, 3.0]))
    with seeded_construction(1):
        new = with_part(old, part)
    for name, value in new.state_dict().items():
        pixels = name.startswith(("encoders.", "decoders."))
        same = torch.equal(value, old.state_dict()[name])
        assert same == (pixels == (part == "encoder")), name


def test_whatever_is_new_of_a_model_learns_unless_somebody_says_otherwise():
    experiment = config.load(ExperimentConfig, [], [])
    for start, pixels, core in (("scratch", True, True), ("sequence", True, True), ("encoder", False, True),
                                ("pretrained", False, False)):  # fmt: skip
        found = adaptation_of(experiment, Arm("meld", start))
        assert (found.joint > 0 and found.first_joint > 0) == pixels, start
        assert (found.joint > 0 or found.filter > 0 and found.first_filter > 0) == core, start
    given = config.load(ExperimentConfig, [], ["transfer.adaptation.encoder.filter=0"])
    assert adaptation_of(given, Arm("meld", "encoder")).filter == 0


def test_only_a_core_that_read_rewards_knows_their_scale(toy, toy_model):
    folder, experiment = toy_model / "model", toy.experiment(toy_model)
    for start, known in (("pretrained", True), ("sequence", True), ("encoder", False)):
        parts = latent_parts(experiment, suites.bind_target(experiment, "goal"), Arm("meld", start), folder)
        assert (parts.rewards is not None) == known, start


@pytest.mark.parametrize(("start", "new"), [
    ("scratch", True), ("sequence", True), ("pretrained", False), ("encoder", False),
])  # fmt: skip
def test_only_a_new_encoder_finds_its_scales(toy, toy_model, start, new):
    """What remembers and predicts knows the embeddings of a pretrained one as they are."""
    experiment = toy.experiment(toy_model)
    target = suites.bind_target(experiment, "goal")
    parts = latent_parts(experiment, target, Arm("ivg", start), None if start == "scratch" else toy_model / "model")
    rows = target.distribution.make_vector([target.tasks[0].task])
    replay = SequenceReplay(parts.model.spec, ReplayConfig())
    replay.add_episode(play_episode(rows, Noise(2, NoiseConfig()), 0, Streams(0)))
    before = parts.model.encoders["top"].body.weight.clone()
    parts.learner.calibrate(replay.sequences(20, 2, np.random.default_rng(0)))
    assert torch.equal(parts.model.encoders["top"].body.weight, before) != new


@pytest.mark.parametrize("new", [True, False])
def test_only_a_new_encoder_has_its_embeddings_scaled(new):
    encoder = EncoderConfig("conv", channels=(4,), embedding=5, standardise=True)
    with seeded_construction(0):
        model = LatentStateModel(Spec({"top": (8, 8, 3)}, 2, 2, 2), ModelConfig(encoder))
    pictures = {"top": torch.randint(0, 255, (6, 2, 8, 8, 3), generator=torch.Generator().manual_seed(0)).byte()}
    before = model.embed({"top": pictures["top"][:, 0]}, torch.zeros(6, 2))
    batch = SimpleNamespace(to=lambda device: SimpleNamespace(images=pictures))
    ModelLearner(model, LearnerConfig(), new).standardise(batch)
    assert torch.equal(model.embed({"top": pictures["top"][:, 0]}, torch.zeros(6, 2)), before) != new


def test_what_is_compared_with_must_be_a_start():
    class Settings:
        size: int = count(3)

    import dataclasses

    settings = dataclasses.dataclass(frozen=True)(Settings)
    with pytest.raises(UserError, match="scrach"):
        Algorithm(settings, lambda config, setting: None, ("pretrained", "scratch"), {"pretrained": "scrach"})


@pytest.mark.parametrize(
    ("suite", "options", "observed"),
    [
        ("toy/lqr", "", True),
        ("toy/lqr", "hide_position: true", False),
        ("toy/rotated_actuators", "", True),
        ("toy/rotated_actuators", "inertia: true, observation: both", True),
        ("toy/rotated_actuators", "observation: picture", False),
        ("locomotion/half_cheetah_run", "observation: reward_inputs", True),
        ("locomotion/half_cheetah_run", "", False),
    ],
)
def test_rewards_hold_for_imagined_states_where_proprioception_is_what_they_read(suite, options, observed):
    given = f"transfer.targets={{t: {{suite: {suite}, options: {{{options}}}}}}}"
    bound = suites.bind_target(config.load(ExperimentConfig, [], [given]), "t")
    assert functions_of(bound).observed == observed


def test_values_stray_where_a_run_says_so_and_the_settings_of_others_stay_as_they_were(toy, tmp_path):
    """Runs from before `transfer.epsilon` was there go on; learners of their own policy's data never stray."""
    experiment = toy.experiment(tmp_path, "transfer.epsilon=0.25")
    assert strays(experiment.transfer, Arm.parse("sac/scratch")) == 0.25
    assert strays(experiment.transfer, Arm.parse("ppo/scratch")) == 0
    for given, arm, named in ((0.25, "sac/scratch", True), (0.0, "sac/scratch", False), (0.25, "ppo/scratch", False)):
        experiment = toy.experiment(tmp_path, f"transfer.epsilon={given}")
        assert ("epsilon" in cell_settings.narrowed(experiment, "goal", arm, 0, None)["transfer"]) == named


def test_a_run_strays(toy, tmp_path):
    shares = []
    for epsilon in (0.0, 1.0):
        run = toy.transfer(tmp_path / str(epsilon), "sac/scratch", f"transfer.epsilon={epsilon}")
        replay = logged_data.open_run(run)
        played = [replay.read(k)["action"][1:] for k in range(len(replay.episodes))]
        shares.append((abs(np.concatenate(played[-2:])) == 1).any(-1).mean())
    assert shares[0] < 0.2 and shares[1] == 1
