"""What `meta-latent adapt` wrote (adaptation.json), read with distrust, and what it says: means and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from meta_latent.experiment.report.reading.records import number, read_json
from meta_latent.ops import hierarchical
from meta_latent.ops.scores import scores

if TYPE_CHECKING:
    from meta_latent.experiment.report.statistics.numbers import Bootstrap

FILE, FOLDER, FORMAT = "adaptation.json", "adapt", 1


@dataclass(frozen=True)
class Line:
    """One arm that was played, its belief carried on or `cleared` between episodes; S seeds, N test tasks.

    returns, success: (S, N, E), means over the trials of a task. reward_by_step, success_by_step: per episode (S, T),
    NaN where no trial of a seed had so many steps. Where the suite does not tell success, it is None and its course ().
    adapts: E is not of episodes but of what was played before the first step of adapting and after each, means over
    many episodes; cleared means that it did not adapt.
    """

    arm: str
    cleared: bool
    adapts: bool
    seeds: tuple[str, ...]
    returns: np.ndarray
    success: np.ndarray | None
    reward_by_step: tuple[np.ndarray, ...]
    success_by_step: tuple[np.ndarray, ...]

    @property
    def label(self) -> str:
        """What tables and figures call it."""
        return f"{self.arm}, {'not adapting' if self.adapts else 'cleared'}" if self.cleared else self.arm


@dataclass(frozen=True)
class Adaptation:
    """Trials of one target. ``facts``: what the file says of all arms. ``inspected``: arm -> series -> its meaning
    (``meaning``) and a row per seed (``values``). ``updates``: (arm, seed) -> those that its agent had made, if said.
    """

    path: Path
    facts: Mapping[str, Any]
    references: np.ndarray | None  # (N, 2)
    lines: tuple[Line, ...]
    inspected: Mapping[str, Mapping[str, Any]]
    updates: Mapping[tuple[str, str], float | None]

    @property
    def target(self) -> str:
        """Its name."""
        return self.facts["target"]

    @property
    def adapts(self) -> bool:
        """Whether trials are counted in steps of adapting: any arm takes some."""
        return any(line.adapts for line in self.lines)


def read(path: Path, notes: list[str]) -> Adaptation | None:
    """The adaptation in ``path``; None and a note where it is damaged."""
    found: list[str] = []
    content = read_json(path, found)
    try:
        if content:
            return of(content, path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found.append(f"it lacks what it should hold ({type(error).__name__})")
    notes.append(f"{path} is left out: {'; '.join(found) or 'it is empty'}.")
    return None


def find(root: Path, notes: list[str]) -> list[Adaptation]:
    """Those of a run folder: of whole targets first, then of single arms and seeds."""
    paths = sorted((root / FOLDER).rglob(FILE), key=lambda path: (len(path.parts), path))
    return [one for one in (read(path, notes) for path in paths) if one]


def of(content: Mapping[str, Any], path: Path) -> Adaptation:
    """The adaptation that a file's content describes. Raises KeyError, TypeError, ValueError where it does not."""
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}, expected {FORMAT}")
    facts = {key: content[key] for key in ("target", "episodes", "episodes_per_trial", "trials", "test_tasks")}
    facts |= {key: content.get(key) for key in ("rollouts", "command", "commit", "versions")}
    references = None if content["references"] is None else np.array(content["references"], dtype=float)
    lines, inspected = [], {}
    for arm, entry in content["arms"].items():
        seeds, adapts = entry["seeds"], bool(entry.get("adapts"))
        lines.append(_line(arm, False, adapts, seeds))
        if all("cleared" in measured for measured in seeds.values()):
            lines.append(_line(arm, True, adapts, {seed: measured["cleared"] for seed, measured in seeds.items()}))
        told = [measured["inspected"] for measured in seeds.values()]
        inspected[arm] = {
            name: {"meaning": meaning, "values": [_floats(row.get(name)) for row in told]}
            for name, meaning in entry["inspects"].items()
            if any(name in row for row in told)
        }
    shape = (len(facts["test_tasks"]), facts["episodes"])
    every = (values for line in lines for values in (line.returns, line.success) if values is not None)
    if any(values.shape[1:] != shape for values in every):
        raise ValueError("returns of other tasks or episodes")
    updates = {(arm, seed): number(measured.get("updates")) for arm, entry in content["arms"].items()
               for seed, measured in entry["seeds"].items()}  # fmt: skip
    return Adaptation(path, facts, references, tuple(lines), inspected, updates)


def _line(arm: str, cleared: bool, adapts: bool, seeds: Mapping[str, Mapping[str, Any]]) -> Line:
    def whole(key: str) -> np.ndarray:
        return np.array([measured[key] for measured in seeds.values()], dtype=float).mean(axis=2)

    def steps(key: str) -> tuple[np.ndarray, ...]:
        return tuple(padded(rows) for rows in zip(*(m[key] for m in seeds.values()), strict=True))

    told = all("success" in measured for measured in seeds.values())
    return Line(arm, cleared, adapts, tuple(seeds), whole("returns"), whole("success") if told else None,
                steps("reward_by_step"), steps("success_by_step") if told else ())  # fmt: skip


def padded(rows: Sequence[Sequence[float | None] | None]) -> np.ndarray:
    """(S, T) rows of different length as one array, NaN where there is no number."""
    values = np.full((len(rows), max((len(row or ()) for row in rows), default=0)), np.nan)
    for row, given in zip(values, rows, strict=True):
        row[: len(given or ())] = [np.nan if number(value) is None else value for value in given or ()]
    return values


def _floats(row: Any) -> list[float | None] | None:
    return None if row is None else [number(value) for value in row]


def moments(adapts: bool, episodes: int) -> list[str]:
    """What the parts of a trial are called: its episodes, or where the steps of adapting leave it."""
    if not adapts:
        return [f"episode {e + 1}" for e in range(episodes)]
    return ["before adapting", *(f"after step {e}" for e in range(1, episodes))]


def numbers(adaptation: Adaptation, draw: Bootstrap) -> dict[str, Any]:
    """Per line, and per episode of the trial, means and intervals over seeds and test tasks of raw returns, of scores
    (None where tasks have no references) and of success (None where the suite does not tell it).
    """
    lines = []
    for line in adaptation.lines:
        scored = None
        if adaptation.references is not None:
            scored = scores(line.returns.swapaxes(0, 1), *adaptation.references.T).swapaxes(0, 1)
        quantities = {"returns": line.returns, "score": scored, "success": line.success}
        found = {"label": line.label, "arm": line.arm, "cleared": line.cleared, "adapts": line.adapts,
                 "seeds": list(line.seeds)}  # fmt: skip
        for key, values in quantities.items():
            names = ("adaptation", adaptation.target, line.arm, key)  # the same draws where the belief is cleared
            found[key] = None if values is None else [
                {"mean": float(values[..., e].mean()),
                 "interval": hierarchical.crossed_bootstrap(values[..., e], draw.rng(*names), resamples=draw.resamples)}
                for e in range(values.shape[-1])
            ]  # fmt: skip
        lines.append(found)
    facts = {key: adaptation.facts[key] for key in ("target", "episodes", "episodes_per_trial", "trials", "rollouts")}
    return facts | {
        "test_tasks": len(adaptation.facts["test_tasks"]), "cleared": any(line.cleared for line in adaptation.lines),
        "adapts": adaptation.adapts, "lines": lines, "inspected": adaptation.inspected,
    }  # fmt: skip
