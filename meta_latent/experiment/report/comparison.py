"""Several runs on one page: curves of each arm side by side, one table, and what differs between the runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meta_latent import files
from meta_latent.errors import UserError
from meta_latent.experiment.report.figures import curve_figures, drawing, media
from meta_latent.experiment.report.figures.pictures import score_name, slug
from meta_latent.experiment.report.gain import MEANING, gain_points, tells_of_amounts, write_gain
from meta_latent.experiment.report.page import tables
from meta_latent.experiment.report.reading import settings_shown
from meta_latent.experiment.report.reading.sources import Cell, Run, read_run
from meta_latent.experiment.report.statistics.analysis import analyse, plain
from meta_latent.experiment.report.statistics.numbers import Bootstrap, claim, level, success_curves
from meta_latent.experiment.report.words import lead, provenance, text
from meta_latent.experiment.report.words.summary import environment
from meta_latent.experiment.report.words.text import CLOCKS, NOTHING, count, interval, score
from meta_latent.ops.learning_curve import Curve

FILE = "comparison.html"
MEASURED = ("clock", "floor", "reference", "episodes_per_trial")
"""Of a target: where these are equal, scores and steps are the same quantities."""


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the runs: its name on the page, its index into STYLES, what it holds and what was made of that."""

    name: str
    style: int
    run: Run
    report: dict[str, Any]

    def cells(self, target: str, arm: str) -> list[Cell]:
        """The runs of an arm on a target that its numbers were made of."""
        clock = self.report["targets"][target]["clock"]
        return [c for c in self.run.cells if (c.target, c.arm, c.clock) == (target, arm, clock) and c.curve]

    def arms(self, target: str) -> dict[str, Any]:
        """Its arms on a target; {} where it has none."""
        return self.report["targets"].get(target, {}).get("arms", {})


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` has written: the page, and a picture of the gain, where the runs differ in pretraining."""

    sides: list[Side]
    page: Path
    gain: Path | None


def compare(
    folders: Sequence[Path], out: Path | None = None, thresholds: Sequence[float] = (), draw: Bootstrap | None = None
) -> Comparison:
    """Write one page of several runs into ``out`` (None: the first one's report/), with the gain against pretraining
    where they differ in that. Raises UserError for a folder without runs, and where nothing can be written.
    """
    own, draw = folders[0] / "report", draw or Bootstrap()
    out = out or own
    if out == own:
        files.refuse_links(out, folders[0])
    runs = [read_run(folder) for folder in folders]
    for folder in (folder for folder, run in zip(folders, runs, strict=True) if not run.cells):
        raise UserError(f"{folder} holds no runs to compare: expected transfer/TARGET/ALGORITHM/START/SEED in it")
    found, points = sides(runs, draw, thresholds), gain_points(runs, draw, thresholds)
    gain = write_gain(points, folders, out) if tells_of_amounts(points) else None
    return Comparison(found, write(found, out, draw, gain), gain)


def names_of(paths: Sequence[Path]) -> list[str]:
    """A name for each run: its folder's, with as many folders above it as tell all apart."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-length:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"report: {paths[0]} is named twice: name each run once")


def sides(runs: Sequence[Run], draw: Bootstrap, thresholds: Sequence[float] = ()) -> list[Side]:
    """The runs analysed, each in a colour of its own."""
    names = names_of([run.path for run in runs])
    return [
        Side(name, k % len(drawing.STYLES), run, analyse(run, draw, thresholds))
        for k, (name, run) in enumerate(zip(names, runs, strict=True))
    ]


def write(found: Sequence[Side], folder: Path, draw: Bootstrap, gain: Path | None = None) -> Path:
    """Write the page into ``folder``; returns its path. ``gain``: a picture to show as well. Raises UserError where it
    cannot be written.
    """
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.atomic_write_bytes(path, render(found, draw, folder, gain).encode(errors="replace"))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def render(found: Sequence[Side], draw: Bootstrap, folder: Path, gain: Path | None = None) -> str:
    """The page as text, to lie in ``folder``."""
    targets = list(dict.fromkeys(name for side in found for name in side.report["targets"]))
    runs = [
        {"name": side.name, "style": str(side.style), "lead": lead.sentence(side.report),
         "page": media.link(side.run.path / "report.html", folder), "facts": _facts(side)}
        for side in found
    ]  # fmt: skip
    return environment().get_template("comparison.html").render(
        runs=runs,
        targets=[_target(found, name, draw) for name in targets],
        settings=settings_shown.between_runs([side.run for side in found], [side.name for side in found]),
        facts={"heads": [run["name"] for run in runs],
               "rows": settings_shown.differing({run["name"]: run["facts"] for run in runs})},
        gain=media.data_uri(gain, "image/png") if gain else "", gain_meaning=MEANING,
        styles=drawing.STYLES,
    )  # fmt: skip


def _facts(side: Side) -> dict[str, str]:
    """Where a run's numbers come from, and what its pretraining cost."""
    told, cost = provenance.of_run(side.run), side.report["pretraining"]
    found = {"folder": os.fspath(side.run.path), "date": " to ".join(told["dates"]), "seeds": ", ".join(told["seeds"]),
             "machine": "; ".join(told["machines"]), "commit": ", ".join(told["commits"])}  # fmt: skip
    for key in ("env_steps", "updates"):
        found[f"pretraining, {key}"] = count(cost[key]) if cost else NOTHING
    return found | dict(told["versions"])


def _target(found: Sequence[Side], name: str, draw: Bootstrap) -> dict[str, Any]:
    """What the template shows of one target: per arm its figures and a row per run, threshold by threshold."""
    own = [side for side in found if side.arms(name)]
    target, arms = own[0].report["targets"][name], dict.fromkeys(arm for side in own for arm in side.arms(name))
    clock = target["clock"]
    alike = [side for side in own if side.report["targets"][name]["clock"] == clock]
    thresholds = sorted({at for side in own for at in side.report["targets"][name]["thresholds"]})
    unit = tables.time_unit(entry for side in own for entry in side.arms(name).values())
    rows = [
        {"arm": arm, "rows": _rows([side for side in own if arm in side.arms(name)], name, arm, thresholds, unit, draw)}
        for arm in arms
    ]
    return {
        "name": name, "anchor": f"target-{slug(name)}", "clock": CLOCKS[clock], "arms": rows,
        "unit": unit.name,
        "shared": any(len(group["rows"]) > 1 for group in rows),
        "paired": any("base" in entry for side in own for entry in side.arms(name).values()),
        "thresholds": [text.threshold(at) for at in thresholds],
        "score": score_name(target), "plots": _plots(alike, name, target, thresholds, draw),
    }  # fmt: skip


def _rows(
    found: Sequence[Side], target: str, arm: str, thresholds: Sequence[float], unit: text.Unit, draw: Bootstrap
) -> list[dict[str, Any]]:
    """A row per run that has the arm, each after the first set against it: how many times faster its runs arrived."""
    rows = [_row(side, target, arm, thresholds, unit) for side in found]
    first = found[0].report["targets"][target]
    base = [cell.curve for cell in found[0].cells(target, arm)]
    for side, row in zip(found, rows, strict=True):
        own = [cell.curve for cell in side.cells(target, arm)]
        measured = side.report["targets"][target]
        alike = side is not found[0] and all(measured.get(key) == first.get(key) for key in MEASURED)
        names, clock = (target, arm, side.name), first["clock"]
        row["against"] = [
            text.claim(plain(claim(own, base, at, clock, draw, (*names, level(at))))) if alike else (NOTHING, "")
            for at in thresholds
        ]
    return rows


def _row(side: Side, target: str, arm: str, thresholds: Sequence[float], unit: text.Unit) -> dict[str, Any]:
    """One run of an arm; of thresholds that its report does not ask for nothing is known."""
    entry = side.arms(target)[arm]
    medians, intervals = entry["medians"], entry["intervals"]

    def time(key: str, at: float, show) -> tuple[str, str]:
        place = level(at)
        return text.median(medians[key].get(place), show), interval(intervals[key].get(place), show)

    return {
        "name": side.name, "style": str(side.style), "seeds": str(len(entry["seeds"])),
        "times": [(*time("steps_to_thresholds", at, count), *time("seconds_to_thresholds", at, unit.show),
                   f"{entry['reached'].get(level(at), NOTHING)} / {len(entry['seeds'])}",
                   text.claim(entry["speedup"].get(level(at), {}).get(entry.get("base"), {}))) for at in thresholds],
        "final": (score(entry["final_score_iqm"]), interval(intervals["final_score"])),
        "success": text.percent(entry["final_success_iqm"]), "raw": score(entry["final_raw_return_iqm"]),
    }  # fmt: skip


def _plots(
    found: Sequence[Side], name: str, target: dict[str, Any], thresholds: Sequence[float], draw: Bootstrap
) -> list[dict[str, Any]]:
    """Per quantity its title and a small figure per arm, in which each run has its colour; all in one frame."""
    arms, clock = dict.fromkeys(arm for side in found for arm in side.arms(name)), target["clock"]
    shown = []
    for title, marks, curves in (("Score", thresholds, lambda cells: [c.curve for c in cells]),
                                 ("Success", (), success_curves)):  # fmt: skip
        groups = {arm: _lines(found, name, arm, curves) for arm in arms}
        drawn = [line for lines in groups.values() for line in lines]
        if not drawn:
            continue
        frame = curve_figures.frame_of(drawn, clock, title.lower(), title == "Score" and target["normalised"], marks)
        if title == "Success":
            frame = dataclasses.replace(frame, limits=(-0.04, 1.04))
        panels = [
            {"arm": arm, "label": f"{title} of {arm} on {name} in {', '.join(line.name for line in lines)}",
             "svg": drawing.inline_svg(
                 curve_figures.learning_curves(lines, marks, frame, draw.rng(name, arm, title)),
                 f"{title}{k}-{slug(name)}")}
            for k, (arm, lines) in enumerate(groups.items()) if lines
        ]  # fmt: skip
        shown.append({"title": f"{title} against {CLOCKS[clock]}", "panels": panels})
    return shown


def _lines(found: Sequence[Side], name: str, arm: str, curves) -> list[curve_figures.ArmCurves]:
    groups: list[tuple[Side, list[Curve]]] = [(s, curves(s.cells(name, arm))) for s in found if arm in s.arms(name)]
    return [curve_figures.ArmCurves(side.name, side.style, tuple(own)) for side, own in groups if own]
