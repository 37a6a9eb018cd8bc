"""Pieces of MJCF that our own scenes share: sky, floor, table, lamp and cameras."""

from __future__ import annotations

import numpy as np

SKY = """<texture name="skybox" type="skybox" builtin="gradient" rgb1=".35 .42 .5" rgb2=".1 .12 .15"
    width="32" height="32"/>"""
# No geom uses the materials, but MuJoCo draws the sky white in a model without any.
ASSETS = f"""<asset>{SKY}
    <texture name="floor" type="2d" builtin="flat" rgb1=".2 .22 .25" width="64" height="64"/>
    <texture name="table" type="2d" builtin="flat" rgb1=".72 .7 .66" width="64" height="64"/>
    <material name="floor" texture="floor" specular="0"/>
    <material name="table" texture="table" specular="0"/>
  </asset>"""
FLOOR_RGBA, TABLE_RGBA = ".2 .22 .25 1", ".72 .7 .66 1"


def visual(near: float, far: float) -> str:
    """Return the headlight and the clipping planes, `near` and `far` in units of the model's extent."""
    return f"""<visual><quality numquads="1"/><map znear="{near}" zfar="{far}"/>
    <headlight ambient=".45 .45 .45" diffuse=".35 .35 .35" specular="0 0 0"/></visual>"""


def lamp(position: str, direction: str) -> str:
    """Return a distant light without shadows; `position` in metres, both as MJCF text."""
    return f"""<light name="lamp" pos="{position}" dir="{direction}" directional="true" castshadow="false"
    diffuse=".4 .4 .4" ambient="0 0 0" specular="0 0 0"/>"""


def camera(name: str, position: tuple, target: tuple, fovy: float = 45) -> str:
    """Return a camera at `position` that looks at `target`, upright; metres, fovy in degrees."""
    back = np.subtract(position, target).astype(float)
    back /= np.linalg.norm(back)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    axes = " ".join(f"{value:.6f}" for value in (*right, *np.cross(back, right)))
    place = " ".join(str(value) for value in position)
    return f'<camera name="{name}" pos="{place}" xyaxes="{axes}" fovy="{fovy}"/>'
