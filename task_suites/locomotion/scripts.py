"""Reference controllers: linear feedback with a clock, found by `task_suites.locomotion.search`.

They see `reward_inputs` only, which hold the whole state of the body. There is none for the humanoid.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

import numpy as np

from task_suites.errors import SuiteError
from task_suites.locomotion.bodies import Body, position_count, position_start, step_seconds
from task_suites.task import Reward

PATH = Path(__file__).with_name("gaits.json")
_NEAR_METRES = 0.25  # at a goal the ant stands still
_OTHER_LEGS = 0.5  # cosine of the angle to the heading beyond which other legs take the lead
ANKLE_SIGN = np.array([1.0, -1.0, -1.0, 1.0])  # a quarter turn maps one ankle on the next, up to this
_ANT_MOTORS = (3, 0, 1, 2)  # the leg that each pair of motors moves


@functools.cache
def gaits() -> dict[str, dict]:
    """Return {"BODY/GAIT": {"hertz", "weights"}}, weights (A, features), from gaits.json."""
    return json.loads(PATH.read_text()) if PATH.exists() else {}


def gait_name(body: Body, reward: Reward) -> str:
    """Return which gait serves `reward`: BODY/forward, BODY/backward or BODY/velocity."""
    if reward.name == "velocity":
        return f"{body.name}/velocity"
    backward = body.axes == 1 and math.cos(reward.parameters.get("heading_radians", 0.0)) < 0
    return f"{body.name}/{'backward' if backward else 'forward'}"


def controller(body: Body, reward: Reward) -> Controller:
    """Return the reference controller of a task. Raises SuiteError where there is none."""
    name = gait_name(body, reward)
    if name not in gaits():
        raise SuiteError(f"{name}: there is no scripted policy; set pretrain.scripted=0")
    gait = gaits()[name]
    kind = AntController if body.name == "ant" else Controller
    return kind(body, reward, np.array(gait["weights"]), gait["hertz"])


class Controller:
    """action = clip(weights @ features), features of the state, a clock and the target velocity."""

    def __init__(self, body: Body, reward: Reward, weights: np.ndarray, hertz: float) -> None:
        self._body, self._reward, self.weights = body, reward, weights
        self._turn = 2 * math.pi * hertz * step_seconds(body)
        self._start = position_start(body)
        self._target = reward.parameters.get("target_metres_per_second")
        self._middle = self._start + position_count(body)
        self._count = 0

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used, controllers are deterministic."""
        self._count = 0

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (A,) float32 for `reward_inputs` (R,)."""
        action = self.weights @ self.features(np.asarray(reward_inputs, np.float64))
        self._count += 1
        return action.clip(-1.0, 1.0).astype(np.float32)

    def _clock(self, speed: float) -> list[float]:
        sine, cosine = math.sin(self._turn * self._count), math.cos(self._turn * self._count)
        if self._target is None:
            return [1.0, sine, cosine]
        return [
            1.0,
            sine,
            cosine,
            self._target,
            self._target * sine,
            self._target * cosine,
            self._target - speed,
        ]

    def features(self, inputs: np.ndarray) -> np.ndarray:
        """Return the features for `inputs` (R,); velocities count a tenth."""
        positions = inputs[self._start + self._body.axes : self._middle]
        velocities = inputs[self._middle :].clip(-10, 10) / 10
        return np.concatenate([self._clock(inputs[0]), positions, velocities])


class AntController(Controller):
    """The ant's legs are alike: it goes ahead with those that point nearest to the heading."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used."""
        super().reset(rng)
        self._lead: int | None = None

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (8,) float32 for `reward_inputs` (32,)."""
        inputs = np.asarray(reward_inputs, np.float64)
        heading = self._heading(inputs)
        if heading is None:
            return np.zeros(8, np.float32)
        legs = (self.weights @ self._seen(inputs, heading)).clip(-1, 1).reshape(4, 2)
        self._count += 1
        return self._turned(legs, -self._lead)[list(_ANT_MOTORS)].ravel().astype(np.float32)

    def features(self, inputs: np.ndarray) -> np.ndarray:
        """Return the features for `inputs` (R,) on the way to the heading of the task."""
        return self._seen(inputs, self._heading(inputs) or 0.0)

    def _heading(self, inputs: np.ndarray) -> float | None:
        values = self._reward.parameters
        if self._reward.name != "goal":
            return values.get("heading_radians", 0.0)
        x, y = values["goal_x_metres"] - inputs[3], values["goal_y_metres"] - inputs[4]
        return math.atan2(y, x) if math.hypot(x, y) > _NEAR_METRES else None

    def _turned(self, legs: np.ndarray, turns: int) -> np.ndarray:
        """Return what the legs (4, 2: hip, ankle) are called after `turns` quarter turns."""
        turned = np.roll(legs, -turns, axis=0)
        turned[:, 1] *= ANKLE_SIGN * np.roll(ANKLE_SIGN, -turns)
        return turned

    def _seen(self, inputs: np.ndarray, heading: float) -> np.ndarray:
        w, x, y, z = inputs[6:10]
        yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        if self._lead is None or math.cos(heading - yaw - self._lead * math.pi / 2) < _OTHER_LEGS:
            self._lead = round((heading - yaw) / (math.pi / 2)) % 4
        error = heading - yaw - self._lead * math.pi / 2
        cosine, sine = math.cos(heading), math.sin(heading)
        tilt = 2 * (x * z + w * y), 2 * (y * z - w * x)
        pairs = [(cosine, sine, *tilt), (cosine, sine, *inputs[0:2])]
        # Angular velocity is given in the frame of the torso.
        pairs.append((math.cos(heading - yaw), math.sin(heading - yaw), *(inputs[21:23] / 10)))
        along = [c * a + s * b for c, s, a, b in pairs]
        across = [c * b - s * a for c, s, a, b in pairs]
        body = [inputs[5] - 0.55, *along, *across, inputs[20], inputs[23] / 10]
        legs = self._turned(inputs[10:18].reshape(4, 2), self._lead)
        speeds = self._turned(inputs[24:32].reshape(4, 2), self._lead)
        clock, aside = self._clock(along[1]), math.sin(error)
        steer = [aside, math.cos(error), aside * clock[1], aside * clock[2]]
        return np.concatenate([clock, steer, body, legs.ravel(), speeds.ravel() / 10])
