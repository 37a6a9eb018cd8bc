"""Make references.json: `python -m task_suites.make_references [--episodes 50]` (minutes on one core)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Container, Sequence

import gymnasium
import numpy as np

from task_suites import references, registry
from task_suites.distribution import SPLITS, TaskDistribution
from task_suites.errors import SuiteError
from task_suites.task import Task

# Options that change what an episode pays get references of their own; pictures are not needed here.
_DENSE, _SPARSE = {"cameras": ()}, {"cameras": (), "sparse": True}
_WITH_FINGERS = tuple({**options, "gripper": "fingers"} for options in (_DENSE, _SPARSE))
_QUICK = {"state": True, "action_repeat": 5}
VARIANTS: dict[str, tuple[dict, ...]] = {  # by name, or else by family
    "meld": (_DENSE, _SPARSE),
    "metaworld": ({"state": True},),
    "metaworld/ml1": tuple(
        {**_QUICK, "scene": scene, "reward": reward}
        for scene in ("push", "drawer-open")
        for reward in ("reach_object", "reach_goal", "reach_point", "object_to_goal", "success")
    ),
    "metaworld/ml10": (_QUICK,),
    "tabletop": (_DENSE, _SPARSE),
    "tabletop/lift": (_DENSE, _SPARSE, *_WITH_FINGERS),
    "tabletop/stack": (_DENSE, _SPARSE, *_WITH_FINGERS),
    "toy/hidden_goal": tuple(
        {"goals": goals, "reward": reward} for goals in ("ring", "half_ring") for reward in ("dense", "sparse")
    )
    + ({"goals": "ring", "reward": "dense", "episode_steps": 15},),
    "toy/rotated_actuators": ({}, {"inertia": True}),
}
_LEAST_GAIN = 0.1  # a script that hardly beats chance sets no scale: scores of the task stay raw
FIRST_SEED = 1_000_000  # far from the seeds of training and evaluation


def roll_out(suite: TaskDistribution, task: Task, act: Callable, episodes: int) -> tuple[np.ndarray, np.ndarray]:
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


def _policies(suite: TaskDistribution, task: Task) -> dict[str, Callable]:
    """Return what is measured: act(rng) starts an episode and returns a function of the reward inputs."""
    size = suite.action_space.shape[0]

    def scripted(rng: np.random.Generator) -> Callable:
        policy = suite.scripted(task)
        policy.reset(rng)
        return policy

    return {
        "random": lambda rng: lambda _: rng.uniform(-1, 1, size).astype(np.float32),
        "nothing": lambda rng: lambda _: np.zeros(size, np.float32),
        "scripted": scripted,
    }


def _score(suite: TaskDistribution, task: Task, data: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    inputs, actions = data
    ended = suite.terminated(task, inputs, actions)
    alive = ended.cumsum(1) - ended == 0  # up to the step that ends the episode for good
    success = suite.success(task, inputs)[np.arange(len(inputs)), alive.sum(1) - 1]
    return float((suite.reward(task, inputs, actions) * alive).sum(1).mean()), float(success.mean())


def _spread(tasks: Sequence[Task], episodes: int) -> list[Task]:
    """Return at most `episodes` of the tasks that share a reference, evenly over their order."""
    count = min(episodes, len(tasks))
    return [tasks[index * len(tasks) // count] for index in range(count)]


def _entry(task: Task, means: dict[str, list[float]], episodes: int) -> dict:
    """Return what is committed; `means` are (raw return, success) of each policy."""
    return {
        "reward": {"name": task.reward.name, **task.reward.parameters},
        "floor": max(means["random"][0], means["nothing"][0]),
        "reference": means["scripted"][0],
        "episodes": episodes,
        "success": {name: values[1] for name, values in means.items()},
    }


def _has_script(suite: TaskDistribution, task: Task) -> bool:
    try:
        suite.scripted(task)
    except SuiteError:  # nobody knows how to solve it
        return False
    return True


def measure(suite: TaskDistribution, episodes: int, known: Container[str] = ()) -> dict[str, dict]:
    """Return the entries of the tasks of `suite` whose keys are not `known` and whose script beats chance.

    Tasks that share a key are measured together, `episodes` in all. Random and nothing run once per physics,
    relabelled per task.
    """
    if not _has_script(suite, suite.tasks("train")[0]):
        return {}
    groups: dict[str, list[Task]] = {}
    for task in (task for split in SPLITS for task in suite.tasks(split)):
        groups.setdefault(suite.reference_key(task), []).append(task)
    blind: dict = {}
    entries = {}
    for key, group in groups.items():
        if key in known:
            continue
        tasks = _spread(group, episodes)
        scores: dict[str, list] = {}
        for task in tasks:
            for name, act in _policies(suite, task).items():
                place = name, task.dynamics, task.parameters
                data = blind.get(place) or roll_out(suite, task, act, max(1, episodes // len(tasks)))
                if name != "scripted":
                    blind[place] = data
                scores.setdefault(name, []).append(_score(suite, task, data))
        means = {name: np.mean(rows, axis=0).tolist() for name, rows in scores.items()}
        entry = _entry(tasks[0], means, episodes)
        floor, reference = entry["floor"], entry["reference"]
        if reference - floor >= _LEAST_GAIN * max(abs(reference), abs(floor)):
            entries[key] = entry
    return entries


def mean_returns(suite: TaskDistribution, episodes: int, tasks: Sequence[Task]) -> dict[str, list[float]]:
    """Return the mean raw return of "random", "nothing" and, where there is one, "scripted", task by task.

    About `episodes` per policy in all, over the tasks, each until it ends; with them one may set the scale of a task
    of one's own.
    """
    tasks = _spread(tasks, episodes)
    found: dict[str, list[float]] = {}
    for task in tasks:
        env, policies = suite.make(task), _policies(suite, task)
        if not _has_script(suite, task):
            policies.pop("scripted")
        for name, act in policies.items():
            returns = [_played(env, act, FIRST_SEED + k) for k in range(max(1, episodes // len(tasks)))]
            found.setdefault(name, []).append(float(np.mean(returns)))
        env.close()
    return found


def _played(env: gymnasium.Env, act: Callable, seed: int) -> float:
    """Return what one episode pays."""
    policy, (_, info) = act(np.random.default_rng(seed)), env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        _, reward, terminated, truncated, info = env.step(policy(info["reward_inputs"]))
        total, over = total + reward, terminated or truncated
    return total


def as_text(command: str, scores: dict[str, dict]) -> str:
    """Return what references.json holds, a line per entry: small, and a change of one shows as one."""
    lines = (f"  {json.dumps(key)}: {json.dumps(scores[key], sort_keys=True)}" for key in sorted(scores))
    return f'{{\n "command": {json.dumps(command)},\n "format": 1,\n "scores": {{\n' + ",\n".join(lines) + "\n }\n}\n"


def main() -> None:
    """Measure all registered distributions of this package and write references.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=50, help="episodes per task and policy")
    episodes = parser.parse_args().episodes
    scores: dict[str, dict] = {}
    for name in registry.names():
        for options in VARIANTS.get(name) or VARIANTS.get(name.partition("/")[0], ({},)):
            scores.update(measure(registry.get(name, **options), episodes, scores))
            print(f"{name} {options}: {len(scores)} tasks so far", flush=True)
    command = f"python -m task_suites.make_references --episodes {episodes}"
    references.PATH.write_text(as_text(command, scores))


if __name__ == "__main__":
    main()
