"""The tabletop scene as MJCF, and the numbers that describe it (metres, seconds, kilograms, radians)."""

from __future__ import annotations

import numpy as np

COLOURS = ("red", "green", "blue")
BLOCK_HALF = 0.03
HAND_LOW = np.array([-0.18, -0.18, 0.004, -1.57])
HAND_HIGH = np.array([0.18, 0.18, 0.15, 1.57])
HAND_SPEED = np.array([0.6, 0.6, 0.6, 2.0])  # at action 1: m/s, m/s, m/s, rad/s
SPAWN_HALF = 0.12
SPAWN_SEPARATION = 0.13
TIMESTEP_SECONDS = 0.01
GRIPPERS = ("suction", "fingers")
FINGER_OPEN = 0.055  # from the middle to a finger
CAMERAS = ("fit", "top", "left", "right")

_BLOCK_RGBA = {"red": ".85 .1 .1 1", "green": ".1 .7 .2 1", "blue": ".12 .25 .85 1"}


def _looking_at(position: tuple[float, float, float], target: tuple[float, float, float]) -> str:
    back = np.subtract(position, target).astype(float)
    back /= np.linalg.norm(back)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    axes = " ".join(f"{value:.6f}" for value in (*right, *up))
    return f'pos="{position[0]} {position[1]} {position[2]}" xyaxes="{axes}"'


def _block(colour: str) -> str:
    half = BLOCK_HALF
    return f"""
    <body name="{colour}"><freejoint/>
      <geom name="{colour}" type="box" size="{half} {half} {half}" mass=".1" condim="3"
            friction=".6 .005 .0001" contype="6" conaffinity="3" rgba="{_BLOCK_RGBA[colour]}"/>
    </body>"""


def _walls() -> str:
    places = ((-0.2, 0, 1, 0), (0.2, 0, -1, 0), (0, -0.2, 0, 1), (0, 0.2, 0, -1))
    return "".join(
        f'<geom type="plane" pos="{px} {py} 0" zaxis="{ax} {ay} 0" size="1 1 1" rgba="0 0 0 0" contype="1"'
        ' conaffinity="0"/>'
        for px, py, ax, ay in places
    )


_CUP = """<geom name="cup" type="box" pos="0 0 .03" size=".022 .022 .03" mass=".5" condim="4"
            friction="1.5 .02 .0001" priority="1" contype="0" conaffinity="4" rgba=".75 .5 .05 1"/>
      <geom name="flange" type="box" pos="0 0 .066" size=".04 .016 .006" mass="0" contype="0" conaffinity="0"
            rgba=".95 .75 .1 1"/>"""
_SUCTION = '<adhesion name="suction" body="hand" ctrlrange="0 1" gain="5"/>'


def _finger(name: str, side: int) -> str:
    # Stiffer contacts than the defaults: a held block slips less than 1 mm a second instead of 4.
    return f"""<body name="{name}" gravcomp="1">
        <joint name="{name}" type="slide" axis="{side} 0 0" range="0 {FINGER_OPEN}" limited="true"
               armature=".02" damping="2"/>
        <geom name="{name}" type="box" pos="{0.006 * side} 0 .03" size=".006 .012 .03" mass=".02" condim="4"
              friction="1.5 .02 .0001" priority="1" solimp=".99 .999 .001" contype="0" conaffinity="4"
              rgba=".75 .5 .05 1"/>
      </body>"""


_FINGERS = f"""<geom name="palm" type="box" pos="0 0 .072" size=".06 .016 .006" mass=".46" contype="0"
            conaffinity="0" rgba=".95 .75 .1 1"/>
      {_finger("left_finger", -1)}
      {_finger("right_finger", 1)}"""
_FINGER_MOTORS = "".join(
    f'<position joint="{name}" kp="300" forcerange="-6 6" ctrlrange="0 {FINGER_OPEN}"/>'
    for name in ("left_finger", "right_finger")
)


def mjcf(gripper: str = "suction") -> str:
    """Return the scene with one of GRIPPERS.

    Joint order is fixed: hand x, y, z, wrist, two fingers if any, then a free joint per block of COLOURS.
    Contacts by bit mask: table and walls touch blocks, blocks touch blocks and the gripper; the gripper never
    touches the table (its joint range ends 4 mm above). Pyramidal cones and 10 iterations: fewer, or elliptic
    cones with few line-search steps, let blocks gain energy.
    """
    # No geom uses the materials, but MuJoCo draws the sky white in a model without any.
    suction = gripper == "suction"
    (x0, y0, z0, w0), (x1, y1, z1, w1) = HAND_LOW, HAND_HIGH
    return f"""<mujoco model="tabletop">
  <compiler angle="radian"/>
  <option timestep="{TIMESTEP_SECONDS}" integrator="implicitfast" solver="Newton" iterations="10"
          ls_iterations="20" cone="pyramidal" impratio="1"/>
  <default><geom solref=".02 1" solimp=".9 .95 .001"/></default>
  <visual>
    <quality numquads="1"/>
    <headlight ambient=".45 .45 .45" diffuse=".35 .35 .35" specular="0 0 0"/><map znear=".05" zfar="10"/>
  </visual>
  <asset>
    <texture name="skybox" type="skybox" builtin="gradient" rgb1=".35 .42 .5" rgb2=".1 .12 .15" width="32"
             height="32"/>
    <texture name="floor" type="2d" builtin="flat" rgb1=".2 .22 .25" width="64" height="64"/>
    <texture name="table" type="2d" builtin="flat" rgb1=".72 .7 .66" width="64" height="64"/>
    <material name="floor" texture="floor" specular="0"/>
    <material name="table" texture="table" specular="0"/>
  </asset>
  <worldbody>
    <light name="lamp" pos="0 -.3 1.2" dir="0 .2 -1" directional="true" castshadow="false"
           diffuse=".4 .4 .4" ambient="0 0 0" specular="0 0 0"/>
    <camera name="fit" pos="0 -0.40 0.62" xyaxes="1 0 0 0 .814 .581" fovy="39"/>
    <camera name="top" pos="0 0 .80" xyaxes="1 0 0 0 1 0" fovy="36"/>
    <camera name="left" {_looking_at((-0.55, -0.3, 0.45), (0, 0, 0.02))} fovy="39"/>
    <camera name="right" {_looking_at((0.55, -0.3, 0.45), (0, 0, 0.02))} fovy="39"/>
    <geom name="floor" type="plane" pos="0 0 -.2" size="1.6 1.6 4" rgba=".2 .22 .25 1" contype="0"
          conaffinity="0"/>
    <geom name="table" type="box" pos="0 0 -.02" size=".2 .2 .02" rgba=".72 .7 .66 1" contype="1"
          conaffinity="0"/>
    {_walls()}
    <body name="hand" gravcomp="1">
      <joint name="x" type="slide" axis="1 0 0" range="{x0} {x1}" limited="true"/>
      <joint name="y" type="slide" axis="0 1 0" range="{y0} {y1}" limited="true"/>
      <joint name="z" type="slide" axis="0 0 1" range="{z0} {z1}" limited="true"/>
      <joint name="wrist" type="hinge" axis="0 0 1" range="{w0} {w1}" limited="true" armature=".01"/>
      {_CUP if suction else _FINGERS}
      <geom name="arm" type="box" pos="0 0 .09" size=".012 .012 .02" mass="0" contype="0" conaffinity="0"
            rgba=".95 .75 .1 1"/>
    </body>
    {"".join(_block(colour) for colour in COLOURS)}
  </worldbody>
  <actuator>
    <position joint="x" kp="400" dampratio="1" forcerange="-8 8" ctrlrange="{x0} {x1}"/>
    <position joint="y" kp="400" dampratio="1" forcerange="-8 8" ctrlrange="{y0} {y1}"/>
    <position joint="z" kp="400" dampratio="1" forcerange="-8 8" ctrlrange="{z0} {z1}"/>
    <position joint="wrist" kp="5" dampratio="1" forcerange="-2 2" ctrlrange="{w0} {w1}"/>
    {_SUCTION if suction else _FINGER_MOTORS}
  </actuator>
</mujoco>"""
