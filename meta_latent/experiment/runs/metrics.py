"""What a run measured: JSON lines in `metrics.jsonl` and the same numbers as TensorBoard scalars."""

import json
import math
import os
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from meta_latent import files
from meta_latent.errors import UserError
from meta_latent.experiment.runs.run_folder import RunFolder

FILE = "metrics.jsonl"
LARGEST = 2**30
"""Bytes of a log that is read."""
TENSORBOARD = "tensorboard"
KINDS = ("train", "evaluation")
CLOCKS = ("env_steps", "updates", "seconds")


class MetricLog:
    """Appends records to `metrics.jsonl` and `tensorboard/` of a run folder (a `RunFolder` or its path).

    log = MetricLog(folder)
    log.load_state(state)      # on resume from a checkpoint, or log.reset() if there was none
    log.write("train", {"env_steps": 100, "updates": 50, "seconds": 1.5, "loss": 0.3})
    state = log.state()        # belongs into the checkpoint

    axis: the clock that TensorBoard shows the numbers over; it must never run back.
    """

    def __init__(self, run_folder: RunFolder | Path | str, axis: str = "env_steps"):
        root = run_folder.root if isinstance(run_folder, RunFolder) else Path(run_folder)
        root.mkdir(parents=True, exist_ok=True)
        self._file = root / FILE
        self._board_folder = root / TENSORBOARD
        self._axis = axis
        self._last = _last(self._file, axis)
        self._board: SummaryWriter | None = None
        self._purge_step: int | None = None

    def write(self, kind: str, record: dict[str, Any]) -> None:
        """Append one record.

        kind: "train" or "evaluation". record: `env_steps`, `updates`, `seconds` and any further named
        numbers (Python, NumPy or 0-dimensional tensors), strings, booleans or None, and lists and mappings of them;
        an evaluation also has `score` (normalised, or raw where a task has no scale), `raw_return` and `success`
        (0 to 1, NaN: unknown). Non-finite numbers are written as null.
        Raises `ValueError` for another kind or a missing clock, `RunError` if the disk is full.
        """
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r} is not one of {KINDS}")
        required = (*CLOCKS, "score", "raw_return", "success") if kind == "evaluation" else CLOCKS
        missing = [name for name in required if name not in record]
        if missing:
            raise ValueError(f"a record of kind {kind!r} lacks {missing[0]!r}")
        plain = {name: _plain(value) for name, value in record.items()}
        line = json.dumps({"kind": kind, **plain}, allow_nan=False)
        files.append_bytes(self._file, line.encode() + b"\n", sync=False)
        self._last = int(plain[self._axis])
        with files.full_disk_named(self._board_folder):
            for name, value in plain.items():
                if name != self._axis and isinstance(value, int | float):
                    self._writer().add_scalar(f"{kind}/{name}", value, self._last)
            if kind == "evaluation":
                self._writer().flush()

    def state(self) -> dict[str, int]:
        """Length of `metrics.jsonl` and the last record's place on the axis; all of it is on the disk by
        then.
        """
        if not self._file.exists():
            return {"bytes": 0, self._axis: -1}
        with open(self._file, "rb") as file:
            os.fsync(file.fileno())
            length = file.seek(0, os.SEEK_END)
        if self._board is not None:
            with files.full_disk_named(self._board_folder):
                self._board.flush()
        return {"bytes": length, self._axis: self._last}

    def reset(self) -> None:
        """Forget every record. TensorBoard hides what it showed of them."""
        self.load_state({"bytes": 0, self._axis: -1})

    def check(self, state: dict[str, int]) -> None:
        """Raise `UserError` if `metrics.jsonl` is shorter than `state` says."""
        length = self._file.stat().st_size if self._file.exists() else 0
        if length < state["bytes"]:
            expected = f"its checkpoint expects {state['bytes']}"
            raise UserError(
                f"{self._file} has {length} bytes but {expected}; restore it, or choose another run folder with out="
            )

    def load_state(self, state: dict[str, int]) -> None:
        """Forget every record after `state`. TensorBoard hides what it showed of them.

        Raises `UserError` if the file is shorter than `state` says.
        """
        self.close()
        self.check(state)
        if self._file.exists():
            os.truncate(self._file, state["bytes"])
        self._last = state[self._axis]
        if self._board_folder.exists():
            self._purge_step = self._last + 1

    def truncate(self, state: dict[str, int] | None) -> None:
        """`load_state(state)`, or `reset()` for None."""
        self.reset() if state is None else self.load_state(state)

    def close(self) -> None:
        """Write out and close the TensorBoard file; a later `write` opens a new one."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _writer(self) -> SummaryWriter:
        if self._board is None:
            _number_in_order(self._board_folder)
            self._board = SummaryWriter(str(self._board_folder), purge_step=self._purge_step)
            self._purge_step = None
        return self._board


def read(run_folder: Path | str, kind: str | None = None) -> list[dict[str, Any]]:
    """Records of a run folder's `metrics.jsonl` in order, of one kind or all; [] if there are none.

    A last line that a kill cut short is left out. Raises `UserError` naming the line of any other damage.
    """
    path = Path(run_folder) / FILE
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(_content(path).splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            record = files.from_json(line)
            record_kind = record["kind"]
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not valid JSON ({error})") from error
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}, line {number}: no record of ours; restore it, or choose another folder with out="
                            ) from error  # fmt: skip
        if kind is None or record_kind == kind:
            records.append(record)
    return records


def _content(path: Path) -> bytes:
    try:
        return files.read_bytes(path, LARGEST)
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}; restore it, or choose another folder with out=") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # NumPy scalars, 0-dimensional arrays and tensors
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _number_in_order(folder: Path) -> None:
    """Rename the event file that is not yet numbered, so that the next one is read after it.

    TensorBoard reads files in the order of their names: second, host, process, then a counter that isn't
    padded. Two files of one second could be read in the wrong order, and a purge would then hide what it
    should keep.
    """
    files_there = sorted(folder.glob("events.out.tfevents.*")) if folder.exists() else []
    for number, path in enumerate(files_there):
        path.rename(folder / f"events.out.tfevents.{number:010d}.numbered")


def _last(path: Path, axis: str) -> int:
    records = read(path.parent)
    try:
        return int(records[-1][axis]) if records else -1
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path}: its last line has no {axis}; restore it, or choose another folder with out="
        ) from error
