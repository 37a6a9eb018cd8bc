"""`meta-latent check` finds what would spoil a long run, and says nothing where nothing is wrong."""

import json
import re
import time

import gymnasium
import probe_agents
import pytest
import torch

import meta_latent
import task_suites
from meta_latent import cli
from meta_latent.algorithms.registry import Algorithm, register
from meta_latent.experiment.learning import checking
from meta_latent.experiment.settings import suites
from meta_latent.policies.base_agent import BaseAgent


class Learner(BaseAgent):
    """Moves by a number that every update draws anew, with noise of its own where it explores."""

    def __init__(self, settings, setting):
        self.mean = torch.zeros(2)

    def begin_task(self, batch_size):
        return {"seen": torch.zeros(batch_size)}

    def act(self, step, carry, rng, explore):
        action = self.mean.expand(len(step.reward), 2)
        if explore:
            action = action + 0.1 * self.noise(rng)
        return action.clamp(-1, 1), {"seen": carry["seen"] + 1}

    def noise(self, rng):
        return torch.randn(2, generator=rng.torch("explore"))

    def update(self, replay, rng):
        self.updates += 1
        self.mean = 0.2 * torch.randn(2, generator=rng.torch("update"))
        return {"loss": 0.5}

    def state(self):
        return super().state() | {"mean": self.mean}

    def load_state(self, state):
        super().load_state(state)
        self.mean = state["mean"]


class Global(Learner):
    def noise(self, rng):
        return torch.randn(2)


class Dropout(Learner):
    def update(self, replay, rng):
        super().update(replay, rng)
        self.mean = 0.2 * torch.rand(2)
        return {}


class Forgetful(Learner):
    def state(self):
        return BaseAgent.state(self)

    def load_state(self, state):
        BaseAgent.load_state(self, state)


class Late(Learner):
    """Does not count on."""

    def state(self):
        return {"mean": self.mean}

    def load_state(self, state):
        self.mean = state["mean"]


class Fails(Learner):
    def load_state(self, state):
        self.best = state["best"]


class Remembering(Learner):
    def act(self, step, carry, rng, explore):
        self.mean = self.mean * 0.9
        return super().act(step, carry, rng, explore)


class Infinite(Learner):
    def update(self, replay, rng):
        return super().update(replay, rng) | {"loss": float("nan")}


class Idle(Learner):
    def update(self, replay, rng):
        return {}


class Momentum(Learner):
    """Learns in every fifth round; what it remembers is in no checkpoint."""

    def __init__(self, settings, setting):
        super().__init__(settings, setting)
        self.rounds, self.momentum = 0, torch.zeros(2)

    def update(self, replay, rng):
        self.rounds += 1
        if self.rounds % 5:
            return {}
        self.momentum = self.momentum + 0.1
        super().update(replay, rng)
        self.mean = self.mean + self.momentum
        return {}

    def state(self):
        return super().state() | {"rounds": self.rounds}

    def load_state(self, state):
        super().load_state(state)
        self.rounds = state["rounds"]


class Unmeasured(Learner):
    """Keeps a number that it has not measured yet."""

    def state(self):
        return super().state() | {"best": float("nan")}


class Measuring(Learner):
    """Measures a time, and first what it has not got a number of yet."""

    def update(self, replay, rng):
        found = super().update(replay, rng) | {"loss": time.perf_counter()}
        return found | {"best": self.updates if self.updates % 2 else float("nan")}


class Uncounted(Learner):
    """Tells, beside a number that it has not measured, a count that is in no checkpoint."""

    made = 0

    def update(self, replay, rng):
        self.made += 1
        return super().update(replay, rng) | {"best": float("nan") if self.made == 1 else self.made}


class Broken(Learner):
    def update(self, replay, rng):
        return self.nothing


@pytest.fixture
def checked(probes, monkeypatch):
    """Checks one of these agents on a toy task; its faults."""
    monkeypatch.setattr("meta_latent.experiment.learning.checking.LIMIT", 9)

    def check(agent):
        register("mine", Algorithm(probe_agents.Settings, agent, metrics={"loss": "a number", "best": "another"},
                                   warmup=False))  # fmt: skip
        transfer = {"targets": {"goal": probe_agents.ONE}, "arms": ["mine/scratch"]}
        suite, learner = meta_latent.check(meta_latent.configure({"name": "mine", "transfer": transfer}))
        assert (suite.subject, suite.faults) == ("suite toy/hidden_goal", [])
        assert learner.subject == "goal mine/scratch"
        return learner.faults + [f"warned: {line}" for line in learner.warned]

    return check


@pytest.mark.parametrize("agent", [Learner, Unmeasured])
def test_a_learner_that_keeps_the_contract_passes(checked, agent):
    assert checked(agent) == []


def test_what_is_measured_otherwise_each_time_is_no_fault(checked):
    assert not [fault for fault in checked(Measuring) if not fault.startswith("warned: mine measures best=nan")]


@pytest.mark.parametrize(("chosen", "tried"), [(None, 0), (7, 7)])
def test_the_run_that_is_tried_has_the_seed_that_was_chosen(probes, monkeypatch, chosen, tried):
    register("mine", Algorithm(probe_agents.Settings, Learner, metrics={"loss": "a number"}, warmup=False))
    seeds, learning = set(), checking.Learning
    monkeypatch.setattr(checking, "Learning", lambda *given: seeds.add(given[3]) or learning(*given))
    given = {"name": "mine", "transfer": {"targets": {"goal": probe_agents.ONE}, "arms": ["mine/scratch"]}}
    parts = meta_latent.check(meta_latent.configure({**given, "run_seed": chosen}))
    assert not any(part.faults for part in parts) and seeds == {tried}


def test_where_scores_are_raw_it_says_once_what_random_actions_earn(probes, monkeypatch):
    monkeypatch.setattr(task_suites.registry, "_ENTRIES", dict(task_suites.registry._ENTRIES))
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    task_suites.with_rewards("mine/raw", "toy/lqr", reward=lambda inputs, action: 0 * inputs[..., 0] - 2)
    for name, warmup in (("cold", False), ("mine", True), ("other", True)):
        register(name, Algorithm(probe_agents.Settings, Learner, metrics={"loss": "a number"}, warmup=warmup))
    transfer = {"targets": {"raw": {"suite": "mine/raw", "split": "train"}, "scaled": {"suite": "toy/lqr"}},
                "arms": ["cold/scratch", "mine/scratch", "other/scratch"], "warmup_episodes": 2}  # fmt: skip
    parts = [part for part in meta_latent.check(meta_latent.configure({"name": "raw", "transfer": transfer}))
             if "/scratch" in part.subject]  # fmt: skip
    assert len(parts) == 6 and not any(part.faults for part in parts)
    told = [part for part in parts if "random" in part.tried]
    assert [part.subject for part in told] == ["raw mine/scratch"]
    assert told[0].tried.endswith(", bit for bit; random actions earn a raw return of -50 (2 episodes)")


def test_every_kind_of_task_of_the_targets_is_tried(probes, tmp_path):
    kinds = [probe_agents.ONE | {"options": probe_agents.ONE["options"] | {"reward": reward}}
             for reward in ("dense", "sparse", "dense")]  # fmt: skip
    chosen = meta_latent.configure({"name": "kinds", "out": str(tmp_path), "transfer": {
        "targets": {f"t{k}": kind for k, kind in enumerate(kinds)}, "arms": ["counter/scratch"]}})  # fmt: skip
    tried = [part for part in meta_latent.check(chosen) if part.subject.startswith("suite ")]
    assert len(tried) == len({part.tried for part in tried}) == 2 and not list(tmp_path.iterdir())
    assert all(part.tried.startswith("seeds, spaces, rewards, success, ends of ") for part in tried)


def test_tasks_that_differ_in_dynamics_alone_are_told_apart(probes, tmp_path):
    goal = {"suite": "toy/rotated_actuators", "split": "train"}
    chosen = meta_latent.configure({"name": "turned", "out": str(tmp_path), "transfer": {
        "targets": {f"t{k}": goal | {"index": k} for k in range(2)}, "arms": ["counter/scratch"]}})  # fmt: skip
    tried = [part.tried for part in meta_latent.check(chosen) if part.subject.startswith("suite ")]
    tasks = [suites.bind_target(chosen, f"t{k}").tasks[0].task for k in range(2)]
    assert len(tried) == 2 and all(f", dynamics {task.dynamics.in_words()}" in words
                                   for task, words in zip(tasks, tried, strict=True))  # fmt: skip


@pytest.fixture
def off(probes, monkeypatch, tmp_path):
    """Checks targets and sources whose tasks of `mine/off` are drawn, here the third of `hows` first: its parts. A
    reward fails where it is how it "fails", but not when the suite is opened.
    """
    monkeypatch.setattr(task_suites.registry, "_ENTRIES", dict(task_suites.registry._ENTRIES))

    def reward(inputs, action, by, how):
        if how == "fails" and inputs.shape[:-1] != (2, 3):
            raise KeyError(how)
        return -abs(inputs[..., 0] - by)

    def check(hows, targets, arms, sources):
        train = [{"by": 0.1 * k, "how": how} for k, how in enumerate(hows)]
        tasks = {"train": train, "test": [{"by": 9.0, "how": "well"}]}
        task_suites.with_rewards("mine/off", "toy/lqr", reward=reward, tasks=tasks)
        return checking.check(meta_latent.configure({
            "name": "mine", "transfer": {"targets": targets, "arms": arms},
            "pretrain": {"sources": [{"suite": "mine/off", "index": k} for k in sources]}}), tmp_path)  # fmt: skip

    yield check
    gymnasium.registry.pop(task_suites.gymnasium_id("mine/off"), None)


@pytest.mark.parametrize("of", ["targets", "sources"])
@pytest.mark.parametrize("place", [None, 0, 1])
def test_later_tasks_are_tried_in_passing(off, of, place):
    chosen = {"sources": ({"suite": "toy/lqr"}, "ivg/pretrained"),
              "targets": ({"suite": "mine/off", "tasks": 3, "test_tasks": 1}, "counter/scratch")}  # fmt: skip
    target, arm = chosen[of]
    parts = off(["fails" if k == place else "well" for k in range(3)], {"mine": target}, [arm], range(3))
    suite = next(part for part in parts if part.subject == "suite mine/off")
    assert suite.tried.startswith("seeds, spaces, rewards, ends of ")  # nobody said when it is solved
    assert suite.tried.endswith("; in passing 2 more tasks") and len(suite.faults) == (place is not None)
    assert all(re.search("KeyError: 'fails'.*, in the task .*fails", fault) for fault in suite.faults)


@pytest.mark.parametrize(("hows", "target", "sources", "named", "tried"), [
    # of the source alone, after the task that is the target's, too
    (["fails", "well", "well"], {"split": "train"}, (0, 1, 2), ["pretrain.sources.1"], True),
    # of both, as the first of both and as another one of the sources
    (["well", "well", "fails"], {"split": "train"}, (0, 1), ["transfer.targets.mine, pretrain.sources.0"], False),
    (["well", "well", "fails"], {"split": "train"}, (1, 0), ["transfer.targets.mine, pretrain.sources.1"] * 2,
     False),
    # another one of the target and another one of the sources
    (["fails", "fails", "well"], {"tasks": 2, "test_tasks": 1}, (0, 2),
     ["transfer.targets.mine", "pretrain.sources.1"], False),
])  # fmt: skip
def test_each_fault_names_who_uses_the_task_and_nobody_else_is_passed_over(
    off, monkeypatch, hows, target, sources, named, tried
):
    monkeypatch.setattr(checking, "_model", lambda *given: (None, checking.Checked("model", "none")))
    target = {"suite": "mine/off", **target}
    parts = list(off(hows, {"mine": target}, ["ivg/pretrained", "counter/scratch"], sources))
    faults = [fault for part in parts if part.subject.startswith("suite") for fault in part.faults]
    assert [fault.partition(": ")[0] for fault in faults] == named
    assert all("'fails'" in fault for fault in faults)
    arm = parts[-1]
    assert (arm.subject, arm.skipped, arm.faults) == ("mine counter/scratch", not tried, [])


def test_what_an_evaluation_would_stumble_over_is_named(probes, tmp_path):
    """Such as telling of a belief what the registration does not declare."""
    transfer = {"targets": {"goal": probe_agents.MANY}, "arms": ["leaky/scratch"]}
    *_, arm = meta_latent.check(meta_latent.configure({"name": "mine", "transfer": transfer}))
    assert any("inspect returns 'reward', which its registration does not declare" in fault for fault in arm.faults)


def test_without_a_model_its_arms_are_passed_over(probes):
    transfer = {"targets": {"goal": probe_agents.ONE}, "arms": ["ivg/pretrained"]}
    suite, model, arm = meta_latent.check({"name": "mine", "transfer": transfer, "pretrain": {"sources": []}})
    assert len(model.faults) == 1 and model.faults[0].startswith("pretrain.sources is empty: ")
    assert arm.skipped and not arm.faults and not suite.faults


def test_no_arm_is_blamed_for_its_suite(probes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("task_suites.faults", lambda suite, tasks: ["a reset that follows from no seed"])
    transfer = {"targets": {"goal": probe_agents.ONE, "twin": probe_agents.ONE}, "arms": ["counter/scratch"]}
    suite, *arms = meta_latent.check(meta_latent.configure({"name": "mine", "transfer": transfer}))
    assert suite.faults == ["transfer.targets.goal, transfer.targets.twin: a reset that follows from no seed"]
    assert [arm.subject for arm in arms] == ["goal counter/scratch", "twin counter/scratch"]
    assert all(arm.skipped and (arm.tried, arm.faults) == ("not tried: mend its suite first", []) for arm in arms)
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps({"name": "mine", "transfer": transfer}))
    assert cli.main(["check", str(path)]) == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[0] != " "] == ["wrong", "-", "-"]


def test_what_transfer_refuses_is_refused(probes, tmp_path):
    transfer = {"targets": {"goal": probe_agents.ONE}, "arms": ["ivg/pretrained"]}
    given = {"name": "mine", "transfer": transfer | {"arms": ["counter/scratch"]}}  # an experiment's keys do, too
    (suite,) = [part for part in meta_latent.check(given) if part.subject.startswith("suite")]
    assert not suite.faults
    for settings, words in (({"pretrained": str(tmp_path / "none"), "transfer": transfer}, "there is no folder"),
                            ({"transfer": {"targets": {}}}, "transfer.targets is empty")):  # fmt: skip
        with pytest.raises(meta_latent.UserError, match=words):
            meta_latent.check(meta_latent.configure({"name": "mine", **settings}))


@pytest.mark.parametrize(("agent", "words"), [
    (Global, r"^Global\.act\(explore=True\) does something else .* draw from `rng`"),
    (Dropout, r"^from a checkpoint it goes on otherwise: agent\.state\(\)\.mean differs 1 update later: "),
    (Dropout, "^Dropout draws from the global generator of torch: "),
    (Late, r"^from a checkpoint it goes on otherwise: updates differs 0 updates later: "),
    (Fails, r"^Fails\.load_state raised KeyError: 'best' \(.*test_checking\.py:\d+, in load_state\)"),
    (Forgetful, r"^from a checkpoint it goes on otherwise: actions\[0\].* differs 0 updates later: "),
    (Remembering, r"^Remembering\.act\(explore=False\) does something else .* remember in the carry"),
    (Infinite, r"^warned: mine measures loss=nan"),
    (Idle, r"^Idle\.update made no update in 9 rounds: if .* it has to count self\.updates up"),
    (Momentum, r"^from a checkpoint it goes on otherwise: agent\.state\(\)\.mean differs 1 update later: "),
    (Uncounted, r"^from a checkpoint it goes on otherwise: metrics\.best differs 1 update later: "),
    (Broken, r"^AttributeError: 'Broken' object has no attribute 'nothing' \(.*test_checking\.py:\d+, in update\)"),
])  # fmt: skip
def test_a_mistake_is_named(checked, agent, words):
    found = checked(agent)
    assert any(re.search(words, fault) for fault in found), found


def test_acting_that_changes_the_agent_is_named(checked):
    assert any("act changes the agent" in fault for fault in checked(Remembering))


def test_the_command_trains_a_model_in_passing_and_writes_nothing(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sources = "{suite: toy/lqr}, {suite: toy/lqr, index: 1}, {suite: toy/lqr, options: {episode_steps: 20}}"
    words = ["toy", *toy.small, "transfer.arms=[ivg/pretrained, sac/scratch]", "out=runs"]
    words.append(f"pretrain.sources=[{sources}]")
    assert cli.main(["check", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    parts = [line[7:].split("  ")[0] for line in lines]  # the target, and two kinds of sources
    assert parts == [*["suite toy/lqr"] * 3, "model", "goal ivg/pretrained", "goal sac/scratch"]
    assert "a pretraining of a few updates" in lines[3]
    assert not list(tmp_path.iterdir())


def test_the_command_ends_with_1_and_names_the_parts(probes, tmp_path, monkeypatch, capsys):
    register("mine", Algorithm(probe_agents.Settings, Global, metrics={"loss": "a number"}, warmup=False))
    path = tmp_path / "mine.yaml"
    transfer = {"targets": {"goal": probe_agents.ONE}, "arms": ["mine/scratch"]}
    path.write_text(json.dumps({"name": "mine", "transfer": transfer}))  # JSON is YAML
    assert cli.main(["check", str(path)]) == 1
    said = capsys.readouterr()
    assert "wrong  goal mine/scratch" in said.out and "       - Global.act" in said.out
    assert "faults in 1 of 2 parts: goal mine/scratch" in said.err
    parts = [checking.Checked(f"p{k}", "tried", ["wrong"] * (k < 10)) for k in range(12)]
    monkeypatch.setattr(checking, "check", lambda *given: parts)
    assert cli.main(["check", str(path)]) == 1
    assert "faults in 10 of 12 parts: p0, p1, p2, p3, and 6 more" in capsys.readouterr().err
