"""An ensemble of models of observed states, each with data to train on, data to validate on and an end of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from meta_latent.errors import RunError, UserError
from meta_latent.nets import Standardiser
from meta_latent.ranges import count, positive, share, whole
from meta_latent.types import Metrics, Transitions

METRICS = {
    "model_error": "held-out squared error of the models of the state, in variances of its changes",
    "model_error_worst": "the same of the worst model",
    "model_epochs": "passes over the data that a model took on average",
}
WIDE = 1.0
"""Imagined states may leave the range of what was seen by so many times its width."""
BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class DynamicsConfig:
    """Sizes, and how the models are fitted.

    Attributes:
        members: K, how many. hidden: width of each. layers: hidden layers. learning_rate: of Adam.
        batch_size: transitions per model and update. max_epochs: most passes over the data per fit.
        persistence: how slowly the average of validation losses follows; a model stops where it rises.
        validation_share: of transitions that a model never trains on.
        explosion: validation loss, in variances, at which a run is stopped.
        learned_reward: rewards are predicted beside the state; else they are the suite's own function of it.
    """

    members: int = count(5, most=1000)
    hidden: int = count(512, most=16_384)
    layers: int = whole(2, most=64)
    learning_rate: float = positive(1e-3, most=10)
    batch_size: int = count(500, most=1_000_000)
    max_epochs: int = count(50, most=100_000)
    persistence: float = share(0.99, below=True)
    validation_share: float = share(0.2, above=True, below=True)
    explosion: float = positive(100.0, most=1e12)
    learned_reward: bool = False


class DynamicsEnsemble(nn.Module):
    """K networks (ReLU) that predict by how much a state changes: (K, P, S) states and (K, P, A) actions.

    Source: MB-MPO's and ME-TRPO's models. Deviations: no weight normalisation; a transition belongs to a model's
    training or validation set for ever, by a hash of its place in the data, where the published code draws the split
    anew for each fit, so that warm-started models have seen what they are validated on; transitions into terminal
    states are learned from; mini-batches are of shuffled samples; imagined states stay within `WIDE` widths of what
    was seen instead of +-1000.

    Args:
        config: sizes. state_size: S. action_size: A. blind: places of the state that change nothing but themselves,
            such as how far a body has come; they are not read, and not bounded.
    """

    def __init__(self, config: DynamicsConfig, state_size: int, action_size: int, blind: tuple[int, ...] = ()):
        super().__init__()
        self.config, self.state_size, self.heads = config, state_size, config.members
        outputs = state_size + config.learned_reward
        sizes = [state_size + action_size, *[config.hidden] * config.layers, outputs]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            bound = 1 / math.sqrt(a)
            self.weights.append(torch.empty(self.heads, a, b).uniform_(-bound, bound))
            self.biases.append(torch.empty(self.heads, 1, b).uniform_(-bound, bound))
        self.inputs, self.outputs = Standardiser(state_size + action_size), Standardiser(outputs)
        read = torch.ones(state_size + action_size)
        read[list(blind)] = 0
        self.register_buffer("read", read, persistent=False)
        self.register_buffer("low", torch.full((state_size,), -math.inf))
        self.register_buffer("high", torch.full((state_size,), math.inf))
        self.register_buffer("salt", torch.randint(2**62, (1,)))
        self.adam = RowAdam(list(self.parameters()), config.learning_rate)

    # Predicting

    def forward(self, states: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Each group of rows through its own model: next states (K, P, S), and rewards (K, P) if they are learned."""
        found = self._net(list(self.parameters()), self._scaled(torch.cat([states, actions], -1)))
        found = found * self.outputs.stddev + self.outputs.mean
        following = (states + found[..., :self.state_size]).clamp(self.low, self.high)
        return following, found[..., -1] if self.config.learned_reward else None

    def through(self, states: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(N, P, S), (N, P, A), task n through model n mod K (N a multiple of K) -> (N, P, S), and (N, P) or None."""
        following, rewards = self(self._grouped(states), self._grouped(actions))
        following = self._apart(following, states.shape[1])
        return following, None if rewards is None else self._apart(rewards[..., None], states.shape[1])[..., 0]

    def _grouped(self, x: torch.Tensor) -> torch.Tensor:
        rounds = len(x) // self.heads
        return x.unflatten(0, (rounds, self.heads)).transpose(0, 1).flatten(1, 2)

    def _apart(self, x: torch.Tensor, particles: int) -> torch.Tensor:
        return x.unflatten(1, (-1, particles)).transpose(0, 1).flatten(0, 1)

    def _scaled(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.inputs(inputs) * self.read

    def _net(self, parameters: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        layers = len(self.weights)
        for i, (weight, bias) in enumerate(zip(parameters[:layers], parameters[layers:], strict=True)):
            x = torch.baddbmm(bias, x, weight)
            x = x.relu() if i + 1 < layers else x
        return x

    # Learning

    def fit(self, data: Transitions, owners: torch.Tensor | None, rng: torch.Generator) -> Metrics:
        """Go on learning, from all of `data`, until each model's validation loss rises.

        owners: (n,) the one model that may learn from each transition; None: all may.
        Raises RunError, naming the model, where a validation loss explodes; UserError where a model has no data.
        """
        inputs, targets = self._scale(data)
        held_out = self._held_out(data)
        own = torch.ones_like(held_out) if owners is None else owners[:, None] == torch.arange(self.heads)
        training, held_out = own & ~held_out, own & held_out
        lacking = [k for k in range(self.heads) if not training[:, k].any()]
        if lacking:
            raise UserError(f"model {lacking[0]} of {self.heads} has no data of its tasks: raise "
                            "transfer.warmup_episodes, so that every task is played")  # fmt: skip
        held_out = torch.where(held_out.any(0), held_out, training)  # a handful of transitions may have none
        stop, epochs = EarlyStop(self.heads, self.config.persistence), torch.zeros(self.heads)
        while len(stop.active) and int(epochs.max()) < self.config.max_epochs:
            active = stop.active
            self._epoch(active, inputs, targets, training, rng)
            losses = self._losses(active, inputs, targets, held_out)
            self._check(active, losses)
            epochs[active] += 1
            stop.see(losses)
        return {"model_error": float(stop.last.mean()), "model_error_worst": float(stop.last.max()),
                "model_epochs": float(epochs.mean())}  # fmt: skip

    def _scale(self, data: Transitions) -> tuple[torch.Tensor, torch.Tensor]:
        """Take the scales of `data`; -> inputs (n, S + A) and targets, standardised."""
        device = self.low.device
        states, following = data.proprio.to(device), data.next_proprio.to(device)
        inputs, targets = torch.cat([states, data.action.to(device)], -1), following - states
        if self.config.learned_reward:
            targets = torch.cat([targets, data.reward.to(device)[:, None]], -1)
        self.inputs.fit(inputs)
        self.outputs.fit(targets)
        low, high = torch.minimum(states, following).amin(0), torch.maximum(states, following).amax(0)
        free = self.read[:self.state_size] == 0
        wide = WIDE * (high - low)
        self.low.copy_(torch.where(free, -math.inf, low - wide))
        self.high.copy_(torch.where(free, math.inf, high + wide))
        return self._scaled(inputs), self.outputs(targets)

    def _held_out(self, data: Transitions) -> torch.Tensor:
        """(n, K) bool: what belongs to each model's validation set, for ever."""
        row = torch.arange(len(data.episode))
        begins = torch.ones_like(row, dtype=torch.bool)
        begins[1:] = data.episode[1:] != data.episode[:-1]
        place = row - torch.where(begins, row, 0).cummax(0).values
        number = (data.episode * 1_000_003 + place)[:, None] * 1_009 + torch.arange(self.heads)
        return _hashed(number + int(self.salt)) < self.config.validation_share

    def _epoch(self, active, inputs, targets, training, rng: torch.Generator) -> None:
        """One pass of the active models over their data, those with less of it over part of theirs again."""
        rows = [training[:, k].nonzero()[:, 0] for k in active.tolist()]
        longest = max(map(len, rows))
        shuffled = torch.stack([self._repeated(own, longest, rng) for own in rows]).to(inputs.device)
        with self.adam.rows(active) as (parameters, step):
            for batch in shuffled.split(self.config.batch_size, 1):
                error = self._net(parameters, inputs[batch]) - targets[batch]
                step(torch.autograd.grad(error.square().mean((1, 2)).sum(), parameters))

    @staticmethod
    def _repeated(rows: torch.Tensor, length: int, rng: torch.Generator) -> torch.Tensor:
        order = rows[torch.randperm(len(rows), generator=rng)]
        return order.repeat(-(-length // len(rows)))[:length]

    @torch.no_grad()
    def _losses(self, active, inputs, targets, held_out) -> torch.Tensor:
        """(active,) mean squared validation errors, on the CPU."""
        rows = [held_out[:, k].nonzero()[:, 0] for k in active.tolist()]
        counts = torch.tensor([len(own) for own in rows])
        index = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(inputs.device)
        counted = (torch.arange(index.shape[1]) < counts[:, None]).to(inputs.device)
        error = self._net([p[active] for p in self.parameters()], inputs[index]) - targets[index]
        return (error.square().mean(-1) * counted).sum(1).cpu() / counts

    def _check(self, active: torch.Tensor, losses: torch.Tensor) -> None:
        worst = int(losses.nan_to_num(math.inf).argmax())
        if not losses[worst] < self.config.explosion:
            raise RunError(f"model {int(active[worst])} of the ensemble exploded: its validation loss is "
                           f"{float(losses[worst]):.3g} variances; lower models.learning_rate")  # fmt: skip

    # Saving

    def state(self) -> dict:
        """Weights, scales and moments."""
        return {"models": self.state_dict(), "adam": self.adam.state()}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        self.load_state_dict(state["models"])
        self.adam.load_state(state["adam"])


class EarlyStop:
    """Which models go on: each until the running average of its validation losses rises.

    The average starts at 1.5 times, and its predecessor at twice the first loss. Source: MB-MPO's code.
    """

    def __init__(self, models: int, persistence: float):
        self.persistence = persistence
        self.active = torch.arange(models)
        self.last, self.average = torch.full((models,), math.nan), torch.full((models,), math.nan)

    def see(self, losses: torch.Tensor) -> None:
        """Take in a validation loss of each active model."""
        active, first = self.active, self.average[self.active].isnan()
        before = torch.where(first, 2 * losses, self.average[active])
        average = torch.where(first, 1.5 * losses, before)
        average = self.persistence * average + (1 - self.persistence) * losses
        self.last[active], self.average[active] = losses, average
        self.active = active[before >= average]


class RowAdam:
    """Adam (Kingma & Ba 2015) on parameters (K, ...) whose rows step on their own; those that rest keep their moments.
    """

    def __init__(self, parameters: list[torch.Tensor], rate: float):
        self.parameters, self.rate = parameters, rate
        self.means: list[torch.Tensor] = []
        self.squares: list[torch.Tensor] = []
        self.steps = torch.zeros(len(parameters[0]), dtype=torch.float64)

    @contextmanager
    def rows(self, active: torch.Tensor):
        """Copies of these rows that need gradients, and a function that steps them; on leaving they are put back."""
        if not self.means:  # not earlier: parameters may have moved to another device
            self.means, self.squares = ([torch.zeros_like(p) for p in self.parameters] for _ in range(2))
        held = [[x.detach()[active] for x in group] for group in (self.parameters, self.means, self.squares)]
        parameters, means, squares = held
        for parameter in parameters:
            parameter.requires_grad_()

        def step(gradients: Sequence[torch.Tensor]) -> None:
            self.steps[active] += 1
            corrections = [1 - beta ** self.steps[active] for beta in BETAS]
            first, second = (c.to(means[0]).view(-1, 1, 1) for c in corrections)
            with torch.no_grad():
                torch._foreach_lerp_(means, gradients, 1 - BETAS[0])
                torch._foreach_mul_(squares, BETAS[1])
                torch._foreach_addcmul_(squares, gradients, gradients, 1 - BETAS[1])
                for parameter, mean, square in zip(parameters, means, squares, strict=True):
                    parameter.addcdiv_(mean * (-self.rate / first), (square / second).sqrt_().add_(EPSILON))

        yield parameters, step
        for everything, part in zip((self.parameters, self.means, self.squares), held, strict=True):
            for old, new in zip(everything, part, strict=True):
                old.data[active] = new.detach()

    def state(self) -> dict:
        """Moments and steps."""
        return {"means": dict(_numbered(self.means)), "squares": dict(_numbered(self.squares)),
                "steps": self.steps}  # fmt: skip

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        device = self.parameters[0].device
        self.means, self.squares = ([state[name][str(k)].clone().to(device) for k in range(len(state[name]))]
                                    for name in ("means", "squares"))  # fmt: skip
        self.steps = state["steps"].clone()


def _numbered(tensors: Sequence[torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    """Numbers as names: checkpoints have string keys."""
    return [(str(k), tensor) for k, tensor in enumerate(tensors)]


def _hashed(numbers: torch.Tensor) -> torch.Tensor:
    """Whole numbers (...) -> [0, 1), evenly and the same on every machine (the finaliser of splitmix64)."""
    z = numbers
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        z = (z ^ ((z >> shift) & ((1 << (64 - shift)) - 1))) * factor
    z = z ^ ((z >> 31) & ((1 << 33) - 1))
    return (z & ((1 << 53) - 1)).double() / (1 << 53)
