"""Pictures of a body that runs away: cameras that follow it, a floor without end, distractors beside it."""

from __future__ import annotations

import numpy as np

from task_suites.locomotion.bodies import CAMERAS, FLOOR_PERIOD_METRES
from task_suites.rendering import mujoco
from task_suites.scenery import Names, Scenery
from task_suites.task import Distractor
from task_suites.views import Pictures, Views

_HALF_METRES = 1.8  # within this of the body distractors' objects slide
_FLOOR_QUAD_METRES = 40.0


class FollowingPictures(Pictures):
    """Draws one model and data, brought to the present state; nothing it changes reaches the physics."""

    def __init__(
        self, model: mujoco.MjModel, data: mujoco.MjData, distractors: tuple[Distractor, ...], views: Views
    ) -> None:
        self._floor = model.geom("floor").id
        # Parts by number, as some have no name; there is no table, its changes fall on the floor.
        parts = tuple(geom for geom in range(model.ngeom) if geom != self._floor)
        # Some assets draw the plane in quads of 12 cm, five times as slow; the physics does not see them.
        model.geom_size[self._floor, 2] = _FLOOR_QUAD_METRES
        names = Names("floor", "floor", parts, (), _HALF_METRES, followed=model.body(1).name)
        super().__init__(model, data, Scenery(model, distractors, names), views)
        self._cameras = [model.camera(name).id for name in CAMERAS]
        self._camera_spots = model.cam_pos[self._cameras].copy()

    def draw(self, camera: str, step: int, movie: bool = False) -> np.ndarray:
        model, data = self.model, self._data
        # mj_step leaves the frames of bodies one substep old; the picture shows the state that is returned.
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        middle = data.subtree_com[1] * (1, 1, 0)
        model.cam_pos[self._cameras] = self._camera_spots + middle
        mujoco.mj_camlight(model, data)
        data.geom_xpos[self._floor][:2] = FLOOR_PERIOD_METRES * np.round(middle[:2] / FLOOR_PERIOD_METRES)
        return super().draw(camera, step, movie)
