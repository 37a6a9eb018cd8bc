"""Playing environments: trials of episodes side by side, as arrays in the time convention of `types`.

`play` is the one function that steps environments: for source data, for a learner's own, for evaluations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from meta_latent.data.answers import acted
from meta_latent.errors import RunError, UserError
from meta_latent.ranges import nonnegative, numbers
from meta_latent.rng import Streams
from meta_latent.types import Step


class Rows(Protocol):
    """B environments side by side: what `task_suites.TaskDistribution.make_vector` returns."""

    action_size: int

    def __len__(self) -> int: ...

    def reset(self, seeds: Sequence[int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Begin B episodes; observations and info (`success`, `reward_inputs`) with a leading B."""

    def step(self, actions: np.ndarray, alive: np.ndarray) -> tuple[dict, Any, Any, Any, dict]:
        """Step the rows that are `alive` (B,): observation, reward, terminated, truncated, info; the others
        stay.
        """

    def render(self, row: int) -> np.ndarray | None:
        """What row number `row` shows."""


class Actor(Protocol):
    """Who acts: an `Agent`, or a fixed behaviour. A carry is None or nested dicts, tuples, lists or dataclasses
    of tensors with a leading B.
    """

    def begin_task(self, batch_size: int) -> Any: ...

    def act(self, step: Step, carry: Any, rng: Streams, explore: bool) -> tuple[torch.Tensor, Any]: ...


@dataclass(frozen=True)
class NoiseConfig:
    """Random behaviour, see `Noise`.

    Attributes:
        persistences: one of these per episode: how much of an action the next one keeps.
        scale: stddev of what is added.
        drift: constant part, a number per action value; empty: none.
    """

    persistences: tuple[float, ...] = numbers((0.5, 0.8, 0.9), 0, 1)
    scale: float = nonnegative(0.6, most=100)
    drift: tuple[float, ...] = numbers((), -1, 1, may_be_empty=True)


class Noise:
    """Random actions with memory: clip(drift + x_t), x_t = persistence * x_{t-1} + scale * noise (an AR(1)
    process that starts uniformly). It draws from the stream "behaviour".

    drift: (A,) constant part, such as a hand that tends downwards, where the objects are; () for none.
    """

    def __init__(self, action_size: int, config: NoiseConfig):
        if config.drift and len(config.drift) != action_size:
            raise UserError(f"drift has {len(config.drift)} values, the action has {action_size}")
        self.size, self.config = action_size, config
        self.drift = np.array(config.drift) if config.drift else np.zeros(action_size)

    def begin_task(self, batch_size: int) -> dict[str, torch.Tensor]:
        """Nothing drawn yet: every episode's first observation begins its process anew."""
        shape = (batch_size, 1), (batch_size, self.size)
        return {
            name: torch.zeros(s, dtype=torch.float64) for name, s in zip(("persistence", "value"), shape, strict=True)
        }

    def act(self, step: Step, carry: dict, rng: Streams, explore: bool) -> tuple[torch.Tensor, dict]:
        """The next value of every row's process."""
        draws, value, persistence = rng.numpy("behaviour"), carry["value"].numpy(), carry["persistence"].numpy()
        first = step.is_first.numpy()
        if first.any():
            value, persistence = value.copy(), persistence.copy()
            persistence[first, 0] = draws.choice(self.config.persistences, size=int(first.sum()))
            value[first] = draws.uniform(-1, 1, (int(first.sum()), self.size))
        value = persistence * value + self.config.scale * draws.standard_normal(value.shape)
        action = torch.from_numpy(np.clip(self.drift + value, -1, 1).astype(np.float32))
        return action, {"persistence": torch.from_numpy(persistence), "value": torch.from_numpy(value)}


class Scripted:
    """Suites' scripted policies, one per row, with correlated noise of strength `noise` added; plays shown
    "inputs".
    """

    def __init__(self, policies: Sequence[Any], action_size: int, noise: float):
        self.policies, self.noise = policies, noise
        self.process = Noise(action_size, NoiseConfig(persistences=(0.8,), scale=0.5))

    def begin_task(self, batch_size: int) -> dict[str, torch.Tensor]:
        """What the noise remembers; scripts are reset at every episode's first observation."""
        return self.process.begin_task(batch_size)

    def act(self, step: Step, carry: dict, rng: Streams, explore: bool) -> tuple[torch.Tensor, dict]:
        """Scripted actions plus noise, clipped."""
        inputs, scripted = step.reward_inputs.numpy(), []
        for row in np.flatnonzero(step.is_first.numpy()):
            self.policies[row].reset(rng.numpy("behaviour"))
        jitter, carry = self.process.act(step, carry, rng, explore)
        for row, policy in enumerate(self.policies):
            scripted.append(policy(inputs[row]))
        action = np.clip(np.stack(scripted) + self.noise * jitter.numpy(), -1, 1)
        return torch.from_numpy(action.astype(np.float32)), carry


@dataclass(frozen=True)
class Played:
    """B trials of E episodes: returns (B, E), success at the end (B, E) bool (of an evaluation that adapts shares, and
    NaN where nobody knows), and, if kept, episodes[b][e]: arrays with leading T + 1, "success" among them.
    """

    returns: np.ndarray
    success: np.ndarray
    episodes: tuple[tuple[dict[str, np.ndarray], ...], ...] = ()


@dataclass(frozen=True)
class Shown:
    """What actors of B trials are shown beside observations.

    names: of "reward", "task", "index", "trial" and "inputs" (privileged ones). task: (B, P) numbers that say which
    task it is. index: (B,) int64, its place among the training tasks. trial: (B,) int64, number of the trial.
    """

    names: Collection[str] = ()
    task: torch.Tensor | None = None
    index: torch.Tensor | None = None
    trial: torch.Tensor | None = None


@dataclass(frozen=True)
class _Instant:
    """What B environments say at one instant, and the actions (B, A) that led there."""

    observation: dict[str, np.ndarray]
    info: dict[str, np.ndarray]
    action: np.ndarray
    reward: np.ndarray
    is_first: bool
    is_task_first: bool
    terminated: np.ndarray
    ended: np.ndarray

    def step(self, shown: Shown) -> Step:
        """What an actor sees of it; rewards, privileged inputs and what is said of the task where they are named."""
        names = shown.names
        images = {
            k.removeprefix("image_"): torch.from_numpy(v) for k, v in self.observation.items() if k.startswith("image_")
        }
        reward = torch.from_numpy(self.reward)
        present = torch.full(reward.shape, float("reward" in names and not self.is_first))
        flags = {name: torch.full(reward.shape, getattr(self, name)) for name in ("is_first", "is_task_first")}
        return Step(
            images, torch.from_numpy(self.proprio()), torch.from_numpy(self.action), reward * present, present,
            flags["is_first"], torch.from_numpy(self.ended), torch.from_numpy(self.terminated),
            flags["is_task_first"],
            torch.from_numpy(self.info["reward_inputs"]) if "inputs" in names else None,
            shown.task if "task" in names else None, shown.index if "index" in names else None,
            trial=shown.trial if "trial" in names else None)  # fmt: skip

    def proprio(self) -> np.ndarray:
        """(B, P), P = 0 where the observation has none."""
        return self.observation.get("proprio", np.zeros((len(self.reward), 0), np.float32))

    def then(self, following: _Instant, alive: np.ndarray) -> _Instant:
        """`following` in the rows that are `alive` (B,), this one in the others."""

        def own(now, old):
            if isinstance(now, dict):
                return {key: own(now[key], old[key]) for key in now}
            return np.where(alive.reshape(-1, *[1] * (now.ndim - 1)), now, old)

        names = ("observation", "info", "action", "reward", "terminated", "ended")
        return dataclasses.replace(following, **{n: own(getattr(following, n), getattr(self, n)) for n in names})

    def rows(self) -> dict[str, np.ndarray]:
        """The arrays that replay stores, each with a leading B."""
        whole = {k: v for k, v in self.observation.items() if k.startswith("image_")}
        flag = np.full(len(self.reward), self.is_first)
        return whole | {
            "proprio": self.proprio(), "action": self.action, "reward": self.reward,
            "reward_present": (~flag).astype(np.float32), "reward_inputs": self.info["reward_inputs"],
            "success": self.info["success"], "is_first": flag, "is_last": self.ended,
            "is_terminal": self.terminated, "is_task_first": np.full(len(self.reward), self.is_task_first),
        }  # fmt: skip


NOTHING = Shown()


def play(
    rows: Rows,
    actor: Actor,
    seeds: np.ndarray,
    rng: Streams,
    *,
    explore: bool,
    shown: Shown = NOTHING,
    keep: bool | Collection[str] = False,
    watch: Callable[[Rows], None] | None = None,
) -> Played:
    """Play B trials of E episodes in lockstep, episode e of trial b from `seeds` (B, E).

    One carry spans a trial. Rows whose episode is over keep theirs until the others end; before the next episode
    begins, each row's last observation is shown too, and the action thrown away: the last reward would not
    reach the belief otherwise.

    Args:
        keep: return the episodes, or their arrays of these names alone.
        watch: called with the rows at every instant of the first one's episodes.

    Raises UserError where an environment returns numbers that are not finite: they would stay in what is stored.
    """
    count, episodes = seeds.shape
    carry, kept = actor.begin_task(count), [[] for _ in range(count)]
    returns, success = np.zeros(seeds.shape), np.zeros(seeds.shape, bool)
    for e in range(episodes):
        lengths, alive = np.zeros(count, int), np.ones(count, bool)
        now = last = _first(rows, seeds[:, e], e == 0)  # last: every row's own last instant
        _refuse_not_finite(now, alive, 0)
        stored = [_stored(now, keep)]
        while alive.any():
            if watch is not None and alive[0]:
                watch(rows)
            chosen, after = acted(actor, now.step(shown), carry, rng, explore)
            # Of a single episode nothing comes after the end that a carry could matter for.
            carry = after if episodes == 1 or alive.all() else select(torch.from_numpy(alive), after, carry)
            now = _next(rows, chosen, alive)
            _refuse_not_finite(now, alive, len(stored))
            stored.append(_stored(now, keep))
            returns[alive, e] += now.reward[alive]
            last = now if alive.all() else last.then(now, alive)
            lengths, alive = lengths + alive, alive & ~now.ended
        if watch is not None:
            watch(rows)
        success[:, e] = last.info["success"]
        if e + 1 < episodes:
            _, carry = acted(actor, last.step(shown), carry, rng, explore)
        if keep:
            _split(stored, lengths, kept)
    return Played(returns, success, tuple(map(tuple, kept)) if keep else ())


def play_episode(
    rows: Rows, actor: Actor, seed: int, rng: Streams, shown: Shown = NOTHING, explore: bool = True
) -> dict[str, np.ndarray]:
    """The arrays of one episode of one environment, with leading T + 1; see `play`."""
    return play(rows, actor, np.array([[seed]]), rng, explore=explore, shown=shown, keep=True).episodes[0][0]


def _first(rows: Rows, seeds: np.ndarray, is_task_first: bool) -> _Instant:
    observation, info = rows.reset([int(seed) for seed in seeds])
    count, no = len(seeds), np.zeros(len(seeds), bool)
    size = rows.action_size
    zeros = np.zeros((count, size), np.float32), np.zeros(count, np.float32)
    return _Instant(observation, info, *zeros, True, is_task_first, no, no)


def _next(rows: Rows, chosen: torch.Tensor, alive: np.ndarray) -> _Instant:
    action = chosen.numpy().astype(np.float32)
    observation, reward, terminated, truncated, info = rows.step(action, alive.copy())
    return _Instant(observation, info, action, np.asarray(reward, np.float32), False, False, terminated,
                    terminated | truncated)  # fmt: skip


def _refuse_not_finite(instant: _Instant, alive: np.ndarray, steps: int) -> None:
    numbers = {"proprio": instant.proprio(), "reward": instant.reward, "reward_inputs": instant.info["reward_inputs"]}
    for key, values in numbers.items():
        if not np.isfinite(values[alive]).all():
            wrong = values[alive][~np.isfinite(values[alive])][0]
            raise UserError(f"after {steps} steps of an episode an environment returned {wrong} in {key}: every number "
                            "has to be finite; mend the environment or its reward, and go on")  # fmt: skip


def _stored(instant: _Instant, keep: bool | Collection[str]) -> dict[str, np.ndarray]:
    """What is kept of an instant: nothing, all its arrays, or those of these names."""
    return {key: values for key, values in instant.rows().items() if keep is True or key in keep} if keep else {}


def _split(stored: Sequence[dict[str, np.ndarray]], lengths: np.ndarray, kept: list[list]) -> None:
    """Append every row's episode to its trial's list."""
    whole = {key: np.stack([arrays[key] for arrays in stored]) for key in stored[0]}
    for b, length in enumerate(lengths):
        kept[b].append({key: values[: length + 1, b] for key, values in whole.items()})


def select(mask: torch.Tensor, new: Any, old: Any) -> Any:
    """Rows of `new` where `mask` (B,) is true, else of `old`; both are carries of one structure."""
    if isinstance(new, torch.Tensor):
        shaped = mask.to(new.device).reshape(-1, *[1] * (new.ndim - 1))
        return torch.where(shaped, new, old)
    if isinstance(new, dict):
        return {key: select(mask, new[key], old[key]) for key in new}
    if dataclasses.is_dataclass(new):
        names = [f.name for f in dataclasses.fields(new)]
        return dataclasses.replace(new, **{n: select(mask, getattr(new, n), getattr(old, n)) for n in names})
    if isinstance(new, list | tuple):
        rows = [select(mask, n, o) for n, o in zip(new, old, strict=True)]
        return type(new)(*rows) if hasattr(new, "_fields") else type(new)(rows)
    if new is None:
        return None
    raise RunError(f"a carry holds tensors in dicts, tuples, lists and dataclasses, got {type(new).__name__}")


def head_mask(heads: int, share: float, streams: Streams, owner: int | None = None) -> np.ndarray | None:
    """Which of so many ensemble heads may train on an episode: each with a probability of `share`, or, of a task that
    is number `owner`, that head alone, the numbers going round. (heads,) bool; None: there is one.
    """
    if heads == 1:
        return None
    if owner is not None:
        return np.arange(heads) == owner % heads
    return streams.numpy("mask").random(heads) < share
