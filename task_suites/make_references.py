"""Make references.json: `python -m task_suites.make_references [--episodes 50]` (minutes on one core)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np

from task_suites import references, registry
from task_suites.distribution import SPLITS, TaskDistribution
from task_suites.errors import SuiteError
from task_suites.task import Task

# Options that change what an episode pays get references of their own; pictures are not needed here.
_DENSE, _SPARSE = {"cameras": ()}, {"cameras": (), "sparse": True}
_WITH_FINGERS = tuple({**options, "gripper": "fingers"} for options in (_DENSE, _SPARSE))
VARIANTS: dict[str, tuple[dict, ...]] = {  # by name, or else by family
    "meld": (_DENSE, _SPARSE),
    "tabletop": (_DENSE, _SPARSE),
    "tabletop/lift": (_DENSE, _SPARSE, *_WITH_FINGERS),
    "tabletop/stack": (_DENSE, _SPARSE, *_WITH_FINGERS),
}
_LEAST_GAIN = 0.1  # a script that hardly beats chance sets no scale: scores of the task stay raw
FIRST_SEED = 1_000_000  # far from the seeds of training and evaluation


def roll_out(
    suite: TaskDistribution, task: Task, act: Callable, episodes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return reward_inputs (episodes, T, R), actions (episodes, T, A). act(rng) returns a policy.

    It goes on to the time limit: whether an episode ends before depends on the task, see `_score`.
    """
    env, inputs, actions = suite.make(task), [], []
    for episode in range(episodes):
        rng = np.random.default_rng(FIRST_SEED + episode)
        policy, (_, info) = act(rng), env.reset(seed=FIRST_SEED + episode)
        for _ in range(suite.max_episode_steps):
            actions.append(policy(info["reward_inputs"]))
            info = env.step(actions[-1])[4]
            inputs.append(info["reward_inputs"])
    env.close()
    shape = episodes, suite.max_episode_steps, -1
    return np.array(inputs).reshape(shape), np.array(actions, np.float32).reshape(shape)


def _score(suite: TaskDistribution, task: Task, data: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    inputs, actions = data
    ended = suite.terminated(task, inputs, actions)
    alive = ended.cumsum(1) - ended == 0  # up to the step that ends the episode for good
    success = suite.success(task, inputs)[np.arange(len(inputs)), alive.sum(1) - 1]
    return float((suite.reward(task, inputs, actions) * alive).sum(1).mean()), float(success.mean())


def measure(suite: TaskDistribution, episodes: int) -> dict[str, dict]:
    """Return the entries of every task of `suite` that has a scripted policy.

    Random and nothing run once per physics, relabelled per task.
    """
    try:
        suite.scripted(suite.tasks("train")[0])
    except SuiteError:
        return {}
    size = suite.action_space.shape[0]
    blind: dict = {}
    entries = {}
    for task in (task for split in SPLITS for task in suite.tasks(split)):
        physics = task.dynamics, task.parameters
        if physics not in blind:
            blind[physics] = (
                roll_out(
                    suite, task, lambda rng: lambda _: rng.uniform(-1, 1, size).astype(np.float32), episodes
                ),
                roll_out(suite, task, lambda rng: lambda _: np.zeros(size, np.float32), episodes),
            )

        def scripted(rng: np.random.Generator, task: Task = task):
            policy = suite.scripted(task)
            policy.reset(rng)
            return policy

        random, nothing = (_score(suite, task, data) for data in blind[physics])
        script = _score(suite, task, roll_out(suite, task, scripted, episodes))
        floor = max(random[0], nothing[0])
        if script[0] - floor < _LEAST_GAIN * max(abs(script[0]), abs(floor)):
            continue
        entries[suite.reference_key(task)] = {
            "reward": {"name": task.reward.name, **task.reward.parameters},
            "floor": floor,
            "reference": script[0],
            "success": {"random": random[1], "nothing": nothing[1], "scripted": script[1]},
        }
    return entries


def main() -> None:
    """Measure all registered distributions of this package and write references.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=50, help="episodes per task and policy")
    episodes = parser.parse_args().episodes
    scores: dict[str, dict] = {}
    for name in registry.names():
        for options in VARIANTS.get(name) or VARIANTS.get(name.partition("/")[0], ({},)):
            scores.update(measure(registry.get(name, **options), episodes))
            print(f"{name} {options}: {len(scores)} tasks so far", flush=True)
    value = {
        "format": 1,
        "command": f"python -m task_suites.make_references --episodes {episodes}",
        "scores": scores,
    }
    references.PATH.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
