"""Opening the agents that runs left in their folders, to act with or to go on from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meta_latent.algorithms.registry import Arm
from meta_latent.errors import UserError, counted
from meta_latent.experiment.learning import cell_settings, cells, starts
from meta_latent.experiment.pretraining import model_folder, pretrain
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.runs.run_folder import CHECKPOINT, CONFIG, read_record
from meta_latent.experiment.runs.stored_cell import experiment_of
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import BoundTarget, bind_target
from meta_latent.protocols import Agent


@dataclass(frozen=True)
class SavedCell:
    """A cell whose run has saved an agent.

    Attributes:
        folder: of the run. experiment: the settings that count for it. pretrained: the model that it starts from.
    """

    folder: Path
    experiment: ExperimentConfig
    target: BoundTarget
    arm: Arm
    seed: int
    pretrained: Path | None

    def load(self) -> Agent:
        """The agent as its last checkpoint left it. Raises UserError if that is damaged, or of another version."""
        agent = starts.build(self.experiment, self.target, self.arm, self.seed, self.pretrained)
        again = (f"move {self.folder} away and learn it anew: meta-latent transfer with the same NAME and options, "
                 f"target={self.target.name} arm={self.arm} run_seed={self.seed}")  # fmt: skip
        with checkpoint.fitting(self.folder / CHECKPOINT, advice=again) as state:
            agent.load_state(state["agent"])
        return agent


def is_cell(folder: Path | str) -> bool:
    """Whether `folder` is the run folder of a cell (transfer/TARGET/ALGORITHM/START/SEED)."""
    path = Path(folder) / CONFIG
    return path.is_file() and "arm" in config.read_yaml(path)


def refuse_no_cell(folder: Path | str) -> None:
    """Raise UserError, saying what `folder` is and what opens it, if it is no run folder of a cell."""
    folder = Path(folder)
    if is_cell(folder):
        return
    wanted = "expected runs/NAME/transfer/TARGET/ALGORITHM/START/SEED"
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: {wanted}")
    for model in (folder, folder / "model"):
        if (model / model_folder.CARD).is_file():
            raise UserError(f"{folder} is a pretrained model, which has no agent that acts: "
                            f"meta_latent.load({str(model)!r}) opens it, and has model.encode and model.imagine; for "
                            f"an agent {wanted}")  # fmt: skip
    raise UserError(which_of(agents_below(folder), folder) or f"{folder} is no run: {wanted}")


def which_of(agents: Sequence[Path], folder: Path) -> str:
    """What to say of a `folder` that is meant as one agent, and holds these; "" where it holds none."""
    return f"{folder} holds {counted(len(agents), 'trained agent')}; name one, such as {agents[0]}" if agents else ""


def is_saved(folder: Path) -> bool:
    """Whether the run in `folder` has saved an agent."""
    return checkpoint.exists(folder / CHECKPOINT)


def saved_cells(root: Path) -> list[Path]:
    """Folders TARGET/ALGORITHM/START/SEED below runs/NAME/transfer whose runs have saved an agent, in order."""
    found = [folder for folder in (root / "transfer").glob("*/*/*/*") if folder.name.isdecimal() and is_saved(folder)]
    return sorted(found, key=lambda folder: (*folder.parts[-4:-1], int(folder.name)))


def agents_below(folder: Path) -> list[Path]:
    """The saved cells below a `folder` that is runs/NAME, or lies between that and SEED, in order."""
    patterns = ("*/*/*/*".removeprefix("*/" * depth) for depth in range(4))
    found = {path for pattern in patterns for path in folder.glob(pattern) if is_saved(path) and is_cell(path)}
    return sorted({*saved_cells(folder), *found})


def load_agent(folder: Path | str, device: str = "cpu") -> Agent:
    """The agent of a cell as its last checkpoint left it. Raises UserError: see `of_folder`."""
    return of_folder(folder, device).load()


def of_folder(folder: Path | str, device: str = "cpu") -> SavedCell:
    """The cell in `folder`, with the settings that it was run with.

    Raises UserError if it is no cell's folder, if there is no checkpoint yet, or if the pretrained model that the arm
    starts from is gone.
    """
    refuse_no_cell(folder)
    folder = Path(folder)
    if not is_saved(folder):
        raise UserError(f"{folder} holds no saved agent yet: its run has made no checkpoint")
    stored = config.read_yaml(folder / CONFIG)
    experiment, arm = experiment_of(stored, device), Arm.parse(stored["arm"])
    pretrained = None
    if arm.needs_model:
        named = read_record(folder).get("pretrained")
        if not named or not (Path(named) / "model.json").is_file():
            raise UserError(f"{folder} starts from the model in {named or 'a folder it does not name'}, which is not "
                            "there; restore it")  # fmt: skip
        pretrained = Path(named)
    return SavedCell(folder, experiment, bind_target(experiment, stored["target"]), arm, stored["seed"], pretrained)


def of_experiment(
    experiment: ExperimentConfig, target: str, arm: Arm, seed: int, advice: str = "give the same value"
) -> SavedCell:
    """The cell of an experiment.

    Raises UserError if it was never saved, or if its run's settings are other ones, naming the first, with `advice`.
    """
    bound, folder = bind_target(experiment, target), cells.cell_folder(experiment, target, arm, seed)
    if not is_saved(folder):
        raise UserError(
            f"{folder} holds no saved agent; learn it first: meta-latent transfer with the same NAME and "
            f"options, target={target} arm={arm} run_seed={seed}"
        )
    pretrained = pretrain.model_path(experiment) if arm.needs_model else None
    wanted = cell_settings.narrowed(experiment, target, arm, seed, pretrained)
    stored = config.read_yaml(folder / CONFIG)
    cell_settings.SCORED.refuse(folder, stored, wanted, advice)
    return SavedCell(folder, experiment, bound, arm, seed, pretrained)
