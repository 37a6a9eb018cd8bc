"""Changed dynamics as fields of a task: a scale per kind of parameter, a joint without a motor or with a turned one."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np

from task_suites.errors import SuiteError, choose
from task_suites.locomotion.bodies import Body, joints
from task_suites.rendering import mujoco
from task_suites.task import Parameters
from task_suites.values import Number, OneOf, Values

SCALES = ("mass_scale", "friction_scale", "damping_scale", "strength_scale")
LOW, HIGH = 0.1, 10.0
SPLIT_SEED = {"train": 0, "test": 1}
_JOINT_KINDS = ("disabled", "reversed")
_KINDS = (*(name.removesuffix("_scale") for name in SCALES), *_JOINT_KINDS)


def values(body: Body) -> Values:
    """Return what `Task.dynamics` of `body` may be; the swimmer's joints have no damping."""
    scales = [name for name in SCALES if body.name != "swimmer" or name != "damping_scale"]
    return {
        **{name: Number(LOW, HIGH, required=False) for name in scales},
        **{f"{kind}_joint": OneOf(joints(body), required=False) for kind in _JOINT_KINDS},
    }


def apply(body: Body, model: mujoco.MjModel, values: Parameters) -> None:
    """Change `model` in place.

    mass_scale: masses and inertias of all parts. friction_scale: friction of all contacts; of the swimmer,
    which touches nothing, density and viscosity of the water. damping_scale: damping of all joints.
    strength_scale: torque of all motors. disabled_joint: the motor of this joint does nothing.
    reversed_joint: it pushes the other way. Without `values` not a bit changes.
    """
    mass, friction = values.get("mass_scale", 1.0), values.get("friction_scale", 1.0)
    if mass != 1.0:
        model.body_mass[:] *= mass
        model.body_inertia[:] *= mass
        mujoco.mj_setConst(model, mujoco.MjData(model))
    if body.name == "swimmer":
        model.opt.density *= friction
        model.opt.viscosity *= friction
    model.geom_friction[:] *= friction
    model.dof_damping[:] *= values.get("damping_scale", 1.0)
    model.actuator_gear[:] *= values.get("strength_scale", 1.0)
    if "disabled_joint" in values:
        model.actuator_gear[joints(body).index(values["disabled_joint"])] = 0.0
    if "reversed_joint" in values:
        model.actuator_gear[joints(body).index(values["reversed_joint"])] *= -1.0


def on_grid(value: float, split: str) -> float:
    """Return `value` on a grid of 2e-6; that of "test" lies between that of "train", so they are disjoint."""
    return round(2e-6 * round(value / 2e-6) + (1e-6 if split == "test" else 0.0), 6)


def read_changes(body: Body, given: Iterable[str] | str) -> tuple[str, ...]:
    """Return the kinds of changes that an option names, in a fixed order.

    Raises SuiteError if one is unknown, not of `body`, or given twice, or if there is none.
    """
    if not isinstance(given, Iterable):
        raise SuiteError(f"changes is {given!r}: expected names such as mass, disabled, reversed")
    found, known = (given,) if isinstance(given, str) else tuple(given), _kinds(body)
    for kind in found:
        choose(kind, known, f"change of {body.name}")
    if not found or len(set(found)) != len(found):
        raise SuiteError(f"changes is {list(found)!r}: expected at least one, and none twice")
    return tuple(kind for kind in known if kind in found)


def _kinds(body: Body) -> tuple[str, ...]:
    return tuple(kind for kind in _KINDS if {f"{kind}_scale", f"{kind}_joint"} & values(body).keys())


def scaled(changes: tuple[str, ...]) -> bool:
    """Return whether one of `changes` is a scale, of which any number can be drawn."""
    return not set(changes) <= set(_JOINT_KINDS)


@functools.cache
def family(body: Body, changes: tuple[str, ...], split: str, count: int | None) -> tuple[Parameters, ...]:
    """Return dynamics with one change each: of "train" after none at all, of "test" with others of the same kinds.

    Of each scale among `changes` there are `count` (None: half as many as joints), alternately 1.5 to 2.25 times as
    much and as many times less. "disabled" in "train" are the first, fourth, fifth, eighth, ... joint, in "test" the
    others; "reversed" the other way round: each joint is changed in both splits, in two ways.
    """
    names, found = joints(body), [] if split == "test" else [Parameters()]
    for kind in changes:
        if kind in _JOINT_KINDS:
            # By pairs, as the ant's joints are hips and ankles by turns.
            rest = (split == "test") != (kind == "reversed")
            chosen = [name for i, name in enumerate(names) if (i + i // 2) % 2 == rest]
            found += [Parameters({f"{kind}_joint": name}) for name in chosen]
        else:
            rng, drawn = np.random.default_rng([SPLIT_SEED[split], _KINDS.index(kind)]), {}
            while len(drawn) < (count or len(names) // 2):
                power = rng.uniform(1, 2) * (-1) ** len(drawn)
                drawn[Parameters({f"{kind}_scale": on_grid(1.5**power, split)})] = None
            found += drawn
    return tuple(found)
