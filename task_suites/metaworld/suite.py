"""The Meta-World task distributions: mt1, ml1, ml10, ml25, ml45 and custom."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from task_suites.distribution import SPLITS, TaskDistribution
from task_suites.errors import SuiteError, choose
from task_suites.metaworld import layouts, pictures, rewards, simulator
from task_suites.metaworld.env import ACTION_SIZE, HAND_SIZE, STATE_SIZE, Episodes, MetaWorldEnv
from task_suites.options import SuiteOptions
from task_suites.task import Parameters, Reward, Task
from task_suites.values import Number, OneOf, flag

NAMES = ("mt1", "ml1", *layouts.BENCHMARKS, "custom")
EPISODE_STEPS = 500  # Meta-World's own, at one simulator step per action
_POINT_LOW, _POINT_HIGH = (-0.15, 0.5, 0.08), (0.15, 0.8, 0.3)


def _scenes(value: Any, what: str) -> tuple[str, ...]:
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise SuiteError(f"{what} is {value!r}: expected names of scenes")
    scenes = (value,) if isinstance(value, str) else tuple(value)
    scenes = tuple(choose(scene, layouts.SCENES, f"scene in {what}") for scene in scenes)
    if not scenes or len(set(scenes)) != len(scenes):
        raise SuiteError(f"{what} is {scenes!r}: expected at least one scene, none twice")
    return scenes


@functools.cache
def _tasks(scenes: tuple[str, ...], split: str, seed: int, reward: str) -> tuple[Task, ...]:
    """Return the tasks of `split`: 50 per scene."""
    found = []
    for scene in scenes:
        rng = np.random.default_rng([seed, layouts.SCENES.index(scene), SPLITS.index(split), 1])
        for parameters in layouts.draw(scene, split, seed):
            values = {}
            if reward == "reach_point":
                point = rng.uniform(_POINT_LOW, _POINT_HIGH).tolist()
                values = dict(zip(rewards.POINT_NAMES, point, strict=True))
            found.append(Task("metaworld", Reward(reward, Parameters(values)), parameters))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class MetaWorldOptions(SuiteOptions):
    """Options of the Meta-World benchmarks.

    scene: the one scene of mt1 and ml1 (None = reach). train_scenes, test_scenes: those of custom (None =
    push, sweep). benchmark_seed: which places are drawn. reward: v2, v1, success, reach_object, reach_goal,
    reach_point or object_to_goal; it may differ between `train_reward` and `test_reward`. state: Meta-World's
    own vector instead of pictures. show_goal: whether observations show the goal (None: in mt1 only).
    cameras: None = corner4. action_repeat: simulator steps per action. episode_steps: None = 500 simulator
    steps. start_noise_metres: how far the hand may start from its place along each axis, 0 to 0.05; 0 is
    Meta-World's own start, the same in each episode.
    """

    scene: str | None = None
    train_scenes: Iterable[str] | str | None = None
    test_scenes: Iterable[str] | str | None = None
    benchmark_seed: int = 0
    reward: str = "v2"
    train_reward: str | None = None
    test_reward: str | None = None
    state: bool = False
    show_goal: bool | None = None
    antialias: bool = True
    action_repeat: int = 1
    start_noise_metres: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        for reward in (self.reward, self.train_reward, self.test_reward):
            if reward is not None:
                choose(reward, rewards.NAMES, "Meta-World reward")
        self._whole("benchmark_seed", 0, 2**31)
        self._whole("action_repeat", 1, 50)
        flag(self.state, "state")
        if self.show_goal is not None:
            flag(self.show_goal, "show_goal")
        noise = self.start_noise_metres
        if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise <= 0.05:
            raise SuiteError(f"start_noise_metres is {noise!r}: expected 0 to 0.05")
        if self.state and self.cameras:
            cameras = self.cameras
            raise SuiteError(f"cameras is {cameras!r}: with state=true there are no pictures, leave it out")

    def scenes(self, benchmark: str) -> dict[str, tuple[str, ...]]:
        """Return the scenes of each split. SuiteError: no such scene, or `benchmark` has no such choice."""
        one, several = ("scene",), ("train_scenes", "test_scenes")
        used = {"mt1": one, "ml1": one, "custom": several}.get(benchmark, ())
        self.refuse((name for name in (*one, *several) if name not in used), f"{benchmark} has no such choice")
        if used == one:
            scene = "reach" if self.scene is None else choose(self.scene, layouts.SCENES, "scene")
            found = ((scene,),) * 2
        elif used == several:
            train = ("push",) if self.train_scenes is None else self.train_scenes
            test = ("sweep",) if self.test_scenes is None else self.test_scenes
            found = _scenes(train, "train_scenes"), _scenes(test, "test_scenes")
        else:
            found = layouts.BENCHMARKS[benchmark]
        return dict(zip(SPLITS, found, strict=True))


class MetaWorld(TaskDistribution):
    """Meta-World's benchmark called `name`; 50 tasks per scene and split.

    options: those of `MetaWorldOptions`. Raises SuiteError naming a wrong one, or if Meta-World is not
    installed.
    """

    family = "metaworld"
    options_type = MetaWorldOptions
    antialias_version = 1  # drawn twice as large from the beginning
    task_options = (
        *("distractors", "scene", "train_scenes", "test_scenes", "benchmark_seed"),
        *("reward", "train_reward", "test_reward"),
    )
    reward_input_names = rewards.INPUT_NAMES
    reward_words = rewards.WORDS
    reward_values = rewards.VALUES
    # The limits of the places differ between scenes: `layouts.numbers` holds them.
    scene_values = {
        "scene": OneOf(layouts.SCENES),
        **{name: Number(required=False) for name in layouts.NUMBER_NAMES},
    }
    object_input_names = tuple(f"object_{axis}_metres" for axis in "xyz")

    def __init__(self, name: str, **options: Any) -> None:
        simulator.require()
        self.name = name
        benchmark = choose(name.partition("/")[2], NAMES, "Meta-World benchmark")
        given = MetaWorldOptions(**options)
        self._scenes, self._seed = given.scenes(benchmark), given.benchmark_seed
        rewards_of_splits = given.train_reward or given.reward, given.test_reward or given.reward
        self._rewards = dict(zip(SPLITS, rewards_of_splits, strict=True))
        self.max_episode_steps = given.steps_or(EPISODE_STEPS // given.action_repeat)
        self.distractors, state = given.distractors, given.state
        self._views = given.views_among(pictures.CAMERAS, default=() if state else ("corner4",))
        self.shows_distractors = bool(self._views.cameras)
        self.options = {
            "cameras": self._views.cameras,
            "image_size": given.image_size,
            "state": state,
            "show_goal": benchmark == "mt1" if given.show_goal is None else given.show_goal,
            "antialias": given.antialias,
            "action_repeat": given.action_repeat,
            "start_noise_metres": float(given.start_noise_metres),
        }
        self.observation_space, self.action_space = self._views.spaces(STATE_SIZE if state else HAND_SIZE, ACTION_SIZE)

    def physics(self) -> dict[str, Any]:
        return {name: self.options[name] for name in ("action_repeat", "start_noise_metres")}

    def reference_key(self, task: Task) -> str:
        """Return the key of the references: one per scene and reward, averaged over the places."""
        self.check(task.replace(distractors=()))
        facts = {"reward": task.reward.name, "steps": self.max_episode_steps, **self.physics()}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        return f"metaworld {task.parameters['scene']} {digest}"

    def tasks(self, split: str) -> tuple[Task, ...]:
        scenes = self._scenes[choose(split, SPLITS, "split")]
        return _tasks(scenes, split, self._seed, self._rewards[split])

    def check(self, task: Task) -> Task:
        super().check(task)
        layouts.numbers(task.parameters)
        return task

    def describe(self, task: Task) -> str:
        words = super().describe(task)
        return f"{task.parameters['scene']}: {words}"

    def make(self, task: Task) -> MetaWorldEnv:
        return MetaWorldEnv(
            self.check(task),
            (self.observation_space, self.action_space),
            self._views,
            Episodes(max_steps=self.max_episode_steps, **self.physics()),
            state=self.options["state"],
            show_goal=self.options["show_goal"],
        )

    def reward(self, task: Task, inputs, action):
        return rewards.reward(self.check(task), inputs)

    def recomputes(self, task: Task, played: Task | None = None) -> bool:
        return rewards.recomputes(self.check(task), played)

    def success(self, task: Task, inputs):
        return rewards.success(self.check(task), inputs)

    def scripted(self, task: Task):
        task = self.check(task)
        if task.reward.name in ("v1", "v2", "success", "object_to_goal"):
            return simulator.Expert(task.parameters["scene"])
        return rewards.Reacher(task, self.options["action_repeat"])
