"""Pretrain a latent state model once, reuse it in every algorithm, and measure how much faster they learn::

    config = meta_latent.configure("puck", "seed=1")
    model = meta_latent.load(meta_latent.pretrain(config))  # a LatentStateModel, see meta_latent.protocols
    for arm in config.transfer.arms:
        meta_latent.transfer(config, "new_place", arm, seed=0)
    meta_latent.report(config)

The commands of `meta-latent` do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meta_latent.errors import RunError, UserError
from meta_latent.files import expanded
from meta_latent.ranges import checked_seed

if TYPE_CHECKING:  # imported inside the functions otherwise: `import meta_latent` stays fast
    from meta_latent.data.player import Player
    from meta_latent.experiment.commands import adapt as adaptation
    from meta_latent.experiment.commands.evaluate import Result
    from meta_latent.experiment.learning.checking import Checked
    from meta_latent.experiment.settings.schema import ExperimentConfig
    from meta_latent.models.latent_state_model import LatentStateModel
    from meta_latent.protocols import Agent

    Configurable = ExperimentConfig | str | Path | dict[str, Any]

__version__ = "0.1.0"
__all__ = [
    "RunError",
    "UserError",
    "adapt",
    "check",
    "configure",
    "evaluate",
    "export",
    "load",
    "player",
    "pretrain",
    "register_encoder",
    "report",
    "sweep",
    "transfer",
]


def load(path: str | Path, device: str = "cpu") -> LatentStateModel | Agent:
    """Open a pretrained model (the folder `model/` of a pretraining) or a trained agent (the folder of its run).

    Nothing is unpickled. Raises UserError if it is neither, was truncated or edited, or is of another version.
    """
    from meta_latent.experiment.learning import saved
    from meta_latent.experiment.pretraining import model_folder

    path = Path(expanded(path))
    if saved.is_cell(path):
        return saved.load_agent(path, device)
    model_folder.refuse_other_folder(path)
    if not (path / model_folder.CARD).is_file():
        raise UserError(f"{path} is neither a model (the folder model/ of a pretraining; {model_folder.CARD} is "
                        "missing) nor a run (runs/NAME/transfer/TARGET/ALGORITHM/START/SEED)")  # fmt: skip
    return model_folder.load(path, device)


def register_encoder(name: str, encoder: type, decoder: type) -> None:
    """Make `model.encoder.kind=NAME` known, see `meta_latent.models.parts`. Raises UserError for a taken name."""
    from meta_latent.models import parts

    parts.register_encoder(name, encoder, decoder)


def player(run: str | Path, device: str = "cpu", explore: bool = False, seed: int = 0) -> Player:
    """The trained agent of a run (runs/NAME/transfer/TARGET/ALGORITHM/START/SEED), ready to act in its target's
    environment, or the first test task of several: see `meta_latent.data.player.Player`.

    explore: draw actions, with this seed, instead of taking those that the agent is scored with. Raises UserError: see
    `load`.
    """
    from meta_latent.data.player import Player
    from meta_latent.experiment.learning import saved

    seed, cell = checked_seed(seed), saved.of_folder(expanded(run), device)
    task = cell.target.test_tasks[0]
    return Player(cell.load(), task.distribution, task.task, cell.arm.entry.sees, explore, seed)


def configure(source: str | Path | dict[str, Any], *overrides: str) -> ExperimentConfig:
    """An experiment: a name in configs/experiment/, a path, a folder of runs, or the same keys as a dict; then "a.b=1"
    overrides.

    Raises UserError naming an unknown or mistyped key, its origin and the nearest valid key.
    """
    from meta_latent.experiment.settings import config, experiments
    from meta_latent.experiment.settings.schema import ExperimentConfig

    if isinstance(source, dict):
        return config.load(ExperimentConfig, [source], list(overrides))
    return experiments.load(ExperimentConfig, str(source), overrides)


def _configured(config: Configurable) -> ExperimentConfig:
    """An experiment as it is; `configure` of what that takes. Raises UserError for anything else."""
    from meta_latent.experiment.settings.schema import ExperimentConfig

    if isinstance(config, str | Path | dict):
        return configure(config)
    if not isinstance(config, ExperimentConfig):
        raise UserError(f"expected an experiment, or a name, path or dict as configure takes, got {config!r}")
    return config


def check(config: Configurable) -> list[Checked]:
    """Try what the runs of an experiment would do, and write nothing: its suites, and whether its arms act, learn and
    go on from a checkpoint bit for bit; of each its `faults`, [] where nothing is wrong, and what was `warned` of.

    config: an experiment, or what `configure` takes. Raises UserError for what `transfer` refuses.
    """
    import tempfile

    from meta_latent.experiment.learning import checking

    config = _configured(config)
    with tempfile.TemporaryDirectory(prefix="meta-latent-check-") as folder:
        return list(checking.check(config, Path(folder)))


def pretrain(config: Configurable) -> Path:
    """Pretrain (or resume, or skip what is done); returns the model folder. Raises UserError, RunError.

    config: an experiment, or what `configure` takes; here and below.
    """
    from meta_latent.experiment.learning import refusals
    from meta_latent.experiment.pretraining import pretrain as stage

    config = _configured(config)
    checked_seed(config.seed)  # of a config that was changed in Python
    refusals.check_before_pretraining(config)
    return stage.pretrain(config)


def transfer(config: Configurable, target: str, arm: str, seed: int = 0) -> Path:
    """Learn one target with one arm ("ALGORITHM/START") in this process; returns the run folder.

    Resumes where it stopped, and does nothing if it is done. Raises UserError, RunError.
    """
    from meta_latent.experiment.learning import cells as stage
    from meta_latent.experiment.settings import experiments

    config, seed = _configured(config), checked_seed(seed)
    if stage.run_cell(config, target, arm, seed):
        experiments.write(config)  # as the command does: reports say what of it is missing
    return stage.cell_folder(config, target, arm, seed)


def evaluate(
    config: Configurable,
    target: str,
    arm: str,
    seed: int = 0,
    episodes: int | None = None,
    video: int = 0,
    fresh: int | None = None,
) -> Result:
    """Score the saved agent of a run: returns and success per episode; `print(result.table())`.

    Args:
        episodes: how many (default: as in the run's own evaluations). video: film the first so many of them.
        fresh: seed of other episodes than the learning curve's.
    Raises UserError if there is no such agent.
    """
    from meta_latent.experiment.commands import evaluate as evaluation

    options = {"episodes": episodes, "video": video, "fresh": None if fresh is None else checked_seed(fresh, "fresh")}
    which = {"target": target, "arm": arm, "run_seed": checked_seed(seed)}
    return evaluation.evaluate(
        _told(_configured(config), evaluation.EvaluateConfig, evaluation.EvaluateOptions, options, which)
    )


def adapt(
    config: Configurable,
    target: str,
    arm: str | None = None,
    seed: int | None = None,
    **options: Any,
) -> adaptation.Result:
    """Play trials of the test tasks with the trained agents of an arm (None: all arms) and seed (None: all, pooled);
    `print(result.table())`. Writes runs/NAME/adapt/TARGET/, which the report shows.

    Args:
        options: episodes of a trial, trials of each test task, cleared (True: also with the belief cleared between
            episodes), video, maps: as of the command.
    Raises UserError if there is no such agent, or nothing to adapt to.
    """
    from meta_latent.experiment.commands import adapt as adaptation
    from meta_latent.experiment.learning import selected

    which = {"target": target, "arm": arm, "run_seed": None if seed is None else checked_seed(seed)}
    settings = _told(_configured(config), adaptation.AdaptConfig, adaptation.AdaptOptions, options, which)
    return adaptation.adapt(selected.of_experiment(settings), settings)


def _told(config: ExperimentConfig, schema: type, kind: type, options: dict[str, Any], which: dict[str, Any]) -> Any:
    """What a command is told, of the type `schema`: an experiment, the cells that are meant, and options of the type
    `kind`, which are checked as those of the command line are.
    """
    import dataclasses

    from meta_latent.experiment.settings.config import load

    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return schema(**fields | which | vars(load(kind, [options])))


def export(run: str | Path, out: str) -> int:
    """Write the episodes that a finished run collected (a pretraining's source episodes, a transfer's replay) as the
    local Minari data set `out`, such as "minari:toy/lqr-v0"; returns how many. Needs the extra `offline`.

    Raises UserError if there are none, or there is such a data set already.
    """
    from meta_latent.experiment.commands.export import export as write

    return write(run, out)


def report(
    config: Configurable | Sequence[Configurable], thresholds: Sequence[float] = (), out: str | Path | None = None
) -> dict[str, Any]:
    """Write report.html and report.json of an experiment (or of its run folder); returns the content of the latter.
    Of a list of several: one page that compares them, comparison.html; returns, by the name that each has on the page,
    its numbers, as in report.json. Of the folder of a sweep: sweep.html and sweep.json, whose content is returned; in a
    list with others, by its folder's name.

    Args:
        config: an experiment, what `configure` takes, or a run under runs/ by its name, as of the command; or a list.
        thresholds: scores to reach, instead of those that the runs recorded.
        out: the folder that a single run lies in; of several, where their comparison goes (None: the first one's
            report/).
    Raises UserError if there are no runs.
    """
    from meta_latent.experiment.commands.report import find, parted
    from meta_latent.experiment.report import build, comparison, sweep_report

    thresholds = build.checked_thresholds(thresholds)
    several = isinstance(config, list | tuple)
    wanted, out = list(config) if several else [config], expanded(out) if out else ""
    if not wanted:
        raise UserError("report: name at least one run, or a path to a run folder")
    beside = out if len(wanted) == 1 else ""
    folders = [find(one, beside) if isinstance(one, str | Path) else _folder(one, beside) for one in wanted]
    sweeps, runs = parted(folders, out)
    names = dict(zip(folders, comparison.names_of(folders), strict=True))
    found = {names[folder]: sweep_report.build(folder, thresholds=thresholds) for folder in sweeps}
    if len(runs) == 1:
        found[names[runs[0]]] = build.build(runs[0], thresholds=thresholds)
    elif runs:
        compared = comparison.compare(runs, Path(out) if out else None, thresholds)
        found |= {names[run]: side.report for run, side in zip(runs, compared.sides, strict=True)}
    return found if len(folders) > 1 else found[names[folders[0]]]


def _folder(config: Configurable, out: str) -> Path:
    """Where the runs of an experiment lie, in `out` where that is given."""
    config = _configured(config)
    return Path(out or config.out) / config.name


def sweep(
    source: str | Path | dict[str, Any], *overrides: str, fail_fast: bool = False, retry_failed: bool = False
) -> dict[str, Any]:
    """Run every variant of a sweep (see docs/sweeps.md) and write its report; returns the content of sweep.json.

    What has finished is not run again. Raises UserError; RunError naming the cells that failed, after all others ran
    (UserError, where each of them did for wrong input).

    Args:
        source: an experiment with a section `sweep`: a name in configs/experiment/, a path, or its keys as a dict.
        fail_fast: the first cell that fails for good stops all. retry_failed: try again what failed for good before.
    """
    from meta_latent.experiment.learning import sweep as stage

    return stage.run(source, list(overrides), stage.Options(fail_fast, retry_failed))
