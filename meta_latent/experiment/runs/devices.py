"""The machine that a run is on, and what a GPU has to be told so that a run repeats on it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""cuBLAS sums in one order with a workspace of fixed size; it is read when a process first multiplies on a GPU."""


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Inside, computations on a GPU end in the same bits each time, as those on a CPU do anyway: a run that was
    stopped goes on exactly. PyTorch warns of an operation that has no such version. The process's settings are put
    back, but for cuBLAS's variable, which counts once only; one that is set already is kept.
    """
    if torch.device(device).type != "cuda":
        yield
        return
    for name, value in WORKSPACE.items():
        os.environ.setdefault(name, value)
    cudnn, utils = torch.backends.cudnn, torch.utils.deterministic
    before = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
              utils.fill_uninitialized_memory, cudnn.deterministic, cudnn.benchmark)  # fmt: skip
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        utils.fill_uninitialized_memory = False  # a help to find bugs that costs a kernel per tensor
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        utils.fill_uninitialized_memory, cudnn.deterministic, cudnn.benchmark = before[2:]


def machine(device: str) -> dict[str, Any]:
    """The system, processor and number of cores that this process sees, and the GPU if `device` is one."""
    found = {"system": platform.platform(), "processor": _processor(), "cores": f"{os.cpu_count()} cores"}
    on_gpu = torch.device(device).type == "cuda" and torch.cuda.is_available()
    return found | ({"gpu": torch.cuda.get_device_name(device)} if on_gpu else {})


def _processor() -> str:
    """Its name as the system tells it; Linux keeps it in a file of its own."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())
