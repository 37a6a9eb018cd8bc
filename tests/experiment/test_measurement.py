"""What a learning curve rests on: a clock that stands still while it is measured, evaluated episodes that end
where they end, and transition heads that see different data.
"""

import itertools
import json
import time

import gymnasium
import numpy as np
import pytest

import meta_latent
import task_suites
from meta_latent.algorithms.sac import SAC
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.experiment.runs import checkpoint, metrics
from meta_latent.experiment.runs.resumable import Resumable
from meta_latent.types import Spec
from task_suites import registry

LONG = 1000.0
"""Seconds that one action takes where a test says so, far more than the whole run."""


@pytest.fixture
def slow(monkeypatch):
    """A function that makes actions slow, by the clock, when exploring or when evaluated; and a count."""
    passed, taken, act = [0.0], [0], SAC.act
    for name in ("monotonic", "perf_counter"):
        real = getattr(time, name)
        monkeypatch.setattr(time, name, lambda real=real: real() + passed[0])

    def choose(exploring):
        def slowly(self, step, carry, rng, explore):
            passed[0] += LONG * (explore == exploring)
            taken[0] += explore == exploring
            return act(self, step, carry, rng, explore)

        monkeypatch.setattr(SAC, "act", slowly)
        return taken

    return choose


@pytest.mark.parametrize("exploring", [False, True])
def test_the_clock_of_the_learning_curve_stands_still_while_it_is_measured(toy, tmp_path, slow, exploring):
    """Slow evaluations cost nothing; slow acting in between does."""
    taken = slow(exploring)
    folder = toy.transfer(tmp_path, "sac/scratch")
    records = [*metrics.read(folder, "evaluation"), json.loads((folder / "run.json").read_text())]
    seconds = [record["seconds"] for record in records]
    assert seconds == sorted(seconds) and len(seconds) == 3 and taken[0] > 40
    if exploring:
        assert 0 < seconds[-1] - LONG * taken[0] < LONG
    else:
        assert 0 < seconds[-1] < LONG


def test_every_transition_head_sees_four_fifths_of_the_episodes(toy, tmp_path):
    heads = 30
    folder = toy.transfer(tmp_path, "sac/scratch", f"model.ensemble.heads={heads}")
    spec = Spec.of(task_suites.get("toy/lqr", image_size=16))
    replay = SequenceReplay(spec, ReplayConfig(), folder / "replay", heads)
    replay.load_state(checkpoint.load(folder / "checkpoints")["replay"])
    masks = [replay.read(k)["head_mask"] for k in range(len(replay.episodes))]
    assert len(masks) == 4 and all(not np.array_equal(a, b) for a, b in itertools.combinations(masks, 2))
    share = np.mean(masks)
    assert abs(share - 0.8) < 5 * (0.8 * 0.2 / (4 * heads)) ** 0.5 < 0.2


class Rope(gymnasium.Env):
    """Ends after 3 to 8 steps, as its seed says, in a terminal state; one more step is an error."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    render_mode = "rgb_array"
    ended = []

    def render(self):
        return np.full((16, 16, 3), 20 * self.steps, np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length, self.steps = 3 + int(self.np_random.integers(6)), 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.steps < self.length, "a step after the end"
        self.steps += 1
        self.ended += [self.length] * (self.steps == self.length)
        return np.full(2, self.steps, np.float32), 1.0, self.steps == self.length, False, {}


@pytest.fixture
def rope(monkeypatch):
    """There is a task mine/rope; the lengths of all episodes that ended."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(Rope, "ended", [])
    task_suites.gymnasium_task(
        "mine/rope", Rope, pixels="render", max_episode_steps=50, reward_input_names=("steps", "length"),
        reward_inputs=lambda env: np.array([env.steps, env.length], np.float32),
        terminated=lambda inputs, action: inputs[..., 0] >= inputs[..., 1],
    )  # fmt: skip
    yield Rope.ended
    gymnasium.registry.pop(task_suites.gymnasium_id("mine/rope"), None)


def test_evaluated_episodes_end_at_their_terminal_states(toy, tmp_path, rope):
    """Side by side, those of different length; each step brings a reward of 1."""
    options = (
        "transfer.targets={goal: {suite: mine/rope, split: train}}",
        "learner.length=3",
        "algorithms.sac.steps=1",
        "learner.horizon=1",
        "transfer.evaluation.episodes=5",
        "transfer.budget_env_steps.default=30",
    )
    folder = toy.transfer(tmp_path, "sac/scratch", *options)
    experiment = toy.experiment(tmp_path, *options)
    del rope[:]
    returns = meta_latent.evaluate(experiment, "goal", "sac/scratch").returns.ravel().tolist()
    assert rope == sorted(rope) == sorted(returns) and len(rope) == 5 and len(set(rope)) > 2
    measured = metrics.read(folder, "evaluation")[-1]
    assert measured["raw_return"] == pytest.approx(np.mean(returns))


def test_checkpoints_are_as_rare_as_evaluations_also_while_nothing_is_collected(toy, tmp_path, monkeypatch):
    """An agent that first makes thirty updates without data, then learns as usual: two evaluations, and the end."""
    saves, save, update, wants = [], Resumable.save, SAC.update, SAC.wants
    monkeypatch.setattr(Resumable, "save", lambda self: saves.append(1) or save(self))
    monkeypatch.setattr(SAC, "wants", lambda self: None if self.updates < 30 else wants(self))

    def first_without(self, replay, rng):
        if self.updates >= 30:
            return update(self, replay, rng)
        self.updates += 1
        return {}

    monkeypatch.setattr(SAC, "update", first_without)
    folder = toy.transfer(tmp_path, "sac/scratch")
    assert len(metrics.read(folder, "evaluation")) == 2 and len(saves) == 3
