"""What a sweep is: an experiment with a section `sweep`, and the experiments that this makes of it."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from meta_latent import ranges
from meta_latent.errors import UserError, UserErrors
from meta_latent.experiment.settings import config, names
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.structure import PREPARE
from meta_latent.ranges import Entries, Outside, limited

FIXED = ("name", "out", "workers", "imports", "target", "arm", "run_seed", "sweep")
"""Keys that are of the sweep as a whole."""
SEED = "seed"
"""The key whose values are pretrainings of one and the same variant."""
PLAIN = "base"
"""What the one variant is called where nothing varies."""


class _Values:
    """The values of one key: a list, each value once."""

    def read(self, value: Any) -> Any:
        """See `ranges.Limits`."""
        if not isinstance(value, list) or not value:
            raise Outside(value, "a list of at least one value")
        for place, item in enumerate(value):
            if item in value[:place]:
                raise Outside(item, "in the list once", str(place))
        return value


def _dotted(value: Any) -> Any:
    """Nested mappings down to lists as one mapping with dotted keys; all else as it is."""
    if not isinstance(value, Mapping):
        return value
    found: dict[str, Any] = {}
    for key, item in value.items():
        inner = _dotted(item) if isinstance(item, Mapping) and item else None
        found |= {str(key): item} if inner is None else {f"{key}.{name}": given for name, given in inner.items()}
    return found


@dataclass(frozen=True)
class SweepSettings:
    """Which experiments a sweep holds, and how they are run.

    Attributes:
        of: the experiment to vary: a name in configs/experiment/ or a path (None: the keys beside `sweep`).
        grid: key of the experiment -> values; every combination is an experiment. `seed` makes several pretrainings
            of each. variants: name -> keys and values; each is combined with the whole grid.
        retries: how often a cell that failed is tried again.
        executor: "local": `workers` processes here. "ray": a Ray cluster (extra `cluster`), whose machines share the
            folder `out`; address: of the cluster (None: the one around us, else one that is started here).
    """

    of: str | None = None
    grid: dict[str, Any] = limited(Entries(each=_Values()), {}, **{PREPARE: _dotted})
    variants: dict[str, dict[str, Any]] = limited(Entries(names=names.FolderName()), {})
    retries: int = ranges.whole(1, most=100)
    executor: Literal["local", "ray"] = "local"
    address: str | None = None

    def __post_init__(self):
        keys = [*self.grid, *(key for variant in self.variants.values() for key in variant)]
        for key in keys:
            if key.split(".")[0] in FIXED:
                raise ValueError(f"{key} is of the whole sweep; grid and variants take keys of the experiment that "
                                 "say what is learned")  # fmt: skip
        for name, variant in self.variants.items():
            for (key, values), (other, value) in itertools.product(self.grid.items(), _dotted(variant).items()):
                upper = values if f"{other}.".startswith(f"{key}.") else [value]
                nested = f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")
                # A file that is named above a key is read before the key is set: `model` and `model.head_hidden`.
                if nested and (key == other or not all(isinstance(given, str) for given in upper)):
                    raise ValueError(f"{other} of variant {name} and {key} of the grid set the same: take one out")


@dataclass(frozen=True)
class SweepConfig(ExperimentConfig):
    """An experiment with a section `sweep`."""

    sweep: SweepSettings = field(default_factory=SweepSettings)

    @property
    def root(self) -> Path:
        """OUT/NAME: the folder of the whole sweep."""
        return Path(self.out) / self.name


@dataclass(frozen=True)
class Variant:
    """One combination. group: what those are called that differ from it in the seed of pretraining alone. values: what
    makes it, by key.
    """

    name: str
    group: str
    values: dict[str, Any]
    experiment: ExperimentConfig


def load(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> tuple[SweepConfig, list[Variant]]:
    """The sweep in `source` (a name in configs/experiment/, a path, or its keys as a dict), and its variants.

    Raises UserError naming a wrong key, and the variant where it is one's own.
    """
    given = source if isinstance(source, Mapping) else config.find("experiment", str(source))
    of = _of(given, overrides)
    sources = [given] if of is None else [_base(of), given]
    sweep = config.load(SweepConfig, sources, overrides)
    found = []
    for name, group, values in _combinations(sweep.sweep):
        try:
            one = config.load(SweepConfig, sources, [*overrides, *values.items()])
        except UserError as error:
            lines = getattr(error, "faults", [str(error)])
            raise UserErrors([f"variant {name} of the sweep: {line}" for line in lines]) from error
        settings = {item.name: getattr(one, item.name) for item in fields(ExperimentConfig)}
        settings |= {"name": name, "out": str(sweep.root)}
        found.append(Variant(name, group, values, ExperimentConfig(**settings)))
    return sweep, found


def _of(given: Path | Mapping[str, Any], overrides: Sequence[str]) -> str | None:
    """The experiment that is varied; nothing else is looked at, as the rest may only make sense upon that one."""
    section = (given if isinstance(given, Mapping) else config.read_yaml(given)).get("sweep", {})
    said = {"of": section.get("of")} if isinstance(section, Mapping) else section
    pairs = [config.parse_override(given) if isinstance(given, str) else given for given in overrides]
    telling = [pair for pair in pairs if pair[0] in ("sweep", "sweep.of")]
    found = config.merged(SweepConfig, [{"sweep": said}], telling)[0]["sweep"]
    return found.get("of") if isinstance(found, Mapping) else None  # what is no section is refused with all the rest


def _base(of: str) -> Path:
    """Where the experiment lies that is varied. Raises UserError where it is a sweep itself."""
    path = config.find("experiment", str(of))
    if "sweep" in config.read_yaml(path):
        raise UserError(f"sweep.of={of} is a sweep itself; give the experiment that it varies")
    return path


def _combinations(settings: SweepSettings) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, group, values by key) of every variant; the grid's last key varies fastest. Variants that differ in the
    seed alone are of one group, which is called as the first of them without it.
    """
    short, found, groups = _short(list(settings.grid)), [], {}
    for variant, given in (settings.variants or {"": {}}).items():
        for point in itertools.product(*map(enumerate, settings.grid.values())):
            values = dict(zip(settings.grid, point, strict=True))
            parts = {key: f"{short[key]}_{_word(place, value)}" for key, (place, value) in values.items()}
            rest = [part for key, part in parts.items() if key != SEED]
            name, group = (_name([variant, *some]) for some in (parts.values(), rest))
            values = {**given, **{key: value for key, (_, value) in values.items()}}
            alike = json.dumps(
                {key: value for key, value in values.items() if key != SEED}, sort_keys=True, default=str
            )
            found.append((name, groups.setdefault(alike, group), values))
    return found


def _short(keys: list[str]) -> dict[str, str]:
    """The shortest end of each dotted key that no other key shares."""

    def ends(key: str) -> list[str]:
        parts = key.split(".")
        return [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]

    return {key: next(e for e in ends(key) if e == key or not any(e in ends(k) for k in keys if k != key))
            for key in keys}  # fmt: skip


def _word(place: int, value: Any) -> str:
    """A value as a part of a folder's name: itself where it is a plain word or number, else its place from 0 on."""
    text = json.dumps(value) if isinstance(value, bool | int | float) or value is None else str(value)
    fits = not isinstance(value, list | dict) and len(text) <= 30
    return text if fits and all(letter.isalnum() or letter in "._-+" for letter in text) else f"no{place}"


def _name(parts: Sequence[str]) -> str:
    """One folder's name of `parts`, with a checksum instead of its end where it would be too long."""
    text = ",".join(part for part in parts if part) or PLAIN
    if len(text) <= names.LONGEST_NAME:
        return text
    return f"{text[: names.LONGEST_NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
