"""Checkpoints: a nested state as one safetensors file and one JSON file; nothing is pickled.

The JSON names the safetensors file (which carries its own hash in its name) and both checksums, and is
replaced last, in one rename: a kill at any moment leaves the previous or the new checkpoint loadable. The
checkpoint before the last one is kept beside it.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from meta_latent import files
from meta_latent.errors import UserError

FORMAT = 1
INDEX, PREVIOUS = "checkpoint.json", "previous.json"
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_ADVICE = "choose another run folder with out="


class Misfit(UserError):
    """An undamaged checkpoint that lacks a part or has other shapes than the one who loads it."""


def save(folder: Path | str, state: dict[str, Any]) -> bool:
    """Write `state` into `folder` (made if missing), atomically; of earlier checkpoints the last is kept.

    `state` nests dict (string keys), list and tuple around tensors, NumPy arrays (boolean, integer, float),
    int, float, str, bool and None. Tensors come back on the CPU, tuples as lists, and tensors that share
    memory as separate ones.
    Returns whether the one before the last is now another one: not where the last one holds this very state.
    Raises `TypeError` naming the place of anything else; `RunError` if the disk is full.
    """
    folder = Path(folder)
    tensors: dict[str, torch.Tensor] = {}
    tree = _encode(state, (), tensors)
    blob = safetensors.torch.save(tensors)
    checksum, tree_sum = hashlib.sha256(blob).hexdigest(), _tree_sha256(tree)
    name = f"tensors-{checksum[:12]}{tree_sum[:12]}.safetensors"  # no two checkpoints hang on one file
    index = {
        "format": FORMAT,
        "tensors": name,
        "tensors_sha256": checksum,
        "state_sha256": tree_sum,
        "state": tree,
    }
    folder.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(folder)
    files.atomic_write_bytes(folder / name, blob)
    if _tensors_of(folder / INDEX) == name:
        return False
    kept = {name, _keep(folder)}
    files.atomic_write_bytes(folder / INDEX, json.dumps(index, allow_nan=False).encode())
    for old in folder.glob("tensors-*.safetensors"):
        if old.name not in kept:
            old.unlink(missing_ok=True)
    return True


def _keep(folder: Path) -> str | None:
    """Make the last checkpoint the one before the last; returns the name of the latter's tensors (None: no such)."""
    last = _tensors_of(folder / INDEX)
    if last is None:
        return _tensors_of(folder / PREVIOUS)
    # A copy, so that at no moment the last one is missing.
    files.atomic_write_bytes(folder / PREVIOUS, (folder / INDEX).read_bytes())
    return last


def _tensors_of(index: Path) -> str | None:
    try:
        return _read_index(index)["tensors"]
    except (OSError, UserError):
        return None


def restore_previous(folder: Path | str) -> None:
    """Forget the last checkpoint: the one before it takes its place, atomically."""
    os.replace(Path(folder) / PREVIOUS, Path(folder) / INDEX)


def exists(folder: Path | str, previous: bool = False) -> bool:
    """Whether `folder` holds a checkpoint; previous: one before the last."""
    return (Path(folder) / (PREVIOUS if previous else INDEX)).is_file()


def load(folder: Path | str, previous: bool = False, advice: str = _ADVICE) -> dict[str, Any]:
    """Read the state that `save` wrote; previous: the one before the last. advice: what to do where it is damaged.

    Raises `UserError` if there is none or if a file was truncated or edited.
    """
    index_path = Path(folder) / (PREVIOUS if previous else INDEX)
    if not index_path.is_file():
        raise UserError(f"no checkpoint in {folder} (expected {index_path.name} there)")
    index = _read_index(index_path, advice)
    tensors_path = index_path.with_name(index["tensors"])
    if not tensors_path.is_file():
        raise UserError(f"checkpoint file {tensors_path} is missing; restore it, or {advice}")
    blob = tensors_path.read_bytes()
    if hashlib.sha256(blob).hexdigest() != index["tensors_sha256"]:
        raise _damaged(tensors_path, advice)
    try:
        state = _decode(index["state"], safetensors.torch.load(blob))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise _damaged(tensors_path, advice) from error  # with the right checksum: nobody's accident
    if not isinstance(state, dict):
        raise _damaged(index_path, advice)
    return state


@contextlib.contextmanager
def fitting(folder: Path | str, previous: bool = False, advice: str = _ADVICE) -> Iterator[dict[str, Any]]:
    """Context manager that yields `load(folder, previous, advice)`, to be taken over in its block: a state that
    lacks a part or has other shapes (another version of this package wrote it) becomes a `Misfit`.
    """
    state = load(folder, previous, advice)
    try:
        yield state
    except (LookupError, ArithmeticError, RuntimeError, TypeError, ValueError, AttributeError, MemoryError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise Misfit(
            f"the checkpoint {folder} cannot be taken over ({type(error).__name__}: {reason}); it is "
            f"undamaged: use the version and the settings that wrote it, or {advice}"
        ) from error


def _read_index(path: Path, advice: str = _ADVICE) -> dict[str, Any]:
    try:
        index = files.from_json(files.read_bytes(path))
        version = index["format"]
        intact = version != FORMAT or _tree_sha256(index["state"]) == index["state_sha256"]
        intact = intact and Path(index["tensors"]).name == index["tensors"] and isinstance(index["tensors_sha256"], str)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, advice) from error
    if version != FORMAT:
        raise UserError(f"{path} has checkpoint format {version!r}; this version reads format {FORMAT}")
    if not intact:
        raise _damaged(path, advice)
    return index


def _damaged(path: Path, advice: str) -> UserError:
    what = f"checkpoint file {path} is damaged: its content does not match its checksum, or is none of ours"
    return UserError(f"{what}; restore it, or {advice}")


def _tree_sha256(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _encode(value: Any, place: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> Any:
    """JSON form of `value`; tensors and arrays move to `tensors` and leave `{"$tensor": name}` or
    `{"$array": name}`.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, list | tuple):
        return [_encode(item, (*place, str(i)), tensors) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {_encode_key(key, place): _encode(item, (*place, str(key)), tensors) for key, item in value.items()}
    if isinstance(value, torch.Tensor):
        # A copy, because safetensors refuses views and tensors that share memory.
        return {"$tensor": _store(value.detach().cpu().contiguous().clone(), place, tensors)}
    if (
        isinstance(value, np.ndarray)
        and value.dtype.kind in "biuf"
        and value.dtype.itemsize <= 8
        and value.dtype.isnative
    ):
        return {"$array": _store(torch.from_numpy(np.array(value, order="C")), place, tensors)}
    described = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    hint = "; use .item()" if isinstance(value, np.generic) else ""
    raise TypeError(f"a checkpoint cannot hold the {described} at {_where(place)}{hint}")


def _encode_key(key: Any, place: tuple[str, ...]) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a checkpoint needs string keys, got {key!r} ({type(key).__name__}) at {_where(place)}")
    return "$" + key if key.startswith("$") else key


def _where(place: tuple[str, ...]) -> str:
    return ".".join(place) or "the top level"


def _store(tensor: torch.Tensor, place: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> str:
    name = plain = ".".join(("state", *place))
    while name in tensors:  # two places can spell the same name if keys contain dots
        name = f"{plain}#{len(tensors)}"
    tensors[name] = tensor
    return name


def _decode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$array" in value:
        return tensors[value["$array"]].numpy()
    if "$float" in value:
        return _NON_FINITE[value["$float"]]
    return {key[1:] if key.startswith("$") else key: _decode(item, tensors) for key, item in value.items()}
