"""Draws docs/gallery/FAMILY.png of every registered family and writes docs/gallery.md.

    python docs/make_gallery.py [--out DIR] [FAMILY ...]

Each row of a task shows what the agent sees while the scripted policy acts, or random actions where there is
none; two rows show the distractors, at half and full intensity. With families named, only their pictures are
drawn anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import gymnasium
import numpy as np
from PIL import Image, ImageDraw

import task_suites
from task_suites import DISTRACTOR_NAMES, Distractor, TaskDistribution, gallery

SIDE, GAP, LABEL, COLUMNS = 96, 4, 14, 6
MAX_TASKS = 6  # rows of a picture, evenly chosen, with one of each body or arm at least
WRAPPED = "any_mujoco"
COLOURS = 96  # of a picture's palette: pages stay light

Tile = tuple[str, np.ndarray]


def families() -> dict[str, list[str]]:
    """The names of every family's task distributions."""
    found: dict[str, list[str]] = {}
    for name in task_suites.names():
        found.setdefault(name.split("/")[0], []).append(name)
    return found


def first_task(suite: TaskDistribution) -> task_suites.Task:
    """A target, or a source where there is no target."""
    return next(iter(suite.tasks("test") or suite.tasks("train")))


def shown(names: Sequence[str]) -> list[str]:
    """Those of `names` that have a row: of every family, whose tasks share spaces, as many."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(task_suites.get(name).family, []).append(name)
    rows, found = max(1, MAX_TASKS // len(alike)), []
    for group in alike.values():
        chosen = np.unique(np.linspace(0, len(group) - 1, min(rows, len(group))).round().astype(int))
        found += [group[i] for i in chosen]
    return found


def rows_of(names: Sequence[str]) -> list[list[Tile]]:
    """A row per task, then two rows of distractors if the family shows them."""
    rows = []
    for name in shown(names):
        suite = gallery.open_large(name, SIDE)
        film = gallery.film(suite, first_task(suite))
        steps = np.linspace(0, len(film) - 1, COLUMNS).round().astype(int)
        rows.append([(f"step {step}" if i else name.split("/")[1], film[step])
                     for i, step in enumerate(steps)])  # fmt: skip
    for name in names:
        suite = gallery.open_large(name, SIDE)
        if suite.shows_distractors:
            return rows + [distracted(suite, intensity) for intensity in (0.5, 1.0)]
    return rows


def distracted(suite: TaskDistribution, intensity: float) -> list[Tile]:
    """One picture of each distractor."""
    row = []
    for name in DISTRACTOR_NAMES:
        task = first_task(suite).replace(distractors=(Distractor(name, intensity, seed=1),))
        film = gallery.film(suite, task)
        row.append((f"{name} {intensity}", film[min(4, len(film) - 1)]))
    return row


def wrapped_rows() -> list[list[Tile]]:
    """Distractors on an environment of Gymnasium's that knows nothing of them."""
    rows = []
    for intensity in (0.5, 1.0):
        row = []
        for name in DISTRACTOR_NAMES:
            env = task_suites.MujocoPixels(
                gymnasium.make("HalfCheetah-v5"),
                image_size=SIDE,
                antialias=True,
                distractors=[Distractor(name, intensity, seed=1)],
            )
            env.reset(seed=3)
            for _ in range(8):
                observation = env.step(np.zeros(6, np.float32))[0]
            row.append((f"{name} {intensity}", observation["image_default"]))
            env.close()
        rows.append(row)
    return rows


def sheet(rows: list[list[Tile]]) -> Image.Image:
    """All rows of labelled tiles on white, with a small palette."""
    width = max(len(row) for row in rows) * (SIDE + GAP) + GAP
    image = Image.new("RGB", (width, len(rows) * (SIDE + LABEL + GAP) + GAP), "white")
    draw = ImageDraw.Draw(image)
    for y, row in enumerate(rows):
        for x, (label, picture) in enumerate(row):
            corner = (GAP + x * (SIDE + GAP), GAP + y * (SIDE + LABEL + GAP))
            draw.text(corner, label, fill="black")
            tile = Image.fromarray(picture)
            if tile.size != (SIDE, SIDE):
                tile = tile.resize((SIDE, SIDE), Image.Resampling.BOX)
            image.paste(tile, (corner[0], corner[1] + LABEL))
    return image.quantize(COLOURS, dither=Image.Dither.NONE)


def page() -> str:
    """docs/gallery.md: every family with its picture, every task with its reward in words."""
    lines = ["# Gallery", "", "Made by `python docs/make_gallery.py`. Each row shows what the agent sees"]
    lines += ["while the scripted policy, or random actions where there is none (the humanoid), act on the"]
    lines += ["first target task; `meta-latent tasks NAME` says more."]
    for family, names in families().items():
        lines += ["", f"## {family}", "", f"![{family}](gallery/{family}.png)", ""]
        lines += ["| task | pays |", "|---|---|"]
        for name in names:
            suite = task_suites.get(name)
            lines.append(f"| `{name}` | {suite.describe(first_task(suite))} |")
    lines += ["", "## Any MuJoCo environment", "", f"![HalfCheetah-v5](gallery/{WRAPPED}.png)", ""]
    lines += ["Gymnasium's `HalfCheetah-v5` in `task_suites.MujocoPixels`, with distractors."]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="draw only these anew")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the page")
    arguments = parser.parse_args(argv)
    found = families()
    for family in arguments.families:
        if family not in found:
            parser.error(f"unknown family {family!r} (valid: {', '.join(found)})")
    (arguments.out / "gallery").mkdir(parents=True, exist_ok=True)
    for family in arguments.families or found:
        path = arguments.out / "gallery" / f"{family}.png"
        sheet(rows_of(found[family])).save(path, optimize=True)
        print(path)
    if not arguments.families:
        sheet(wrapped_rows()).save(arguments.out / "gallery" / f"{WRAPPED}.png", optimize=True)
    (arguments.out / "gallery.md").write_text(page())


if __name__ == "__main__":
    main()
