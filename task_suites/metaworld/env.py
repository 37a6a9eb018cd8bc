"""The Meta-World environment: pictures or state out, hand and gripper commands in."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from task_suites.distribution import as_action
from task_suites.errors import SuiteError
from task_suites.metaworld import layouts, pictures, rewards
from task_suites.metaworld.simulator import Simulator
from task_suites.rendering import Renderer, mujoco
from task_suites.scenery import Scenery
from task_suites.task import Task

STATE_SIZE, HAND_SIZE = 39, 8
_HAND_CENTRE, _HAND_HALF = np.array([0.0, 0.7, 0.25]), np.array([0.5, 0.3, 0.25])
_HAND_SPEED = 0.01  # metres per step at action 1
_MOVIE_PIXELS = 256
_MOVIE_CAMERA = "corner4"


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
        *,
        spaces: tuple[gymnasium.spaces.Dict, gymnasium.spaces.Box],
        cameras: tuple[str, ...],
        image_size: int,
        state: bool,
        show_goal: bool,
        antialias: bool,
        action_repeat: int,
        episode_steps: int,
        start_noise_metres: float,
    ) -> None:
        if cameras:
            pictures.require()
        self.task = task
        self.render_mode = None
        self.metadata = {**self.metadata, "render_fps": max(80 // action_repeat, 1)}
        self.observation_space, self.action_space = spaces
        self._simulator = Simulator(
            task.parameters["scene"], layouts.numbers(task.parameters), rewards.version_of(task)
        )
        self._data = self._simulator.data
        self._identity = rewards.identity_of(task)
        self._cameras, self._image_size, self._antialias = cameras, image_size, antialias
        self._state_seen, self._show_goal = state, show_goal
        self._action_repeat, self._episode_steps = action_repeat, episode_steps
        self._start_noise = start_noise_metres
        self._visual: mujoco.MjModel | None = None
        self._scenery: Scenery | None = None
        self._renderer: Renderer | None = None
        self._movie_renderer: Renderer | None = None
        self._step_count: int | None = None
        self._paid, self._solved, self._solved_so_far = 0.0, False, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode; `seed` determines it fully, without one the environment's own stream goes on."""
        super().reset(seed=seed)
        offset = self.np_random.uniform(-1.0, 1.0, 3) * self._start_noise
        self._look = int(self.np_random.integers(2**31))
        if self._scenery is not None:
            self._scenery.begin_episode(self._look)
        self._hand = self._simulator.reset(offset)[:4].copy()
        self._step_count = 0
        self._paid, self._solved, self._solved_so_far = 0.0, False, False
        inputs = self._reward_inputs()
        return self._observation(self._hand), self._info(inputs)

    def step(self, action: np.ndarray):
        """Apply one action (4,). Raises SuiteError if it is not four finite numbers, or before `reset`."""
        if self._step_count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        action = as_action(action, 4).astype(np.float32)
        for _ in range(self._action_repeat):
            state, self._paid, self._solved = self._simulator.step(action)
            self._solved_so_far |= self._solved
        self._step_count += 1
        before, self._hand = self._hand, state[:4].copy()
        inputs = self._reward_inputs()
        paid = float(rewards.reward(self.task, inputs))
        truncated = self._step_count >= self._episode_steps
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
        proprio[4:7] = (self._hand[:3] - before[:3]) / (_HAND_SPEED * self._action_repeat)
        proprio[7] = self._hand[3] - before[3]
        observation = {"proprio": proprio}
        for camera in self._cameras:
            observation[f"image_{camera}"] = self._picture(camera)
        return observation

    def _picture(self, camera: str) -> np.ndarray:
        if self._renderer is None:
            size = self._image_size
            self._renderer = Renderer(self._visible(), size, size, antialias=self._antialias)
        return self._draw(self._renderer, camera)

    def _visible(self) -> mujoco.MjModel:
        if self._visual is None:
            shown = self._simulator.goal_sites() if self._show_goal else []
            sites = tuple(site for site, _ in shown)
            self._visual = pictures.visual_model(self._simulator.model_path, sites)
            self._scenery = Scenery(self._visual, self.task.distractors, pictures.names(self._visual))
            self._scenery.begin_episode(self._look)
        return self._visual

    def _draw(self, renderer: Renderer, camera: str) -> np.ndarray:
        # After a reset Meta-World leaves places of bodies it has moved as they were.
        mujoco.mj_kinematics(self._simulator.model, self._data)
        for site, place in self._simulator.goal_sites():
            self._data.site_xpos[site] = place
        mujoco.mj_camlight(self._visual, self._data)
        self._scenery.prepare(renderer, self._data, self._step_count)
        return renderer.render(self._data, self._visual.camera(camera).id, self._scenery.decorate)

    def render(self) -> np.ndarray:
        """Return a smooth uint8 picture (256, 256, 3) of the first camera, for videos. Call `reset` first."""
        if self._step_count is None:
            raise SuiteError("render before reset: call reset(seed=...) first")
        if self._movie_renderer is None:
            self._movie_renderer = Renderer(self._visible(), _MOVIE_PIXELS, _MOVIE_PIXELS, antialias=True)
        return self._draw(self._movie_renderer, self._cameras[0] if self._cameras else _MOVIE_CAMERA)

    def close(self) -> None:
        """Free renderers and simulator; more than once is allowed."""
        for renderer in (self._renderer, self._movie_renderer):
            if renderer is not None:
                renderer.close()
        self._renderer = self._movie_renderer = None
        self._simulator.close()


def spaces(
    cameras: tuple[str, ...], image_size: int, state: bool
) -> tuple[gymnasium.spaces.Dict, gymnasium.spaces.Box]:
    """Return (observation space, action space)."""
    size = STATE_SIZE if state else HAND_SIZE
    found = {"proprio": gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)}
    for name in cameras:
        found[f"image_{name}"] = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
    return gymnasium.spaces.Dict(found), gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
