"""Which arms (``ALGORITHM/START``) a report compares with which, and in what order it shows them: by what
run.json says. No algorithm is known here by name, only the starts that an arm can have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meta_latent.experiment.report.reading.sources import Cell

SCRATCH = "scratch"
DATA = "+data"  # the arm also replays source data
STARTS = ("pretrained", SCRATCH, "policy")  # in this order; others after them

Bases = Mapping[str, Sequence[str]]
"""Arm -> the arms that it is compared with, the primary one first; empty: with none."""


def split(arm: str) -> tuple[str, str]:
    """(algorithm, start) of ``arm``."""
    algorithm, _, start = arm.partition("/")
    return algorithm, start


def uses_pretraining(arm: str) -> bool:
    """Whether the arm owes the cost of pretraining; ``scratch+data`` takes source data only, no network."""
    return not split(arm)[1].startswith(SCRATCH)


def compared(cells: Sequence[Cell], warnings: list[str]) -> Bases:
    """What every arm of ``cells`` is compared with, among the arms that are there: as most of its runs
    recorded (``compared_with`` in run.json); where none did, ``X/...`` with ``X/scratch``, and ``X/...+data``
    with ``X/scratch+data``. An arm with data is also compared with plain ``X/scratch``, behind that.
    """
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    found = {}
    for arm in arms:
        algorithm, start = split(arm)
        named = [c.facts["compared_with"] for c in cells if c.arm == arm and "compared_with" in c.facts]
        distinct = sorted({str(name) for name in named})
        if len(distinct) > 1:
            warnings.append(f"{arm}: runs disagree about the arm to compare with ({', '.join(distinct)}).")
        data = f"{algorithm}/{SCRATCH}{DATA}" if start.endswith(DATA) else None
        scratch = f"{algorithm}/{SCRATCH}"
        wanted = [max(distinct, key=[str(n) for n in named].count)] if named else [data or scratch]
        if data and wanted != ["None"]:
            wanted.append(scratch)
        found[arm] = [base for base in dict.fromkeys(wanted) if base in arms and base != arm]
    return found


def in_order(bases: Bases) -> list[str]:
    """The arms: compared ones first, then by algorithm, plain before +data, pretrained before scratch."""
    partners = {arm for arm, others in bases.items() if others} | {b for o in bases.values() for b in o}

    def key(arm: str) -> tuple:
        algorithm, start = split(arm)
        plain = start.removesuffix(DATA)
        place = STARTS.index(plain) if plain in STARTS else len(STARTS)
        return arm not in partners, algorithm, start.endswith(DATA), place, start

    return sorted(bases, key=key)


def primary_pair(bases: Bases, weight: Mapping[str, int]) -> tuple[str, str] | None:
    """The pair that the summary is about; None where nothing is compared.

    A pretrained arm if there is one, a plain one before one with data, then the arms with most runs
    (``weight``), then the first by name.
    """
    pairs = [(arm, bases[arm][0]) for arm in in_order(bases) if bases[arm]]

    def key(pair: tuple[str, str]) -> tuple:
        start = split(pair[0])[1]
        return start != STARTS[0], start.endswith(DATA), -sum(weight.get(arm, 0) for arm in pair)

    return min(pairs, key=key, default=None)
