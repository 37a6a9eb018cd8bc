"""Finds the gaits of gaits.json: `python -m task_suites.locomotion.search hopper/forward --seconds 120`.

Augmented random search (Mania, Guy, Recht, 2018, version V1-t) over the weights of a controller, going on
from what is committed. Deviations: no normalisation of states (fixed scales), tasks drawn anew per pair.
"""

from __future__ import annotations

import argparse
import json
import math
import time

import numpy as np

from task_suites.locomotion import rewards, scripts
from task_suites.locomotion.bodies import BODIES, Body, joints
from task_suites.locomotion.simulation import Simulation
from task_suites.locomotion.suite import TARGETS
from task_suites.task import Parameters, Reward

HERTZ = {"half_cheetah": 2.0, "hopper": 1.5, "walker2d": 1.2, "ant": 1.5, "swimmer": 0.8}
STEPS, PAIRS, BEST = 200, 12, 6


def draw_reward(body: Body, gait: str, rng: np.random.Generator) -> Reward:
    """Return a task that `gait` serves."""
    if gait == "velocity":
        return Reward("velocity", {"target_metres_per_second": rng.uniform(*TARGETS[body.name])})
    if body.name == "ant":
        return Reward("direction", {"heading_radians": rng.uniform(0, 2 * math.pi)})
    return Reward("direction", {"heading_radians": math.pi}) if gait == "backward" else Reward("run")


class Search:
    """Searches the weights of one gait; `weights` (A, features) are the best so far."""

    def __init__(self, name: str, seed: int) -> None:
        body, self._gait = name.split("/")
        self.name, self._body = name, BODIES[body]
        self._simulation = Simulation(self._body, Parameters())
        self._rng = np.random.default_rng(seed)
        known = scripts.gaits().get(name)
        self.hertz = known["hertz"] if known else HERTZ[body]
        self.weights = (
            np.array(known["weights"]) if known else np.zeros((len(joints(self._body)), self._size()))
        )

    def _controller(self, reward: Reward, weights: np.ndarray) -> scripts.Controller:
        kind = scripts.AntController if self._body.name == "ant" else scripts.Controller
        made = kind(self._body, reward, weights, self.hertz)
        made.reset(self._rng)
        return made

    def _size(self) -> int:
        self._simulation.reset(self._rng)
        made = self._controller(draw_reward(self._body, self._gait, self._rng), np.zeros(0))
        return made.features(self._simulation.inputs().astype(float)).size

    def score(self, weights: np.ndarray, seed: int) -> float:
        """Return the return of one episode that `seed` determines; a fall ends it."""
        rng, simulation = np.random.default_rng(seed), self._simulation
        reward = draw_reward(self._body, self._gait, rng)
        controller, inputs, actions = self._controller(reward, weights), [], []
        simulation.reset(rng)
        seen = simulation.inputs()
        for _ in range(STEPS):
            actions.append(controller(seen))
            simulation.step(actions[-1])
            seen = simulation.inputs()
            inputs.append(seen)
            if not rewards.healthy(self._body, seen):
                break
        return float(rewards.evaluate(self._body, reward, np.array(inputs), np.array(actions)).sum())

    def improve(self, noise: float, rate: float) -> float:
        """Take one step of the search; return the mean return of the perturbed controllers."""
        shifts = self._rng.standard_normal((PAIRS, *self.weights.shape))
        seeds = self._rng.integers(2**31, size=PAIRS)
        pairs = [
            [self.score(self.weights + sign * noise * shift, int(seed)) for sign in (1, -1)]
            for shift, seed in zip(shifts, seeds, strict=True)
        ]
        paid = np.array(pairs)
        best = np.argsort(-paid.max(1))[:BEST]
        spread = paid[best].std() + 1e-6
        step = ((paid[best, 0] - paid[best, 1])[:, None, None] * shifts[best]).sum(0)
        self.weights = self.weights + rate / (BEST * spread) * step
        return float(paid.mean())


def main() -> None:
    """Search for some seconds and keep the result if it is better on 30 fixed episodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="BODY/GAIT: forward, backward or velocity")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    search, start, best = Search(asked.name, asked.seed), time.monotonic(), None
    best = max_score = None
    while time.monotonic() - start < asked.seconds:
        for _ in range(10):
            mean = search.improve(asked.noise, asked.rate)
        score = float(np.mean([search.score(search.weights, seed) for seed in range(30)]))
        print(f"{time.monotonic() - start:.0f} s: perturbed {mean:.1f}, itself {score:.1f}", flush=True)
        if max_score is None or score > max_score:
            best, max_score = search.weights.copy(), score
    known = json.loads(scripts.PATH.read_text()) if scripts.PATH.exists() else {}
    if asked.name in known and known[asked.name]["score"] >= max_score:
        return
    weights = [[round(float(value), 4) for value in row] for row in best]
    known[asked.name] = {"hertz": search.hertz, "score": round(max_score, 2), "weights": weights}
    rows = [f" {json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known)]
    scripts.PATH.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
