"""Refine gait.json by the cross-entropy method: `python -m task_suites.meld.make_gait [--iterations 10]`.

Minutes on one core. It was started from a sinusoid that runs at 2 m/s, found the same way from nothing, and
carried from speed to speed.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from task_suites import registry
from task_suites.distribution import TaskDistribution
from task_suites.meld import cheetah
from task_suites.task import Parameters, Reward, Task

CANDIDATES, ELITE = 36, 9
_SMALLEST_STDDEV = 0.012
_FIRST_SEED = 2_000_000  # far from the seeds of references, training and evaluation


def episode_return(suite: TaskDistribution, table: np.ndarray, target: float, seed: int) -> float:
    """Return what `table` earns in one episode with `target` in m/s."""
    reward = Reward("run", Parameters(target_metres_per_second=target, sparse=False))
    env, policy, total = suite.make(Task(suite.family, reward)), cheetah.Gait(target, table), 0.0
    _, info = env.reset(seed=seed)
    for _ in range(suite.max_episode_steps):
        _, paid, _, _, info = env.step(policy(info["reward_inputs"]))
        total += paid
    return total


def _with_row(table: np.ndarray, row: int, values: np.ndarray) -> np.ndarray:
    changed = table.copy()
    changed[row] = values
    return changed


def refine(
    suite: TaskDistribution, table: np.ndarray, row: int, iterations: int, rng: np.random.Generator
) -> np.ndarray:
    """Return `table` (8, 19) with `row` (1 to 7) refined at its speed and half way to its neighbours'."""
    speeds = np.array(cheetah.SPEEDS)
    near = speeds[max(row - 1, 1) : row + 2]
    targets = [*((near + speeds[row]) / 2), speeds[row]]
    mean, stddev = table[row].copy(), np.full(table.shape[1], 0.06)

    def score(candidate: np.ndarray, seed: int) -> float:
        changed = _with_row(table, row, candidate)
        return sum(episode_return(suite, changed, target, seed + i) for i, target in enumerate(targets))

    for _ in range(iterations):
        candidates = mean + stddev * rng.standard_normal((CANDIDATES, mean.size))
        candidates[0] = mean
        seed = _FIRST_SEED + int(rng.integers(1_000_000))
        order = np.argsort([-score(candidate, seed) for candidate in candidates])
        elite = candidates[order[:ELITE]]
        mean = 0.3 * mean + 0.7 * elite.mean(0)
        stddev = np.maximum(0.6 * stddev + 0.4 * elite.std(0), _SMALLEST_STDDEV)
    return _with_row(table, row, mean)


def write(table: np.ndarray) -> None:
    """Write `table` to gait.json with three decimals, one line per row."""
    rows = ",\n ".join(json.dumps(row) for row in table.round(3).tolist())
    cheetah.GAITS.write_text(f"[\n {rows}\n]\n")


def main() -> None:
    """Refine every row but that of standing still, and write gait.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=10, help="per speed")
    iterations = parser.parse_args().iterations
    suite, table, rng = (
        registry.get("meld/cheetah_velocity", cameras=()),
        cheetah.gaits(),
        np.random.default_rng(0),
    )
    for row in range(1, len(cheetah.SPEEDS)):
        table = refine(suite, table, row, iterations, rng)
        print(
            f"{cheetah.SPEEDS[row]} m/s: {episode_return(suite, table, cheetah.SPEEDS[row], 0):.1f}",
            flush=True,
        )
    write(table)


if __name__ == "__main__":
    main()
