"""How many times faster two workers run the cells of a sweep than one, where stepping environments takes the time.

    python benchmarks/sweep_throughput.py [--suite toy/puck] [--steps 4000] [--cells 4] [--rounds 3] [--json PATH]

A cell is a process that steps one environment, with pictures, and learns nothing. The scheduler of sweeps runs the same
cells on one worker and then on two, in turn, so that ratios mean something where absolute figures drift. Times are by
the clock and hold the start of each process. Other load spoils them, so the load average is told too: it takes from
one worker, and two have up to twice the share of one. CPU times suffer less: `bound` is twice those of the cells on one
worker over those on two, the ratio on free cores if nobody waited.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from meta_latent.experiment.runs.processes import Cell
from meta_latent.experiment.runs.scheduler import run_cells

WORKERS = (1, 2)
STEPPED = """
import sys
import numpy as np
import task_suites

suite = task_suites.get(sys.argv[1], image_size=16)
environment = suite.make(suite.sample("train", 1, seed=0)[0])
action = np.zeros(environment.action_space.shape, np.float32)
environment.reset(seed=0)
for _ in range(int(sys.argv[2])):
    _, _, terminated, truncated, _ = environment.step(action)
    if terminated or truncated:
        environment.reset()
"""


def measure(workers: int, count: int, suite: str, steps: int) -> tuple[float, float]:
    """Seconds that so many cells take, by the clock and of CPU time. Raises RuntimeError if one fails."""
    cells = [Cell(f"cell {k}", (sys.executable, "-c", STEPPED, suite, str(steps))) for k in range(count)]
    begun, before = time.perf_counter(), os.times()
    outcome = run_cells(cells, workers, progress=False)
    if set(outcome.values()) != {"done"}:
        raise RuntimeError(f"cells failed: {outcome}")
    seconds, after = time.perf_counter() - begun, os.times()
    return seconds, sum(after[2:4]) - sum(before[2:4])


def main(suite: str, steps: int, count: int, rounds: int) -> dict[str, Any]:
    """Of each round the seconds by one worker and by two; the ratio within each, and its bound."""
    clock, cpu, loads = [], [], []
    for _ in range(rounds):
        both = [measure(workers, count, suite, steps) for workers in WORKERS]
        clock.append([seconds for seconds, _ in both])
        cpu.append([seconds for _, seconds in both])
        loads.append(os.getloadavg()[0])
        print(f"{clock[-1][0]:6.1f} s {clock[-1][1]:6.1f} s {clock[-1][0] / clock[-1][1]:5.2f}  "
              f"CPU {cpu[-1][0]:5.1f} s {cpu[-1][1]:5.1f} s  load {loads[-1]:.1f}", flush=True)  # fmt: skip
    ratios = [one / two for one, two in clock]
    return {
        "suite": suite,
        "steps": steps,
        "cells": count,
        "cores": os.cpu_count(),
        "seconds": [[round(each, 1) for each in both] for both in clock],
        "cpu_seconds": [[round(each, 1) for each in both] for both in cpu],
        "ratio": round(statistics.median(ratios), 2),
        "lowest_ratio": round(min(ratios), 2),
        "highest_ratio": round(max(ratios), 2),
        "bound": round(statistics.median(2 * one / two for one, two in cpu), 2),
        "load_average": [round(load, 1) for load in loads],
    }


if __name__ == "__main__":
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--suite", default="toy/puck")
    parser.add_argument("--steps", type=int, default=4000, help="of each cell")
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the result")
    given = parser.parse_args()
    result = main(given.suite, given.steps, given.cells, given.rounds)
    print(f"two workers are {result['ratio']} times as fast as one, median of {given.rounds} rounds on "
          f"{result['cores']} cores; bound {result['bound']}")  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
