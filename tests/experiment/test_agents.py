"""Control arms: what each starts from, what source data do and do not, third-party learners."""

import json
import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch

import task_suites
from meta_latent.algorithms.registry import Arm, arms
from meta_latent.data import windows
from meta_latent.data.collect import play_episode
from meta_latent.data.latents import embed_episode
from meta_latent.data.replay import SequenceReplay
from meta_latent.data.source import SourceData
from meta_latent.errors import UserError
from meta_latent.experiment.learning import cells, starts
from meta_latent.experiment.pretraining import model_folder, pretrain, source_data
from meta_latent.experiment.runs import metrics
from meta_latent.experiment.settings import config, suites
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.policies.base_agent import BaseAgent
from meta_latent.policies.reward_heads import even
from meta_latent.rng import Streams
from meta_latent.types import Spec

OURS = [str(arm) for arm in arms() if arm.algorithm in ("ivg", "sac")]


@pytest.fixture
def opened(toy, toy_model, tmp_path):
    """A function: an arm's agent, its target's spec and three of its episodes."""

    def build(arm, *overrides):
        experiment = toy.experiment(tmp_path, f"pretrained={toy_model / 'model'}", *overrides)
        target = suites.bind_target(experiment, "goal")
        agent = starts.build(experiment, target, Arm.parse(arm), 0, toy_model / "model")
        spec = Spec.of(target.distribution)
        replay = SequenceReplay(spec, experiment.transfer.replay, None, agent.model.heads)
        rows, streams = target.distribution.make_vector([target.tasks[0].task]), Streams(0)
        for seed in range(3):
            replay.add_episode(play_episode(rows, agent, seed, streams))
        return agent, replay

    return build


def weights(module):
    return torch.cat([value.flatten().float() for value in module.state_dict().values()])


@pytest.mark.parametrize("arm", OURS)
def test_every_arm_starts_from_what_its_name_says(opened, toy_model, arm):
    agent, _ = opened(arm)
    stored = weights(model_folder.load(toy_model / "model"))
    same = len(weights(agent.model)) == len(stored) and bool((weights(agent.model) == stored).all())
    assert same == ("scratch" not in arm)
    policy = model_folder.load_policy(toy_model / "model")
    mine = agent.networks["policy"].state_dict()
    same = all(torch.equal(policy[f"policy.{k}"], v) for k, v in mine.items() if policy[f"policy.{k}"].shape == v.shape)
    assert same == (arm == "ivg/policy")
    assert torch.equal(weights(agent.average_actor), weights(agent.actor))
    assert (agent.source is not None) == arm.endswith("+data")
    assert agent.updates == 0 and not any(o.state for o in agent.learner.optimisers.values())


def with_rewards(replay, value):
    """A copy in memory whose rewards are all `value`."""
    copy = SequenceReplay(replay.spec, replay.config.__class__(capacity=10**6), None, replay.heads)
    for index in range(len(replay.episodes)):
        rows = {key: np.array(values) for key, values in replay.read(index).items()}
        rows["reward"][1:] = value
        copy.add_episode(rows, rows["head_mask"], int(rows["task_index"]))
    return copy


@pytest.mark.parametrize("arm", ["ivg/pretrained+data", "ivg/scratch+data"])
def test_rewards_of_source_episodes_change_nothing(opened, arm):
    ends = []
    for value in (0.0, 100.0):
        agent, replay = opened(arm)
        agent.source = SourceData(with_rewards(agent.source.replay, value), agent.source.at_once)
        agent.update(replay, Streams(1))
        ends.append(torch.cat([weights(agent.model), *(weights(n) for n in agent.networks.values())]))
    assert torch.equal(*ends)
    before = weights(opened(arm)[0].actor)
    assert not torch.equal(before, weights(agent.actor))  # the comparison above is of agents that learned


@pytest.mark.parametrize("start", ["pretrained", "scratch"])
def test_source_data_are_half_of_every_batch_and_cost_no_updates(opened, start, monkeypatch):
    counts, shares = {}, []
    for arm in (f"ivg/{start}", f"ivg/{start}+data"):
        agent, replay = opened(arm)
        calls = counts[arm] = []
        for stage in ("joint", "transition"):
            update = getattr(agent.learner, stage)
            monkeypatch.setattr(
                agent.learner,
                stage,
                lambda batch, *rest, update=update, stage=stage, calls=calls: (
                    calls.append((stage, len(batch.actions if stage == "transition" else batch.action)))
                    or update(batch, *rest)
                ),
            )
        if agent.source is not None:
            for name in ("sequences", "windows"):
                draw = getattr(agent.source, name)
                monkeypatch.setattr(
                    agent.source, name, lambda *given, draw=draw: shares.append(given[0]) or draw(*given)
                )
        agent.update(replay, Streams(1))
        counts[arm].append(agent.updates)
    plain, data = counts.values()
    assert plain == data and len(plain) > 3
    config = agent.learner.config
    halves = {config.transition_batch_size // 2, agent.config.batch_size // 2}
    assert set(shares) == halves | ({config.batch_size // 2} if start == "scratch" else set())


def test_a_run_is_not_told_of_the_source_data_again(opened, monkeypatch):
    agent, replay = opened("ivg/pretrained+data")
    agent.update(replay, Streams(1))
    cache, told = agent.source.cache, []
    draw = cache.windows
    monkeypatch.setattr(cache, "windows", lambda *given: told.append(windows._TOLD.get()) or draw(*given))
    with windows.telling([]):
        agent._windows(20, 0, Streams(2))
    assert told == [None]


def test_source_and_target_rows_are_mixed(opened):
    agent, replay = opened("ivg/pretrained+data")
    agent.update(replay, Streams(1))
    rows, streams = 200, Streams(2)
    starts = agent._windows(rows, 0, streams).samples[:, 0]
    own = (starts[:, None] == agent.cache.flat()[0][None]).all(-1).any(-1)
    assert own.sum() == rows // 2
    for head in even(rows, agent.model).unique():
        share = own[even(rows, agent.model) == head].float().mean()
        assert abs(share - 0.5) < 5 * (0.25 / (rows / agent.model.heads)) ** 0.5


def test_source_latents_follow_the_encoder(opened):
    agent, replay = opened("ivg/scratch+data", "transfer.source_episodes_at_once=2")
    agent.update(replay, Streams(1))
    source = agent.source
    assert source.turn == 1 and source.cache.episodes == 2
    wanted = embed_episode(agent.model, source.replay, source.replay.read(2))  # 0 and 1 had their turn
    assert torch.equal(source.cache.flat()[0][: len(wanted)], wanted)
    stale = embed_episode(opened("ivg/scratch+data")[0].model, source.replay, source.replay.read(2))
    assert not torch.equal(stale, wanted)


def test_source_episodes_are_spread_evenly(opened):
    agent, _ = opened("ivg/pretrained+data", "transfer.source_episodes=3")
    everything, _ = opened("ivg/pretrained+data")
    numbers = [[(e.start, e.stop) for e in a.source.replay.episodes] for a in (agent, everything)]
    count = len(numbers[1])
    assert numbers[0] == [numbers[1][0], numbers[1][round((count - 1) / 2)], numbers[1][-1]]


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda model: (model / "source.json").unlink(), "source.json is missing"),
        (lambda model: (model / "source.json").write_text("{"), "damaged"),
        (
            lambda model: next((model.parent / "source").glob("*/reward.bin")).write_bytes(b"x"),
            "were changed",
        ),
        (lambda model: (model.parent / "source").rename(model.parent / "elsewhere"), "are gone"),
    ],
)
def test_missing_or_changed_source_data_are_refused(toy_model, tmp_path, damage, word):
    import shutil

    shutil.copytree(toy_model, tmp_path / "run")
    model = tmp_path / "run" / "model"
    spec = Spec.from_dict(model_folder.read_card(model)["spec"])
    assert len(source_data.open_replay(model, spec, 2, 5).episodes) == 5
    with pytest.raises(UserError, match="3"):
        source_data.open_replay(model, spec, 3, 5)
    damage(model)
    with pytest.raises(UserError, match=word):
        source_data.open_replay(model, spec, 2, 5)


def test_a_policy_of_another_size_is_refused(opened):
    with pytest.raises(UserError, match="policy.*algorithms.ivg"):
        opened("ivg/policy", "algorithms.ivg.hidden=12")


def test_a_model_without_a_policy_is_refused(toy, tmp_path):
    folder = toy.pretrain(tmp_path)
    with pytest.raises(UserError, match="pretrain.policy_updates"):
        toy.transfer(tmp_path, "ivg/policy")
    assert "policy" not in json.loads((folder / "model" / "model.json").read_text())


@pytest.mark.parametrize("arm", ["sac/policy", "sb3_sac/pretrained", "ivg", "nothing/scratch"])
def test_unknown_arms_are_refused_with_those_there_are(toy, tmp_path, arm):
    algorithm = arm.partition("/")[0]
    there_are = r"ivg/scratch\+data" if algorithm in ("ivg", "nothing") else f"{algorithm}/scratch"
    with pytest.raises(UserError, match=there_are):
        toy.experiment(tmp_path, f"transfer.arms=[{arm}]")
    with pytest.raises(UserError, match=there_are):
        toy.transfer(tmp_path, arm)


def test_which_arms_wait_for_pretraining():
    needing = {str(arm) for arm in arms() if arm.needs_model and arm.algorithm in ("ivg", "sac", "sb3_sac")}
    assert needing == {
        "ivg/pretrained",
        "ivg/pretrained+data",
        "ivg/scratch+data",
        "ivg/policy",
        "sac/pretrained",
    }


def test_a_missing_extra_names_the_command_that_installs_it(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(UserError, match=r"pip install '\.\[baselines\]'"):
        toy.transfer(tmp_path, "sb3_sac/scratch")
    with pytest.raises(UserError, match="baselines"):
        cells.schedule(toy.experiment(tmp_path, "transfer.arms=[sb3_sac/scratch]"), "toy", [])
    assert not list(tmp_path.rglob("run.json"))


@pytest.mark.baselines
def test_stable_sac_is_measured_like_every_other_arm(toy, tmp_path, capsys):
    folders = [
        toy.transfer(tmp_path, arm, "algorithms.sb3_sac.batch_size=8", "algorithms.sb3_sac.updates_per_step=0.2")
        for arm in ("sb3_sac/scratch", "sac/scratch")
    ]
    stable, ours = (metrics.read(folder, "evaluation") for folder in folders)
    assert [r["env_steps"] for r in stable] == [r["env_steps"] for r in ours] == [50, 100]
    assert stable[-1]["updates"] == 20 and stable[0]["score"] != stable[1]["score"]  # 5 of each episode's 25 steps
    records = [json.loads((folder / "run.json").read_text()) for folder in folders]
    assert records[0].keys() == records[1].keys() and records[0]["floor"] == records[1]["floor"]


@pytest.mark.baselines
def test_stable_sac_leaves_the_global_generators_alone(toy, tmp_path):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    toy.transfer(tmp_path, "sb3_sac/scratch", "algorithms.sb3_sac.batch_size=8")
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.baselines
def test_stable_sac_sees_pictures_the_right_way_round(toy, tmp_path):
    experiment = toy.experiment(tmp_path)
    target = suites.bind_target(experiment, "goal")
    agent = starts.build(experiment, target, Arm.parse("sb3_sac/scratch"), 0, None)
    observation, _ = target.tasks[0].make().reset(seed=3)
    step = SimpleNamespace(
        images={"top": torch.from_numpy(observation["image_top"])[None]},
        proprio=torch.from_numpy(observation["proprio"])[None],
    )
    action, _ = agent.act(step, None, Streams(0), explore=False)
    image = torch.from_numpy(observation["image_top"]).permute(2, 0, 1)[None].float() / 255
    proprio = torch.from_numpy(observation["proprio"])[None]
    policy = agent.model.policy
    features = policy.actor.features_extractor({"image_top": image, "proprio": proprio})
    with torch.no_grad():
        wanted = torch.tanh(policy.actor.mu(policy.actor.latent_pi(features)))
    assert torch.allclose(action, wanted, atol=1e-6)
    turned = policy.actor.features_extractor({"image_top": image.transpose(2, 3), "proprio": proprio})
    assert not torch.allclose(features, turned)


class Slide(gymnasium.Env):
    """A state and no picture at all."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.state, {}

    def step(self, action):
        self.state = self.state * 0.9 + float(action[0])
        return self.state, 0.0, False, False, {}


def test_own_tasks_without_pictures_go_all_the_way(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(task_suites.registry, "_ENTRIES", dict(task_suites.registry._ENTRIES))
    task_suites.gymnasium_task(
        "mine/slide",
        Slide,
        reward=lambda inputs, action, goal: -abs(inputs[..., 0] - goal),
        reward_input_names=("x",),
        reward_inputs=lambda env: env.state[:1],
        tasks={"train": [{"goal": 0.5}, {"goal": 0.0}], "test": [{"goal": 1.0}]},
        max_episode_steps=25,
    )
    here = (
        "pretrain.sources=[{suite: mine/slide}, {suite: mine/slide, index: 1}]",
        "pretrain.scripted=0",
        "transfer.targets={goal: {suite: mine/slide}}",
        "transfer.video=true",
    )
    values = config.read_yaml(config.find("experiment", "toy"))
    del values["suite"]
    experiment = config.load(ExperimentConfig, [values], [*toy.small, *here, f"out={tmp_path}"])
    card = json.loads((pretrain.pretrain(experiment) / "model.json").read_text())
    assert card["task_rewards"] == ["mine/slide", "mine/slide#1"]
    for arm in ("ivg/pretrained", "ivg/scratch"):
        cells.run_cell(experiment, "goal", arm, 0)
        cell = cells.cell_folder(experiment, "goal", arm, 0)
        assert json.loads((cell / "run.json").read_text())["status"] == "done"
        assert not (cell / "videos/final.mp4").exists()
    gymnasium.registry.pop("task_suites/mine-slide-v0")


def test_an_agent_need_not_say_whether_its_members_own_tasks(toy, tmp_path, monkeypatch):
    monkeypatch.delattr(BaseAgent, "own_heads")
    assert (toy.transfer(tmp_path, "sac/scratch") / "run.json").is_file()
