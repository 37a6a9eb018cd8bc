"""Warnings of a report in a few groups, so that many of one kind do not hide the one of another."""

from __future__ import annotations

import re
from collections.abc import Sequence

from meta_latent.experiment.report.words.text import true_minus

KINDS = (
    ("Runs that are not there or not finished", (": not run with seed", ": failed", ": interrupted", ": running",
                                                 ": unknown", " unfinished; ")),
    ("Too few seeds", ("only 1 seed", " seeds; intervals")),
    ("Thresholds that were not reached", ("did not reach the threshold",)),
    ("Thresholds that were held from the first evaluation on", ("at the first evaluation;",)),
    ("Pretraining", ("retraining", "No run started from the model")),
)  # fmt: skip
"""Title -> what the sentences of :mod:`analysis`, :mod:`numbers` and :mod:`pretrained` contain."""
OTHER = "Else"
_SEED = ", seed "
_STATUS = re.compile(r"\w+( \(.*\))?\.", re.DOTALL)
"""What is said of a run that has not finished: "failed (its error)."."""


def grouped(warnings: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(title, sentences) of the groups that have any: the odd ones first, then in the order of ``KINDS``."""
    found: dict[str, list[str]] = {OTHER: [], **{title: [] for title, _ in KINDS}}
    for warning in warnings:
        title = next((t for t, parts in KINDS if any(part in warning for part in parts)), OTHER)
        found[title].append(warning)
    return [(title, _joined(sentences)) for title, sentences in found.items() if sentences]


def _joined(sentences: Sequence[str]) -> list[str]:
    """Sentences that say the same of several, told once of all: 'a, x: lost.', 'a, y: lost.' -> 'a, x, y: lost.'; of
    runs that have not finished: 'a, x, seed 0: failed.', 'a, y, seed 1: failed.' -> 'Failed: x seed 0, y seed 1 (a).'
    """
    found: dict[tuple[str, str], list[str]] = {}
    for sentence in sentences:
        whom, colon, what = sentence.partition(": ")
        target, comma, arm = whom.partition(", ")
        key = (target, what) if colon and comma else (sentence, "")
        found.setdefault(key, []).append(arm)
    return [true_minus(_told(target, what, arms)) for (target, what), arms in found.items()]


def _told(target: str, what: str, arms: Sequence[str]) -> str:
    if not what:
        return target
    whom = ", ".join(arm.replace(_SEED, " seed ") for arm in arms)
    if all(_SEED in arm for arm in arms) and _STATUS.fullmatch(what):
        return f"{what[0].upper()}{what[1:-1]}: {whom} ({target})."
    return f"{target}, {whom}: {what}"
