"""Changed dynamics as fields of a task: one scale per kind of parameter, and a joint without a motor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from task_suites.errors import SuiteError, choose
from task_suites.locomotion.bodies import Body, joints
from task_suites.rendering import mujoco
from task_suites.task import Parameters

SCALES = ("mass_scale", "friction_scale", "damping_scale", "strength_scale")
LOW, HIGH = 0.1, 10.0


def names(body: Body) -> tuple[str, ...]:
    """Return the fields of `Task.dynamics` that `body` has; the swimmer's joints have no damping."""
    scales = [name for name in SCALES if body.name != "swimmer" or name != "damping_scale"]
    return (*scales, "disabled_joint")


def check(body: Body, values: Mapping[str, Any]) -> Parameters:
    """Return `values` if `body` has such dynamics. Raises SuiteError naming the field that is wrong."""
    for name, value in values.items():
        choose(name, names(body), f"field of the dynamics of {body.name}")
        if name == "disabled_joint":
            choose(value, joints(body), f"disabled_joint of {body.name}")
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not LOW <= value <= HIGH:
            raise SuiteError(f"dynamics: {name} is {value!r}, expected a number from {LOW} to {HIGH}")
    return Parameters(values)


def apply(body: Body, model: mujoco.MjModel, values: Parameters) -> None:
    """Change `model` in place.

    mass_scale: masses and inertias of all parts. friction_scale: friction of all contacts; of the swimmer,
    which touches nothing, density and viscosity of the water. damping_scale: damping of all joints.
    strength_scale: torque of all motors. disabled_joint: the motor of this joint does nothing. Without
    `values` not a bit changes.
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
