"""A pretraining: what it depends on, where it lives, and what is checked before its first step."""

from __future__ import annotations

from pathlib import Path

from meta_latent.data.segments import in_megabytes, predicted_bytes
from meta_latent.errors import Faults, UserError
from meta_latent.experiment.pretraining import lengths, source_rewards, sources, team
from meta_latent.experiment.pretraining.stages import Pretraining
from meta_latent.experiment.runs import run_folder
from meta_latent.experiment.runs.devices import repeatable
from meta_latent.experiment.runs.interrupts import deferred
from meta_latent.experiment.runs.latitude import Latitude, settings_sha256
from meta_latent.experiment.runs.run_folder import RunFolder, read_record
from meta_latent.experiment.runs.stored_pretraining import completed, narrowed
from meta_latent.experiment.settings import experiments
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import BoundTask, bind_source, common_spec
from meta_latent.types import Spec
from task_suites import SuiteError

MAY_DIFFER = ("device", "pretrain.num_workers")
"""Keys that a resumed pretraining may change."""
LATITUDE = Latitude(MAY_DIFFER, completed=completed)
MADE_BY = "meta-latent pretrain with the same NAME and options"


def folder_of(experiment: ExperimentConfig) -> Path:
    """Where this experiment's pretraining lives: runs/NAME/pretrain/SEED."""
    return Path(experiment.out) / experiment.name / "pretrain" / str(experiment.seed)


def model_path(experiment: ExperimentConfig, made_by: str = MADE_BY) -> Path:
    """The model folder that pretrained arms open. Raises UserError, naming what makes it, if it is not finished."""
    if experiment.pretrained:
        return Path(experiment.pretrained)
    folder = folder_of(experiment)
    if read_record(folder).get("status") != "done":
        begun = "has not finished" if folder.exists() else "was never started"
        raise UserError(
            f"the pretraining of this experiment, in {folder}, {begun}: run {made_by}, or name a model with pretrained="
        )
    return folder / "model"


def has_finished(experiment: ExperimentConfig) -> bool:
    """Whether the pretraining is done, with the settings that it has now."""
    return run_folder.has_finished(folder_of(experiment), lambda: settings_of(narrowed(experiment)), checksum_of)


def model_there(experiment: ExperimentConfig) -> bool:
    """Whether a model was named, or the pretraining is done."""
    return bool(experiment.pretrained) or has_finished(experiment)


def settings_of(narrow: dict) -> str:
    """What `run.json` says of a pretraining's settings (`settings_sha256`). narrow: `narrowed`."""
    return settings_sha256(narrow, MAY_DIFFER)


def checksum_of(stored: dict) -> str:
    """`settings_of` the settings in a pretraining's folder."""
    return settings_of(completed(stored))


def checked(experiment: ExperimentConfig) -> tuple[list[BoundTask], Spec]:
    """The sources and the spec that they share. Raises UserError for all that can be known before the first step."""
    bound, spec, opened = [], None, {}
    with Faults() as faults:
        with faults.noted():
            experiments.refuse_sweep(experiment)
        for place, settings in enumerate(experiment.pretrain.each_source):
            with faults.noted(SuiteError):
                source = bind_source(experiment, place, opened)
                bound.append(source)
                if sources.scripted_share(experiment.pretrain, settings):
                    source.distribution.scripted(source.task)  # fails here, with words, where there is none
        if len(bound) == len(experiment.pretrain.each_source):
            with faults.noted():
                spec = common_spec(bound)
            if bound:
                with faults.noted():
                    source_rewards.check(experiment.pretrain, bound)
        if bound and len(bound) == len(experiment.pretrain.each_source) and not experiment.pretrain.logged:
            with faults.noted():
                lengths.check_steps(experiment, bound)
        if bound and not any(source.data for source in experiment.pretrain.sources):  # those may be longer
            with faults.noted():
                lengths.check(experiment, max(source.distribution.max_episode_steps for source in bound) + 1)
        with faults.noted():
            _check_capacity(experiment)
        with faults.noted():
            _check_heads(experiment)
        with faults.noted():
            team.check_sizes(experiment)
        with faults.noted():
            team.check_devices(experiment.device, experiment.pretrain.num_workers)
    return bound, spec


def _check_capacity(experiment: ExperimentConfig) -> None:
    capacity, steps = experiment.pretrain.replay.capacity, experiment.pretrain.env_steps
    if capacity < steps:
        raise UserError(
            f"pretrain.replay.capacity={capacity} is less than pretrain.env_steps={steps}: source data would be "
            "forgotten; raise the capacity"
        )


def _check_heads(experiment: ExperimentConfig) -> None:
    heads, count = experiment.model.ensemble.heads, len(experiment.pretrain.each_source)
    if experiment.pretrain.own_heads and experiment.pretrain.policy_updates:
        raise UserError("pretrain.own_heads=true: a source policy is learned in all heads alike, those of other "
                        "sources too; set pretrain.policy_updates=0")  # fmt: skip
    if experiment.pretrain.own_heads and heads > count:
        raise UserError(f"pretrain.own_heads=true: {count} sources for {heads} transition heads, of which some would "
                        "learn from nothing; name more sources, or lower model.ensemble.heads")  # fmt: skip


def pretrain(experiment: ExperimentConfig) -> Path:
    """Run (or resume, or skip if done) the pretraining of `experiment`; returns the model folder."""
    bound, spec = checked(experiment)
    steps = experiment.pretrain.env_steps
    folder, settings = folder_of(experiment), narrowed(experiment)
    with RunFolder(folder, settings, seed=experiment.seed, latitude=LATITUDE) as opened:
        if not opened.done:
            experiments.keep(experiment)  # what `transfer` wrote says more
            print(f"{steps:,} steps of source data take {in_megabytes(predicted_bytes(spec, steps))}", flush=True)
            with repeatable(experiment.device), deferred() as interrupts:
                Pretraining(experiment, bound, spec, opened).run(interrupts)
        return opened.root / "model"
