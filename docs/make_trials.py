"""Copies what runs on trials of many tasks found into docs/results/: `python docs/make_trials.py runs/NAME`.
`python docs/make_trials.py docs/results/NAME.json` draws its picture again.

Runs that are not finished are left out. Writes NAME.json (commands, seeds, versions, commits; per target and arm the
budget, every seed's learning curve and what its last evaluations found per episode of a trial, or before and after each
adaptation step, beside the scripted optimum), NAME.png, and what pages of docs/ show of it, made from
NAME.json alone: `<!-- trials:NAME -->` (the picture, and where it is from) and `<!-- trials:NAME/TARGET -->` (a table).
A test holds them together.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
from make_results import FORMAT, README, committed, made_by, provenance, put
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from meta_latent.algorithms.registry import Arm
from meta_latent.experiment.report.figures.drawing import (
    MUTED,
    STYLES,
    assign_styles,
    logarithmic,
    save_png,
    short,
    styled,
)
from meta_latent.experiment.report.reading.adaptations import moments
from meta_latent.experiment.report.reading.sources import Cell, read_run
from meta_latent.files import to_json

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "results"
PAGES = (README, *sorted(DOCS.glob("*.md")), RESULTS / "README.md")
"""What may hold blocks."""
LAST = 3
"""Evaluations at a run's end whose mean is what the run found: a single one is noisy."""


def evaluations(cell: Cell) -> list[dict]:
    """Its evaluations, in order."""
    records = (json.loads(line) for line in (cell.path / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == "evaluation"]


def found(cells: list[Cell]) -> dict:
    """What one arm reached on one target: a list entry per seed."""
    runs = [evaluations(cell) for cell in cells]
    last = {name: [np.mean(np.array([e[name] for e in run[-LAST:]], float), 0).round(4).tolist() for run in runs]
            for name in ("returns_by_episode", "success_by_episode", "score")}  # fmt: skip
    return {
        "seeds": [int(cell.seed) for cell in cells],
        f"budget_{cells[0].facts['clock']}": cells[0].facts["budget"],
        "seconds": [round(cell.facts["seconds"], 1) for cell in cells],
        "updates": [cell.facts["updates"] for cell in cells],
        "env_steps": [cell.facts["env_steps"] for cell in cells],
        "final_score": last["score"],
        "returns_by_episode": last["returns_by_episode"],
        "success_by_episode": last["success_by_episode"],
        "adapts": _takes_steps(cells[0].arm, cells[0].facts),
        "curve": [[[e[cells[0].facts["clock"]], round(e["score"], 4)] for e in run] for run in runs],
    }


def _takes_steps(arm: str, facts: dict) -> bool:
    """Whether its algorithm adapts; runs and results of before do not say."""
    return facts["adapts"] if "adapts" in facts else Arm.parse(arm).entry.adapts


def facts_of(folder: Path, name: str) -> dict:
    """The content of NAME.json. SystemExit: runs are missing or unfinished."""
    run, targets = read_run(folder), {}
    if not any(cell.status == "done" for cell in run.cells):
        raise SystemExit(f"{folder}: no run is finished")
    run = dataclasses.replace(run, cells=tuple(cell for cell in run.cells if cell.status == "done"))
    for target in dict.fromkeys(cell.target for cell in run.cells):
        own = [cell for cell in run.cells if cell.target == target]
        one = own[0].facts
        targets[target] = {
            "floor": one["floor"],
            "scripted_optimum": one["reference"],
            "episodes_per_trial": one["episodes_per_trial"],
            "test_tasks": one["test_tasks"],
            "evaluation_trials": one["evaluation_episodes"],
            "arms": {arm: found([c for c in own if c.arm == arm]) for arm in dict.fromkeys(c.arm for c in own)},
        }
    report = {"final": f"mean of the last {LAST} evaluations; score of a trial's last episode", "targets": targets}
    return {"format": FORMAT, "name": name, **provenance(run), "report": report}


@styled
def picture(targets: dict) -> Figure:
    """Per target: score against steps (bold the median of seeds), and return per episode of the trial at the end. Arms
    look as they do in reports.
    """
    figure = Figure(figsize=(10, 3.3 * len(targets) + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(targets), 2, squeeze=False)
    styles = assign_styles(list(dict.fromkeys(arm for target in targets.values() for arm in target["arms"])))
    for (name, target), (left, right) in zip(targets.items(), axes, strict=True):
        for side in (left, right):
            side.grid(True, axis="y")
            side.tick_params(length=3)
        for arm, entry in target["arms"].items():
            _curves(left, entry, styles[arm], arm)
        _ends(right, target, styles)
        raw = target["scripted_optimum"] is None
        left.set(title=f"{name}: {_scored(target)}", xlabel="environment steps",
                 ylabel="return" if raw else "score (1: scripted optimum)")  # fmt: skip
        right.set(title=f"{name}: at the end", ylabel="return")
        left.xaxis.set_major_formatter(short)
        if _far_apart(target):
            logarithmic(left)
        if not raw:
            for side, optimum in ((left, 1.0), (right, target["scripted_optimum"])):
                side.axhline(optimum, color=MUTED, linewidth=1.2, linestyle=":", zorder=1, label="scripted optimum")
    labelled = {
        label: line for side in axes.flat for line, label in zip(*side.get_legend_handles_labels(), strict=True)
    }
    figure.legend(labelled.values(), labelled, loc="outside lower center", ncols=4, frameon=False, handlelength=2.6)
    return figure


def _adapts(target: dict) -> bool:
    """Whether trials are told in adaptation steps: any arm takes some."""
    return target["episodes_per_trial"] > 1 and any(_takes_steps(*arm) for arm in target["arms"].items())


def _mixed(target: dict) -> bool:
    """Whether some arms take adaptation steps and others do not."""
    return _adapts(target) and not all(_takes_steps(*arm) for arm in target["arms"].items())


def _scored(target: dict) -> str:
    """What the score of an evaluation is of."""
    if target["episodes_per_trial"] == 1:
        return "learning"
    last = f"after {target['episodes_per_trial'] - 1} adaptation steps" if _adapts(target) else "a trial's last episode"
    return f"{last}, unseen tasks"


def _far_apart(target: dict) -> bool:
    """Whether budgets are."""
    budgets = [entry["curve"][0][-1][0] for entry in target["arms"].values()]
    return max(budgets) > 3 * min(budgets)


def _curves(axes, entry: dict, style: int, arm: str) -> None:
    curves, (colour, _, dashes) = [np.array(curve) for curve in entry["curve"]], STYLES[style]
    for steps, score in (curve.T for curve in curves):
        axes.plot(steps, score, color=colour, linewidth=0.8, alpha=0.4)
    steps = np.geomspace(max(c[0, 0] for c in curves), min(c[-1, 0] for c in curves), 80)
    middle = np.median([np.interp(steps, *c.T) for c in curves], 0)
    axes.plot(steps, middle, color=colour, linewidth=1.8, linestyle=dashes, label=arm)


def _ends(axes, target: dict, styles: dict) -> None:
    """Returns along a trial, marks open where an arm takes none of the steps; of a single episode, arms side by
    side.
    """
    parts, adapts = target["episodes_per_trial"], _adapts(target)
    first = 0 if adapts else 1
    for place, (arm, entry) in enumerate(target["arms"].items()):
        returns, (colour, _, dashes) = np.array(entry["returns_by_episode"]), STYLES[styles[arm]]
        numbers = np.arange(first, first + parts) if parts > 1 else np.array([place])
        thin = {"linewidth": 0.8} if parts > 1 else {"marker": ".", "linestyle": ""}
        fill = "none" if adapts and not _takes_steps(arm, entry) else "full"
        axes.plot(numbers, returns.T, color=colour, alpha=0.4, **thin)
        axes.plot(numbers, np.median(returns, 0), "o", color=colour, linewidth=1.8, linestyle=dashes, fillstyle=fill,
                  markersize=5)  # fmt: skip
    if parts == 1:
        axes.set(xticks=[], xlabel="arms, dots are seeds")
        return
    steps = "adaptation step (open marks: takes none)" if _mixed(target) else "adaptation step"
    axes.set(xlabel=steps if adapts else "episode of the trial", xticks=range(first, first + parts),
             xlim=(first - 0.3, first + parts - 0.7))  # fmt: skip


# Blocks of documents


def block(wanted: str, facts: dict | None, page: Path) -> str:
    """The text of the block NAME or NAME/TARGET on `page`, made from the content of NAME.json; None: there is none."""
    name, _, target = wanted.partition("/")
    if facts is None:
        return (f"No result is committed yet: `meta-latent transfer {name}` and "
                f"`python docs/make_trials.py runs/{name}` make one.")  # fmt: skip
    if target:
        return table(facts["report"]["targets"][target])
    place = os.path.relpath(RESULTS / name, page.parent)
    return "\n".join([f"![Score against environment steps, and what a trial brings at the end]({place}.png)", "",
                      *made_by(facts), f"All numbers: [{name}.json]({place}.json)."])  # fmt: skip


def table(target: dict) -> str:
    """A row per arm: medians over seeds, with the lowest and highest one, of returns by the parts of a trial and of the
    score, unless that is a return; steps and seconds.
    """
    parts = moments(_adapts(target), target["episodes_per_trial"])
    raw = target["scripted_optimum"] is None  # the score is the return after the last part
    scores = [] if raw else ["score"]
    columns = ("arm", "environment steps", *(parts if len(parts) > 1 else ["return"]), *scores, "seconds")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for arm, entry in target["arms"].items():
        returns = [_spread(values) for values in zip(*entry["returns_by_episode"], strict=True)]
        steps, seconds = (f"{np.median(entry[key]):,.0f}" for key in ("env_steps", "seconds"))
        scores = [] if raw else [_spread(entry["final_score"], 2)]
        lines.append(f"| {' | '.join([arm, steps, *returns, *scores, seconds])} |")
    optimum, seeds = target["scripted_optimum"], max(len(entry["seeds"]) for entry in target["arms"].values())
    said = "" if optimum is None else f" The scripted optimum has a return of {optimum:.2f}."
    still = [arm for arm, entry in target["arms"].items() if _adapts(target) and not _takes_steps(arm, entry)]
    said += f" {' and '.join(still)} take no steps: these are the episodes of a trial." if still else ""
    lines += ["", f"Medians of {seeds} seeds [lowest, highest], means of the last {LAST} evaluations.{said}"]
    return "\n".join(lines)


def _spread(values, digits: int = 1) -> str:
    return "{1:.{0}f} [{2:.{0}f}, {3:.{0}f}]".format(digits, np.median(values), min(values), max(values))


def blocks(text: str) -> dict[str, str]:
    """The blocks of a page: name -> content."""
    return dict(re.findall(r"<!-- trials:([\w/]+) -->\n(.*?)\n?<!-- /trials:\1 -->", text, re.DOTALL))


def write_blocks(name: str, facts: dict | None) -> list[Path]:
    """Fill in the blocks of NAME on all pages; those that had any."""
    found = []
    for page in PAGES:
        text = page.read_text()
        own = [wanted for wanted in blocks(text) if wanted.partition("/")[0] == name]
        for wanted in own:
            text = put(text, wanted, block(wanted, facts, page), "trials")
        if own:
            page.write_text(text)
            found.append(page)
    return found


def main(folder: Path, target: Path) -> None:
    """Write TARGET.json and TARGET.png, and the blocks of documents where that is a committed result."""
    write(facts_of(folder, target.name), target)
    pages = write_blocks(target.name, committed(target.name)) if target.parent.resolve() == RESULTS else []
    print(*(target.with_suffix(".json"), target.with_suffix(".png"), *pages), sep="\n")


def write(facts: dict, target: Path) -> None:
    """TARGET.png of these facts, and TARGET.json, which says what picture that is."""
    image = save_png(picture(facts["report"]["targets"]), target.with_suffix(".png"), dpi=120)
    facts = facts | {"picture_sha256": hashlib.sha256(image.read_bytes()).hexdigest()}
    target.with_suffix(".json").write_bytes(to_json(facts) + b"\n")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    source = Path(sys.argv[1])
    if source.suffix == ".json":
        write(json.loads(source.read_text()), source.with_suffix(""))
    else:
        main(source, Path(sys.argv[2]) if len(sys.argv) > 2 else RESULTS / source.name)
