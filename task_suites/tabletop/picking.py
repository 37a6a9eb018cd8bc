"""Scripted policies that pick blocks up, and those of fingers; they see `reward_inputs` only."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from task_suites.tabletop import rewards, scene
from task_suites.tabletop.scripts import jobs
from task_suites.task import Task

PICK_TASKS = ("lift", "stack", "place")
_SIZE = 2 * scene.BLOCK_HALF
_CLEAR = 0.115  # tip height at which an empty hand passes over blocks
_CROOKED_METRES = 0.006  # across: a held block that moved this far at the hand hangs by an edge
_RISEN_METRES = 0.004


@dataclass(frozen=True)
class _Grasp:
    """Where the tip goes at a block (heights from the block's top, metres) and how a block is held there."""

    height: float  # of the tip at the block
    over: float  # across: go down onto the block within this
    touch: float  # above `height`: the hand is at the block
    held: float  # across: a held block stays within this
    hangs: float  # above `height`: and within this
    carry: float  # tip height above the table at which a held block passes over others
    drag: float  # tip height above the table at which a block is pulled along it
    rise: float  # tip height to rise to before it moves across, clear of what it let go
    seconds: float  # until the grip is firm
    regrasp: bool  # is there a better angle?


_GRASPS = {
    "suction": _Grasp(-0.005, 0.02, 0.007, 0.035, 0.013, 0.135, 0.064, 0.0, 0.0, True),
    "fingers": _Grasp(-0.048, 0.007, 0.004, 0.03, 0.02, 0.1, 0.014, 0.075, 0.2, False),
}
_ALIGNED_METRES = 0.008  # across: set the block down within this
_HOME_METRES = (0.015, 0.005)  # across and in height: let go within this
# Faster, and the block swings at the cup; shares of full speed, and of full speed per second.
_CARRY_ACROSS, _CARRY_UP, _CARRY_CHANGE = 0.25, 0.3, 4.0
_PULL_METRES, _DRAGGED_METRES = 0.06, 0.03
_AWAY_METRES = 0.025
_OCCUPIED_METRES = 0.075  # another block this near to the goal has to go first
_FREE_METRES = 0.11  # from a place where it may go to blocks and goal
_FREE_SPOTS = [np.array(spot) for spot in itertools.product(np.linspace(-0.13, 0.13, 7), repeat=2)]


class PickScript:
    """Over the block, down, grip, up, across, down, let go, up; what it drops it fetches again.

    Lifts, stacks and places with either gripper; for push, gather and match_positions it drags with fingers.
    """

    def __init__(self, task: Task, control_hz: int, gripper: str = "suction") -> None:
        self._task, self._grasp = task, _GRASPS[gripper]
        self._control_hz = control_hz
        self._reach = scene.HAND_SPEED[:3] / control_hz
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is not used, the script is deterministic."""
        self._held: str | None = None  # colour
        self._offset = np.zeros(2)  # from the hand to the held block, when it was taken
        self._last_move = np.zeros(3)  # while it carries
        self._job = 0  # which of those that slide along the table
        self._turn, self._turn_steps, self._wait_steps = 1.0, 0, 0
        self._clearing: tuple[str, np.ndarray] | None = None  # a block in the way, and where it goes

    def __call__(self, reward_inputs: np.ndarray) -> np.ndarray:
        """Return the action (5,) for `reward_inputs` (13,)."""
        inputs = np.asarray(reward_inputs, np.float64)
        name, values = self._task.reward.name, self._task.reward.parameters
        if name not in PICK_TASKS:
            return self._slide(inputs)
        if name == "lift":
            return self._bring(inputs, values["colour"], None, 0.0)
        if name == "stack":
            base = rewards.block_of(inputs, "green")
            return self._bring(inputs, values["colour"], base[:2], base[2] + _SIZE)
        goal = np.array([values["goal_x_metres"], values["goal_y_metres"]])
        self._clearing = self._still_clearing(inputs) or self._in_the_way(inputs, goal)
        if self._clearing:
            return self._drag(inputs, *self._clearing)
        return self._bring(inputs, values["colour"], goal, scene.BLOCK_HALF)

    def _still_clearing(self, inputs: np.ndarray) -> tuple[str, np.ndarray] | None:
        if self._clearing is None:
            return None
        colour, spot = self._clearing
        away = np.linalg.norm(rewards.block_of(inputs, colour)[:2] - spot)
        return self._clearing if away > _DRAGGED_METRES else None

    def _in_the_way(self, inputs: np.ndarray, goal: np.ndarray) -> tuple[str, np.ndarray] | None:
        """Return (colour, spot) of a block that stands where the task's block belongs."""
        mine = self._task.reward.parameters["colour"]
        spots = {colour: rewards.block_of(inputs, colour)[:2] for colour in scene.COLOURS}
        for colour, spot in spots.items():
            if colour == mine or np.linalg.norm(spot - goal) > _OCCUPIED_METRES:
                continue
            taken = [goal, *(other for key, other in spots.items() if key != colour)]
            free = [
                place for place in _FREE_SPOTS if min(np.linalg.norm(place - other) for other in taken) > _FREE_METRES
            ]
            if free:
                return colour, min(free, key=lambda place: np.linalg.norm(place - spot))
        return None

    def _bring(self, inputs: np.ndarray, colour: str, goal: np.ndarray | None, height: float) -> np.ndarray:
        """Return the action that brings the block to `goal` (2,), centre at `height`; None: up, and hold."""
        hand, block = inputs[:3], rewards.block_of(inputs, colour)
        if goal is not None and self._is_home(block, goal, height):
            self._held = None
            return self._action(hand, np.array([*hand[:2], scene.HAND_HIGH[2]]), -1.0)
        if not self._holds(hand, block, colour):
            return self._fetch(hand, block)
        if self._wait_steps:
            self._wait_steps -= 1
            return self._action(hand, hand, 1.0)
        error = np.zeros(2) if goal is None else goal - block[:2]
        away = np.linalg.norm(error)
        if goal is not None and away < _ALIGNED_METRES:
            down = hand[2] - block[2] + height - 0.002
            return self._action(hand, np.array([*(hand[:2] + error), down]), 1.0)
        crooked = np.linalg.norm(block[:2] - hand[:2] - self._offset) > _CROOKED_METRES
        if crooked and self._grasp.regrasp:
            return self._regrasp(hand, block)
        clear = block[2] > 1.55 * _SIZE or away < 0.02
        return self._action(hand, np.array([*(hand[:2] + clear * error), self._grasp.carry]), 1.0)

    def _slide(self, inputs: np.ndarray) -> np.ndarray:
        """Return the action that drags one block after another home; the last stays in the hand."""
        work = jobs(self._task, inputs)
        errors = [np.linalg.norm(goal - rewards.block_of(inputs, colour)[:2]) for colour, goal in work]
        far = [job for job, error in enumerate(errors) if error > _AWAY_METRES]
        if errors[self._job] < _HOME_METRES[0] and far:
            self._job = far[0]
        return self._drag(inputs, *work[self._job])

    def _drag(self, inputs: np.ndarray, colour: str, goal: np.ndarray) -> np.ndarray:
        """Return the action that pulls a block along the table to `goal` (2,): faster than to carry it."""
        hand, block = inputs[:3], rewards.block_of(inputs, colour)
        if not self._holds(hand, block, colour):
            return self._fetch(hand, block)
        error = goal - block[:2]
        pull = error * min(1.0, _PULL_METRES / max(np.linalg.norm(error), 1e-9))
        return self._action(hand, np.array([*(hand[:2] + pull), self._grasp.drag]), 1.0, gentle=False)

    @staticmethod
    def _is_home(block: np.ndarray, goal: np.ndarray, height: float) -> bool:
        across, up = _HOME_METRES
        return bool(np.linalg.norm(goal - block[:2]) < across and abs(block[2] - height) < up)

    def _holds(self, hand: np.ndarray, block: np.ndarray, colour: str) -> bool:
        grasp, side = self._grasp, np.linalg.norm(hand[:2] - block[:2])
        above = hand[2] - (block[2] + scene.BLOCK_HALF + grasp.height)
        if self._held == colour:
            holds = bool(side < grasp.held and above < grasp.hangs)
        else:
            holds = bool(side < grasp.over and above < grasp.touch)
            self._last_move = np.zeros(3)
            self._wait_steps = int(np.ceil(grasp.seconds * self._control_hz))
        if self._held != colour or block[2] < scene.BLOCK_HALF + _RISEN_METRES:
            self._offset = block[:2] - hand[:2]
        self._held = colour if holds else None
        return holds

    def _regrasp(self, hand: np.ndarray, block: np.ndarray) -> np.ndarray:
        """Let go of a block that hangs by an edge, and turn: the corners of the cup missed its top."""
        self._held, self._turn = None, -self._turn
        self._turn_steps = int(np.ceil(1.1 * np.pi / 4 / scene.HAND_SPEED[3] * self._control_hz))
        return self._fetch(hand, block)

    def _fetch(self, hand: np.ndarray, block: np.ndarray) -> np.ndarray:
        """Return the action towards the block's top: across first, then down."""
        side, top = np.linalg.norm(hand[:2] - block[:2]), block[2] + scene.BLOCK_HALF
        grasp = self._grasp
        if side > grasp.held and hand[2] < grasp.rise:
            return self._action(hand, np.array([*hand[:2], _CLEAR]), -1.0)
        descend = side < (grasp.over if hand[2] > top else grasp.held) and not self._turn_steps
        height = top + grasp.height if descend else max(_CLEAR, top + 0.02)
        suck = side < grasp.held and not self._turn_steps and not grasp.seconds
        return self._action(hand, np.array([*block[:2], height]), 1.0 if suck else -1.0)

    def _action(self, hand: np.ndarray, target: np.ndarray, grip: float, gentle: bool = True) -> np.ndarray:
        move = (0.8 * (target - hand) / self._reach).clip(-1, 1)
        if self._held and gentle:
            move[:2] *= min(1.0, _CARRY_ACROSS / max(np.linalg.norm(move[:2]), 1e-9))
            move[2] = move[2].clip(-_CARRY_UP, _CARRY_UP)
            change = _CARRY_CHANGE / self._control_hz
            move = self._last_move = move.clip(self._last_move - change, self._last_move + change)
        turn, self._turn_steps = self._turn * (self._turn_steps > 0), max(0, self._turn_steps - 1)
        return np.array([*move, turn, grip], np.float32)
