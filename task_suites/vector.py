"""Environments of given tasks stepped together; the one place that knows about Gymnasium's autoreset.

Gymnasium's vector environments by default reset ended episodes by themselves: the true last observation moves
to another place, one action is ignored, and what was passed to `reset` as options is lost, a task included.
Here nothing resets by itself: `step` returns true last observations, `reset_ended` begins the next episodes,
and every place keeps its task until it is given another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from task_suites.distribution import TaskDistribution
from task_suites.errors import SuiteError
from task_suites.task import Task

Batch = dict[str, np.ndarray]


class Place(gymnasium.Env):
    """One place of a vector: an environment of its `task`, made anew at the reset after a change of it."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, suite: TaskDistribution, task: Task) -> None:
        self._suite, self.task = suite, task
        self.observation_space, self.action_space = suite.observation_space, suite.action_space
        self.render_mode = None
        self._env: gymnasium.Env | None = None
        self._made_for: Task | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode of the present task."""
        if self._made_for != self.task:
            self.close()
            self._env, self._made_for = self._suite.make(self.task), self.task
        observation, info = self._env.reset(seed=seed, options=options)
        return observation, _shared(info)

    def step(self, action: np.ndarray):
        """Take one step."""
        observation, reward, terminated, truncated, info = self._env.step(action)
        return observation, reward, terminated, truncated, _shared(info)

    def render(self) -> np.ndarray:
        """Return what the environment shows."""
        return self._env.render()

    def close(self) -> None:
        """Close the environment."""
        if self._env is not None:
            self._env.close()
        self._env = self._made_for = None


def _shared(info: dict[str, Any]) -> dict[str, Any]:
    return {"success": info["success"], "reward_inputs": info["reward_inputs"]}


class TaskVector:
    """N environments of one distribution, one per task, in this process or each in a spawned one.

    suite: a TaskDistribution; tasks: N of its tasks, repeats allowed. processes: a process per environment;
    its script then needs `if __name__ == "__main__":`. Worth it only where a step costs more than about 1 ms.
    Observations are dicts of arrays with a leading N; info holds `success` (N,) bool and `reward_inputs`
    (N, R) float32. Close it, or use it in a `with` statement. Raises SuiteError for tasks of another family.
    """

    def __init__(self, suite: TaskDistribution, tasks: Sequence[Task], *, processes: bool = False) -> None:
        self._suite, self.tasks = suite, self._checked(suite, tasks, None)
        makers = [lambda task=task: Place(suite, task) for task in self.tasks]
        if processes:
            # Spawned, as a forked process inherits a GL context that it cannot use.
            self._vector: Any = AsyncVectorEnv(makers, context="spawn", autoreset_mode=AutoresetMode.DISABLED)
        else:
            self._vector = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)
        size = len(self.tasks)
        self._ended = np.ones(size, np.bool_)
        self._begun = False
        self._error: Exception | None = None
        inputs = np.zeros((size, len(suite.reward_input_names)), np.float32)
        self._info: Batch = {"success": np.zeros(size, np.bool_), "reward_inputs": inputs}

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def ended(self) -> np.ndarray:
        """Booleans (N,): episodes that are over; `reset_ended` must come before the next `step`."""
        return self._ended.copy()

    def reset(self, seeds: Sequence[int], tasks: Sequence[Task] | None = None) -> tuple[Batch, Batch]:
        """Begin N episodes; seeds (N,). tasks: N other tasks from now on. Returns (observation, info)."""
        if tasks is not None:
            self.tasks = self._checked(self._suite, tasks, len(self))
            self._do("set_attr", "task", list(self.tasks))
        return self._begin(np.ones(len(self), np.bool_), seeds)

    def reset_ended(self, seeds: Sequence[int]) -> tuple[Batch, Batch]:
        """Begin the next episode, of the same task, where one has ended; the others go on untouched.

        seeds (N,): used only there. Returns (observation, info) of all N.
        """
        return self._begin(self.ended, seeds)

    def step(self, actions: np.ndarray) -> tuple[Batch, np.ndarray, np.ndarray, np.ndarray, Batch]:
        """Take one step everywhere; actions (N, A).

        Returns (observation, reward (N,), terminated (N,), truncated (N,), info), the true last observation
        of an episode included. Raises SuiteError while an ended episode has no successor, for actions that
        are not finite, and ever after an error of one environment.
        """
        if self._ended.any():
            where = np.flatnonzero(self._ended).tolist()
            what = "reset_ended" if self._begun else "reset"
            raise SuiteError(f"step: episodes at places {where} are over; call {what} first")
        actions = np.asarray(actions, np.float32)
        expected = (len(self), *self._suite.action_space.shape)
        if actions.shape != expected:
            raise SuiteError(f"actions have shape {actions.shape}: expected {expected}")
        if not np.isfinite(actions).all():  # found by its place alone, it would stop with others a step ahead
            where = np.flatnonzero(~np.isfinite(actions).all(1)).tolist()
            raise SuiteError(f"actions at places {where} are not finite")
        observation, reward, terminated, truncated, info = self._do("step", actions)
        self._ended = terminated | truncated
        self._keep(info, np.ones(len(self), np.bool_))
        return observation, reward, terminated, truncated, self._copied()

    def render(self) -> tuple[np.ndarray, ...]:
        """Return a picture of every environment."""
        return self._do("call", "render")

    def close(self) -> None:
        """End environments and processes; more than once is allowed."""
        if not self._vector.closed:
            self._vector.close()

    def __enter__(self) -> TaskVector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _checked(suite: TaskDistribution, tasks: Sequence[Task], count: int | None) -> tuple[Task, ...]:
        tasks = tuple(suite.check(task) for task in tasks)
        if not tasks or count not in (None, len(tasks)):
            raise SuiteError(f"{suite.name}: {len(tasks)} tasks, expected {count or 'at least one'}")
        return tasks

    def _do(self, what: str, *values: Any, **named: Any) -> Any:
        """Do it everywhere; after an error at one place the others are elsewhere, or their processes gone."""
        if self._error is not None:
            raise SuiteError(f"{what}: an earlier error broke this vector, make a new one ({self._error})")
        try:
            return getattr(self._vector, what)(*values, **named)
        except Exception as error:
            self._error = error
            raise

    def _begin(self, where: np.ndarray, seeds: Sequence[int]) -> tuple[Batch, Batch]:
        seeds = [int(seed) for seed in seeds]
        if len(seeds) != len(self):
            raise SuiteError(f"{len(seeds)} seeds, expected {len(self)}")
        if not where.any():
            raise SuiteError("reset_ended: no episode has ended")
        observation, info = self._do("reset", seed=seeds, options={"reset_mask": where.copy()})
        self._ended = self._ended & ~where
        self._begun = True
        self._keep(info, where)
        return observation, self._copied()

    def _keep(self, info: dict[str, Any], where: np.ndarray) -> None:
        for key, values in self._info.items():
            values[where] = info[key][where]

    def _copied(self) -> Batch:
        return {key: values.copy() for key, values in self._info.items()}
