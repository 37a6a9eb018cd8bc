"""A seven-joint arm of primitives as MJCF, jointed like Rethink's Sawyer (metres, radians, kilograms).

Lengths, axes and joint ranges are Sawyer's; links are capsules, and only the tool at the end collides.
"""

from __future__ import annotations

import numpy as np

JOINTS = tuple(f"joint_{index}" for index in range(7))
LOW = np.array([-3.05, -3.5, -3.04, -3.0, -2.9, -2.9, -4.7])
HIGH = np.array([3.05, 2.0, 3.04, 3.0, 2.9, 2.9, 4.7])
LINKS = ("base", *(f"link_{index}" for index in range(7)))  # visible geoms
_S = 0.5**0.5
# Of each link: place and turn in the frame of the one before, mass, radius.
_CHAIN = (
    ((0, 0, 0.08), (1, 0, 0, 0), 5.3, 0.07),
    ((0.081, 0.05, 0.237), (0.5, -0.5, 0.5, 0.5), 4.5, 0.07),
    ((0, -0.14, 0.1425), (_S, _S, 0, 0), 1.7, 0.06),
    ((0, -0.042, 0.26), (_S, -_S, 0, 0), 2.5, 0.06),
    ((0, -0.125, -0.1265), (_S, _S, 0, 0), 1.1, 0.05),
    ((0, 0.031, 0.275), (_S, -_S, 0, 0), 1.6, 0.05),
    ((0, -0.11, 0.1053), (0.0616248, 0.06163, -0.704416, 0.704416), 0.35, 0.035),
)
# Ends of the last two capsules, an elbow, so that they do not hide the tool; others reach to the next joint.
_CAPSULES = {5: ((0, 0, 0), (0, 0, 0.1)), 6: ((0, 0, -0.1), (0, 0, 0))}
_RGBA = (".3 .3 .33 1", ".55 .12 .12 1")
_FLANGE = (0, 0, 0.06)  # of the tool in the frame of the last link
_STIFFNESS = (1500, 1500, 1000, 1000, 500, 500, 200)  # Nm/rad
_TORQUE = (150, 150, 100, 100, 50, 50, 20)  # Nm
MOTOR_GEAR = np.array([30.0, 80.0, 40.0, 60.0, 20.0, 25.0, 10.0])  # Nm per unit of control
MOTOR_LIMIT = 3.0  # of the control signal
MOTOR_DAMPING = tuple(MOTOR_LIMIT * MOTOR_GEAR)  # Nm s/rad: full torque turns a free joint at 1 rad/s


def _text(values) -> str:
    return " ".join(f"{value:g}" for value in values)


def body(tool: str, *, place: str = "0 0 0", turn: str = "1 0 0 0", damping: tuple[float, ...] = (1,) * 7) -> str:
    """Return the arm as MJCF. tool: elements in the frame of the flange, z along the last axis.

    place, turn: position and quaternion of the base. damping: of the joints, Nm s/rad. The camera "wrist"
    looks at the tool's tip.
    """
    inner = f"""<body name="tool" pos="{_text(_FLANGE)}" quat="{_S} 0 0 {_S}" gravcomp="1">{tool}</body>
      <camera name="wrist" pos=".2 0 -.2" xyaxes="-.801 0 -.598 0 1 0" fovy="45"/>"""
    for index in reversed(range(7)):
        pos, quat, mass, radius = _CHAIN[index]
        start, end = _CAPSULES.get(index) or ((0, 0, 0), _CHAIN[index + 1][0])
        inner = f"""<body name="link_{index}" pos="{_text(pos)}" quat="{_text(quat)}" gravcomp="1">
          <joint name="{JOINTS[index]}" axis="0 0 1" range="{LOW[index]} {HIGH[index]}" limited="true"
                 damping="{damping[index]}" armature=".05"/>
          <geom name="link_{index}" type="capsule" fromto="{_text((*start, *end))}" size="{radius}"
                mass="{mass}" contype="0" conaffinity="0" rgba="{_RGBA[index % 2]}"/>
          {inner}</body>"""
    return f"""<body name="base" pos="{place}" quat="{turn}">
      <geom name="base" type="cylinder" size=".09 .06" pos="0 0 .04" contype="0" conaffinity="0"
            rgba=".2 .2 .2 1"/>
      {inner}</body>"""


def servos() -> str:
    """Return position servos for the seven joints, critically damped; they arrive within one action."""
    return "".join(
        f'<position joint="{name}" kp="{stiffness}" dampratio="1" forcerange="-{torque} {torque}"'
        f' ctrlrange="{low} {high}"/>'
        for name, stiffness, torque, low, high in zip(JOINTS, _STIFFNESS, _TORQUE, LOW, HIGH, strict=True)
    )


def motors() -> str:
    """Return torque motors for the seven joints, with `MOTOR_GEAR` and `MOTOR_LIMIT`."""
    return "".join(
        f'<motor joint="{name}" gear="{gear}" ctrllimited="true" ctrlrange="{-MOTOR_LIMIT} {MOTOR_LIMIT}"/>'
        for name, gear in zip(JOINTS, MOTOR_GEAR, strict=True)
    )
