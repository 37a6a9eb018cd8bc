"""The physics of one body, step for step as in Gymnasium's v5 environment, and what rewards see of it."""

from __future__ import annotations

import numpy as np

from task_suites.locomotion import bodies, dynamics
from task_suites.locomotion.bodies import Body
from task_suites.rendering import mujoco
from task_suites.task import Parameters


class Simulation:
    """Model and data of `body` with changed `values` of its dynamics.

    forces: compute contact forces also where no reward sees them. Attributes: `model`, `data`, `seconds` (how
    long a step lasts).
    """

    def __init__(self, body: Body, values: Parameters, forces: bool = False) -> None:
        self.body, self.seconds = body, bodies.step_seconds(body)
        self.model = bodies.model(body)
        dynamics.apply(body, self.model, values)
        self.data = mujoco.MjData(self.model)
        self._forces = forces or bool(body.contact)
        self._largest = self.model.actuator_ctrlrange[:, 1].copy()
        self._mass = self.model.body_mass / self.model.body_mass.sum()
        self._before, self._velocity = np.zeros(body.axes), np.zeros(body.axes)
        # Views into MuJoCo's memory: no look-ups in step.
        self._qpos, self._qvel, self._ctrl = self.data.qpos, self.data.qvel, self.data.ctrl

    def reset(self, rng: np.random.Generator) -> None:
        """Place the body near its start with numbers of `rng`, drawn in Gymnasium's order."""
        noise = self.body.reset_noise
        mujoco.mj_resetData(self.model, self.data)
        self._qpos += rng.uniform(-noise, noise, self.model.nq)
        if self.body.normal_velocities:
            self._qvel += noise * rng.standard_normal(self.model.nv)
        else:
            self._qvel += rng.uniform(-noise, noise, self.model.nv)
        mujoco.mj_forward(self.model, self.data)
        self._before, self._velocity = self._place(), np.zeros(self.body.axes)

    def step(self, action: np.ndarray) -> None:
        """Apply `action` (A,) in [-1, 1]; 1 is the largest torque."""
        np.multiply(action, self._largest, out=self._ctrl)
        mujoco.mj_step(self.model, self.data, self.body.frame_skip)
        if self._forces:
            mujoco.mj_rnePostConstraint(self.model, self.data)
        # Kept from step to step: drawing brings the frames of bodies up to date, which steps must not see.
        after = self._place()
        self._velocity, self._before = (after - self._before) / self.seconds, after

    def _place(self) -> np.ndarray:
        """Return the place (axes,) whose displacement is the velocity, as old as Gymnasium sees it."""
        if self.body.displacement == "torso":
            return self.data.xpos[1, : self.body.axes].copy()
        if self.body.displacement == "mass":
            return self._mass @ self.data.xipos[:, : self.body.axes]
        return self._qpos[: self.body.axes].copy()

    def inputs(self) -> np.ndarray:
        """Return the reward inputs (R,) float32 of the present state, see `bodies.input_names`."""
        parts = [self._velocity]
        if self.body.contact:
            forces = self.data.cfrc_ext
            if self.body.contact == "clipped":
                forces = forces.clip(-1.0, 1.0)
            parts.append([np.square(forces).sum()])
        return np.concatenate([*parts, self._qpos, self._qvel], dtype=np.float32)

    def compact(self) -> np.ndarray:
        """Return joint positions without the root's place, and velocities as Gymnasium clips them."""
        fastest = self.body.seen_speed
        parts = [self._qpos[self.body.axes :], self._qvel.clip(-fastest, fastest)]
        return np.concatenate(parts, dtype=np.float32)

    def full(self) -> np.ndarray:
        """Return all that Gymnasium's v5 environment shows, as float32."""
        data, parts = self.data, [self.compact()]
        if self.body.name == "ant":
            parts.append(data.cfrc_ext[1:].clip(-1.0, 1.0).ravel())
        if self.body.name == "humanoid":
            forces = data.qfrc_actuator[6:], data.cfrc_ext[1:].ravel()
            parts += [data.cinert[1:].ravel(), data.cvel[1:].ravel(), *forces]
        return np.concatenate(parts, dtype=np.float32)
