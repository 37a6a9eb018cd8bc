"""Experiments by name, by file, or by the folder of their runs, which holds the settings that they began with."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from meta_latent import files
from meta_latent.errors import Faults, UserError
from meta_latent.experiment.settings import config, structure, suites, type_hints
from meta_latent.experiment.settings.config import Override
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.structure import Origin

FILE = "experiment.yaml"
"""In a folder of runs: all settings of the experiment."""
SWEEP = "sweep.json"
"""In the folder of a sweep, which is none of one experiment's runs."""
Schema = TypeVar("Schema", bound=ExperimentConfig)


def load(schema: type[Schema], name: str, overrides: Sequence[Override] = ()) -> Schema:
    """The experiment `name`: in configs/experiment/, a path of a YAML, or a folder of runs; then `overrides`.

    A folder may have been moved: its own place says what `out` and `name` are. One that is called like an experiment is
    meant with a slash, `./demo`. Raises UserError, see `config.load`.
    """
    return load_with_origins(schema, name, overrides)[0]


def load_with_origins(schema: type[Schema], name: str, overrides: Sequence[Override] = ()) -> tuple[Schema, Origin]:
    """See `load`; also a function that says where the value at a dotted key came from."""
    folder = Path(name := files.expanded(name))
    if name in config.choices("experiment") or not (folder / FILE).is_file():
        source, given = config.find("experiment", name), list(overrides)
        if source.name == FILE:  # of a folder of runs, named itself
            given = _without_gone(schema, source, given)
    else:
        whole = folder if folder.name not in ("", "..") else folder.resolve()  # a link has a name of its own
        source = folder / FILE
        given = [("out", str(whole.parent)), ("name", whole.name), *_without_gone(schema, source, overrides)]
    if "sweep" in config.read_yaml(source):
        raise UserError(f"{source} is a sweep: meta-latent sweep {name} runs it, which makes a folder of each variant")
    try:
        return config.load_with_origins(schema, [source], given)
    except UserError as error:
        with Faults() as faults:
            with faults.noted():
                raise error
            with faults.noted():  # told with what else is wrong, not after it
                settings = config.merged(schema, [source], given)[0]
                # A package that could not be imported may have brought them.
                found = _suites(settings) if _are_imported(settings.get("imports")) else {}
                for suite, key in found.items():
                    with faults.noted():
                        suites.require(suite, key)
        raise


def _without_gone(schema: type, path: Path, overrides: Sequence[Override]) -> list[Override]:
    """`overrides` but for those that leave out an entry (`transfer.targets.mine=null`) which the settings in `path`
    lack: the cell of a command that is done first writes them without it, and the others, and the same command when it
    goes on, read them.
    """
    kept: list[Override] = []
    for override in overrides:
        key, value, _ = config.parsed(override)
        above, _, name = key.rpartition(".")
        expected = type_hints.type_at(schema, above)
        if value is None and type_hints.is_entry(expected, type_hints.type_of(expected, name)):
            there = _inside(config.merged(schema, [path], kept)[0], *above.split("."))
            if isinstance(there, Mapping) and name not in there:
                if "did you mean" in (meant := structure.nearest(name, map(str, there))):
                    warnings.warn(f"{key}=null leaves out an entry that is not there{meant}", stacklevel=2)
                continue
        kept.append(override)
    return kept


def _are_imported(packages: Any) -> bool:
    return not packages or (isinstance(packages, list) and all(str(name) in sys.modules for name in packages))


def _suites(settings: Mapping[str, Any]) -> dict[str, str]:
    """Names of the suites in settings that have not been checked, each with the first key that names it."""
    sources, targets = _inside(settings, "pretrain", "sources"), _inside(settings, "transfer", "targets")
    tasks = {f"pretrain.sources.{k}": task for k, task in enumerate(sources if isinstance(sources, list) else [])}
    tasks |= {f"transfer.targets.{k}": task for k, task in (targets if isinstance(targets, Mapping) else {}).items()}
    found: dict[str, str] = {}
    for key, task in tasks.items():
        if isinstance(name := _inside(task, "suite"), str):
            found.setdefault(name, f"{key}.suite")
    return found


def _inside(value: Any, *keys: str) -> Any:
    """What stands at `keys`; None where there is nothing."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def path_of(experiment: ExperimentConfig) -> Path:
    """Where `write` writes."""
    return Path(experiment.out) / experiment.name / FILE


def refuse_sweep(experiment: ExperimentConfig) -> None:
    """Raise UserError where the experiment's runs would lie in the folder of a sweep."""
    folder = path_of(experiment).parent
    if (folder / SWEEP).is_file():
        raise UserError(f"{folder} holds a sweep; give the experiment another name= or out=")


def keep(experiment: ExperimentConfig) -> None:
    """`write`, where no settings are kept yet."""
    if not path_of(experiment).is_file():
        write(experiment)


def write(experiment: ExperimentConfig) -> None:
    """Write `experiment`, without what names one cell, into the folder of its runs. RunError if the disk is full."""
    whole = replace(experiment, target=None, arm=None, run_seed=None)
    path, content = path_of(experiment), config.to_yaml(whole).encode()
    if not path.is_file() or path.read_bytes() != content:
        files.make_folder(path.parent)
        files.atomic_write_bytes(path, content)
