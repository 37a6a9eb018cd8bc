"""MAML's inner loop: gradient steps of N tasks from shared parameters, differentiable in these.

Source: Finn et al. 2017 (arXiv 1703.03400), eq. 1: theta_n = theta - rate * gradient of task n's loss at theta.
Parameters are tensors by name; "stacked" ones have a leading task dimension, so that row n belongs to task n.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from meta_latent import learn2learn_core
from meta_latent.errors import UserError

Parameters = dict[str, torch.Tensor]
TaskLoss = Callable[[Parameters, slice], torch.Tensor]
"""loss(stacked parameters (M, ...), which tasks these M are) -> (M,)."""

ENGINES = ("auto", "stacked", "loop", "learn2learn")
GROUP_WORK = 30_000_000
"""Multiplications of a forward pass that "auto" gives a CPU at once: with fewer the calls themselves count, with more
the caches run over (`benchmarks/meta_gradient.py`).
"""


def stacked(parameters: Parameters, tasks: int) -> Parameters:
    """The same parameters for each of `tasks` tasks: (...) -> (N, ...), differentiable, without a copy."""
    return {name: value.expand(tasks, *value.shape) for name, value in parameters.items()}


@dataclass(frozen=True)
class InnerLoop:
    """Gradient steps of N tasks from shared parameters.

    Attributes:
        tasks: N.
        loss: of tasks `which`, given their parameters: (M, ...) -> (M,); the loss of one must not depend on another's
            parameters. What it does not depend on stays as it is. None where no step is taken.
        rate: the size of a step; 0: none is taken.
        steps: how many, each with the loss at the parameters that the one before has led to.
        second_order: differentiable through the gradients as well; without, the Jacobian of a step is the identity.
            Where autograd is off (`torch.no_grad`) nothing is, but the steps are the same.
        engine: "stacked": all tasks at once. "loop": one after another. "auto": on a CPU as many at once as `samples`
            makes fast, elsewhere all. "learn2learn": its MAML, one after another. They differ in speed alone.
        samples: that a task's loss goes over, for "auto".

    Methods raise UserError for an unknown engine, and for "learn2learn" where it is not installed.
    """

    tasks: int
    loss: TaskLoss | None = None
    rate: float = 0.0
    steps: int = 1
    second_order: bool = True
    engine: str = "auto"
    samples: int = 0

    def adapted(self, parameters: Parameters, second_order: bool = True) -> Parameters:
        """Each task's parameters (N, ...), differentiable in the shared ones (...) as often as is asked for."""
        own = stacked(parameters, self.tasks)
        if not self.rate:
            return own
        size, parts = group_size(own, self.engine, self.samples), []
        groups = zip(*(value.split(size) for value in own.values()), strict=True)
        for group, which in zip(groups, _slices(self.tasks, size), strict=True):
            parts.append(self._stepped(dict(zip(own, group, strict=True)), which, second_order))
        return {name: torch.cat([part[name] for part in parts]) for name in own}

    def mean(self, value: TaskLoss, parameters: Parameters) -> torch.Tensor:
        """The meta-objective: the mean over tasks of `value` at the adapted parameters.

        What `adapted` would give, and its gradient, but one group of tasks after the other from the first step to the
        gradient: no more than one group's graph is held. For that it can be differentiated once where steps are taken;
        `create_graph` raises a RuntimeError.
        """
        if not self.rate:
            return value(stacked(parameters, self.tasks), slice(0, self.tasks)).mean()
        wanted = torch.is_grad_enabled() and any(x.requires_grad for x in parameters.values())
        at = {name: x.detach().requires_grad_(wanted and x.requires_grad) for name, x in parameters.items()}
        free = [x for x in at.values() if x.requires_grad]
        total, slopes = 0.0, [torch.zeros_like(x) for x in free]
        for which in _slices(self.tasks, group_size(stacked(at, self.tasks), self.engine, self.samples)):
            adapted = self._stepped(stacked(at, which.stop - which.start), which)
            part = value(adapted, which).sum() / self.tasks
            if wanted:
                torch._foreach_add_(slopes, torch.autograd.grad(part, free, materialize_grads=True))
            total = total + part.detach()
        return _Known.apply(total, slopes, *(x for x in parameters.values() if x.requires_grad)) if wanted else total

    def _stepped(self, parameters: Parameters, which: slice, second_order: bool = True) -> Parameters:
        """The parameters (M, ...) of tasks `which` after all steps."""
        step = _learn2learn_step if self.engine == "learn2learn" else _step
        differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in parameters.values())
        for _ in range(self.steps):
            parameters = step(self.loss, parameters, self.rate, second_order and self.second_order and differentiable,
                              which)  # fmt: skip
        return parameters


def group_size(parameters: Parameters, engine: str, samples: int) -> int:
    """How many of the N tasks of `parameters` (N, ...) an engine computes at once (the last time: what is left)."""
    if engine not in ENGINES:
        raise UserError(f"engine: got {engine!r}, expected one of {', '.join(ENGINES)}")
    values = list(parameters.values())
    tasks, work = len(values[0]), samples * sum(value[0].numel() for value in values)
    if engine == "stacked" or (engine == "auto" and (not work or values[0].device.type != "cpu")):
        return tasks
    most = 1 if engine != "auto" else max(1, GROUP_WORK // work)
    return math.ceil(tasks / math.ceil(tasks / most))  # equal groups, not a large and a small one


def _slices(tasks: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, tasks)) for start in range(0, tasks, size)]


def _step(loss: TaskLoss, parameters: Parameters, rate: float, second_order: bool, which: slice) -> Parameters:
    with torch.enable_grad():
        at = {name: _open(value, second_order) for name, value in parameters.items()}
        gradients = torch.autograd.grad(loss(at, which).sum(), list(at.values()), create_graph=second_order,
                                        materialize_grads=True)  # fmt: skip
    return {name: value - rate * gradient
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True)}  # fmt: skip


class _Known(torch.autograd.Function):
    """A value whose slopes in some tensors are known already."""

    @staticmethod
    def forward(ctx, value: torch.Tensor, slopes: list[torch.Tensor], *at: torch.Tensor) -> torch.Tensor:
        ctx.slopes = slopes
        return value.clone()

    @staticmethod
    def backward(ctx, slope: torch.Tensor):
        if torch.is_grad_enabled():
            raise RuntimeError("InnerLoop.mean can be differentiated once; what InnerLoop.adapted gives, twice")
        return None, None, *(slope * x for x in ctx.slopes)


def _open(value: torch.Tensor, attached: bool) -> torch.Tensor:
    """A tensor to differentiate at: `value` itself, so that gradients go on through it, or a leaf of the same value."""
    return value if attached and value.requires_grad else value.detach().requires_grad_()


def _learn2learn_step(
    loss: TaskLoss, parameters: Parameters, rate: float, second_order: bool, which: slice
) -> Parameters:
    with torch.enable_grad():
        held = _Held({name: _open(value, True) for name, value in parameters.items()})
        learner = learn2learn_core.maml()(held, lr=rate, first_order=not second_order, allow_unused=True).clone()
        learner.adapt(loss(learner.module.named(), which).sum())
    adapted = learner.module.named()
    if torch.is_grad_enabled() and any(x.requires_grad for x in parameters.values()):
        return adapted
    return {name: value.detach() for name, value in adapted.items()}


class _Held(nn.Module):
    """Tensors with a graph as the parameters of a module, which is what learn2learn adapts."""

    def __init__(self, parameters: Parameters):
        super().__init__()
        self.names = list(parameters)  # may have dots, which a module's own names may not
        self._parameters.update({str(k): value for k, value in enumerate(parameters.values())})

    def named(self) -> Parameters:
        return dict(zip(self.names, self._parameters.values(), strict=True))
