"""`meta-latent doctor`: what of this machine works, how fast, and which command mends what does not."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import meta_latent
from meta_latent import learn2learn_core

OK, WARNING, MISSING = "ok", "warning", "missing"
REQUIRED = (
    "torch", "numpy", "scipy", "gymnasium", "mujoco", "metaworld", "fast-simplification", "omegaconf",
    "safetensors", "tensorboard", "matplotlib", "jinja2", "tqdm", "imageio", "imageio-ffmpeg", "pillow",
)  # fmt: skip
OPTIONAL = ("stable-baselines3", "ray", "minari")
_PINNED = {"mujoco": "3.3.0", "metaworld": "3.1.1"}
_PROBE = "import json, task_suites.rendering as r; print(json.dumps(r.probe()))"
_PROBE_SECONDS = 8


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report. status: "ok", "warning" (works without) or "missing" (needed).

    advice: the command or act that mends it, "" if nothing is to be mended.
    """

    status: str
    subject: str
    detail: str
    advice: str = ""


def run(write: Callable[[str], object] = print) -> int:
    """Check everything, `write` a line per finding; 0 if all that is needed works, else 1. Never raises."""
    findings: list[Finding] = []
    for check in (_python, _packages, _learn2learn, _extras, _accelerator, _rendering, _configs, _disk):
        try:
            findings += check()
        except Exception as error:  # the doctor must answer on the very machines where things break
            findings.append(Finding(MISSING, check.__name__.strip("_"), f"{type(error).__name__}: {error}"))
    for finding in findings:
        advice = f"\n{'':>28}-> {finding.advice}" if finding.advice else ""
        write(f"{finding.status:>8}  {finding.subject:<17} {finding.detail}{advice}")
    broken = [finding.subject for finding in findings if finding.status == MISSING]
    write(f"needs mending: {', '.join(broken)}" if broken else "everything needed works")
    return 1 if broken else 0


def _python() -> list[Finding]:
    detail = f"{platform.python_version()} at {sys.executable}; meta-latent {meta_latent.__version__}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return [Finding(MISSING, "python", detail, "use Python 3.11, 3.12 or 3.13")]
    return [Finding(OK, "python", detail)]


def _packages() -> list[Finding]:
    present, findings = [], []
    for name in REQUIRED:
        version = _version(name)
        if version is None:
            findings.append(
                Finding(
                    MISSING,
                    name,
                    "not installed",
                    f"{_pip()} install {name}=={_PINNED[name]}" if name in _PINNED else f"{_pip()} install {name}",
                )
            )
        elif name in _PINNED and version != _PINNED[name]:
            advice = f"{_pip()} install {name}=={_PINNED[name]}"
            findings.append(Finding(WARNING, name, f"{version}; tested with {_PINNED[name]}", advice))
        else:
            present.append(f"{name} {version}")
    return [Finding(OK, "packages", ", ".join(present)), *findings]


def _learn2learn() -> list[Finding]:
    if not learn2learn_core.installed():
        install = learn2learn_core.INSTALL.removeprefix("pip")
        return [Finding(WARNING, "learn2learn", "not installed: its MAML engine is off", f"{_pip()}{install}")]
    learn2learn_core.maml()
    return [Finding(OK, "learn2learn", f"{_version('learn2learn')}, its MAML imports")]


def _extras() -> list[Finding]:
    versions = {name: _version(name) for name in OPTIONAL}
    return [
        Finding(OK, name, version or f"not installed (optional: {_pip()} install {name})")
        for name, version in versions.items()
    ]


def _accelerator() -> list[Finding]:
    import torch

    if torch.cuda.is_available():
        device = f"{torch.cuda.get_device_name()}; use it with device=cuda"
    elif shutil.which("nvidia-smi"):
        return [Finding(WARNING, "device", "a GPU, but this torch does not see it", "install a CUDA build of torch")]
    else:
        device = "no GPU, device=cpu"
    matrix = torch.ones(512, 512)
    matrix @ matrix  # the first one also starts the library's threads
    start = time.perf_counter()
    for _ in range(10):
        matrix @ matrix
    rate = 10 * 2 * 512**3 / (time.perf_counter() - start) / 1e9
    return [Finding(OK, "device", f"{device}; {os.cpu_count()} CPUs, {rate:.0f} GFLOP/s in a matrix product")]


def _rendering() -> list[Finding]:
    # In a process of its own: a broken GL driver may crash instead of raising.
    try:
        child = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [Finding(MISSING, "rendering", f"no picture within {_PROBE_SECONDS} s", _GL_ADVICE)]
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines() or [f"crashed with exit status {child.returncode}"]
        return [Finding(MISSING, "rendering", lines[-1][:200], _GL_ADVICE)]
    found = json.loads(child.stdout.strip().splitlines()[-1])
    rate = found["frames_per_second"]
    detail = f"{found['backend']} on {found['gl_renderer']}: {rate:.0f} frames/s at 64x64"
    return [Finding(OK if rate > 100 else WARNING, "rendering", detail)]


def _configs() -> list[Finding]:
    from meta_latent.experiment.settings import (
        config,  # here, as it needs a package that may be the missing one
    )

    names = config.choices("experiment")
    if not names:
        return [
            Finding(
                MISSING,
                "configs",
                "no configs/experiment/*.yaml found",
                f"{_pip()} install --force-reinstall meta-latent",
            )
        ]
    return [Finding(OK, "configs", f"{len(names)} experiments: {', '.join(names)}")]


def _disk() -> list[Finding]:
    folder = Path.cwd()
    free = shutil.disk_usage(folder).free / 2**30
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "change to a folder you may write to, or use out=FOLDER"
        return [Finding(WARNING, "disk", f"cannot write to {folder}: {error.strerror}", advice)]
    detail = f"{free:.0f} GiB free for ./runs"
    return [
        Finding(OK, "disk", detail)
        if free > 2
        else Finding(WARNING, "disk", detail, "free some space or use out=FOLDER")
    ]


_GL_ADVICE = "sudo apt-get install libegl1 libgl1-mesa-dri   (or set MUJOCO_GL to a backend that works)"


def _pip() -> str:
    return f"{sys.executable} -m pip"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
