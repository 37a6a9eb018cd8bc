"""What environments show of themselves: small pictures that are observed, large ones for videos."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np

from task_suites.rendering import Renderer, mujoco
from task_suites.scenery import Scenery

MOVIE_PIXELS = 256


@dataclass(frozen=True)
class Views:
    """What is observed in pictures: `image_CAMERA` uint8 (image_size, image_size, 3) of each of `cameras`.

    antialias: smooth edges, slower; pictures for videos are smooth anyway.
    """

    cameras: tuple[str, ...]
    image_size: int
    antialias: bool

    def spaces(self, proprio: int | None, actions: int) -> tuple[gymnasium.spaces.Dict, gymnasium.spaces.Box]:
        """Return (observation space, action space): pictures beside `proprio` float32 (proprio,), which None leaves
        out; (actions,) in [-1, 1].
        """
        box, side = gymnasium.spaces.Box, self.image_size
        found = {f"image_{name}": box(0, 255, (side, side, 3), np.uint8) for name in self.cameras}
        if proprio is not None:
            found["proprio"] = box(-np.inf, np.inf, (proprio,), np.float32)
        return gymnasium.spaces.Dict(found), box(-1.0, 1.0, (actions,), np.float32)


class Pictures:
    """Draws one model and data with the distractors of `scenery`; renderers are made when first needed.

    Call `begin_episode` at each reset and `draw` after it. It draws places as `data` has them: bringing these to the
    state, which `mj_step` leaves one substep behind, is the caller's part. Attributes: `model`, `scenery`.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, scenery: Scenery, views: Views) -> None:
        self.model, self.scenery = model, scenery
        self._data, self._views = data, views
        self._camera_ids = {model.camera(index).name: index for index in range(model.ncam)}  # no look-ups in draw
        self._renderers: dict[bool, Renderer] = {}  # is it for videos -> its renderer

    def begin_episode(self, key: int) -> None:
        """Draw what this episode looks like; `key` is an int >= 0 that the episode's seed determines."""
        self.scenery.begin_episode(key)

    def draw(self, camera: str | int | mujoco.MjvCamera, step: int, movie: bool = False) -> np.ndarray:
        """Return the picture of `camera` at `step` of the episode, uint8: as observed, or (256, 256, 3) for videos.

        camera: name or id of one of the model's, or a free one.
        """
        if movie not in self._renderers:
            size = MOVIE_PIXELS if movie else self._views.image_size
            self._renderers[movie] = Renderer(self.model, size, size, antialias=movie or self._views.antialias)
        renderer = self._renderers[movie]
        if isinstance(camera, str):
            camera = self._camera_ids[camera]
        self.scenery.prepare(renderer, self._data, step)
        return renderer.render(self._data, camera, self.scenery.decorate)

    def close(self) -> None:
        """Free the renderers; more than once is allowed."""
        while self._renderers:
            self._renderers.popitem()[1].close()
