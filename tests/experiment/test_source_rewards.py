"""Sources whose reward cannot be computed in others' episodes: what is masked there, and what is refused."""

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch

import task_suites
from meta_latent import cli
from meta_latent.algorithms import registry as algorithms
from meta_latent.algorithms.registry import Arm
from meta_latent.data.collect import Noise, NoiseConfig, play_episode
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.experiment.learning import refusals, starts
from meta_latent.experiment.pretraining import logged_data, pretrain
from meta_latent.experiment.pretraining.model_folder import load
from meta_latent.experiment.pretraining.source_rewards import SourceRewards
from meta_latent.experiment.settings.schema import SourceConfig
from meta_latent.experiment.settings.suites import BoundTask, bind, bind_target
from meta_latent.models.learner import ModelLearner
from meta_latent.rng import Streams
from meta_latent.types import Spec
from task_suites import registry

PENDULUM = "mine/pendulum"
TASKS = {
    "train": [*({"dynamics": {"g": g}, "reward": "own"} for g in (5.0, 10.0)), {"reward": "height"}],
    "test": [{"dynamics": {"g": 3.0}, "reward": "height"}],
}


def height(inputs, action):
    """How high it stands."""
    return inputs[..., 0]


@pytest.fixture(autouse=True, scope="module")
def registered():
    """Three tasks, two of which pay what the environment itself pays: with other gravity nobody knows what that is."""
    task_suites.gymnasium_task(
        PENDULUM, "Pendulum-v1", reward={"own": None, "height": height}, tasks=TASKS, max_episode_steps=12,
        reward_inputs=lambda env: [np.cos(env.state[0])], reward_input_names=("cosine",))  # fmt: skip
    yield
    registry._ENTRIES.pop(PENDULUM)
    gymnasium.registry.pop(task_suites.gymnasium_id(PENDULUM))


def sources():
    """Gravity 5, gravity 10, height."""
    suite = task_suites.get(PENDULUM)
    return [BoundTask(f"{PENDULUM}#{k}", suite, task) for k, task in enumerate(suite.tasks("train"))]


def drawn(bound, count=30):
    """Sequences of an episode of each."""
    replay = SequenceReplay(Spec.of(bound[0].distribution), ReplayConfig())
    for k, source in enumerate(bound):
        rows = source.distribution.make_vector([source.task])
        replay.add_episode(play_episode(rows, Noise(rows.action_size, NoiseConfig()), k, Streams(k)), None, k)
    return replay.sequences(count, 5, np.random.default_rng(0))


def test_what_cannot_be_computed_is_masked_in_the_episodes_of_others():
    bound = sources()
    rewards = SourceRewards(bound)
    assert rewards.known.tolist() == [[True, False, True], [False, True, True], [False, False, True]]
    batch = drawn(bound)
    every, known = rewards.of(batch)
    assert torch.equal(known, rewards.known[batch.task_index]) and len(batch.task_index.unique()) == 3
    assert (every.abs().amax(1) > 0).equal(known)
    own = every[torch.arange(len(every)), :, batch.task_index]
    torch.testing.assert_close(own * batch.reward_present, batch.reward)


def test_what_can_be_computed_everywhere_has_no_mask():
    suite = task_suites.get("toy/hidden_goal", episode_steps=6)
    bound = [BoundTask(str(k), suite, task) for k, task in enumerate(suite.sample("train", 3, 0))]
    batch = drawn(bound)
    every, known = SourceRewards(bound).of(batch)
    assert known is None
    for k, source in enumerate(bound):
        assert torch.equal(every[..., k], suite.reward(source.task, batch.reward_inputs, batch.action).float())


def test_what_another_environment_pays_itself_is_not_taken_for_ones_own():
    """Both call their reward "own", and their tasks have equal dynamics."""
    names = ("mine/plus", "mine/minus")
    for name in names:
        task_suites.gymnasium_task(
            name,
            "Pendulum-v1",
            reward={"own": None},
            max_episode_steps=12,
            tasks={"train": [{"reward": "own"}], "test": [{"dynamics": {"g": 3.0}, "reward": "own"}]},
        )
    try:
        suites = [task_suites.get(name) for name in names]
        bound = [BoundTask(name, suite, suite.tasks("train")[0]) for name, suite in zip(names, suites, strict=True)]
        assert SourceRewards(bound).known.tolist() == [[True, False], [False, True]]
    finally:
        for name in names:
            registry._ENTRIES.pop(name)
            gymnasium.registry.pop(task_suites.gymnasium_id(name))


def test_sources_of_one_name_share_a_reward_where_it_is_known_to_both():
    first, second, other = (BoundTask("x", source.distribution, source.task) for source in sources())
    assert SourceRewards([other, other]).names == ("x",)
    rewards = SourceRewards([first, second, first, second])
    assert rewards.names == ("x", "x (2)") and rewards.names_of == ("x", "x (2)") * 2
    assert rewards.known.tolist() == [[True, False], [False, True]] * 2
    for pair in ([first, other], [other, first]):
        assert SourceRewards(pair).names == ("x", "x (2)")


def test_logged_episodes_of_a_source_may_be_of_any_task():
    first, _, other = sources()
    assert SourceRewards([first, BoundTask("again", first.distribution, first.task)]).known.all()
    alike = BoundTask("height", other.distribution, other.task.replace(dynamics=first.task.dynamics))
    assert SourceRewards([first, alike]).known.all()
    assert SourceRewards([first, alike], logged={1}).known.tolist() == [[True, True], [False, True]]
    assert SourceRewards([first, alike], logged={0}).known.all()  # others are refused


SHORT = ("model=state_rssm", "learner.filter_length=8", "pretrain.scripted=0", "suite={}")


def own(toy, out, *overrides):
    return toy.pretrain(out, *SHORT, f"pretrain.sources=[{{suite: {PENDULUM}, tasks: 3}}]", *overrides)


def test_each_reward_learns_from_what_is_known_of_it_and_resumes(toy, tmp_path, monkeypatch):
    seen, real = [], {name: getattr(ModelLearner, name) for name in ("joint", "filter")}
    for name, update in real.items():

        def watched(self, batch, *rest, update=update, task_rewards=None, known=None, **more):
            seen.append((batch, task_rewards, known))
            return update(self, batch, *rest, task_rewards=task_rewards, known=known, **more)

        monkeypatch.setattr(ModelLearner, name, watched)
    whole = own(toy, tmp_path / "whole")
    assert len(seen) == 7
    for batch, task_rewards, known in seen:
        assert known.dtype == torch.bool and known[torch.arange(4), batch.task_index].all() and not known.all()
        assert (task_rewards[:, 1:].abs().amax(1) > 0).equal(known)
    for queries in (2, 3):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(pretrain, "deferred", toy.StopAfter(queries))
            own(toy, tmp_path / "stopped")
    resumed = own(toy, tmp_path / "stopped")
    assert toy.first_difference(toy.outcome(whole), toy.outcome(resumed)) is None


def test_what_needs_a_reward_everywhere_is_refused_before_the_first_step(toy, tmp_path, capsys):
    given = ["pretrain", "toy", f"out={tmp_path}", *toy.small, *SHORT,
             f"pretrain.sources=[{{suite: {PENDULUM}, tasks: 3}}]"]  # fmt: skip
    own = ("pretrain.policy_updates=3", "pretrain.policy_source=1")
    assert cli.main([*given, "pretrain.relabel=0.5", *own]) == cli.WRONG_INPUT
    relabel, policy = capsys.readouterr().err.splitlines()
    assert f"what {PENDULUM}#1 pays is known in its own episodes alone: set pretrain.relabel=0" in relabel
    assert f"policy_source=1: its policy learns from all source episodes, but what {PENDULUM}#1 pays" in policy
    assert not (tmp_path / "toy" / "pretrain" / "0" / "checkpoints").exists()


def refusal(experiment, arm):
    """Why `arm` cannot learn the target `goal`; "" if it can."""
    try:
        refusals.check(experiment, bind_target(experiment, "goal"), Arm.parse(arm))
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


def test_trials_are_not_paid_as_a_task_pays_that_is_not_known_in_them(toy, tmp_path):
    goal = f"transfer.targets.goal={{suite: {PENDULUM}, tasks: 2, test_tasks: 1, episodes_per_trial: 2}}"
    given = ("suite={}", "model=state_rssm", goal)
    for algorithm in ("meld", "pearl"):
        said = refusal(toy.experiment(tmp_path, *given), f"{algorithm}/scratch")
        assert "what task 1 pays (what the environment itself pays) is not known in trials of task 0" in said
        assert f"give algorithms.{algorithm}.relabel=0, or another reward" in said
        alone = toy.experiment(tmp_path, *given, f"algorithms.{algorithm}.relabel=0")
        assert not refusal(alone, f"{algorithm}/scratch")
    assert not refusal(toy.experiment(tmp_path, *given), "rl2/scratch")  # is paid as it is played


SCENES = "{suite: metaworld/mt1, options: {scene: reach, state: true, reward: v2, episode_steps: 12}, tasks: 2}"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A finished pretraining on two tasks of Meta-World that pay its own reward."""
    from conftest import run_pretrain

    return run_pretrain(tmp_path_factory.mktemp("simulated"), *SHORT, f"pretrain.sources=[{SCENES}]")


def test_meta_worlds_own_rewards_are_sources(simulated):
    replay = logged_data.open_run(simulated)
    paid = np.concatenate([replay.read(k)["reward"][1:] for k in range(len(replay.episodes))])
    assert 0 < paid.min() < paid.max() <= 10
    assert load(simulated / "model").task_rewards == ("metaworld/mt1", "metaworld/mt1#1")


def test_its_logged_episodes_are_paid_as_their_own_task_alone(toy, simulated, tmp_path):
    chosen = toy.experiment(tmp_path, "suite={}")

    def sources_of(*rewards):
        options = {"scene": "reach", "state": True, "episode_steps": 12}
        settings = [SourceConfig("metaworld/mt1", index=k, data=str(simulated), options={**options, "reward": reward})
                    for k, reward in enumerate(rewards)]  # fmt: skip
        return settings, [bind(chosen, source) for source in settings]

    found = logged_data.of_sources(*sources_of("v2", "v2"))  # which take the episodes in turn, as they were played
    assert np.array_equal(found[1].episode(0)["reward"], logged_data.open_run(simulated).read(1)["reward"])
    logged_data.of_sources(*sources_of("reach_goal"))
    with pytest.raises(UserError, match="episode 1 of .* cannot be paid as metaworld/mt1 pays: reward 'v2' is comp"):
        logged_data.of_sources(*sources_of("v2"))


def test_a_targets_logged_data_are_not_paid_as_it_pays_where_nobody_knows(toy, simulated, tmp_path, monkeypatch):
    monkeypatch.setattr(algorithms, "_ENTRIES", dict(algorithms._ENTRIES))
    entry = dataclasses.replace(algorithms.get("rl2"), starts=("scratch",), needs=frozenset({"data"}))
    algorithms.register("cloner", entry)

    def said(reward):
        suite = f"suite: metaworld/mt1, split: train, options: {{state: true, episode_steps: 12, reward: {reward}}}"
        goal = f"transfer.targets.goal={{{suite}, data: {simulated / 'model'}}}"
        return refusal(toy.experiment(tmp_path, "suite={}", "model=state_rssm", goal), "cloner/scratch")

    assert not said("reach_goal")
    assert "what it pays (reach: Meta-World's second reward, 0 to 10) is known in its own episodes alone" in said("v2")


def test_source_episodes_are_not_paid_as_a_target_pays_where_nobody_knows(toy, simulated, tmp_path):
    """An agent that pays source episodes as its training tasks pay asks before it begins."""

    def parts(reward):
        suite = f"suite: metaworld/mt1, split: train, options: {{state: true, episode_steps: 12, reward: {reward}}}"
        chosen = toy.experiment(tmp_path, "suite={}", f"transfer.targets.goal={{{suite}}}")
        target = bind_target(chosen, "goal")
        return starts.latent_parts(chosen, target, Arm("meld", "pretrained+data"), simulated / "model")

    assert len(parts("reach_goal").source.replay) > 0
    with pytest.raises(UserError, match="what it pays .* is known in its own episodes alone"):
        parts("v2")
