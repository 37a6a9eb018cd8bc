"""The report of one run as a page: what its template is given, and the HTML that makes of it."""

from __future__ import annotations

from typing import Any

from meta_latent.experiment.report.figures import drawing, media, pictures, plasticity
from meta_latent.experiment.report.page import evaluations, tables
from meta_latent.experiment.report.reading import adaptations, settings_shown
from meta_latent.experiment.report.reading.sources import Run
from meta_latent.experiment.report.statistics.numbers import SUCCESS_LEVELS, Bootstrap, level
from meta_latent.experiment.report.words import (
    held_out_words,
    lead,
    provenance,
    same_start,
    text,
    told_tasks,
    warning_groups,
)
from meta_latent.experiment.report.words.summary import environment
from meta_latent.experiment.report.words.text import CLOCKS, count, duration, score


def _target(run: Run, report: dict[str, Any], name: str, styles: dict[str, int], draw) -> dict[str, Any]:
    """What the template shows of one target."""
    target = report["targets"][name]
    cost, clock = report["pretraining"], target["clock"]
    cells, arms = [cell for cell in run.cells if cell.target == name], target["arms"].items()
    unit = tables.time_unit(target["arms"].values())
    groups = [
        {
            "threshold": threshold,
            "rows": [tables.speed_row(arm, e, styles[arm], level(threshold), cost, clock, unit) for arm, e in arms],
        }
        for threshold in target["thresholds"]
    ]
    return target | {
        "name": name, "anchor": f"target-{pictures.slug(name)}", "told": told_tasks.of_target(cells),
        "settings": settings_shown.between_arms(cells), "clock": CLOCKS[clock], "groups": groups,
        "unit": unit.name, "alike": same_start.table(target),
        "cpu": any(entry["medians"]["cpu_seconds_to_thresholds"] for _, entry in arms),
        "paired": any("base" in entry for _, entry in arms),
        "correlated": settings_shown.correlated(cells),
        "figures": pictures.target_figures(run, name, target, styles, draw),
        "metrics": plasticity.figures_of(name, target, styles) + pictures.metric_figures(name, target, styles),
        "inspected": pictures.inspected_figures(name, target, styles),
        "adaptations": _adaptations(run, name, target, styles),
        "beliefs": pictures.belief_strips(run, name),
        "began": [(arm, score(begun)) for arm, entry in arms if (begun := tables.first_score(entry)) is not None],
        "rows": [tables.level_row(arm, entry, styles[arm]) for arm, entry in arms],
    }  # fmt: skip


def _adaptations(run: Run, name: str, target: dict[str, Any], styles: dict[str, int]) -> list[dict[str, Any]]:
    """What the template shows of the trials that `meta-latent adapt` played on one target."""
    played = (line["arm"] for told in target["adaptations"] for line in told["lines"])
    styles = drawing.assign_styles(list(dict.fromkeys([*styles, *played])))
    drawn, found = pictures.adaptation_figures(run, name, target, styles), []
    for told, figures in zip(target["adaptations"], drawn, strict=True):
        groups = [
            (title, [tables.line_row(one, styles[one["arm"]], one[key], show) for one in told["lines"] if one[key]])
            for key, title, show in (("returns", "raw return", score), ("score", "score", score),
                                     ("success", "success", text.percent))
        ]  # fmt: skip
        heads = adaptations.moments(told["adapts"], told["episodes"])
        found.append(told | {"figures": figures, "heads": heads, "groups": [group for group in groups if group[1]]})
    return found


def _contents(report: dict[str, Any], targets: list[dict[str, Any]], given: dict[str, Any]) -> list[tuple[str, str]]:
    """(anchor, title) of the sections that the page has."""
    found = [("warnings", "Warnings", report["warnings"]), ("all", "All targets", len(targets) > 1)]
    found += [(target["anchor"], target["name"], True) for target in targets]
    found += [
        ("pretraining", "Pretraining", report["pretraining"] or given["sources"]),
        ("imagined", "Imagined and real", given["strips"]),
        ("videos", "Videos", given["videos"] or given["linked_videos"]),
        ("reproduce", "Reproduce", True), ("reading", "How to read", targets),
    ]  # fmt: skip
    return [(anchor, title) for anchor, title, there in found if there]


def render(run: Run, report: dict[str, Any], draw: Bootstrap) -> str:
    """The whole page as text; also writes figures to ``run.path/report/*.png``."""
    styles = drawing.assign_styles(list(report["aggregate"]))
    embedded, linked = media.videos(run)
    arms = [entry for target in report["targets"].values() for entry in target["arms"].values()]
    targets = [_target(run, report, name, styles, draw) for name in report["targets"]]
    given = {"strips": media.strips(run), "videos": embedded, "linked_videos": linked,
             "sources": told_tasks.of_sources(run.pretraining)}  # fmt: skip
    aggregate = report["aggregate"].items() if len(targets) > 1 else ()
    return (
        environment()
        .get_template("report.html")
        .render(
            report=report,
            targets=targets,
            contents=_contents(report, targets, given),
            anchors={target["name"]: target["anchor"] for target in targets},
            lead=report["lead"],
            rest=report["summary"].removeprefix(report["lead"]).strip(),
            headlines=lead.headlines(report, styles),
            warnings=warning_groups.grouped(report["warnings"]),
            styles=drawing.STYLES,
            aggregate=[tables.aggregate_row(arm, entry, styles[arm], report["targets"]) for arm, entry in aggregate],
            held_out=held_out_words.table(report["pretraining"]),
            provenance=provenance.of_run(run),
            left_out=told_tasks.left_out(report["not_imported"]),
            evaluations=evaluations.FILE,
            most_open=same_start.MOST,
            success_heads=lambda clock: [(clock, f"to {text.percent(at)} success") for at in SUCCESS_LEVELS],
            intervals=any(len(entry["seeds"]) > 1 for entry in arms),
            count=count,
            score=score,
            duration=duration,
            shown=text.threshold,
            **given,
        )
    )
