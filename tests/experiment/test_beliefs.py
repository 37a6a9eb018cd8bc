"""Maps of the rewards that a belief expects: whose belief is right has a right map; what is written, what is shown."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from probe_agents import MANY, learned

import meta_latent
import task_suites
from meta_latent import cli
from meta_latent.algorithms.registry import Arm
from meta_latent.data.collect import Noise, NoiseConfig, Played, play
from meta_latent.experiment.learning import beliefs as learning
from meta_latent.experiment.learning.beliefs import Workspace, believed, chosen_tasks, visited
from meta_latent.experiment.learning.evaluation import Evaluation
from meta_latent.experiment.report.figures import belief_figures, trial_figures
from meta_latent.experiment.report.reading import beliefs
from meta_latent.experiment.report.reading.beliefs import Belief, Facts, moments
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import EvaluationConfig, ExperimentConfig
from meta_latent.experiment.settings.suites import bind_target
from meta_latent.rng import Streams
from task_suites import registry
from task_suites.toy.hidden_goal import HiddenGoal

SUITE = {"observation": "state", "episode_steps": 8}
PICTURES = {"suite": "toy/hidden_goal", "options": {"image_size": 4, "episode_steps": 4}, "tasks": 3, "test_tasks": 2,
            "episodes_per_trial": 2}  # fmt: skip


@pytest.fixture(scope="module")
def suite():
    return task_suites.get("toy/hidden_goal", **SUITE)


@pytest.fixture(scope="module")
def wandered(suite):
    """Episodes of a random walk in 60 environments."""
    rows = suite.make_vector(suite.sample("train", 60, 0))
    actor, seeds = Noise(2, NoiseConfig()), np.arange(60)[:, None]
    return [e for (e,) in play(rows, actor, seeds, Streams(0), explore=True, keep=True).episodes]


class Knows:
    """Expects nothing before observation number 5, and then what `task` pays."""

    heads = 1

    def __init__(self, suite, task):
        self.suite, self.task = suite, task

    def believed_rewards(self, trials, frames):
        paid = self.suite.reward(self.task, frames.reward_inputs, frames.action)
        return paid.expand(*trials.reward.shape, -1) * (torch.arange(trials.reward.shape[1]) >= 5)[None, :, None]


def facts(**changes):
    """Of a trial of two episodes of four observations."""
    given = {"arm": "seer/scratch", "target": "goal", "seed": 0, "task": "goal#test1", "below": 0, "tasks": 2,
             "returns": (1.0, 2.5), "lengths": (4, 4), "axes": ("x_metres", "y_metres"),
             "extent": (-1.0, 1.0, -1.0, 1.0), "goal": (0.5, 0.6), "told": {"spread": list(range(8))}}  # fmt: skip
    return Facts(**given | changes)


def belief(scenes=True, **changes):
    """Map k holds k everywhere but at a blank point; scene k is k."""
    maps = np.arange(8, dtype=np.float32)[:, None, None] * np.ones((6, 6), np.float32)
    maps[:, 0, 0] = np.nan
    pictures = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((5, 5, 3), np.uint8)
    return Belief(
        facts(**changes),
        np.arange(8),
        maps,
        np.linspace(0, 1, 36).reshape(6, 6).astype(np.float32),
        pictures if scenes else np.zeros((0, 1, 1, 3), np.uint8),
        np.linspace(0, 0.7, 16).reshape(8, 2),
    )


# Maps


def test_whoever_knows_the_truth_has_its_map(suite, wandered):
    """Minus the distance to the goal at every point; before it knows, nothing."""
    task, workspace = suite.sample("test", 1, 0)[0], Workspace.of(suite, wandered)
    found = believed(Knows(suite, task), workspace, facts(), workspace.paid(task), wandered[:1], [None] * 9)
    middle = (np.arange(48) + 0.5) / 24 - 1
    points = np.stack(np.meshgrid(middle, middle), -1)
    truth = -np.linalg.norm(points - suite.goal(task), axis=-1)
    there = np.isfinite(found.paid)
    assert there.mean() > 0.9 and np.abs(found.paid - truth)[there].max() < 0.2
    assert np.abs(found.paid - truth)[there].mean() < 0.03
    np.testing.assert_allclose(found.maps[5:], np.broadcast_to(found.paid, (4, 48, 48)), atol=1e-5)
    assert (found.maps[:5][:, there] == 0).all() and np.isnan(found.maps[:5][:, ~there]).all()
    np.testing.assert_array_equal(found.places, wandered[0]["reward_inputs"])
    assert found.observations.tolist() == list(range(9)) and found.scenes.shape == (0, 1, 1, 3)


def test_a_point_of_a_map_is_a_weighted_mean_of_the_frames_around_it(suite):
    places = np.random.default_rng(0).uniform(-1, 0, (30, 2)).astype(np.float32)
    values = np.random.default_rng(1).normal(size=30)
    workspace = Workspace.of(suite, [episode(places)])
    kept = workspace.frames.reward_inputs[0].numpy()
    order = [int(np.flatnonzero((places == place).all(1))[0]) for place in kept]
    found = workspace.map(values[order])
    cell, row, column = 2 / 24, 9, 14  # y, x
    point = np.array([-1 + (column + 0.5) * 2 / 48, -1 + (row + 0.5) * 2 / 48])
    total = weight = 0.0
    for place, value in zip(kept, values[order], strict=True):
        w = np.exp(-0.5 * (np.linalg.norm(point - place) / (cell / 2)) ** 2)
        total, weight = total + w * value, weight + w
    assert found[row, column] == pytest.approx(total / weight)
    assert np.isnan(found[-1, -1])  # nobody was there
    np.testing.assert_allclose(workspace.map(np.full(len(order), 3.0))[np.isfinite(found)], 3.0)


def episode(places):
    """Arrays of one episode that visited `places`; its first observation is elsewhere."""
    inputs = np.concatenate([[[0.9, 0.9]], places]).astype(np.float32)
    count = len(inputs)
    flags = {name: np.zeros(count, bool) for name in ("is_first", "is_last", "is_terminal", "is_task_first")}
    return {"proprio": inputs, "reward_inputs": inputs, "action": np.zeros((count, 2), np.float32),
            "reward": np.zeros(count, np.float32), "reward_present": np.ones(count, np.float32), **flags}  # fmt: skip


def test_frames_are_thinned_evenly_and_none_is_outside(suite):
    rng = np.random.default_rng(0)
    crowd, corner = rng.uniform(-0.08, 0.0, (500, 2)), np.array([[-0.99, 0.99], [1.5, 0.0]])
    kept = Workspace.of(suite, [episode(np.concatenate([crowd, corner]))]).frames.reward_inputs[0].numpy()
    assert len(kept) == learning.PER_CELL + 1 and kept.max() < 1  # one cell, its limit; the corner, not the outside
    assert any(np.allclose(place, [-0.99, 0.99]) for place in kept)


@pytest.fixture
def own(monkeypatch):
    """A function: the name of a suite with the scenes of another and rewards of one's own, without a script."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    def make(base):
        task_suites.with_rewards("mine/task", base, reward=lambda inputs, action, k: k * inputs[..., 0],
                                 tasks={"train": [{"k": 1.0}, {"k": 2.0}], "test": [{"k": 3.0}]})  # fmt: skip
        return "mine/task"

    return make


def bound(target):
    """The target that an experiment calls "goal"."""
    experiment = config.load(ExperimentConfig, [{"name": "x", "transfer": {"targets": {"goal": target}}}])
    return bind_target(experiment, "goal")


def test_tasks_without_scripts_are_visited_at_random(own):
    nothing = Played(np.zeros((1, 1)), np.zeros((1, 1), bool), ())
    for target, actors in ((MANY, 2), (MANY | {"suite": own("toy/hidden_goal"), "tasks": 2, "test_tasks": 1}, 1)):
        found = visited(bound(target), nothing)
        assert len(found) == actors * learning.EPISODES and {len(e["reward"]) for e in found} == {5}


def test_what_is_paid_is_what_was_learned_from():
    """A target that shows sparse rewards and learns from dense ones is drawn with the dense ones."""
    sparse = MANY | {"options": {"observation": "state", "reward": "sparse"}}
    suite, tasks = bound(sparse | {"training_options": {"reward": "dense"}}).learned_from()
    shown, same = bound(sparse).learned_from()
    assert [suite.goal(task) for task in tasks] == [shown.goal(task) for task in same]
    here = np.array([[0.1, 0.2]], np.float32)
    assert suite.reward(tasks[0], here, None)[0] < 0 and shown.reward(same[0], here, None)[0] == 0


def test_tasks_are_shown_evenly_from_the_hardest_on():
    first = np.array([5.0, 1.0, 3.0, 4.0])
    assert chosen_tasks(first, 1) == [(1, 0)] and chosen_tasks(first, 2) == [(1, 0), (3, 2)]
    assert chosen_tasks(first, 9) == [(1, 0), (2, 1), (3, 2), (0, 3)]


def test_a_trial_is_played_again_as_it_was(probes):
    entry, target = Arm.parse("counter/scratch").entry, bound(MANY)
    evaluation = Evaluation(target, entry, EvaluationConfig(), 4, repeats=3)
    agent = entry.build(None, None)
    whole = evaluation.play(agent, keep=True)
    for number in (0, 2, 4):
        seen = []
        one = evaluation.again(agent, number, seen.append, keep=True)
        np.testing.assert_allclose(one.returns[0, 0], whole.returns[number // 3, number % 3])
        np.testing.assert_array_equal(one.episodes[0][1]["reward_inputs"], whole.episodes[number][1]["reward_inputs"])
        assert len(seen) == 10
    evaluation.close()


# What is kept


def test_times_and_paths():
    one = belief()
    assert [one.time(k) for k in (0, 3, 4, 7)] == [(0, 0), (0, 3), (1, 0), (1, 3)]
    np.testing.assert_array_equal(one.path(5), one.places[4:6])
    assert moments((21, 21)) == [0, 5, 10, 20, 31] and moments((21,)) == [0, 5, 10, 20]
    assert moments((2, 2)) == [0, 1, 2] and moments((5, 3, 9)) == [0, 1, 2, 4, 6]


@pytest.mark.parametrize("scenes", [True, False])
def test_what_is_saved_is_read(tmp_path, scenes):
    one = belief(scenes).at([0, 3, 5])
    found = beliefs.read(beliefs.save(one, tmp_path / "belief_0.npz"))
    assert found.facts == one.facts and found.place == ("goal", "seer", "scratch", "0")
    for name in beliefs.ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(one, name))
    assert found.maps[:, 3, 3].tolist() == [0, 3, 5] and len(found.scenes) == 3 * scenes
    assert found.at([3]).observations.tolist() == [3]


def test_the_first_seed_of_an_arm_is_found_and_damage_is_told(tmp_path):
    folder = tmp_path / "adapt" / "goal" / "seer" / "scratch"
    for seed in (10, 2):
        beliefs.save(belief(seed=seed), folder / str(seed) / "belief_0.npz")
    (folder / "2" / "belief_1.npz").write_bytes(b"nothing")
    short = dataclasses.replace(belief(), places=np.zeros((3, 2)))
    beliefs.save(short, folder / "2" / "belief_2.npz")
    notes = []
    assert [one.facts.seed for _, one in beliefs.find(tmp_path, notes)] == [2]
    assert len(notes) == 2 and all("is left out" in note for note in notes)


# What is drawn


def images(figure):
    return [(axes, image) for axes in figure.axes for image in axes.images]


@pytest.mark.drawn
def test_a_strip_has_scenes_maps_of_one_scale_the_goal_and_the_path():
    one = belief().at([0, 3, 5])
    figure = belief_figures.strip(one)
    maps = [(axes, image) for axes, image in images(figure) if image.get_array().shape == (6, 6)]
    assert len(maps) == 4 and len(images(figure)) == 7
    values = [np.ma.filled(image.get_array(), np.nan)[3, 3] for _, image in maps]
    assert values[:3] == [0, 3, 5] and values[3] == one.paid[3, 3]
    assert len({image.get_clim() for _, image in maps}) == 1 and maps[0][1].get_clim()[1] == 1
    goals = [line for axes, _ in maps for line in axes.lines if line.get_label() == "goal"]
    assert len(goals) == 4 and all((line.get_xdata()[0], line.get_ydata()[0]) == (0.5, 0.6) for line in goals)
    paths = [line for axes, _ in maps for line in axes.lines if line.get_label().startswith("path")]
    np.testing.assert_array_equal(np.stack(paths[2].get_data(), 1), one.places[4:6])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["episode 1\nbefore any reward", "episode 1\nend", "episode 2\nstep 1", "what is paid"]
    (curve,) = [axes for axes in figure.axes if axes.get_xlabel() == "observation of the trial"]
    assert curve.lines[0].get_ydata().tolist() == list(range(8))
    assert curve.lines[1].get_xdata().tolist() == [0, 3, 5]


@pytest.mark.drawn
def test_a_strip_does_without_scenes_goal_and_what_is_told():
    figure = belief_figures.strip(belief(False, goal=None, told={}).at([0, 3]))
    assert len(images(figure)) == 3 and not any(axes.get_xlabel().startswith("observation") for axes in figure.axes)
    assert [axes.get_title() for axes in figure.axes][:2] == ["episode 1\nbefore any reward", "episode 1\nend"]
    assert not [line for axes in figure.axes for line in axes.lines if line.get_label() == "goal"]


def test_words_for_who_sees_no_picture():
    one = belief().at([0, 3, 5])
    assert belief_figures.label(one) == (
        "Rewards that the belief of seer/scratch expects over the workspace of goal, goal#test1: episode 1 before any "
        "reward, episode 1 end, episode 2 step 1; beside them what the task pays")  # fmt: skip
    assert belief_figures.caption(one) == ("seer/scratch, seed 0, goal#test1: the trial paid 1.0 in episode 1, 2.5 in "
                                           "episode 2. None of 2 test tasks paid less in the first.")  # fmt: skip
    alone = belief_figures.caption(belief(tasks=1, returns=(1.0,)))
    assert alone.endswith("the trial paid 1.0 in episode 1.")
    assert "the trial paid −1.5 in episode 1." in belief_figures.caption(belief(tasks=1, returns=(-1.5,)))


@pytest.mark.parametrize("scenes", [True, False])
def test_a_film_has_a_picture_of_every_moment(scenes):
    frames = list(belief_figures.film(belief(scenes).at([0, 6])))
    assert len(frames) == 2 and frames[0].shape == frames[1].shape and frames[0].dtype == np.uint8
    height, width = frames[0].shape[:2]
    assert width > 1.6 * height if scenes else width < height
    before, after = (frame[height // 2 + 40, width - 40].astype(int) for frame in frames)
    assert before[2] > before[1] and after[1] > after[2]  # dark violet where nothing is expected, yellow where much is


# The command and the page


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """No other figures, which take most of the time."""
    monkeypatch.setattr(trial_figures, "figures_of", lambda *given: [])


def files(place):
    return sorted(path.name for path in place.glob("belief_*"))


def test_adapt_draws_the_first_seed_of_who_can_tell_and_the_report_shows_it(probes, tmp_path, capsys):
    path, folders = learned(tmp_path, "seer/scratch", target=PICTURES, seeds=(0, 1))
    root = folders[0].parents[4]
    assert cli.main(["adapt", str(path), "target=goal"]) == 0
    place = root / "adapt/goal/seer/scratch/0"
    assert files(place) == ["belief_0.mp4", "belief_0.npz", "belief_0.png", "belief_1.npz", "belief_1.png"]
    assert len(list((root / "adapt").rglob("belief_*"))) == 5 and "0/belief_1.png" in capsys.readouterr().out
    one = beliefs.read(place / "belief_0.npz")
    assert one.facts.arm == "seer/scratch" and one.facts.lengths == (5, 5)
    assert one.observations.tolist() == [0, 1, 2, 4, 7]
    np.testing.assert_allclose(np.nanmean(one.maps, (1, 2)), one.observations, rtol=1e-5)  # what it says of every frame
    assert one.facts.told["number"] == list(range(10)) and len(one.scenes) == 5 and one.paid.shape == (48, 48)
    arms = json.loads((root / "adapt/goal/adaptation.json").read_text())["arms"]
    returns = np.array(arms["seer/scratch"]["seeds"]["0"]["returns"])[:, 0]  # of each task's first trial
    assert one.facts.returns == pytest.approx(min(returns.tolist()))
    meta_latent.report(root)
    page = (root / "report.html").read_text()
    assert page.count('aria-label="Rewards that the belief of seer/scratch expects over the workspace of goal') == 2
    assert page.count('src="data:video/mp4') == 1 and "None of 2 test tasks paid less in the first." in page
    (place / "belief_0.npz").write_bytes(b"")
    assert any("belief_0.npz is left out" in warning for warning in meta_latent.report(root)["warnings"])


def test_as_many_as_asked_for_and_old_ones_go(probes, tmp_path):
    path, folders = learned(tmp_path, "seer/scratch")
    root = folders[0].parents[4]
    place = root / "adapt/goal/seer/scratch/0"
    for count, wanted in ((2, 5), (1, 3)):
        assert cli.main(["adapt", str(path), "target=goal", f"maps={count}"]) == 0
        assert len(files(place)) == wanted
    assert cli.main(["adapt", str(path), "target=goal", "maps=0"]) == 0
    assert not files(place)


def test_a_family_without_a_workspace_has_no_maps(probes, tmp_path):
    counting = {"suite": "toy/counting", "options": {"image_size": 4, "episode_steps": 4}, "episodes_per_trial": 2}
    path, folders = learned(tmp_path, "seer/scratch", target=counting)
    root = folders[0].parents[4]
    assert cli.main(["adapt", str(path), "target=goal"]) == 0
    assert (root / "adapt/goal/adaptation.json").exists() and not list((root / "adapt").rglob("belief_*"))
    meta_latent.report(root)
    assert "What the belief expects" not in (root / "report.html").read_text()


def test_a_workspace_where_nobody_was_has_no_maps(probes, tmp_path, monkeypatch):
    path, folders = learned(tmp_path, "seer/scratch")
    far = {"x_metres": (8.0, 9.0), "y_metres": (8.0, 9.0)}
    monkeypatch.setattr(HiddenGoal, "workspace", far)
    with pytest.warns(UserWarning, match="no maps: no episode of toy/hidden_goal came into its workspace"):
        assert cli.main(["adapt", str(path), "target=goal"]) == 0
    assert not list((folders[0].parents[4] / "adapt").rglob("belief_*"))
