"""Imagined transitions per second of a dynamics ensemble, and what fitting one costs per epoch.

    python benchmarks/imagination.py [--device cpu] [--particles 1000 4000] [--rounds 7] [--json PATH]

Imagining: 5 networks of 2x512, each particle through one of them, a stochastic policy of 2x32 per task (20 tasks),
reward and end by formula (17 values of state, 6 of action). Beside it: the ensemble without policy, reward and end; its
matrix products alone; plain sgemm; and mbrl-lib's `ModelEnv` if this Python can import it (the same networks without a
variance or reward head, each particle keeps its network, the same policy, reward and end). All take turns in one
process on one thread, with the allocator settings of runs; ratios are medians of those within a round. The clock is CPU
time on a CPU (other load spoils little), wall time on a GPU. Fitting: 20,000 transitions, 5 networks of 2x256.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch

from meta_latent.experiment.runs.processes import ALLOCATOR
from meta_latent.models.dynamics_ensemble import DynamicsConfig, DynamicsEnsemble
from meta_latent.nets import EnsembleLinear
from meta_latent.ops.imagination import imagine_groups
from meta_latent.rng import seeded_construction
from meta_latent.types import Transitions

STATE, ACTION, MEMBERS, HIDDEN, TASKS, HORIZON = 17, 6, 5, 512, 20, 50
FIT_HIDDEN, TRANSITIONS, EPOCHS, SQUARE = 256, 20_000, 3, 1024


def random_transitions(n: int) -> Transitions:
    """A linear system of the sizes above under random actions, episodes of 100 steps."""
    rng, none = torch.Generator().manual_seed(0), torch.zeros(n)
    states, actions = torch.randn(n, STATE, generator=rng), torch.rand(n, ACTION, generator=rng) * 2 - 1
    change = torch.cat((states, actions), -1) @ (0.1 * torch.randn(STATE + ACTION, STATE, generator=rng))
    return Transitions(states, states + change, actions, none, none[:, None], none[:, None], none.bool(), none.long(),
                       torch.arange(n) // 100)  # fmt: skip


def ensemble(hidden: int, epochs: int, n: int, device: str) -> DynamicsEnsemble:
    """One fitted for `epochs` to n transitions."""
    with seeded_construction(0):
        model = DynamicsEnsemble(DynamicsConfig(members=MEMBERS, hidden=hidden, max_epochs=epochs), STATE, ACTION)
    model.to(device).fit(random_transitions(n), None, torch.Generator().manual_seed(0))
    return model


def reward(following: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Forward speed less the cost of acting."""
    return following[..., 8] - 0.1 * actions.square().sum(-1)


def ended(following: torch.Tensor) -> torch.Tensor:
    """Too low or tilted."""
    return (following[..., 0] < -20) | (following[..., 1].abs() > 20)


class Policy(torch.nn.Module):
    """A Gaussian policy per task, as MB-MPO's adapted ones."""

    def __init__(self, device: str):
        super().__init__()
        sizes = [STATE, 32, 32, ACTION]
        self.layers = torch.nn.ModuleList(EnsembleLinear(TASKS, a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.rng = torch.Generator(device).manual_seed(0)
        self.to(device)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(TASKS, P, S) -> (TASKS, P, A)."""
        x = torch.tanh(self.layers[1](torch.tanh(self.layers[0](states))))
        mean = self.layers[2](x)
        return mean + 0.5 * torch.randn(mean.shape, generator=self.rng, device=mean.device)


def ours(model: DynamicsEnsemble, policy: Policy, particles: int) -> Callable[[], object]:
    """HORIZON steps of all particles."""
    starts = torch.randn(TASKS, particles // TASKS, STATE, device=model.low.device)

    def step(states, actions):
        following = model.through(states, actions)
        return following, reward(following, actions), ended(following)

    return lambda: imagine_groups(step, policy, starts, HORIZON)


def alone(model: DynamicsEnsemble, particles: int) -> Callable[[], object]:
    """HORIZON times the ensemble and nothing else."""
    states = torch.randn(TASKS, particles // TASKS, STATE, device=model.low.device)
    actions = torch.randn(TASKS, particles // TASKS, ACTION, device=model.low.device)

    @torch.no_grad()
    def run():
        for _ in range(HORIZON):
            model.through(states, actions)

    return run


def products(model: DynamicsEnsemble, particles: int) -> Callable[[], object]:
    """The matrix products of the same steps alone, into memory that is there already."""
    weights = [layer.weight.detach() for layer in model.networks.delta if isinstance(layer, EnsembleLinear)]
    rows = [torch.randn(MEMBERS, particles // MEMBERS, w.shape[1], device=w.device) for w in weights]
    results = [torch.empty(*x.shape[:2], w.shape[2], device=w.device) for x, w in zip(rows, weights, strict=True)]

    def run():
        for _ in range(HORIZON):
            for x, weight, result in zip(rows, weights, results, strict=True):
                torch.bmm(x, weight, out=result)

    return run


def sgemm(device: str) -> Callable[[], object]:
    """Ten products of large square matrices."""
    a, b, c = (torch.randn(SQUARE, SQUARE, device=device) for _ in range(3))
    return lambda: [torch.mm(a, b, out=c) for _ in range(10)]


def peer(policy: Policy, particles: int, device: str) -> Callable[[], object]:
    """The same steps in mbrl-lib's `ModelEnv`."""
    from mbrl.models import GaussianMLP, ModelEnv, OneDTransitionRewardModel

    network = GaussianMLP(STATE + ACTION, STATE, device, num_layers=2, ensemble_size=MEMBERS, hid_size=HIDDEN,
                          deterministic=True, propagation_method="fixed_model")  # fmt: skip
    model = OneDTransitionRewardModel(network, target_is_delta=True, normalize=True, learned_rewards=False)
    spaces = SimpleNamespace(observation_space=None, action_space=None)
    env = ModelEnv(spaces, model, lambda a, o: ended(o)[:, None], lambda a, o: reward(o, a)[:, None])
    starts = torch.randn(particles, STATE).numpy()

    @torch.no_grad()
    def run():
        carry = env.reset(starts, return_as_np=False)
        for _ in range(HORIZON):
            actions = policy(carry["obs"].view(TASKS, -1, STATE)).flatten(0, 1)
            carry = env.step(actions, carry)[3]

    return run


def flops(hidden: int) -> int:
    """Of the matrix products of one prediction."""
    return 2 * ((STATE + ACTION) * hidden + hidden * hidden + hidden * STATE)


def fit_flops(model: DynamicsEnsemble) -> float:
    """Of an epoch: forwards and back (no gradient into the inputs), and forwards on what is held out."""
    training = 3 * flops(FIT_HIDDEN) - 2 * (STATE + ACTION) * FIT_HIDDEN
    held = model.config.validation_share
    return MEMBERS * TRANSITIONS * ((1 - held) * training + held * flops(FIT_HIDDEN))


def seconds(run: Callable[[], object], device: str) -> float:
    """Of one call."""
    if device != "cpu":
        torch.cuda.synchronize()
    clock = time.process_time if device == "cpu" else time.perf_counter
    begun = clock()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - begun


def ratio(turns: dict[str, list[float]], of: str, to: str) -> float:
    """Median over rounds of one kind's rate over another's in the same round."""
    return round(statistics.median(a / b for a, b in zip(turns[of], turns[to], strict=True)), 3)


def imagining(particles: int, rounds: int, device: str) -> dict:
    """Transitions per second of every kind, and shares of the roof."""
    model, policy = ensemble(HIDDEN, 1, 2000, device), Policy(device)
    runs = {"imagination": ours(model, policy, particles), "ensemble alone": alone(model, particles),
            "products alone": products(model, particles), "plain sgemm": sgemm(device)}  # fmt: skip
    if importlib.util.find_spec("mbrl"):
        runs["mbrl-lib"] = peer(policy, particles, device)
    counts = dict.fromkeys(runs, particles * HORIZON) | {"plain sgemm": 10 * 2 * SQUARE**3 / flops(HIDDEN)}
    for run in runs.values():
        run()
    turns: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            turns[name].append(counts[name] / seconds(run, device))
    rates = {name: round(statistics.median(values)) for name, values in turns.items()}
    over = {name: ratio(turns, "imagination", name) for name in list(turns)[1:]}
    over["ensemble alone over products alone"] = ratio(turns, "ensemble alone", "products alone")
    return {"transitions_per_second": rates, "imagination_over": over}


def fitting(rounds: int, device: str) -> dict:
    """Milliseconds per epoch, and its share of plain sgemm's operations per second."""
    model, rng = ensemble(FIT_HIDDEN, EPOCHS, 2000, device), torch.Generator().manual_seed(0)
    transitions = random_transitions(TRANSITIONS)
    square, turns = sgemm(device), {"fit": [], "sgemm": []}
    for _ in range(rounds):
        turns["fit"].append(EPOCHS / seconds(lambda: model.fit(transitions, None, rng), device))
        turns["sgemm"].append(10 * 2 * SQUARE**3 / fit_flops(model) / seconds(square, device))
    return {"milliseconds_per_epoch": round(1e3 / statistics.median(turns["fit"]), 1),
            "fit_over_plain_sgemm": ratio(turns, "fit", "sgemm")}  # fmt: skip


def main(device: str, particles: list[int], rounds: int) -> dict:
    """Everything, printed as it comes."""
    if device == "cpu":
        torch.set_num_threads(1)
    chip = platform.machine() if device == "cpu" else torch.cuda.get_device_name()
    result: dict = {"device": device, "chip": chip, "torch": torch.__version__, "rounds": rounds}
    if importlib.util.find_spec("mbrl"):
        result["mbrl"] = importlib.metadata.version("mbrl")
    result["imagining"] = {}
    for count in particles:
        result["imagining"][f"{count} particles"] = found = imagining(count, rounds, device)
        print(count, "particles", json.dumps(found, indent=1), flush=True)
    result["fitting"] = fitting(rounds, device)
    print("fitting", json.dumps(result["fitting"], indent=1), flush=True)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--particles", type=int, nargs="+", default=[1000, 4000], help="each a multiple of 20")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to write the result")
    given = parser.parse_args()
    if not ALLOCATOR.items() <= os.environ.items():  # it counts from the start of a process only
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    found = main(given.device, given.particles, given.rounds)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
