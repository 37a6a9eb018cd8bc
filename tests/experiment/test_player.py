"""`meta_latent.player` acts as the loop lets an agent act; `encode` and `imagine` of a model; docs/python.md runs."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import meta_latent
from meta_latent import cli
from meta_latent.data.collect import Shown, play, play_episode
from meta_latent.data.player import Player
from meta_latent.errors import UserError
from meta_latent.experiment.settings import suites
from meta_latent.experiment.settings.config import to_dict, to_yaml
from meta_latent.ops.imagination import imagine
from meta_latent.rng import Streams
from meta_latent.types import Step
from task_suites import get

PAGE = Path(__file__).parents[2] / "docs/python.md"


def played(player, seeds):
    """Actions and returns of the episodes of one trial."""
    env, actions, returns = player.make_env(), [], []
    for number, seed in enumerate(seeds):
        player.begin(same_task=number > 0)
        observation, _ = env.reset(seed=seed)
        reward, done, total = None, False, 0.0
        while not done:
            actions.append(player.act(observation, reward))
            observation, reward, terminated, truncated, _ = env.step(actions[-1])
            total, done = total + reward, terminated or truncated
        player.end(observation, reward, terminated)
        returns.append(total)
    env.close()
    return np.array(actions), np.array(returns)


@pytest.mark.parametrize("explore", [False, True])
def test_a_run_s_agent_plays_as_the_loop_plays_it(toy, toy_model, tmp_path, explore):
    folder = toy.transfer(tmp_path, "ivg/pretrained", f"pretrained={toy_model / 'model'}")
    target = suites.bind_target(toy.experiment(tmp_path), "goal")
    rows = target.distribution.make_vector([target.test_tasks[0].task])
    wanted = play_episode(rows, meta_latent.load(folder), 5, Streams(3), explore=explore)
    actions, returns = played(meta_latent.player(folder, explore=explore, seed=3), [5])
    assert np.array_equal(actions, wanted["action"][1:])
    assert returns[0] == pytest.approx(wanted["reward"].sum(), rel=1e-5)


class Told:
    """Notes what it is shown; its action says how often it was asked in this task."""

    def begin_task(self, batch_size):
        return torch.zeros(batch_size, 1)

    def act(self, step, carry, rng, explore):
        self.steps.append(step)
        return torch.full((1, 2), -0.001) * (carry + 1), carry + 1


@pytest.mark.parametrize("sees", [(), ("reward",), ("reward", "task")])
def test_it_is_shown_what_the_loop_shows(sees):
    suite = get("toy/hidden_goal", image_size=16)
    task = suite.sample("test", 1, seed=0)[0]
    ours, theirs = Told(), Told()
    ours.steps, theirs.steps = [], []
    played(Player(ours, suite, task, sees), [3, 4])
    told = torch.from_numpy(suite.task_vector(task))[None] if "task" in sees else None
    play(suite.make_vector([task]), theirs, np.array([[3, 4]]), Streams(0), explore=False, shown=Shown(sees, told))
    assert len(ours.steps) == len(theirs.steps) + 1  # a trial's last observation
    for mine, wanted in zip(ours.steps, theirs.steps, strict=False):
        for name in Step.__dataclass_fields__:
            a, b = getattr(mine, name), getattr(wanted, name)
            if name == "images":
                assert all(torch.equal(a[c], b[c]) for c in b)
            else:
                assert (a is None and b is None) or torch.allclose(a.float(), b.float(), atol=1e-6), name


def test_what_a_player_is_not_told_or_is_told_wrongly():
    suite, told = get("toy/hidden_goal", image_size=16), Told()
    told.steps, task = [], suite.sample("test", 1, seed=0)[0]
    observation, _ = suite.make(task).reset(seed=0)
    player = Player(told, suite, task, ("reward",))
    action = player.act(observation)
    action *= 0  # what a caller does to it does not change what was done
    with pytest.raises(UserError, match=r"act\(observation, reward\)"):
        player.act(observation)
    player.end(observation, 1.0, terminated=True)
    last = told.steps[-1]
    assert last.action.abs().max() > 0 and last.is_last.item() and last.is_terminal.item()


def test_what_is_no_latents_is_called_so(toy_model):
    model = meta_latent.load(toy_model / "model")
    sample = torch.zeros(1, model.latent_size)
    for call in (lambda: model.decode(sample), lambda: model.imagine(sample, torch.zeros(1, 2, 2))):
        with pytest.raises(UserError, match=rf"takes latents, .* got a tensor \(1, {model.latent_size}\)"):
            call()


def test_functions_take_what_configure_takes(toy, tmp_path):
    """A path, a folder of runs and keys as a dict; what is none of these is refused in words."""
    config = toy.experiment(tmp_path, "transfer.arms=[sac/scratch]")
    path = tmp_path / "mine.yaml"
    path.write_text(to_yaml(config))
    folder = meta_latent.transfer(str(path), "goal", "sac/scratch")
    assert folder == tmp_path / "toy/transfer/goal/sac/scratch/0" and (folder / "run.json").is_file()
    keys = to_dict(config)
    results = [meta_latent.evaluate(one, "goal", "sac/scratch") for one in (config, keys, path)]
    assert all(np.array_equal(result.returns, results[0].returns) for result in results)
    with pytest.raises(UserError, match="there is nothing to adapt to"):
        meta_latent.adapt(keys, "goal")
    assert meta_latent.pretrain(path) == tmp_path / "toy/pretrain/0/model"
    for call in (meta_latent.pretrain, meta_latent.check, lambda config: meta_latent.transfer(config, "goal", "a/b")):
        with pytest.raises(UserError, match="expected an experiment, or a name, path or dict .* got 3"):
            call(3)


def test_a_model_is_no_run(tmp_path, capsys):
    (tmp_path / "pretrain/model").mkdir(parents=True)
    (tmp_path / "pretrain/model/model.json").write_text("{}")
    opens = r"is a pretrained model, which has no agent.*meta_latent\.load\('.*/model'\).*imagine.*runs/NAME/transfer"
    for folder in (tmp_path / "pretrain", tmp_path / "pretrain/model"):
        with pytest.raises(UserError, match=opens):
            meta_latent.player(folder)
        assert cli.main(["evaluate", str(folder)]) == 2
        assert "is a pretrained model" in capsys.readouterr().err
    with pytest.raises(UserError, match="is no run: expected runs/NAME/transfer"):
        meta_latent.player(tmp_path)
    with pytest.raises(UserError, match="there is no folder .*/gone: expected runs/NAME/transfer"):
        meta_latent.player(tmp_path / "gone")


def test_encode_filters_and_imagine_goes_on(toy_model):
    model = meta_latent.load(toy_model / "model")
    suite = get("toy/lqr", image_size=16)
    rows = suite.make_vector(suite.sample("train", 1, seed=0))

    class Zero(Told):
        def act(self, step, carry, rng, explore):
            return torch.full((1, 2), 0.3), carry

    episode = play_episode(rows, Zero(), 0, Streams(0), shown=Shown(("reward",)))
    latents, latent = model.encode(episode), model.initial(1)
    for t in range(len(episode["reward"])):
        latent = model.observe(
            latent,
            Step.of(
                {k: v[t] for k, v in episode.items()},
                torch.from_numpy(episode["action"][t])[None],
                is_task_first=t == 0,
            ),
        )
        assert torch.allclose(latents[t].sample, latent.sample[0], atol=1e-5)
        assert torch.allclose(latents[t].memory, latent.memory[0], atol=1e-5)
    told = model.encode(episode, rewards=True)
    assert not torch.allclose(told.memory, latents.memory, atol=1e-4)
    actions = torch.as_tensor(episode["action"][3:6])[None]
    ahead = model.imagine(latents[2:3], actions, head=1)
    steps = imagine(model, latents[2:3], lambda k, _: actions[:, k], torch.ones(1, dtype=torch.long), 3)
    assert ahead.sample.shape[:2] == (1, 3) and torch.equal(ahead.sample[0, 2], steps[2].next_latent.sample[0])
    assert not torch.equal(ahead.sample, model.imagine(latents[2:3], actions, head=0).sample)


@pytest.mark.drawn
def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        exec(block, names)  # noqa: S102
    assert names["pictures"].shape == (4, 16, 16, 3) and np.isfinite(names["paid"])
    assert os.path.isdir("runs/toy/transfer/goal/ivg/pretrained/0")
    assert names["curve"][-1][1] > 0.5 and Path("curve.png").is_file()  # it learned, and drew so
