"""What agents answer, held against `protocols.Agent`: a mistake ends a run with a line that names it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import torch

from meta_latent.errors import RunError
from meta_latent.rng import Streams
from meta_latent.types import Metrics, Step

ROUNDING = 1e-4
"""By how much float32 may leave [-1, 1]."""


def acted(actor: Any, step: Step, carry: Any, rng: Streams, explore: bool) -> tuple[torch.Tensor, Any]:
    """What `actor.act` answers, without gradients. Raises RunError for anything but actions (B, A) in [-1, 1] on the
    CPU, and a carry.
    """
    answer, size = actor.act(step, carry, rng, explore), tuple(step.action.shape)
    wanted = f"expected (actions, carry), the actions a float32 tensor {size} on the CPU"
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise _wrong(actor, "act", _described(answer), wanted)
    action, after = answer
    if not isinstance(action, torch.Tensor) or tuple(action.shape) != size or action.device.type != "cpu":
        raise _wrong(actor, "act", f"{_described(action)} as actions", wanted)
    action = action.detach()
    if not (largest := float(action.abs().max())) <= 1 + ROUNDING:  # NaN is not
        found = float(action.flatten()[action.abs().argmax()]) if math.isfinite(largest) else largest
        raise _wrong(actor, "act", f"an action value of {found:.6g}", "expected numbers from -1 to 1: torch.tanh or "
                     "clamp(-1, 1) of what a network says")  # fmt: skip
    return action, after


def wanted(agent: Any) -> int | None:
    """What `agent.wants` answers. Raises RunError for anything but None and a number of steps."""
    steps = agent.wants()
    is_number = isinstance(steps, numbers.Real) and not isinstance(steps, bool)
    if steps is None or (is_number and 0 <= steps < math.inf):
        return steps
    raise _wrong(agent, "wants", repr(steps), "expected a number of environment steps, 0 for one trial, or None")


def measured(agent: Any, replay: Any, rng: Streams) -> Metrics:
    """What `agent.update` answers. Raises RunError for anything but a mapping from names to numbers."""
    metrics = agent.update(replay, rng)
    if not isinstance(metrics, Mapping):
        raise _wrong(agent, "update", _described(metrics), "expected {metric: number}, {} if nothing was measured")
    found = {}
    for name, value in metrics.items():
        try:
            found[name] = float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise _wrong(agent, "update", f"{_described(value)} as {name}", "expected a number") from error
    return found


def _wrong(agent: Any, method: str, found: str, expected: str) -> RunError:
    return RunError(f"{type(agent).__name__}.{method} returned {found}; {expected}")


def _described(value: Any) -> str:
    """What `value` is, without all its numbers."""
    if value is None:
        return "None"
    kind = "numpy array" if type(value).__name__ == "ndarray" else type(value).__name__.lower()
    if hasattr(value, "shape"):
        where = f" on {value.device}" if getattr(value, "is_cuda", False) else ""
        return f"a {kind} {tuple(value.shape)}{where}"
    if isinstance(value, tuple | list):
        return f"a {kind} of {len(value)}"
    return f"{value!r}" if isinstance(value, str | numbers.Number) else f"a {kind}"
