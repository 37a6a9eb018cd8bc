"""The values that travel between rooms: specs, steps and batches of sequences.

Time convention: ``action[t]`` and ``reward[t]`` LED TO ``observation[t]``; at ``is_first`` both are zero and
``reward_present`` is 0. (t, t + 1) is a transition iff not ``is_first[t + 1]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch

Metrics = dict[str, float]


def as_tensor(values: Any) -> torch.Tensor:
    """`torch.as_tensor`, of flipped arrays too, such as pictures turned upside down, which it does not take."""
    return values if isinstance(values, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(values))


class Averages:
    """Means of named numbers since the last `reset`: a single mini-batch says little of hundreds."""

    def __init__(self):
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, metrics: Metrics) -> None:
        """Take in one value of each name."""
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> Metrics:
        """Name -> mean of the values taken in."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def reset(self) -> None:
        """Forget all."""
        self.sums, self.counts = {}, {}

    def state(self) -> dict:
        """Sums and counts."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])


@dataclass(frozen=True)
class Spec:
    """What a task family shows and takes.

    Attributes:
        images: camera name -> (height, width, 3), uint8.
        proprio: number of proprioceptive values (0: none), float32.
        action_size: number of action values, each in [-1, 1].
        reward_inputs: number of privileged values from which rewards are computed.
        reward_input_names: their names; () where they are not known (of files that did not hold them).
    """

    images: dict[str, tuple[int, int, int]]
    proprio: int
    action_size: int
    reward_inputs: int = 0
    reward_input_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, distribution) -> Spec:
        """The spec of a `task_suites.TaskDistribution` (or of anything with its spaces)."""
        spaces = distribution.observation_space.spaces
        images = {
            key.removeprefix("image_"): tuple(int(n) for n in space.shape)
            for key, space in sorted(spaces.items())
            if key.startswith("image_")
        }
        proprio = int(np.prod(spaces["proprio"].shape)) if "proprio" in spaces else 0
        names = tuple(distribution.reward_input_names)
        return cls(images, proprio, int(distribution.action_space.shape[0]), len(names), names)

    def to_dict(self) -> dict:
        """A JSON-able form."""
        return {
            "images": {k: list(v) for k, v in self.images.items()},
            "proprio": self.proprio,
            "action_size": self.action_size,
            "reward_inputs": self.reward_inputs,
            "reward_input_names": list(self.reward_input_names),
        }

    @classmethod
    def from_dict(cls, values: dict) -> Spec:
        """The inverse of `to_dict`."""
        return cls(
            {k: tuple(v) for k, v in values["images"].items()},
            int(values["proprio"]),
            int(values["action_size"]),
            int(values["reward_inputs"]),
            tuple(values.get("reward_input_names", ())),
        )

    def misfit(self, values: Any, more: Mapping[str, tuple[int, ...]] | None = None) -> str | None:
        """Why an observation, "image_CAMERA" (H, W, 3) uint8 and "proprio" (P,), is not of this spec (None if it is).

        more: key -> shape, of arrays that have to be there too; all then have one row more than there are steps, T + 1.
        """
        wanted = dict(more or {}) | {f"image_{camera}": shape for camera, shape in self.images.items()}
        wanted |= {"proprio": (self.proprio,)} if self.proprio else {}
        if not isinstance(values, Mapping):
            return f"got {type(values).__name__}, expected a mapping with {', '.join(wanted)}"
        if missing := [key for key in wanted if key not in values]:
            return f"it has no {', '.join(missing)}, expected {', '.join(wanted)}"
        lead, rows = (1, ("T + 1",)) if more else (0, ())
        lengths: dict[str, int] = {}
        for key, shape in wanted.items():
            given, kind = values[key], "uint8" if key.startswith("image_") else "numbers"
            array = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
            is_kind = array.dtype == np.uint8 if kind == "uint8" else array.dtype.kind in "biuf"
            if not is_kind or array.ndim != lead + len(shape) or array.shape[lead:] != shape:
                expected = str((*rows, *shape)).replace("'", "")
                batch = (
                    "; give one episode, without a batch dimension"
                    if more and shape and array.shape[2:] == shape
                    else ""
                )
                return f"{key} is {array.dtype} of shape {array.shape}, expected {kind} of shape {expected}{batch}"
            lengths[key] = len(array) if more else 1
            if not np.isfinite(array).all():
                return f"{key} holds numbers that are not finite"
        if len(set(lengths.values())) == 1 and 0 not in lengths.values():
            return None
        told = ", ".join(f"{key} has {count}" for key, count in lengths.items())
        return (f"{told} rows: expected T + 1 of each, one per frame, with the action and the reward that led to it, "
                "which are zeros in row 0")  # fmt: skip

    def mismatch(self, other: Spec) -> str | None:
        """Why a model of this spec cannot read data of `other` (None if it can); reward inputs may differ."""
        for name in ("images", "proprio", "action_size"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name}: the model takes {mine}, the task has {theirs}"
        return None

    def other_inputs(self, other: Spec) -> str | None:
        """Why `other`'s rewards cannot be computed from the reward inputs of data of this spec (None if they can)."""
        mine, theirs = self.reward_input_names, other.reward_input_names
        if self.reward_inputs == other.reward_inputs and (mine == theirs or not mine or not theirs):
            return None
        held, read = ", ".join(mine) or self.reward_inputs, ", ".join(theirs) or other.reward_inputs
        return f"reward inputs: there are {held}, the task reads {read}"


@dataclass(frozen=True)
class Step:
    """What an agent sees at one instant; every tensor has a leading batch dimension B.

    Attributes:
        images: camera -> (B, H, W, 3) uint8.
        proprio: (B, P) float32.
        action: (B, A) the previous action, zero at `is_first`.
        reward: (B,) the reward that arrived with this observation, zero at `is_first`.
        reward_present: (B,) 1 where `reward` may be used as an input, else 0.
        is_first, is_last, is_terminal, is_task_first: (B,) bool.
        reward_inputs: (B, R) privileged values from which any reward follows, or None: scripts are shown them.
        task: (B, P) numbers that say which task it is, or None: oracles are shown them.
        task_index: (B,) int64, which of the training tasks it is, and so its reward function; None where nobody knows.
        trial: (B,) int64, the number of the trial among all that were collected; None but while data are.
    """

    images: dict[str, torch.Tensor]
    proprio: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    reward_present: torch.Tensor
    is_first: torch.Tensor
    is_last: torch.Tensor
    is_terminal: torch.Tensor
    is_task_first: torch.Tensor
    reward_inputs: torch.Tensor | None = None
    task: torch.Tensor | None = None
    task_index: torch.Tensor | None = None
    trial: torch.Tensor | None = field(default=None, kw_only=True)

    @classmethod
    def of(
        cls,
        observation: Mapping[str, Any],
        action: torch.Tensor,
        *,
        reward: float | None = None,
        is_first: bool = False,
        is_task_first: bool = False,
        is_last: bool = False,
        is_terminal: bool = False,
        task: torch.Tensor | None = None,
    ) -> Step:
        """One instant of one environment, B = 1.

        Args:
            observation: as environments give it: "image_CAMERA" (H, W, 3) uint8, "proprio" (P,).
            action: (1, A) that led there. reward: that arrived with it; None: it is not shown.
        """
        images = {key.removeprefix("image_"): as_tensor(value)[None]
                  for key, value in observation.items() if key.startswith("image_")}  # fmt: skip
        proprio = as_tensor(np.asarray(observation.get("proprio", ()), np.float32))[None]
        flags = (torch.tensor([flag]) for flag in (is_first, is_last, is_terminal, is_task_first))
        paid, present = torch.tensor([[reward or 0.0], [reward is not None]], dtype=torch.float32)
        return cls(images, proprio, action, paid, present, *flags, task=task)

    def to(self, device: torch.device | str):
        """The same values on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {
            k: {c: x.to(device) for c, x in v.items()} if isinstance(v, dict) else v.to(device)
            for k, v in moved.items()
            if v is not None
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class SequenceBatch(Step):
    """Windows of consecutive steps: the fields of `Step` with leading (B, T), and what only replay knows.

    Attributes:
        reward_inputs: (B, T, R) privileged values for relabelling.
        head_mask: (B, K) bool, the ensemble heads that may train on the sequence.
        frames: (B, T) int64, places among all frames that the replay holds now (to find cached values); 0 where
            a trial is padded.
        valid: (B, T) bool, False where a trial is over and padded with zeros; None for windows, which are full.
        multiplicity: (B, T) in how many windows of this length a step stands, see `data.windows`; None for trials,
            which hold every step once.
    """

    head_mask: torch.Tensor | None = None
    frames: torch.Tensor | None = None
    valid: torch.Tensor | None = None
    multiplicity: torch.Tensor | None = None

    def without_rewards(self) -> SequenceBatch:
        """The same sequences with hidden rewards: zero, presence flag 0."""
        hidden = torch.zeros_like(self.reward)
        return replace(self, reward=hidden, reward_present=hidden.clone())

    def joined(self, other: SequenceBatch) -> SequenceBatch:
        """The sequences of both, one after the other; `frames` then belong to two replays. Trials of one that are
        shorter than those of the other are padded with zeros.
        """
        longest = max(self.reward.shape[1], other.reward.shape[1])
        mine, theirs = self._padded(longest), other._padded(longest)
        pairs = {f.name: (getattr(mine, f.name), getattr(theirs, f.name)) for f in fields(self)}
        return SequenceBatch(
            **{
                name: {c: torch.cat([mine[c], theirs[c]]) for c in mine}
                if isinstance(mine, dict)
                else torch.cat([mine, theirs])
                for name, (mine, theirs) in pairs.items()
                if mine is not None
            }
        )

    def _padded(self, length: int) -> SequenceBatch:
        """The same trials with zeros behind them, up to `length` steps."""
        missing = length - self.reward.shape[1]
        if not missing:
            return self

        def padded(name: str, value: Any) -> Any:
            if value is None or name in ("head_mask", "task_index"):
                return value
            if isinstance(value, dict):
                return {key: padded(name, item) for key, item in value.items()}
            return torch.cat([value, value.new_zeros(len(value), missing, *value.shape[2:])], 1)

        return replace(self, **{f.name: padded(f.name, getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class Transitions:
    """All steps of a replay that are transitions, in the order in which they were collected; n of them.

    Attributes:
        proprio, next_proprio: (n, P). action: (n, A) that led from one to the other. reward: (n,) for it.
        reward_inputs, next_reward_inputs: (n, R). terminal: (n,) bool, the episode ended for good there.
        task_index: (n,) int64. episode: (n,) int64, number of the episode since the first one ever added.
    """

    proprio: torch.Tensor
    next_proprio: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    reward_inputs: torch.Tensor
    next_reward_inputs: torch.Tensor
    terminal: torch.Tensor
    task_index: torch.Tensor
    episode: torch.Tensor
