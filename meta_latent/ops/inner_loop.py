"""MAML's inner loop: gradient steps of N tasks from shared parameters, differentiable in these.

Source: Finn et al. 2017 (arXiv 1703.03400), eq. 1: theta_n = theta - rate * gradient of task n's loss at theta.
Parameters are tensors by name; "stacked" ones have a leading task dimension, so that row n belongs to task n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from meta_latent import learn2learn_core
from meta_latent.errors import UserError

Parameters = dict[str, torch.Tensor]
TaskLoss = Callable[[Parameters, slice], torch.Tensor]
"""loss(stacked parameters (M, ...), which tasks these M are) -> (M,)."""

ENGINES = ("auto", "stacked", "loop", "learn2learn")
STACKED_UP_TO = 3_000_000
"""Multiplications of one task's forward pass up to which a CPU is faster with all tasks at once
(`benchmarks/meta_gradient.py`).
"""


def stacked(parameters: Parameters, tasks: int) -> Parameters:
    """The same parameters for each of `tasks` tasks: (...) -> (N, ...), differentiable, without a copy."""
    return {name: value.expand(tasks, *value.shape) for name, value in parameters.items()}


def gradient_steps(loss: TaskLoss, parameters: Parameters, tasks: int, rate: float, **options: Any) -> Parameters:
    """Gradient steps of `tasks` tasks from shared `parameters` (...) -> adapted ones (N, ...), differentiable in
    `parameters`. `options`: see `further_steps`.
    """
    return further_steps(loss, stacked(parameters, tasks), rate, **options)


def further_steps(loss: TaskLoss, parameters: Parameters, rate: float, *, steps: int = 1, second_order: bool = True,
                  engine: str = "auto", samples: int = 0) -> Parameters:
    """Gradient steps of N tasks, each from its own row of `parameters` (N, ...) -> adapted ones (N, ...).

    Args:
        loss: of tasks `which`, given their parameters: (M, ...) -> (M,); the loss of one must not depend on another's
            parameters. What it does not depend on stays as it is.
        steps: how many, each with the loss at the parameters that the one before has led to.
        second_order: differentiable through the gradients as well; without, the Jacobian of a step is the identity.
            Where autograd is off (`torch.no_grad`) nothing is, but the steps are the same.
        engine: "stacked": all tasks at once. "loop": one after another. "learn2learn": its MAML, one after another.
            "auto": on a CPU, the faster of the first two for `samples`; elsewhere "stacked".
        samples: that a task's loss goes over, for "auto".
    Raises UserError for an unknown engine, and for "learn2learn" where it is not installed.
    """
    if engine not in ENGINES:
        raise UserError(f"engine: got {engine!r}, expected one of {', '.join(ENGINES)}")
    second_order = second_order and torch.is_grad_enabled()
    if engine == "auto":
        engine = _faster(parameters, samples)
    step = {"stacked": _at_once, "loop": _one_by_one, "learn2learn": _with_learn2learn}[engine]
    for _ in range(steps):
        parameters = step(loss, parameters, rate, second_order)
    return parameters


def _faster(parameters: Parameters, samples: int) -> str:
    values = list(parameters.values())
    work = samples * sum(value[0].numel() for value in values)
    return "stacked" if values[0].device.type != "cpu" or work <= STACKED_UP_TO else "loop"


def _at_once(loss: TaskLoss, parameters: Parameters, rate: float, second_order: bool) -> Parameters:
    return _step(loss, parameters, rate, second_order, slice(0, _tasks(parameters)))


def _one_by_one(loss: TaskLoss, parameters: Parameters, rate: float, second_order: bool) -> Parameters:
    return _joined([_step(loss, row, rate, second_order, slice(n, n + 1)) for n, row in enumerate(_rows(parameters))])


def _step(loss: TaskLoss, parameters: Parameters, rate: float, second_order: bool, which: slice) -> Parameters:
    with torch.enable_grad():
        at = {name: value if second_order and value.requires_grad else value.detach().requires_grad_()
              for name, value in parameters.items()}  # fmt: skip
        gradients = torch.autograd.grad(loss(at, which).sum(), list(at.values()), create_graph=second_order,
                                        materialize_grads=True)  # fmt: skip
    return {name: value - rate * gradient
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True)}  # fmt: skip


def _with_learn2learn(loss: TaskLoss, parameters: Parameters, rate: float, second_order: bool) -> Parameters:
    maml, found = learn2learn_core.maml(), []
    for n, row in enumerate(_rows(parameters)):
        with torch.enable_grad():
            learner = maml(_Held(row), lr=rate, first_order=not second_order, allow_unused=True).clone()
            learner.adapt(loss(learner.module.named(), slice(n, n + 1)).sum())
        adapted = learner.module.named()
        found.append(adapted if torch.is_grad_enabled() else {k: value.detach() for k, value in adapted.items()})
    return _joined(found)


class _Held(nn.Module):
    """Parameters as those of a module, which is what learn2learn adapts; its names must not have dots."""

    def __init__(self, parameters: Parameters):
        super().__init__()
        self.names = list(parameters)
        for k, value in enumerate(parameters.values()):
            held = value if value.requires_grad else value.detach().requires_grad_()
            self.register_parameter(f"p{k}", None)
            self._parameters[f"p{k}"] = held

    def named(self) -> Parameters:
        return dict(zip(self.names, self._parameters.values(), strict=True))


def _tasks(parameters: Parameters) -> int:
    return len(next(iter(parameters.values())))


def _rows(parameters: Parameters) -> list[Parameters]:
    """(N, ...) -> N times (1, ...)."""
    rows = zip(*(value.split(1) for value in parameters.values()), strict=True)
    return [dict(zip(parameters, row, strict=True)) for row in rows]


def _joined(rows: list[Parameters]) -> Parameters:
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
