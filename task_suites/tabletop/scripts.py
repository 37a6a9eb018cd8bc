"""Scripted closed-loop policies of the tabletop tasks; they see `reward_inputs` only."""

from __future__ import annotations

import numpy as np

from task_suites.tabletop import rewards, scene
from task_suites.task import Task

_ABOVE = 2 * scene.BLOCK_HALF  # tip height at which the cup touches a block's top
_CLEAR = 0.115  # tip height at which an empty cup passes over blocks
_BESIDE_METRES = 0.083  # centre to centre, less than 90 mm
_PULL_METRES = 0.06  # farthest the hand aims ahead of a block it drags
_DRAG_HEIGHT = 0.064  # tip height while dragging: bears some of the block's weight
_PATIENCE_STEPS = 20  # then try the other block: this one may be in its way
_HOME_METRES = 0.012  # let a block go this near to its goal
_AWAY_METRES = 0.025  # fetch it again beyond this


def jobs(task: Task, inputs: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return (colour, goal) of the blocks to move along the table; goals (2,) in metres."""
    values, name = task.reward.parameters, task.reward.name
    colour = values["colour"]
    if name == "gather":
        green = rewards.block_of(inputs, "green")[:2]
        away = rewards.block_of(inputs, colour)[:2] - green
        return [(colour, green + away / max(np.linalg.norm(away), 1e-6) * _BESIDE_METRES)]
    found = [(colour, np.array([values["goal_x_metres"], values["goal_y_metres"]]))]
    if name == "match_positions":
        goal = values["goal_green_x_metres"], values["goal_green_y_metres"]
        found.append(("green", np.array(goal)))
    return found


class Script:
    """Moves one block after another to its goal: over it, down, suction on, drag along the table, hold."""

    def __init__(self, task: Task, control_hz: int) -> None:
        self._task = task
        self._enough = 0.004 if task.reward.name == "gather" else 0.015
        self._reach = scene.HAND_SPEED[:3] / control_hz
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used, the script is deterministic."""
        self._current = 0  # which job
        self._patience = _PATIENCE_STEPS
        self._holding = False

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (5,) for `reward_inputs` (13,)."""
        inputs = np.asarray(reward_inputs, np.float64)
        hand = inputs[:3]
        if self._task.reward.name == "reach":
            block = rewards.block_of(inputs, self._task.reward.parameters["colour"])
            return self._action(hand, self._over(hand, block, _ABOVE + 0.012), -1.0)
        if self._task.reward.name == "hover":
            return self._action(hand, np.array(rewards.hover_place(self._task, inputs)), -1.0)
        work = [(rewards.block_of(inputs, colour), goal) for colour, goal in jobs(self._task, inputs)]
        errors = [float(np.linalg.norm(goal - block[:2])) for block, goal in work]
        if len(work) > 1:
            self._patience -= 1
            if errors[self._current] < _HOME_METRES or self._patience <= 0:
                # One block may have pushed the other away: go round until all are home.
                self._patience = _PATIENCE_STEPS
                open_jobs = [job for job, error in enumerate(errors) if error > _AWAY_METRES]
                if not open_jobs or self._holding:
                    self._holding = False
                    rise = 0.06 if hand[2] < _CLEAR - 0.01 else 0.0
                    return self._action(hand, hand + (0, 0, rise), -1.0)
                others = [job for job in open_jobs if job != self._current]
                self._current = (others or open_jobs)[0]
        block, goal = work[self._current]
        if len(work) == 1 and errors[0] < self._enough and block[2] < scene.BLOCK_HALF + 0.008:
            return self._action(hand, hand, -1.0)
        return self._carry(hand, block, goal - block[:2])

    def _carry(self, hand: np.ndarray, block: np.ndarray, error: np.ndarray) -> np.ndarray:
        side = np.linalg.norm(hand[:2] - block[:2])
        self._holding = side < (0.035 if self._holding else 0.02) and hand[2] < block[2] + scene.BLOCK_HALF + 0.008
        if not self._holding:
            return self._action(hand, self._over(hand, block, _ABOVE - 0.005), 1.0 if side < 0.035 else -1.0)
        # Too fast, the block's front edge catches on the table and it slips off the cup.
        pull = error * min(1.0, _PULL_METRES / max(np.linalg.norm(error), 1e-9))
        return self._action(hand, np.array([*(hand[:2] + pull), _DRAG_HEIGHT]), 1.0)

    @staticmethod
    def _over(hand: np.ndarray, block: np.ndarray, height: float) -> np.ndarray:
        """Return the next waypoint on the way to `height` above `block`: across first, then down."""
        side = np.linalg.norm(hand[:2] - block[:2])
        return np.array([*block[:2], height if side < 0.02 else _CLEAR])

    def _action(self, hand: np.ndarray, target: np.ndarray, grip: float) -> np.ndarray:
        move = (0.8 * (target - hand) / self._reach).clip(-1, 1)
        return np.array([*move, 0.0, grip], np.float32)
