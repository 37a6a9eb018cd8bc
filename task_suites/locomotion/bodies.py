"""The six bodies: Gymnasium's v5 assets, its constants, and the names of the quantities that rewards see."""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass
from pathlib import Path

import gymnasium

from task_suites.rendering import mujoco

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
CAMERAS = ("side", "top")  # both follow the body
FLOOR_PERIOD_METRES = 8.0  # whole tiles of all assets' checkers: the drawn floor moves on by these


@dataclass(frozen=True)
class Body:
    """Constants of one v5 environment; all of them are Gymnasium's.

    displacement: whose displacement is the velocity: "root" (the root joint), "torso" (body frame) or "mass".
    axes: 1 (x) or 2 (x and y). contact: which contact forces cost: "" none, "clipped" to [-1, 1], or "raw".
    heights: metres (low, high) within which the body is healthy; None: it cannot fall. leans: |pitch| below
    this many radians is healthy. seen_speed: velocities are shown clipped to this.
    """

    name: str
    asset: str
    frame_skip: int
    displacement: str
    axes: int
    reset_noise: float
    normal_velocities: bool = False
    contact: str = ""
    heights: tuple[float, float] | None = None
    leans: float = math.inf
    largest_state: float = math.inf
    seen_speed: float = math.inf
    stride_metres_per_second: float = 1.0  # not Gymnasium's: what counts as moving along, see rewards.success


BODIES = {
    body.name: body
    for body in (
        Body("half_cheetah", "half_cheetah.xml", 5, "root", 1, 0.1, True),
        Body(
            "hopper",
            "hopper.xml",
            4,
            "root",
            1,
            0.005,
            heights=(0.7, math.inf),
            leans=0.2,
            largest_state=100.0,
            seen_speed=10.0,
        ),
        Body("walker2d", "walker2d_v5.xml", 4, "root", 1, 0.005, heights=(0.8, 2.0), leans=1.0, seen_speed=10.0),
        Body("ant", "ant.xml", 5, "torso", 2, 0.1, True, contact="clipped", heights=(0.2, 1.0)),
        Body("swimmer", "swimmer.xml", 4, "root", 2, 0.1, stride_metres_per_second=0.1),
        Body("humanoid", "humanoid.xml", 5, "mass", 2, 0.01, contact="raw", heights=(1.0, 2.0)),
    )
}

# Pictures only: cameras that the environment moves along.
_CAMERA_XML = {
    "half_cheetah": ("0 -3 .55", "0 0 4"),
    "hopper": ("0 -2.6 .85", "0 0 3.5"),
    "walker2d": ("0 -2.6 .85", "0 0 3.5"),
    "ant": ("0 -4 2", "0 0 5"),
    "swimmer": ("0 -4 3", "0 0 5"),
    "humanoid": ("0 -2.9 1", "0 0 4"),
}
_TILT = {"ant": "1 0 0 0 .447 .894", "swimmer": "1 0 0 0 .6 .8"}


def mjcf(body: Body) -> str:
    """Return Gymnasium's own XML of `body` plus what pictures need; nothing that the physics sees."""
    text = (ASSETS / body.asset).read_text()
    side, top = _CAMERA_XML[body.name]
    cameras = (
        f'<camera name="side" pos="{side}" xyaxes="{_TILT.get(body.name, "1 0 0 0 0 1")}"/>'
        f'<camera name="top" pos="{top}" xyaxes="1 0 0 0 1 0"/></worldbody>'
    )
    return text.replace("</worldbody>", cameras)


@functools.cache
def _compiled(name: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(mjcf(BODIES[name]))


def model(body: Body) -> mujoco.MjModel:
    """Return a model of `body` of its own, free to change."""
    return copy.copy(_compiled(body.name))


def step_seconds(body: Body) -> float:
    """Return the time that one action lasts."""
    return float(_compiled(body.name).opt.timestep * body.frame_skip)


@functools.cache
def joints(body: Body) -> tuple[str, ...]:
    """Return the names of the joints that motors drive, in the order of the action."""
    compiled = _compiled(body.name)
    return tuple(compiled.joint(int(compiled.actuator_trnid[i, 0])).name for i in range(compiled.nu))


@functools.cache
def input_names(body: Body) -> tuple[str, ...]:
    """Return the names of the reward inputs: velocity, contact forces, then all of qpos and qvel."""
    names = ["forward_metres_per_second", "sideways_metres_per_second"][: body.axes]
    names += ["squared_contact_force"] if body.contact else []
    positions, velocities = [], []
    compiled = _compiled(body.name)
    for index in range(compiled.njnt):
        joint = compiled.joint(index)
        if joint.type[0] == mujoco.mjtJoint.mjJNT_FREE:
            positions += [f"root_{axis}_metres" for axis in "xyz"] + [f"root_quaternion_{q}" for q in "wxyz"]
            velocities += [f"root_{axis}_metres_per_second" for axis in "xyz"]
            velocities += [f"root_{axis}_radians_per_second" for axis in "xyz"]
        else:
            unit = "metres" if joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE else "radians"
            positions.append(f"{joint.name}_{unit}")
            velocities.append(f"{joint.name}_{unit}_per_second")
    return (*names, *positions, *velocities)


def position_start(body: Body) -> int:
    """Return where qpos starts in the reward inputs."""
    return body.axes + bool(body.contact)


def position_count(body: Body) -> int:
    """Return how many numbers qpos has."""
    return _compiled(body.name).nq
