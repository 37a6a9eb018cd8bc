"""Episodes of several tasks side by side, in lockstep: what `TaskDistribution.make_vector` returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import gymnasium
import numpy as np

from task_suites.errors import SuiteError

Batch = dict[str, np.ndarray]


class Outcome(NamedTuple):
    """What n rows show after a step or a reset; arrays that nobody else writes to.

    observation: (n, ...) each; inputs: float32 (n, R); success, terminated, truncated: bool (n,); reward:
    float64 (n,).
    """

    observation: Batch
    inputs: np.ndarray
    success: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class LockstepRows(ABC):
    """N episodes in lockstep, of which only those that are said to be alive take a step.

    `reset` starts every row as its environment alone would start with that seed. Nothing resets by itself.
    Observations are dicts of (N, ...); info holds `success` (N,) bool and `reward_inputs` (N, R) float32; all
    arrays are new ones. Subclasses hold the states: `_begin`, `_advance`, `render`.

    Attributes: `action_size`, `render_fps` (pictures per second of a film).
    """

    def __init__(self, size: int, action_size: int, render_fps: float = 10) -> None:
        if not size:
            raise SuiteError("no tasks: expected at least one")
        self._size, self.action_size, self.render_fps = size, action_size, render_fps
        self._last: Outcome | None = None

    def __len__(self) -> int:
        return self._size

    @abstractmethod
    def _begin(self, seeds: list[int]) -> Outcome:
        """Start an episode in each row."""

    @abstractmethod
    def _advance(self, actions: np.ndarray, rows: np.ndarray) -> Outcome:
        """Take a step with float64 `actions` (n, A) in [-1, 1] in the n `rows`, and in no other."""

    @abstractmethod
    def render(self, row: int) -> np.ndarray | None:
        """Return a picture (H, W, 3) of one row; None where its environment renders nothing."""

    def close(self) -> None:
        """Give back what the rows hold; more than once is allowed."""

    def reset(self, seeds: Sequence[int]) -> tuple[Batch, Batch]:
        """Begin N episodes; seeds (N,). Returns (observation, info). SuiteError: another number of seeds."""
        seeds = [int(seed) for seed in seeds]
        if len(seeds) != self._size:
            raise SuiteError(f"{len(seeds)} seeds, expected {self._size}")
        self._last = None
        self._last = self._begin(seeds)
        return self._shown()

    def step(self, actions: np.ndarray, alive: np.ndarray) -> tuple[Batch, np.ndarray, np.ndarray, np.ndarray, Batch]:
        """Take one step in the rows that are `alive` (N,); actions (N, A), of the others not looked at.

        Returns (observation, reward (N,) float64, terminated (N,), truncated (N,), info). A row that is not
        alive stays exactly as it was: its outputs are its last ones, its reward is 0. Raises SuiteError
        before any row moves: no reset yet, a wrong shape, an action that is not finite, or an alive row whose
        episode is over. After an error of an environment, `reset` comes next.
        """
        last = self._last
        if last is None:
            raise SuiteError("step before reset: call reset(seeds) first")
        rows = self._alive(last, alive)
        actions, reward = self._checked(actions, rows), np.zeros(self._size)
        if rows.size:
            self._last = None  # in case an environment fails with others a step ahead
            after = self._advance(actions, rows)
            for old, new in zip(last[1:], after[1:], strict=True):
                old[rows] = new
            for key, new in after.observation.items():
                last.observation[key][rows] = new
            self._last, reward[rows] = last, after.reward
        observation, info = self._shown()
        return observation, reward, last.terminated.copy(), last.truncated.copy(), info

    def _alive(self, last: Outcome, alive: np.ndarray) -> np.ndarray:
        alive = np.asarray(alive)
        if alive.shape != (self._size,) or alive.dtype != np.bool_:
            raise SuiteError(f"alive is {alive.dtype} {alive.shape}: expected bool ({self._size},)")
        over = alive & (last.terminated | last.truncated)
        if over.any():
            raise SuiteError(f"rows {np.flatnonzero(over).tolist()} are over: they cannot be alive")
        return np.flatnonzero(alive)

    def _checked(self, actions: np.ndarray, rows: np.ndarray) -> np.ndarray:
        actions = np.asarray(actions, np.float64)
        if actions.shape != (self._size, self.action_size):
            expected = (self._size, self.action_size)
            raise SuiteError(f"actions have shape {actions.shape}: expected {expected}")
        finite = np.isfinite(actions[rows]).all(1)
        if not finite.all():
            raise SuiteError(f"actions of rows {rows[~finite].tolist()} are not finite")
        return actions[rows].clip(-1.0, 1.0)

    def _shown(self) -> tuple[Batch, Batch]:
        last = self._last
        observation = {key: value.copy() for key, value in last.observation.items()}
        return observation, {"success": last.success.copy(), "reward_inputs": last.inputs.copy()}


class Rows(LockstepRows):
    """Ordinary environments of one distribution as rows; they are closed with it."""

    def __init__(self, envs: Sequence[gymnasium.Env]) -> None:
        self._envs = list(envs)
        first = self._envs[0] if self._envs else None
        size = first.action_space.shape[0] if first else 0
        fps = getattr(first.unwrapped, "metadata", {}).get("render_fps", 10) if first else 10
        super().__init__(len(self._envs), size, fps)

    def _begin(self, seeds: list[int]) -> Outcome:
        starts = (env.reset(seed=seed) for env, seed in zip(self._envs, seeds, strict=True))
        return self._joined([(observation, 0.0, False, False, info) for observation, info in starts])

    def _advance(self, actions: np.ndarray, rows: np.ndarray) -> Outcome:
        return self._joined([self._envs[row].step(action) for row, action in zip(rows, actions, strict=True)])

    def _joined(self, steps: list[tuple]) -> Outcome:
        keys = self._envs[0].observation_space.spaces
        observations, reward, terminated, truncated, infos = (list(part) for part in zip(*steps, strict=True))
        return Outcome(
            {key: np.stack([observation[key] for observation in observations]) for key in keys},
            np.stack([info["reward_inputs"] for info in infos]),
            np.array([info["success"] for info in infos], np.bool_),
            np.array(reward, np.float64),
            np.array(terminated, np.bool_),
            np.array(truncated, np.bool_),
        )

    def render(self, row: int) -> np.ndarray | None:
        """Return what the row's environment renders."""
        return self._envs[row].render()

    def close(self) -> None:
        """Close all environments."""
        for env in self._envs:
            env.close()
