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

HERTZ = {"half_cheetah": 2.0, "hopper": 1.5, "walker2d": 1.2, "ant": 1.246, "swimmer": 0.562}
STEPS, PAIRS, BEST = 200, 12, 6


def draw_reward(body: Body, gait: str, rng: np.random.Generator) -> Reward:
    """Return a task that `gait` serves."""
    if gait == "velocity":
        return Reward("velocity", {"target_metres_per_second": rng.uniform(*TARGETS[body.name])})
    if body.name == "ant":
        return Reward("direction", {"heading_radians": rng.uniform(0, 2 * math.pi)})
    return Reward("direction", {"heading_radians": math.pi}) if gait == "backward" else Reward("run")


def trot(hip: float = 0.162, ankle: float = 0.208, lag: float = 0.246, push: float = -0.108) -> np.ndarray:
    """Return weights (8, 32) of the ant: diagonal legs together, hips sweep along the heading, ankles lift.

    A search from zero finds only how to stand. The four numbers, as those of `wave`, are the best of a few
    minutes of random search over them and the clock.
    """
    weights = np.zeros((8, 32))
    for leg, sign in enumerate(scripts.ANKLE_SIGN):
        angle, phase = (leg + 0.5) * math.pi / 2, leg % 2 * math.pi
        sweep = np.array([math.cos(phase), math.sin(phase)])
        lift = np.array([math.cos(phase + lag), math.sin(phase + lag)])
        weights[2 * leg, 1:3] = hip * (1 if leg < 2 else -1) * sweep
        weights[2 * leg, 5:7] = -hip * math.sqrt(2) * math.cos(angle) * sweep
        weights[2 * leg + 1, 0], weights[2 * leg + 1, 1:3] = push * sign, ankle * sign * lift
    return weights


def wave() -> np.ndarray:
    """Return weights (2, 11) of the swimmer: a wave that runs along it, and springs that keep it long."""
    weights = np.zeros((2, 11))
    weights[0, 1], weights[1, 1], weights[1, 2] = 1.634, 0.573 * math.cos(0.291), -0.573 * math.sin(0.291)
    weights[0, 4] = weights[1, 5] = -1.102
    weights[:, 3] = -0.308
    return weights


STARTS = {"ant/forward": trot, "swimmer/forward": wave}


class Search:
    """Searches the weights of one gait; `weights` (A, features) are the best so far."""

    def __init__(self, name: str, seed: int, start: str = "") -> None:
        body, self._gait = name.split("/")
        self.name, self._body = name, BODIES[body]
        self._simulation = Simulation(self._body, Parameters())
        self._rng = np.random.default_rng(seed)
        known = scripts.gaits().get(start or name)
        self.hertz = known["hertz"] if known else HERTZ[body]
        self.weights = np.zeros((len(joints(self._body)), self._size()))
        if name in STARTS:
            self.weights = STARTS[name]()
        if known:
            weights = np.array(known["weights"])
            own = self.weights.shape[1] - weights.shape[1]  # features of a target, after the clock's three
            self.weights[:, :3], self.weights[:, 3 + own :] = weights[:, :3], weights[:, 3:]
            if own:  # slow down by moving less
                self.weights[:, :3] *= 0.3
                self.weights[:, 3:6] = 0.7 / TARGETS[body][1] * weights[:, :3]

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


def write(name: str, hertz: float, weights: np.ndarray, score: float) -> None:
    """Put a gait into gaits.json, unless the one there scores as much."""
    known = json.loads(scripts.PATH.read_text()) if scripts.PATH.exists() else {}
    if name in known and known[name]["score"] >= score:
        return
    rows = [[round(float(value), 4) for value in row] for row in weights]
    known[name] = {"hertz": hertz, "score": round(score, 2), "weights": rows}
    lines = [f" {json.dumps(key)}: {json.dumps(known[key])}" for key in sorted(known)]
    scripts.PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    """Search for some seconds and keep what scored best on 30 fixed episodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="BODY/GAIT: forward, backward or velocity")
    parser.add_argument("--start", default="", help="go on from the weights of another gait of the body")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    search, begun = Search(asked.name, asked.seed, asked.start), time.monotonic()
    while time.monotonic() - begun < asked.seconds:
        for _ in range(10):
            mean = search.improve(asked.noise, asked.rate)
        score = float(np.mean([search.score(search.weights, seed) for seed in range(30)]))
        print(f"{time.monotonic() - begun:.0f} s: perturbed {mean:.1f}, itself {score:.1f}", flush=True)
        write(asked.name, search.hertz, search.weights, score)


if __name__ == "__main__":
    main()
