"""Gymnasium's half cheetah (version 5), seen by a camera that travels with it; its target speed is hidden."""

from __future__ import annotations

import functools
import json
import xml.etree.ElementTree as ElementTree
from importlib import resources
from pathlib import Path

import numpy as np

from task_suites.meld.env import MeldEnv
from task_suites.meld.rewards import ACTION_SCALE
from task_suites.mjcf import SKY, lamp, visual
from task_suites.scenery import Names

STEP_SECONDS = 0.1
GAITS = Path(__file__).with_name("gait.json")
SPEEDS = (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0)  # m/s, of the rows of gait.json
_PERIOD_STEPS = 5
NAMES = Names(
    "backdrop",
    "ground",
    ("torso", "head", "bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"),
    (),
    table_half_metres=1.5,
    centre_metres=(0.0, 1.4, 0.0),
    followed="torso",
)
_ASSETS = f"""<asset>{SKY}
  <texture name="backdrop" type="2d" builtin="flat" rgb1=".4 .5 .62" width="64" height="64"/>
  <texture name="ground" type="2d" builtin="flat" rgb1=".66 .68 .62" width="64" height="64"/>
  <material name="backdrop" texture="backdrop" specular="0"/>
  <material name="ground" texture="ground" specular="0" texrepeat="50 50"/>
</asset>"""
# Everything that travels has no mass and no contacts: the physics stay Gymnasium's.
_DOLLY = """<body name="dolly" mocap="true">
  <camera name="side" pos="0 -3 .75" xyaxes="1 0 0 0 .08 1" fovy="40"/>
  <geom name="backdrop" type="box" pos="0 3 0" size="5 .02 5" mass="0" contype="0" conaffinity="0"
        rgba=".4 .5 .62 1"/>
</body>"""
# Bars on the ground, which jump by their spacing to stay in view: they look as if they lay still.
_BARS = "".join(
    f'<body pos="{offset} 0 .001"><geom type="box" size=".25 3 .001" mass="0" contype="0" conaffinity="0"'
    ' rgba=".42 .44 .4 1"/></body>'
    for offset in range(-4, 5)
)
_MARKS = f'<body name="marks" mocap="true">{_BARS}</body>'
_VISUAL, _LAMP = visual(near=0.05, far=20), lamp("0 -1 4", ".2 .4 -1")


@functools.cache
def mjcf() -> str:
    """Return Gymnasium's half cheetah with our camera, light, colours and a backdrop."""
    source = resources.files("gymnasium") / "envs" / "mujoco" / "assets" / "half_cheetah.xml"
    root = ElementTree.fromstring(source.read_text())
    world = root.find("worldbody")
    root.remove(root.find("asset"))
    world.remove(world.find("light"))
    torso, ground = world.find("body"), world.find("geom")
    torso.remove(torso.find("camera"))
    del ground.attrib["material"]
    ground.attrib.update(name="ground", rgba=".66 .68 .62 1", size="100 100 1")
    for geom in torso.iter("geom"):
        geom.set("rgba", ".85 .35 .2 1" if geom.get("name", "").startswith("f") else ".9 .6 .2 1")
    for part in (_ASSETS, _VISUAL):
        root.insert(0, ElementTree.fromstring(part))
    for part in (_LAMP, _DOLLY, _MARKS):
        world.append(ElementTree.fromstring(part))
    return ElementTree.tostring(root, encoding="unicode")


class CheetahEnv(MeldEnv):
    """A planar cheetah whose action (6,) in [-1, 1] times 0.8 drives its motors for 0.1 s.

    `proprio` float32 (17,): Gymnasium's observation (height, pitch, joint angles, then velocities).
    reward_inputs float32 (18,): mean speed over the step that led here in m/s (at reset the present speed),
    then the same 17.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    substeps = 10

    def _start(self, rng: np.random.Generator) -> None:
        self._qpos[:] = rng.uniform(-0.1, 0.1, self._model.nq)
        self._qvel[:] = 0.1 * rng.standard_normal(self._model.nv)
        self._speed, self._before = float(self._qvel[0]), None

    def _command(self, action: np.ndarray) -> np.ndarray:
        self._before = float(self._qpos[0])
        return ACTION_SCALE * action

    def _refresh(self) -> None:
        if self._before is not None:
            self._speed = (float(self._qpos[0]) - self._before) / STEP_SECONDS
        self._data.mocap_pos[:, 0] = self._qpos[0], round(self._qpos[0])
        super()._refresh()

    def _inputs(self) -> np.ndarray:
        return np.concatenate([[self._speed], self._qpos[1:], self._qvel]).astype(np.float32)

    def _proprio(self) -> np.ndarray:
        return np.concatenate([self._qpos[1:], self._qvel]).astype(np.float32)


class Gait:
    """A sinusoid per joint, 0.5 s long, whose amplitude follows the error in speed; the reference controller.

    target: speed in m/s. table (8, 19), a row for each of `SPEEDS`: offsets, sine and cosine amplitudes (6
    each) and the gain of the error; between the speeds they are interpolated. `make_gait` finds it.
    """

    def __init__(self, target: float, table: np.ndarray) -> None:
        row = np.array([np.interp(target, SPEEDS, column) for column in table.T])
        self._offset, self._sine, self._cosine = row[:18].reshape(3, 6)
        self._gain, self._target = row[18], target
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used."""
        self._count = 0

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (6,) for `reward_inputs` (18,)."""
        phase = 2 * np.pi * self._count / _PERIOD_STEPS
        self._count += 1
        scale = np.clip(1 + self._gain * (self._target - float(reward_inputs[0])), 0, 2.5)
        swing = self._sine * np.sin(phase) + self._cosine * np.cos(phase)
        return np.tanh(self._offset + scale * swing).astype(np.float32)


@functools.cache
def gaits() -> np.ndarray:
    """Return the committed table of `Gait`, (8, 19)."""
    return np.array(json.loads(GAITS.read_text()))
