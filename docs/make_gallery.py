"""Draws docs/tasks.png, the contact sheet of docs/tasks.md: `python docs/make_gallery.py [PATH]`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import task_suites
from task_suites import DISTRACTOR_NAMES, Distractor

SIDE, GAP, LABEL = 128, 4, 14
TASKS = ("reach", "push", "gather", "match_positions", "lift", "stack", "place")
CAMERAS = ("fit", "top", "left", "right")

Tile = tuple[str, np.ndarray]


def frames(suite, task, camera: str, seed: int = 3) -> list[np.ndarray]:
    """Observed pictures of one episode of the scripted policy, first to last."""
    env, policy = suite.make(task), suite.scripted(task)
    policy.reset(np.random.default_rng(seed))
    observation, info = env.reset(seed=seed)
    pictures, done = [observation[f"image_{camera}"]], False
    while not done:
        observation, _, terminated, truncated, info = env.step(policy(info["reward_inputs"]))
        pictures.append(observation[f"image_{camera}"])
        done = terminated or truncated or info["success"]
    env.close()
    return pictures


def tabletop_rows() -> list[list[Tile]]:
    """One row per task (how the script solves the test task), one of cameras, two of distractors."""
    rows = []
    for name in TASKS:
        suite = task_suites.get(f"tabletop/{name}", image_size=SIDE, antialias=True)
        (task,) = suite.sample("test", 1, seed=0)
        shown = frames(suite, task, "fit")
        steps = np.linspace(0, len(shown) - 1, 6).round().astype(int)
        rows.append([(f"{name}, step {step}", shown[step]) for step in steps])
    suite = task_suites.get("tabletop/reach", image_size=SIDE, antialias=True, cameras=CAMERAS)
    (task,) = suite.sample("test", 1, seed=0)
    env = suite.make(task)
    observation, _ = env.reset(seed=3)
    env.close()
    cameras = [(f"camera {camera}", observation[f"image_{camera}"]) for camera in CAMERAS]
    small = task_suites.get("tabletop/reach", image_size=32, cameras=("top",))
    seen = frames(small, small.sample("test", 1, seed=0)[0], "top")
    enlarged = np.ones((SIDE // 32, SIDE // 32, 1), np.uint8)
    cameras += [("top at 32 px", np.kron(seen[i], enlarged)) for i in (0, -1)]
    rows.append(cameras)
    for intensity in (0.5, 1.0):
        row = []
        for name in DISTRACTOR_NAMES:
            changed = task.replace(distractors=(Distractor(name, intensity, seed=1),))
            row.append((f"{name} {intensity}", frames(suite, changed, "fit")[4]))
        rows.append(row)
    return rows


def toy_row() -> list[Tile]:
    """The linear-quadratic toy; the pictures of toy/counting are single colours and not shown."""
    suite = task_suites.get("toy/lqr", image_size=SIDE)
    (task,) = suite.sample("test", 1, seed=0)
    shown = frames(suite, task, "top")
    return [(f"toy/lqr, step {step}", shown[step]) for step in (0, 2, 4, 6, 8, 10)]


def sheet(rows: list[list[Tile]]) -> Image.Image:
    """All rows of labelled tiles on white."""
    width = max(len(row) for row in rows) * (SIDE + GAP) + GAP
    image = Image.new("RGB", (width, len(rows) * (SIDE + LABEL + GAP) + GAP), "white")
    draw = ImageDraw.Draw(image)
    for y, row in enumerate(rows):
        for x, (label, picture) in enumerate(row):
            corner = (GAP + x * (SIDE + GAP), GAP + y * (SIDE + LABEL + GAP))
            draw.text(corner, label, fill="black")
            image.paste(Image.fromarray(picture), (corner[0], corner[1] + LABEL))
    return image


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "tasks.png"
    sheet([*tabletop_rows(), toy_row()]).save(path, optimize=True)
    print(path)
