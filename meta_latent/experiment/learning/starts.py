"""From an arm to an agent: what it starts from, what of the model keeps learning, what it may be built from.

| start | the model | on the target |
|---|---|---|
| scratch | new | everything learns |
| pretrained | the pretrained one | transition heads learn, the encoder stays frozen |
| encoder | the pretrained encoder and decoders; what remembers and predicts is new | core and heads learn |
| sequence | the pretrained core and heads; encoder and decoders are new | everything learns |
| policy | the pretrained one, and its source policy | the same, fine-tuning that policy |
| ...+data | as before | source episodes stand in model batches and imagination starts too |

`transfer.adaptation` changes what learns. Rewards that source episodes were paid are never used; `meld` pays them anew,
as its training tasks pay.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import task_suites
from meta_latent.algorithms.registry import PARTS, Arm, Functions, Setting
from meta_latent.data.latents import LatentCache
from meta_latent.data.source import SourceData
from meta_latent.errors import UserError, described
from meta_latent.experiment.pretraining import model_folder, source_data, source_policy
from meta_latent.experiment.settings import structure
from meta_latent.experiment.settings.arms import adaptation_of
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import BoundTarget
from meta_latent.models.config import ModelConfig
from meta_latent.models.latent_state_model import PIXELS, LatentStateModel
from meta_latent.models.learner import ModelLearner
from meta_latent.policies.latent_agent import LatentParts
from meta_latent.protocols import Agent
from meta_latent.rng import derive, seeded_construction
from meta_latent.types import Spec
from task_suites import checks
from task_suites.errors import unfit


def build(experiment: ExperimentConfig, target: BoundTarget, arm: Arm, seed: int, pretrained: Path | None) -> Agent:
    """The agent of `arm` for run `seed`; `pretrained` is the model folder where its start needs one.

    Raises UserError if the model, its source data or its policy are missing or do not fit, if a package extra
    is, or if the target lacks what the algorithm needs.
    """
    entry = arm.entry
    entry.require_extra(arm.algorithm)
    setting = setting_of(experiment, target, arm, seed, pretrained)
    with seeded_construction(derive(seed, "agent", str(arm))):
        return entry.build(experiment.settings_of(arm.algorithm), setting)


def setting_of(
    experiment: ExperimentConfig, target: BoundTarget, arm: Arm, seed: int, pretrained: Path | None
) -> Setting:
    """All that the algorithm may be built from."""
    entry, spec, model = arm.entry, Spec.of(target.distribution), _model_of(experiment, arm, pretrained)
    warmup = experiment.transfer.warmup_of(target.name) if entry.warmup else 0
    return Setting(
        spec=spec,
        start=arm.start,
        device=experiment.device,
        seed=seed,
        tasks=len(target.tasks),
        task_vectors=task_vectors(target.tasks) if "task" in entry.sees else torch.zeros(len(target.tasks), 0),
        max_episode_steps=target.distribution.max_episode_steps,
        episodes_per_trial=target.episodes_per_trial,
        budget=experiment.transfer.budget(target.name, str(arm)),
        functions=functions_for(target, arm),
        latent_parts=lambda: latent_parts(experiment, target, arm, pretrained),
        dynamics=_numbered((bound.task.parameters, bound.task.dynamics) for bound in target.tasks),
        rewards=_numbered((bound.task.parameters, bound.task.reward) for bound in target.tasks),
        heads=model.ensemble.heads,
        reward_input=model.reward_input,
        target=target.name,
        warmup_trials=math.ceil(warmup / target.episodes_per_trial),
    )


def _model_of(experiment: ExperimentConfig, arm: Arm, pretrained: Path | None) -> ModelConfig:
    """What an arm's model is made of: the one that is there, else as the settings say."""
    if pretrained is not None and not arm.from_scratch:
        with contextlib.suppress(UserError, KeyError):  # none yet, or one that is refused when it is opened
            return structure.build(ModelConfig, model_folder.read_card(pretrained)["config"], str)
    return experiment.model


def _numbered(values: Iterable[Hashable]) -> tuple[int, ...]:
    """A number for each of `values`, which equal ones share."""
    numbers: dict[Hashable, int] = {}
    return tuple(numbers.setdefault(value, len(numbers)) for value in values)


def functions_for(target: BoundTarget, arm: Arm) -> Functions | None:
    """Rewards and ends of the target where the algorithm needs them. Raises UserError where it lacks something."""
    needs = arm.entry.needs
    if not needs & {"functions", "states"}:
        return None
    found = functions_of(target)
    if "states" in needs and not found.observed:
        raise UserError(
            f"{arm} needs to observe all that rewards follow from, which target {target.name} does not show; some "
            "suites have an option: suite={observation: reward_inputs}"
        )
    return found


def latent_parts(experiment: ExperimentConfig, target: BoundTarget, arm: Arm, pretrained: Path | None) -> LatentParts:
    """Model, learner, cache and source data of an arm. Raises UserError: see `build`; RuntimeError: there is no model
    yet, where an algorithm's `check` asks for it.
    """
    if arm.needs_model and pretrained is None:
        raise RuntimeError(f"{arm}: the model is still to be made; `check` can ask for no `latent_parts`")
    spec, transfer, rewards = Spec.of(target.distribution), experiment.transfer, None
    if arm.from_scratch:
        model = LatentStateModel(spec, experiment.model).to(experiment.device)
    else:
        model = model_folder.load_for(pretrained, spec, experiment.device)
        rewards = model_folder.read_card(pretrained).get("rewards")  # models of earlier versions do not say
        if arm.start in PARTS:
            model = with_part(model, arm.start)
        if arm.start == "encoder":
            rewards = None  # a new core has read none
    if "density" in arm.entry.needs and not model.core.stochastic:
        raise UserError(f"{arm} needs a model whose transitions have a density, not {model.config.core.kind!r}; "
                        "set model.core.kind=rssm")  # fmt: skip
    adaptation = adaptation_of(experiment, arm)
    source = load_policy = None
    if arm.with_data:
        frozen = adaptation.joint == 0 and adaptation.first_joint == 0
        replay = source_data.open_replay(pretrained, spec, model.heads, transfer.source_episodes)
        if "functions" in arm.entry.needs:  # source episodes are paid as the target's tasks pay
            source_data.refuse_unknown_rewards(target, pretrained)
            source_data.refuse_beyond_ends(replay, target.tasks[0], f"target {target.name}")
        source = SourceData(replay, len(replay.episodes) if frozen else transfer.source_episodes_at_once)
    if arm.start.startswith("policy"):
        stored = model_folder.load_policy(pretrained, experiment.device)

        def load_policy(network: torch.nn.Module) -> None:
            source_policy.load_network(network, stored, "policy", pretrained)

    learner = ModelLearner(model, experiment.learner, new_encoder=arm.from_scratch or arm.start == "sequence")
    return LatentParts(model, learner, adaptation, LatentCache(), source, load_policy, rewards)


def with_part(model: LatentStateModel, part: str) -> LatentStateModel:
    """A new model of the same sizes with the "encoder" (and decoders) or the "sequence" model of `model`."""
    new = LatentStateModel(model.spec, model.config, model.task_rewards).to(model.device)
    taken = {k: v for k, v in model.state_dict().items() if k.startswith(PIXELS) == (part == "encoder")}
    new.load_state_dict(taken, strict=False)
    return new


def task_vectors(tasks) -> torch.Tensor:
    """(N, P) float32: the numbers that tell bound tasks apart."""
    return torch.from_numpy(np.stack([task.distribution.task_vector(task.task) for task in tasks]))


def functions_of(target: BoundTarget) -> Functions:
    """The tasks' rewards and ends, each vectorised over tasks.

    Raises UserError, with the numbers, if a reward or an end is not what the environment says on real steps.
    """
    _check_functions(target)
    pays = [partial(bound.distribution.reward, bound.task) for bound in target.tasks]
    trained_on = [partial(bound.distribution.reward, bound.task) for bound in target.training_tasks]
    return Functions(
        reward=_grouped(pays),
        terminated=_grouped([partial(bound.distribution.terminated, bound.task) for bound in target.tasks]),
        observed=_observed(target),
        invariant=invariant_inputs(target.distribution),
        training_reward=_grouped(trained_on) if trained_on else None,
    )


def _grouped(functions: Sequence[Callable]) -> Callable:
    """(task_index (...,), inputs (..., R), action (..., A)) -> (...,): each row by its own task's function."""

    def call(task_index, inputs, action):
        tensors = isinstance(inputs, torch.Tensor)
        index = torch.as_tensor(task_index).cpu().numpy()
        index = index.reshape(*index.shape, *[1] * (inputs.ndim - 1 - index.ndim))  # (B,) with (B, T, R)
        shape = inputs.shape[:-1]
        index = np.broadcast_to(index, shape)
        if index.size and not 0 <= index.min() <= index.max() < len(functions):
            raise ValueError(f"task_index from {index.min()} to {index.max()}: there are {len(functions)} tasks")
        if not index.size or index.min() == index.max():  # nothing to sort
            return functions[int(index.flat[0]) if index.size else 0](inputs, action)
        # Sorted by task, the rows of each function are one piece; masks would cost more than what functions do.
        order = np.argsort(index, axis=None, kind="stable")
        found, counts = np.unique(index, return_counts=True)
        back, stops = np.argsort(order), counts.cumsum()
        if tensors:
            order, back = (torch.from_numpy(places).to(inputs.device) for places in (order, back))
        inputs, action = (values.reshape(index.size, values.shape[-1])[order] for values in (inputs, action))
        paid = [functions[k](inputs[stop - count : stop], action[stop - count : stop])
                for k, count, stop in zip(found, counts, stops, strict=True)]  # fmt: skip
        return (torch.cat(paid) if tensors else np.concatenate(paid))[back].reshape(shape)

    return call


def invariant_inputs(distribution) -> tuple[int, ...]:
    """Places of the reward inputs that change nothing but themselves."""
    return tuple(map(distribution.reward_input_names.index, distribution.invariant_input_names))


@dataclass(frozen=True)
class _RealStep:
    """What an environment said of a step."""

    observation: dict
    action: np.ndarray
    reward: float
    terminated: bool
    info: dict


def _real_steps(target: BoundTarget, count: int = 8) -> list[_RealStep]:
    """A few random steps of the first task."""
    env, rng, found = target.tasks[0].make(), np.random.default_rng(0), []
    env.reset(seed=0)
    for _ in range(count):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        observation, reward, terminated, truncated, info = env.step(action)
        found.append(_RealStep(observation, action, float(reward), bool(terminated), info))
        if terminated or truncated:
            break
    env.close()
    return found


def _check_functions(target: BoundTarget) -> None:
    bound = target.tasks[0]
    for name in ("reward", "terminated"):
        if wrong := unfit(getattr(bound.distribution, name), checks.TAKE[name]):
            raise UserError(f"target {target.name}: {name}: {wrong}")
    for step in _real_steps(target):
        inputs, action = (np.stack([part] * 2)[None] for part in (step.info["reward_inputs"], step.action))
        said = _computed(target, "reward", inputs, action)
        if abs(float(said[0, 0]) - step.reward) > _tolerance(step.reward):
            raise UserError(
                f"target {target.name}: the environment paid {step.reward:.6g} for a step, its reward function says "
                f"{said[0].tolist()}: it has to be vectorised and equal"
            )
        ends = _computed(target, "terminated", inputs, action)
        if bool(ends[0, 0]) != step.terminated:
            raise UserError(
                f"target {target.name}: the environment ended for good at a step: {step.terminated}, its function "
                f"`terminated` says {ends[0].tolist()}: it has to be vectorised and equal"
            )


def _computed(target: BoundTarget, name: str, inputs: np.ndarray, action: np.ndarray, task: int = 0) -> np.ndarray:
    """What the function `name` of task number `task` says of inputs (..., R) and actions (..., A): (...,)."""
    bound, there = target.tasks[task], f" in task {task}" if task else ""
    try:
        said = np.asarray(getattr(bound.distribution, name)(bound.task, inputs, action))
    except task_suites.SuiteError as error:
        raise UserError(f"target {target.name} has no {name} function to compute with{there}: {error}") from error
    except Exception as error:  # somebody's code
        raise UserError(f"target {target.name}: {name}, of inputs of shape {inputs.shape}{there}, raised "
                        f"{described(error)}: it has to be vectorised") from error  # fmt: skip
    if said.shape != inputs.shape[:-1]:
        raise UserError(f"target {target.name}: {checks.misshapen(name, inputs.shape, said.shape)}{there}")
    return said


def _tolerance(paid: Any) -> Any:
    return 1e-3 * np.maximum(1.0, np.abs(paid))


def refuse_other_rewards(target: BoundTarget, task: int, episode: dict[str, np.ndarray]) -> None:
    """Raise UserError, with the numbers, if the reward function of task number `task` does not say what the environment
    paid in an episode of it.
    """
    bound = target.tasks[task]
    paid, there = episode["reward"], episode["reward_present"] > 0
    said = _computed(target, "reward", episode["reward_inputs"], episode["action"], task)
    wrong = np.flatnonzero(there & ~(np.abs(said - paid) <= _tolerance(paid)))
    if len(wrong):
        at = wrong[0]
        raise UserError(f"target {target.name}: task {task} ({bound.in_words()}) was paid {paid[at]:.6g} for step {at} "
                        f"of an episode, its reward function says {said[at]:.6g}: they have to be equal")  # fmt: skip


def _observed(target: BoundTarget) -> bool:
    """Whether proprioception is what rewards are computed from."""
    return all(
        np.array_equal(step.observation.get("proprio", ()), step.info["reward_inputs"]) for step in _real_steps(target)
    )
