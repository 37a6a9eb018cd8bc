"""The Meta-World environment: pictures or state out, hand and gripper commands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from task_suites.distribution import as_action
from task_suites.errors import SuiteError
from task_suites.metaworld import layouts, pictures, rewards
from task_suites.metaworld.simulator import Simulator
from task_suites.rendering import mujoco
from task_suites.scenery import Scenery
from task_suites.task import Task
from task_suites.views import Pictures, Views

STATE_SIZE, HAND_SIZE, ACTION_SIZE = 39, 8, 4
_HAND_CENTRE, _HAND_HALF = np.array([0.0, 0.7, 0.25]), np.array([0.5, 0.3, 0.25])
_HAND_SPEED = 0.01  # metres per step at action 1
_MOVIE_CAMERA = "corner4"


@dataclass(frozen=True)
class Episodes:
    """How episodes go.

    action_repeat: simulator steps per action. max_steps: actions until the time limit. start_noise_metres: how far
    the hand may start from its place along each axis.
    """

    action_repeat: int
    max_steps: int
    start_noise_metres: float


class MetaWorldEnv(gymnasium.Env):
    """One task of Meta-World; a time limit truncates, nothing terminates.

    Action (4,) in [-1, 1]: moves the hand's setpoint by 1 cm along x, y, z; gripper (1 closes, -1 opens).
    Observation with `state`: `proprio` float32 (39,), Meta-World's own vector, whose last three numbers are
    the goal or zeros; without it `image_CAMERA` uint8 (size, size, 3) and `proprio` float32 (8,): hand x y z
    (workspace to [-1, 1]), gripper opening (0 to 1), and their changes since the step before (1 = the
    setpoint's speed). info: `success` bool, `task`, `reward_inputs` float32, named in
    `metaworld.rewards.INPUT_NAMES`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}

    def __init__(
        self,
        task: Task,
        spaces: tuple[gymnasium.spaces.Dict, gymnasium.spaces.Box],
        views: Views,
        episodes: Episodes,
        *,
        state: bool,
        show_goal: bool,
    ) -> None:
        if views.cameras:
            pictures.require()
        self.task = task
        self.render_mode = None
        self.metadata = {**self.metadata, "render_fps": max(80 // episodes.action_repeat, 1)}
        self.observation_space, self.action_space = spaces
        self._simulator = Simulator(
            task.parameters["scene"], layouts.numbers(task.parameters), rewards.version_of(task)
        )
        self._data = self._simulator.data
        self._identity = rewards.identity_of(task)
        self._views, self._episodes = views, episodes
        self._state_seen, self._show_goal = state, show_goal
        self._pictures: Pictures | None = None
        self._step_count: int | None = None
        self._paid, self._solved, self._solved_so_far = 0.0, False, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode; `seed` determines it fully, without one the environment's own stream goes on."""
        super().reset(seed=seed)
        offset = self.np_random.uniform(-1.0, 1.0, 3) * self._episodes.start_noise_metres
        self._look = int(self.np_random.integers(2**31))
        if self._pictures is not None:
            self._pictures.begin_episode(self._look)
        self._hand = self._simulator.reset(offset)[:4].copy()
        self._step_count = 0
        self._paid, self._solved, self._solved_so_far = 0.0, False, False
        inputs = self._reward_inputs()
        return self._observation(self._hand), self._info(inputs)

    def step(self, action: np.ndarray):
        """Apply one action (4,). Raises SuiteError if it is not four finite numbers, or before `reset`."""
        if self._step_count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        action = as_action(action, ACTION_SIZE).astype(np.float32)
        for _ in range(self._episodes.action_repeat):
            state, self._paid, self._solved = self._simulator.step(action)
            self._solved_so_far |= self._solved
        self._step_count += 1
        before, self._hand = self._hand, state[:4].copy()
        inputs = self._reward_inputs()
        paid = float(rewards.reward(self.task, inputs))
        truncated = self._step_count >= self._episodes.max_steps
        return self._observation(before), paid, False, truncated, self._info(inputs)

    def _reward_inputs(self) -> np.ndarray:
        simulator = self._simulator
        values = (
            simulator.observation()[: len(rewards.STATE_NAMES)],
            simulator.goal(),
            simulator.tip(),
            (self._paid, self._solved, self._solved_so_far),
            self._identity,
        )
        return np.concatenate(values, dtype=np.float32)

    def _info(self, inputs: np.ndarray) -> dict[str, Any]:
        success = bool(rewards.success(self.task, inputs))
        return {"success": success, "task": self.task, "reward_inputs": inputs}

    def _observation(self, before: np.ndarray) -> dict[str, np.ndarray]:
        if self._state_seen:
            proprio = self._simulator.observation().astype(np.float32)
            if not self._show_goal:
                proprio[36:] = 0.0
            return {"proprio": proprio}
        proprio = np.empty(HAND_SIZE, np.float32)
        proprio[:3] = (self._hand[:3] - _HAND_CENTRE) / _HAND_HALF
        proprio[3] = self._hand[3]
        proprio[4:7] = (self._hand[:3] - before[:3]) / (_HAND_SPEED * self._episodes.action_repeat)
        proprio[7] = self._hand[3] - before[3]
        observation = {"proprio": proprio}
        for camera in self._views.cameras:
            observation[f"image_{camera}"] = self._draw(camera)
        return observation

    def _new_pictures(self) -> Pictures:
        shown = self._simulator.goal_sites() if self._show_goal else []
        model = pictures.visual_model(self._simulator.model_path, tuple(site for site, _ in shown))
        scenery = Scenery(model, self.task.distractors, pictures.names(model))
        scenery.begin_episode(self._look)
        return Pictures(model, self._data, scenery, self._views)

    def _draw(self, camera: str, movie: bool = False) -> np.ndarray:
        if self._pictures is None:
            self._pictures = self._new_pictures()
        # After a reset Meta-World leaves places of bodies it has moved as they were.
        mujoco.mj_kinematics(self._simulator.model, self._data)
        for site, place in self._simulator.goal_sites():
            self._data.site_xpos[site] = place
        mujoco.mj_camlight(self._pictures.model, self._data)
        return self._pictures.draw(camera, self._step_count, movie)

    def render(self) -> np.ndarray:
        """Return a smooth uint8 picture (256, 256, 3) of the first camera, for videos. Call `reset` first."""
        if self._step_count is None:
            raise SuiteError("render before reset: call reset(seed=...) first")
        return self._draw(self._views.cameras[0] if self._views.cameras else _MOVIE_CAMERA, movie=True)

    def close(self) -> None:
        """Free renderers and simulator; more than once is allowed."""
        if self._pictures is not None:
            self._pictures.close()
        self._simulator.close()
