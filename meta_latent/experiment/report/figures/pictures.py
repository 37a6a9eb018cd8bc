"""The figures that a page shows beside its numbers: of each target, of training metrics, of trials and beliefs; all as
inline SVG, so that the page is one file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from meta_latent.experiment.report.figures import (
    belief_figures,
    curve_figures,
    drawing,
    media,
    time_figures,
    trial_figures,
)
from meta_latent.experiment.report.reading import records
from meta_latent.experiment.report.reading.sources import Cell, Run
from meta_latent.experiment.report.statistics.numbers import Bootstrap, level, success_curves
from meta_latent.experiment.report.words.text import CLOCKS
from meta_latent.ops.learning_curve import Curve

LONGEST_SLUG = 80
MOST_TOGETHER = 4
"""Arms whose curves can be told apart in one figure."""


def slug(name: str) -> str:
    """``name`` as a part of file names and ids: itself where it can be one, else with a checksum, so that no
    two names share a slug.
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:LONGEST_SLUG]
    if plain == name:
        return name
    return f"{plain}_{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}".lstrip("_")


def curves_png(folder: Path, name: str, target: dict[str, Any]) -> Path:
    """Where the learning curves of the target ``name`` lie in a run folder, or will."""
    return folder / "report" / f"curves_{target['clock']}_{slug(name)}.png"


def _groups(run: Run, name: str, target: dict[str, Any]) -> dict[str, list[Cell]]:
    """The runs of a target per arm, as its numbers were made of them."""
    cells = [c for c in run.cells if c.target == name and c.curve and c.clock == target["clock"]]
    return {arm: [c for c in cells if c.arm == arm] for arm in target["arms"]}


def _arms(groups: dict[str, Sequence[Curve]], styles: dict[str, int]) -> list[curve_figures.ArmCurves]:
    return [curve_figures.ArmCurves(arm, styles[arm], tuple(curves)) for arm, curves in groups.items() if curves]


def target_figures(
    run: Run, name: str, target: dict[str, Any], styles: dict[str, int], draw: Bootstrap
) -> list[dict[str, Any]]:
    """Figures of one target; each is also written to report/NAME.png. ``svg``: inline SVG, or ``panels``: one for every
    arm where there are more than `MOST_TOGETHER`, which no reader could follow in one figure.
    """
    shown = []
    for plot in _curve_plots(run, name, target, styles, draw):
        figure = plot.whole()
        _save(run, figure, plot.kind, name)
        shown.append(plot.shown(figure, slug(name)))
    others = _number_plots(name, target, styles, draw)
    rows = [row for at in target["thresholds"] for row in time_rows(target, at, styles)]
    if rows:
        figure = time_figures.times_to_threshold(rows, target["clock"])
        label = f"{CLOCKS[target['clock']].capitalize()} to threshold on {name}"
        others.append(("times_to_threshold", figure, label))
    for kind, figure, label in others:
        _save(run, figure, kind, name)
        shown.append({"svg": drawing.inline_svg(figure, f"{kind}-{slug(name)}"), "label": label, "panels": []})
    return shown


def _save(run: Run, figure: Figure, kind: str, name: str) -> None:
    drawing.save_png(figure, run.path / "report" / f"{kind}_{slug(name)}.png")


@dataclass(frozen=True)
class CurvePlot:
    """Curves of some arms in one frame, as one figure or as a small one for each arm."""

    kind: str
    label: str
    arms: Sequence[curve_figures.ArmCurves]
    thresholds: Sequence[float]
    frame: curve_figures.Frame
    draw: Bootstrap

    def whole(self) -> Figure:
        """All arms in one figure."""
        return curve_figures.learning_curves(
            self.arms, self.thresholds, self.frame, self.draw.rng(self.kind, self.label)
        )

    def shown(self, whole: Figure, suffix: str) -> dict[str, Any]:
        """What the page shows of it: ``whole`` or panels; ``suffix`` keeps its ids apart."""
        name = f"{self.kind}-{suffix}"
        if len(self.arms) <= MOST_TOGETHER:
            return {"svg": drawing.inline_svg(whole, name), "label": self.label, "panels": []}
        panels = [
            {"arm": arm.name, "style": str(arm.style), "label": f"{self.label}: {arm.name}",
             "svg": drawing.inline_svg(self._panel(arm), f"{name}-{k}")}
            for k, arm in enumerate(self.arms)
        ]  # fmt: skip
        return {"svg": "", "label": self.label, "panels": panels}

    def _panel(self, arm: curve_figures.ArmCurves) -> Figure:
        others = [other for other in self.arms if other is not arm]
        return curve_figures.panel(
            arm, others, self.thresholds, self.frame, self.draw.rng(self.kind, self.label, arm.name)
        )


def score_name(target: dict[str, Any]) -> str:
    """What a score of this target is called: normalised only where the task has a scale."""
    return "normalised score" if target["normalised"] else "raw score"


def _curve_plots(run: Run, name: str, target: dict[str, Any], styles, draw: Bootstrap) -> list[CurvePlot]:
    """Scores against both clocks, and success where it was recorded."""
    cells, clock = _groups(run, name, target), target["clock"]
    arms = _arms({arm: [c.curve for c in group] for arm, group in cells.items()}, styles)
    solved = _arms({arm: success_curves(group) for arm, group in cells.items()}, styles)
    found = []
    for unit in (clock, "seconds"):
        label = f"Score on {name} against {CLOCKS[unit]}"
        frame = curve_figures.frame_of(arms, unit, score_name(target), target["normalised"], target["thresholds"],
                                 None if target["normalised"] else target["random_return"])  # fmt: skip
        found.append(CurvePlot(f"curves_{unit}", label, arms, target["thresholds"], frame, draw))
    if solved:
        frame = dataclasses.replace(curve_figures.frame_of(solved, clock, "success"), limits=(-0.04, 1.04))
        label = f"Success on {name} against {CLOCKS[clock]}"
        found.append(CurvePlot("success", label, solved, (), frame, draw))
    return found


def _number_plots(name: str, target: dict[str, Any], styles, draw: Bootstrap) -> list[tuple]:
    """(kind, figure, label) of scores by episode of a trial and by task, where there are several."""
    found = []
    if target["episodes_per_trial"] > 1:
        scale = (target["floor"], target["reference"]) if target["normalised"] else (0.0, 1.0)
        arms = _values(target, "returns_by_episode", styles, scale)
        if arms:
            rng, adapts = draw.rng(name, "episodes"), target["adapts"]
            label, first = ("adaptation step", 0) if adapts else ("episode of the trial", 1)
            figure = curve_figures.by_number(arms, label, score_name(target), rng, first=first)
            found.append(("by_episode", figure, f"Score on {name} against the {label}"))
    arms = [arm for arm in _values(target, "score_by_task", styles, (0.0, 1.0)) if arm.values.shape[1] > 1]
    if arms:
        figure = curve_figures.by_number(arms, "task", score_name(target), draw.rng(name, "tasks"), joined=False)
        found.append(("by_task", figure, f"Score on {name} per task"))
    return found


def _values(target: dict[str, Any], key: str, styles, scale: tuple[float, float]) -> list[curve_figures.ArmValues]:
    """Per arm the rows that its runs recorded under ``key``, all as long as the longest; scaled."""
    found, (floor, reference) = [], scale
    for arm, entry in target["arms"].items():
        rows = [row for row in entry[key] if row]
        rows = [row for row in rows if len(row) == max(map(len, rows))]
        if rows:
            values = (np.array(rows, dtype=float) - floor) / (reference - floor)
            found.append(curve_figures.ArmValues(arm, styles[arm], values))
    return found


def time_rows(target: dict[str, Any], threshold: float, styles: dict[str, int]) -> list[time_figures.TimeRow]:
    """A row per arm, the fastest first."""
    at, several, found = level(threshold), len(target["thresholds"]) > 1, []
    for arm, entry in target["arms"].items():
        times, curve = entry["steps_to_thresholds"][at], entry["curve"]
        places = [
            max(place for place, v in zip(curve[target["clock"]], row, strict=True) if v is not None)
            for row in curve["score"]
        ]
        none = [False] * len(times)
        cut = entry.get("unfinished", none)  # reports of before did not say
        first = entry.get("at_first_evaluation", {}).get(at, none)
        runs = [time_figures.RunTime(*run) for run in zip(times, places, cut, first, strict=True)]
        label = f"{arm} ≥ {at}" if several else arm
        ends = (entry[kind]["steps_to_thresholds"][at] for kind in ("medians", "intervals"))
        found.append(time_figures.TimeRow.of(label, styles[arm], runs, *ends))
    return sorted(found, key=lambda row: row.median[::-1])


def metric_figures(name: str, target: dict[str, Any], styles: dict[str, int]) -> list[dict[str, Any]]:
    """A small figure per declared training metric: its name, meaning and the arms that have it. The same name
    with another meaning is another metric.
    """
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for arm, entry in target["arms"].items():
        for metric, values in entry["metrics"].items():
            found.setdefault((metric, values["meaning"]), {})[arm] = values
    return [
        {
            "svg": drawing.inline_svg(_metric_plot(arms, target["clock"], styles), f"metric{k}-{slug(name)}"),
            "name": metric, "meaning": meaning, "label": f"Training metric {metric} on {name}",
            "arms": [{"arm": arm, "style": str(styles[arm])} for arm in arms],
        }
        for k, ((metric, meaning), arms) in enumerate(found.items())
    ]  # fmt: skip


def inspected_figures(name: str, target: dict[str, Any], styles: dict[str, int]) -> list[dict[str, Any]]:
    """A small figure per series that agents told along trials: its name, meaning and the arms that have it."""
    found: dict[tuple[str, str], dict[str, list]] = {}
    for arm, entry in target["arms"].items():
        for series, told in entry["inspected"].items():
            found.setdefault((series, told["meaning"]), {})[arm] = told["values"]
    observations, episodes = int(target["max_episode_steps"]) + 1, int(target["episodes_per_trial"])
    return [
        {
            "svg": drawing.inline_svg(
                trial_figures.along_trial(arms, styles, [observations] * episodes),
                f"inspected{k}-{slug(name)}"),
            "name": series, "meaning": meaning, "label": f"Along trials of {name}: {series}",
            "arms": [{"arm": arm, "style": str(styles[arm])} for arm in arms],
        }
        for k, ((series, meaning), arms) in enumerate(found.items())
    ]  # fmt: skip


def adaptation_figures(run: Run, name: str, target: dict[str, Any], styles: dict[str, int]) -> list[list[dict]]:
    """Per adaptation of a target its figures as inline SVG."""
    own = [one for one in run.adaptations if one.target == name]
    return [
        [{"svg": drawing.inline_svg(figure, f"adaptation{k}-{slug(kind)}-{slug(name)}"), "label": label}
         for kind, figure, label in trial_figures.figures_of(one, told, styles)]
        for k, (one, told) in enumerate(zip(own, target["adaptations"], strict=True))
    ]  # fmt: skip


def belief_strips(run: Run, name: str) -> list[dict[str, str]]:
    """Per trial of a target whose belief was looked at: its strip as inline SVG, in words, and its film ("": none)."""
    found = []
    for k, (path, belief) in enumerate(one for one in run.beliefs if one[1].facts.target == name):
        svg = drawing.inline_svg(belief_figures.strip(belief), f"belief{k}-{slug(name)}")
        film, src = path.with_suffix(".mp4"), ""
        if film in records.media(path.parent, ".mp4", []):
            small = film.stat().st_size < media.LARGEST_VIDEO
            src = media.data_uri(film, "video/mp4") if small else media.link(film, run.path)
        said = {"label": belief_figures.label(belief), "caption": belief_figures.caption(belief)}
        found.append(said | {"svg": svg, "film": src})
    return found


def _metric_plot(arms: dict[str, dict[str, Any]], clock: str, styles: dict[str, int]) -> Figure:
    drawn = [
        curve_figures.ArmMetric(styles[arm], np.array(v["steps"], dtype=float), np.array(v["values"], dtype=float))
        for arm, v in arms.items()
    ]
    return curve_figures.training_metric(drawn, clock)
