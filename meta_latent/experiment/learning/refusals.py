"""What keeps an arm from learning a target, as far as that is known before anything starts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from meta_latent.algorithms.registry import Arm
from meta_latent.errors import Faults, UserError
from meta_latent.experiment.learning.starts import setting_of
from meta_latent.experiment.pretraining import model_folder, pretrain, source_data
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.settings import experiments
from meta_latent.experiment.settings.chosen import chosen_pairs
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import BoundTarget, bind_source, bind_target
from meta_latent.types import Spec
from task_suites import SuiteError


def check(experiment: ExperimentConfig, target: BoundTarget, arm: Arm) -> None:
    """Raise UserError if the algorithm cannot learn this target, as far as that is known before it starts."""
    data = experiment.transfer.targets[target.name].data
    if ("data" in arm.entry.needs) != bool(data):
        what = "learns from logged data" if not data else "collects its own data"
        raise UserError(f"{arm} {what}: {'set' if not data else 'leave out'} transfer.targets.{target.name}.data")
    if data and len(target.tasks) > 1:
        raise UserError(f"target {target.name}: logged data are of one task; leave out tasks or data")
    _check_settings(experiment, target, arm)
    if data:
        source_data.refuse_unknown_rewards(target, Path(data))
    elif "functions" in arm.entry.needs:
        setting, settings = arm.entry.relabels, experiment.settings_of(arm.algorithm)
        share = getattr(settings, setting) if setting else 0.0
        _check_relabelling(target, f"algorithms.{arm.algorithm}.{setting}", share)


def _check_settings(experiment: ExperimentConfig, target: BoundTarget, arm: Arm) -> None:
    """Raise UserError if the target lacks what the algorithm needs, or does not go with its settings and its model."""
    pretrained = None
    if arm.needs_model:
        with contextlib.suppress(UserError):  # it is still to be made
            pretrained = pretrain.model_path(experiment)
    setting = setting_of(experiment, target, arm, 0, pretrained)
    if pretrained is not None:
        model_folder.check_spec(pretrained, setting.spec)
    if arm.entry.check is not None:
        try:
            arm.entry.check(experiment.settings_of(arm.algorithm), setting)
        except UserError as error:
            raise UserError(f"{arm} on target {target.name}: {error}") from error


def check_before_pretraining(experiment: ExperimentConfig) -> None:
    """Raise UserError if an algorithm says that a chosen arm cannot learn with the model that is to be made; one that
    is begun has been paid for. A target that the model could not read is let pass: it may be made for others.
    """
    if checkpoint.exists(pretrain.folder_of(experiment) / "checkpoints"):
        return
    with Faults() as faults:
        for target, name in experiment.transfer.pairs():
            arm, chosen = Arm.parse(name), experiment.target in (None, target) and experiment.arm in (None, name)
            if chosen and arm.needs_model and arm.entry.check is not None:
                with faults.noted(SuiteError):
                    _check_settings(experiment, bind_target(experiment, target), arm)


def misfits(experiment: ExperimentConfig, targets: Iterable[BoundTarget]) -> list[str]:
    """Why a model that is made of `pretrain.sources` could not read each of `targets`, of those that it could not."""
    if not (targets := list(targets)) or not experiment.pretrain.sources:
        return []
    made = Spec.of(bind_source(experiment, 0).distribution)
    reasons = {target.name: made.mismatch(Spec.of(target.distribution)) for target in targets}
    return [f"target {name} does not fit the model of pretrain.sources: {reason}"
            for name, reason in reasons.items() if reason]  # fmt: skip


def _check_relabelling(target: BoundTarget, key: str, share: float) -> None:
    """Raise UserError if trials are to be paid as tasks pay whose reward is not known in them: `share` of them as any
    task does (the setting `key`), and all as their own does under the target's `training_options`.
    """
    for pays in (target.tasks, target.training_tasks):
        for k, bound in enumerate(pays):
            if bound.distribution.recomputes(bound.task):
                continue
            wrong = [j for j, other in enumerate(target.tasks) if (share or j == k)
                     and not bound.distribution.recomputes(bound.task, other.task)]  # fmt: skip
            if wrong:
                which = f"what task {k} pays ({bound.in_words()}) is not known in trials of task {wrong[0]}"
                advice = "training_options with another reward" if k in wrong else f"{key}=0, or another reward"
                raise UserError(f"target {target.name}: {which}: give {advice}")


def check_all(experiment: ExperimentConfig, faults: Faults) -> list[BoundTarget]:
    """The targets that are learned; what keeps an arm from one of them is noted."""
    pairs, found = [(target, Arm.parse(arm)) for target, arm in chosen_pairs(experiment)], []
    with faults.noted():
        experiments.refuse_sweep(experiment)
    for arm in dict.fromkeys(arm for _, arm in pairs):
        with faults.noted():
            arm.entry.require_extra(arm.algorithm)
    for target in dict.fromkeys(target for target, _ in pairs):
        with faults.noted(SuiteError):
            found.append(bind_target(experiment, target))
            for arm in (arm for name, arm in pairs if name == target):
                with faults.noted():
                    check(experiment, found[-1], arm)
    if not pretrain.model_there(experiment):
        with faults.noted(SuiteError):
            needing = {name for name, arm in pairs if arm.needs_model}
            for why in misfits(experiment, [target for target in found if target.name in needing]):
                with faults.noted():
                    raise UserError(why)
    return found
