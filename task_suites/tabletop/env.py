"""The tabletop environment: pixels and proprioception out, Cartesian hand commands in."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from task_suites.distribution import as_action
from task_suites.errors import SuiteError
from task_suites.rendering import mujoco
from task_suites.scenery import Names, Scenery
from task_suites.tabletop import rewards, scene
from task_suites.task import Task
from task_suites.views import Pictures, Views

PROPRIO_SIZE, ACTION_SIZE = 13, 5
_CENTRE = (scene.HAND_LOW[:3] + scene.HAND_HIGH[:3]) / 2
_HALF = (scene.HAND_HIGH[:3] - scene.HAND_LOW[:3]) / 2
_RELEASE = -0.6  # the latch of the grip: above 0 switches on, below this off, between it stays
_GRIP_CONTROLS = {"suction": (0.0, 1.0), "fingers": (scene.FINGER_OPEN, 0.0)}  # of the actuators: off, on
_HANDS = {
    "suction": ("cup", "flange", "arm"),
    "fingers": ("left_finger", "right_finger", "palm", "arm"),
}


class TabletopEnv(gymnasium.Env):
    """One task on the table. Blocks are seen in the pictures only; time limits truncate.

    Action (5,) in [-1, 1]: hand x, y, z speed, wrist speed, grip (> 0 on, <= -0.6 off, else unchanged: it
    switches suction, or closes the fingers). Observation: `image_CAMERA` uint8 (size, size, 3); `proprio`
    float32 (13,): hand x y z (workspace to [-1, 1]), hand velocity x y z (1 = full speed), setpoint minus
    hand x y z (1 = the allowed lead), sine and cosine of the wrist, wrist velocity (1 = full speed), grip
    on (+1) or off (-1). info: `success` bool, `task`, `reward_inputs` float32 (13,), named in
    `tabletop.rewards.INPUT_NAMES`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        task: Task,
        views: Views,
        *,
        control_hz: int,
        episode_steps: int,
        gripper: str,
    ) -> None:
        self.task = task
        self.render_mode = None
        self.metadata = {**self.metadata, "render_fps": control_hz}
        self.observation_space, self.action_space = views.spaces(PROPRIO_SIZE, ACTION_SIZE)
        self._model = mujoco.MjModel.from_xml_string(scene.mjcf(gripper))
        self._data = mujoco.MjData(self._model)
        self._cameras = views.cameras
        names = Names("floor", "table", _HANDS[gripper], scene.COLOURS, table_half_metres=0.2)
        scenery = Scenery(self._model, task.distractors, names)
        self._pictures = Pictures(self._model, self._data, scenery, views)
        self._block_qpos = self._model.nq - 7 * np.arange(3, 0, -1)
        self._input_qpos = np.concatenate([np.arange(3), *(start + np.arange(3) for start in self._block_qpos)])
        self._grip_controls = _GRIP_CONTROLS[gripper]
        self._steps_per_action = round(1 / (control_hz * scene.TIMESTEP_SECONDS))
        self._episode_steps = episode_steps
        self._reach = scene.HAND_SPEED / control_hz  # how far one action moves the setpoint, and its largest lead
        self._setpoint = np.zeros(4)
        self._gripping = False
        self._step_count: int | None = None
        # Views into MuJoCo's memory: no look-ups in step.
        self._qpos, self._qvel, self._ctrl = self._data.qpos, self._data.qvel, self._data.ctrl

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode; `seed` determines it fully, without one the environment's own stream goes on."""
        super().reset(seed=seed)
        rng = self.np_random
        mujoco.mj_resetData(self._model, self._data)
        self._place(rng)
        # Drawn with and without distractors: they must not shift the stream that places blocks.
        self._pictures.begin_episode(int(rng.integers(2**31)))
        self._setpoint[:] = self._qpos[:4]
        self._ctrl[:4] = self._setpoint
        self._gripping = False
        self._ctrl[4:] = self._grip_controls[False]
        self._step_count = 0
        mujoco.mj_forward(self._model, self._data)
        inputs = self._reward_inputs()
        success = bool(rewards.success(self.task, inputs))
        return self._observation(), {"success": success, "task": self.task, "reward_inputs": inputs}

    def _place(self, rng: np.random.Generator) -> None:
        """Draw block positions and yaws, and the hand above them; nothing overlaps."""
        while True:
            spots = rng.uniform(-scene.SPAWN_HALF, scene.SPAWN_HALF, (3, 2))
            gaps = np.linalg.norm(spots - np.roll(spots, 1, axis=0), axis=1)
            if gaps.min() >= scene.SPAWN_SEPARATION:
                break
        yaws = rng.uniform(-np.pi / 4, np.pi / 4, 3)
        for start, spot, yaw in zip(self._block_qpos, spots, yaws, strict=True):
            self._qpos[start : start + 7] = (
                *spot,
                scene.BLOCK_HALF,
                np.cos(yaw / 2),
                0.0,
                0.0,
                np.sin(yaw / 2),
            )
        self._qpos[4 : self._block_qpos[0]] = scene.FINGER_OPEN
        low, high = (-0.1, -0.1, 0.09, -0.5), (0.1, 0.1, 0.14, 0.5)
        self._qpos[:4] = rng.uniform(low, high)

    def step(self, action: np.ndarray):
        """Apply one action (5,). Raises SuiteError if it is not five finite numbers, or before `reset`."""
        if self._step_count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        action = as_action(action, ACTION_SIZE)
        hand = self._qpos[:4]
        target = self._setpoint + action[:4] * self._reach
        target = target.clip(hand - self._reach, hand + self._reach)  # no wind-up against an obstacle
        target.clip(scene.HAND_LOW, scene.HAND_HIGH, out=self._setpoint)
        if action[4] > 0:
            self._gripping = True
        elif action[4] <= _RELEASE:
            self._gripping = False
        self._ctrl[:4] = self._setpoint
        self._ctrl[4:] = self._grip_controls[self._gripping]
        mujoco.mj_step(self._model, self._data, self._steps_per_action)
        self._step_count += 1
        inputs = self._reward_inputs()
        reward, success = rewards.evaluate(self.task, inputs)
        info = {"success": bool(success), "task": self.task, "reward_inputs": inputs}
        return self._observation(), float(reward), False, self._step_count >= self._episode_steps, info

    def _reward_inputs(self) -> np.ndarray:
        inputs = np.empty(13, np.float32)
        inputs[:12] = self._qpos[self._input_qpos]
        inputs[12] = self._gripping
        return inputs

    def _observation(self) -> dict[str, np.ndarray]:
        qpos, qvel = self._qpos, self._qvel
        proprio = np.empty(PROPRIO_SIZE, np.float32)
        proprio[0:3] = (qpos[:3] - _CENTRE) / _HALF
        proprio[3:6] = qvel[:3] / scene.HAND_SPEED[:3]
        proprio[6:9] = (self._setpoint[:3] - qpos[:3]) / self._reach[:3]
        proprio[9], proprio[10] = np.sin(qpos[3]), np.cos(qpos[3])
        proprio[11] = qvel[3] / scene.HAND_SPEED[3]
        proprio[12] = 1.0 if self._gripping else -1.0
        observation = {"proprio": proprio}
        for camera in self._cameras:
            observation[f"image_{camera}"] = self._draw(camera)
        return observation

    def _draw(self, camera: str, movie: bool = False) -> np.ndarray:
        # mj_step leaves the frames of bodies one substep old; the picture shows the state that is returned.
        mujoco.mj_kinematics(self._model, self._data)
        return self._pictures.draw(camera, self._step_count, movie)

    def render(self) -> np.ndarray:
        """Return a smooth uint8 picture (256, 256, 3) of the first camera, for videos. Call `reset` first."""
        if self._step_count is None:
            raise SuiteError("render before reset: call reset(seed=...) first")
        return self._draw(self._cameras[0] if self._cameras else "fit", movie=True)

    def close(self) -> None:
        """Free the renderers; more than once is allowed."""
        self._pictures.close()
