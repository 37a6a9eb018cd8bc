"""Rewards and success of the tabletop tasks, written once for numpy and torch.

Inputs (..., 13): hand tip x y z, red x y z, green x y z, blue x y z (metres), suction on (0 or 1; with
fingers: they close).
All dense rewards lie in [0, 1] and pay 1 only when the task is done; every stage's term grows towards it.
"""

from __future__ import annotations

import sys

import numpy as np

from task_suites.tabletop.scene import BLOCK_HALF, COLOURS, HAND_HIGH, HAND_LOW
from task_suites.task import Task
from task_suites.values import FLAG, Number, OneOf

INPUT_NAMES = (
    *(f"hand_{axis}_metres" for axis in "xyz"),
    *(f"{colour}_{axis}_metres" for colour in COLOURS for axis in "xyz"),
    "suction_on",
)
REACH_METRES = 0.03
PUSH_METRES = 0.03
GATHER_METRES = 3 * BLOCK_HALF
ON_TABLE_METRES = BLOCK_HALF + 0.015
TOUCHING_METRES = 0.06  # tip to block centre, when the cup touches the block from above or beside
SCALE_METRES = 0.10
LIFT_METRES = 0.10  # centre; a block that stands on another has its centre at 9 cm
STACK_METRES = 0.025  # across, centre to centre: less than half a block, so that it stands
STACK_HEIGHT_METRES = 0.006  # how much the difference of heights may deviate from one block
PLACE_METRES = 0.02
APART_METRES = 0.05  # tip to block centre; 3 cm when the cup touches the block from above


def backend(array):
    """Return the module (numpy or torch) that `array` belongs to, without importing torch."""
    return sys.modules["torch"] if type(array).__module__.partition(".")[0] == "torch" else np


def hand_of(inputs):
    """Return the tip of the hand (..., 3) in metres from `inputs` (..., 13)."""
    return inputs[..., 0:3]


def block_of(inputs, colour: str):
    """Return the centre (..., 3) in metres of the block of `colour` from `inputs` (..., 13)."""
    start = 3 + 3 * COLOURS.index(colour)
    return inputs[..., start : start + 3]


def root(square):
    """Return the square root, off by at most 1e-6: so its gradient is finite at 0 too."""
    return (square + 1e-12) ** 0.5


def _distance(difference):
    return root((difference * difference).sum(-1))


def _closeness(distance, tolerance: float):
    """Return exp(-(distance - tolerance) / scale), 1 within the tolerance."""
    return backend(distance).exp((tolerance - distance).clip(None, 0.0) / SCALE_METRES)


def _placed(height):
    """Return 1 for a block that stands on the table, falling with its height."""
    return _closeness(height, ON_TABLE_METRES)


def _goal(task: Task, index: str = "") -> tuple[float, float]:
    values = task.reward.parameters
    return values[f"goal{index}_x_metres"], values[f"goal{index}_y_metres"]


def _goal_distance(block, goal: tuple[float, float]):
    return root((block[..., 0] - goal[0]) ** 2 + (block[..., 1] - goal[1]) ** 2)


def _carry(inputs, block, near):
    """Return 0.25 for the hand at the block and 0.75 for `near`; a block that is home needs no hand."""
    reach = _closeness(_distance(hand_of(inputs) - block), TOUCHING_METRES)
    return 0.75 * near + 0.25 * (1 - (1 - reach) * (1 - near**8))


def _reach_distance(task: Task, inputs):
    block = block_of(inputs, task.reward.parameters["colour"])
    hand = hand_of(inputs)
    height = hand[..., 2] - block[..., 2] - BLOCK_HALF
    return root((hand[..., 0] - block[..., 0]) ** 2 + (hand[..., 1] - block[..., 1]) ** 2 + height**2)


def _reach(task: Task, inputs):
    distance = _reach_distance(task, inputs)
    return _closeness(distance, REACH_METRES), distance < REACH_METRES


def hover_place(task: Task, inputs):
    """Return x, y, z (...) in metres of where the hand is to hover: beside the green block, within the hand's reach."""
    values, green = task.reward.parameters, block_of(inputs, "green")
    offsets = values["beside_x_metres"], values["beside_y_metres"], BLOCK_HALF + values["above_metres"]
    return tuple(
        (green[..., axis] + offset).clip(float(HAND_LOW[axis]), float(HAND_HIGH[axis]))
        for axis, offset in enumerate(offsets)
    )


def _hover(task: Task, inputs):
    hand, place = hand_of(inputs), hover_place(task, inputs)
    distance = root(sum((hand[..., axis] - place[axis]) ** 2 for axis in range(3)))
    return _closeness(distance, REACH_METRES), distance < REACH_METRES


def _push(task: Task, inputs):
    block = block_of(inputs, task.reward.parameters["colour"])
    distance = _goal_distance(block, _goal(task))
    near = _closeness(distance, PUSH_METRES) * _placed(block[..., 2])
    return _carry(inputs, block, near), (distance < PUSH_METRES) & (block[..., 2] < ON_TABLE_METRES)


def _gather(task: Task, inputs):
    block, other = block_of(inputs, task.reward.parameters["colour"]), block_of(inputs, "green")
    distance = root((block[..., 0] - other[..., 0]) ** 2 + (block[..., 1] - other[..., 1]) ** 2)
    near = _closeness(distance, GATHER_METRES) * _placed(block[..., 2]) * _placed(other[..., 2])
    down = (block[..., 2] < ON_TABLE_METRES) & (other[..., 2] < ON_TABLE_METRES)
    return _carry(inputs, block, near), (distance < GATHER_METRES) & down


def _match_positions(task: Task, inputs):
    dense, done = 0.0, True
    for colour, index in ((task.reward.parameters["colour"], ""), ("green", "_green")):
        block = block_of(inputs, colour)
        distance = _goal_distance(block, _goal(task, index))
        near = _closeness(distance, PUSH_METRES) * _placed(block[..., 2])
        dense = dense + 0.5 * _carry(inputs, block, near)
        done = (distance < PUSH_METRES) & (block[..., 2] < ON_TABLE_METRES) & done
    return dense, done


def _hold(task: Task, inputs, home=0.0):
    """Return 0.6 for the hand on the block, 1 with suction on; a block that is home needs no hand."""
    hold = _closeness(_reach_distance(task, inputs), 0.5 * REACH_METRES) * (0.6 + 0.4 * inputs[..., 12])
    return 1 - (1 - hold) * (1 - home**8)


def _let_go(inputs, block):
    """Return 1 for suction off and the hand apart from the block, less until it is so; and the boolean."""
    distance = _distance(hand_of(inputs) - block)
    apart = ((distance - BLOCK_HALF) / (APART_METRES - BLOCK_HALF)).clip(0.0, 1.0)
    return (1 - inputs[..., 12]) * apart, (inputs[..., 12] < 0.5) & (distance > APART_METRES)


def _lift(task: Task, inputs):
    height = block_of(inputs, task.reward.parameters["colour"])[..., 2]
    lifted = ((height - BLOCK_HALF) / (LIFT_METRES - BLOCK_HALF)).clip(0.0, 1.0)
    return 0.75 * lifted + 0.25 * _hold(task, inputs, lifted), height > LIFT_METRES


def _stack(task: Task, inputs):
    block, base = block_of(inputs, task.reward.parameters["colour"]), block_of(inputs, "green")
    across = root((block[..., 0] - base[..., 0]) ** 2 + (block[..., 1] - base[..., 1]) ** 2)
    above = block[..., 2] - base[..., 2]
    error = abs(above - 2 * BLOCK_HALF)
    lifted = (above / (2 * BLOCK_HALF - STACK_HEIGHT_METRES)).clip(0.0, 1.0) * _placed(base[..., 2])
    over = lifted * _closeness(across, STACK_METRES) * _closeness(error, STACK_HEIGHT_METRES)
    free, apart = _let_go(inputs, block)
    dense = 0.2 * _hold(task, inputs, over) + 0.3 * lifted + 0.3 * over + 0.2 * over**8 * free
    stands = (across < STACK_METRES) & (error < STACK_HEIGHT_METRES) & (base[..., 2] < ON_TABLE_METRES)
    return dense, stands & apart


def _place(task: Task, inputs):
    block = block_of(inputs, task.reward.parameters["colour"])
    distance = _goal_distance(block, _goal(task))
    near = _closeness(distance, PLACE_METRES)
    stands = near * _placed(block[..., 2])
    free, apart = _let_go(inputs, block)
    dense = 0.2 * _hold(task, inputs, stands) + 0.4 * near + 0.2 * stands + 0.2 * stands**8 * free
    return dense, (distance < PLACE_METRES) & (block[..., 2] < ON_TABLE_METRES) & apart


_TASKS = {
    "reach": _reach,
    "hover": _hover,
    "push": _push,
    "gather": _gather,
    "match_positions": _match_positions,
    "lift": _lift,
    "stack": _stack,
    "place": _place,
}
NAMES = tuple(_TASKS)
_ON_TABLE = Number(-0.17, 0.17)  # where a block's centre can be between the walls
_PLACE = {"goal_x_metres": _ON_TABLE, "goal_y_metres": _ON_TABLE}
_ALONE = {"colour": OneOf(COLOURS), "sparse": FLAG}
_BESIDE_GREEN = {**_ALONE, "colour": OneOf(("red", "blue"))}
VALUES = {  # what a task may say of each reward
    "reach": _ALONE,
    "hover": {
        "sparse": FLAG,
        "beside_x_metres": Number(-0.12, 0.12),
        "beside_y_metres": Number(-0.12, 0.12),
        "above_metres": Number(0.02, 0.08),
    },
    "push": {**_ALONE, **_PLACE},
    "gather": _BESIDE_GREEN,
    "match_positions": {
        **_BESIDE_GREEN,
        **_PLACE,
        "goal_green_x_metres": _ON_TABLE,
        "goal_green_y_metres": _ON_TABLE,
    },
    "lift": _ALONE,
    "stack": _BESIDE_GREEN,
    "place": {**_ALONE, **_PLACE},
}
_GOAL = "of the hidden place x {goal_x_metres:+.2f} m, y {goal_y_metres:+.2f} m"
_PUSHED = f"the {{colour}} block stands within 3 cm {_GOAL}"
WORDS = {
    "reach": "the hand's tip is within 3 cm of the middle of the {colour} block's top",
    "hover": "the hand's tip is within 3 cm of the hidden place {above_metres:+.2f} m above the green block's top, "
    "x {beside_x_metres:+.2f} m, y {beside_y_metres:+.2f} m beside it",
    "push": _PUSHED,
    "gather": "the {colour} block stands within 9 cm of the green one",
    "match_positions": _PUSHED
    + " and the green one within 3 cm of x {goal_green_x_metres:+.2f} m, y {goal_green_y_metres:+.2f} m",
    "lift": "the {colour} block's centre is above 10 cm",
    "stack": "the {colour} block stands on the green one, let go of",
    "place": f"the {{colour}} block stands within 2 cm {_GOAL}, let go of",
}


def success(task: Task, inputs):
    """Return booleans (...) for `inputs` (..., 13)."""
    return _TASKS[task.reward.name](task, inputs)[1]


def evaluate(task: Task, inputs):
    """Return (reward, success), both (...), for `inputs` (..., 13)."""
    dense, done = _TASKS[task.reward.name](task, inputs)
    return (done * 1.0 if task.reward.parameters["sparse"] else dense), done
