"""Warnings of a report in a few groups, so that many of one kind do not hide the one of another."""

from __future__ import annotations

from collections.abc import Sequence

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


def grouped(warnings: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(title, sentences) of the groups that have any: the odd ones first, then in the order of ``KINDS``."""
    found: dict[str, list[str]] = {OTHER: [], **{title: [] for title, _ in KINDS}}
    for warning in warnings:
        title = next((t for t, parts in KINDS if any(part in warning for part in parts)), OTHER)
        found[title].append(warning)
    return [(title, _joined(sentences)) for title, sentences in found.items() if sentences]


def _joined(sentences: Sequence[str]) -> list[str]:
    """Sentences that say the same of several, told once of all: 'a, x: lost.', 'a, y: lost.' -> 'a, x, y: lost.'"""
    found: dict[tuple[str, str], list[str]] = {}
    for sentence in sentences:
        whom, colon, what = sentence.partition(": ")
        target, comma, arm = whom.partition(", ")
        key = (target, what) if colon and comma else (sentence, "")
        found.setdefault(key, []).append(arm)
    return [f"{target}, {', '.join(arms)}: {what}" if what else target for (target, what), arms in found.items()]
