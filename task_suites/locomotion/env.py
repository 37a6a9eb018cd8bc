"""One body on its own: Gymnasium's v5 physics step for step, with rewards of a task."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from task_suites.distribution import as_action
from task_suites.errors import SuiteError
from task_suites.locomotion import bodies, rewards
from task_suites.locomotion.bodies import Body
from task_suites.locomotion.pictures import FollowingPictures
from task_suites.locomotion.simulation import Simulation
from task_suites.task import Parameters, Task
from task_suites.views import Views

OBSERVATIONS = {
    "compact": Simulation.compact,
    "gymnasium": Simulation.full,
    "reward_inputs": Simulation.inputs,
    "pictures": None,
}
"""What `proprio` is of the simulation; None: there is none."""


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
        views: Views,
        *,
        observation: str,
        terminates: bool,
        episode_steps: int,
    ) -> None:
        self.body, self.task, self.render_mode = body, task, None
        self.simulation = Simulation(body, task.dynamics, forces=observation == "gymnasium")
        self.metadata = {**self.metadata, "render_fps": round(1 / self.simulation.seconds)}
        self.observation_space, self.action_space = spaces(body, observation, views)
        self._pictures = FollowingPictures(self.simulation.model, self.simulation.data, task.distractors, views)
        self._cameras, self._proprio = views.cameras, OBSERVATIONS[observation]
        self._terminates, self._episode_steps = terminates, episode_steps
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
            shown[f"image_{name}"] = self._pictures.draw(name, self._count)
        return shown

    def render(self) -> np.ndarray:
        """Return a smooth uint8 picture (256, 256, 3) of the first camera, for videos. Call `reset` first."""
        if self._count is None:
            raise SuiteError("render before reset: call reset(seed=...) first")
        camera = self._cameras[0] if self._cameras else bodies.CAMERAS[0]
        return self._pictures.draw(camera, self._count, movie=True)

    def close(self) -> None:
        """Free the renderers; more than once is allowed."""
        self._pictures.close()


def spaces(body: Body, observation: str, views: Views) -> tuple[gymnasium.spaces.Dict, gymnasium.spaces.Box]:
    """Return (observation space, action space)."""
    proprio = OBSERVATIONS[observation]
    size = None if proprio is None else proprio(Simulation(body, Parameters())).size
    return views.spaces(size, len(bodies.joints(body)))
