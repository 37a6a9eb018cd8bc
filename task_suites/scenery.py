"""Applies distractors to pictures of a MuJoCo scene: they change what is drawn, never the model or its data.

Geoms, lights and camera are changed in the scene that MuJoCo hands to its renderer; textures belong to the
renderer. Works for any model; a suite may say which geoms are what (`Names`), otherwise they are found.
"""

from __future__ import annotations

import colorsys
import weakref
from collections.abc import Callable, Iterable

import numpy as np

from task_suites import clips, patterns
from task_suites.errors import SuiteError
from task_suites.layout import Names, base_colour, named, survey, texture_of
from task_suites.rendering import FIRST_PAINT, Renderer, mujoco
from task_suites.task import Distractor

__all__ = ["Names", "Scenery"]

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
_CAMERA_SHARE, _CAMERA_RADIANS = 0.2, 0.04  # of the region's half side; of turning
_BACKDROP = 49  # its slot in the renderer
_BACKDROP_DEPTH = 0.45  # of the far plane: MuJoCo draws its sky at about half
_GEOM = int(mujoco.mjtObj.mjOBJ_GEOM)


class Scenery:
    """The distractors of one environment's pictures.

    Colours, textures and lights are drawn anew each episode, objects, camera and video move with the step;
    all are determined by (distractor seed, episode key, step). Intensity 0 changes no pixel.
    names, or else keep, region and view: see `task_suites.layout`. `centre` (3,) is where
    objects slide, in metres.
    Use: `begin_episode` at reset; for each picture `prepare`, then `renderer.render(data, camera, decorate)`.
    Raises SuiteError for a distractor that this scene cannot show, or a video folder that cannot be read.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        distractors: tuple[Distractor, ...],
        names: Names | None = None,
        *,
        keep: Iterable[str] = (),
        region: tuple[float, float, float, float] | None = None,
        view: int | mujoco.MjvCamera | None = None,
    ) -> None:
        self._model = model
        self._active = {item.name: item for item in distractors if item.intensity > 0}
        self._layout = survey(model, keep, region, view) if names is None else named(model, names)
        self._clips: tuple[clips.Clip, ...] = ()
        if "video" in self._active and self._active["video"].folder:
            self._clips = clips.load(self._active["video"].folder)
        if "textures" in self._active and not self._layout.surfaces:
            raise SuiteError("distractor 'textures': this scene has no floor, table or wall to put them on")
        self._uploaded: weakref.WeakKeyDictionary[Renderer, dict[int, int]] = weakref.WeakKeyDictionary()
        self._episode = 0
        self._places: list[tuple[int, int]] = []
        self._places_of = (0, 0)
        self.centre = np.array(self._layout.region[:3])
        self.decorate: Callable[[mujoco.MjvScene], None] | None = self._decorate if self._active else None

    def begin_episode(self, key: int) -> None:
        """Draw what this episode looks like; `key` is an int >= 0 that the episode's seed determines."""
        if not self._active:
            return
        self._episode, self._step, self._aspect = self._episode + 1, 0, 1.0
        self._rgb: dict[int, np.ndarray] = {}  # geom -> colour
        self._painted: dict[int, tuple[int, np.ndarray, tuple]] = {}  # geom -> slot, picture, how it repeats
        # In this order: textures start from the colours.
        setups = (self._colours, self._lights, self._textures, self._video, self._objects, self._camera)
        for setup in setups:
            item = self._active.get(setup.__name__[1:])
            if item is not None:
                setup(item.intensity, np.random.default_rng([item.seed, key]))
        hidden = self._layout.ground if "video" in self._active else ()
        self._changed = sorted({*self._rgb, *self._painted, *hidden})

    def prepare(self, renderer: Renderer, data: mujoco.MjData, step: int) -> None:
        """Bring the renderer to `step` of the episode; `data` is only read, and says where bodies are."""
        if not self._active:
            return
        self._step, self._aspect = step, renderer.aspect
        if self._layout.followed is not None:
            self.centre[:2] = self._layout.region[:2] + data.xpos[self._layout.followed, :2]
        done = self._uploaded.setdefault(renderer, {})
        for slot, picture, how in self._painted.values():
            if done.get(slot) != (self._episode, 0):
                renderer.paint(slot, picture, *how)
                done[slot] = self._episode, 0
        if "video" in self._active and done.get(_BACKDROP) != (self._episode, step):
            self._backdrop = renderer.paint(_BACKDROP, self._film.frame(step), mipmaps=False)
            done[_BACKDROP] = self._episode, step

    def _colours(self, intensity: float, rng: np.random.Generator) -> None:
        for geoms, share in self._layout.coloured:
            shade = patterns.dull_colour(rng)
            for geom in geoms:
                base = base_colour(self._model, geom)
                self._rgb[geom] = base + intensity * share * (shade - base)
        for geom in self._layout.kept:
            hue, saturation, value = colorsys.rgb_to_hsv(*base_colour(self._model, geom))
            shift, light = rng.uniform(-1, 1, 2) * intensity  # at most 10 degrees: red stays red
            value = min(value * (1 + 0.2 * light), 1)
            self._rgb[geom] = np.array(colorsys.hsv_to_rgb((hue + shift / 36) % 1, saturation, value))

    def _lights(self, intensity: float, rng: np.random.Generator) -> None:
        tint = 1 + 0.25 * intensity * rng.uniform(-1, 1, 3)
        lamp, head = 1 + intensity * rng.uniform(-0.8, 0.8), 1 + 0.7 * intensity * rng.uniform(-1, 0.3)
        turn = intensity * np.array([1.2, 1.2, 0.0]) * rng.uniform(-1, 1, 3)
        self._lighting = lamp * tint, head, turn

    def _textures(self, intensity: float, rng: np.random.Generator) -> None:
        for slot, geom in enumerate(self._layout.surfaces):
            colour = self._rgb.get(geom, base_colour(self._model, geom))
            base, how = texture_of(self._model, geom, self._layout.region[3])
            base = base * colour
            marks = patterns.pattern(rng)[..., None] * (patterns.dull_colour(rng) - base)
            picture = (255 * (base + 0.8 * intensity * marks)).clip(0, 255).astype(np.uint8)
            self._painted[geom] = slot, picture, how

    def _video(self, intensity: float, rng: np.random.Generator) -> None:
        self._film = clips.Playback(self._clips, rng) if self._clips else patterns.Plasma(rng)

    def _objects(self, intensity: float, rng: np.random.Generator) -> None:
        count = int(np.ceil(_MAX_OBJECTS * intensity))
        half = self._layout.region[3]
        self._paths = {
            "centre": rng.uniform(-0.6 * half, 0.6 * half, (count, 2)),
            "radius": rng.uniform(0.2, 0.4, (count, 2)) * half * intensity,
            "speed": rng.uniform(0.08, 0.25, (count, 2)),  # radians per step
            "phase": rng.uniform(0, 2 * np.pi, (count, 2)),
        }
        kinds, colours = rng.integers(len(_SHAPES), size=count), rng.permutation(_MAX_OBJECTS)[:count]
        sizes = rng.uniform(0.075, 0.125, (count, 3)) * half
        turns = rng.uniform(0, np.pi, count)
        self._bodies = []
        for kind, colour, size, turn in zip(kinds, colours, sizes, turns, strict=True):
            frame = np.array([np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0, 0, 0, 1])
            rgba = np.array([*_OBJECT_RGB[colour], 1], np.float32)
            self._bodies.append((_SHAPES[kind], size, frame, rgba))

    def _camera(self, intensity: float, rng: np.random.Generator) -> None:
        self._shake = intensity, rng.uniform(0, 2 * np.pi, (2, 6)), rng.uniform(0.05, 0.3, (2, 6))

    def _decorate(self, scene: mujoco.MjvScene) -> None:
        self._change_geoms(scene)
        if "lights" in self._active:
            self._change_lights(scene)
        if "camera" in self._active:
            self._move_camera(scene)
        if "objects" in self._active:
            self._draw_objects(scene)
        if "video" in self._active:
            self._draw_backdrop(scene)

    def _change_geoms(self, scene: mujoco.MjvScene) -> None:
        geoms, fade = scene.geoms, 1.0
        if "video" in self._active:
            fade -= self._active["video"].intensity
        for place, geom in self._located(scene):
            shown = geoms[place]
            if geom in self._painted:
                shown.matid = FIRST_PAINT + self._painted[geom][0]
                shown.rgba[:3] = 1.0
            elif geom in self._rgb:
                shown.rgba[:3] = self._rgb[geom]
            if fade < 1 and geom in self._layout.ground:
                shown.rgba[3] *= fade
                shown.transparent = 1
                if fade <= 0:
                    shown.type = mujoco.mjtGeom.mjGEOM_NONE

    def _located(self, scene: mujoco.MjvScene) -> list[tuple[int, int]]:
        """(place in the scene, geom id) of the changed geoms; geoms that are not drawn have no place."""
        geoms, found = scene.geoms, self._places
        if self._places_of == (self._episode, scene.ngeom) and all(
            geoms[place].objid == geom and geoms[place].objtype == _GEOM for place, geom in found
        ):
            return found
        changed = set(self._changed)
        self._places_of = self._episode, scene.ngeom
        self._places = [
            (place, geoms[place].objid)
            for place in range(scene.ngeom)
            if geoms[place].objtype == _GEOM and geoms[place].objid in changed
        ]
        return self._places

    def _change_lights(self, scene: mujoco.MjvScene) -> None:
        lamp, head, turn = self._lighting
        for index in range(scene.nlight):
            light = scene.lights[index]
            if light.headlight:
                light.diffuse = light.diffuse * head
                continue
            light.diffuse = light.diffuse * lamp
            direction = light.dir + turn
            light.dir = direction / np.linalg.norm(direction)

    def _move_camera(self, scene: mujoco.MjvScene) -> None:
        intensity, phase, speed = self._shake
        wave = np.sin(phase + speed * self._step).mean(0) * intensity
        quat = np.empty(4)
        mujoco.mju_euler2Quat(quat, _CAMERA_RADIANS * wave[3:], "xyz")
        flat = np.empty(9)
        mujoco.mju_quat2Mat(flat, quat)
        turned = camera_axes(scene.camera[0]) @ flat.reshape(3, 3)
        away = _CAMERA_SHARE * self._layout.region[3] * wave[:3]
        for eye in scene.camera:  # two, which look the same way
            eye.pos = eye.pos + away
            eye.up, eye.forward = turned[:, 1], -turned[:, 2]

    def _draw_objects(self, scene: mujoco.MjvScene) -> None:
        path, (x, y, z) = self._paths, self.centre
        spots = path["centre"] + path["radius"] * np.sin(path["phase"] + path["speed"] * self._step)
        spots += x, y
        for (shape, size, frame, rgba), spot in zip(self._bodies, spots, strict=True):
            height = size[0] if shape == mujoco.mjtGeom.mjGEOM_SPHERE else size[2]
            _add(scene, shape, size, np.array([spot[0], spot[1], z + height]), frame, rgba)

    def _draw_backdrop(self, scene: mujoco.MjvScene) -> None:
        """A picture behind everything that fills the view, unlit; sky and ground shine through it."""
        eye, intensity = scene.camera[0], self._active["video"].intensity
        distance = _BACKDROP_DEPTH * eye.frustum_far
        half = eye.frustum_top * (1.0 if eye.orthographic else distance / eye.frustum_near)
        size = np.array([half * self._aspect, half, 1e-3 * distance])
        # Between both eyes, from where a single picture is drawn: from one of them a column stays uncovered.
        place = (eye.pos + scene.camera[1].pos) / 2 + distance * eye.forward
        rgba = np.array([1, 1, 1, intensity], np.float32)
        geom = _add(scene, mujoco.mjtGeom.mjGEOM_BOX, size, place, camera_axes(eye).ravel(), rgba)
        geom.matid, geom.emission, geom.specular = self._backdrop, 1.0, 0.0
        geom.transparent = int(intensity < 1)


def _add(scene: mujoco.MjvScene, shape, size, place, frame, rgba) -> mujoco.MjvGeom:
    geom = scene.geoms[scene.ngeom]
    mujoco.mjv_initGeom(geom, shape, size, place.astype(np.float64), frame, rgba)
    scene.ngeom += 1
    return geom


def camera_axes(eye: mujoco.MjvGLCamera) -> np.ndarray:
    """Return the rotation (3, 3) of a camera; its columns point right, up and backwards."""
    (a, b, c), (d, e, f) = eye.forward.tolist(), eye.up.tolist()
    return np.array([[b * f - c * e, d, -a], [c * d - a * f, e, -b], [a * e - b * d, f, -c]])
