"""Shelf placing: an arm under torque control carries a mug of unknown mass to a hidden place on a shelf."""

from __future__ import annotations

import numpy as np

from task_suites.meld import arm
from task_suites.meld.env import MeldEnv
from task_suites.rendering import mujoco

START = (-0.03, -0.56, 0.03, 2.1, 0.119, -1.16, -1.46)
_START_NOISE_RADIANS = 0.01


class ShelfEnv(MeldEnv):
    """An arm with two fingers around a mug that stands on the table; 0.25 s per action.

    Action (9,) in [-1, 1]: torques of the seven joints and forces that close the fingers, 3 times
    `MOTOR_GEAR` and `FINGER_GEAR` at 1; joints are damped so that full torque turns a free one at 1 rad/s,
    and the arm's own weight is balanced. `proprio` float32 (21,): joint angles (rad) and fingers (m), their
    velocities, tip x y z (m). reward_inputs float32 (18,), named in `rewards.SHELF_INPUT_NAMES`.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._sites = [self._data.site_xpos[self._model.site(name).id] for name in ("foot", "rim", "tip")]

    def _start(self, rng: np.random.Generator) -> None:
        self._qpos[:7] = START + rng.uniform(-_START_NOISE_RADIANS, _START_NOISE_RADIANS, 7)
        mujoco.mj_kinematics(self._model, self._data)
        site = self._model.site("tip").id
        closing = self._data.site_xmat[site].reshape(3, 3)[:, 1]
        half = np.arctan2(closing[1], closing[0]) / 2
        self._qpos[9:] = *self._sites[2][:2], 0.0, np.cos(half), 0.0, 0.0, np.sin(half)

    def _command(self, action: np.ndarray) -> np.ndarray:
        return arm.MOTOR_LIMIT * action

    def _inputs(self) -> np.ndarray:
        return np.concatenate([*self._sites, self._qpos[:9]]).astype(np.float32)

    def _proprio(self) -> np.ndarray:
        return np.concatenate([self._qpos[:9], self._qvel[:9], self._sites[2]]).astype(np.float32)
