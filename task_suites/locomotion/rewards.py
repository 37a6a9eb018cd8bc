"""Rewards, success and termination of the locomotion tasks, written once for numpy and torch.

Inputs (..., R): velocity over the last step (m/s), for the ant and the humanoid the squared contact forces,
then qpos and qvel, see `bodies.input_names`. Actions (..., A) are clipped to [-1, 1], as the body does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from task_suites.errors import SuiteError
from task_suites.locomotion.bodies import Body, position_start
from task_suites.task import Reward
from task_suites.values import Number, Values


@dataclass(frozen=True)
class Weights:
    """What a reward of a body weighs.

    control: cost of the squared action; healthy: paid per step on its feet; contact: cost of squared contact
    forces; speed: factor of the progress; height: 1 - 3 (root height - this)^2 metres is paid, None: not.
    """

    control: float
    healthy: float = 0.0
    contact: float = 0.0
    speed: float = 1.0
    height: float | None = None


_CONTACT_COST_LIMIT = 10.0  # the humanoid's, per step
_HUMANOID_CONTROL = 0.1 * 0.4**2  # its motors take controls to 0.4, and the cost is on those
_HEIGHT_COST = 3.0
# Sources: `run` is Gymnasium v5, `upright` MB-MPO's own (its later code), the others PEARL's and ProMP's
# environments, and MAML's for the ant's velocity.
WEIGHTS = {
    "half_cheetah": {"run": Weights(0.1), "velocity": Weights(0.05), "direction": Weights(0.05)},
    "hopper": {
        "run": Weights(1e-3, 1.0),
        "upright": Weights(0.1, height=1.3),
        "velocity": Weights(1e-3, 3.0),
    },
    "walker2d": {
        "run": Weights(1e-3, 1.0),
        "upright": Weights(0.1, height=1.3),
        "velocity": Weights(1e-3, 4.5),
        "direction": Weights(1e-3, 1.0),
    },
    "ant": {
        "run": Weights(0.5, 1.0, 5e-4),
        "upright": Weights(0.1, height=0.57),
        "velocity": Weights(5e-3, 1.05, 5e-4),
        "direction": Weights(0.5, 1.0, 5e-4),
        "goal": Weights(0.1, 0.0, 5e-4),
    },
    "swimmer": {"run": Weights(1e-4), "velocity": Weights(1e-4)},
    "humanoid": {
        "run": Weights(_HUMANOID_CONTROL, 5.0, 5e-7, 1.25),
        "direction": Weights(_HUMANOID_CONTROL, 5.0, 5e-7, 1.25),
    },
}
_SPEED = Number(-10.0, 10.0)
_HEADING = Number(-2 * math.pi, 2 * math.pi)
_PLACE = Number(-10.0, 10.0)
_PARAMETERS = {
    "run": {},
    "upright": {},
    "velocity": {"target_metres_per_second": _SPEED},
    "direction": {"heading_radians": _HEADING},
    "goal": {"goal_x_metres": _PLACE, "goal_y_metres": _PLACE},
}
_COST = "less a cost of the action"
WORDS = {
    "run": f"what Gymnasium's v5 environment pays: speed forward, {_COST}",
    "upright": f"1 and the speed forward, {_COST} and of a height off the upright one",
    "velocity": f"minus what the speed is off the hidden {{target_metres_per_second:.2f}} m/s, {_COST}",
    "direction": f"speed along the hidden heading of {{heading_radians:.2f}} rad, {_COST}",
    "goal": "minus how far the hidden place x {goal_x_metres:+.2f} m, y {goal_y_metres:+.2f} m is along both "
    f"axes, {_COST}",
}
GOAL_METRES = 0.5  # success: this near to the goal
VELOCITY_SHARE = 0.5  # success: within this share of the body's stride of the target


def values(body: Body) -> dict[str, Values]:
    """Return what a task may say of each reward that `body` has."""
    return {name: _PARAMETERS[name] for name in WEIGHTS[body.name]}


def check(body: Body, reward: Reward) -> None:
    """Raise SuiteError if `reward` asks for a heading that `body` cannot take."""
    heading = reward.parameters.get("heading_radians", 0.0)
    if body.axes == 1 and abs(math.sin(heading)) > 1e-9:
        raise SuiteError(f"heading_radians is {heading!r}: {body.name} moves in a plane, expected 0 or pi")


def healthy(body: Body, inputs):
    """Return booleans (...): is the body on its feet, by the rule of Gymnasium's v5 environment?"""
    state = inputs[..., position_start(body) :]
    if body.heights is None:
        return state[..., 0] == state[..., 0]
    low, high = body.heights
    if body.name == "ant":  # its bounds count as healthy; what is not finite does not
        return (low <= state[..., 2]) & (state[..., 2] <= high) & (state - state == 0).all(-1)
    if body.name == "humanoid":
        return (low < state[..., 2]) & (state[..., 2] < high)
    upright = (low < state[..., 1]) & (state[..., 1] < high) & (abs(state[..., 2]) < body.leans)
    return upright & (abs(state[..., 2:]) < body.largest_state).all(-1)


def _along(inputs, heading: float):
    """Return the speed (...) along `heading`; a body with one axis goes forward or backward."""
    forward = inputs[..., 0] * math.cos(heading)
    return forward if abs(math.sin(heading)) < 1e-9 else forward + inputs[..., 1] * math.sin(heading)


def _root(body: Body, inputs):
    start = position_start(body)
    return inputs[..., start], inputs[..., start + 1]


def _progress(body: Body, reward: Reward, inputs):
    values = reward.parameters
    if reward.name == "velocity":
        return -abs(inputs[..., 0] - values["target_metres_per_second"])
    if reward.name == "goal":
        x, y = _root(body, inputs)
        return -abs(x - values["goal_x_metres"]) - abs(y - values["goal_y_metres"])
    return _along(inputs, values.get("heading_radians", 0.0))


def evaluate(body: Body, reward: Reward, inputs, action):
    """Return what is paid (...) for `inputs` (..., R) after `action` (..., A)."""
    weights = WEIGHTS[body.name][reward.name]
    push = action.clip(-1.0, 1.0)
    paid = weights.speed * _progress(body, reward, inputs) - weights.control * (push * push).sum(-1)
    if weights.healthy:
        paid = paid + weights.healthy * healthy(body, inputs)
    if weights.height is not None:
        rise = inputs[..., position_start(body) + body.axes] - weights.height
        paid = paid + 1.0 - _HEIGHT_COST * rise * rise
    if weights.contact:
        paid = paid - (weights.contact * inputs[..., body.axes]).clip(None, _CONTACT_COST_LIMIT)
    return paid


def success(body: Body, reward: Reward, inputs):
    """Return booleans (...): healthy, and at this step as fast, or as near, as the task asks.

    run, upright, direction: at least the body's stride along the heading (m/s). velocity: within half a
    stride of the target. goal: within 0.5 m.
    """
    values, stride = reward.parameters, body.stride_metres_per_second
    if reward.name == "velocity":
        done = abs(inputs[..., 0] - values["target_metres_per_second"]) < VELOCITY_SHARE * stride
    elif reward.name == "goal":
        x, y = _root(body, inputs)
        distance = (x - values["goal_x_metres"]) ** 2 + (y - values["goal_y_metres"]) ** 2
        done = distance < GOAL_METRES**2
    else:
        done = _along(inputs, values.get("heading_radians", 0.0)) >= stride
    return done & healthy(body, inputs)
