"""The report as a page: the summary in words, numbers as text, figures, and the HTML around them."""

from __future__ import annotations

import base64
import math
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from meta_latent.experiment.report import figures
from meta_latent.experiment.report.sources import Run
from meta_latent.ops.learning_speed import FEW_SEEDS

LARGEST_VIDEO = 1_500_000  # bytes; a larger one is linked, not embedded
LARGEST_VIDEOS = 25_000_000  # bytes of all embedded videos together
NOTHING = "–"


def count(value: float | None) -> str:
    """12345.6 -> '12,346'."""
    return NOTHING if value is None else f"{value:,.0f}"


def score(value: float | None) -> str:
    """Two decimals below ten, fewer above, with a true minus sign."""
    if value is None:
        return NOTHING
    text = f"{value:.2f}" if abs(value) < 10 else f"{value:,.1f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


def duration(seconds: float | None) -> str:
    """75 -> '75 s', 600 -> '10 min', 9000 -> '2.5 h'."""
    if seconds is None:
        return NOTHING
    for size, unit in ((5400, "min"), (172800, "h")):
        if seconds < size:
            return (
                f"{seconds:.0f} s"
                if seconds < 120
                else f"{seconds / (60 if unit == 'min' else 3600):.3g} {unit}"
            )
    return f"{seconds / 86400:.3g} days"


def times(value: float | None, lower_bound: bool = False) -> str:
    """A ratio: '3.4×', or '> 3.4×' for a lower bound."""
    if value is None:
        return NOTHING
    return ("> " if lower_bound else "") + (
        f"{value:.2f}×" if value < 2 else f"{value:.1f}×" if value < 100 else f"{value:,.0f}×"
    )


def interval(ends: Sequence[float | None] | None, show=score) -> str:
    """'[low, high]'; an open end is '∞'."""
    if ends is None:
        return ""
    low, high = ends
    return f"[{show(low) if low is not None else '∞'}, {show(high) if high is not None else '∞'}]"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _claims(report: dict[str, Any], arm: str, base: str) -> dict[str, dict[str, Any]]:
    return {
        name: target["arms"][arm]["speedup"][base]
        for name, target in report["targets"].items()
        if base in target["arms"].get(arm, {}).get("speedup", {})
    }


def summary(report: dict[str, Any]) -> str:
    """One paragraph of plain sentences about the primary pair, made of the numbers in ``report`` only."""
    cells = [cell for cell in report["cells"] if cell["status"] == "done"]
    done = f"{len(cells)} of {len(report['cells'])} runs are finished."
    pair = report["primary_pair"]
    claims = _claims(report, *pair) if pair else {}
    if not claims:
        return (
            f"Nothing to compare yet: no target has both an arm and its scratch arm with a threshold. {done}"
        )
    arm, base = pair
    faster = {name: claim for name, claim in claims.items() if claim["ratio"] and claim["ratio"] > 1}
    sure = [
        name for name, claim in faster.items() if (claim["interval"] or [0])[0] and claim["interval"][0] > 1
    ]
    seeds = sorted({len(report["targets"][n]["arms"][a]["seeds"]) for n in claims for a in (arm, base)})
    plural = "s" if len(claims) > 1 else ""
    if faster:
        ratios = [
            ("at least " if c["lower_bound"] else "") + f"{times(c['ratio'])} on {n}"
            for n, c in faster.items()
        ]
        text = f"By the medians over {' to '.join(str(n) for n in seeds)} seed{'' if seeds == [1] else 's'}, "
        text += f"{arm} reached the threshold in fewer environment steps than {base} on {len(faster)} of "
        text += f"{len(claims)} target{plural}: {_listed(ratios)}. "
        if len(sure) == len(faster):
            text += "The 95 % intervals exclude 1."
        else:
            text += f"The 95 % interval excludes 1 on {_listed(sure) if sure else 'none of them'}; the rest "
            text += "is open."
    else:
        text = f"On none of the {len(claims)} targets" if plural else "On the one target,"
        text += f" {'did ' if plural else ''}{arm} {'reach' if plural else 'did not reach'} the threshold in "
        text += f"fewer environment steps than {base}."
    for name, claim in claims.items():
        if claim["ratio"] is None:
            text += f" On {name} there is no claim: {claim['reason']}."
        elif name not in faster:
            text += f" On {name} the ratio is {times(claim['ratio'], claim['lower_bound'])}, no gain."
    if seeds[0] < FEW_SEEDS:
        text += f" Fewer than {FEW_SEEDS} seeds: even the intervals are too narrow to rely on."
    cost = report["pretraining"]
    if cost:
        text += (
            f" Pretraining cost {count(cost['env_steps'])} environment steps and {duration(cost['seconds'])}"
        )
        text += f"{_paid_back(report['aggregate'][arm].get('break_even'))}."
        if len(cost.get("seeds", ())) == 1:
            text += " One pretraining stands behind all of this: intervals leave its variation out."
    unfinished = len(report["cells"]) - len(cells)
    return text + (f" {unfinished} of {len(report['cells'])} runs are not finished." if unfinished else "")


def _paid_back(result: dict[str, Any] | None) -> str:
    if result is None:
        return ""
    if result["targets"] is None:
        return f" and is not shown to pay for itself ({result['reason']})"
    most = "at most " if result["at_most"] else "about "
    plural = "" if result["targets"] == 1 else "s"
    return f", by the medians saved again after {most}{count(result['targets'])} such target{plural}"


def _row(
    arm: str, entry: dict[str, Any], style: int, threshold: float | None, cost: dict | None
) -> dict[str, str]:
    medians, intervals, base = entry["medians"], entry["intervals"], entry.get("base")
    claim = entry["speedup"].get(base, {})
    saved, target_cost = claim.get("saved_env_steps"), NOTHING
    if cost and base and not arm.split("/", 1)[1].startswith("scratch") and saved is not None:
        most = "≤ " if claim["lower_bound"] else ""
        target_cost = f"{most}{math.ceil(cost['env_steps'] / saved):,}" if saved > 0 else "never"

    def median(key: str, show) -> str:
        if threshold is None:
            return NOTHING
        exact, least = medians.get(key), medians.get(f"{key}_at_least")
        return show(exact) if exact is not None else f"> {show(least)}"

    return {
        "arm": arm, "style": str(style),
        "steps": median("env_steps_to_threshold", count),
        "steps_interval": interval(intervals.get("env_steps_to_threshold"), count),
        "reached": f"{entry['reached']} / {len(entry['seeds'])}" if threshold is not None else NOTHING,
        "speedup": times(claim.get("ratio"), claim.get("lower_bound", False)),
        "reason": claim.get("reason", ""),
        "speedup_interval": interval(claim.get("interval"), times) if claim.get("ratio") is not None else "",
        "jumpstart": score(medians.get("jumpstart")) if base else NOTHING,
        "jumpstart_interval": interval(intervals.get("jumpstart")) if base else "",
        "area": times(entry["area_ratio"].get(base)) if base else NOTHING,
        "area_interval": interval(intervals.get("area_ratio"), times) if base else "",
        "final": score(medians["final_score"]), "final_interval": interval(intervals["final_score"]),
        "seconds": median("seconds_to_threshold", duration),
        "seconds_interval": interval(intervals.get("seconds_to_threshold"), duration),
        "break_even": target_cost,
    }  # fmt: skip


def _time_row(arm: str, entry: dict[str, Any], style: int) -> figures.TimeRow:
    steps, curve = entry["env_steps_to_threshold"], entry["curve"]
    watched = [
        max(s for s, v in zip(curve["env_steps"], row, strict=True) if v is not None)
        for row in curve["score"]
    ]
    median, least = (
        entry["medians"]["env_steps_to_threshold"],
        entry["medians"]["env_steps_to_threshold_at_least"],
    )
    low, high = (math.inf if end is None else end for end in entry["intervals"]["env_steps_to_threshold"])
    return figures.TimeRow(
        arm, style, tuple(s for s in steps if s is not None),
        tuple(w for w, s in zip(watched, steps, strict=True) if s is None),
        (least, math.inf if median is None else median), (low, high),
    )  # fmt: skip


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")


def _target_figures(
    run: Run, report: dict[str, Any], name: str, styles: dict[str, int], draw
) -> list[dict[str, str]]:
    """Figures of one target as inline SVG; each is also written to report/NAME.png."""
    target = report["targets"][name]
    groups = {
        arm: tuple(c.curve for c in run.cells if (c.target, c.arm) == (name, arm) and c.curve)
        for arm in target["arms"]
    }
    arms = [figures.ArmCurves(arm, styles[arm], curves) for arm, curves in groups.items()]
    plots = {
        f"curves_{unit}": figures.learning_curves(
            arms, target["threshold"], unit, draw.rng(name, "curves", unit), target["reference"] is not None
        )
        for unit in ("env_steps", "seconds")
    }
    if target["threshold"] is not None:
        rows = [_time_row(arm, entry, styles[arm]) for arm, entry in target["arms"].items()]
        plots["times_to_threshold"] = figures.times_to_threshold(rows)
    captions = {
        "curves_env_steps": f"Score on {name} against environment steps",
        "curves_seconds": f"Score on {name} against seconds",
        "times_to_threshold": f"Environment steps to threshold on {name}",
    }  # fmt: skip
    for kind, figure in plots.items():
        figures.save_png(figure, run.path / "report" / f"{kind}_{_slug(name)}.png")
    return [
        {"svg": figures.inline_svg(figure, f"{kind}-{_slug(name)}"), "label": captions[kind]}
        for kind, figure in plots.items()
    ]


def _data_uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _videos(run: Run) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(embedded, linked): the first seed's videos of every target and arm are embedded while they are small
    enough.
    """
    embedded, linked, shown, total = [], [], set(), 0
    for cell in run.cells:
        files = sorted((cell.path / "videos").glob("*.mp4"))
        first = (cell.target, cell.arm) not in shown
        for path in files:
            size = path.stat().st_size
            entry = {"label": f"{cell.target}, {cell.arm}, seed {cell.seed}: {path.stem}"}
            if first and size < LARGEST_VIDEO and total + size < LARGEST_VIDEOS:
                total += size
                shown.add((cell.target, cell.arm))
                embedded.append(entry | {"src": _data_uri(path, "video/mp4")})
            else:
                linked.append(entry | {"src": quote(os.path.relpath(path, run.path).replace(os.sep, "/"))})
    return embedded, linked


def _held_out(report: dict[str, Any]) -> dict[str, Any]:
    cost = report["pretraining"] or {"seeds": [], "held_out": {}}
    metrics = sorted({metric for values in cost["held_out"].values() for metric in values})
    rows = [(m, [_number(cost["held_out"][s].get(m)) for s in cost["seeds"]]) for m in metrics]
    return {"seeds": cost["seeds"], "rows": rows}


def _number(value: Any) -> str:
    return (
        f"{value:.3g}".replace("-", "−")
        if isinstance(value, int | float)
        else NOTHING
        if value is None
        else str(value)
    )


def _provenance(run: Run) -> dict[str, Any]:
    """Commands, versions, commits and seeds that the runs recorded, each distinct value once."""
    commands, versions, commits = {}, {}, {}
    for facts in run.facts:
        command = facts.get("command")
        if isinstance(command, list) and command:
            command = shlex.join([Path(str(command[0])).name, *map(str, command[1:])])
        if command:
            commands[str(command)] = True
        if facts.get("commit"):
            commits[str(facts["commit"])] = True
        for name, version in (facts.get("versions") or {}).items():
            versions.setdefault(str(name), {})[str(version)] = True
    seeds = sorted(
        {str(cell.seed) for cell in run.cells} | {p.seed for p in run.pretraining}, key=lambda s: (len(s), s)
    )
    return {
        "commands": list(commands),
        "commits": list(commits),
        "seeds": seeds,
        "versions": [(name, ", ".join(values)) for name, values in sorted(versions.items())],
    }


def _aggregate_rows(report: dict[str, Any], styles: dict[str, int]) -> list[dict[str, str]]:
    rows = []
    for arm, entry in report["aggregate"].items():
        chance, result = entry.get("probability_of_being_faster"), entry.get("break_even")
        paid = NOTHING
        if result:
            paid = (
                "not shown"
                if result["targets"] is None
                else ("≤ " if result["at_most"] else "") + count(result["targets"])
            )
        rows.append({
            "arm": arm, "style": str(styles[arm]), "targets": str(entry["targets"]),
            "reached": f"{entry['reached']} / {entry['runs']}", "final": score(entry["final_score_iqm"]),
            "final_interval": interval(entry["final_score_interval"]),
            "chance": NOTHING if chance is None else f"{100 * chance:.0f} %", "base": entry.get("base", ""),
            "break_even": paid, "reason": (result or {}).get("reason", ""),
        })  # fmt: skip
    return rows


def render(run: Run, report: dict[str, Any], draw) -> str:
    """The whole page as text; also writes figures to ``run.path/report/*.png``. ``draw``: the Bootstrap."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    styles, cost = figures.assign_styles(list(report["aggregate"])), report["pretraining"]
    targets = [
        {
            "name": name, **{key: target[key] for key in ("threshold", "floor", "reference")},
            "figures": _target_figures(run, report, name, styles, draw),
            "rows": [_row(a, e, styles[a], target["threshold"], cost) for a, e in target["arms"].items()],
        }
        for name, target in report["targets"].items()
    ]  # fmt: skip
    strips = [
        {"src": _data_uri(path, "image/png"), "label": f"seed {p.seed}: {path.stem.replace('_', ' ')}"}
        for p in run.pretraining for path in p.images
    ]  # fmt: skip
    embedded, linked = _videos(run)
    return environment.get_template("report.html").render(
        report=report,
        targets=targets,
        strips=strips,
        videos=embedded,
        linked_videos=linked,
        styles=figures.STYLES,
        aggregate=_aggregate_rows(report, styles),
        held_out=_held_out(report),
        provenance=_provenance(run),
        count=count,
        score=score,
        duration=duration,
    )
