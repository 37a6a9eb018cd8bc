"""MAML's inner loop: gradient steps of N tasks from shared parameters, differentiable in these.

Source: Finn et al. 2017 (arXiv 1703.03400), eq. 1: theta_n = theta - rate * gradient of task n's loss at theta.
Parameters are tensors by name; "stacked" ones have a leading task dimension, so that row n belongs to task n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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


def gradient_steps(loss: TaskLoss, parameters: Parameters, tasks: int, rate: float, **options: Any) -> Parameters:
    """Gradient steps of `tasks` tasks from shared `parameters` (...) -> adapted ones (N, ...), differentiable in
    `parameters`. `options`: see `further_steps`.
    """
    return further_steps(loss, stacked(parameters, tasks), rate, **options)


def further_steps(
    loss: TaskLoss,
    parameters: Parameters,
    rate: float,
    *,
    steps: int = 1,
    second_order: bool = True,
    engine: str = "auto",
    samples: int = 0,
) -> Parameters:
    """Gradient steps of N tasks, each from its own row of `parameters` (N, ...) -> adapted ones (N, ...).

    Args:
        loss: of tasks `which`, given their parameters: (M, ...) -> (M,); the loss of one must not depend on another's
            parameters. What it does not depend on stays as it is.
        steps: how many, each with the loss at the parameters that the one before has led to.
        second_order: differentiable through the gradients as well; without, the Jacobian of a step is the identity.
            Where autograd is off (`torch.no_grad`) nothing is, but the steps are the same.
        engine: "stacked": all tasks at once. "loop": one after another. "auto": on a CPU as many at once as `samples`
            makes fast, elsewhere all. "learn2learn": its MAML, one after another. They differ in speed alone.
        samples: that a task's loss goes over, for "auto".
    Raises UserError for an unknown engine, and for "learn2learn" where it is not installed.
    """
    adapt, groups = _adaptation(loss, rate, steps, second_order, engine), _groups(parameters, engine, samples)
    adapted = [adapt(group, which) for group, which in groups]
    return {name: torch.cat([group[name] for group in adapted]) for name in parameters}


def task_losses(loss: TaskLoss, parameters: Parameters, *, engine: str = "auto", samples: int = 0) -> torch.Tensor:
    """`loss` of all N tasks at their own `parameters` (N, ...), in the groups that the engine makes -> (N,)."""
    return torch.cat([loss(group, which) for group, which in _groups(parameters, engine, samples)])


def mean_after_steps(
    value: TaskLoss,
    loss: TaskLoss,
    parameters: Parameters,
    tasks: int,
    rate: float,
    *,
    steps: int = 1,
    second_order: bool = True,
    engine: str = "auto",
    samples: int = 0,
) -> torch.Tensor:
    """The meta-objective: the mean over tasks of `value` where gradient steps on `loss` lead from shared `parameters`.

    What `gradient_steps` and `task_losses` would give, and its gradient, but one group of tasks after the other from
    the first step to the gradient: no more than one group's graph is held. For that it can be differentiated once;
    `create_graph` raises a RuntimeError. Arguments: see `further_steps`.
    """
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in parameters.values())
    at = {name: x.detach().requires_grad_(wanted and x.requires_grad) for name, x in parameters.items()}
    free = [x for x in at.values() if x.requires_grad]
    adapt = _adaptation(loss, rate, steps, second_order, engine)
    total, slopes = 0.0, [torch.zeros_like(x) for x in free]
    for which in _slices(tasks, group_size(stacked(at, tasks), engine, samples)):
        part = value(adapt(stacked(at, which.stop - which.start), which), which).sum() / tasks
        if wanted:
            torch._foreach_add_(slopes, torch.autograd.grad(part, free, materialize_grads=True))
        total = total + part.detach()
    return _Known.apply(total, slopes, *(x for x in parameters.values() if x.requires_grad)) if wanted else total


@dataclass(frozen=True)
class InnerLoop:
    """One gradient step of N tasks from shared parameters, as MAML's outer objective sees it; `rate` 0 takes none.

    Attributes:
        tasks: N. loss: of the step. rate: its size. second_order, engine, samples: see `further_steps`.
    """

    tasks: int
    loss: TaskLoss | None = None
    rate: float = 0.0
    second_order: bool = True
    engine: str = "auto"
    samples: int = 0

    def adapted(self, parameters: Parameters, second_order: bool = True) -> Parameters:
        """Each task's parameters (N, ...), differentiable in the shared ones (...) as often as is asked for."""
        if not self.rate:
            return stacked(parameters, self.tasks)
        return gradient_steps(self.loss, parameters, self.tasks, self.rate, engine=self.engine, samples=self.samples,
                              second_order=second_order and self.second_order)  # fmt: skip

    def mean(self, value: TaskLoss, parameters: Parameters) -> torch.Tensor:
        """The mean over tasks of `value` of adapted parameters, and its gradient (once)."""
        if not self.rate:
            return value(stacked(parameters, self.tasks), slice(0, self.tasks)).mean()
        return mean_after_steps(value, self.loss, parameters, self.tasks, self.rate, second_order=self.second_order,
                                engine=self.engine, samples=self.samples)  # fmt: skip


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


def _groups(parameters: Parameters, engine: str, samples: int) -> Iterator[tuple[Parameters, slice]]:
    """Parameters (M, ...) of one group of tasks after another, and which they are."""
    size, tasks = group_size(parameters, engine, samples), len(next(iter(parameters.values())))
    parts = zip(*(value.split(size) for value in parameters.values()), strict=True)
    for part, which in zip(parts, _slices(tasks, size), strict=True):
        yield dict(zip(parameters, part, strict=True)), which


def _adaptation(
    loss: TaskLoss, rate: float, steps: int, second_order: bool, engine: str
) -> Callable[[Parameters, slice], Parameters]:
    """(Parameters (M, ...), which tasks) -> those parameters after `steps` steps."""
    step = _learn2learn_step if engine == "learn2learn" else _step

    def adapt(parameters: Parameters, which: slice) -> Parameters:
        exact = second_order and torch.is_grad_enabled() and any(x.requires_grad for x in parameters.values())
        for _ in range(steps):
            parameters = step(loss, parameters, rate, exact, which)
        return parameters

    return adapt


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
            raise RuntimeError("mean_after_steps can be differentiated once; gradient_steps and task_losses, twice")
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
