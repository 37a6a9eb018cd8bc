"""MELD's five task distributions: their options, ranges, draws and checks."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from task_suites.distribution import TaskDistribution
from task_suites.errors import SuiteError
from task_suites.meld import cheetah, rewards, scenes
from task_suites.meld.env import ArmEnv, MeldEnv
from task_suites.meld.scripts import Place, Reach
from task_suites.meld.shelf import ShelfEnv
from task_suites.options import SuiteOptions
from task_suites.task import Parameters, Reward, Task
from task_suites.values import FLAG, Number, OneOf, Values, flag

SCENE_VERSION = 1
_SEEDS = {"train": 101, "test": 100}  # of the streams that draw tasks
Drawn = dict[str, Any]


def _draw(rng: np.random.Generator, limits: Values) -> Drawn:
    """Return a number for each of `limits`, drawn evenly and rounded to four decimals."""
    return {key: round(float(rng.uniform(item.low, item.high)), 4) for key, item in limits.items()}


@dataclass(frozen=True, kw_only=True)
class MeldOptions(SuiteOptions):
    """Options of MELD's tasks.

    cameras, episode_steps: None = the paper's. sparse: pay the paper's sparse reward. proprio: False leaves
    it out, as in the paper.
    """

    sparse: bool = False
    proprio: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        flag(self.sparse, "sparse")
        flag(self.proprio, "proprio")


class Meld(TaskDistribution):
    """A hidden-goal task distribution of MELD (Zhao et al. 2020); subclasses hold scene, goals and rewards.

    options: those of `MeldOptions`, with cameras among `all_cameras`. Raises SuiteError naming a wrong one.
    """

    options_type = MeldOptions
    task_options = ("distractors", "sparse")
    reward_words = rewards.WORDS
    reward_name: str
    all_cameras: tuple[str, ...] = ("front", "side", "wrist")
    paper_cameras: tuple[str, ...] = ("front", "side")
    steps = 40
    sizes = (17, 7)  # proprio, action
    task_counts = {"train": 60, "test": 10}
    goal_values: Values

    def __init__(self, name: str, **options: Any) -> None:
        self.name, given = name, MeldOptions(**options)
        self._views = given.views_among(self.all_cameras, default=self.paper_cameras)
        if not self._views.cameras and not given.proprio:
            raise SuiteError("cameras is empty and proprio is False: nothing would be observed")
        self.max_episode_steps = given.steps_or(self.steps)
        self._sparse, self.distractors = given.sparse, given.distractors
        self.shows_distractors = bool(self._views.cameras)
        self.reward_values = {self.reward_name: {**self.goal_values, "sparse": FLAG}}
        self.options = {
            "image_size": given.image_size,
            "cameras": self._views.cameras,
            "proprio": given.proprio,
            "antialias": given.antialias,
        }
        length, actions = self.sizes
        self.observation_space, self.action_space = self._views.spaces(length if given.proprio else None, actions)

    def physics(self) -> dict[str, Any]:
        return {"scene": SCENE_VERSION}

    @abstractmethod
    def draw(self, rng: np.random.Generator, count: int) -> list[tuple[Drawn, Drawn, Drawn]]:
        """Return (goal, scene, dynamics) of `count` tasks."""

    def tasks(self, split: str) -> tuple[Task, ...]:
        drawn = self.draw(np.random.default_rng(_SEEDS[split]), self.task_counts[split])
        return tuple(
            Task(
                self.family,
                Reward(self.reward_name, Parameters(goal, sparse=self._sparse)),
                Parameters(scene),
                Parameters(dynamics),
            )
            for goal, scene, dynamics in drawn
        )

    def describe(self, task: Task) -> str:
        words = super().describe(task)
        return words + (", where success is, else 0" if task.reward.parameters["sparse"] else "")

    def evaluate(self, task: Task, inputs, action):
        """Return (reward, success), both (...), of a task that has been checked."""
        return rewards.reaching(task, inputs, action)

    def reward(self, task: Task, inputs, action):
        return self.evaluate(self.check(task), inputs, action)[0]

    def success(self, task: Task, inputs):
        return self.evaluate(self.check(task), inputs, None)[1]

    def place(self, task: Task) -> tuple[float, ...]:
        """Return where what is rewarded should be, as the first reward inputs are: places on `workspace`'s axes."""
        return ()

    def goal(self, task: Task) -> tuple[float, float] | None:
        where = dict(zip(self.reward_input_names, self.place(self.check(task)), strict=False))
        return tuple(where[name] for name in self.workspace) if self.workspace else None

    def _shared(self) -> dict[str, Any]:
        return {
            "space": (self.observation_space, self.action_space),
            "views": self._views,
            "episode_steps": self.max_episode_steps,
        }


class _Arm(Meld):
    """What the three tasks with joint steps share."""

    reward_input_names = rewards.ARM_INPUT_NAMES
    start: tuple[float, ...]
    blocks: tuple[str, ...] = ()
    table = ((0.65, 0.0, 0.0), 0.35)

    @abstractmethod
    def scene(self, task: Task) -> str:
        """Return the MJCF of `task`."""

    def place(self, task: Task) -> tuple[float, ...]:
        return rewards.goal_of(task)

    def make(self, task: Task) -> MeldEnv:
        names = scenes.names(self.blocks, *self.table)
        xml = self.scene(self.check(task))
        return ArmEnv(task, self.evaluate, xml, names, start=self.start, **self._shared())

    def scripted(self, task: Task) -> Reach:
        return Reach(self.scene(self.check(task)), task)


class Reacher(_Arm):
    """Reach a hidden point in a box with a seven-joint arm: 60 train goals, 10 others to test."""

    family = "meld_reacher"
    reward_name = "reach"
    goal_values = {
        "goal_x_metres": Number(0.75, 0.9),
        "goal_y_metres": Number(-0.3, 0.3),
        "goal_z_metres": Number(0.3, 0.7),
    }
    workspace = MappingProxyType({"tip_y_metres": (-0.4, 0.4), "tip_z_metres": (0.1, 0.8)})
    start = (0.0, -0.832, 0.03, 1.68, 0.058, -0.232, 0.0)

    def draw(self, rng: np.random.Generator, count: int) -> list[tuple[Drawn, Drawn, Drawn]]:
        return [(_draw(rng, self.goal_values), {}, {}) for _ in range(count)]

    def scene(self, task: Task) -> str:
        return scenes.reacher()


class Buttons(_Arm):
    """Press the right one of three buttons on a panel; which one is hidden. 15 train and 12 test tasks."""

    family = "meld_buttons"
    reward_name = "press"
    goal_values = {"button": OneOf(tuple(scenes.BUTTON_Y_METRES))}
    scene_values = {"panel_x_metres": Number(0.72, 0.78)}
    task_counts = {"train": 15, "test": 12}
    workspace = MappingProxyType({"tip_y_metres": (-0.25, 0.25), "tip_z_metres": (-0.1, 0.3)})
    start = (-0.065, -0.6675, 0.0, 1.35, 0.0, 0.625, 0.0)
    blocks = tuple(scenes.BUTTON_Y_METRES)
    table = ((0.7, 0.0, scenes.PANEL_Z_METRES), 0.35)

    def draw(self, rng: np.random.Generator, count: int) -> list[tuple[Drawn, Drawn, Drawn]]:
        panels = [_draw(rng, self.scene_values) for _ in range(count // 3)]
        return [({"button": button}, panel, {}) for panel in panels for button in scenes.BUTTON_Y_METRES]

    def scene(self, task: Task) -> str:
        return scenes.buttons(task.parameters["panel_x_metres"])


class PegInsertion(_Arm):
    """Put a peg into the right one of four boxes; which one is hidden. 30 train and 10 test tasks."""

    family = "meld_peg_insertion"
    reward_name = "insert"
    goal_values = {"box": OneOf((1, 2, 3, 4))}
    _CORNERS = ((0.44, 0.07), (0.44, -0.08), (0.6, 0.07), (0.6, -0.08))  # lower ends, 1 cm wide
    scene_values = {
        f"box_{number}_{axis}_metres": Number(low, round(low + 0.01, 3))
        for number, corner in enumerate(_CORNERS, 1)
        for axis, low in zip("xy", corner, strict=True)
    }
    task_counts = {"train": 30, "test": 10}
    workspace = MappingProxyType({"tip_x_metres": (0.35, 0.75), "tip_y_metres": (-0.2, 0.2)})
    start = (-0.305, -0.83, 0.06086, 1.70464, -0.02976, 0.62496, -0.04712)
    paper_cameras = ("front", "wrist")
    blocks = tuple(f"box_{number}_{wall}" for number in range(1, 5) for wall in range(1, 5))
    table = ((0.55, 0.0, 0.0), 0.3)

    def draw(self, rng: np.random.Generator, count: int) -> list[tuple[Drawn, Drawn, Drawn]]:
        grids = [_draw(rng, self.scene_values) for _ in range(-(-count // 4))]
        return [({"box": box}, grid, {}) for grid in grids for box in range(1, 5)][:count]

    def scene(self, task: Task) -> str:
        seen = task.parameters
        return scenes.peg_insertion(tuple((seen[f"box_{n}_x_metres"], seen[f"box_{n}_y_metres"]) for n in range(1, 5)))


class ShelfPlacing(Meld):
    """Place a mug of unknown mass at a hidden place on a shelf, by torques. 40 train and 10 test tasks."""

    family = "meld_shelf_placing"
    reward_name = "place"
    reward_input_names = rewards.SHELF_INPUT_NAMES
    object_input_names = rewards.SHELF_INPUT_NAMES[:3]
    workspace = MappingProxyType({"mug_foot_x_metres": (-0.35, 0.35), "mug_foot_y_metres": (0.55, 1.05)})
    goal_values = {"goal_x_metres": Number(-0.2, 0.2)}
    dynamics_values = {"mug_mass_kg": Number(5.0, 15.0)}
    task_counts = {"train": 40, "test": 10}
    all_cameras = ("front", "side", "wrist")
    sizes = (21, 9)

    def draw(self, rng: np.random.Generator, count: int) -> list[tuple[Drawn, Drawn, Drawn]]:
        return [(_draw(rng, self.goal_values), {}, _draw(rng, self.dynamics_values)) for _ in range(count)]

    def evaluate(self, task: Task, inputs, action):
        return rewards.placing(task, inputs, action)

    def place(self, task: Task) -> tuple[float, ...]:
        return task.reward.parameters["goal_x_metres"], scenes.GOAL_Y_METRES, scenes.GOAL_Z_METRES

    def make(self, task: Task) -> MeldEnv:
        names = scenes.names(("mug", "handle"), (0.0, 0.7, 0.0), 0.4)
        xml = scenes.shelf_placing(self.check(task).dynamics["mug_mass_kg"])
        return ShelfEnv(task, self.evaluate, xml, names, **self._shared())

    def scripted(self, task: Task) -> Place:
        return Place(scenes.shelf_placing(self.check(task).dynamics["mug_mass_kg"]), task)


class CheetahVelocity(Meld):
    """Run at a hidden speed. 20 train and 10 test tasks.

    The paper's sparse reward is at most 0 where it says anything and 0 elsewhere: a signal to infer the task
    from, not one to maximise.
    """

    family = "meld_cheetah_velocity"
    reward_name = "run"
    reward_input_names = rewards.CHEETAH_INPUT_NAMES
    goal_values = {"target_metres_per_second": Number(0.0, 3.0)}
    task_counts = {"train": 20, "test": 10}
    all_cameras = paper_cameras = ("side",)
    steps = 50
    sizes = (17, 6)

    def draw(self, rng: np.random.Generator, count: int) -> list[tuple[Drawn, Drawn, Drawn]]:
        return [(_draw(rng, self.goal_values), {}, {}) for _ in range(count)]

    def evaluate(self, task: Task, inputs, action):
        return rewards.running(task, inputs, action)

    def make(self, task: Task) -> MeldEnv:
        checked = self.check(task)
        return cheetah.CheetahEnv(checked, self.evaluate, cheetah.mjcf(), cheetah.NAMES, **self._shared())

    def scripted(self, task: Task) -> cheetah.Gait:
        target = self.check(task).reward.parameters["target_metres_per_second"]
        return cheetah.Gait(target, cheetah.gaits())
