"""Scripted closed-loop policies of MELD's arm tasks; they see `reward_inputs` only."""

from __future__ import annotations

import numpy as np

from task_suites.meld import arm, rewards, scenes
from task_suites.meld.env import STEP_RADIANS
from task_suites.rendering import mujoco
from task_suites.task import Task

_DAMPING = 0.01  # of the least squares, in metres per radian
_LEVER_METRES = 0.3  # how much a radian of the tool counts
_ABOVE_METRES = 0.09  # where to wait until the tip is over a button or a hole
_DOWN, _UP = np.array([0.0, 0.0, -1.0]), np.array([0.0, 0.0, 1.0])
_STEP_SECONDS = 0.25
_GRIP_STEPS = 2  # before the mug is lifted
_CARRY_METRES = 0.29  # height of the foot on its way into the shelf
_FRONT_METRES = 0.74  # y at which the mug is lifted


class Kinematics:
    """Tip, attitude and Jacobian of the arm, on a copy of the scene."""

    def __init__(self, xml: str) -> None:
        self._model = mujoco.MjModel.from_xml_string(xml)
        self._data = mujoco.MjData(self._model)
        self._tip = self._model.site("tip").id
        self._jacobian = np.zeros((6, self._model.nv))

    def set(self, joints: np.ndarray) -> None:
        """Compute everything at `joints` (7,) in radians."""
        self._data.qpos[:7] = joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._tip)

    def pointing(self) -> np.ndarray:
        """Return the direction (3,) of the tool."""
        return self._data.site_xmat[self._tip].reshape(3, 3)[:, 2]

    def torques(self, force: np.ndarray) -> np.ndarray:
        """Return the torques (7,) in Nm with which the tip pushes with `force` (3,) in N."""
        return self._jacobian[:3, :7].T @ force

    def steps(self, move: np.ndarray, turn: np.ndarray | None, limit: float) -> np.ndarray:
        """Return joint steps (7,) that move the tip by `move` (3,) metres, at most `limit` radians each.

        turn: rotation vector (3,) of the tool in radians; None for any attitude. Damped least squares.
        """
        rows, error = self._jacobian[:3, :7], move
        if turn is not None:
            rows = np.vstack([rows, _LEVER_METRES * self._jacobian[3:, :7]])
            error = np.concatenate([error, _LEVER_METRES * turn])
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
        self._kinematics.set(inputs[3:10])
        move, turn = self._goal - inputs[:3], None
        if self._from_above:
            aside = np.linalg.norm(move[:2])
            move[2] += min(_ABOVE_METRES, max(0.0, 12 * (aside - 0.003)))
            turn = np.cross(self._kinematics.pointing(), _DOWN)
        return (self._kinematics.steps(move, turn, STEP_RADIANS) / STEP_RADIANS).astype(np.float32)


class Place:
    """Grips the mug, lifts it in front of the shelf, carries it in upright and sets it down on the goal."""

    def __init__(self, xml: str, task: Task) -> None:
        self._kinematics = Kinematics(xml)
        self._goal = np.array([task.reward.parameters["goal_x_metres"], scenes.GOAL_Y_METRES, scenes.GOAL_Z_METRES])
        self._weight = 9.81 * task.dynamics["mug_mass_kg"] * _UP
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used."""
        self._count = 0

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (9,) for `reward_inputs` (18,)."""
        inputs = np.asarray(reward_inputs, np.float64)
        self._count += 1
        action = np.ones(9, np.float32)
        if self._count <= _GRIP_STEPS:
            action[:7] = 0.0
            return action
        foot, rim = inputs[0:3], inputs[3:6]
        self._kinematics.set(inputs[9:16])
        upright = (rim - foot) / np.linalg.norm(rim - foot)
        steps = self._kinematics.steps(self._target(foot) - foot, np.cross(upright, _UP), 0.8 * _STEP_SECONDS)
        # Full torque turns a joint at 1 rad/s against its damping; the rest bears the mug.
        bear = self._kinematics.torques(self._weight) / (arm.MOTOR_LIMIT * arm.MOTOR_GEAR)
        speed = steps / _STEP_SECONDS
        room = (1 - np.sign(speed) * bear) / np.maximum(np.abs(speed), 1e-9)
        action[:7] = (speed * room.min().clip(0, 1) + bear).clip(-1, 1)
        return action

    def _target(self, foot: np.ndarray) -> np.ndarray:
        """Return where the foot goes next: up in front of the shelf, in above the goal, down."""
        target, aside = self._goal.copy(), abs(foot[0] - self._goal[0])
        if np.linalg.norm(foot[:2] - target[:2]) < 0.02:
            return target
        target[2] = _CARRY_METRES
        if (foot[2] < 0.25 or aside > 0.1) and foot[1] < 0.8:
            target[1] = _FRONT_METRES
        return target
