"""Frames per second of our off-screen renderer beside Gymnasium's default path, and of the tabletop suite.

    python benchmarks/rendering.py [--seconds 2] [--json PATH]

Variants take turns within one run, so ratios mean something where absolute figures drift. Rates are per
second of the process's CPU time: software GL draws in the calling thread here, so other load spoils nothing.
With a GPU, where drawing is no CPU time, they mean less.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

import task_suites
from task_suites.rendering import BACKEND, Renderer, probe

ROUNDS = 5


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


def scene_rates(name: str, size: int, seconds: float) -> dict[str, float]:
    """Return pictures per second of one scene, drawn by Gymnasium's path and by ours, both at rest."""
    if name.startswith("tabletop"):
        suite = task_suites.get(name)
        env = suite.make(suite.sample("train", 1, 0)[0])
        model, data = env._model, env._data
        env.reset(seed=0)
        camera = model.camera("fit").id
    else:
        env = gymnasium.make(name).unwrapped
        env.reset(seed=0)
        model, data, camera = env.model, env.data, 0
    theirs = MujocoRenderer(model, data, width=size, height=size, camera_id=camera)
    ours, smooth = Renderer(model, size, size), Renderer(model, size, size, antialias=True)
    theirs.render("rgb_array")

    def default() -> None:
        theirs.viewer.make_context_current()  # Gymnasium's does not, and would draw into our context
        theirs.render("rgb_array")

    rates = frames_per_second(
        {
            "gymnasium": default,
            "ours": lambda: ours.render(data, camera),
            "ours, antialias": lambda: smooth.render(data, camera),
        },
        seconds,
    )
    for item in (theirs, ours, smooth, env):
        item.close()
    return rates


def stepper(size: int, distractors: dict[str, float]) -> Callable[[], object]:
    """Return a call that steps the registered tabletop environment once, with resets as episodes end."""
    env = gymnasium.make("task_suites/tabletop-gather-v0", image_size=size, distractors=distractors)
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (997, 5)).astype(np.float32)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if env.step(actions[count % len(actions)])[3]:
            env.reset()

    return step


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="per variant")
    parser.add_argument("--json", default=None, help="also write the figures to this file")
    arguments = parser.parse_args()
    scenes = {
        f"{name} {size}px": scene_rates(name, size, arguments.seconds)
        for name in ("tabletop/gather", "HalfCheetah-v5", "Ant-v5")
        for size in (64,)
    }
    every = dict.fromkeys(task_suites.DISTRACTOR_NAMES, 1.0)
    steps = frames_per_second(
        {
            "32px": stepper(32, {}),
            "64px": stepper(64, {}),
            **{f"64px {name}": stepper(64, {name: 1.0}) for name in task_suites.DISTRACTOR_NAMES},
            "64px all distractors": stepper(64, every),
        },
        arguments.seconds,
    )
    value = {
        "backend": BACKEND,
        "gl_renderer": probe()["gl_renderer"],
        "pictures": scenes,
        "environment_steps": steps,
    }
    print(f"{'pictures per second':26} {'gymnasium':>10} {'ours':>8} {'ratio':>6} {'antialias':>10}")
    for name, rates in scenes.items():
        ratio = rates["ours"] / rates["gymnasium"]
        slow, fast, smooth = rates["gymnasium"], rates["ours"], rates["ours, antialias"]
        print(f"{name:26} {slow:10.0f} {fast:8.0f} {ratio:6.1f} {smooth:10.0f}")
    print("\ntabletop-gather-v0, steps per second with picture, resets included")
    for name, rate in steps.items():
        print(f"{name:26} {rate:10.0f}")
    print(json.dumps(value))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(value, file, indent=1)


if __name__ == "__main__":
    main()
