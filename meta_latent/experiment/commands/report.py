"""The report of a run: ``report.json`` (numbers), ``report.html`` (one self-contained page) and
``report/*.png``.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meta_latent.errors import UserError
from meta_latent.experiment.report import figures, page
from meta_latent.experiment.report.numbers import Bootstrap, analyse, plain
from meta_latent.experiment.report.sources import Cell, Run, read_run
from meta_latent.experiment.runs.run_folder import CONFIG
from meta_latent.experiment.settings import config
from meta_latent.files import atomic_write_bytes
from meta_latent.ops import learning_speed as ls

RUNS = Path("runs")
GAIN = "gain_against_pretraining"


def build(path: str | Path, *, resamples: int = ls.RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Write report.json, report.html and report/*.png into run folder ``path``; returns the content of
    report.json.

    ``resamples``, ``seed``: of the bootstrap. Raises UserError when ``path`` is no folder or holds no runs.
    """
    path, draw = Path(path), Bootstrap(resamples, seed)
    if not path.is_dir():
        raise UserError(f"{path} is not a folder")
    run = read_run(path)
    if not run.cells and not run.pretraining:
        raise UserError(
            f"{path} holds no runs: expected transfer/TARGET/ALGORITHM/START/SEED or pretrain/SEED in it"
        )
    result = analyse(run, draw)
    result["summary"] = page.summary(result)
    atomic_write_bytes(path / "report.json", json.dumps(result, indent=1, allow_nan=False).encode())
    atomic_write_bytes(path / "report.html", page.render(run, result, draw).encode())
    return result


def find(name: str | Path) -> Path:
    """The run folder called ``name``: a path to it or to a part of it, or a run under runs/.

    Raises UserError naming the nearest run.
    """
    for path in (Path(name), RUNS / name):
        if path.is_dir():
            whole = (p for p in path.parents if path.relative_to(p).parts[0] in ("transfer", "pretrain"))
            return next(whole, path)
    runs = [p.name for p in RUNS.iterdir() if p.is_dir()] if RUNS.is_dir() else []
    near = difflib.get_close_matches(str(name), runs, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"runs here: {', '.join(sorted(runs)) or 'none'}"
    raise UserError(f"no run called {str(name)!r} under {RUNS}/ and no such folder; {hint}")


def _options(overrides: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {"resamples": ls.RESAMPLES, "seed": 0, "out": ""}
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in options:
            near = difflib.get_close_matches(key, options, n=1) or sorted(options)
            raise UserError(f"report: unknown option {key!r}; did you mean {' or '.join(near)}?")
        if key != "out" and not (value.isdigit() and (key == "seed" or int(value) >= 10)):
            raise UserError(
                f"report: {key}={value!r} should be a whole number" + (" >= 10" if key == "resamples" else "")
            )
        options[key] = value if key == "out" else int(value)
    return options


def with_scratch(runs: Sequence[Run]) -> list[Run]:
    """The runs, each with the scratch arms that its targets lack, from the first run that has them: those do
    not depend on pretraining. Only runs of the same task and settings lend to each other.
    """
    lenders: dict[tuple, list[Cell]] = {}
    for run in runs:
        own: dict[tuple, list[Cell]] = {}
        for cell in run.cells:
            if cell.arm.endswith("/scratch"):
                own.setdefault((*_terms(cell), cell.arm), []).append(cell)
        lenders = own | lenders
    whole = []
    for run in runs:
        wanted, present = {_terms(c) for c in run.cells}, {(c.target, c.arm) for c in run.cells}
        lent = [
            cell
            for (*known, arm), cells in lenders.items()
            if tuple(known) in wanted and (known[0], arm) not in present
            for cell in cells
        ]
        whole.append(dataclasses.replace(run, cells=(*run.cells, *lent)))
    return whole


def _terms(cell: Cell) -> tuple:
    """Target, threshold, references and settings of a cell, but for its arm's own: what cells must share to
    be compared.
    """
    try:
        stored = config.read_yaml(cell.path / CONFIG)
    except UserError:
        stored = {}
    settings = {key: stored.get(key) for key in ("task", "suite", "random")}
    settings |= {k: v for k, v in (stored.get("transfer") or {}).items() if k != "budget_env_steps"}
    facts = (cell.facts.get(key) for key in ("threshold", "floor", "reference"))
    return (cell.target, *facts, json.dumps(settings, sort_keys=True))


def gain_points(runs: Sequence[Run], draw: Bootstrap) -> list[figures.GainPoint]:
    """The primary pair's speed-up per target of several runs, against how much pretraining each had."""
    points = []
    for report in (analyse(run, draw) for run in with_scratch(runs)):
        if not report["primary_pair"] or not report["pretraining"]:
            continue
        arm, base = report["primary_pair"]
        for name, target in report["targets"].items():
            claim = target["arms"].get(arm, {}).get("speedup", {}).get(base)
            if claim:
                low, high = claim["interval"] or (0.0, None)
                ratio = ls.Ratio(
                    claim["ratio"], claim["lower_bound"], (low, math.inf if high is None else high)
                )
                points.append(figures.GainPoint(report["pretraining"]["env_steps"], name, ratio))
    return points


def run(*names: str | Path | Sequence[str | Path], overrides: Sequence[str] = ()) -> None:
    """Command ``meta-latent report NAME... [resamples=N] [seed=N] [out=FOLDER]``; prints what was written.

    ``names``: runs or paths, one by one or as a list; a ``key=value`` among them is an override, unless
    a folder is called so. With several runs, each gets its page, and ``out`` (default: the first run's
    report/) gets ``gain_against_pretraining.png`` and ``.json``: speed-up against amount of pretraining. A
    run without a scratch arm is compared with that of another run (see ``with_scratch``). Raises UserError.
    """
    given = [n for name in names for n in ([name] if isinstance(name, str | Path) else name)]
    options_given = [str(n) for n in given if "=" in str(n) and not Path(n).is_dir()]
    options = _options([*options_given, *overrides])
    folders = [find(name) for name in given if str(name) not in options_given]
    if not folders:
        raise UserError("report: name at least one run, or a path to a run folder")
    for folder in folders:
        report = build(folder, resamples=options["resamples"], seed=options["seed"])
        print(f"{folder / 'report.html'}: {report['summary']}")
    draw = Bootstrap(options["resamples"], options["seed"])
    points = gain_points([read_run(folder) for folder in folders], draw) if len(folders) > 1 else []
    if len({point.pretraining_env_steps for point in points}) > 1:
        path = (Path(options["out"]) if options["out"] else folders[0] / "report") / f"{GAIN}.png"
        figures.save_png(figures.gain_against_pretraining(points), path)
        found = {"runs": [str(folder) for folder in folders], "points": list(map(dataclasses.asdict, points))}
        atomic_write_bytes(path.with_suffix(".json"), json.dumps(plain(found), indent=1).encode())
        print(f"{path}: speed-up against the amount of pretraining, {len(folders)} runs")
    elif options["out"]:
        raise UserError("report: out= takes the comparison of differently pretrained runs; there is none")
