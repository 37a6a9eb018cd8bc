"""Algorithms that start alike on one target, set against each other: of every two, how many times faster one was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from meta_latent.experiment.report.reading.arms import split
from meta_latent.experiment.report.statistics.numbers import Bootstrap, Question, claim_of, level, resolution
from meta_latent.ops import learning_speed as ls
from meta_latent.ops.learning_curve import Curve


def claims(
    question: Question, arms: Mapping[str, Sequence[Curve]], bases: Mapping[str, str], draw: Bootstrap
) -> dict[str, Any]:
    """``same_start``: every two of ``arms`` that have the same start: the ``start``, both ``arms``, and in ``speedup``
    per threshold which ``arm`` was earlier by its median run, with the claim of it against the other, ``base``.
    ``base_speedup``: arm -> threshold -> the same of it and of what it is compared with (``bases``), where only the
    latter's median run arrived: of the arm itself no ratio can be told there.
    """
    times = {at: {arm: ls.Times.of(curves, at, question.clock) for arm, curves in arms.items()}
             for at in question.thresholds}  # fmt: skip

    def earlier(two: tuple[str, str], at: float) -> dict[str, Any]:
        """Of the one of ``two`` that was earlier: only of an arm that arrived can a ratio be told."""
        arm, base = sorted(two, key=lambda one: times[at][one].median()[::-1])
        finest = resolution([*arms[arm], *arms[base]], question.clock)
        names = (question.target, arm, base, "speedup", level(at))
        found = claim_of(times[at][arm], times[at][base], finest, draw, names)
        return found | {"arm": arm, "base": base, "saved_steps": found.pop("saved")}

    pairs = []
    for two in combinations(arms, 2):
        starts = {split(arm)[1] for arm in two}
        if len(starts) == 1:
            told = {level(at): earlier(two, at) for at in question.thresholds}
            pairs.append({"start": starts.pop(), "arms": two, "speedup": told})
    of_bases: dict[str, dict[str, Any]] = {}
    for arm, base in bases.items():
        for at in question.thresholds:
            arrived, own = (math.isfinite(times[at][one].median()[1]) for one in (base, arm))
            if arrived and not own:
                of_bases.setdefault(arm, {})[level(at)] = earlier((arm, base), at)
    return {"same_start": pairs, "base_speedup": of_bases}
