"""`meta-latent adapt NAME target=...` or `adapt runs/NAME/transfer/TARGET/...`: what trained agents make of trials.

They play trials of the test tasks, of more episodes than they learned with if asked; nothing is learned, and nothing
in their run folders changes.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from meta_latent import ranges
from meta_latent.errors import counted
from meta_latent.experiment.learning import adaptation, selected
from meta_latent.experiment.learning.adaptation import AdaptOptions
from meta_latent.experiment.learning.selected import Selected
from meta_latent.experiment.report.figures import drawing, trial_figures
from meta_latent.experiment.report.figures.pictures import slug
from meta_latent.experiment.report.reading import adaptations
from meta_latent.experiment.report.statistics.numbers import Bootstrap
from meta_latent.experiment.runs import run_folder
from meta_latent.experiment.settings import config, names
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.files import atomic_write_bytes, expanded, refuse_links, to_json
from meta_latent.ops import learning_speed as ls


@dataclass(frozen=True)
class AdaptConfig(AdaptOptions, ExperimentConfig):
    """An experiment and how to play the agents that it trained; `target`, `arm` and `run_seed` say which."""


@dataclass(frozen=True)
class FolderConfig(AdaptOptions):
    """How to play the agents in a folder; `target`, `arm` and `run_seed` say which of them.

    Attributes:
        device: of the networks. imports: packages that register more tasks and algorithms.
    """

    target: str | None = None
    arm: str | None = None
    run_seed: int | None = ranges.seed(None)
    device: str = names.device("cpu")
    imports: tuple[str, ...] = ranges.items(may_be_empty=True, may_repeat=True)


@dataclass(frozen=True)
class Result:
    """What was played: numbers (see `report.adaptations.numbers`), what to know before believing them, files written,
    adaptation.json first.
    """

    numbers: Mapping[str, Any]
    warnings: tuple[str, ...]
    files: tuple[Path, ...]

    def table(self) -> str:
        """Raw return, score and success, as far as they are known, with their 95 % intervals, per episode of the trial,
        arms side by side.
        """
        lines = self.numbers["lines"]
        places = adaptations.moments(any(line["adapts"] for line in lines), self.numbers["episodes"])
        rows = [["", *(line["label"] for line in lines)], ["", *(_seeds(line["seeds"]) for line in lines)]]
        for key, name in (("returns", "raw return"), ("score", "score"), ("success", "success")):
            if all(line[key] for line in lines):
                rows += [[f"{name}, {place}", *(_shown(line[key][e]) for line in lines)]
                         for e, place in enumerate(places)]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    def text(self) -> str:
        """The table, what it is a table of, warnings and files."""
        told = self.numbers
        played, usual = told["episodes"], told["episodes_per_trial"]
        course, learned = f"{counted(played, 'episode')} a trial", f" (learned with {usual})"
        if told["adapts"]:
            course, learned = counted(played - 1, "adaptation step"), f" (evaluated with {usual - 1})"
        size = f"{counted(told['test_tasks'], 'test task')}, {counted(told['trials'], 'trial')} of each"
        head = (
            f"{told['target']}: {size}, "
            f"{course}{learned if played != usual else ''}; [95 % intervals over seeds and test tasks]"
        )
        return "\n".join([head, self.table(), *self.warnings, *map(str, self.files)])


def run(name: str, overrides: list[str]) -> None:
    """Play the agents of the experiment or folder `name`, with `overrides`; prints a table and what was written."""
    path = Path(name := expanded(name))
    if path.is_dir() and ("/" in name or (path / "transfer").is_dir()):
        options = config.load(FolderConfig, [], overrides)
        chosen = selected.of_folder(path, options, options.device)
    else:
        options = config.load(AdaptConfig, [config.find("experiment", name)], overrides)
        chosen = selected.of_experiment(options)
    print(adapt(chosen, options).text())


def adapt(chosen: Selected, options: AdaptOptions) -> Result:
    """Play the chosen cells and write adaptation.json, figures, maps and videos into runs/NAME/adapt/, in place of what
    earlier calls wrote.

    Raises UserError where another process does the same, or nothing can be written there; UserError, RunError: see
    `learning.adaptation.played`.
    """
    folder = chosen.root / adaptations.FOLDER
    refuse_links(folder, chosen.root)
    with run_folder.held(folder):
        return _adapt(chosen, options, folder)


def _adapt(chosen: Selected, options: AdaptOptions, folder: Path) -> Result:
    arms: dict[str, Any] = {}
    videos: list[Path] = []
    for cell in tqdm(chosen.cells, unit="agent", disable=None, leave=False):
        own = arms.setdefault(str(cell.arm), {"inspects": dict(cell.arm.entry.inspects),
                                               "adapts": cell.arm.entry.adapts, "seeds": {}})  # fmt: skip
        films = folder.joinpath(cell.target.name, cell.arm.algorithm, cell.arm.start, str(cell.seed))
        asked = dataclasses.replace(options, maps=0) if own["seeds"] else options
        own["seeds"][str(cell.seed)], filmed = adaptation.played(cell, asked, films)
        videos += filmed
    content = {"format": adaptations.FORMAT, **adaptation.facts_of(chosen.cells[0], options), "command": sys.argv,
               "commit": run_folder.commit(), "versions": run_folder.versions(), "arms": arms}  # fmt: skip
    path = folder.joinpath(*chosen.place, adaptations.FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, to_json(content))
    written = adaptations.of(content, path)
    told = adaptations.numbers(written, Bootstrap())
    adaptation.remove(path.parent, trial_figures.FILES)
    pictures = [
        drawing.save_png(figure, path.with_name(f"{slug(kind)}.png"))
        for kind, figure, _ in trial_figures.figures_of(written, told, drawing.assign_styles(list(arms)))
    ]
    return Result(told, tuple(_warnings(arms)), (path, *pictures, *videos))


def _warnings(arms: Mapping[str, Any]) -> list[str]:
    """Runs that are not finished, and arms with few seeds."""
    found = []
    for arm, entry in arms.items():
        found += [f"{arm} seed {seed} is not finished ({measured['status'] or 'unknown'}): its last checkpoint was "
                  f"played, after {measured['updates']:,} updates."
                  for seed, measured in entry["seeds"].items() if measured["status"] != "done"]  # fmt: skip
        found.append(ls.few_seeds_warning(len(entry["seeds"]), arm))
    return [text for text in found if text]


def _seeds(seeds: list[str]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"


def _shown(entry: Mapping[str, Any]) -> str:
    ends = "" if entry["interval"] is None else "  [{:.2f}, {:.2f}]".format(*entry["interval"])
    return f"{entry['mean']:.2f}{ends}"
