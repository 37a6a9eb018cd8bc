"""Milliseconds of MAML's meta-gradient by engine, beside learn2learn and torch.func, and what groups of tasks cost.

    python benchmarks/meta_gradient.py [--device cpu] [--rounds 7] [--cases 64x200 ...] [--json PATH]

20 tasks, observations and actions of HalfCheetah's sizes, a tanh network with two hidden layers; one inner step on the
policy gradient, a likelihood ratio on as many other samples, second order. A case is WIDTHxSAMPLES (per task and loss).
learn2learn's MAML wraps an ordinary module, a clone per task, and differentiates the mean over tasks, as its examples
of reinforcement learning do ("learn2learn"), or one task after the other ("learn2learn, by task"). The engines are
those of `ops.inner_loop.InnerLoop.mean`; "groups of m" is what "auto" chooses among. All give the same gradient
("apart": largest relative distance from learn2learn's). One thread, the allocator's settings of `meta-latent`; every
round runs all in turn, so that ratios mean something where absolute figures drift. On a CPU its own time is counted:
other load spoils little. Columns: milliseconds; times faster than learn2learn (where it is missing: than "loop"), in
the median round and in the worst and best one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from meta_latent import learn2learn_core
from meta_latent.experiment.runs.processes import ALLOCATOR
from meta_latent.ops import inner_loop
from meta_latent.ops.inner_loop import InnerLoop, Parameters, group_size, stacked
from meta_latent.ops.policy_gradient import gaussian_log_prob, likelihood_ratio, vpg_loss

TASKS, OBSERVATION, ACTION, RATE = 20, 17, 6, 0.1
PEERS = ("learn2learn", "learn2learn, by task")
WIDTHS, SAMPLES, GROUPS = (32, 64, 256), (20, 200, 2000), (2, 5, 10)
LAYERS = (0, 2, 4)
Way = Callable[[], Parameters]


class Policy(nn.Module):
    """A Gaussian policy, as anybody would write it for learn2learn."""

    def __init__(self, width: int):
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(OBSERVATION, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
                                  nn.Linear(width, ACTION))  # fmt: skip
        self.log_stddev = nn.Parameter(torch.zeros(ACTION))

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """(S, O), (S, A) -> log density (S,)."""
        return gaussian_log_prob(action, self.mean(observation), self.log_stddev)


def log_prob(p: Parameters, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """The same for stacked parameters, weights (M, inputs, outputs): (M, S, O), (M, S, A) -> (M, S)."""
    hidden = observation
    for layer in LAYERS:
        hidden = torch.baddbmm(p[f"mean.{layer}.bias"][:, None], hidden, p[f"mean.{layer}.weight"])
        hidden = hidden.tanh() if layer < LAYERS[-1] else hidden
    return gaussian_log_prob(action, hidden, p["log_stddev"][:, None])


class Case:
    """One size: data of the inner loss and of the outer one, and every way to the meta-gradient."""

    def __init__(self, width: int, samples: int, device: torch.device):
        rng = torch.Generator().manual_seed(0)
        shapes = {"observation": (OBSERVATION,), "action": (ACTION,), "advantage": ()}
        self.inner, self.outer = ({name: torch.randn(TASKS, samples, *shape, generator=rng).to(device)
                                   for name, shape in shapes.items()} for _ in range(2))  # fmt: skip
        self.policy, self.samples, self.device = Policy(width), samples, device
        with torch.no_grad():
            for parameter in self.policy.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=rng) / parameter.shape[-1] ** 0.5 / 3)
        self.policy.to(device)
        self.parameters = {name: value.requires_grad_() for name, value in turned(
            {name: x.detach().clone() for name, x in self.policy.named_parameters()}).items()}  # fmt: skip
        with torch.no_grad():
            self.old = log_prob(stacked(self.parameters, TASKS), self.outer["observation"], self.outer["action"])

    def loss(self, p: Parameters, which: slice) -> torch.Tensor:
        """Of the inner loop."""
        data = self.inner
        return vpg_loss(log_prob(p, data["observation"][which], data["action"][which]), data["advantage"][which])

    def value(self, p: Parameters, which: slice) -> torch.Tensor:
        """What is differentiated after it."""
        data = self.outer
        found = log_prob(p, data["observation"][which], data["action"][which])
        return likelihood_ratio(found, self.old[which], data["advantage"][which])

    def engine(self, name: str) -> Parameters:
        """This project's own."""
        loop = InnerLoop(TASKS, self.loss, RATE, engine=name, samples=self.samples)
        mean = loop.mean(self.value, self.parameters)
        return dict(zip(self.parameters, torch.autograd.grad(mean, list(self.parameters.values())), strict=True))

    def grouped(self, size: int) -> Parameters:
        """ "auto" if it chose groups of `size`."""
        chosen = inner_loop.GROUP_WORK
        inner_loop.GROUP_WORK = size * self.work
        try:
            return self.engine("auto")
        finally:
            inner_loop.GROUP_WORK = chosen

    @property
    def work(self) -> int:
        """Multiplications of a task's forward pass."""
        return self.samples * sum(x.numel() for x in self.parameters.values())

    def learn2learn(self, by_task: bool) -> Parameters:
        """The peer."""
        maml = learn2learn_core.maml()(self.policy, lr=RATE)
        values, slopes, given = [], None, list(self.policy.parameters())
        for n in range(TASKS):
            learner = maml.clone()
            learned = learner(self.inner["observation"][n], self.inner["action"][n])
            learner.adapt(vpg_loss(learned[None], self.inner["advantage"][n : n + 1])[0])
            found = learner(self.outer["observation"][n], self.outer["action"][n])
            values.append(likelihood_ratio(found[None], self.old[n : n + 1], self.outer["advantage"][n : n + 1])[0])
            if by_task:
                part = torch.autograd.grad(values.pop() / TASKS, given)
                slopes = part if slopes is None else [a.add_(b) for a, b in zip(slopes, part, strict=True)]
        slopes = slopes if by_task else torch.autograd.grad(torch.stack(values).mean(), given)
        return dict(zip(self.parameters, slopes, strict=True))

    def vmapped(self) -> Parameters:
        """torch.func."""

        def log_prob_of(p, observation, action):
            return functional_call(self.policy, p, (observation, action))

        def after(p, inner, outer, old):
            def loss(q):
                return -(log_prob_of(q, inner["observation"], inner["action"]) * inner["advantage"]).mean()

            slopes = grad(loss)(p)
            q = {name: x - RATE * slopes[name] for name, x in p.items()}
            ratio = (log_prob_of(q, outer["observation"], outer["action"]) - old).exp()
            return (ratio * outer["advantage"]).mean()

        def mean(p):
            return vmap(after, (None, 0, 0, 0))(p, self.inner, self.outer, self.old).mean()

        return grad(mean)({name: x.detach() for name, x in self.policy.named_parameters()})

    def ways(self) -> dict[str, Way]:
        """Name -> meta-gradient; the first is what the others are compared with."""
        ways: dict[str, Way] = {}
        if learn2learn_core.installed():
            ways = dict(zip(PEERS, (lambda: self.learn2learn(False), lambda: self.learn2learn(True)), strict=True))
        ways |= {name: lambda name=name: self.engine(name) for name in ("loop", "stacked", "auto")}
        ways["torch.func"] = self.vmapped
        if self.device.type == "cpu":
            ways |= {f"groups of {m}": lambda m=m: self.grouped(m) for m in GROUPS}
        return ways


def turned(p: Parameters) -> Parameters:
    """Weights (outputs, inputs) -> (inputs, outputs)."""
    return {name: x.T.contiguous() if x.ndim == 2 else x for name, x in p.items()}


def apart(ways: dict[str, Way]) -> float:
    """Largest distance of a gradient from the first one, relative to its norm, over parameters."""
    found = [turned(way()) if name in (*PEERS, "torch.func") else way() for name, way in ways.items()]
    return max(float((p[name] - x).norm() / x.norm()) for p in found for name, x in found[0].items())


def milliseconds(way: Way, device: torch.device) -> float:
    """Of one call: the CPU's own time, or that of the clock around an accelerator."""
    if device.type == "cpu":
        begun = time.process_time()
        way()
        return 1e3 * (time.process_time() - begun)
    torch.cuda.synchronize(device)
    begun = time.perf_counter()
    way()
    torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - begun)


def measure(width: int, samples: int, rounds: int, device: torch.device) -> dict:
    """Medians over rounds, and of the ratios within each round."""
    case = Case(width, samples, device)
    ways = case.ways()
    distance, times = apart(ways), {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            way()  # what ran before has left its own in the caches
            times[name].append(milliseconds(way, device))
    rows = {}
    for name, own in times.items():
        ratios = [first / mine for first, mine in zip(next(iter(times.values())), own, strict=True)]
        rows[name] = {"milliseconds": round(statistics.median(own), 2), "faster": round(statistics.median(ratios), 2),
                      "lowest": round(min(ratios), 2), "highest": round(max(ratios), 2)}  # fmt: skip
    chosen = group_size(stacked(case.parameters, TASKS), "auto", samples)
    return {"group": chosen, "multiplications of a task": case.work, "apart": distance, "ways": rows}


def main(cases: list[tuple[int, int]], rounds: int, device: torch.device) -> dict:
    """All cases."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    result = {"device": name, "torch": torch.__version__, "rounds": rounds, "tasks": TASKS, "cases": {}}
    for width, samples in cases:
        found = result["cases"][f"{width}x{samples}"] = measure(width, samples, rounds, device)
        print(f"2x{width}, {samples} samples; auto takes groups of {found['group']}", flush=True)
        for way, row in found["ways"].items():
            print(f"  {way:22}" + "  ".join(f"{value:9}" for value in row.values()), flush=True)
    return result


def sizes(text: str) -> tuple[int, int]:
    """ "64x200" -> (64, 200)."""
    width, samples = text.split("x")
    return int(width), int(samples)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", type=sizes, nargs="*", default=[(w, s) for w in WIDTHS for s in SAMPLES])
    parser.add_argument("--json", type=Path, help="where to write the result")
    given = parser.parse_args()
    if sys.platform == "linux" and not any(name in os.environ for name in ALLOCATOR):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ALLOCATOR})
    torch.set_num_threads(1)
    result = main(given.cases, given.rounds, given.device)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
