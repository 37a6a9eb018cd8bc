"""The model that pictures are drawn from: Meta-World's scene with lighter meshes and upright cameras.

Physics keeps the original model; both have the same bodies, geoms, sites and cameras, so that the renderer
takes places from the physics' data. Most of a picture's time goes into meshes of up to 13,000 faces, which at
64x64 pixels are smaller than a pixel each.
"""

from __future__ import annotations

import copy
import functools
import importlib.util

import numpy as np

from task_suites.errors import SuiteError
from task_suites.rendering import mujoco
from task_suites.scenery import Names

CAMERAS = ("corner", "corner2", "corner3", "corner4", "topview", "behindGripper", "gripperPOV")
_TABLE_CENTRE, _TABLE_HALF_METRES = (0.0, 0.65, 0.0), 0.25  # where bodies may move about
_KEPT_SHARE = 0.1
_FLOOR_SQUARE_METRES = 2.0
_KEPT_FACES = 400  # smaller meshes stay as they are: lighter ones fill holes


def require() -> None:
    """Raise SuiteError if what lightens meshes is not installed."""
    if importlib.util.find_spec("fast_simplification") is None:
        raise SuiteError("Meta-World's pictures need fast-simplification: pip install fast-simplification")


@functools.cache
def _compiled(path: str) -> mujoco.MjModel:
    require()
    import fast_simplification

    model = mujoco.MjModel.from_xml_path(path)
    for mesh in range(model.nmesh):
        if model.mesh_facenum[mesh] > _KEPT_FACES and model.mesh_texcoordnum[mesh] == 0:
            _lighten(model, mesh, fast_simplification.simplify)
    _turn_upright(model)
    # Light falls in parallel here: boxes and the floor's 6,400 squares look the same undivided.
    model.vis.quality.numquads = 1
    model.geom_size[model.geom("floor").id, 2] = _FLOOR_SQUARE_METRES
    return model


def _body_name(model: mujoco.MjModel, geom: int) -> str:
    return model.body(model.geom_bodyid[geom]).name


def _table_geoms(model: mujoco.MjModel) -> tuple[int, ...]:
    seen = (model.geom_group == 1) & (model.geom_type == mujoco.mjtGeom.mjGEOM_BOX)
    return tuple(geom for geom in range(model.ngeom) if seen[geom] and _body_name(model, geom) == "tablelink")


def names(model: mujoco.MjModel) -> Names:
    """Return what distractors may change in a model made by `visual_model`: floor, table and the arm."""
    seen = model.geom_rgba[:, 3] > 0
    parts = ("right_l", "right_hand", "head")
    arm = tuple(g for g in range(model.ngeom) if seen[g] and _body_name(model, g).startswith(parts))
    return Names("floor", _table_geoms(model), arm, (), _TABLE_HALF_METRES, _TABLE_CENTRE)


def _lighten(model: mujoco.MjModel, mesh: int, simplify) -> None:
    """Replace a mesh by one with a tenth of its faces, within the memory of the old one."""
    vertex, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    face, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    points, index = np.unique(model.mesh_vert[vertex : vertex + count], axis=0, return_inverse=True)
    corners = index.reshape(-1)[model.mesh_face[face : face + faces]]
    points, corners = simplify(
        points.astype(np.float32),
        corners.astype(np.int32),
        target_count=max(int(_KEPT_SHARE * faces), _KEPT_FACES),
    )
    normals = _normals(points, corners)
    start = model.mesh_normaladr[mesh]
    model.mesh_vert[vertex : vertex + len(points)] = points
    model.mesh_normal[start : start + len(points)] = normals
    model.mesh_face[face : face + len(corners)] = corners
    model.mesh_facenormal[face : face + len(corners)] = corners
    model.mesh_vertnum[mesh] = model.mesh_normalnum[mesh] = len(points)
    model.mesh_facenum[mesh] = len(corners)
    model.mesh_graphadr[mesh] = -1


def _normals(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return unit normals of the vertices (n, 3), weighted by the areas of their faces (m, 3)."""
    a, b, c = (points[corners[:, at]] for at in range(3))
    area = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for at in range(3):
        np.add.at(normals, corners[:, at], area)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)


def _turn_upright(model: mujoco.MjModel) -> None:
    """Roll cameras by half a turn whose up axis points down: Meta-World's corners hang upside down."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    half_turn = np.array([0.0, 0.0, 0.0, 1.0])
    for camera in range(model.ncam):
        if data.cam_xmat[camera].reshape(3, 3)[2, 1] < 0:
            turned = np.empty(4)
            mujoco.mju_mulQuat(turned, model.cam_quat[camera], half_turn)
            model.cam_quat[camera] = turned


def visual_model(path: str, shown_sites: tuple[int, ...]) -> mujoco.MjModel:
    """Return a new model to draw the scene of `path` from; of its sites, only `shown_sites` can be seen."""
    model = copy.copy(_compiled(path))
    for site in range(model.nsite):
        if site not in shown_sites:
            model.site_rgba[site, 3] = 0.0
    return model
