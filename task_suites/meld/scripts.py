"""Scripted closed-loop policies of MELD's arm tasks; they see `reward_inputs` only."""

from __future__ import annotations

import numpy as np

from task_suites.meld import rewards
from task_suites.meld.env import STEP_RADIANS
from task_suites.rendering import mujoco
from task_suites.task import Task

_DAMPING = 0.01  # of the least squares, in metres per radian
_ABOVE_METRES = 0.09  # where to wait until the tip is over a button or a hole
_DOWN = np.array([0.0, 0.0, -1.0])


class Kinematics:
    """Steps of the joints that move the tip, by damped least squares on a copy of the scene."""

    def __init__(self, xml: str) -> None:
        self._model = mujoco.MjModel.from_xml_string(xml)
        self._data = mujoco.MjData(self._model)
        self._tip = self._model.site("tip").id
        self._jacobian = np.zeros((6, self._model.nv))

    def steps(
        self, joints: np.ndarray, target: np.ndarray, axis: np.ndarray | None, limit: float
    ) -> np.ndarray:
        """Return joint steps (7,) from `joints` (7,) that move the tip to `target`, at most `limit` radians.

        axis: direction (3,) in which the tool should point, None for any.
        """
        model, data, jacobian = self._model, self._data, self._jacobian
        data.qpos[:7] = joints
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], self._tip)
        rows, error = jacobian[:3, :7], target - data.site_xpos[self._tip]
        if axis is not None:
            points = data.site_xmat[self._tip].reshape(3, 3)[:, 2]
            rows = np.vstack([rows, 0.3 * jacobian[3:, :7]])  # 0.3 m: how much a radian counts
            error = np.concatenate([error, 0.3 * np.cross(points, axis)])
        step = rows.T @ np.linalg.solve(rows @ rows.T + _DAMPING**2 * np.eye(len(rows)), error)
        return step * min(1.0, limit / max(np.abs(step).max(), 1e-9))


class Reach:
    """Moves the tip to the goal of a reach, press or insert task; the latter two from above."""

    def __init__(self, xml: str, task: Task) -> None:
        self._kinematics = Kinematics(xml)
        self._goal = np.array(rewards.goal_of(task))
        self._from_above = task.reward.name != "reach"

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used, the script has no state."""

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (7,) for `reward_inputs` (10,)."""
        inputs = np.asarray(reward_inputs, np.float64)
        tip, target = inputs[:3], self._goal.copy()
        if self._from_above:
            aside = np.linalg.norm(tip[:2] - target[:2])
            target[2] += min(_ABOVE_METRES, max(0.0, 12 * (aside - 0.003)))
        axis = _DOWN if self._from_above else None
        steps = self._kinematics.steps(inputs[3:10], target, axis, STEP_RADIANS)
        return (steps / STEP_RADIANS).astype(np.float32)
