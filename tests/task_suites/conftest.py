"""How tests of several suites play whole episodes."""

import numpy as np
import pytest


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
