"""What parts of this project cost beside the same parts of other libraries, in one run.

    python benchmarks/peers [--only update imagination ...] [--rounds 7] [--json PATH] [--page PATH]

Peers that are not installed are left out; docs/peers.md says how to install them. In every round the contestants of a
subject take turns, so that ratios mean something where absolute figures drift. One thread, the allocator's settings of
`meta-latent`, and the process's own CPU time: other load spoils little. A ratio is a contestant's time over that of the
subject's first one, ours, in the same round: median, lowest and highest. A JSON that is there keeps the subjects that
this run leaves out, and the versions of what is not installed; its tables are filled into a page such as docs/peers.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import limits
import pixels
import replays
import tables
import torch
import world_models

from meta_latent.experiment.runs.processes import ALLOCATOR
from meta_latent.experiment.runs.run_folder import installed, machine

Contestants = dict[str, Callable[[], object]]

SUBJECTS: dict[str, Callable[[], Contestants]] = {
    "update": world_models.updates,
    "imagination": world_models.imaginations,
    "replay": replays.samplers,
    **{f"pixels: {scene}": lambda scene=scene: pixels.drawers(scene) for scene in pixels.SCENES},
}
"""Subject -> what takes turns in it; ours comes first."""

LIMITS = {"checkpoint": limits.checkpoint, "logging": limits.logging, "report": limits.report}
"""Measured alone: there is a bound, and no peer."""

PACKAGES = ("torch", "numpy", "mujoco", "gymnasium", "sheeprl", "torchrl", "tensordict", "stable_baselines3")


def milliseconds(call: Callable[[], object]) -> float:
    """CPU time of one call."""
    begun = time.process_time()
    call()
    return 1e3 * (time.process_time() - begun)


def compare(contestants: Contestants, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over rounds, and of the ratios to the first contestant within each round."""
    for call in contestants.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            times[name].append(milliseconds(call))
    rows, first = {}, next(iter(times.values()))
    for name, own in times.items():
        ratios = [theirs / ours for theirs, ours in zip(own, first, strict=True)]
        rows[name] = {"milliseconds": round(statistics.median(own), 3), "ratio": round(statistics.median(ratios), 2),
                      "lowest": round(min(ratios), 2), "highest": round(max(ratios), 2)}  # fmt: skip
    return rows


def main(only: list[str], rounds: int, path: Path | None) -> dict:
    """All of `only`, printed, and written to `path`, as it comes."""
    result = {"subjects": {}, "limits": {}, "parameters": {}}
    if path and path.exists():
        result |= json.loads(path.read_text())
    result |= {"machine": machine()["processor"], "threads": torch.get_num_threads()}
    result["versions"] = result.get("versions", {}) | installed(PACKAGES)
    for name in (*SUBJECTS, *LIMITS):
        if name.split(":")[0] not in only:
            continue
        if name in SUBJECTS:
            found = result["subjects"][name] = {"rounds": rounds, "contestants": compare(SUBJECTS[name](), rounds)}
        else:
            found = result["limits"][name] = LIMITS[name](rounds)
        result["parameters"] |= world_models.PARAMETERS
        print(name, json.dumps(found, indent=1), flush=True)
        if path:
            path.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    names = list(dict.fromkeys(name.split(":")[0] for name in (*SUBJECTS, *LIMITS)))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--page", type=Path, help="whose tables to fill in")
    given = parser.parse_args()
    if not ALLOCATOR.items() <= os.environ.items():  # it counts from the start of a process only
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ALLOCATOR})
    torch.set_num_threads(1)
    result = main(given.only, given.rounds, given.json)
    if given.page:
        given.page.write_text(tables.filled(given.page.read_text(), result))
