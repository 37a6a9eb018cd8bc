"""The one place that touches Meta-World: its scenes without their global state, and its expert policies."""

from __future__ import annotations

import copy
import functools
import importlib.util
import warnings
from typing import Any

import numpy as np

from task_suites.errors import SuiteError
from task_suites.rendering import mujoco

STATE_SIZE = 18  # hand x y z, gripper opening, twice an object's position and quaternion
_STEPS_FOREVER = 1 << 62
_V1, _V2 = "v1", "v2"


def require() -> None:
    """Raise SuiteError if Meta-World is not installed."""
    if importlib.util.find_spec("metaworld") is None:
        raise SuiteError('Meta-World is not installed: pip install "metaworld==3.1.1"')


@functools.cache
def _physics_model(path: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(path)


@functools.cache
def _scene_class(scene: str) -> type:
    """Return Meta-World's class of `scene`, with a start offset of the hand and without random draws."""
    require()
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    original = ALL_V3_ENVIRONMENTS[f"{scene}-v3"]

    class Scene(original):
        start_offset = np.zeros(3)

        def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
            model = copy.copy(_physics_model(self.fullpath))  # reading the file takes ten times as long
            return model, mujoco.MjData(model)

        def _reset_hand(self, steps: int = 50) -> None:
            place = self.hand_init_pos
            self.hand_init_pos = place + self.start_offset
            super()._reset_hand(steps=steps)
            self.hand_init_pos = place

        def _get_state_rand_vec(self) -> np.ndarray:
            # Meta-World draws again while object and goal are too near: with fixed numbers, for ever.
            self.draws += 1
            if self.draws > 2:
                raise SuiteError(f"{scene}: Meta-World refuses the places {self._last_rand_vec.tolist()}")
            return self._last_rand_vec.copy()

        def reset_model(self) -> np.ndarray:
            self.draws = 0
            return super().reset_model()

    return Scene


class Simulator:
    """One scene with its objects at fixed places: same numbers, same start offset and actions, same episode.

    numbers: (3 or 6,) metres, see `layouts.numbers`. version: which of Meta-World's rewards, "v1" or "v2".
    """

    def __init__(self, scene: str, numbers: np.ndarray, version: str) -> None:
        self._env = env = _scene_class(scene)()
        env._last_rand_vec = numbers
        env._freeze_rand_vec = env._set_task_called = True
        env._partially_observable = False  # who may see the goal is decided outside
        del env.sawyer_observation_space  # cached with a goal of zeros, to which observations are clipped
        env.max_path_length = _STEPS_FOREVER
        env.reward_function_version = version
        self._version = version
        self.model, self.data = env.model, env.data
        self.model_path: str = env.model_name

    def reset(self, start_offset: np.ndarray) -> np.ndarray:
        """Start an episode with the hand `start_offset` (3,) metres beside its place; return the state."""
        self._env.start_offset = start_offset
        self._state = self._env.reset()[0]
        return self._state[:STATE_SIZE]

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Apply `action` (4,) in [-1, 1]; return the state (18,), Meta-World's reward and its success."""
        self._state, reward, _, _, info = self._env.step(action)
        if self._version == _V1:  # v1 branches return other distances, and success with them
            self._env.reward_function_version = _V2
            info = self._env.evaluate_state(self._state, action)[1]
            self._env.reward_function_version = _V1
        return self._state[:STATE_SIZE], float(reward), bool(info["success"])

    def observation(self) -> np.ndarray:
        """Return Meta-World's observation (39,): the state, the state before and the goal."""
        return self._state

    def tip(self) -> np.ndarray:
        """Return the middle of the fingertips (3,) in metres."""
        return self._env.tcp_center

    def goal(self) -> np.ndarray:
        """Return the goal (3,) in metres."""
        return self._env._target_pos

    def goal_sites(self) -> list[tuple[int, np.ndarray]]:
        """Return (site id, position (3,)) of each marker of the goal."""
        return [(self.model.site(name).id, place) for name, place in self._env._target_site_config]

    def close(self) -> None:
        """Free what Meta-World holds."""
        self._env.close()


@functools.cache
def _expert_class(scene: str) -> type:
    require()
    from metaworld.policies import ENV_POLICY_MAP

    return ENV_POLICY_MAP[f"{scene}-v3"]


class Expert:
    """Meta-World's own scripted policy of a scene, on `reward_inputs`; it keeps the state before itself."""

    def __init__(self, scene: str) -> None:
        self._policy: Any = _expert_class(scene)()
        self._before: np.ndarray | None = None

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used, the experts are deterministic."""
        self._before = None

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (4,) for `reward_inputs`."""
        state = np.asarray(reward_inputs[:STATE_SIZE], np.float64)
        goal = np.asarray(reward_inputs[STATE_SIZE : STATE_SIZE + 3], np.float64)
        before = state if self._before is None else self._before
        self._before = state.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Constant(s) may be too high": it clips below
            action = self._policy.get_action(np.concatenate([state, before, goal]))
        return np.clip(action, -1.0, 1.0).astype(np.float32)
