"""Writes docs/settings.md, every setting of an experiment: `python docs/make_settings.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from meta_latent.algorithms import registry
from meta_latent.experiment.settings import listing
from meta_latent.experiment.settings.arms import FROZEN_ENCODER, NEW_CORE, SCRATCH
from meta_latent.experiment.settings.schema import (
    DistractorConfig,
    ExperimentConfig,
    PretrainConfig,
    SourceConfig,
    TargetConfig,
    TransferConfig,
)
from meta_latent.policies.latent_agent import AdaptationConfig

PAGE = Path(__file__).parent / "settings.md"
_INTRODUCTION = """# Settings

Every key of an experiment: what may stand in a YAML of `configs/experiment/`, and on the command line as
`key=value`. Where the schema has a mapping of settings, a string names a file of its group: `model: NAME` is
`configs/model/NAME.yaml`. In keys, `NAME` is a name of yours, 0 a place in a list, and `scratch` any start or arm.
`meta-latent config EXPERIMENT [KEY]` shows the values that an experiment has, and where each came from.
Made from the code by `python docs/make_settings.py`."""
_REQUIRED = (".0.suite", "NAME.suite", "distractors.0.name", "distractors.0.intensity", "distractors.0.seed")
_SECTIONS = ("The experiment", "random", "model", "learner", "pretrain", "transfer")


def page() -> str:
    """The text of docs/settings.md."""
    found = list(listing.settings(_example()))
    parts = [_INTRODUCTION]
    for section in _SECTIONS:
        inside = [s for s in found if _section(s.key) == section]
        parts.append(f"## {section}\n\n{_table(inside)}")
    parts.append("## algorithms\n\nWhat each is and where it is from: `meta-latent algorithms NAME`.")
    for name in registry.names():
        own = [replace(s, key=f"algorithms.{name}.{s.key}") for s in listing.settings(registry.get(name).config())]
        parts.append(f"### {name}\n\n{_table(own)}")
    return "\n\n".join(parts) + "\n"


def _example() -> ExperimentConfig:
    """Defaults, with one item in each list or mapping of settings."""
    distractors = (DistractorConfig("NAME", 1.0, 0),)
    pretrain = PretrainConfig(sources=(SourceConfig("SUITE", distractors=distractors),))
    transfer = TransferConfig(targets={"NAME": TargetConfig("SUITE", distractors=distractors)},
                              adaptation={"scratch": AdaptationConfig()})  # fmt: skip
    return ExperimentConfig(pretrain=pretrain, transfer=transfer)


def _section(key: str) -> str:
    first = key.partition(".")[0]
    return first if "." in key and first in _SECTIONS else _SECTIONS[0]


def _table(settings: list[listing.Setting]) -> str:
    rows = ["| key | what it may be | default | meaning |", "|---|---|---|---|"]
    for one in settings:
        default = "" if one.key.endswith(_REQUIRED) else f"`{listing.shown(one.value)}`{_without_entry(one.key)}"
        cells = (f"`{one.key}`", one.expected, default, one.meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _without_entry(key: str) -> str:
    """Of a setting of `transfer.adaptation`: its values where an experiment has no entry, as far as they are others."""
    entry, _, name = key.rpartition(".")
    if entry != "transfer.adaptation.scratch":
        return ""
    starts = {"from scratch or `sequence`": SCRATCH, "from `encoder`": NEW_CORE}
    values = {start: getattr(settings, name) for start, settings in starts.items()}
    others = [f"{start} `{value}`" for start, value in values.items() if value != getattr(FROZEN_ENCODER, name)]
    return f"; where there is no entry, {' and '.join(others)}" if others else ""


if __name__ == "__main__":
    PAGE.write_text(page())
