"""One body on its own: Gymnasium's v5 physics step for step, with rewards of a task."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from task_suites.distribution import as_action
from task_suites.errors import SuiteError
from task_suites.locomotion import bodies, rewards
from task_suites.locomotion.bodies import Body
from task_suites.locomotion.pictures import Pictures
from task_suites.locomotion.simulation import Simulation
from task_suites.task import Parameters, Task

OBSERVATIONS = {
    "compact": Simulation.compact,
    "gymnasium": Simulation.full,
    "reward_inputs": Simulation.inputs,
    "pictures": None,
}
"""What `proprio` is of the simulation; None: there is none."""
_MOVIE_PIXELS = 256


class LocomotionEnv(gymnasium.Env):
    """One task of one body. Time limits truncate; a fall terminates if `terminates`.

    Action (A,) in [-1, 1]: torque of each motor (1 = the largest). Observation: `proprio` float32, what
    `observation` says (not with "pictures"); `image_CAMERA` uint8 (size, size, 3). info: `success` bool, `task`,
    `reward_inputs` float32 named in `bodies.input_names`. A seed gives the start that it gives Gymnasium's environment.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(
        self,
        body: Body,
        task: Task,
        *,
        observation: str,
        terminates: bool,
        episode_steps: int,
        cameras: tuple[str, ...],
        image_size: int,
        antialias: bool,
    ) -> None:
        self.body, self.task, self.render_mode = body, task, None
        self.simulation = Simulation(body, task.dynamics, forces=observation == "gymnasium")
        self.metadata = {**self.metadata, "render_fps": round(1 / self.simulation.seconds)}
        self.observation_space, self.action_space = spaces(body, observation, cameras, image_size)
        self._pictures = Pictures(self.simulation.model, self.simulation.data, task.distractors)
        self._cameras, self._image_size, self._antialias = cameras, image_size, antialias
        self._proprio, self._terminates, self._episode_steps = (
            OBSERVATIONS[observation],
            terminates,
            episode_steps,
        )
        self._count: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode; `seed` determines it fully, without one the environment's own stream goes on."""
        super().reset(seed=seed)
        self.simulation.reset(self.np_random)
        # Drawn with and without distractors: they must not shift the stream that places the body.
        self._pictures.begin_episode(int(self.np_random.integers(2**31)))
        self._count = 0
        return self._observation(), self._info(self.simulation.inputs())

    def step(self, action: np.ndarray):
        """Apply one action (A,). Raises SuiteError if it is not A finite numbers, or before `reset`."""
        if self._count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        action = as_action(action, self.action_space.shape[0])
        self.simulation.step(action)
        self._count += 1
        inputs = self.simulation.inputs()
        paid = float(rewards.evaluate(self.body, self.task.reward, inputs, action))
        ended = self._terminates and not rewards.healthy(self.body, inputs)
        limit = self._count >= self._episode_steps and not ended
        return self._observation(), paid, bool(ended), limit, self._info(inputs)

    def _info(self, inputs: np.ndarray) -> dict[str, Any]:
        done = bool(rewards.success(self.body, self.task.reward, inputs))
        return {"success": done, "task": self.task, "reward_inputs": inputs}

    def _observation(self) -> dict[str, np.ndarray]:
        shown = {} if self._proprio is None else {"proprio": self._proprio(self.simulation)}
        for name in self._cameras:
            shown[f"image_{name}"] = self._pictures.draw(name, self._count, self._image_size, self._antialias)
        return shown

    def render(self) -> np.ndarray:
        """Return a smooth uint8 picture (256, 256, 3) of the first camera, for videos. Call `reset` first."""
        if self._count is None:
            raise SuiteError("render before reset: call reset(seed=...) first")
        camera = self._cameras[0] if self._cameras else bodies.CAMERAS[0]
        return self._pictures.draw(camera, self._count, _MOVIE_PIXELS, True)

    def close(self) -> None:
        """Free the renderers; more than once is allowed."""
        self._pictures.close()


def spaces(
    body: Body, observation: str, cameras: tuple[str, ...], image_size: int
) -> tuple[gymnasium.spaces.Dict, gymnasium.spaces.Box]:
    """Return (observation space, action space)."""
    box, proprio, shown = gymnasium.spaces.Box, OBSERVATIONS[observation], {}
    if proprio is not None:
        size = proprio(Simulation(body, Parameters())).size
        shown["proprio"] = box(-np.inf, np.inf, (size,), np.float32)
    for name in cameras:
        shown[f"image_{name}"] = box(0, 255, (image_size, image_size, 3), np.uint8)
    return gymnasium.spaces.Dict(shown), box(-1.0, 1.0, (len(bodies.joints(body)),), np.float32)
