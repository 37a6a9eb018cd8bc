"""`meta-latent config NAME [KEY] [key=value ...]`: the settings of an experiment, and where each came from."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence

from meta_latent.algorithms.registry import Arm
from meta_latent.errors import UserError
from meta_latent.experiment.settings import experiments, listing
from meta_latent.experiment.settings.listing import Setting
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.structure import Origin, nearest

ALL = "all"
"""The KEY that stands for every setting."""
_WIDTH, _INDENT = 110, "    "


def run(name: str, key: str | None, overrides: Sequence[str]) -> int:
    """Print the settings of the experiment `name` with `overrides` ("a.b=1").

    key: a setting or a section: those within it, with type, range, default, meaning and origin; "all": every setting;
    None: only those that differ from the defaults. Raises UserError for a key that there is not.
    """
    experiment, origin = experiments.load_with_origins(ExperimentConfig, name, overrides)
    print(describe(_with_algorithms(experiment), key, origin))
    return 0


def describe(experiment: ExperimentConfig, key: str | None, origin: Origin) -> str:
    """The text that `run` prints."""
    found = list(listing.settings(experiment))
    if key is None:
        given = [(setting, place) for setting in found if (place := listing.given(setting, origin))]
        rest = (f"{len(found) - len(given)} more settings have their defaults: add a KEY, such as transfer or "
                f"transfer.evaluation.episodes, or {ALL}")  # fmt: skip
        width = max((len(setting.key) for setting, _ in given), default=0)
        lines = [f"{setting.key:{width}} = {listing.shown(setting.value)}   ({place})" for setting, place in given]
        return "\n".join([*lines, rest])
    shown = found if key == ALL else listing.sections(found, key)
    if not shown:
        parts = {".".join(setting.key.split(".")[:depth]) for setting in found for depth in range(1, 9)}
        raise UserError(f"{experiment.name} has no setting {key!r}{_near(key, parts)}")
    return "\n".join(line for setting in shown for line in _lines(setting, origin))


def _near(key: str, parts: set[str]) -> str:
    """The nearest key, else the sections that there are."""
    hint = nearest(key, parts)
    return hint if hint.startswith("; did") else nearest("", sorted({part.partition(".")[0] for part in parts}))


def _lines(setting: Setting, origin: Origin) -> list[str]:
    place = listing.given(setting, origin)
    default = setting.default if setting.default == listing.REQUIRED else listing.shown(setting.default)
    came = f"default {default}; from {place}" if place else "the default"
    first = f"{setting.key} = {listing.shown(setting.value)}"
    about = textwrap.wrap(f"{setting.expected}; {came}", _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    meaning = textwrap.wrap(setting.meaning, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return [first, *about, *meaning]


def _with_algorithms(experiment: ExperimentConfig) -> ExperimentConfig:
    """The experiment with the settings of all algorithms that its arms use, not only of those that it changes."""
    used = {Arm.parse(arm).algorithm for _, arm in experiment.transfer.pairs()}
    every = {name: experiment.settings_of(name) for name in sorted(used | set(experiment.algorithms))}
    return dataclasses.replace(experiment, algorithms=every)
