"""`meta-latent evaluate NAME target=... arm=... run_seed=...`, or `evaluate FOLDER` of a run: score or film a saved
agent; nothing is learned.

Of the three keys so many are needed as name one trained agent. With a NAME and none of them, the source policy of the
experiment's pretraining is scored on its source task.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meta_latent import ranges
from meta_latent.algorithms.registry import Arm
from meta_latent.errors import UserError, counted
from meta_latent.experiment.learning import saved, selected
from meta_latent.experiment.learning.evaluation import Evaluation, evaluation_seed
from meta_latent.experiment.pretraining import model_folder, pretrain, source_policy
from meta_latent.experiment.runs.run_folder import read_record
from meta_latent.experiment.settings import config, experiments, names
from meta_latent.experiment.settings.schema import ExperimentConfig, TransferConfig
from meta_latent.experiment.settings.suites import BoundTarget, bind_source
from meta_latent.files import expanded, refuse_links
from meta_latent.protocols import Agent
from meta_latent.rng import derive
from meta_latent.types import Spec


@dataclass(frozen=True)
class EvaluateOptions:
    """How to evaluate.

    Attributes:
        episodes: how many, or, over many tasks, trials of each test task; null: as in the run's own
            evaluations. video: film the first so many of them.
        fresh: null: the fixed episodes of the learning curve; a number: other ones, drawn with this seed.
    """

    episodes: int | None = ranges.count(None, most=100_000)
    video: int = ranges.whole(1, most=1000)
    fresh: int | None = ranges.seed(None)


@dataclass(frozen=True)
class EvaluateConfig(EvaluateOptions, ExperimentConfig):
    """An experiment and how to evaluate it."""


@dataclass(frozen=True)
class FolderConfig(EvaluateOptions):
    """How to evaluate the agent in a run folder, which says all else.

    Attributes:
        device: of the networks. imports: packages that register more tasks and algorithms.
    """

    device: str = names.device("cpu")
    imports: tuple[str, ...] = ranges.items(may_be_empty=True, may_repeat=True)


@dataclass(frozen=True)
class Result:
    """What was measured: raw returns and success (N, R, E) of N test tasks, R trials, E episodes a trial, success NaN
    where the suite does not tell; scores (N, R, E), None where they are raw; files written; whether the agent's run is
    done.
    """

    returns: np.ndarray
    success: np.ndarray
    scores: np.ndarray | None
    videos: tuple[Path, ...] = ()
    done: bool = True

    def table(self) -> str:
        """Raw return, normalised score and success, as far as they are known, with their standard errors, per episode
        of the trial: those of the mean over new tasks, or, of one task, over new trials.
        """
        rows, episodes, told = [], self.returns.shape[-1], not np.isnan(self.success).any()
        for e in range(episodes):
            of = f", episode {e + 1}" if episodes > 1 else ""
            rows.append((f"raw return{of}", self.returns[..., e]))
            if self.scores is not None:
                rows.append((f"score{of}", self.scores[..., e]))
            if told:
                rows.append((f"success{of}", self.success[..., e].astype(float)))
        width = max(12, *(len(name) + 2 for name, _ in rows))
        lines = [f"{'':{width}}{'mean':>10}{'std. error':>12}"]
        for name, values in rows:
            drawn = values.mean(1) if len(values) > 1 else values[0]  # what is independent
            error = f"{drawn.std(ddof=1) / np.sqrt(drawn.size):12.3f}" if drawn.size > 1 else f"{'-':>12}"
            lines.append(f"{name:{width}}{values.mean():10.3f}{error}")
        return "\n".join(lines)


def run(name: str, overrides: list[str]) -> None:
    """Evaluate the experiment or the run folder `name` with `overrides`, which also take episodes=, video= and fresh=;
    prints a table.
    """
    name = expanded(name)
    if saved.is_cell(name):
        options = config.load(FolderConfig, [], overrides)
        cell = saved.of_folder(name, options.device)
        result = _played((cell.target, cell.arm, cell.folder, cell.load), cell.experiment.transfer, options)
    elif Path(name).is_dir() and not (Path(name) / experiments.FILE).is_file():
        saved.refuse_no_cell(name)
    else:
        result = evaluate(experiments.load(EvaluateConfig, name, overrides))
    tasks, trials, episodes = result.returns.shape
    of_each = f"{counted(tasks, 'test task')}, {counted(trials, 'trial')} of {counted(episodes, 'episode')} each"
    print(of_each if tasks > 1 or episodes > 1 else counted(trials, "episode"))
    if not result.done:
        print("the agent's run is not finished: this is its last checkpoint")
    print(result.table())
    for path in result.videos:
        print(path)


def evaluate(settings: EvaluateConfig) -> Result:
    """Load the one trained agent that is left by `target`, `arm` and `run_seed`, or the source policy if all are None,
    and play it.

    Raises UserError if several are left, or none, or the run's configuration is another one.
    """
    whole = (settings.target, settings.arm, settings.run_seed)
    opened = (_source_policy if whole == (None, None, None) else _cell)(settings)
    return _played(opened, settings.transfer, settings)


def _played(opened: Opened, transfer: TransferConfig, options: EvaluateOptions) -> Result:
    target, arm, folder, load = opened
    refuse_links(folder / "videos", folder)

    def seed_of(trial: int, episode: int) -> int:
        if options.fresh is None:
            return evaluation_seed(trial, episode)
        number = (episode,) if episode else ()
        return derive(options.fresh, "fresh evaluation", trial, *number) % 2**31

    evaluation = Evaluation(target, arm.entry, transfer.evaluation, transfer.side_by_side, options.episodes, seed_of)
    with contextlib.closing(evaluation):
        agent = load()
        played = evaluation.play(agent)
        videos = [evaluation.film(agent, k, folder / "videos" / f"evaluation_{k}.mp4")
                  for k in range(min(options.video, evaluation.repeats))]  # fmt: skip
        scores = None if evaluation.references is None else evaluation.normalised(played.returns)
    done = read_record(folder).get("status", "done") == "done"  # a model may have been copied without its run
    return Result(played.returns, played.success, scores, tuple(filter(None, videos)), done)


Opened = tuple[BoundTarget, Arm, Path, Callable[[], Agent]]


def _source_policy(settings: EvaluateConfig) -> Opened:
    root = Path(settings.out) / settings.name
    if (agents := saved.saved_cells(root)) and not _has_source_policy(settings):
        raise UserError(f"{saved.which_of(agents, root)}, or give target=, arm= and run_seed=")
    path = pretrain.model_path(settings)
    agent = source_policy.load_agent(path, settings.device)
    bound = bind_source(settings, settings.pretrain.policy_source)
    reason = agent.model.spec.mismatch(Spec.of(bound.distribution))
    if reason:
        raise UserError(f"{path} does not fit {bound.name}: {reason}")
    return BoundTarget(bound.name, (bound,), (bound,), 1), Arm("ivg", "policy"), path.parent, lambda: agent


def _has_source_policy(settings: EvaluateConfig) -> bool:
    try:
        return "policy" in model_folder.read_card(pretrain.model_path(settings))
    except UserError:  # no model at all
        return False


def _cell(settings: EvaluateConfig) -> Opened:
    target, arm, seed = settings.target, settings.arm, settings.run_seed
    if None in (target, arm, seed):
        target, arm, seed = _only_one(settings)
    cell = saved.of_experiment(settings, target, Arm.parse(arm), seed)
    return cell.target, cell.arm, cell.folder, cell.load


def _only_one(settings: EvaluateConfig) -> tuple[str, str, int]:
    """Target, arm and seed of the trained agent that the given ones leave. Raises UserError if they leave several."""
    root = Path(settings.out) / settings.name
    found = [folder.parts[-4:] for folder in selected.trained(root, (), settings, "with the same NAME and options")]
    if len(found) > 1:
        places = zip(("target", "arm", "run_seed"), zip(*((t, f"{a}/{s}", n) for t, a, s, n in found), strict=True),
                     strict=True)  # fmt: skip
        left = [f"{key}={' or '.join(dict.fromkeys(values))}" for key, values in places if len(set(values)) > 1]
        raise UserError(f"{len(found)} trained agents in {root} are meant; choose one with {', '.join(left)}")
    target, algorithm, start, seed = found[0]
    return target, f"{algorithm}/{start}", int(seed)
