"""What every suite promises, tried on a task: mistakes in one's own environment, before a long run finds them.

>>> import task_suites
>>> task_suites.faults(task_suites.get("toy/lqr"))
[]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from task_suites.distribution import SPLITS, TaskDistribution
from task_suites.errors import SuiteError
from task_suites.task import Task

_ROUNDING = 1e-5
"""Of rewards, relative to the largest."""


@dataclass(frozen=True)
class _Episode:
    """T actions, T + 1 observations and infos, T rewards and ends, of a task."""

    task: Task
    actions: np.ndarray
    observations: list[dict[str, np.ndarray]]
    infos: list[dict[str, Any]]
    rewards: list[float]
    ends: list[tuple[bool, bool]]

    @property
    def inputs(self) -> np.ndarray:
        """(T, R), after each action."""
        return np.stack([info["reward_inputs"] for info in self.infos[1:]])


def faults(suite: TaskDistribution, tasks: Sequence[Task] | None = None, seed: int = 0, steps: int = 50) -> list[str]:
    """Play random actions and return what breaks the contract of `TaskDistribution`, a line each; [] if nothing does.

    Tried are: what `reset` makes of a seed, spaces and types, the time limit, and whether rewards, success and ends
    that the suite computes from `reward_inputs` are those of the environment, for whole arrays at once, and for torch
    tensors where torch has been imported.

    tasks: those that are played; None: the first of each split. steps: of an episode at most, beside one that is played
    to its end.
    """
    found = list(_of_tasks(suite))
    if tasks is None:
        tasks = [task for split in SPLITS for task in suite.tasks(split)[:1]]
    for task in tasks:
        told = [fault for fault in _of_task(suite, task, seed, steps) if fault not in found]
        found += told
    return found


def _of_tasks(suite: TaskDistribution) -> Iterator[str]:
    splits = {split: suite.tasks(split) for split in SPLITS}
    if not any(splits.values()):
        yield "it has no tasks"
    shared = set(splits["train"]) & set(splits["test"])
    if shared:
        yield f"{len(shared)} task(s) are in both splits, such as {next(iter(shared)).to_json()}"
    for task in (task for tasks in splits.values() for task in tasks):
        if Task.from_json(task.to_json()) != task:
            yield f"a task is another one after to_json and from_json: {task.to_json()}"
            return


def _of_task(suite: TaskDistribution, task: Task, seed: int, steps: int) -> Iterator[str]:
    """Faults on one task; after one of playing, nothing can be said of rewards."""
    try:
        episode = _played(suite, suite.make(task), task, seed, steps)
        again = _played(suite, suite.make(task), task, seed, steps)
    except SuiteError as error:
        yield str(error)
        return
    broken = list(_of_observations(suite, episode))
    yield from broken or _of_seeds(episode, again)
    for name, call, expected in (
        ("reward", lambda inputs, actions: suite.reward(task, inputs, actions), episode.rewards),
        ("success", lambda inputs, actions: suite.success(task, inputs), [i["success"] for i in episode.infos[1:]]),
        ("terminated", lambda inputs, actions: suite.terminated(task, inputs, actions), [e[0] for e in episode.ends]),
    ):
        yield from _of_function(name, call, episode, expected)
    yield from _of_the_end(suite, task, seed)


def _played(suite: TaskDistribution, env: gymnasium.Env, task: Task, seed: int, steps: int) -> _Episode:
    """An episode of random actions, or its first `steps`; the environment is closed."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    found = _Episode(task, rng.uniform(-1, 1, (steps, *suite.action_space.shape)).astype(np.float32),
                     [observation], [info], [], [])  # fmt: skip
    for action in found.actions:
        observation, reward, terminated, truncated, info = env.step(action)
        found.observations.append(observation)
        found.infos.append(info)
        found.rewards.append(reward)
        found.ends.append((bool(terminated), bool(truncated)))
        if terminated or truncated:
            break
    env.close()
    return _Episode(task, found.actions[: len(found.rewards)], found.observations, found.infos, found.rewards,
                    found.ends)  # fmt: skip


def _of_observations(suite: TaskDistribution, episode: _Episode) -> Iterator[str]:
    for t, (observation, info) in enumerate(zip(episode.observations, episode.infos, strict=True)):
        if not suite.observation_space.contains(observation):
            shown = {key: f"{np.asarray(value).dtype}{np.shape(value)}" for key, value in observation.items()}
            yield f"observation {t} is not in observation_space: {shown}, expected {suite.observation_space}"
            return
        if not all(np.isfinite(value).all() for value in (*observation.values(), info["reward_inputs"])):
            yield f"observation {t} or its reward_inputs are not finite"
            return
    rewards = np.array(episode.rewards, np.float64)
    if not np.isfinite(rewards).all():
        yield f"reward {int(np.flatnonzero(~np.isfinite(rewards))[0])} of an episode is not finite"
    arrays = [value for observation in episode.observations for value in observation.values()]
    if any(np.shares_memory(a, b) for a, b in zip(arrays, arrays[len(episode.observations[0]) :], strict=False)):
        yield "an observation changes with the next one, as both share their memory: return copies"


def _of_seeds(first: _Episode, again: _Episode) -> Iterator[str]:
    """An episode is to follow from seed and actions."""
    pairs = zip(first.observations, again.observations, strict=False)
    for t, (a, b) in enumerate(pairs):
        for key in a:
            if not np.array_equal(a[key], b[key]):
                when = "after reset" if t == 0 else f"after step {t}"
                yield (f"the same seed and actions gave another {key} in a second environment, {when}: draw from "
                       "self.np_random, which reset(seed=...) seeds, and from no global generator")  # fmt: skip
                return
    if first.rewards != again.rewards:
        yield "the same seed and actions gave other rewards in a second environment"


def _of_function(name: str, call: Callable, episode: _Episode, expected: Sequence[Any]) -> Iterator[str]:
    """Whether what the suite computes from inputs is what the environment said, however the arrays are shaped."""
    inputs, actions, wanted = episode.inputs, episode.actions, np.array(expected)
    scale = max(1.0, float(np.abs(wanted).max()))
    for shape, view in (("(T,)", ()), ("(1, T, 1)", None)):
        shaped = (inputs, actions) if view == () else (inputs[None, :, None], actions[None, :, None])
        try:
            answer = np.asarray(call(*shaped))
        except Exception as error:  # somebody's code
            yield f"{name} of whole arrays, here {shape}, fails with {type(error).__name__}: {error}"
            return
        if answer.shape != shaped[0].shape[:-1]:
            yield f"{name} of inputs {shaped[0].shape} has the shape {answer.shape}, expected {shaped[0].shape[:-1]}"
            return
        wrong = np.abs(answer.reshape(-1).astype(np.float64) - wanted) > _ROUNDING * scale
        if wrong.any():
            t = int(np.flatnonzero(wrong)[0])
            yield (f"{name} computed from reward_inputs is {answer.reshape(-1)[t]} at step {t + 1}, the environment "
                   f"said {expected[t]}")  # fmt: skip
            return
    yield from _of_tensors(name, call, inputs, actions, np.asarray(call(inputs, actions)))


def _of_tensors(
    name: str, call: Callable, inputs: np.ndarray, actions: np.ndarray, wanted: np.ndarray
) -> Iterator[str]:
    """The same of torch tensors, which models imagine in, where torch has been imported: suites do without."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    try:
        answer = call(torch.as_tensor(inputs), torch.as_tensor(actions))
    except Exception as error:  # somebody's code
        yield f"{name} of torch tensors fails with {type(error).__name__}: {error}; np.sqrt(x) is x ** 0.5, and so on"
        return
    if not isinstance(answer, torch.Tensor):
        yield f"{name} of torch tensors is no tensor but {type(answer).__name__}"
    elif not np.allclose(answer.numpy().astype(np.float64), wanted.astype(np.float64), rtol=1e-4, atol=1e-4):
        yield f"{name} of torch tensors is another one than that of numpy arrays"


def _of_the_end(suite: TaskDistribution, task: Task, seed: int) -> Iterator[str]:
    """The time limit is `max_episode_steps`, and nothing else cuts an episode off."""
    limit = suite.max_episode_steps
    try:
        episode = _played(suite, suite.make(task), task, seed, limit + 1)
    except SuiteError as error:
        yield f"an episode cannot be played to its end: {error}"
        return
    count, (terminated, truncated) = len(episode.rewards), episode.ends[-1]
    if not (terminated or truncated) or count > limit:
        yield f"an episode goes on after max_episode_steps={limit}"
    elif truncated and not terminated and count < limit:
        yield f"an episode is truncated after {count} steps, max_episode_steps is {limit}"
