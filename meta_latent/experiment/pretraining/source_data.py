"""Where a pretrained model's source data is: `source.json` in the model folder, written and read here."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from meta_latent import files
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining.model_folder import read_card as read_model_card
from meta_latent.experiment.pretraining.model_folder import refuse_other_folder
from meta_latent.experiment.settings.suites import BoundTarget, BoundTask
from meta_latent.types import Spec
from task_suites import Task

NAME = "source.json"
FORMAT = 1
ALL = sys.maxsize
"""As many episodes as there are."""

BEYOND = 0.01
"""Share of steps beyond an end that is let pass: stored inputs are rounded, and an end may lie on a border."""


def describe(replay: SequenceReplay, model_folder: Path) -> dict:
    """The content of `source.json`: path (relative to the model folder), sha256, heads, spec and the replay's
    state.

    Flush the replay first.
    """
    state = replay.state()
    return {
        "format": FORMAT,
        "path": os.path.relpath(replay.folder, model_folder),
        "sha256": digest(replay.folder),
        "heads": replay.heads,
        "spec": replay.spec.to_dict(),
        "config": {"segment": replay.config.segment},
        "state": {**state, "episodes": np.asarray(state["episodes"]).tolist()},
    }


def digest(folder: Path) -> str:
    """One sha256 over names and contents of all segment files of a replay's folder."""
    total = hashlib.sha256()
    for path in sorted(filter(Path.is_file, Path(folder).glob("segment_*/*.bin"))):  # a pipe would wait
        total.update(f"{path.relative_to(folder).as_posix()} {files.sha256(path)}\n".encode())
    return total.hexdigest()


def read_card(model_folder: Path) -> dict:
    """The content of `source.json`. Raises UserError if the model has none, or it is damaged or of another
    format.
    """
    path = Path(model_folder) / NAME
    if not path.is_file():
        refuse_other_folder(Path(model_folder))
        raise UserError(
            f"{path} is missing: this model does not say where its source data is, so arms with +data "
            "cannot use it; pretrain again or leave those arms out"
        )
    try:
        card = files.from_json(files.read_bytes(path))
        if card["format"] != FORMAT:
            raise UserError(f"{path} has format {card['format']}, this version reads {FORMAT}: pretrain again")
        return {key: card[key] for key in ("path", "sha256", "heads", "spec", "config", "state")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}): pretrain again or restore it") from error


def spec_of(card: dict, model_folder: Path) -> Spec:
    """What the data of `read_card` are of. Raises UserError where that is no spec."""
    try:
        return Spec.from_dict(card["spec"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{Path(model_folder) / NAME} is damaged ({type(error).__name__}): pretrain again or restore it"
                        ) from error  # fmt: skip


def open_replay(model_folder: Path, spec: Spec, heads: int, episodes: int) -> SequenceReplay:
    """At most `episodes` of the source episodes, evenly spread over all of them; images are read from disk
    when used.

    Raises UserError if the data are gone or changed, do not fit `spec`, or have masks for another number of
    heads.
    """
    model_folder = Path(model_folder)
    card = read_card(model_folder)
    folder, stored = model_folder.joinpath(str(card["path"])).resolve(), spec_of(card, model_folder)
    if not folder.is_dir():
        raise UserError(
            f"the source data of {model_folder} are gone from {folder}; restore them, or leave out arms with +data"
        )
    if digest(folder) != card["sha256"]:
        raise UserError(f"the source data in {folder} were changed since the model in {model_folder} was trained")
    reason = stored.mismatch(spec)
    if stored.reward_inputs != spec.reward_inputs:
        reason = reason or stored.other_inputs(spec)
    if reason:
        raise UserError(f"the source data of {model_folder} do not fit the task: {reason}")
    if card["heads"] != heads:
        raise UserError(
            f"the source data of {model_folder} have masks for {card['heads']} ensemble heads, the model has "
            f"model.ensemble.heads={heads}"
        )
    try:
        replay = SequenceReplay(stored, ReplayConfig(memory_map=True, segment=card["config"]["segment"]), folder, heads)
        state = {**card["state"], "episodes": np.array(card["state"]["episodes"], np.int64).reshape(-1, 3)}
        replay.read_state(state)
    except (LookupError, ArithmeticError, TypeError, ValueError) as error:
        raise UserError(f"{model_folder / NAME} is damaged ({type(error).__name__}): pretrain again or restore it"
                        ) from error  # fmt: skip
    held = len(replay.episodes)
    return replay.subset(np.unique(np.linspace(0, held - 1, min(episodes, held)).round().astype(int)))


def refuse_unknown_rewards(target: BoundTarget, model_folder: Path) -> None:
    """Raise UserError if source episodes of the model cannot be paid as the tasks of the target pay."""
    if reason := spec_of(read_card(model_folder), model_folder).other_inputs(Spec.of(target.distribution)):
        raise UserError(f"target {target.name}: the source episodes of {model_folder} cannot be paid anew: {reason}")
    for bound in (*target.tasks, *target.training_tasks):
        suite = bound.distribution
        if suite.recomputes(bound.task):
            continue
        for source in read_model_card(model_folder).get("sources", ()):
            own = "data" not in source and source["suite"] == suite.name
            played = Task.from_json(json.dumps(source["task"])) if own else None
            if not suite.recomputes(bound.task, played):
                raise UserError(
                    f"target {target.name}: logged data and source episodes are paid anew, but what it pays "
                    f"({bound.in_words()}) is known in its own episodes alone, not in those of {source['suite']}: give "
                    "it a reward that can be computed for any, or data of its task"
                )


def refuse_beyond_ends(replay: SequenceReplay, bound: BoundTask, what: str) -> None:
    """Raise UserError, naming `what` is to learn it, where episodes of the replay go on where `bound`'s task would have
    ended them for good: what it pays can be computed again, what would have come of an end cannot.
    """
    beyond = replay.beyond_ends(lambda inputs, action: bound.distribution.terminated(bound.task, inputs, action))
    if beyond > BEYOND * len(replay):
        raise UserError(
            f"{what}: {beyond:,} of {len(replay):,} logged steps would have ended an episode of its task "
            f"({bound.in_words()}), and the data go on, as those of another task: give it data that end as its own do"
        )
