"""What Python and the command line are given, and what they say of it."""

import types

import gymnasium
import numpy as np
import probe_agents
import pytest
import torch

import meta_latent
from meta_latent.algorithms import registry
from meta_latent.data.player import Player
from meta_latent.errors import UserError
from meta_latent.experiment.commands import evaluate
from meta_latent.experiment.pretraining import model_folder, source_data
from meta_latent.experiment.settings import config, experiments, extensions, suites
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.models.config import CoreConfig, EncoderConfig, EnsembleConfig, ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.types import Spec

SPEC = Spec({"top": (16, 16, 3)}, 3, 2)
SEEN = {"image_top": np.zeros((16, 16, 3), np.uint8), "proprio": np.zeros(3, np.float32)}
EPISODE = {key: np.stack([value] * 5) for key, value in SEEN.items()} | {
    "action": np.zeros((5, 2)), "reward": np.zeros(5), "reward_present": np.zeros(5)}  # fmt: skip
WRONG = [
    ({"image_top": np.zeros((32, 32, 3), np.uint8)}, r"image_top is uint8 of shape \(.*32, 32, 3\), expected uint8"),
    ({"image_top": np.zeros((16, 16, 3))}, "image_top is float64 of shape"),
    ({"proprio": np.zeros(4)}, r"proprio is float64 of shape \(.*4,?\), expected numbers of shape \(.*3,?\)"),
    ({"proprio": np.full(3, np.nan)}, "proprio holds numbers that are not finite"),
    ({"proprio": np.array(list("abc"))}, "proprio is <U1"),
    ({"image_top": None}, "it has no image_top, expected .*image_top"),
]


def changed(values, change, of=lambda value: value):
    """`values` with a change; None: without that key."""
    new = values | {key: value if value is None else of(value) for key, value in change.items()}
    return {key: value for key, value in new.items() if value is not None}


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_observations_of_another_shape_are_refused(change, words):
    assert SPEC.misfit(SEEN) is SPEC.misfit({**SEEN, "image_other": 3}) is None
    box = gymnasium.spaces.Box
    shown = gymnasium.spaces.Dict({"image_top": box(0, 255, (16, 16, 3), np.uint8), "proprio": box(-1, 1, (3,))})
    room = types.SimpleNamespace(name="mine/room", observation_space=shown, action_space=box(-1, 1, (2,)),
                                 reward_input_names=())  # fmt: skip
    player = Player(probe_agents.Probe(), room, None)
    for call in (player.act, lambda observation: player.end(observation, 0.0)):
        with pytest.raises(UserError, match=f"the observation does not fit mine/room: {words}"):
            call(changed(SEEN, change))
    with pytest.raises(UserError, match="got ndarray, expected a mapping with"):
        player.act(np.zeros(4))
    assert np.array_equal(player.act(SEEN), [0.5, 0.5])


@pytest.fixture(scope="module")
def model():
    """A small model of `SPEC`."""
    sizes = CoreConfig(memory=6, hidden=8), EnsembleConfig(2, 8, 1)
    return LatentStateModel(SPEC, ModelConfig(EncoderConfig(channels=(4, 4), keypoints=3), *sizes, head_hidden=8))


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_episodes_of_another_shape_are_refused(model, change, words):
    with pytest.raises(UserError, match=f"the episode does not fit the model: {words}"):
        model.encode(changed(EPISODE, change, lambda value: np.stack([value] * 5)))


def test_actions_of_another_shape_are_refused(model):
    latents = model.encode(EPISODE)
    with pytest.raises(UserError, match="it has no action, reward, reward_present, expected"):
        model.encode(SEEN)
    ahead = model.imagine(latents[2:4], np.zeros((2, 3, 2)))  # numpy's numbers will do
    assert torch.equal(ahead.sample, model.imagine(latents[2:4], torch.zeros(2, 3, 2)).sample)
    for wrong in (torch.zeros(3, 2), torch.zeros(1, 3, 2), torch.zeros(2, 3, 4), "ab", None):
        with pytest.raises(UserError, match=r"actions of shape \(.*\), expected \(2, H, 2\)"):
            model.imagine(latents[2:4], wrong)
    with pytest.raises(
        UserError, match=r"latents of shape \(\d+,\), expected \(B, \d+\): one is latents\[t : t \+ 1\]"
    ):
        model.imagine(latents[2], torch.zeros(1, 3, 2))


@pytest.mark.parametrize(("value", "told"), [(1.01, "1.01"), (-2, "-2"), (np.nan, "nan"), (np.inf, "inf")])
def test_actions_beyond_their_range_are_refused(model, value, told):
    latents, largest = model.encode(EPISODE), np.float64(1 + 1e-12)  # 1, as the model reads it
    model.encode(EPISODE | {"action": np.full((5, 2), largest)})
    model.imagine(latents[:1], np.full((1, 2, 2), largest))
    with pytest.raises(UserError, match=rf"model.imagine takes actions in \[-1, 1\], got values from {told} to"):
        model.imagine(latents[:1], np.full((1, 2, 2), value))
    with pytest.raises(UserError, match=r"model.encode takes actions in \[-1, 1\]|action holds numbers that are not"):
        model.encode(EPISODE | {"action": np.full((5, 2), value)})


@pytest.mark.parametrize(("change", "said"), [
    (lambda key, x: x[1:] if key == "action" else x,
     r"action has 4, proprio has 5, .* image_top has 5 rows: expected T \+ 1 of each, .* which are zeros in row 0"),
    (lambda key, x: x[:0], r"action has 0, .* image_top has 0 rows: expected T \+ 1 of each"),
    (lambda key, x: x[None], r"action is float64 of shape \(1, 5, 2\), expected numbers of shape \(T \+ 1, 2\); give "
                             "one episode, without a batch dimension"),
    (lambda key, x: 0.0 if key == "reward" else x, r"reward is float64 of shape \(\), expected .* \(T \+ 1,\)$"),
])  # fmt: skip
def test_what_is_wrong_with_an_episode_s_rows_is_said(model, change, said):
    with pytest.raises(UserError, match=f"the episode does not fit the model: {said}"):
        model.encode({key: change(key, value) for key, value in EPISODE.items()})


def test_nothing_is_imagined_of_no_actions(model):
    with pytest.raises(UserError, match=r"actions of shape \(1, 0, 2\) hold no steps: expected one at least"):
        model.imagine(model.encode(EPISODE)[:1], np.zeros((1, 0, 2)))


def test_python_s_mistakes_are_a_line(tmp_path):
    made = meta_latent.configure("toy", f"out={tmp_path}")
    arm = "expected one arm as text, such as 'ivg/scratch', got .*; of several arms each is a call of its own"
    for call in (meta_latent.transfer, meta_latent.evaluate):
        with pytest.raises(UserError, match=arm):
            call(made, "goal", ["sac/scratch"])
        with pytest.raises(UserError, match=r"target=\['goal'\]; choose from goal"):
            call(made, ["goal"], "sac/scratch")
    for call in (meta_latent.load, meta_latent.player, lambda path: meta_latent.export(path, "minari:toy/lqr-v0")):
        for wrong in (3, None):
            with pytest.raises(UserError, match=f"expected a path, got {wrong}"):
                call(wrong)


@pytest.mark.parametrize(("call", "options", "said"), [
    (meta_latent.evaluate, {"episodes": 0}, "episodes=0 .* should be a whole number from 1 to 100000"),
    (meta_latent.evaluate, {"episodes": -1}, "episodes=-1 .* should be a whole number from 1 to 100000"),
    (meta_latent.evaluate, {"episodes": "2"}, "episodes='2' .* should be int"),
    (meta_latent.evaluate, {"video": -1}, "video=-1 .* should be a whole number from 0 to 1000"),
    (meta_latent.adapt, {"episodes": 0}, "episodes=0 .* should be a whole number from 1 to 1000"),
    (meta_latent.adapt, {"trials": 0}, "trials=0 .* should be a whole number from 1 to 100000"),
    (meta_latent.adapt, {"trials": -1}, "trials=-1 .* should be a whole number from 1 to 100000"),
    (meta_latent.adapt, {"maps": 0.5}, "maps=0.5 .* should be int"),
    (meta_latent.adapt, {"cleared": 1}, "cleared=1 .* should be bool"),
    (meta_latent.adapt, {"trial": 1}, "unknown key 'trial' .*; did you mean 'trials'"),
])  # fmt: skip
def test_counts_have_the_ranges_of_the_command_line(tmp_path, call, options, said):
    with pytest.raises(UserError, match=said):
        call(meta_latent.configure("toy", f"out={tmp_path}"), "goal", "sac/scratch", **options)


@pytest.mark.parametrize("whole", [2.0, np.int64(2)])
def test_whole_numbers_are_counts_however_they_are_written(tmp_path, monkeypatch, whole):
    told = []
    monkeypatch.setattr(evaluate, "evaluate", told.append)
    meta_latent.evaluate(meta_latent.configure("toy", f"out={tmp_path}"), "goal", "sac/scratch", episodes=whole)
    assert (told[0].episodes, type(told[0].episodes)) == (2, int)


@pytest.mark.parametrize("override", [{"seed": 1}, ["seed=1"], ("seed=1",), 3])
def test_overrides_are_text(override):
    with pytest.raises(UserError, match=r"override .* is not text of the form key=value, such as 'seed=1'; of several"):
        meta_latent.configure("toy", override)


def test_numbers_of_numpy_and_ranges_are_taken():
    given = {"name": "x", "seed": np.int64(3), "transfer": {"seeds": range(3), "thresholds": np.array([0.5, 0.75])}}
    made = meta_latent.configure(given)
    assert (made.seed, made.transfer.seeds, made.transfer.thresholds) == (3, (0, 1, 2), (0.5, 0.75))
    assert type(made.seed) is int and config.to_yaml(made)
    ones = meta_latent.configure({"name": "x", "transfer": {"seeds": [np.int32(1), torch.tensor(2)]}})
    assert ones.transfer.seeds == (1, 2)


@pytest.mark.parametrize("wrong", [{1, 2}, [object()], [np.longdouble(3)]])
def test_what_no_setting_can_be_is_refused_by_its_key(wrong):
    with pytest.raises(UserError, match=r"transfer.seeds(\[0\])?: Value .* is not .*; give numbers, text, lists and"):
        meta_latent.configure({"name": "x", "transfer": {"seeds": wrong}})


def test_a_run_of_an_algorithm_that_is_not_registered_says_so(probes, tmp_path):
    _, (folder,) = probe_agents.learned(tmp_path, "silent/scratch", target=probe_agents.ONE)
    del registry._ENTRIES["silent"]
    for opened in (meta_latent.load, meta_latent.player):
        said = "the run of silent/scratch was made by the algorithm 'silent', which is not registered here: import"
        with pytest.raises(UserError, match=said):
            opened(folder)


@pytest.mark.parametrize(("given", "said"), [
    ("seeds=[0,1]", "unknown key 'seeds' .*; did you mean 'transfer.seeds'"),
    ("thresholds=[0.5]", "unknown key 'thresholds' .*; did you mean 'transfer.thresholds'[?]"),
    ("episodes=3", "unknown key 'episodes' .*; did you mean 'transfer.evaluation.episodes'[?]"),
    ("ivg.horizon=3", "unknown key 'ivg' .*; did you mean 'algorithms.ivg'[?]"),
    ("horizon=3", "unknown key .*; did you mean 'learner.horizon', 'algorithms.cem.horizon', .* or [0-9]+ more[?]"),
    ("transfr.seeds=[0]", "unknown key 'transfr' .*; did you mean 'transfer'[?]"),
    ("algorithm=ivg", "unknown key 'algorithm' .*; did you mean 'arm'"),
    ("transfer.budget_env_steps=500", r"should be a mapping, each value int, such as \{default: 500\}"),
    ("imports=[my_planner.py]", "'my_planner.py' is a file; a module is named without .py: my_planner"),
    ("transfer.arms=[qwerty/start]", r"there is no arm 'qwerty/start'; imports=\[my_package\] registers your own"),
])  # fmt: skip
def test_what_is_meant_is_named(given, said):
    with pytest.raises(UserError, match=said):
        experiments.load(ExperimentConfig, "toy", [given])


def test_folders_are_told_from_those_beside_them(tmp_path):
    (tmp_path / "0" / "model").mkdir(parents=True)
    (tmp_path / "0" / "model" / "model.json").write_text("{}")
    for read in (model_folder.read_card, source_data.read_card, meta_latent.load):
        with pytest.raises(UserError, match="/0 holds a model, in .*/0/model: name that folder"):
            read(tmp_path / "0")
        with pytest.raises(UserError, match="there is no folder .*/gone"):
            read(tmp_path / "gone")


def test_options_that_no_suite_takes_say_how_to_take_them_out(monkeypatch):
    monkeypatch.setattr(suites.task_suites, "names", lambda: ["toy/lqr"])
    monkeypatch.setattr(suites.task_suites, "get", refusing)
    made = config.load(ExperimentConfig, [], ["suite.image_size=16"])
    for options, key in (({}, "suite"), ({"image_size": 8}, "task.options")):
        wanted = types.SimpleNamespace(suite="toy/lqr", options=options)
        with pytest.raises(UserError, match=rf"^{key}.image_size: .* there is none; {key}={{}} takes out"):
            suites.bind(made, wanted)


def refusing(name, **options):
    raise suites.task_suites.SuiteError(f"unknown option of {name} 'image_size': there is none")


def test_a_module_s_name_is_no_file_s():
    with pytest.raises(UserError, match="named without .py: my.planner"):
        extensions.import_packages(["my/planner.py"])
