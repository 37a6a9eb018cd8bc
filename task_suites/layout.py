"""Which geoms of a MuJoCo scene distractors may change: named by a suite, or found in any model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from task_suites import patterns
from task_suites.errors import SuiteError, choose
from task_suites.rendering import mujoco

_MAX_SURFACES = 6
_FLAT = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)
_BROAD = (*_FLAT, mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_MESH)
_BODY_SHARE = 0.5  # how far colours of what moves go, beside those of what stands
_UNSET = np.array([0.5, 0.5, 0.5, 1.0], np.float32)  # MuJoCo's mark for "as the material"
_ROLE_RGB = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)
_CUBE = mujoco.mjtTexture.mjTEXTURE_CUBE
_FOLLOWING = (mujoco.mjtCamLight.mjCAMLIGHT_TRACK, mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM)


Geom = str | int  # its name or id


@dataclass(frozen=True)
class Names:
    """A suite's own scene: floor (hidden by videos), table (geoms of one colour), hand and blocks.

    Other objects slide over the table, within `table_half_metres` of `centre_metres` (x, y, z of its top),
    which is counted from the body `followed` if there is one.
    """

    floor: Geom
    table: Geom | tuple[Geom, ...]
    hand: tuple[Geom, ...]
    blocks: tuple[Geom, ...]
    table_half_metres: float
    centre_metres: tuple[float, float, float] = (0.0, 0.0, 0.0)
    followed: str | None = None


@dataclass(frozen=True)
class Layout:
    """What distractors may do to a model; geoms by id.

    ground: hidden by a video. surfaces: textured. coloured: (geoms of one colour, how far it may go, 0 to 1).
    kept: their hue stays within 10 degrees. region: x, y, z, half side in metres: where other objects slide.
    followed: the body that this region goes along with, its x and y being relative to it, or None.
    """

    ground: tuple[int, ...]
    surfaces: tuple[int, ...]
    coloured: tuple[tuple[tuple[int, ...], float], ...]
    kept: tuple[int, ...]
    region: tuple[float, float, float, float]
    followed: int | None = None


def named(model: mujoco.MjModel, names: Names) -> Layout:
    """Return the layout of a scene whose geoms have these names."""

    def ids(geoms: Geom | tuple[Geom, ...]) -> tuple[int, ...]:
        return tuple(int(model.geom(geom).id) for geom in (geoms if isinstance(geoms, tuple) else (geoms,)))

    floor = ids(names.floor)
    standing = dict.fromkeys((floor, ids(names.table)))  # an open floor is its own table
    return Layout(
        ground=floor,
        surfaces=tuple(geom for geoms in standing for geom in geoms),
        coloured=(*((geoms, 1.0) for geoms in standing), *(((g,), _BODY_SHARE) for g in ids(names.hand))),
        kept=ids(names.blocks),
        region=(*names.centre_metres, names.table_half_metres),
        followed=None if names.followed is None else int(model.body(names.followed).id),
    )


def survey(
    model: mujoco.MjModel,
    keep: Iterable[str] = (),
    region: tuple[float, float, float, float] | None = None,
    view: int | mujoco.MjvCamera | None = None,
) -> Layout:
    """Return a layout of any model, from what stands still, what moves and what a camera looks at.

    keep: geoms or bodies whose looks mean something. region: x, y, z, half side in metres; if None, what lies
    below the middle of `view` (a camera's id, or a free one), or below what moves.
    Raises SuiteError naming what `keep` or `region` gets wrong.
    """
    kept = tuple(sorted({geom for name in _tuple(keep) for geom in _geoms_called(model, name)}))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)
    shown = [geom for geom in range(model.ngeom) if _visible(model, geom)]
    free = [geom for geom in shown if geom not in kept]
    standing = {geom for geom in shown if model.body_weldid[model.geom_bodyid[geom]] == 0}
    broad = [geom for geom in free if geom in standing and model.geom_type[geom] in _BROAD]
    broad.sort(key=lambda geom: (model.geom_type[geom] not in _FLAT, -model.geom_rbound[geom]))
    groups: dict[tuple, list[int]] = {}
    for geom in free:
        look = model.geom_matid[geom], tuple(model.geom_rgba[geom]), geom in standing
        groups.setdefault(look, []).append(geom)
    found = _checked(region) if region is not None else _region(model, data, shown, standing, view)
    followers = [model.cam_bodyid[i] for i in range(model.ncam) if model.cam_mode[i] in _FOLLOWING]
    return Layout(
        ground=tuple(geom for geom in broad if model.geom_type[geom] in _FLAT),
        surfaces=tuple(broad[:_MAX_SURFACES]),
        coloured=tuple((tuple(g), 1.0 if look[-1] else _BODY_SHARE) for look, g in groups.items()),
        kept=kept,
        region=(*(found[:2] - data.xpos[followers[0], :2]), *found[2:]) if followers else found,
        followed=int(followers[0]) if followers else None,
    )


def base_colour(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Return the RGB colour (3,) that MuJoCo draws a geom in: its own, else its material's."""
    material, own = model.geom_matid[geom], model.geom_rgba[geom]
    return (model.mat_rgba[material] if material >= 0 and (own == _UNSET).all() else own)[:3].astype(float)


def texture_of(
    model: mujoco.MjModel, geom: int, half_metres: float
) -> tuple[np.ndarray, tuple[tuple[float, float], bool]]:
    """Return what is on a geom, (64, 64, 3) in [0, 1], its colour left out, and how it repeats.

    The latter is for `Renderer.paint`. Without a texture it is white, once in 4 half_metres of a plane.
    """
    material = model.geom_matid[geom]
    texture = model.mat_texid[material, _ROLE_RGB] if material >= 0 else -1
    if texture < 0:
        plane = model.geom_type[geom] in _FLAT
        side = 1 / (4 * half_metres) if plane else 1.0
        return np.ones((patterns.SIZE, patterns.SIZE, 3)), ((side, side), plane)
    height, width, channels = (int(field[texture]) for field in (model.tex_height, model.tex_width, model.tex_nchannel))
    start = model.tex_adr[texture]
    whole = model.tex_data[start : start + height * width * channels].reshape(height, width, channels)
    # Six faces, one below another: the first.
    height = min(height, width) if model.tex_type[texture] == _CUBE else height
    rows, columns = (np.arange(patterns.SIZE) * side // patterns.SIZE for side in (height, width))
    part = whole[rows][:, columns, :3] / 255
    repeat = tuple(model.mat_texrepeat[material].tolist())
    return np.broadcast_to(part, (*part.shape[:2], 3)), (repeat, bool(model.mat_texuniform[material]))


def _tuple(keep: Iterable[str]) -> tuple[str, ...]:
    return (keep,) if isinstance(keep, str) else tuple(keep)


def _geoms_called(model: mujoco.MjModel, name: str) -> list[int]:
    geoms = [model.geom(i).name for i in range(model.ngeom)]
    bodies = [model.body(i).name for i in range(model.nbody)]
    choose(name, {found for found in (*geoms, *bodies) if found}, "geom or body in keep")
    return [i for i, geom in enumerate(geoms) if name in (geom, bodies[model.geom_bodyid[i]])]


def _visible(model: mujoco.MjModel, geom: int) -> bool:
    material, alpha = model.geom_matid[geom], model.geom_rgba[geom, 3]
    if material >= 0:
        alpha = min(alpha, model.mat_rgba[material, 3])
    return bool(model.geom_group[geom] < 3 and alpha > 0)


def _checked(region: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    values = np.asarray(region, np.float64)
    if values.shape != (4,) or not np.isfinite(values).all() or values[3] <= 0:
        raise SuiteError(f"region is {region!r}: expected (x, y, z, half side above 0) in metres")
    return tuple(values.tolist())


def _region(model, data, shown: list[int], standing: set[int], view) -> tuple[float, float, float, float]:
    """On what stands below the middle of the view, else below the middle of what moves."""
    moving = [geom for geom in shown if geom not in standing]
    around = moving or [geom for geom in shown if model.geom_type[geom] not in _FLAT]
    if not around:
        return (0.0, 0.0, 0.0, 1.0)
    places, sizes = data.geom_xpos[around], model.geom_rbound[around][:, None]
    low, high = (places - sizes).min(0), (places + sizes).max(0)
    middle, half = (low + high) / 2, float((high - low)[:2].max() / 2)
    for point, side in filter(None, (_looked_at(model, data, view), (middle, half))):
        height = _ground_below(model, data, point + (0, 0, side), standing)
        if height is not None:
            return float(point[0]), float(point[1]), height, float(side)
    return float(middle[0]), float(middle[1]), float(low[2]), half


def _ground_below(model, data, point: np.ndarray, standing: set[int]) -> float | None:
    """Height of the first thing that stands below a point, or None."""
    hits = [distance for geom in standing if (distance := _drop(model, data, geom, point)) >= 0]
    return float(point[2]) - min(hits) if hits else None


def _drop(model, data, geom: int, point: np.ndarray) -> float:
    """How far below a point a ray meets a geom; -1: it does not."""
    down, kind = np.array([0.0, 0.0, -1.0]), model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        return mujoco.mj_rayMesh(model, data, geom, point, down)
    if kind == mujoco.mjtGeom.mjGEOM_HFIELD:
        return mujoco.mj_rayHfield(model, data, geom, point, down)
    place, frame = data.geom_xpos[geom], data.geom_xmat[geom]
    return mujoco.mju_rayGeom(place, frame, model.geom_size[geom], point, down, kind)


def _looked_at(model, data, view) -> tuple[np.ndarray, float] | None:
    """The point in the middle of a camera that stands still, and half of what is seen around it in metres."""
    if view is None:
        return None
    if isinstance(view, mujoco.MjvCamera):
        return view.lookat.copy(), 0.5 * view.distance * np.tan(np.radians(model.vis.global_.fovy) / 2)
    if model.cam_mode[view] != mujoco.mjtCamLight.mjCAMLIGHT_FIXED:
        return None
    eye, ahead = data.cam_xpos[view], -data.cam_xmat[view].reshape(3, 3)[:, 2]
    distance = mujoco.mj_ray(model, data, eye, ahead, None, 1, -1, np.zeros(1, np.int32))
    if distance < 0:
        return None
    return eye + distance * ahead, 0.5 * distance * np.tan(np.radians(model.cam_fovy[view]) / 2)
