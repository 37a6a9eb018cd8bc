"""The report over a sweep: ``sweep.json`` (numbers), ``sweep.html`` (a self-contained page), ``report/sweep_*.png``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from meta_latent.errors import UserError
from meta_latent.experiment.report.figures import drawing, sweep_figures, time_figures
from meta_latent.experiment.report.figures.pictures import slug
from meta_latent.experiment.report.reading.sources import holds_runs
from meta_latent.experiment.report.statistics import sweep_numbers
from meta_latent.experiment.report.statistics.analysis import plain
from meta_latent.experiment.report.statistics.numbers import Bootstrap
from meta_latent.experiment.report.words import text
from meta_latent.experiment.report.words.text import CLOCKS
from meta_latent.experiment.settings import experiments
from meta_latent.experiment.settings.names import FolderName
from meta_latent.files import atomic_write_bytes, from_json, read_bytes, refuse_links
from meta_latent.ops import learning_speed as ls

FORMAT = 1
NUMBERS, PAGE = experiments.SWEEP, "sweep.html"


def write_variants(root: Path, variants: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
    """Say in sweep.json which variants there are: (name, group, values by key); older numbers stay until `build`."""
    content = _read(root) if (root / NUMBERS).is_file() else {"format": FORMAT}
    content["variants"] = [{"name": name, "group": group, "values": values} for name, group, values in variants]
    atomic_write_bytes(root / NUMBERS, json.dumps(content, indent=1).encode())


def is_sweep(folder: Path) -> bool:
    """Whether a sweep lies there, and not the runs of one experiment."""
    return (folder / NUMBERS).is_file() and not holds_runs(folder)


def build(
    root: str | Path, *, thresholds: Sequence[float] = (), resamples: int = ls.RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Write sweep.json, sweep.html and the figures of the sweep in ``root``; returns the content of sweep.json.

    ``thresholds``: instead of those that the runs recorded. Raises UserError where there is no sweep.
    """
    root, draw = Path(root), Bootstrap(resamples, seed)
    refuse_links(root / "report", root)
    variants, warnings = _read(root)["variants"], []
    groups = sweep_numbers.groups_of(root, variants, warnings)
    if thresholds:
        groups = sweep_numbers.asked(groups, thresholds)
    at = sweep_numbers.levels(groups)
    result = plain({
        "format": FORMAT,
        "name": root.resolve().name,
        "variants": variants,
        "runs": sweep_numbers.counts(groups),
        "groups": {
            group.name: {"variants": group.variants, "arms": sweep_numbers.group_numbers(group, draw, at, warnings)}
            for group in groups
        },
        "comparisons": sweep_numbers.comparisons(groups, draw),
        "warnings": list(dict.fromkeys(warnings)),
        "bootstrap": {"level": ls.LEVEL, "resamples": resamples, "seed": seed},
    })  # fmt: skip
    atomic_write_bytes(root / NUMBERS, json.dumps(result, indent=1, allow_nan=False).encode())
    atomic_write_bytes(root / PAGE, render(root, result).encode(errors="replace"))
    return result


def table(result: dict[str, Any]) -> str:
    """The summary as lines of text: a row per variant and arm."""
    rows = [("variant", "arm", "runs", "models", "final score", "95 %", "success"), *_rows(result)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)  # fmt: skip


def render(root: Path, result: dict[str, Any]) -> str:
    """The page; also writes its figures as PNGs."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    figures = []
    for name, label, figure in _figures(result):
        drawing.save_png(figure, root / "report" / f"sweep_{name}.png")
        figures.append({"label": label, "svg": drawing.inline_svg(figure, f"sweep-{name}")})
    return environment.get_template("sweep.html").render(
        report=result,
        styles=drawing.STYLES,
        figures=figures,
        rows=_rows(result),
        times=_times(result),
        comparisons=_chances(result),
        speedups=_speedups(result),
    )


def _read(root: Path) -> dict[str, Any]:
    try:
        content = from_json(read_bytes(root / NUMBERS))
        found = [{"name": FolderName().read(v["name"]), "group": str(v["group"]), "values": dict(v["values"])}
                 for v in content["variants"]]  # fmt: skip
        return content | {"variants": found}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{root} holds no sweep: {NUMBERS} is missing or damaged; `meta-latent sweep` writes it anew"
                        ) from error  # fmt: skip


def _lines(result: dict[str, Any]):
    """(group, arm, numbers, style) of every line."""
    lines = [(group, arm, told) for group, found in result["groups"].items() for arm, told in found["arms"].items()]
    return [(*line, place % len(drawing.STYLES)) for place, line in enumerate(lines)]


def _rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (group, arm, str(told["runs"]), str(told["pretrainings"] or "none"), text.score(told["final_score_iqm"]),
         text.interval(told["final_score_interval"]), text.percent(told["final_success_iqm"]))
        for group, arm, told, _ in _lines(result)
    ]  # fmt: skip


def _times(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row per line, target and threshold."""
    return [
        (group, arm, target, text.threshold(float(at)), f"{found['reached']} / {len(found['steps'])}",
         f"{text.median(found['median'])} {text.interval(found['interval'], text.count)}")
        for group, arm, told, _ in _lines(result) for target, entry in told["targets"].items()
        for at, found in entry["thresholds"].items()
    ]  # fmt: skip


def _speedups(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row per comparison, target and threshold: what may be claimed, and its detail."""
    return [
        (f"{c['group']}: {c['arm']}", f"{c['base_group']}: {c['base']}", target, text.threshold(float(at)),
         *text.claim(found))
        for c in result["comparisons"] for target, entry in c["speedup"].items() for at, found in entry.items()
    ]  # fmt: skip


def _chances(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [(f"{c['group']}: {c['arm']}", f"{c['base_group']}: {c['base']}", text.percent(c["probability"]),
             text.interval(c["interval"], text.percent)) for c in result["comparisons"]]  # fmt: skip


def _figures(result: dict[str, Any]):
    """(name, what it shows, figure) of every figure that there are numbers for."""
    lines = _lines(result)
    drawn = [(f"{group}: {arm}", style, told["profile"]) for group, arm, told, style in lines if told["profile"]]
    found = [(f"times_{slug(target)}_{at}", f"{CLOCKS[clock].capitalize()} to {text.threshold(float(at))} on {target}",
              time_figures.times_to_threshold(rows, clock))
             for (target, at, clock), rows in _time_rows(lines).items()]  # fmt: skip
    if drawn:
        profiles = [
            sweep_figures.ProfileLine(
                name, style, *(None if p[key] is None else np.array(p[key], float)
                               for key in ("levels", "share", "low", "high")))
            for name, style, p in drawn
        ]  # fmt: skip
        found.append(("profiles", "Performance profiles: the share of runs above a score",
                      sweep_figures.profiles(profiles)))  # fmt: skip
    rows = [sweep_figures.Row(f"{group}: {arm}", style, told["final_score_iqm"], told["final_score_interval"])
            for group, arm, told, style in lines if told["final_score_iqm"] is not None]  # fmt: skip
    if rows:
        found.append(("scores", "Final scores: interquartile means", sweep_figures.bars(rows, "final score (IQM)")))
    styles = {(group, arm): style for group, arm, _, style in lines}
    rows = [sweep_figures.Row(f"{c['group']}: {c['arm']}\nover {c['base_group']}: {c['base']}",
                              styles[c["group"], c["arm"]], c["probability"], c["interval"])
            for c in result["comparisons"]]  # fmt: skip
    if rows:
        found.append(("improvement", "Probability of improvement",
                      sweep_figures.bars(rows, "probability of improvement", at=0.5)))  # fmt: skip
    return found


def _time_rows(lines) -> dict[tuple[str, str, str], list[time_figures.TimeRow]]:
    """(target, threshold, clock) -> a row per line, in the order of the variants."""
    found: dict[tuple[str, str, str], list[time_figures.TimeRow]] = {}
    for group, arm, told, style in lines:
        for target, entry in told["targets"].items():
            for at, times in entry["thresholds"].items():
                kinds = (times[key] for key in ("steps", "watched", "unfinished", "at_first_evaluation"))
                runs = [time_figures.RunTime(*run) for run in zip(*kinds, strict=True)]
                row = time_figures.TimeRow.of(f"{group}: {arm}", style, runs, times["median"], times["interval"])
                found.setdefault((target, at, entry["clock"]), []).append(row)
    return found
