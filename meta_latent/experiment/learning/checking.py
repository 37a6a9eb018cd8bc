"""A learner tried before a long run: does it act and learn repeatably, and go on from a checkpoint bit for bit?"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import meta_latent
import task_suites
from meta_latent.algorithms.registry import Arm
from meta_latent.data.collect import Shown, play
from meta_latent.errors import Faults, RunError, UserError, counted, described
from meta_latent.experiment.learning import cells, refusals, starts
from meta_latent.experiment.learning.cell_settings import narrowed
from meta_latent.experiment.learning.loop import Learning
from meta_latent.experiment.pretraining import model_folder, pretrain
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.runs.devices import repeatable
from meta_latent.experiment.runs.run_folder import RunFolder
from meta_latent.experiment.settings.arms import adaptation_of
from meta_latent.experiment.settings.chosen import chosen_pairs
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import BoundTarget, BoundTask, bind_source
from meta_latent.rng import Streams, global_states
from task_suites import Task, checks

UPDATES, LIMIT = 3, 200
"""Rounds with updates before the checkpoint and after it, and in how many rounds the next one has to come."""
_PACKAGE = Path(meta_latent.__file__).parent
FEW = {
    **dict.fromkeys(("joint_updates", "filter_updates", "transition_updates", "policy_updates"), 2),
    **dict.fromkeys(("first_joint", "first_filter", "first_transition", "first_updates", "source_updates"), 2),
    **dict.fromkeys(("joint", "filter", "transition", "updates_per_step"), 0.1),
    **dict.fromkeys(("outer_steps", "max_epochs"), 3),
}
"""How often is learned at most, by the names of settings: as often as the experiment says would take its time."""


@dataclass(frozen=True)
class Checked:
    """What was tried, such as "suite toy/puck" or "new_place ivg/scratch", how, what is wrong with it, and what was
    warned of meanwhile; skipped: it was not tried, because of another part.
    """

    subject: str
    tried: str
    faults: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    skipped: bool = False


def check(experiment: ExperimentConfig, folder: Path) -> Iterator[Checked]:
    """Try the suites of the targets and each chosen arm on its target; writes into `folder` alone.

    Of a pretraining that has not been done, one of a few updates is made in its place. Raises UserError as `transfer`
    does before its first step.
    """
    if not experiment.transfer.targets:
        raise UserError("transfer.targets is empty: there is nothing to try; name one or more tasks")
    pairs = [(target, Arm.parse(arm)) for target, arm in chosen_pairs(experiment)]
    with Faults() as faults:
        bound = {target.name: target for target in refusals.check_all(experiment, faults)}
    needs_model = any(arm.needs_model for _, arm in pairs)
    sources = _sources(experiment) if needs_model and not pretrain.model_there(experiment) else []
    groups = [group for target in bound.values() for group in _groups(target)] + _groups_of_sources(sources)
    users, wrong = _users(bound, sources), set()
    for key in dict.fromkeys(_kind(first) for first, *_ in groups):
        suite, found = _suite([group for group in groups if _kind(group[0]) == key], users)
        wrong |= found
        yield suite
    faulty = {name for name, target in bound.items()
              if any(_kind(one) in wrong for group in _groups(target) for one in group)}  # fmt: skip
    pretrained, model = None, None
    if needs_model:
        pretrained, model = _model(experiment, folder)
        yield model
    experiment = dataclasses.replace(_seldom(experiment, pairs), out=str(folder),
                                     pretrained=pretrained and str(pretrained))  # fmt: skip
    told: set[str] = set()
    for target, arm in pairs:
        if arm.needs_model and pretrained is None:
            yield Checked(f"{target} {arm}", "not tried: there is no model", skipped=True)
        elif target in faulty:
            yield Checked(f"{target} {arm}", "not tried: mend its suite first", skipped=True)
        else:
            yield _arm(experiment, bound[target], arm, pretrained if arm.needs_model else None, told)


def _seldom(experiment: ExperimentConfig, pairs: Iterable[tuple[str, Arm]]) -> ExperimentConfig:
    """The same experiment, whose learners and models learn `FEW` times."""
    algorithms = {arm.algorithm: _few(experiment.settings_of(arm.algorithm)) for _, arm in pairs}
    adaptation = {str(arm): _few(adaptation_of(experiment, arm)) for _, arm in pairs}
    transfer = dataclasses.replace(experiment.transfer, adaptation=adaptation)
    return dataclasses.replace(experiment, algorithms={**experiment.algorithms, **algorithms}, transfer=transfer)


def _few(settings: Any) -> Any:
    """Settings, and those that are part of them, with the numbers that `FEW` names."""
    found = {}
    for part in dataclasses.fields(settings):
        value = getattr(settings, part.name)
        if dataclasses.is_dataclass(value):
            found[part.name] = _few(value)
        elif part.name in FEW and isinstance(value, int | float) and value > FEW[part.name]:
            found[part.name] = FEW[part.name]
    return dataclasses.replace(settings, **found)


def _groups(target: BoundTarget) -> list[tuple[BoundTask, ...]]:
    """The tasks that a target has, kind by kind."""
    return [tasks for tasks in (target.tasks, target.test_tasks, target.training_tasks) if tasks]


def _sources(experiment: ExperimentConfig) -> list[tuple[str, BoundTask]]:
    """The sources that are played, and the key of each."""
    settings, opened = experiment.pretrain, {}
    return [(settings.source_key(place), bind_source(experiment, place, opened))
            for place, source in enumerate(settings.each_source) if not source.data]  # fmt: skip


def _groups_of_sources(sources: Iterable[tuple[str, BoundTask]]) -> list[tuple[BoundTask, ...]]:
    """Of each distribution those of one reward."""
    found: dict[Any, tuple[BoundTask, ...]] = {}
    for _, one in sources:
        key = (*_kind(one)[:2], one.task.reward.name)
        found[key] = (*found.get(key, ()), one)
    return list(found.values())


def _users(
    targets: Mapping[str, BoundTarget], sources: Iterable[tuple[str, BoundTask]]
) -> dict[tuple, dict[str, None]]:
    """The keys of the sections that use each task, in order."""
    found: dict[tuple, dict[str, None]] = {}
    every = [(f"transfer.targets.{name}", one)
             for name, target in targets.items() for group in _groups(target) for one in group]  # fmt: skip
    for section, one in [*every, *sources]:
        found.setdefault(_kind(one), {})[section] = None
    return found


def _kind(one: BoundTask) -> tuple:
    return repr(one.distribution), one.distribution.max_episode_steps, one.task


def _suite(groups: Sequence[tuple[BoundTask, ...]], users: Mapping[tuple, Iterable[str]]) -> tuple[Checked, set[tuple]]:
    """Try the task that all `groups` begin with, and in passing those after it, group by group, as one with a fault
    hides the next. Each fault names the `users` of its task; also returned are the kinds of what has one.
    """
    first = groups[0][0]
    later = dict.fromkeys(tuple(dict.fromkeys(one.task for one in group if one.task != first.task)) for group in groups)
    count = len({task for others in later for task in others})
    more = f"; in passing {counted(count, 'more task')}" if count else ""
    success = "success, " * first.distribution.tells_success
    dynamics = f", dynamics {words}" if (words := first.task.dynamics.in_words()) else ""
    tried = f"seeds, spaces, rewards, {success}ends of {first.in_words()}{dynamics}{more}"
    found: list[tuple[Task, str]] = []
    with _noted(Checked(f"suite {first.distribution.name}", tried)) as checked:
        found += [(first.task, fault) for fault in task_suites.faults(first.distribution, [first.task])]
        if not found:
            found += filter(None, (checks.later_fault(first.distribution, others) for others in later))
    found += [(first.task, fault) for fault in checked.faults]
    kinds = {task: (*_kind(first)[:2], task) for task, _ in found}
    checked.faults[:] = [f"{', '.join(users[kinds[task]])}: {fault}" for task, fault in dict.fromkeys(found)]
    return checked, set(kinds.values())


def _model(experiment: ExperimentConfig, folder: Path) -> tuple[Path | None, Checked]:
    """The model that arms start from: the experiment's, or one that has hardly been trained."""
    if pretrain.model_there(experiment):
        found = pretrain.model_path(experiment)
        model_folder.read_card(found)
        return found, Checked("model", f"the one in {found}")
    settings, path = experiment.pretrain, None
    with _noted(Checked("model", "a pretraining of a few updates")) as checked, _quiet():
        sources = pretrain.checked(experiment)[0]
        episodes = max(4, 2 * settings.episodes_per_trial * len(sources))
        longest = max(source.distribution.max_episode_steps for source in sources)
        steps = min(settings.env_steps, episodes * longest)
        tiny = dataclasses.replace(_few(settings), env_steps=steps, on_policy=0.0, held_out=0.0)
        path = pretrain.pretrain(dataclasses.replace(experiment, pretrain=tiny, out=str(folder / "pretraining")))
    return path, checked


def _arm(
    experiment: ExperimentConfig, target: BoundTarget, arm: Arm, pretrained: Path | None, told: set[str]
) -> Checked:
    """told: targets of which is said already what random actions earn; without references nothing else tells it."""
    tried, earned = "acts, learns and goes on from a checkpoint, bit for bit", []
    with _noted(Checked(f"{target.name} {arm}", tried)) as checked:
        checked.faults.extend(_learned(experiment, target, arm, pretrained, earned))
    if not earned or target.name in told or target.references() is not None:
        return checked
    told.add(target.name)
    random = f"random actions earn a raw return of {np.mean(earned):.4g} ({counted(len(earned), 'episode')})"
    return dataclasses.replace(checked, tried=f"{tried}; {random}")


def _learned(
    experiment: ExperimentConfig, target: BoundTarget, arm: Arm, pretrained: Path | None, earned: list[float]
) -> list[str]:
    """Learn to the first update, save, go on; then go on once more from what was saved, and compare. earned: gets the
    raw returns of the warm-up's random episodes.
    """
    seed = experiment.run_seed or 0
    folder = cells.cell_folder(experiment, target.name, arm, seed)
    settings = narrowed(experiment, target.name, arm, seed, pretrained)

    @contextlib.contextmanager
    def opened() -> Iterator[Learning]:
        with repeatable(experiment.device), RunFolder(folder, settings, seed=seed) as run, _quiet():
            learning = Learning(experiment, target, arm, seed, pretrained, run)
            with contextlib.closing(learning.collector), contextlib.closing(learning.evaluation):
                yield learning

    with opened() as learning:
        kind, drawn = type(learning.agent).__name__, global_states()
        for _ in range(UPDATES):
            _to_update(learning)
        earned += learning.collector.random_returns
        found = _acts(learning)
        found += [f"{kind} draws from the global generator of {name}: draw from `rng`, which checkpoints keep"
                  for name, state in global_states().items() if state != drawn[name]]  # fmt: skip
        learning.evaluation.repeats = 1
        learning.evaluation.score(learning.agent)
        learning.saved.save()
        whole = _go_on(learning)
    try:
        with opened() as learning:
            again = _go_on(learning)
        if measured := _measured_otherwise(whole, again):
            with opened() as learning:  # what is another number here, too, such as a time, tells nothing
                measured -= _measured_otherwise(again, _go_on(learning))
    except checkpoint.Misfit as error:
        return [*found, f"{kind}.load_state raised {described(error.__cause__ or error)}"]
    for k, (first, second) in enumerate(zip(whole, again, strict=True)):
        difference = first_difference(_without_metrics(first, measured), _without_metrics(second, measured))
        if difference:
            return [*found, f"from a checkpoint it goes on otherwise: {difference} {counted(k, 'update')} later: "
                            "state() and load_state have to hold all that acting, learning and metrics depend on, and "
                            "all randomness has to come from `rng`"]  # fmt: skip
    return found


def _without_metrics(stand: dict, but: Collection[str]) -> dict:
    return stand | {"metrics": {name: value for name, value in stand["metrics"].items() if name in but}}


def _measured_otherwise(first: Iterable[dict], second: Iterable[dict]) -> set[str]:
    """The metrics that differ at any of the `_stand`s."""
    pairs = [(one["metrics"], other["metrics"]) for one, other in zip(first, second, strict=True)]
    return {name for one, other in pairs for name in {*one, *other}
            if first_difference(one.get(name), other.get(name), name)}  # fmt: skip


def _to_update(learning: Learning) -> None:
    """Until there is another update, and data are wanted again."""
    before = learning.agent.updates
    for _ in range(LIMIT):
        learning.round()
        if learning.agent.updates > before and learning.between_updates():
            return
    raise RunError(f"{type(learning.agent).__name__}.update made no update in {LIMIT} rounds: if it was to make one, "
                   "it has to count self.updates up")  # fmt: skip


def _go_on(learning: Learning) -> list[dict]:
    """Now and after each of the next updates, all that the following ones depend on, what was measured, and how the
    agent acts.
    """
    found = [_stand(learning)]
    for _ in range(UPDATES):
        learning.averages.reset()  # one NaN would hide all that comes after it
        _to_update(learning)
        found.append(_stand(learning))
    return found


def _stand(learning: Learning) -> dict:
    agent = learning.agent
    return frozen({"updates": agent.updates, "agent.state()": agent.state(), "steps": learning.replay.env_steps,
                   "random streams": learning.streams.state(), "actions": _actions(learning, False),
                   "metrics": learning.averages.means()})  # fmt: skip


def _actions(learning: Learning, explore: bool) -> list:
    """Of two episodes, always the same ones if the agent is."""
    bound, sees = learning.target.tasks[0], learning.arm.entry.sees
    task = starts.task_vectors([bound]).expand(2, -1) if "task" in sees else None
    with contextlib.closing(bound.distribution.make_vector([bound.task] * 2)) as rows:
        shown = Shown(sees, task, torch.zeros(2, dtype=torch.long), torch.arange(2))
        played = play(rows, learning.agent, np.array([[0], [1]]), Streams(0), explore=explore, shown=shown, keep=True)
    return frozen([episode["action"] for trial in played.episodes for episode in trial])


def _acts(learning: Learning) -> list[str]:
    """Acting is a function of what is seen, the carry and the streams, and changes nothing."""
    agent, kind, found = learning.agent, type(learning.agent).__name__, []
    before = frozen(agent.state())
    for explore in (False, True):
        if first_difference(_actions(learning, explore), _actions(learning, explore)):
            found.append(f"{kind}.act(explore={explore}) does something else when the same episodes are played again "
                         "with the same streams: draw from `rng`, and remember in the carry")  # fmt: skip
    if first_difference(before, frozen(agent.state())):
        found.append(f"{kind}.act changes the agent: what is remembered of a trial belongs into the carry")
    return found


@contextlib.contextmanager
def _noted(checked: Checked) -> Iterator[Checked]:
    """Adds what is raised inside, with the place in somebody's code where it was, and what this package warns of."""
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            yield checked
    except (UserError, RunError, task_suites.SuiteError) as error:
        checked.faults.append(str(error))
    except Exception as error:  # somebody's code
        checked.faults.append(described(error))
    ours = (str(warning.message) for warning in told if Path(warning.filename).is_relative_to(_PACKAGE))
    checked.warned.extend(dict.fromkeys(ours))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What a run says of itself would be taken for what the check says."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def frozen(value: Any) -> Any:
    """A nested state as comparable values, tensors and arrays as bytes."""
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): frozen(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [frozen(item) for item in value]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return (str(value.dtype), value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def first_difference(a: Any, b: Any, place: str = "") -> str | None:
    """The first place at which two `frozen` states differ, or None."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        pairs = [(a[key], b[key], f"{place}.{key}" if place else key) for key in a]
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = [(x, y, f"{place}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True))]
    else:
        return None if a == b or (a != a and b != b) else f"{place} differs"
    return next((found for pair in pairs if (found := first_difference(*pair))), None)
