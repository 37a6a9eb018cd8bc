"""Pictures of a body that runs away: cameras that follow it, a floor without end, distractors beside it."""

from __future__ import annotations

import numpy as np

from task_suites.locomotion.bodies import CAMERAS, FLOOR_PERIOD_METRES
from task_suites.rendering import Renderer, mujoco
from task_suites.scenery import Names, Scenery
from task_suites.task import Distractor

_HALF_METRES = 1.8  # within this of the body distractors' objects slide
_FLOOR_QUAD_METRES = 40.0


class Pictures:
    """Draws one model and data; nothing it changes reaches the physics.

    Call `begin_episode` at each reset and `draw` after it.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, distractors: tuple[Distractor, ...]) -> None:
        self._model, self._data = model, data
        self._floor = model.geom("floor").id
        # Parts by number, as some have no name; there is no table, its changes fall on the floor.
        parts = tuple(geom for geom in range(model.ngeom) if geom != self._floor)
        # Some assets draw the plane in quads of 12 cm, five times as slow; the physics does not see them.
        model.geom_size[self._floor, 2] = _FLOOR_QUAD_METRES
        names = Names("floor", "floor", parts, (), _HALF_METRES, followed=model.body(1).name)
        self._scenery = Scenery(model, distractors, names)
        self._cameras = [model.camera(name).id for name in CAMERAS]
        self._camera_spots = model.cam_pos[self._cameras].copy()
        self._renderers: dict[tuple[int, bool], Renderer] = {}

    def begin_episode(self, key: int) -> None:
        """Draw what this episode looks like; `key` is an int >= 0 that the episode's seed determines."""
        self._scenery.begin_episode(key)

    def draw(self, camera: str, step: int, pixels: int, antialias: bool) -> np.ndarray:
        """Return the picture (pixels, pixels, 3) uint8 of `camera` at `step` of the episode."""
        renderer = self._renderer(pixels, antialias)
        model, data = self._model, self._data
        # mj_step leaves the frames of bodies one substep old; the picture shows the state that is returned.
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        middle = data.subtree_com[1] * (1, 1, 0)
        model.cam_pos[self._cameras] = self._camera_spots + middle
        mujoco.mj_camlight(model, data)
        data.geom_xpos[self._floor][:2] = FLOOR_PERIOD_METRES * np.round(middle[:2] / FLOOR_PERIOD_METRES)
        self._scenery.prepare(renderer, data, step)
        return renderer.render(data, model.camera(camera).id, self._scenery.decorate)

    def _renderer(self, pixels: int, antialias: bool) -> Renderer:
        key = pixels, antialias
        if key not in self._renderers:
            self._renderers[key] = Renderer(self._model, pixels, pixels, antialias=antialias)
        return self._renderers[key]

    def close(self) -> None:
        """Free the renderers; more than once is allowed."""
        while self._renderers:
            self._renderers.popitem()[1].close()
