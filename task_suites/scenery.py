"""Applies distractors to a MuJoCo scene: only visual fields of the model change, never the physics."""

from __future__ import annotations

import colorsys
import weakref
from dataclasses import dataclass

import numpy as np

from task_suites import patterns
from task_suites.rendering import Renderer, mujoco
from task_suites.task import Distractor

_MAX_OBJECTS = 6
_OBJECT_RGB = (
    (0.9, 0.8, 0.1),
    (0.1, 0.75, 0.8),
    (0.8, 0.2, 0.75),
    (0.95, 0.95, 0.95),
    (0.08, 0.08, 0.08),
    (0.95, 0.5, 0.1),
)
_SHAPES = (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_ELLIPSOID)
_CAMERA_METRES, _CAMERA_RADIANS = 0.04, 0.04
_VISUAL_FIELDS = ("geom_rgba", "geom_matid", "light_diffuse", "light_dir", "cam_pos", "cam_quat", "tex_data")


@dataclass(frozen=True)
class Names:
    """Which geoms may change; floor and table have 64x64 textures and materials of the same name.

    Objects slide around `centre_metres` (x, y, z of the table's surface) within `table_half_metres`; they are
    3 to 5 cm large times `object_scale`. table_geoms: ids of the table's geoms, where it
    is not one geom called `table`. pictured: the textures hold what the surfaces look like, which their
    geoms' colours only tint; otherwise the geoms' colours are the look.
    """

    floor: str
    table: str
    hand: tuple[str | int, ...]
    blocks: tuple[str, ...]
    table_half_metres: float
    centre_metres: tuple[float, float, float] = (0.0, 0.0, 0.0)
    object_scale: float = 1.0
    table_geoms: tuple[int, ...] = ()
    pictured: bool = False


class Scenery:
    """The distractors of one environment.

    Colours, textures and lights are drawn anew each episode, objects, camera and video move with the step;
    all are determined by (distractor seed, episode key, step). Intensity 0 changes no pixel. `centre` is
    where the objects are, (3,) in metres; an environment whose camera travels moves it.
    """

    def __init__(self, model: mujoco.MjModel, distractors: tuple[Distractor, ...], names: Names) -> None:
        self._model, self._names = model, names
        self._active = {item.name: item for item in distractors if item.intensity > 0}
        self._base = {field: getattr(model, field).copy() for field in _VISUAL_FIELDS if self._active}
        self._headlight = np.array(model.vis.headlight.diffuse)
        self._dirty: dict[int, int] = {}  # texture -> version of its content
        self._uploaded: weakref.WeakKeyDictionary[Renderer, dict[int, int]] = weakref.WeakKeyDictionary()
        self._version = 0
        self._plasma: patterns.Plasma | None = None
        self._plasma_step = -1
        self.centre = np.array(names.centre_metres, float)
        self.decorate = self._draw_objects if "objects" in self._active else None

    def begin_episode(self, key: int) -> None:
        """Draw what this episode looks like; `key` is an int >= 0 that the episode's seed determines."""
        if not self._active:
            return
        for field, value in self._base.items():
            getattr(self._model, field)[:] = value
        self._model.vis.headlight.diffuse[:] = self._headlight
        self._plasma, self._plasma_step, self._step = None, -1, 0
        # In this order: textures start from the colours, the video covers the floor's texture.
        setups = (self._colours, self._lights, self._textures, self._video, self._objects, self._camera)
        for setup in setups:
            item = self._active.get(setup.__name__[1:])
            if item is not None:
                setup(item.intensity, np.random.default_rng([item.seed, key]))

    def prepare(self, renderer: Renderer, data: mujoco.MjData, step: int) -> None:
        """Bring model and renderer to `step` of the episode; call it before drawing, after mj_kinematics."""
        if not self._active:
            return
        self._step = step
        if self._plasma is not None and self._plasma_step != step:
            self._set_texture(self._names.floor, self._plasma.frame(step))
            self._plasma_step = step
        if "camera" in self._active:
            self._move_camera(step)
        if "camera" in self._active or "lights" in self._active:
            mujoco.mj_camlight(self._model, data)
        done = self._uploaded.setdefault(renderer, {})
        for texture, version in self._dirty.items():
            if done.get(texture) != version:
                renderer.upload_texture(texture)
                done[texture] = version

    def _geoms(self, name: str | int) -> tuple[str | int, ...]:
        return self._names.table_geoms or (name,) if name == self._names.table else (name,)

    def _rgba(self, name: str | int) -> np.ndarray:
        return self._model.geom(self._geoms(name)[0]).rgba

    def _surface(self, name: str) -> np.ndarray:
        """Return what floor or table look like now: RGB (3,), or (64, 64, 3) where they are pictured."""
        colour = self._rgba(name)[:3].astype(float)
        if not self._names.pictured:
            return colour
        return colour * self._texture(name).reshape(patterns.SIZE, patterns.SIZE, 3) / 255

    def _colours(self, intensity: float, rng: np.random.Generator) -> None:
        for name in (self._names.floor, self._names.table, *self._names.hand):
            share = intensity if name not in self._names.hand else 0.5 * intensity
            colour = patterns.dull_colour(rng)
            for geom in self._geoms(name):
                rgba = self._model.geom(geom).rgba
                rgba[:3] += share * (colour - rgba[:3])
        for name in self._names.blocks:
            rgba = self._rgba(name)
            hue, saturation, value = colorsys.rgb_to_hsv(*rgba[:3].tolist())
            shift, light = rng.uniform(-1, 1, 2) * intensity  # at most 10 degrees: red stays red
            rgba[:3] = colorsys.hsv_to_rgb(
                (hue + shift / 36) % 1, saturation, min(value * (1 + 0.2 * light), 1)
            )

    def _lights(self, intensity: float, rng: np.random.Generator) -> None:
        tint = 1 + 0.25 * intensity * rng.uniform(-1, 1, 3)
        lamp, head = 1 + intensity * rng.uniform(-0.8, 0.8), 1 + 0.7 * intensity * rng.uniform(-1, 0.3)
        self._model.light_diffuse[:] = self._base["light_diffuse"] * lamp * tint
        self._model.vis.headlight.diffuse[:] = self._headlight * head
        direction = self._base["light_dir"] + intensity * np.array([1.2, 1.2, 0.0]) * rng.uniform(-1, 1, 3)
        self._model.light_dir[:] = direction / np.linalg.norm(direction, axis=-1, keepdims=True)

    def _textures(self, intensity: float, rng: np.random.Generator) -> None:
        for name in (self._names.floor, self._names.table):
            base = self._surface(name)
            marks = base + 0.8 * intensity * (patterns.dull_colour(rng) - base)
            self._show_texture(name, base + patterns.pattern(rng)[..., None] * (marks - base))

    def _video(self, intensity: float, rng: np.random.Generator) -> None:
        base = self._surface(self._names.floor).reshape(-1, 3).mean(0)
        if "textures" in self._active:
            base = self._texture(self._names.floor).reshape(-1, 3).mean(0) / 255
        self._plasma = patterns.Plasma(rng, intensity, base)
        self._show_texture(self._names.floor, self._plasma.frame(0) / 255)

    def _texture(self, name: str) -> np.ndarray:
        texture = self._model.texture(name)
        start, size = int(texture.adr[0]), patterns.SIZE * patterns.SIZE * 3
        return self._model.tex_data[start : start + size]

    def _set_texture(self, name: str, picture: np.ndarray) -> None:
        self._texture(name)[:] = picture.reshape(-1)
        self._version += 1
        self._dirty[self._model.texture(name).id] = self._version

    def _show_texture(self, name: str, picture: np.ndarray) -> None:
        self._set_texture(name, (255 * picture).clip(0, 255).astype(np.uint8))
        for key in self._geoms(name):
            geom = self._model.geom(key)
            geom.rgba[:] = 1.0
            self._model.geom_matid[geom.id] = self._model.material(name).id

    def _objects(self, intensity: float, rng: np.random.Generator) -> None:
        count = int(np.ceil(_MAX_OBJECTS * intensity))
        half = self._names.table_half_metres
        self._paths = {
            "centre": rng.uniform(-0.6 * half, 0.6 * half, (count, 2)),
            "radius": rng.uniform(0.2, 0.4, (count, 2)) * half * intensity,
            "speed": rng.uniform(0.08, 0.25, (count, 2)),  # radians per step
            "phase": rng.uniform(0, 2 * np.pi, (count, 2)),
        }
        kinds, colours = rng.integers(len(_SHAPES), size=count), rng.permutation(_MAX_OBJECTS)[:count]
        sizes = rng.uniform(0.015, 0.025, (count, 3)) * self._names.object_scale
        turns = rng.uniform(0, np.pi, count)
        self._bodies = []
        for kind, colour, size, turn in zip(kinds, colours, sizes, turns, strict=True):
            frame = np.array([np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0, 0, 0, 1])
            rgba = np.array([*_OBJECT_RGB[colour], 1], np.float32)
            self._bodies.append((_SHAPES[kind], size, frame, rgba))

    def _draw_objects(self, scene: mujoco.MjvScene) -> None:
        path = self._paths
        spots = path["centre"] + path["radius"] * np.sin(path["phase"] + path["speed"] * self._step)
        for (shape, size, frame, rgba), spot in zip(self._bodies, spots, strict=True):
            height = size[0] if shape == mujoco.mjtGeom.mjGEOM_SPHERE else size[2]
            position = self.centre + np.array([spot[0], spot[1], height])
            mujoco.mjv_initGeom(scene.geoms[scene.ngeom], shape, size, position, frame, rgba)
            scene.ngeom += 1

    def _camera(self, intensity: float, rng: np.random.Generator) -> None:
        self._shake = intensity, rng.uniform(0, 2 * np.pi, (2, 6)), rng.uniform(0.05, 0.3, (2, 6))

    def _move_camera(self, step: int) -> None:
        intensity, phase, speed = self._shake
        wave = np.sin(phase + speed * step).mean(0) * intensity
        turn, quat = np.empty(4), np.empty(4)
        mujoco.mju_euler2Quat(turn, _CAMERA_RADIANS * wave[3:], "xyz")
        for camera in range(self._model.ncam):
            self._model.cam_pos[camera] = self._base["cam_pos"][camera] + _CAMERA_METRES * wave[:3]
            mujoco.mju_mulQuat(quat, self._base["cam_quat"][camera], turn)
            self._model.cam_quat[camera] = quat
