"""Changed dynamics as fields of a task: one scale per kind of parameter, and a joint without a motor."""

from __future__ import annotations

from task_suites.locomotion.bodies import Body, joints
from task_suites.rendering import mujoco
from task_suites.task import Parameters
from task_suites.values import Number, OneOf, Values

SCALES = ("mass_scale", "friction_scale", "damping_scale", "strength_scale")
LOW, HIGH = 0.1, 10.0


def values(body: Body) -> Values:
    """Return what `Task.dynamics` of `body` may be; the swimmer's joints have no damping."""
    scales = [name for name in SCALES if body.name != "swimmer" or name != "damping_scale"]
    return {
        **{name: Number(LOW, HIGH, required=False) for name in scales},
        "disabled_joint": OneOf(joints(body), required=False),
    }


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
