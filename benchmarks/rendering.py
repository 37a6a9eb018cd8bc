"""Frames per second of our off-screen renderer beside Gymnasium's own path, and steps of environments.

    python benchmarks/rendering.py [--seconds 2] [--only metaworld] [--json PATH] [--picture PATH]

Variants take turns within one run, so ratios mean something where absolute figures drift. Rates are per
second of the process's CPU time: software GL draws in the calling thread here, so other load spoils nothing.
With a GPU, where drawing is no CPU time, they mean less. All pictures of a scene are of the same state; those
of the three paths are saved side by side. A family joins with one line in SCENES and one in STEPPERS.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
from PIL import Image, ImageDraw

import task_suites
from task_suites.locomotion import bodies
from task_suites.metaworld import pictures
from task_suites.rendering import BACKEND, Renderer, mujoco, probe

ROUNDS = 5
SIZE = 64
SHOWN, GAP, LABEL = 128, 6, 16


@dataclass
class Scene:
    """A started simulation: the physics' model and the one we draw from."""

    model: mujoco.MjModel
    data: mujoco.MjData
    camera: str | int
    visual: mujoco.MjModel
    close: Callable[[], None]


def suite_scene(name: str, camera: str) -> Scene:
    suite = task_suites.get(name, cameras=())
    env = suite.make(suite.sample("train", 1, 0)[0])
    env.reset(seed=0)
    return Scene(env._model, env._data, camera, env._model, env.close)


def metaworld(scene: str) -> Scene:
    suite = task_suites.get("metaworld/mt1", scene=scene, state=True)
    env = suite.make(suite.sample("train", 1, 0)[0])
    env.reset(seed=0)
    simulator = env._simulator
    sites = tuple(range(simulator.model.nsite))  # Gymnasium's path shows them all
    visual = pictures.visual_model(simulator.model_path, sites)
    return Scene(simulator.model, simulator.data, "corner4", visual, env.close)


def locomotion(name: str) -> Scene:
    suite = task_suites.get(name, cameras=("side",))
    env = suite.make(suite.sample("train", 1, 0)[0])
    env.reset(seed=0)
    model = bodies.model(env.body)  # for Gymnasium's path; ours draws a lighter floor
    return Scene(model, env.simulation.data, "side", env.simulation.model, env.close)


def gymnasium_scene(name: str) -> Scene:
    env = gymnasium.make(name).unwrapped
    env.reset(seed=0)
    return Scene(env.model, env.data, 0, env.model, env.close)


SCENES = {
    "tabletop/gather": functools.partial(suite_scene, "tabletop/gather", "fit"),
    "meld/reacher": functools.partial(suite_scene, "meld/reacher", "front"),
    "metaworld/reach": functools.partial(metaworld, "reach"),
    "metaworld/push": functools.partial(metaworld, "push"),
    "metaworld/drawer-open": functools.partial(metaworld, "drawer-open"),
    "locomotion/half_cheetah_run": functools.partial(locomotion, "locomotion/half_cheetah_run"),
    "locomotion/humanoid_run": functools.partial(locomotion, "locomotion/humanoid_run"),
    "HalfCheetah-v5": functools.partial(gymnasium_scene, "HalfCheetah-v5"),
    "Ant-v5": functools.partial(gymnasium_scene, "Ant-v5"),
}
STEPPERS = {
    "tabletop 32px": ("tabletop/gather", {"image_size": 32}),
    "tabletop 64px": ("tabletop/gather", {}),
    **{
        f"tabletop 64px {name}": ("tabletop/gather", {"distractors": {name: 1.0}})
        for name in task_suites.DISTRACTOR_NAMES
    },
    "tabletop 64px all distractors": (
        "tabletop/gather",
        {"distractors": dict.fromkeys(task_suites.DISTRACTOR_NAMES, 1.0)},
    ),
    "meld 64px, two cameras": ("meld/reacher", {}),
    "locomotion state": ("locomotion/half_cheetah_run", {}),
    "locomotion 64px": ("locomotion/half_cheetah_run", {"cameras": ("side",)}),
    "metaworld state": ("metaworld/ml1", {"scene": "push", "state": True}),
    "metaworld 64px": ("metaworld/ml1", {"scene": "push"}),
    "metaworld 64px not antialiased": ("metaworld/ml1", {"scene": "push", "antialias": False}),
    "metaworld 64px all distractors": (
        "metaworld/ml1",
        {"scene": "push", "distractors": dict.fromkeys(task_suites.DISTRACTOR_NAMES, 1.0)},
    ),
}


def frames_per_second(variants: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Return the median over interleaved rounds of each variant's calls per second of CPU time."""
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for call in variants.values():
        call()  # first calls compile shaders
    for _ in range(ROUNDS):
        for name, call in variants.items():
            calls, start = 0, time.process_time()
            while time.process_time() - start < seconds / ROUNDS:
                call()
                calls += 1
            rates[name].append(calls / (time.process_time() - start))
    return {name: float(np.median(values)) for name, values in rates.items()}


def measure(scene: Scene, seconds: float) -> tuple[dict[str, float], list[np.ndarray]]:
    """Return frames per second of Gymnasium's path, of ours and of ours smoothed, and a picture of each."""
    camera = scene.camera if isinstance(scene.camera, int) else scene.model.camera(scene.camera).id
    theirs = MujocoRenderer(scene.model, scene.data, width=SIZE, height=SIZE, camera_id=camera)
    ours, smooth = Renderer(scene.visual, SIZE, SIZE), Renderer(scene.visual, SIZE, SIZE, antialias=True)
    default = functools.partial(theirs.render, "rgb_array")

    def draw(renderer: Renderer) -> np.ndarray:
        mujoco.mj_camlight(scene.visual, scene.data)
        return renderer.render(scene.data, camera)

    rates = frames_per_second(
        {"gymnasium": default, "ours, antialias": lambda: draw(smooth), "ours": lambda: draw(ours)}, seconds
    )
    shown = [default(), draw(smooth), draw(ours)]
    for item in (theirs, ours, smooth, scene):
        item.close()
    return rates, shown


def stepper(name: str, options: dict) -> Callable[[], object]:
    """Return a call that steps a registered environment once, with resets as episodes end."""
    env = gymnasium.make(task_suites.gymnasium_id(name), **options)
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (997, *env.action_space.shape)).astype(np.float32)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if env.step(actions[count % len(actions)])[3]:
            env.reset()

    return step


def sheet(rows: dict[str, tuple[dict[str, float], list[np.ndarray]]]) -> Image.Image:
    """Return one row per scene, first Gymnasium's picture, then both of ours, enlarged without smoothing."""
    width = max(len(shown) for _, shown in rows.values()) * (SHOWN + GAP) + GAP
    image = Image.new("RGB", (width, len(rows) * (SHOWN + LABEL + GAP) + GAP), "white")
    draw = ImageDraw.Draw(image)
    for y, (name, (rates, shown)) in enumerate(rows.items()):
        top = GAP + y * (SHOWN + LABEL + GAP)
        for x, (path, picture) in enumerate(zip(rates, shown, strict=True)):
            left = GAP + x * (SHOWN + GAP)
            draw.text((left, top), path if x else name.rpartition("/")[2], fill="black")
            image.paste(Image.fromarray(picture).resize((SHOWN, SHOWN), Image.NEAREST), (left, top + LABEL))
    return image


def main() -> None:
    """Measure, print tables, save the pictures, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="per variant")
    parser.add_argument("--only", default="", help="scenes and environments whose name starts with this")
    parser.add_argument("--json", default=None, help="also write the figures to this file")
    parser.add_argument("--picture", default=None, help="also save the pictures side by side in this file")
    arguments = parser.parse_args()
    scenes = {
        name: measure(make(), arguments.seconds) for name, make in SCENES.items() if name.startswith(arguments.only)
    }
    print(f"{'pictures per second':26} {'gymnasium':>9} {'smooth':>7} {'ratio':>6} {'ours':>7} {'ratio':>6}")
    for name, (rates, _) in scenes.items():
        slow, smooth, fast = rates.values()
        print(f"{name:26} {slow:9.1f} {smooth:7.0f} {smooth / slow:6.1f} {fast:7.0f} {fast / slow:6.1f}")
    chosen = {name: stepper(*how) for name, how in STEPPERS.items() if name.startswith(arguments.only)}
    steps = frames_per_second(chosen, arguments.seconds)
    print("\nenvironment steps per second with picture, resets included")
    for name, rate in steps.items():
        print(f"{name:32} {rate:6.0f}")
    value = {
        "command": " ".join(["python", "benchmarks/rendering.py", *sys.argv[1:]]),
        "versions": {name: metadata.version(name) for name in ("gymnasium", "metaworld", "mujoco", "numpy")},
        "backend": BACKEND,
        "gl_renderer": probe()["gl_renderer"],
        "pictures": {name: rates for name, (rates, _) in scenes.items()},
        "environment_steps": steps,
    }
    print(json.dumps(value))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(value, indent=1) + "\n")
    if arguments.picture:
        sheet(scenes).save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()
