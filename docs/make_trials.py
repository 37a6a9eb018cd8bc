"""Copies what runs on trials of many tasks found into docs/results/: `python docs/make_trials.py runs/NAME`.

Runs that are not finished are left out. Writes NAME.json (commands, seeds, versions, commits; per target and arm the
budget, every seed's learning curve and what its last evaluations found per episode of a trial, beside the scripted
optimum) and NAME.png.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from make_results import FORMAT, provenance

from meta_latent.experiment.report.sources import Cell, read_run

RESULTS = Path(__file__).resolve().parent / "results"
LAST = 3
"""Evaluations at a run's end whose mean is what the run found: a single one is noisy."""
COLOURS = ("#1b6ca8", "#c2571a", "#3a7d44", "#7b4fa3", "#8c8c8c", "#a8891b")


def evaluations(cell: Cell) -> list[dict]:
    """Its evaluations, in order."""
    records = (json.loads(line) for line in (cell.path / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == "evaluation"]


def found(cells: list[Cell]) -> dict:
    """What one arm reached on one target: a list entry per seed."""
    runs = [evaluations(cell) for cell in cells]
    last = {name: [np.mean([e[name] for e in run[-LAST:]], 0).round(4).tolist() for run in runs]
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
        "curve": [[[e[cells[0].facts["clock"]], round(e["score"], 4)] for e in run] for run in runs],
    }


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


def picture(targets: dict) -> plt.Figure:
    """Per target: score against steps (bold the median of seeds), and return per episode of the trial at the end."""
    figure, axes = plt.subplots(len(targets), 2, figsize=(11, 3.6 * len(targets)), squeeze=False, layout="constrained")
    arms = dict.fromkeys(arm for target in targets.values() for arm in target["arms"])
    colours = dict(zip(arms, COLOURS, strict=False))
    for (name, target), (left, right) in zip(targets.items(), axes, strict=True):
        for arm, entry in target["arms"].items():
            _curves(left, entry, colours[arm], arm)
            _episodes(right, entry, colours[arm], arm)
        if target["scripted_optimum"] is not None:
            left.axhline(1.0, color="black", lw=0.8, ls=":")
            right.axhline(target["scripted_optimum"], color="black", lw=0.8, ls=":", label="scripted optimum")
        left.set(title=f"{name}: a trial's last episode, unseen tasks", xlabel="environment steps",
                 xscale=_scale(target), ylabel="return" if target["scripted_optimum"] is None else
                 "score (1: scripted optimum)")  # fmt: skip
        right.set(title=f"{name}: at the end", xlabel="episode of the trial", ylabel="return",
                  xticks=range(1, target["episodes_per_trial"] + 1))  # fmt: skip
        right.set_xlim(0.7, target["episodes_per_trial"] + 0.3)
        right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _scale(target: dict) -> str:
    """Logarithmic where budgets are far apart."""
    budgets = [entry["curve"][0][-1][0] for entry in target["arms"].values()]
    return "log" if max(budgets) > 3 * min(budgets) else "linear"


def _curves(axes: plt.Axes, entry: dict, colour: str, arm: str) -> None:
    curves = [np.array(curve) for curve in entry["curve"]]
    for steps, score in (curve.T for curve in curves):
        axes.plot(steps, score, color=colour, lw=0.7, alpha=0.4)
    steps = np.geomspace(max(c[0, 0] for c in curves), min(c[-1, 0] for c in curves), 80)
    axes.plot(steps, np.median([np.interp(steps, *c.T) for c in curves], 0), color=colour, lw=2, label=arm)


def _episodes(axes: plt.Axes, entry: dict, colour: str, arm: str) -> None:
    returns = np.array(entry["returns_by_episode"])
    numbers = np.arange(1, returns.shape[1] + 1)
    axes.plot(numbers, returns.T, color=colour, lw=0.7, alpha=0.4)
    axes.plot(numbers, np.median(returns, 0), color=colour, lw=2, marker="o", label=arm)


def main(folder: Path, target: Path) -> None:
    """Write TARGET.json and TARGET.png."""
    facts, image = facts_of(folder, target.name), target.with_suffix(".png")
    picture(facts["report"]["targets"]).savefig(image, dpi=110)
    facts["picture_sha256"] = hashlib.sha256(image.read_bytes()).hexdigest()
    target.with_suffix(".json").write_text(json.dumps(facts) + "\n")
    print(f"{target.with_suffix('.json')} and {image}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    source = Path(sys.argv[1])
    main(source, Path(sys.argv[2]) if len(sys.argv) > 2 else RESULTS / source.name)
