"""What the tasks of a run are, in words and as a picture: from the settings that its cells and pretraining kept.

What a task pays is in its run's record; older runs, and pictures, need the suite, which a user's own package may
register. A report imports no such package: its folder may be somebody else's.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import task_suites
from meta_latent.errors import UserError
from meta_latent.experiment.report.reading.pretrained import Pretraining
from meta_latent.experiment.report.reading.settings_shown import mapping, stored
from meta_latent.experiment.report.reading.sources import Cell, Run
from meta_latent.experiment.report.words import text
from meta_latent.experiment.settings.experiments import FILE
from task_suites import gallery

PIXELS = 128
SIZES = ("image_size", "antialias")
"""Options that only say how a task is drawn: for a picture they are another."""


def of_target(cells: Sequence[Cell]) -> dict[str, Any] | None:
    """What a target is (see ``_told``), with ``learned`` and ``tested``, how many tasks of it; None: nobody kept it."""
    settings = next((found for cell in cells if mapping((found := stored(cell.path)).get("task")).get("suite")), None)
    if settings is None:
        return None
    task = settings["task"]
    counts = {"learned": task.get("tasks"), "tested": task.get("test_tasks"), "data": task.get("data") or ""}
    recorded = next((pays for cell in cells if isinstance(pays := cell.facts.get("pays"), str)), "")
    return _told(task, settings.get("suite"), recorded, picture=True) | counts


def of_sources(runs: Sequence[Pretraining]) -> list[dict[str, Any]]:
    """What the sources of the pretraining were, each once, as ``_told``; ``tasks``, how many it is, and ``said``, its
    split and what tells it from others of that split.
    """
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        settings, place = stored(run.path), 0
        sources, pays = mapping(settings.get("pretrain")).get("sources"), run.facts.get("pays")
        sources, pays = (value if isinstance(value, list) else [] for value in (sources, pays))
        for source in map(mapping, sources):
            recorded, count = (str(pays[place]) if place < len(pays) else ""), _count(source)
            told = _told(source, settings.get("suite"), recorded, picture=False)
            told |= {"tasks": count, "apart": _apart(source, settings.get("suite"))}
            found.setdefault(str(told), told)
            place += count  # each task is a source of its own
    for told in found.values():
        alike = [other["apart"] for other in found.values() if _called(other) == _called(told)]
        told["said"] = ", ".join([str(told["split"]), *_differing(told["apart"], alike)])
    return list(found.values())


def _called(told: Mapping[str, Any]) -> tuple[str, str]:
    return str(told["suite"]), str(told["split"])


def _count(source: Mapping[str, Any]) -> int:
    """How many tasks one entry of the settings is."""
    count = source.get("tasks")
    return count if isinstance(count, int) and count > 0 else 1


def _apart(source: Mapping[str, Any], shared: Any) -> dict[str, str]:
    """What may tell a source from others of its suite, by what it is, in words; "" for what needs none."""
    count, first = _count(source), source.get("index") or 0
    several = count > 1 and isinstance(first, int)
    options = {**mapping(shared), **mapping(source.get("options"))}
    scripted, distractors = source.get("scripted"), source.get("distractors")
    return {
        "tasks": f"tasks {first} to {first + count - 1}" if several else f"task {first}",
        **{f"option {key}": f"{key}={value}" for key, value in options.items()},
        "distractors": f"behind {found}" if (found := _names(distractors)) else "",
        "scripted": "" if scripted is None else f"scripted={scripted}",
        "data": f"logged in {source['data']}" if source.get("data") else "",
    }


def _differing(said: Mapping[str, str], others: Sequence[Mapping[str, str]]) -> list[str]:
    """Those words of ``said`` that are not those of all ``others``, itself among them, and how many tasks it has."""
    return [words for what, words in said.items()
            if words and (words.startswith("tasks ") or any(other.get(what) != words for other in others))]  # fmt: skip


def not_imported(run: Run) -> list[str]:
    """Packages that the runs were started with and this process has not imported: their tasks have no pictures."""
    kept = [stored(run.path, FILE), *(stored(cell.path) for cell in run.cells)]
    names = [name for settings in kept if isinstance(found := settings.get("imports"), list) for name in found]
    return [name for name in dict.fromkeys(map(str, names)) if name not in sys.modules]


def left_out(names: Sequence[str]) -> str:
    """A sentence that says what the report lacks without these packages (`not_imported`), and how to have it; "" if
    nothing.
    """
    if not names:
        return ""
    return (f"Not imported: {', '.join(names)}, which the settings of these runs name; tasks of one's own may lack "
            f"pictures. imports=[{','.join(names)}] runs that code.")  # fmt: skip


def _told(wanted: Mapping[str, Any], shared: Any, recorded: str, picture: bool) -> dict[str, Any]:
    """Suite, split, index, options and distractors as they were set; ``reward`` in words, as ``recorded`` ("": not)
    or as the suite says, and ``picture`` as a data URI, both "" where the suite is not installed or the machine cannot
    draw.
    """
    options = {**mapping(shared), **mapping(wanted.get("options"))}
    found = {key: wanted.get(key) for key in ("suite", "split", "index")}
    found["options"] = ", ".join(f"{key}={value}" for key, value in options.items())
    found["distractors"] = _names(wanted.get("distractors"))
    return found | {
        "reward": text.true_minus(recorded or _words(found, options)),
        "picture": _picture(found, options) if picture else "",
    }


def _names(distractors: Any) -> str:
    return ", ".join(map(_name, distractors)) if isinstance(distractors, list) else ""


def _name(distractor: Any) -> str:
    return str(distractor.get("name", distractor)) if isinstance(distractor, Mapping) else str(distractor)


def _words(told: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    try:
        suite = task_suites.get(told["suite"], **options)
        return suite.describe(_task(suite, told))
    except (UserError, ValueError, TypeError, KeyError, ImportError):
        return ""


def _task(suite, told: Mapping[str, Any]):
    """The task itself, or the first of those that are learned."""
    index = int(told["index"] or 0)
    return suite.sample(told["split"], index + 1, seed=0)[index]


def _picture(told: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """The first frame of an episode. Whatever a simulator or a driver has against drawing it costs the picture only."""
    from PIL import Image

    kept = {key: value for key, value in options.items() if key not in SIZES}
    try:
        suite = gallery.open_large(told["suite"], PIXELS, **kept)
        frame = gallery.still(suite, _task(suite, told))
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, format="PNG", optimize=True)
    except Exception:
        return ""
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
