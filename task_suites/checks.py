"""What every suite promises, tried on a task: mistakes in one's own environment, before a long run finds them.

>>> import task_suites
>>> task_suites.faults(task_suites.get("toy/lqr"))
[]
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np

from task_suites.adapted_env import Converted
from task_suites.distribution import SPLITS, TaskDistribution
from task_suites.errors import SuiteError, unfit
from task_suites.registry import get
from task_suites.task import Task

_ROUNDING = 1e-5
"""Of rewards, relative to the largest."""
TAKE = {"reward": ("task", "inputs", "action"), "success": ("task", "inputs"),
        "terminated": ("task", "inputs", "action")}  # fmt: skip
"""What the functions of a suite are called with."""
_MOMENT = 10
"""Steps of an episode of a task beside the first."""


@dataclass(frozen=True)
class _Episode:
    """T actions, T + 1 observations, as they were returned and as they were then, and infos, T rewards and ends.
    outside: what of each observation is not in the own space of an environment that was adapted.
    """

    task: Task
    actions: np.ndarray
    observations: list[dict[str, np.ndarray]]
    infos: list[dict[str, Any]]
    rewards: list[float]
    ends: list[tuple[bool, bool]]
    copies: list[dict[str, np.ndarray]]
    outside: list[str | None]

    @property
    def inputs(self) -> np.ndarray:
        """(T, R), after each action."""
        return np.stack([info["reward_inputs"] for info in self.infos[1:]])


def faults(
    suite: TaskDistribution | str,
    tasks: Sequence[Task] | None = None,
    seed: int = 0,
    steps: int = 50,
    others: Sequence[Task] = (),
) -> list[str]:
    """Play random actions and return what breaks the contract of `TaskDistribution`, a line each; [] if nothing does.

    Tried are: what `reset` makes of a seed, spaces (an adapted environment's own, too) and types, the time limit, and
    whether rewards, success and ends that the suite computes from `reward_inputs` are those of the environment, for
    whole arrays at once, and for torch tensors where torch is installed.

    suite: or its name. tasks: those that are played; None: the first of each split, and `others` are the rest of it.
    others: tasks of which two are played for a moment, and whose functions are all given what the last of them went
    through; of them, the first with a fault is named, and none where there were faults before. steps: of an episode at
    most, beside one that is played to its end.
    """
    suite = get(suite) if isinstance(suite, str) else suite
    found = list(_of_tasks(suite))
    if tasks is None:
        groups = [(first, rest) for first, *rest in (suite.tasks(split) for split in SPLITS if suite.tasks(split))]
    else:
        groups = [(task, others if place == 0 else ()) for place, task in enumerate(tasks)]
    for first, rest in groups:
        told = list(_of_task(suite, first, seed, steps))
        if not told and (later := later_fault(suite, rest, seed, steps)):
            told = [later[1]]
        found += [fault for fault in told if fault not in found]
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
    """Faults on one task; of one that cannot be played, nothing else can be said."""
    try:
        env = suite.make(task)
        first, again = (_played(suite, env, task, seed, steps) for _ in range(2))
        other = _played(suite, suite.make(task), task, seed, steps)
        whole = _played(suite, suite.make(task), task, seed, suite.max_episode_steps + 1)
    except Exception as error:  # somebody's code
        yield _said(error)
        return
    yield from (
        list(_of_observations(suite, first))
        or list(_of_seeds(first, again, "when it was reset to it again"))
        or list(_of_seeds(first, other, "in a second environment"))
    )
    yield from _of_functions(suite, task, first)
    yield from _of_own_space(whole)
    yield from _of_the_end(suite, whole)


def later_fault(
    suite: TaskDistribution, others: Sequence[Task], seed: int = 0, steps: int = 50
) -> tuple[Task, str] | None:
    """The first of `others` with a fault, and what it is, which names the task; None: no such. See `faults`."""
    if not others:
        return None
    for task in dict.fromkeys((others[(len(others) - 1) // 2], others[-1])):
        try:
            episode = _played(suite, suite.make(task), task, seed, min(steps, _MOMENT))
        except Exception as error:  # somebody's code
            return task, _in_task(_said(error), task)
        told = [*_of_observations(suite, episode), *_of_functions(suite, task, episode), *_of_own_space(episode)]
        if told:
            return task, _in_task(told[0], task)
    for task in others:
        told = list(_of_functions_beside(suite, task, episode))
        if told:
            return task, _in_task(told[0], task)
    return None


def _in_task(fault: str, task: Task) -> str:
    return f"{fault}, in the task {task.to_json()}"


def _said(error: Exception) -> str:
    if isinstance(error, SuiteError | _Broken):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}:{place.lineno}, in {place.name})"


class _Broken(Exception):
    """What an environment answered, which is not what one answers."""


def _played(suite: TaskDistribution, env: gymnasium.Env, task: Task, seed: int, steps: int) -> _Episode:
    """An episode of random actions, or its first `steps`."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (steps, *suite.action_space.shape)).astype(np.float32)
    observation, info = _answer(env.reset(seed=seed), "reset", "observation, info")
    found = _Episode(task, actions, [observation], [_info(suite, info, "reset")], [], [], [_copied(observation)],
                     [_outside(env)])  # fmt: skip
    for action in actions.copy():
        answer = _answer(env.step(action), "step", "observation, reward, terminated, truncated, info")
        observation, reward, terminated, truncated, info = answer
        found.observations.append(observation)
        found.copies.append(_copied(observation))
        found.outside.append(_outside(env))
        found.infos.append(_info(suite, info, "step"))
        found.rewards.append(float(reward))
        found.ends.append((bool(terminated), bool(truncated)))
        if terminated or truncated:
            break
    return replace(found, actions=actions[: len(found.rewards)])


def _answer(answer: Any, method: str, names: str) -> tuple:
    if not isinstance(answer, tuple) or len(answer) != names.count(",") + 1:
        said = f"{len(answer)} values" if isinstance(answer, tuple) else type(answer).__name__
        raise _Broken(f"{method} returned {said}, expected ({names})")
    return answer


def _info(suite: TaskDistribution, info: Any, method: str) -> dict[str, Any]:
    """A copy of what was said beside an observation, which may be a view of what moves."""
    missing = [key for key in ("reward_inputs", "success") if key not in info]
    if missing:
        raise _Broken(f"info of {method} has no {' and no '.join(missing)}")
    inputs, count = np.array(info["reward_inputs"]), len(suite.reward_input_names)
    if inputs.shape != (count,):
        raise _Broken(f"info of {method}: reward_inputs has the shape {inputs.shape}, reward_input_names are {count}")
    return {"reward_inputs": inputs, "success": bool(info["success"])}


def _outside(env: gymnasium.Env) -> str | None:
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, Converted) and (found := env.outside()):
            return found
        env = env.env
    return None


def _copied(observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: np.array(value) for key, value in observation.items()}


def _of_observations(suite: TaskDistribution, episode: _Episode) -> Iterator[str]:
    for t, (observation, info) in enumerate(zip(episode.copies, episode.infos, strict=True)):
        for key, value in {**observation, "reward_inputs": info["reward_inputs"]}.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                first = np.argwhere(~np.isfinite(value))[0].tolist()
                yield f"{key} of observation {t} is {value[tuple(first)]} at {first}: numbers have to be finite"
                return
        if not suite.observation_space.contains(observation):
            shown = {key: f"{value.dtype}{value.shape}" for key, value in observation.items()}
            yield f"observation {t} is not in observation_space: {shown}, expected {suite.observation_space}"
            return
    rewards = np.array(episode.rewards)
    if not np.isfinite(rewards).all():
        yield f"reward {int(np.flatnonzero(~np.isfinite(rewards))[0]) + 1} of an episode is not finite"
    if any(not np.array_equal(now[key], then[key])
           for now, then in zip(episode.observations, episode.copies, strict=True) for key in now):  # fmt: skip
        yield "an observation changes after it was returned, as a later one is written into its memory: return copies"


def _of_own_space(episode: _Episode) -> Iterator[str]:
    """What the space of the adapted environment would hide."""
    for t, words in enumerate(episode.outside):
        if words:
            yield (f"observation {t} of the environment itself holds {words}: let its observation_space say what it "
                   "returns")  # fmt: skip
            return


def _of_seeds(first: _Episode, again: _Episode, where: str) -> Iterator[str]:
    """An episode is to follow from seed and actions."""
    for t, (a, b) in enumerate(zip(first.copies, again.copies, strict=False)):
        pairs = {key: (a[key], b[key]) for key in a}
        pairs["reward_inputs"] = (first.infos[t]["reward_inputs"], again.infos[t]["reward_inputs"])
        for key, values in pairs.items():
            if not np.array_equal(*values):
                when = "after reset" if t == 0 else f"after step {t}"
                yield (f"the same seed and actions gave another {key} {where}, {when}: draw from self.np_random, which "
                       "reset(seed=...) seeds, not from a global one, and let reset forget the rest")  # fmt: skip
                return
    if (first.rewards, first.ends) != (again.rewards, again.ends):
        yield f"the same seed and actions gave other rewards or ends {where}"


def _of_functions(suite: TaskDistribution, task: Task, episode: _Episode) -> Iterator[str]:
    """Whether what the suite computes from inputs is what the environment said, if the episode is of this task."""
    for name, call, said in (
        ("reward", lambda inputs, actions: suite.reward(task, inputs, actions), episode.rewards),
        ("success", lambda inputs, actions: suite.success(task, inputs), [i["success"] for i in episode.infos[1:]]),
        ("terminated", lambda inputs, actions: suite.terminated(task, inputs, actions), [e[0] for e in episode.ends]),
    ):
        if wrong := unfit(getattr(suite, name), TAKE[name]):
            yield f"{name}: {wrong}"
            continue
        yield from _of_function(name, call, episode, said if task is episode.task else None)


def _of_functions_beside(suite: TaskDistribution, task: Task, episode: _Episode) -> Iterator[str]:
    """Whether functions of `task` take what an episode of another one went through, where they are to."""
    try:
        fit = suite.recomputes(task, episode.task)
    except Exception as error:  # somebody's code
        yield _said(error)
        return
    if fit:
        yield from _of_functions(suite, task, episode)


def _of_function(name: str, call: Callable, episode: _Episode, expected: Sequence[Any] | None) -> Iterator[str]:
    """Whether what the suite computes is finite, and `expected` (None: nobody knows), however arrays are shaped."""
    inputs, actions = episode.inputs, episode.actions
    led = {"(T,)": (inputs, actions), "(1, T, 1)": (inputs[None, :, None], actions[None, :, None])}
    for shape, shaped in led.items():
        try:
            answer = np.asarray(call(*shaped))
        except Exception as error:  # somebody's code
            yield f"{name} of whole arrays, here {shape}, fails with {type(error).__name__}: {error}"
            return
        if answer.shape != shaped[0].shape[:-1]:
            yield misshapen(name, shaped[0].shape, answer.shape)
            return
        values = answer.reshape(-1).astype(np.float64)
        wanted = values if expected is None else np.array(expected)
        if not np.isfinite(values).all() and (expected is None or np.isfinite(wanted).all()):
            t = int(np.flatnonzero(~np.isfinite(values))[0])
            yield f"{name} computed from reward_inputs is not finite: {values[t]} at step {t + 1}"
            return
        wrong = np.abs(values - wanted) > _ROUNDING * max(1.0, float(np.abs(wanted).max()))
        if wrong.any():
            t = int(np.flatnonzero(wrong)[0])
            yield (f"{name} computed from reward_inputs is {answer.reshape(-1)[t]} at step {t + 1}, the environment "
                   f"said {expected[t]}")  # fmt: skip
            return
    yield from _of_tensors(name, call, inputs, actions, np.asarray(call(inputs, actions)))


def misshapen(name: str, given: tuple[int, ...], answered: tuple[int, ...]) -> str:
    """What to say of a function whose answer to inputs of the shape `given` is no value of each row."""
    return (f"{name} of inputs {given} has the shape {answered}, expected {given[:-1]}: it has to reduce the last "
            "dimension alone")  # fmt: skip


def _of_tensors(
    name: str, call: Callable, inputs: np.ndarray, actions: np.ndarray, wanted: np.ndarray
) -> Iterator[str]:
    """The same of torch tensors, which models imagine in, where torch is installed."""
    try:
        torch = importlib.import_module("torch")  # by name: suites do without, and this is asked for
    except ModuleNotFoundError:
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


def _of_the_end(suite: TaskDistribution, episode: _Episode) -> Iterator[str]:
    """The time limit is `max_episode_steps`, and nothing else cuts an episode off."""
    limit, count, (terminated, truncated) = suite.max_episode_steps, len(episode.rewards), episode.ends[-1]
    if not (terminated or truncated) or count > limit:
        yield f"an episode goes on after max_episode_steps={limit}"
    elif truncated and not terminated and count < limit:
        yield f"an episode is truncated after {count} steps, max_episode_steps is {limit}"
