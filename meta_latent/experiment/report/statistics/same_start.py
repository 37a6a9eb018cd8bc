"""Algorithms that start alike on one target, set against each other: of every two, how many times faster one was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from meta_latent.experiment.report.reading.arms import split
from meta_latent.experiment.report.statistics.numbers import Bootstrap, Question, claim, level
from meta_latent.ops import learning_speed as ls
from meta_latent.ops.learning_curve import Curve


def pairs(question: Question, arms: Mapping[str, Sequence[Curve]], draw: Bootstrap) -> list[dict[str, Any]]:
    """Every two of ``arms`` that have the same start: the ``start``, both ``arms``, and in ``speedup`` per threshold
    which ``arm`` was earlier by its median run, with the claim of it against the other, ``base``.
    """
    found = []
    for two in combinations(arms, 2):
        starts = {split(arm)[1] for arm in two}
        if len(starts) == 1:
            told = {level(at): _claim(question, arms, two, at, draw) for at in question.thresholds}
            found.append({"start": starts.pop(), "arms": two, "speedup": told})
    return found


def _claim(
    question: Question, arms: Mapping[str, Sequence[Curve]], two: tuple[str, str], at: float, draw: Bootstrap
) -> dict[str, Any]:
    # Only of an arm that arrived can a ratio be told, so the earlier one is asked about.
    arm, base = sorted(two, key=lambda one: ls.Times.of(arms[one], at, question.clock).median()[::-1])
    names = (question.target, arm, base, "speedup", level(at))
    found = claim(arms[arm], arms[base], at, question.clock, draw, names)
    return found | {"arm": arm, "base": base, "saved_steps": found.pop("saved")}
