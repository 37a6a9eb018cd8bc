"""How tests of several suites play episodes and register environments of users."""

import gymnasium
import numpy as np
import pytest

import task_suites
from task_suites import registry


@pytest.fixture
def rollout():
    """rollout(env, act, seed) plays one episode and gives its return and last info; act(reward_inputs)."""

    def play(env, act, seed):
        total, over, info = 0.0, False, env.reset(seed=seed)[1]
        while not over:
            _, reward, terminated, truncated, info = env.step(act(info["reward_inputs"]))
            total, over = total + reward, terminated or truncated
        return total, info

    return play


@pytest.fixture
def success_rate(rollout):
    """success_rate(suite, tasks, how, episodes): the share that ends in success; "scripted" or "random"."""

    def policy(suite, task, how, rng):
        if how == "random":
            return lambda _: rng.uniform(-1, 1, suite.action_space.shape)
        scripted = suite.scripted(task)
        scripted.reset(rng)
        return scripted

    def share(suite, tasks, how, episodes):
        done = []
        for episode in range(episodes):
            task, rng = tasks[episode % len(tasks)], np.random.default_rng(episode)
            env = suite.make(task)
            done.append(rollout(env, policy(suite, task, how, rng), episode)[1]["success"])
            env.close()
        return np.mean(done)

    return share


@pytest.fixture
def of(monkeypatch):
    """of(make, name, **given) registers a user's environment for this test and gives what opens it."""
    known, names = dict(registry._ENTRIES), set()

    def opened(make, name="mine/theirs", **given):
        monkeypatch.setattr(registry, "_ENTRIES", dict(known))
        gymnasium.registry.pop(task_suites.gymnasium_id(name), None)
        names.add(name)
        task_suites.gymnasium_task(name, make, **given)
        return lambda **options: task_suites.get(name, **options)

    yield opened
    for name in names:
        gymnasium.registry.pop(task_suites.gymnasium_id(name), None)


@pytest.fixture
def random_steps():
    """random_steps(suite) gives its first task and some random steps: (observation, reward, info)."""

    def play(suite, seed=3, steps=8):
        task = suite.sample("train", 1, seed=0)[0]
        env, rng = suite.make(task), np.random.default_rng(seed)
        observation, info = env.reset(seed=seed)
        rows = [(observation, 0.0, info)]
        for _ in range(steps):
            observation, reward, _, _, info = env.step(rng.uniform(-1, 1, env.action_space.shape))
            rows.append((observation, reward, info))
            assert env.observation_space.contains(observation)
        env.close()
        return task, rows

    return play
