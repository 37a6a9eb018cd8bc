"""Pictures of tasks for people: how an episode looks to the agent."""

from __future__ import annotations

from typing import Any

import numpy as np

from task_suites import registry
from task_suites.distribution import TaskDistribution
from task_suites.errors import SuiteError
from task_suites.task import Task


def open_large(name: str, pixels: int, /, **options: Any) -> TaskDistribution:
    """Return the distribution `name` with pictures of about `pixels`, smooth, where it has such options.

    options: others of its, or these two otherwise.
    """
    wanted = {"image_size": pixels, "antialias": True}
    known = registry.options_of(name)
    large = {key: value for key, value in wanted.items() if key in known}
    return registry.get(name, **{**large, **options})


def film(suite: TaskDistribution, task: Task, seed: int = 3) -> list[np.ndarray]:
    """Return what the agent sees of one episode, first to last: uint8 (H, W, 3).

    Of the scripted policy if there is one, else of random actions; ends with success. The first camera; where
    nothing is seen, what `render` shows.
    """
    env, act = suite.make(task), _policy(suite, task, np.random.default_rng(seed))
    observation, info = env.reset(seed=seed)
    pictures, done = [_picture(env, observation)], False
    while not done:
        observation, _, terminated, truncated, info = env.step(act(info["reward_inputs"]))
        pictures.append(_picture(env, observation))
        done = terminated or truncated or info["success"]
    env.close()
    return pictures


def still(suite: TaskDistribution, task: Task, seed: int = 3) -> np.ndarray:
    """Return what the agent sees when an episode begins: uint8 (H, W, 3), as in `film`."""
    env = suite.make(task)
    observation, _ = env.reset(seed=seed)
    picture = _picture(env, observation)
    env.close()
    return picture


def _policy(suite: TaskDistribution, task: Task, rng: np.random.Generator):
    try:
        script = suite.scripted(task)
    except SuiteError:
        return lambda _: rng.uniform(-1, 1, suite.action_space.shape).astype(np.float32)
    script.reset(rng)
    return script


def _picture(env, observation: dict[str, np.ndarray]) -> np.ndarray:
    key = next((key for key in observation if key.startswith("image_")), None)
    return np.asarray(env.render()) if key is None else observation[key]
