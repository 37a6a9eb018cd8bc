"""The tabletop scene as MJCF, and the numbers that describe it (metres, seconds, kilograms, radians)."""

from __future__ import annotations

import numpy as np

from task_suites.mjcf import ASSETS, FLOOR_RGBA, TABLE_RGBA, camera, lamp, visual

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
    suction = gripper == "suction"
    (x0, y0, z0, w0), (x1, y1, z1, w1) = HAND_LOW, HAND_HIGH
    return f"""<mujoco model="tabletop">
  <compiler angle="radian"/>
  <option timestep="{TIMESTEP_SECONDS}" integrator="implicitfast" solver="Newton" iterations="10"
          ls_iterations="20" cone="pyramidal" impratio="1"/>
  <default><geom solref=".02 1" solimp=".9 .95 .001"/></default>
  {visual(near=0.05, far=10)}
  {ASSETS}
  <worldbody>
    {lamp("0 -.3 1.2", "0 .2 -1")}
    <camera name="fit" pos="0 -0.40 0.62" xyaxes="1 0 0 0 .814 .581" fovy="39"/>
    <camera name="top" pos="0 0 .80" xyaxes="1 0 0 0 1 0" fovy="36"/>
    {camera("left", (-0.55, -0.3, 0.45), (0, 0, 0.02), fovy=39)}
    {camera("right", (0.55, -0.3, 0.45), (0, 0, 0.02), fovy=39)}
    <geom name="floor" type="plane" pos="0 0 -.2" size="1.6 1.6 4" rgba="{FLOOR_RGBA}" contype="0"
          conaffinity="0"/>
    <geom name="table" type="box" pos="0 0 -.02" size=".2 .2 .02" rgba="{TABLE_RGBA}" contype="1"
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
