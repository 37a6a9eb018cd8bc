"""The scenes of the arm tasks as MJCF (metres, seconds, kilograms, radians); no goal is in any of them."""

from __future__ import annotations

from task_suites.meld import arm
from task_suites.mjcf import ASSETS, FLOOR_RGBA, TABLE_RGBA, camera, lamp, visual
from task_suites.scenery import Names

TIMESTEP_SECONDS = 0.0025
TIP_METRES = 0.03  # from the flange to the tool's tip
BUTTON_Y_METRES = {"red": 0.14, "green": 0.0, "blue": -0.14}
PANEL_Z_METRES = -0.15
BUTTON_Z_METRES = PANEL_Z_METRES + 0.12  # of the point that is rewarded, 5 mm above the button
_BUTTON_RGBA = {"red": ".9 .1 .1 1", "green": ".1 .75 .15 1", "blue": ".15 .25 .95 1"}
_BOX_HEIGHT = 0.06
_TOOL_RGBA = ".95 .8 .1 1"
STYLUS = f"""<geom name="tool" type="capsule" fromto="0 0 -.03 0 0 {TIP_METRES - 0.012}" size=".012" mass=".1"
  contype="1" conaffinity="2" rgba="{_TOOL_RGBA}"/>
  <geom name="knob" type="sphere" size=".02" pos="0 0 {TIP_METRES - 0.02}" mass="0" contype="0"
  conaffinity="0" rgba="{_TOOL_RGBA}"/><site name="tip" pos="0 0 {TIP_METRES}" rgba="0 0 0 0"/>"""
PEG = f"""<geom name="tool" type="box" size=".015 .015 .03" mass=".1" contype="1" conaffinity="2"
  friction=".3 .005 .0001" rgba="{_TOOL_RGBA}"/><site name="tip" pos="0 0 {TIP_METRES}" rgba="0 0 0 0"/>"""
_FINGER_OPEN, _MUG_HALF = 0.044, 0.032  # of the gap between the pads, of the mug's width
FOOT_METRES, RIM_METRES = 0.013, 0.113  # heights of the rewarded points above the mug's bottom
FINGER_GEAR = 60  # N per unit of control
GOAL_Y_METRES, GOAL_Z_METRES = 0.95, 0.221  # of the foot on the shelf
_SOLID = 'contype="2" conaffinity="1"'


def _cameras(front: tuple, front_target: tuple, side: tuple, side_target: tuple) -> str:
    return camera("front", front, front_target) + camera("side", side, side_target)


_FAST = 'cone="pyramidal" iterations="20"'
# A mug of 15 kg between two pads slips with pyramidal cones, and elliptic ones need many line searches.
_GRIPPING = 'cone="elliptic" impratio="10" iterations="50" ls_iterations="50"'


def _scene(
    bodies: str, cameras: str, actuators: str, table_z: float, table: tuple[float, ...], solver: str = _FAST
) -> str:
    """Return a scene; table: x, y of its middle and half lengths."""
    return f"""<mujoco>
  <compiler angle="radian"/>
  <option timestep="{TIMESTEP_SECONDS}" integrator="implicitfast" {solver}/>
  {visual(near=0.02, far=15)}
  {ASSETS}
  <worldbody>
    {lamp("0 -.3 2.5", ".1 .2 -1")}
    {cameras}
    <geom name="floor" type="plane" pos="{table[0]} {table[1]} {table_z - 0.5}" size="4 4 4"
          rgba="{FLOOR_RGBA}" {_SOLID}/>
    <geom name="table" type="box" pos="{table[0]} {table[1]} {table_z - 0.02}"
          size="{table[2]} {table[3]} .02" rgba="{TABLE_RGBA}" {_SOLID}/>
    {bodies}
  </worldbody>
  <actuator>{actuators}</actuator>
</mujoco>"""


def reacher() -> str:
    """Return the arm with a stylus above an empty table."""
    cameras = _cameras((1.75, 0, 0.9), (0.6, 0, 0.4), (0.6, -1.7, 0.6), (0.6, 0, 0.4))
    return _scene(arm.body(STYLUS), cameras, arm.servos(), 0.0, (0.65, 0, 0.4, 0.5))


def buttons(panel_x: float) -> str:
    """Return the arm with a stylus above a panel with three buttons; panel_x of its middle."""
    found = "".join(
        f"""<geom type="cylinder" size=".04 .005" pos="0 {y} .1" rgba=".75 .75 .78 1" {_SOLID}/>
        <geom name="{colour}" type="cylinder" size=".025 .005" pos="0 {y} .11" rgba="{_BUTTON_RGBA[colour]}"
              {_SOLID}/>"""
        for colour, y in BUTTON_Y_METRES.items()
    )
    panel = f"""<body name="panel" pos="{panel_x} 0 {PANEL_Z_METRES}">
      <geom name="panel" type="box" size=".08 .2 .05" pos="0 0 .05" rgba=".25 .25 .27 1" {_SOLID}/>{found}
    </body>"""
    cameras = _cameras((1.5, 0, 0.65), (0.68, 0, 0.02), (0.7, -0.9, 0.5), (0.7, 0, 0.02))
    bodies = arm.body(STYLUS, place="0 -.1 .05") + panel
    return _scene(bodies, cameras, arm.servos(), PANEL_Z_METRES, (0.7, 0, 0.35, 0.45))


def peg_insertion(boxes: tuple[tuple[float, float], ...]) -> str:
    """Return the arm with a square peg above open boxes with a hole each; boxes: x, y of the holes."""
    walls = ("0 -.045", ".02 .025"), ("0 .045", ".02 .025"), (".045 0", ".025 .07"), ("-.045 0", ".025 .07")
    high = _BOX_HEIGHT / 2
    found = "".join(
        f'<geom name="box_{number}_{wall}" type="box" pos="{x + float(at.split()[0]):.9g}'
        f' {y + float(at.split()[1]):.9g} {high}" size="{size} {high}" rgba=".3 .35 .9 1"'
        f' friction=".3 .005 .0001" {_SOLID}/>'
        for number, (x, y) in enumerate(boxes, 1)
        for wall, (at, size) in enumerate(walls, 1)
    )
    cameras = _cameras((1.0, 0, 0.58), (0.53, 0, 0.07), (0.5, -0.95, 0.5), (0.53, 0, 0.1))
    return _scene(arm.body(PEG) + found, cameras, arm.servos(), 0.0, (0.6, 0, 0.35, 0.45))


def _finger(side: int) -> str:
    return f"""<body name="finger_{side}" pos="0 {side * (_FINGER_OPEN + 0.006)} .075" gravcomp="1">
      <joint name="finger_{side}" type="slide" axis="0 {-side} 0" range="0 .03" limited="true" damping="200"/>
      <geom name="pad_{side}" type="box" size=".02 .006 .03" mass=".1" condim="4" friction="1.5 .02 .0001"
            contype="1" conaffinity="2" rgba="{_TOOL_RGBA}"/></body>"""


def _shelf() -> str:
    boxes = {
        "level_1": ("0 0 .03", ".6 .2 .007"),
        "level_2": ("0 0 .2", ".6 .2 .007"),
        "cover": ("0 0 .6", ".61 .2 .007"),
        "wall_1": (".6 0 .301", ".005 .2 .3"),
        "wall_2": ("-.6 0 .301", ".005 .2 .3"),
    }
    cans = {"-.48 .1": ".2 .45 .9", "-.4 -.05": ".85 .2 .2", ".45 .12": ".3 .7 .3", ".5 -.06": ".8 .8 .82"}
    return '<body name="shelf" pos="0 1.05 .001">' + "".join(
        [
            f'<geom name="{name}" type="box" pos="{at}" size="{size}" rgba=".6 .45 .28 1" {_SOLID}/>'
            for name, (at, size) in boxes.items()
        ]
        + [
            f'<geom type="cylinder" pos="{at} .257" size=".035 .05" rgba="{rgba} 1" {_SOLID}/>'
            for at, rgba in cans.items()
        ]
        + ["</body>"]
    )


def shelf_placing(mug_mass: float) -> str:
    """Return the arm with a gripper around a mug in front of a shelf; mug_mass in kg."""
    gripper = f"""<geom name="tool" type="box" size=".02 .055 .02" pos="0 0 .02" mass=".2" contype="0"
      conaffinity="0" rgba=".3 .3 .33 1"/>{_finger(1)}{_finger(-1)}
      <site name="tip" pos="0 0 .09" rgba="0 0 0 0"/>"""
    mug = f"""<body name="mug"><freejoint/>
      <geom name="mug" type="cylinder" size=".037 .06" pos="0 0 .06" mass="0" contype="0" conaffinity="0"
            rgba=".95 .45 .1 1"/>
      <geom name="handle" type="capsule" fromto="0 .05 .03 0 .05 .09" size=".01" mass="0" contype="0"
            conaffinity="0" rgba=".95 .45 .1 1"/>
      <geom name="mug_solid" type="box" size="{_MUG_HALF} {_MUG_HALF} .06" pos="0 0 .06" mass="{mug_mass}"
            condim="4" friction=".6 .02 .0001" contype="3" conaffinity="3" rgba="0 0 0 0"/>
      <site name="foot" pos="0 0 {FOOT_METRES}" rgba="0 0 0 0"/>
      <site name="rim" pos="0 0 {RIM_METRES}" rgba="0 0 0 0"/></body>"""
    cameras = _cameras((-0.8, 0.1, 0.8), (0, 0.82, 0.15), (1.3, 0.35, 0.65), (-0.05, 0.8, 0.2))
    bodies = arm.body(gripper, turn="0.70710678 0 0 0.70710678", damping=arm.MOTOR_DAMPING) + mug + _shelf()
    fingers = "".join(
        f'<motor joint="finger_{side}" gear="{FINGER_GEAR}" ctrllimited="true" ctrlrange="-3 3"/>' for side in (1, -1)
    )
    return _scene(bodies, cameras, arm.motors() + fingers, 0.0, (0, 0.75, 0.8, 0.5), _GRIPPING)


def names(blocks: tuple[str, ...], centre: tuple[float, float, float], half: float) -> Names:
    """Return what distractors may change; objects slide within `half` metres around `centre`."""
    return Names("floor", "table", (*arm.LINKS, "tool"), blocks, half, centre)
