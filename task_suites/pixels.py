"""Pictures, with distractors if wanted, of a user's own MuJoCo environment; its physics stays untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gymnasium
import numpy as np

from task_suites.adapted_env import Converted, with_fractions
from task_suites.distribution import as_distractors
from task_suites.errors import SuiteError, choose
from task_suites.rendering import mujoco
from task_suites.scenery import Scenery
from task_suites.values import whole
from task_suites.views import Pictures, Views

DEFAULT_CAMERA = "default"

Physics = tuple[mujoco.MjModel, mujoco.MjData]


class MujocoPixels(Converted):
    """Pictures of a MuJoCo environment beside its own observation, drawn by our fast renderer.

    Observation: `image_CAMERA` uint8 (image_size, image_size, 3) per camera; `proprio` float32 (P,), the
    environment's own observation flattened, unless `proprio` is False. Actions, rewards and info are the
    environment's. Distractors and drawing change neither its model nor its data: the same seed and actions
    give the same states with and without them. The pictures show the state that `step` returns.

    cameras: names of the model's cameras, or "default", seen as `image_default`: the one called "track",
    which follows a runner, else Gymnasium's free view.
    distractors: as `{"video": 0.5}` or Distractor values. keep: geoms or bodies whose colour means something.
    region: x, y, z, half side in metres: where moving objects slide; if None, in the middle of the view.
    physics: env.unwrapped -> (model, data), where they are not called `model` and `data`.
    Raises SuiteError naming what is wrong, also for a video folder that is empty or holds broken files.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        *,
        image_size: int = 64,
        cameras: Iterable[str] = (DEFAULT_CAMERA,),
        distractors: Any = (),
        keep: Iterable[str] = (),
        region: tuple[float, float, float, float] | None = None,
        antialias: bool = False,
        proprio: bool = True,
        physics: Callable[[Any], Physics] | None = None,
    ) -> None:
        super().__init__(env)
        self._find, self._keep, self._region = physics or _own_physics, keep, region
        side = whole(image_size, "image_size", 8, 1024)
        self.distractors, self._with_proprio = as_distractors(distractors), proprio
        self._model: mujoco.MjModel | None = None
        self._pictures: Pictures | None = None
        self._own_rng, self._step_count = np.random.default_rng(), None
        names = (cameras,) if isinstance(cameras, str) else tuple(cameras)
        if len(set(names)) != len(names):
            raise SuiteError(f"cameras is {names!r}: one is given twice")
        self._views = Views(names, side, antialias)
        self._attach()
        if not names and not proprio:
            raise SuiteError("cameras is empty and proprio is False: nothing would be observed")
        self.observation_space = self._space()

    @property
    def render_mode(self) -> str:
        """Always "rgb_array": this wrapper draws."""
        return "rgb_array"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode; `seed` determines it and what its pictures look like."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._own_rng = np.random.default_rng(seed)
        self._attach()
        self._pictures.begin_episode(int(self._own_rng.integers(2**31)))
        self._step_count = 0
        return self._observation(observation), info

    def step(self, action):
        """Take one step of the environment."""
        if self._step_count is None:
            raise SuiteError("step before reset: call reset(seed=...) first")
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._step_count += 1
        return self._observation(observation), reward, terminated, truncated, info

    def render(self) -> np.ndarray:
        """Return a smooth uint8 picture (256, 256, 3) of the first camera, for videos. Call `reset` first."""
        if self._step_count is None:
            raise SuiteError("render before reset: call reset(seed=...) first")
        self._follow()
        return self._pictures.draw(self._first, self._step_count, movie=True)

    def close(self) -> None:
        """Free the renderers and close the environment."""
        self._free()
        self.env.close()

    def outside(self) -> str | None:
        """Return what of the environment's last observation is not in its own space; None where it is not shown."""
        return super().outside() if self._with_proprio else None

    def _attach(self) -> None:
        """Look at the environment's present model; some make a new one at reset."""
        model, data = self._find(self.env.unwrapped)
        if not isinstance(model, mujoco.MjModel) or not isinstance(data, mujoco.MjData):
            raise SuiteError(f"{self.env}: found no MuJoCo model and data; say where with physics=")
        self._data = data
        if model is not self._model:
            self._free()
            self._model, self._drawn = model, mujoco.MjData(model)
            self._cameras = {f"image_{name}": self._camera(name) for name in self._views.cameras}
            self._first = next(iter(self._cameras.values()), None)
            if self._first is None:
                self._first = self._camera(DEFAULT_CAMERA)
            scenery = Scenery(model, self.distractors, keep=self._keep, region=self._region, view=self._first)
            self._pictures = Pictures(model, self._drawn, scenery, self._views)

    def _camera(self, name: str) -> int | mujoco.MjvCamera:
        model = self._model
        names = [model.camera(i).name for i in range(model.ncam)]
        if name != DEFAULT_CAMERA:
            return names.index(choose(name, {DEFAULT_CAMERA, *filter(None, names)}, "camera"))
        if "track" in names:
            return names.index("track")
        shown = getattr(self.env.unwrapped, "mujoco_renderer", None)
        chosen = getattr(shown, "camera_id", -1)
        if chosen is not None and chosen >= 0:
            return int(chosen)
        mujoco.mj_kinematics(model, self._drawn)
        free = mujoco.MjvCamera()
        free.type, free.distance = mujoco.mjtCamera.mjCAMERA_FREE, model.stat.extent
        free.lookat[:] = np.median(self._drawn.geom_xpos, axis=0)
        for field, value in (getattr(shown, "default_cam_config", None) or {}).items():
            if isinstance(value, np.ndarray):
                getattr(free, field)[:] = value
            else:
                setattr(free, field, value)
        return free

    def _space(self) -> gymnasium.spaces.Dict:
        side = self._views.image_size
        image = gymnasium.spaces.Box(0, 255, (side, side, 3), np.uint8)
        found: dict[str, gymnasium.Space] = {key: image for key in self._cameras}
        if self._with_proprio:
            own = self.env.observation_space
            if not own.is_np_flattenable:
                raise SuiteError(f"observations are {own}, not a fixed number of values; set proprio=False")
            size = gymnasium.spaces.flatdim(own)
            found["proprio"] = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        return gymnasium.spaces.Dict(found)

    def _observation(self, observation: Any) -> dict[str, np.ndarray]:
        found, self._own = {}, observation
        if self._cameras:
            self._follow()
            found = {key: self._pictures.draw(camera, self._step_count) for key, camera in self._cameras.items()}
        if self._with_proprio:
            flat = gymnasium.spaces.flatten(with_fractions(self.env.observation_space), observation)
            found["proprio"] = np.array(flat, np.float32)
        return found

    def _follow(self) -> None:
        """Bring our own data to the environment's state: places of bodies there stay as they are."""
        ours, theirs = self._drawn, self._data
        ours.qpos[:], ours.mocap_pos[:], ours.mocap_quat[:] = theirs.qpos, theirs.mocap_pos, theirs.mocap_quat
        mujoco.mj_kinematics(self._model, ours)
        mujoco.mj_comPos(self._model, ours)
        mujoco.mj_camlight(self._model, ours)
        if self._model.nflex:
            mujoco.mj_flex(self._model, ours)
        if self._model.ntendon:
            mujoco.mj_tendon(self._model, ours)

    def _free(self) -> None:
        if self._pictures is not None:
            self._pictures.close()


def _own_physics(env: Any) -> tuple[Any, Any]:
    return getattr(env, "model", None), getattr(env, "data", None)
