"""An ensemble of models of the observed state, for MB-MPO, ME-TRPO and ME-PPO: K networks that differ in their initial
weights, their held-out data and, where tasks differ in their dynamics, in the tasks they learn from.

After Clavera et al. 2018 (MB-MPO, arXiv 1809.05214) and its published code. Deviations:
- Which transitions a member holds out is fixed for ever; there the split is drawn anew for every fit, so that a member
  that goes on from its old weights has seen what it is tested on, and stops after a few epochs.
- Samples are shuffled, there batches are. Terminal transitions are learned, there each path's last is dropped.
- Every batch of an epoch has nearly the same size; there the last one is what is left.
- Predicted states are clipped to what was seen, widened; there to +-1000. Standardised inputs are clipped to +-10.
- No weight normalisation unless asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.optim.adam import adam

from meta_latent.errors import RunError, UserError
from meta_latent.nets import EnsembleLinear, Standardiser
from meta_latent.ranges import count, nonnegative, positive, share
from meta_latent.types import Metrics, Transitions

METRICS = {
    "model_epochs": "epochs until the early stop, a mean over the ensemble",
    "model_error": "held-out squared error of predicted changes (1: no better than their mean), a mean over the "
    "ensemble",
    "model_error_worst": "the same of the worst member",
    "model_reward_error": "the same of predicted rewards, where they are learned",
}
"""What `DynamicsEnsemble.fit` returns."""
CHUNK = 1000
"""Held-out rows per member that are computed at once: more do not fit a CPU's caches."""


@dataclass(frozen=True)
class DynamicsConfig:
    """Sizes and training of a `DynamicsEnsemble`.

    Attributes:
        members: K. hidden, layers: of each network. weight_norm: direction and length of weights apart (published).
        learning_rate, batch_size: of Adam. max_epochs: per fit. validation_share: of transitions that a member
            holds out.
        persistence: of the rolling mean of the held-out error; a member stops when that mean rises, which at 0.9 and
            above it hardly does in 50 epochs.
        explosion: a held-out error so many times its first one, or 1 if that was less, ends the run.
        learned_reward: whether K more networks learn the reward.
        bias: makes models wrong on purpose, to see what a learner makes of it, as Clavera et al. did: each fit
            draws for each model and each value a number from U[0, bias], in standard deviations of changes (published:
            in units of the state), which is added to all that it predicts. Held-out errors are of before.
    """

    members: int = count(5, most=256)
    hidden: int = count(512, most=16_384)
    layers: int = count(2, most=16)
    weight_norm: bool = False
    learning_rate: float = positive(1e-3, most=1)
    batch_size: int = count(500)
    max_epochs: int = count(50)
    validation_share: float = share(0.2, above=True, below=True)
    persistence: float = share(0.99, below=True)
    explosion: float = positive(100.0, most=1e12)
    learned_reward: bool = False
    bias: float = nonnegative(0.0, most=100)


def held_out(seed: int, members: int, episode: np.ndarray, validation_share: float) -> np.ndarray:
    """(members, n) bool: which of n transitions each member never trains on.

    episode: (n,) number of each transition's episode, those of an episode together and in order. It depends on seed,
    member, episode and place in it alone, so that neither later nor evicted transitions change it.
    """
    episode = np.asarray(episode, np.int64)
    numbers, begins = np.arange(len(episode)), np.ones(len(episode), bool)
    begins[1:] = episode[1:] != episode[:-1]
    place = numbers - np.maximum.accumulate(np.where(begins, numbers, 0))
    member = np.arange(members, dtype=np.uint64)[:, None]
    x = np.full((members, len(episode)), seed, np.uint64)
    for part in (member, episode.astype(np.uint64), place.astype(np.uint64)):
        x = _mixed(x ^ part)
    return (x >> np.uint64(11)) * 2.0**-53 < validation_share


def _mixed(x: np.ndarray) -> np.ndarray:
    """One round of the generator splitmix64 (Steele et al. 2014): every bit of uint64 `x` changes half of all bits."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class EarlyStop:
    """The published rule: stop when the rolling mean of the held-out error rises. Before the first error the mean is
    1.5 times that error, and was 2.0 times it, so that it can only fall at first.
    """

    def __init__(self, persistence: float):
        self.persistence = persistence
        self.first = self.mean = self.previous = math.nan

    def stops(self, error: float) -> bool:
        """Take in an epoch's error; -> whether this epoch was the last."""
        if math.isnan(self.first):
            self.first, self.mean, self.previous = error, 1.5 * error, 2.0 * error
        self.mean = self.persistence * self.mean + (1 - self.persistence) * error
        rises, self.previous = self.previous < self.mean, self.mean
        return rises


class _Linear(EnsembleLinear):
    """With weight normalisation (Salimans & Kingma 2016), the weights into a unit are `gain` long."""

    def __init__(self, heads: int, inputs: int, outputs: int, weight_norm: bool):
        super().__init__(heads, inputs, outputs)
        self.gain = nn.Parameter(self.weight.detach().norm(dim=1, keepdim=True)) if weight_norm else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight
        if self.gain is not None:
            weight = weight * (self.gain / weight.norm(dim=1, keepdim=True))
        return torch.bmm(x, weight).add_(self.bias)  # `baddbmm` copies the bias first: slower on a CPU


class _Unit(nn.Module):
    """Standardises what networks predict, and back. A value that never varied is predicted exactly: its mean."""

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("stddev", torch.ones(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / torch.where(self.stddev > 0, self.stddev, 1.0)

    def inverse(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.mean, x, self.stddev)

    def fit(self, x: torch.Tensor, resolution: torch.Tensor) -> None:
        """Take mean and stddev from (n, size); variation below `resolution` (size,) is rounding."""
        stddev = x.std(0, correction=0)
        self.mean.copy_(x.mean(0))
        self.stddev.copy_(torch.where(stddev > resolution, stddev, 0.0))


class _Networks(nn.Module):
    """K networks of the change and, if asked for, K of the reward, in standardised units."""

    def __init__(self, config: DynamicsConfig, state_size: int, action_size: int):
        super().__init__()
        inputs = state_size + action_size
        self.state_size, self.splits = state_size, (inputs, state_size, int(config.learned_reward))
        self.delta = _stack(config, inputs, state_size)
        self.reward = _stack(config, inputs + state_size, 1) if config.learned_reward else None

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Squared errors (K, B, 1 or 2), of change and reward, for rows (K, B, inputs | change | reward)."""
        x, delta, reward = rows.split(self.splits, dim=-1)
        errors = [(self.delta(x) - delta).square().mean(-1, keepdim=True)]
        if self.reward is not None:
            errors.append((self.rewards(x, delta) - reward).square())
        return torch.cat(errors, dim=-1)

    def rewards(self, x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """(K, B, 1); changes are clipped as inputs are."""
        return self.reward(torch.cat((x, delta.clamp(-Standardiser.LIMIT, Standardiser.LIMIT)), dim=-1))


def _stack(config: DynamicsConfig, inputs: int, outputs: int) -> nn.Sequential:
    sizes = [inputs, *[config.hidden] * config.layers, outputs]
    layers = [_Linear(config.members, *ends, config.weight_norm) for ends in zip(sizes[:-1], sizes[1:], strict=True)]
    units = [nn.ReLU(inplace=True) for _ in layers[1:]]
    return nn.Sequential(*[block for pair in zip(layers, units, strict=False) for block in pair], layers[-1])


class _MemberAdam(nn.Module):
    """Adam for parameters with a leading member dimension K; what is left out of a step does not move, nor do its
    moments.
    """

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float):
        super().__init__()
        self.learning_rate = learning_rate
        for name in ("first", "second"):
            for i, parameter in enumerate(parameters):
                self.register_buffer(f"{name}_{i}", torch.zeros_like(parameter))
        self.register_buffer("steps", torch.zeros(len(parameters), len(parameters[0])))

    def slots(self, weights: list[torch.Tensor], members: list[int]) -> list[list[torch.Tensor]]:
        """Views of weights (len(members), ...) of some members, of their moments and their steps, for `step`."""
        places = [(i, row, k) for i in range(len(weights)) for row, k in enumerate(members)]
        moments = ([self.get_buffer(f"{name}_{i}")[k] for i, _, k in places] for name in ("first", "second"))
        return [[weights[i].detach()[row] for i, row, _ in places], *moments, [self.steps[i, k] for i, _, k in places]]

    @torch.no_grad()
    def step(self, slots: list[list[torch.Tensor]], gradients: Iterable[torch.Tensor]) -> None:
        """Move what `slots` views by gradients (len(members), ...)."""
        weights, first, second, steps = slots
        rows = [row for gradient in gradients for row in gradient.contiguous()]  # fused: reads memory in order
        adam(weights, rows, first, second, [], steps, fused=True, amsgrad=False, beta1=0.9, beta2=0.999,
             lr=self.learning_rate, weight_decay=0.0, eps=1e-8, maximize=False)  # fmt: skip


class DynamicsEnsemble(nn.Module):
    """K networks that predict how an action changes the observed state; no two share a weight.

    Initial weights, and which transitions each member holds out, are drawn when it is built
    (`rng.seeded_construction`).
    """

    REACH = 10.0
    """Predicted states stay within what was seen, widened on both sides by so many times its width."""

    def __init__(self, config: DynamicsConfig, state_size: int, action_size: int):
        super().__init__()
        self.config = config
        self.networks = _Networks(config, state_size, action_size)
        self.inputs, self.deltas = Standardiser(state_size + action_size), _Unit(state_size)
        self.reward_unit = _Unit(1) if config.learned_reward else None
        self.optimiser = _MemberAdam(list(self.networks.parameters()), config.learning_rate)
        self.register_buffer("split_seed", torch.randint(2**62, ()))
        if config.bias:
            self.register_buffer("shift", torch.zeros(config.members, 1, state_size))
        self.register_buffer("low", torch.full((state_size,), -math.inf))
        self.register_buffer("high", torch.full((state_size,), math.inf))

    @property
    def heads(self) -> int:
        """K."""
        return self.config.members

    # Predicting

    def forward(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Next states (N, P, S) for states (N, P, S) and actions (N, P, A) of N tasks with P particles each, task n
        through member n mod K.
        """
        delta = self._run(self.networks.delta, self.inputs(torch.cat((states, actions), dim=-1)))
        if self.config.bias:
            delta = delta + self.shift[torch.arange(len(states), device=delta.device) % self.heads]
        return (states + self.deltas.inverse(delta)).clamp(self.low, self.high)

    through = forward

    def rewards(self, states: torch.Tensor, actions: torch.Tensor, next_states: torch.Tensor) -> torch.Tensor:
        """Learned rewards (N, P) of transitions of N tasks, task n through member n mod K."""
        x = self.inputs(torch.cat((states, actions), dim=-1))
        delta = self.deltas(next_states - states).clamp(-Standardiser.LIMIT, Standardiser.LIMIT)
        return self.reward_unit.inverse(self._run(self.networks.reward, torch.cat((x, delta), dim=-1)))[..., 0]

    def _run(self, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """x (N, P, inputs) through a stack of K networks, whole rounds of K tasks at once."""
        whole, k, parts = len(x) - len(x) % self.heads, self.heads, []
        if whole:
            grouped = x[:whole].unflatten(0, (-1, k)).transpose(0, 1).flatten(1, 2)
            parts.append(network(grouped).unflatten(1, (-1, x.shape[1])).transpose(0, 1).flatten(0, 1))
        if whole < len(x):
            some = {name: p[: len(x) - whole] for name, p in network.named_parameters()}
            parts.append(functional_call(network, some, (x[whole:],)))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    # Learning

    def fit(self, transitions: Transitions, owners: torch.Tensor | None, rng: torch.Generator) -> Metrics:
        """Go on from the present weights until every member's early stop; -> values named in `METRICS`.

        owners: (n,) int64, the one member that each transition belongs to; None: all belong to all. A member trains
        on those of its own that it does not hold out; one that has none of either kind stays as it is. An epoch is one
        pass through what the member with the most trains on; others go round.
        Raises UserError if no member has both kinds, RunError naming a member whose held-out error explodes.
        """
        train, tests = self._split(transitions, owners)
        running = [k for k in range(self.heads) if len(train[k]) and len(tests[k])]
        if not running:
            raise UserError(
                f"{len(transitions.episode)} transitions are too few to train a model of the dynamics on some and test "
                "it on others; collect more before a fit"
            )
        rows = self._prepare(transitions)
        rules = {k: EarlyStop(self.config.persistence) for k in running}
        errors, epochs = {}, {}
        for epoch in range(1, self.config.max_epochs + 1):
            self._epoch(rows, [train[k] for k in running], running, rng)
            for k, error in zip(running, self._errors(rows, [tests[k] for k in running], running), strict=True):
                errors[k], epochs[k] = error, epoch
            running = [k for k in running if not self._stops(k, rules[k], sum(errors[k]))]
            if not running:
                break
        if self.config.bias:
            self.shift.copy_(self.config.bias * torch.rand(self.shift.shape, generator=rng))
        return self._metrics(errors, epochs)

    @torch.no_grad()
    def _prepare(self, transitions: Transitions) -> torch.Tensor:
        """Fit all units; -> (n, inputs | change | reward), standardised."""
        device = self.low.device
        states, actions, following = (
            x.to(device, torch.float32) for x in (transitions.proprio, transitions.action, transitions.next_proprio)
        )
        x, delta, seen = torch.cat((states, actions), dim=-1), following - states, torch.cat((states, following))
        self.inputs.fit(x)
        self.deltas.fit(delta, 1e-6 * seen.abs().amax(0))
        low, high = seen.amin(0), seen.amax(0)
        self.low.copy_(low - self.REACH * (high - low))
        self.high.copy_(high + self.REACH * (high - low))
        columns = [self.inputs(x), self.deltas(delta)]
        if self.reward_unit is not None:
            reward = transitions.reward.to(device, torch.float32)[:, None]
            self.reward_unit.fit(reward, 1e-6 * reward.abs().amax(0))
            columns.append(self.reward_unit(reward))
        return torch.cat(columns, dim=-1)

    def _split(self, transitions: Transitions, owners: torch.Tensor | None):
        """(rows that each member trains on, rows that it is tested on)."""
        held = torch.from_numpy(
            held_out(int(self.split_seed), self.heads, transitions.episode.cpu().numpy(), self.config.validation_share)
        )
        mine = torch.ones_like(held) if owners is None else owners.cpu() == torch.arange(self.heads)[:, None]
        return [row.nonzero()[:, 0] for row in mine & ~held], [row.nonzero()[:, 0] for row in mine & held]

    def _epoch(self, rows: torch.Tensor, train: list[torch.Tensor], members: list[int], rng: torch.Generator) -> None:
        length = max(len(own) for own in train)
        orders = [own[torch.randperm(len(own), generator=rng)] for own in train]
        order = torch.stack([own.repeat(-(-length // len(own)))[:length] for own in orders]).to(rows.device)
        own = {name: x.requires_grad_() for name, x in self._of(members).items()}
        weights = list(own.values())
        slots = self.optimiser.slots(weights, members)
        for batch in order.tensor_split(-(-length // self.config.batch_size), dim=1):
            errors = functional_call(self.networks, own, (_rows(rows, batch),))
            self.optimiser.step(slots, torch.autograd.grad(errors.sum(-1).mean(1).sum(), weights))
        with torch.no_grad():
            for name, parameter in self.networks.named_parameters():
                parameter[members] = own[name]

    def _of(self, members: list[int]) -> dict[str, torch.Tensor]:
        """Copies of the weights of some members."""
        return {name: p.detach()[members] for name, p in self.networks.named_parameters()}

    @torch.no_grad()
    def _errors(self, rows: torch.Tensor, tests: list[torch.Tensor], members: list[int]) -> list[list[float]]:
        """Mean squared errors of change (and reward) of each member on rows of its own."""
        own, length = self._of(members), max(len(some) for some in tests)
        order = torch.stack([nn.functional.pad(some, (0, length - len(some)), value=-1) for some in tests])
        totals = 0.0
        for batch in order.to(rows.device).split(CHUNK, dim=1):
            errors = functional_call(self.networks, own, (_rows(rows, batch.clamp(min=0)),))
            totals = totals + torch.where(batch[..., None] >= 0, errors, 0.0).sum(1, dtype=torch.float64)
        counts = torch.tensor([[len(some)] for some in tests], device=rows.device)
        return (totals / counts).tolist()

    def _stops(self, member: int, rule: EarlyStop, error: float) -> bool:
        stops = rule.stops(error)
        if not (math.isfinite(error) and error <= self.config.explosion * max(rule.first, 1.0)):
            raise RunError(
                f"dynamics model: member {member}'s held-out error exploded, {rule.first:.3g} at first and now "
                f"{error:.3g}; lower its learning_rate"
            )
        return stops

    def _metrics(self, errors: dict[int, list[float]], epochs: dict[int, int]) -> Metrics:
        table = np.array(list(errors.values()))
        metrics = {"model_epochs": float(np.mean(list(epochs.values()))), "model_error": float(table[:, 0].mean()),
                   "model_error_worst": float(table[:, 0].max())}  # fmt: skip
        if self.config.learned_reward:
            metrics["model_reward_error"] = float(table[:, 1].mean())
        return metrics

    # Saving

    def state(self) -> dict:
        """Weights, moments, units and the split."""
        return {name: x.clone() for name, x in self.state_dict().items()}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        self.load_state_dict(state)


def _rows(rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """rows[index] of (n, width) for index (K, B), which is quicker this way."""
    return rows.index_select(0, index.flatten()).unflatten(0, index.shape)
