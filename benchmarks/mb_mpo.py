"""Shares of the CPU time of MB-MPO's parts, in runs of its presets.

    python benchmarks/mb_mpo.py [--run half_cheetah rotated] [--json PATH]

Each run is of seed 0, as `meta-latent transfer` makes it, on one thread: the toy's to the end of its warm-up, at 800 of
1,400 steps, the half-cheetah's to 5,000 of 15,000, which is the warm-up and three rounds. After each come a fit of the
models, 20 outer steps and an evaluation. Times are CPU time (other load spoils little) and exclusive: what a part calls
of another is the other's. The start (imports, building the agent) is left out. "metrics" are plasticity and
disagreement; "rest" is all else, as saving.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import meta_latent
from meta_latent.algorithms.mb_mpo import MBMPO
from meta_latent.experiment.learning.collector import Collector
from meta_latent.experiment.learning.evaluation import Evaluation
from meta_latent.experiment.learning.loop import Learning
from meta_latent.experiment.runs.processes import ALLOCATOR
from meta_latent.ops import trust_region
from meta_latent.ops.inner_loop import InnerLoop
from meta_latent.policies.surrogate import Surrogate

ARM = "mb_mpo/scratch"
RUNS = {
    "half_cheetah": ("mb_mpo_half_cheetah", "run", 5000),
    "rotated": ("mb_mpo_toy", "rotated", 800),
}
"""Preset, target, environment steps."""
PARTS = (
    "collection",
    "model fit",
    "imagining",
    "inner steps",
    "outer gradient",
    "Fisher products",
    "line search",
    "metrics",
    "evaluation",
    "rest",
)


class Clock:
    """CPU time by part: of the innermost that is open, from `start` on."""

    def __init__(self):
        self.seconds, self.calls, self.open = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0), ["rest"]
        self.since = time.process_time()

    def _switch(self) -> None:
        now = time.process_time()
        self.seconds[self.open[-1]] += now - self.since
        self.since = now

    def start(self) -> None:
        """Forget what was before."""
        self.since = time.process_time()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Whatever is done inside is of part `name`, but for other parts within it."""
        self._switch()
        self.open.append(name)
        self.calls[name] += 1
        try:
            yield
        finally:
            self._switch()
            self.open.pop()

    def timed(self, name: str, function: Callable, inside: tuple[str, ...] = ()) -> Callable:
        """`function`, timed as `name`; with `inside` only where one of these is open."""

        @functools.wraps(function)
        def call(*args, **kwargs):
            if inside and self.open[-1] not in inside:
                return function(*args, **kwargs)
            with self.part(name):
                return function(*args, **kwargs)

        return call


@contextlib.contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """While it is open, calls of the parts are timed."""
    product = trust_region.hessian_vector_product

    def products(value, parameters):
        return clock.timed("Fisher products", product(value, parameters))

    where = [
        (Collector, "round", "collection"), (Evaluation, "score", "evaluation"), (MBMPO, "imagine", "imagining"),
        (MBMPO, "plasticity", "metrics"), (MBMPO, "disagreement", "metrics"), (InnerLoop, "adapted", "inner steps"),
        (Surrogate, "trust_region_step", "outer gradient"), (trust_region, "_line_search", "line search"),
    ]  # fmt: skip
    with contextlib.ExitStack() as undo:
        for owner, name, part in where:
            original = getattr(owner, name)
            inside = ("rest",) if part == "inner steps" else ()  # those of the outer step are counted as its own
            setattr(owner, name, clock.timed(part, original, inside))
            undo.callback(setattr, owner, name, original)
        trust_region.hessian_vector_product = clock.timed("Fisher products", products)
        undo.callback(setattr, trust_region, "hessian_vector_product", product)
        yield


def profile(preset: str, target: str, budget: int) -> dict:
    """Seconds, shares and counts of one run."""
    clock, run = Clock(), Learning.run

    def begin(learning, interrupts):
        simulators = learning.agent.simulators
        simulators.learn = clock.timed("model fit", simulators.learn)
        clock.start()
        run(learning, interrupts)

    with tempfile.TemporaryDirectory() as out, watched(clock):
        Learning.run = begin
        try:
            experiment = meta_latent.configure(preset, f"out={out}", "transfer.video=false",
                                               f"transfer.budget_env_steps={{default: {budget}}}")  # fmt: skip
            meta_latent.transfer(experiment, target, ARM, 0)
        finally:
            Learning.run = run
    whole = sum(clock.seconds.values())
    return {"preset": preset, "target": target, "env_steps": budget, "cpu_seconds": round(whole, 1),
            "calls": {name: calls for name, calls in clock.calls.items() if calls},
            "shares": {name: round(seconds / whole, 3) for name, seconds in clock.seconds.items()}}  # fmt: skip


def main(names: list[str]) -> dict:
    """Each run, and their table as it grows."""
    torch.set_num_threads(1)
    result: dict = {"chip": platform.machine(), "torch": torch.__version__, "arm": ARM, "seed": 0, "runs": {}}
    for name in names:
        result["runs"][name] = found = profile(*RUNS[name])
        print(f"\n{name}: {found['env_steps']:,} steps, {found['cpu_seconds']} s of CPU")
        for part, share in found["shares"].items():
            seconds, calls = share * found["cpu_seconds"], found["calls"].get(part, "")
            print(f"{part:16} {100 * share:5.1f} % {seconds:7.2f} s {calls:>6}", flush=True)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--json", type=Path, help="where to write the result")
    given = parser.parse_args()
    if not ALLOCATOR.items() <= os.environ.items():  # it counts from the start of a process only
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    found = main(given.run)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
