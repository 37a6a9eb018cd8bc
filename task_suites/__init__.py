"""Task suites for transfer and meta reinforcement learning: what is learned, without any learner.

    task_suites.names()                                   # ["tabletop/gather", ...]
    suite = task_suites.get("tabletop/gather", image_size=32)
    task, = suite.sample("train", 1, seed=0)
    env = suite.make(task)                                # a Gymnasium environment

Your own environment becomes one with `task_suites.gymnasium_task`, your own rewards on any of these with
`task_suites.with_rewards`.
Every distribution is also registered with Gymnasium: `gymnasium.make("task_suites/tabletop-gather-v0")`.
"""

from task_suites.adapter import gymnasium_task
from task_suites.checks import faults
from task_suites.distribution import ScriptedPolicy, TaskDistribution, as_distractors
from task_suites.errors import SuiteError
from task_suites.locomotion import TASKS as LOCOMOTION_TASKS
from task_suites.registry import get, gymnasium_id, names, options_of, register, register_own, tags
from task_suites.rewarded import with_rewards
from task_suites.rows import LockstepRows, Rows
from task_suites.task import DISTRACTOR_NAMES, Distractor, Parameters, Reward, Task
from task_suites.vector import TaskVector

__all__ = [
    "DISTRACTOR_NAMES",
    "Distractor",
    "LockstepRows",
    "MujocoPixels",
    "Parameters",
    "Reward",
    "Rows",
    "ScriptedPolicy",
    "SuiteError",
    "Task",
    "TaskDistribution",
    "TaskVector",
    "as_distractors",
    "faults",
    "get",
    "gymnasium_id",
    "gymnasium_task",
    "names",
    "options_of",
    "register",
    "tags",
    "with_rewards",
]


def __getattr__(name: str):
    """Import `MujocoPixels` when it is asked for: it needs MuJoCo, which a suite without pictures may not."""
    if name == "MujocoPixels":
        from task_suites.pixels import MujocoPixels

        return MujocoPixels
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_HIDDEN = ("hidden_goal",)  # what is to be reached shows in no observation: it can only be inferred
for _task in ("reach", "hover", "push", "gather", "match_positions", "lift", "stack", "place"):
    _tags = ("mujoco", "images", "manipulation")
    _tags += _HIDDEN if _task in ("hover", "push", "match_positions", "place") else ()
    register_own(f"tabletop/{_task}", "task_suites.tabletop.suite:Tabletop", _tags, "tabletop")
for _task in ("reacher", "buttons", "peg_insertion", "shelf_placing", "cheetah_velocity"):
    _place = f"task_suites.meld.suite:{_task.title().replace('_', '')}"
    _kind = "locomotion" if _task == "cheetah_velocity" else "manipulation"
    register_own(f"meld/{_task}", _place, ("mujoco", "images", _kind, "meta", *_HIDDEN), f"meld_{_task}")
for _body, _tasks in LOCOMOTION_TASKS.items():
    for _task in _tasks:
        _tags = ("mujoco", "state", _body, *(() if _task in ("run", "upright") else _HIDDEN))
        register_own(f"locomotion/{_body}_{_task}", "task_suites.locomotion.suite:Locomotion", _tags, _body)
register_own("toy/counting", "task_suites.toy.counting:Counting", ("state", "images"), "counting")
register_own("toy/hidden_goal", "task_suites.toy.hidden_goal:HiddenGoal", ("images", *_HIDDEN), "hidden_goal")
register_own("toy/puck", "task_suites.toy.puck:Puck", ("images", *_HIDDEN), "puck")
register_own("toy/lqr", "task_suites.toy.lqr:Lqr", ("state", "images", *_HIDDEN), "lqr")
_place = "task_suites.toy.rotated_actuators:RotatedActuators"
register_own("toy/rotated_actuators", _place, ("state",), "rotated_actuators")
for _task in ("mt1", "ml1", "ml10", "ml25", "ml45", "custom"):
    _tags = ("mujoco", "images", "manipulation", *(() if _task == "mt1" else ("meta", *_HIDDEN)))
    register_own(f"metaworld/{_task}", "task_suites.metaworld.suite:MetaWorld", _tags, "metaworld")
