"""`meta-latent tasks [NAME [key=value ...]]`: the task distributions; one of them as its options make it."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import task_suites
from meta_latent.errors import UserError, counted
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.suites import open_distribution
from meta_latent.files import expanded
from task_suites import gallery, make_references
from task_suites.distribution import SPLITS
from task_suites.values import whole

_PIXELS, _FRAMES = 128, 6


def run(name: str | None, tag: str | None, overrides: Sequence[str]) -> int:
    """Print the names with `tag`, or show `name` with the options that `overrides` give it.

    overrides: `picture=PATH` is where the picture goes, `references=50` measures over so many episodes of each
    split what sets a scale, `imports=[package]` has been done already, all else goes to `task_suites.get`. Raises
    UserError for an unknown name or a key without a name, SuiteError for a wrong option.
    """
    options = dict(config.parse_override(override) for override in overrides)
    options.pop("imports", None)
    if name is None:
        for key in options:
            raise UserError(f"{key}= needs the NAME of one task distribution; alone go --tag and imports=")
        print("\n".join(task_suites.names(tag)))
        return 0
    if tag is not None:
        raise UserError(f"--tag lists task distributions: leave it out to show {name!r}")
    picture, episodes = options.pop("picture", None), options.pop("references", None)
    if episodes is not None:
        print(measured(open_distribution(name, options), whole(episodes, "references", 1)))
        return 0
    show(name, options, None if picture is None else str(picture))
    return 0


def measured(suite: task_suites.TaskDistribution, episodes: int) -> str:
    """Return lines about what random actions, doing nothing and the script earn in about `episodes` each of the train
    and of the test tasks, whose floors may differ, each reward for itself.

    For tasks of users also the line that makes these score 0 and 1 on the test tasks, which evaluations play.
    """
    lines, means = [], {}
    rewards = list(dict.fromkeys(task.reward.name for split in SPLITS for task in suite.tasks(split)))
    for split, reward in itertools.product(SPLITS, rewards):
        tasks = [task for task in suite.tasks(split) if task.reward.name == reward]
        if not tasks:
            continue
        found = make_references.mean_returns(suite, episodes, tasks)
        means[reward] = {name: float(np.mean(returns)) for name, returns in found.items()}
        count, paid = len(found["random"]), f", reward {reward!r}" * (len(rewards) > 1)
        lines.append(f"raw return{paid}, mean over {split} tasks ({count}) and episodes ({max(1, episodes // count)} "
                     "each) (lowest to highest task)")  # fmt: skip
        for name, returns in found.items():
            lines.append(f"{name + ':':13} {means[reward][name]:.4g} ({min(returns):.4g} to {max(returns):.4g})")
    if "own" not in task_suites.tags(suite.name):
        return "\n".join(lines)
    if any("scripted" not in earned for earned in means.values()):
        lines.append("no script:    give scripted=, or put the return of a good policy in place of GOOD")
    for reward, earned in means.items():
        scale = _scale(earned)
        if scale is None:
            pasted = "nothing: the script earns no more than random actions or doing nothing"
        else:
            pasted = f"references={scale}" if len(means) == 1 else f'"references": {scale}'
        where = "" if len(means) == 1 else f"   in each entry with the reward {reward!r}"
        lines.append(f"to paste:     {pasted}{where}")
    return "\n".join(lines)


def _scale(earned: Mapping[str, float]) -> str | None:
    """The raw returns that are to score 0 and 1, as Python; None where the script earns no more than its floor."""
    floor, best = max(earned["random"], earned["nothing"]), earned.get("scripted")
    if best is None:
        return f"({floor:.6g}, GOOD)"
    return f"({floor:.6g}, {best:.6g})" if best > floor else None


def show(name: str, options: dict[str, Any], picture: str | None = None) -> None:
    """Print what the distribution `name` is; its picture goes to the file `picture`, or to a terminal."""
    suite = open_distribution(name, options)
    print(describe(suite, options))
    if picture is None and not sys.stdout.isatty():
        print("picture:      picture=FILE.png writes one")
        return
    suite = gallery.open_large(name, _PIXELS, **options)
    task = suite.sample("test" if suite.tasks("test") else "train", 1, seed=0)[0]
    frames = gallery.film(suite, task)
    if frames[0].ndim != 3:
        print("picture:      none: it shows no pictures and renders none")
        return
    if picture is None:
        print(blocks(frames[len(frames) // 2]))
        return
    chosen = np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)
    path = Path(expanded(picture))
    try:
        from PIL import Image

        times = -(-_PIXELS // frames[0].shape[0])  # whole, so that pixels stay what they are
        Image.fromarray(np.concatenate([frames[i] for i in chosen], 1).repeat(times, 0).repeat(times, 1)).save(path)
    except (OSError, ValueError) as error:
        raise UserError(f"picture={picture}: {error}") from error
    print(f"picture:      {path}, one episode from left to right")


def describe(suite: task_suites.TaskDistribution, options: Mapping[str, Any]) -> str:
    """Return several lines about a distribution opened with `options`: spaces, tasks, rewards, scale."""
    name = suite.name
    lines = [
        ("name", name),
        ("tags", ", ".join(task_suites.tags(name))),
        ("gymnasium", task_suites.gymnasium_id(name)),
        ("options", _options(suite, options)),
        ("episode", counted(suite.max_episode_steps, "step")),
        ("action", f"{counted(suite.action_space.shape[0], 'number')} in [-1, 1]"),
    ]
    for key, space in suite.observation_space.items():
        lines.append(("observation", f"{key} {space.dtype} {space.shape}"))
    lines.append(("inputs", ", ".join(suite.reward_input_names)))
    for split in ("train", "test"):
        tasks = suite.tasks(split)
        lines.append((split, counted(len(tasks), "task")))
        if tasks:
            (first,) = suite.sample(split, 1, seed=0)  # that of index 0 in an experiment
            lines.append(("reward" if len(tasks) == 1 else "first reward", suite.describe(first)))
            if first.dynamics:
                lines.append(("dynamics" if len(tasks) == 1 else "its dynamics", first.dynamics.in_words()))
            scale = suite.references(first)
            if scale is not None:
                lines.append(("scale", f"returns {scale[0]:.4g} (score 0) to {scale[1]:.4g} (score 1)"))
    shown = ", ".join(task_suites.DISTRACTOR_NAMES) if suite.shows_distractors else "none"
    lines.append(("distractors", shown))
    return "\n".join(f"{key + ':':13} {value}" for key, value in lines)


def _options(suite: task_suites.TaskDistribution, given: Mapping[str, Any]) -> str:
    """The options with their present values: as the suite tells, else as given, else their defaults."""
    present = {**task_suites.options_of(suite.name), **given, **suite.options}
    known = task_suites.options_of(suite.name)
    return ", ".join(f"{key}={json.dumps(present[key], default=str)}" for key in known) or "none"


def blocks(picture: np.ndarray, columns: int = 64) -> str:
    """Return a picture (H, W, 3) as half blocks, `columns` wide, for a terminal with 24-bit colour."""
    height, width = picture.shape[:2]
    rows = max(2, round(columns * height / width) // 2 * 2)
    small = picture[np.arange(rows) * height // rows][:, np.arange(columns) * width // columns]
    lines = []
    for upper, lower in zip(small[::2].tolist(), small[1::2].tolist(), strict=True):
        cells = (
            f"\x1b[38;2;{a};{b};{c}m\x1b[48;2;{d};{e};{f}m▀" for (a, b, c), (d, e, f) in zip(upper, lower, strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)
