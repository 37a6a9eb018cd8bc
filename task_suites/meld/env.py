"""MELD's environments on MuJoCo: what all share, and the arm moved by joint steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from task_suites.distribution import as_action
from task_suites.errors import SuiteError
from task_suites.meld import arm
from task_suites.rendering import mujoco
from task_suites.scenery import Names, Scenery
from task_suites.task import Task
from task_suites.views import Pictures, Views

STEP_RADIANS = 0.04  # a joint's step at action 1
_START_NOISE_RADIANS = 0.02


class MeldEnv(gymnasium.Env):
    """One hidden-goal task; what the goal is reaches the reward alone. Time limits truncate.

    evaluate(task, inputs, action) -> (reward, success). Subclasses say how a scene starts, moves and is seen.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}
    substeps = 100

    def __init__(
        self,
        task: Task,
        evaluate: Callable,
        xml: str,
        names: Names,
        space: tuple[gymnasium.spaces.Dict, gymnasium.spaces.Box],
        *,
        views: Views,
        episode_steps: int,
    ) -> None:
        self.task, self._evaluate = task, evaluate
        self.render_mode = None
        self.observation_space, self.action_space = space
        self._model = mujoco.MjModel.from_xml_string(xml)
        self._data = mujoco.MjData(self._model)
        self._pictures = Pictures(self._model, self._data, Scenery(self._model, task.distractors, names), views)
        self._cameras, self._episode_steps = views.cameras, episode_steps
        self._step_count: int | None = None
        self._qpos, self._qvel, self._ctrl = self._data.qpos, self._data.qvel, self._data.ctrl

    @abstractmethod
    def _start(self, rng: np.random.Generator) -> None:
        """Set qpos, qvel and ctrl of a fresh episode."""

    @abstractmethod
    def _command(self, action: np.ndarray) -> np.ndarray:
        """Return the control signals of one action (A,) in [-1, 1]."""

    @abstractmethod
    def _inputs(self) -> np.ndarray:
        """Return the reward inputs (R,) float32."""

    @abstractmethod
    def _proprio(self) -> np.ndarray:
        """Return the proprioception (P,) float32."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode; `seed` determines it fully, without one the environment's own stream goes on."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self._model, self._data)
        self._start(self.np_random)
        # Drawn with and without distractors: they must not shift the stream that starts episodes.
        self._pictures.begin_episode(int(self.np_random.integers(2**31)))
        self._step_count = 0
        mujoco.mj_forward(self._model, self._data)
        self._refresh()
        inputs = self._inputs()
        success = bool(self._evaluate(self.task, inputs, np.zeros(self.action_space.shape))[1])
        return self._observation(), {"success": success, "task": self.task, "reward_inputs": inputs}

    def step(self, action: np.ndarray):
        """Apply one action (A,), clipped to [-1, 1]. SuiteError: not A finite numbers, or before `reset`."""
        if self._step_count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        action = as_action(action, self.action_space.shape[0])
        self._ctrl[:] = self._command(action)
        mujoco.mj_step(self._model, self._data, self.substeps)
        self._refresh()
        self._step_count += 1
        inputs = self._inputs()
        reward, success = self._evaluate(self.task, inputs, action)
        info = {"success": bool(success), "task": self.task, "reward_inputs": inputs}
        return self._observation(), float(reward), False, self._step_count >= self._episode_steps, info

    def _refresh(self) -> None:
        """Bring frames and cameras to the state; mj_step leaves them one substep behind it."""
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _observation(self) -> dict[str, np.ndarray]:
        in_order = sorted(self._cameras)  # that of the space's keys
        found = {f"image_{name}": self._pictures.draw(name, self._step_count) for name in in_order}
        if "proprio" in self.observation_space.spaces:
            found["proprio"] = self._proprio()
        return found

    def render(self) -> np.ndarray:
        """Return a smooth uint8 picture (256, 256, 3) of the first camera, for videos. Call `reset` first."""
        if self._step_count is None:
            raise SuiteError("render before reset: call reset(seed=...) first")
        return self._pictures.draw(self._cameras[0] if self._cameras else 0, self._step_count, movie=True)

    def close(self) -> None:
        """Free the renderers; more than once is allowed."""
        self._pictures.close()


class ArmEnv(MeldEnv):
    """An arm whose action (7,) in [-1, 1] moves each joint by up to 0.04 rad in 0.25 s.

    `proprio` float32 (17,): joint angles (rad), joint velocities (rad/s), tip x y z (m). reward_inputs
    float32 (10,), named in `rewards.ARM_INPUT_NAMES`: tip x y z (m), joint angles (rad).
    """

    def __init__(self, *args, start: tuple[float, ...], **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._start_angles = np.array(start)
        self._tip = self._data.site_xpos[self._model.site("tip").id]

    def _start(self, rng: np.random.Generator) -> None:
        self._qpos[:] = self._start_angles + rng.uniform(-_START_NOISE_RADIANS, _START_NOISE_RADIANS, 7)
        self._ctrl[:] = self._qpos

    def _command(self, action: np.ndarray) -> np.ndarray:
        return (self._qpos + STEP_RADIANS * action).clip(arm.LOW, arm.HIGH)

    def _inputs(self) -> np.ndarray:
        return np.concatenate([self._tip, self._qpos]).astype(np.float32)

    def _proprio(self) -> np.ndarray:
        return np.concatenate([self._qpos, self._qvel, self._tip]).astype(np.float32)
