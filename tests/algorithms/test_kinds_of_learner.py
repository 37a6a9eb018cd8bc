"""Kinds of learner that the package's own algorithms are not: from logged data, adapting, learning in slices."""

import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import meta_latent
from meta_latent.algorithms import registry
from meta_latent.algorithms.registry import Algorithm, register
from meta_latent.data.replay import SequenceReplay
from meta_latent.errors import RunError, UserError
from meta_latent.policies.base_agent import BaseAgent
from meta_latent.ranges import count, positive


@dataclass(frozen=True)
class Config:
    """Settings of all kinds."""

    rate: float = positive(0.05, most=10)
    batch: int = count(20)


class Cloner(BaseAgent):
    """Behaviour cloning: a linear policy on proprioception, fitted to the logged actions."""

    def __init__(self, config, setting):
        self.config, self.net = config, nn.Linear(setting.spec.proprio, setting.spec.action_size)

    def wants(self):
        return None

    @torch.no_grad()
    def act(self, step, carry, rng, explore):
        return self.net(step.proprio).clamp(-1, 1), carry

    def update(self, replay, rng):
        logged = replay.transitions()
        rows = torch.randint(len(logged.action), (self.config.batch,), generator=rng.torch("batch"))
        loss = (self.net(logged.proprio[rows]) - logged.action[rows]).square().mean()
        for p, gradient in zip(self.net.parameters(), torch.autograd.grad(loss, self.net.parameters()), strict=True):
            p.data -= self.config.rate * gradient
        self.updates += 1
        return {"error": float(loss.detach())}

    def state(self):
        return super().state() | {"net": self.net.state_dict()}

    def load_state(self, state):
        super().load_state(state)
        self.net.load_state_dict(state["net"])


class Greedy(Cloner):
    """Logged data are all it may have, and it asks for more."""

    def wants(self):
        return 0


class Searcher(BaseAgent):
    """Goes one way; `adapt` turns to the way of the best episode of the trial. Rows of a batch try four ways."""

    WAYS = torch.tensor([[1.0, 0], [-1.0, 0], [0, 1.0], [0, -1.0]])
    log: list = []

    def __init__(self, way=None):
        self.way = way

    def begin_task(self, batch_size):
        ways = self.WAYS[torch.arange(batch_size) % 4] if self.way is None else self.way.expand(batch_size, -1)
        return {"way": ways.clone()}

    def act(self, step, carry, rng, explore):
        self.log.append((len(step.reward), explore, self.way is not None))
        return carry["way"], carry

    def update(self, replay, rng):
        self.updates += 1
        return {}

    def adapt(self, trial, rng):
        episodes = [trial.read(k) for k in range(len(trial.episodes))]
        best = max(episodes, key=lambda episode: episode["reward"].sum())
        self.log.append(("adapt", len(episodes)))
        return Searcher(torch.from_numpy(best["action"][1]))


class Sliced(BaseAgent):
    """On-policy: 30 steps, then an update in three slices, in which it wants nothing."""

    left, seen, total = 0, 0, 0.0

    def wants(self):
        return None if self.left else 30

    def act(self, step, carry, rng, explore):
        noise = torch.rand(len(step.reward), 2, generator=rng.torch("act"))
        return noise * 2 - 1, carry

    def update(self, replay, rng):
        if not self.left:
            self.left = 3
            self.total = float(replay.view(since=self.seen).transitions().reward.sum())
            self.seen = replay.added
        self.left -= 1
        self.total += float(torch.rand((), generator=rng.torch("slice")))
        self.updates += self.left == 0
        return {"slice": self.total}

    def state(self):
        return super().state() | {"left": self.left, "seen": self.seen, "total": self.total}

    def load_state(self, state):
        super().load_state(state)
        self.left, self.seen, self.total = state["left"], state["seen"], state["total"]


@pytest.fixture(autouse=True)
def kinds(monkeypatch):
    """The registry with four more."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    logged = {"metrics": {"error": "squared error of actions"}, "needs": frozenset({"data"})}
    register("cloner", Algorithm(Config, Cloner, **logged))
    register("greedy", Algorithm(Config, Greedy, **logged))
    register("searcher", Algorithm(Config, lambda config, setting: Searcher(), adapts=True, warmup=False))
    register("sliced", Algorithm(Config, lambda config, setting: Sliced(), metrics={"slice": "a sum"}, warmup=False))


def lines(folder, kind):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def record(folder):
    return json.loads((folder / "run.json").read_text())


# Logged data


def test_logged_data_are_learned_from_by_the_clock_of_updates(bench, tmp_path):
    arm = "cloner/scratch"
    experiment = bench.experiment(tmp_path, arm, "transfer.budget_updates.default=40",
                                  "transfer.evaluation.interval_updates=10")  # fmt: skip
    folder = bench.cell(experiment, arm)
    facts, curve = record(folder), lines(folder, "evaluation")
    assert (facts["clock"], facts["budget"], facts["updates"]) == ("updates", 40, 40)
    assert [line["updates"] for line in curve] == [10, 20, 30, 40]
    assert len({line["env_steps"] for line in curve}) == 1  # what was logged; nothing is added
    errors = [line["error"] for line in lines(folder, "train")]
    assert len(errors) == 4 and errors[-1] < errors[0]
    assert not (folder / "replay").exists()
    target = meta_latent.report(experiment)["targets"]["target"]
    assert target["clock"] == "updates" and target["arms"][arm]["curve"]["updates"] == [10, 20, 30, 40]
    experiment = bench.experiment(tmp_path / "more", arm, f"transfer.budget_updates={{{arm}: 7, default: 99}}")
    assert record(bench.cell(experiment, arm))["updates"] == 7


def test_logged_data_are_never_written_to(bench, tmp_path):
    source = bench.model("toy/lqr").parent / "source"
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    experiment = bench.experiment(tmp_path, "greedy/scratch")
    with pytest.raises(RunError, match="greedy/scratch learns from logged data and wants environment steps"):
        bench.cell(experiment, "greedy/scratch")
    bench.cell(bench.experiment(tmp_path, "cloner/scratch"), "cloner/scratch")
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_logged_data_that_go_on_where_the_task_ends_are_refused(bench, tmp_path, monkeypatch):
    experiment = bench.experiment(tmp_path, "cloner/scratch")  # which makes the data, if no other test has
    monkeypatch.setattr(SequenceReplay, "beyond_ends", lambda replay, terminated: len(replay))
    with pytest.raises(UserError, match="target target: .* logged steps would have ended an episode of its task"):
        bench.cell(experiment, "cloner/scratch")


def test_a_cell_knows_its_logged_data_by_their_checksum(bench, tmp_path):
    import shutil

    model = tmp_path / "copy" / "model"
    shutil.copytree(bench.model("toy/lqr").parent, model.parent)
    target, arm = {"suite": "toy/lqr", "data": str(model)}, "cloner/scratch"
    bench.cell(bench.experiment(tmp_path, arm, target=target), arm)
    path = next((model.parent / "source").glob("*/reward.bin"))
    path.write_bytes(path.read_bytes()[::-1])
    card = json.loads((model / "source.json").read_text())
    (model / "source.json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    with pytest.raises(UserError, match="data_sha256"):
        bench.cell(bench.experiment(tmp_path, arm, target=target), arm)


def test_logged_data_are_neither_missing_nor_useless(bench, tmp_path):
    with pytest.raises(UserError, match="^cloner/scratch learns from logged data: set transfer.targets.target.data"):
        bench.cell(bench.experiment(tmp_path, "cloner/scratch", target={"suite": "toy/lqr"}), "cloner/scratch")
    target = {"suite": "toy/lqr", "data": str(bench.model("toy/lqr"))}
    with pytest.raises(UserError, match="^sliced/scratch collects its own data: leave out"):
        bench.cell(bench.experiment(tmp_path, "sliced/scratch", target=target), "sliced/scratch")


# Adapting


@pytest.mark.parametrize("rollouts", [1, 4])
def test_each_episode_of_a_trial_is_played_by_who_learned_from_those_before(bench, tmp_path, rollouts):
    arm, Searcher.log[:] = "searcher/scratch", []
    target = {"suite": "toy/hidden_goal", "tasks": 3, "test_tasks": 2, "episodes_per_trial": 2}
    experiment = bench.experiment(tmp_path, arm, f"transfer.evaluation.rollouts={rollouts}",
                                  "transfer.evaluation.trials=2", target=target)  # fmt: skip
    with bench.learning(experiment, arm) as learning:
        steps = learning.target.distribution.max_episode_steps
        found, again = (learning.evaluation.score(learning.agent) for _ in range(2))
    assert found == again
    first, second = found.returns_by_episode
    # One way at random is a way there with four to try; a single one is no choice.
    assert second > first + 1 if rollouts == 4 else second == pytest.approx(first, abs=0.5)
    assert found.raw_return == second and len(found.score_by_task) == 2
    scored, drawn = ([(rollouts, explore, False)] * steps for explore in (False, True))
    trial = scored + drawn + [("adapt", rollouts)] + [(rollouts, False, True)] * steps
    assert Searcher.log == trial * 2 * 2 * 2  # trials, tasks, evaluations


def test_who_has_no_step_to_take_is_scored_on_everybodys_episodes(bench, tmp_path):
    """Not on `rollouts` times as many others, which may be easier."""
    seeds = {}
    for arm in ("searcher/scratch", "sliced/scratch"):
        target = {"suite": "toy/hidden_goal", "episodes_per_trial": 1}
        experiment = bench.experiment(tmp_path / arm, arm, "transfer.evaluation.rollouts=4", target=target)
        with bench.learning(experiment, arm) as learning:
            played = seeds[arm] = []
            learning.evaluation.seed_of = lambda *place, played=played: played.append(place) or 1
            learning.evaluation.score(learning.agent)
    found, everybodys = seeds.values()
    assert found == everybodys != []


def test_an_algorithm_that_adapts_makes_a_whole_cell(bench, tmp_path):
    folder = bench.cell(bench.experiment(tmp_path, "searcher/scratch"), "searcher/scratch")
    assert all(len(line["returns_by_episode"]) == 2 for line in lines(folder, "evaluation"))
    assert record(folder)["episodes_per_trial"] == 2


# Slices


def test_an_update_in_slices_goes_on_bit_for_bit_within_it(bench, tmp_path, frozen):
    arm, whole, seen = "sliced/scratch", [], []
    with bench.learning(bench.experiment(tmp_path / "whole", arm), arm) as learning:
        for _ in range(9):
            whole.append((bench.round(learning), learning.replay.env_steps, frozen(learning.streams.state())))
    steps = [row[1] for row in whole]
    assert steps[0] >= 30 and len(set(steps[0:3])) == 1 and steps[3] >= steps[2] + 30  # once in three rounds
    for _ in range(9):
        with bench.learning(bench.experiment(tmp_path / "cut", arm), arm) as learning:
            seen.append((bench.round(learning), learning.replay.env_steps, frozen(learning.streams.state())))
            learning.saved.save()
    assert seen == whole


def test_no_evaluation_falls_into_a_sliced_update(bench, tmp_path):
    folder = bench.cell(bench.experiment(tmp_path, "sliced/scratch"), "sliced/scratch")
    curve = lines(folder, "evaluation")
    assert len(curve) > 1 and all(line["env_steps"] == 50 * line["updates"] for line in curve)  # two trials a round


# What is needed and what is missing


@pytest.mark.parametrize(
    ("need", "target", "overrides", "words"),
    [
        ("density", {"suite": "toy/lqr"}, ("model.core.kind=deterministic",), "probe/scratch needs a model whose"),
        ("functions", {"suite": "mine/unpaid"}, (), "target target has no reward function"),
        ("data", {"suite": "toy/lqr"}, (), "probe/scratch learns from logged data"),
    ],
)
def test_a_need_that_is_not_met_is_named(bench, tmp_path, unpaid, need, target, overrides, words):
    def build(config, setting):
        setting.latent_parts()
        return Sliced()

    register("probe", Algorithm(Config, build, needs=frozenset({need})))
    with pytest.raises(UserError, match=words):
        bench.cell(bench.experiment(tmp_path, "probe/scratch", *overrides, target=target), "probe/scratch")


def test_functions_are_those_of_the_tasks(bench, tmp_path):
    given = []
    register("probe", Algorithm(Config, lambda config, setting: given.append(setting) or Sliced(),
                                needs=frozenset({"functions"}), metrics={"slice": ""}))  # fmt: skip
    target = {"suite": "toy/hidden_goal", "tasks": 3, "test_tasks": 1, "options": {"observation": "state"}}
    with bench.learning(bench.experiment(tmp_path, "probe/scratch", target=target), "probe/scratch") as learning:
        for _ in range(9):
            bench.round(learning)
        seen = learning.replay.transitions()
    (setting,) = given
    assert setting.tasks == 3 and setting.functions.observed and set(seen.task_index.tolist()) == {0, 1, 2}
    paid = setting.functions.reward(seen.task_index, seen.next_reward_inputs, seen.action)
    torch.testing.assert_close(paid, seen.reward)
    assert not setting.functions.terminated(seen.task_index, seen.next_reward_inputs, seen.action).any()
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            setting.functions.reward(1 + seen.task_index % 2, seen.next_reward_inputs, seen.action), seen.reward
        )
