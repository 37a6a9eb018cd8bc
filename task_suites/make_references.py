"""Make references.json: `python -m task_suites.make_references [--episodes 50]` (minutes on one core)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Container

import numpy as np

from task_suites import references, registry
from task_suites.distribution import SPLITS, TaskDistribution
from task_suites.task import Task

# Options that change what an episode pays get references of their own; pictures are not needed here.
_QUICK = {"state": True, "action_repeat": 5}
VARIANTS = {
    "metaworld": ({"state": True},),
    "metaworld/ml1": tuple(
        {**_QUICK, "scene": scene, "reward": reward}
        for scene in ("push", "drawer-open")
        for reward in ("reach_object", "reach_goal", "reach_point", "object_to_goal", "success")
    ),
    "metaworld/ml10": (_QUICK,),
    "tabletop": ({"cameras": ()}, {"cameras": (), "sparse": True}),
}
FIRST_SEED = 1_000_000  # far from the seeds of training and evaluation


def roll_out(
    suite: TaskDistribution, task: Task, act: Callable, episodes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return reward_inputs (episodes, T, R), actions (episodes, T, A). act(rng) returns a policy."""
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
    success = float(suite.success(task, inputs[:, -1]).mean())
    return float(suite.reward(task, inputs, actions).sum(1).mean()), success


def _spread(tasks: list[Task], episodes: int) -> list[Task]:
    """Return at most `episodes` of the tasks that share a reference, evenly over their order."""
    return [tasks[index * len(tasks) // episodes] for index in range(min(episodes, len(tasks)))]


def measure(suite: TaskDistribution, episodes: int, known: Container[str] = ()) -> dict[str, dict]:
    """Return the entries of the tasks of `suite` whose keys are not `known`.

    Tasks that share a key are measured together, `episodes` in all. Random and nothing run once per physics,
    relabelled per task.
    """
    size = suite.action_space.shape[0]
    groups: dict[str, list[Task]] = {}
    for task in (task for split in SPLITS for task in suite.tasks(split)):
        groups.setdefault(suite.reference_key(task), []).append(task)
    policies = {
        "random": lambda rng: lambda _: rng.uniform(-1, 1, size).astype(np.float32),
        "nothing": lambda rng: lambda _: np.zeros(size, np.float32),
    }
    blind: dict = {}
    entries = {}
    for key in groups:
        if key in known:
            continue
        tasks = _spread(groups[key], episodes)
        scores: dict[str, list] = {name: [] for name in (*policies, "scripted")}
        for task in tasks:

            def scripted(rng: np.random.Generator, task: Task = task):
                policy = suite.scripted(task)
                policy.reset(rng)
                return policy

            for name, act in {**policies, "scripted": scripted}.items():
                place = (name, task.dynamics, task.parameters)
                if name == "scripted" or place not in blind:
                    blind[place] = roll_out(suite, task, act, max(1, episodes // len(tasks)))
                scores[name].append(_score(suite, task, blind[place]))
        means = {name: np.mean(rows, axis=0).tolist() for name, rows in scores.items()}
        entries[key] = _entry(tasks[0], means, episodes)
    return entries


def _entry(task: Task, means: dict[str, list[float]], episodes: int) -> dict:
    """Return what is committed; `means` are (raw return, success) of each policy."""
    return {
        "reward": {"name": task.reward.name, **task.reward.parameters},
        "floor": max(means["random"][0], means["nothing"][0]),
        "reference": means["scripted"][0],
        "episodes": episodes,
        "success": {name: values[1] for name, values in means.items()},
    }


def main() -> None:
    """Measure all registered distributions of this package and write references.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=50, help="episodes per task and policy")
    episodes = parser.parse_args().episodes
    scores: dict[str, dict] = {}
    for name in registry.names():
        for options in VARIANTS.get(name, VARIANTS.get(name.partition("/")[0], ({},))):
            scores.update(measure(registry.get(name, **options), episodes, scores))
            print(f"{name} {options}: {len(scores)} tasks so far", flush=True)
    value = {
        "format": 1,
        "command": f"python -m task_suites.make_references --episodes {episodes}",
        "scores": scores,
    }
    references.PATH.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
