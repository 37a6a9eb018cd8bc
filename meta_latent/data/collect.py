"""Stepping environments: behaviours, and one episode as arrays in the time convention of `types`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import gymnasium
import numpy as np

from meta_latent.errors import UserError
from meta_latent.ranges import nonnegative, numbers


class Behaviour(Protocol):
    """Anything that acts in one environment.

    The loop is: ``behaviour.begin(rng)``, then per instant
    ``action = behaviour.act(observation, action, reward, is_first, info)``.
    """

    def begin(self, rng: np.random.Generator) -> None:
        """Forget the past; all randomness of the episode comes from `rng`."""

    def act(
        self, observation: dict, action: np.ndarray, reward: float, is_first: bool, info: dict
    ) -> np.ndarray:
        """(A,) the next action in [-1, 1], given what the previous `action` led to."""


@dataclass(frozen=True)
class NoiseConfig:
    """Random behaviour: `CorrelatedNoise` with one of `persistences` per episode, `scale` and `drift`."""

    persistences: tuple[float, ...] = numbers((0.5, 0.8, 0.9), 0, 1)
    scale: float = nonnegative(0.6, most=100)
    drift: tuple[float, ...] = numbers((), -1, 1, may_be_empty=True)

    def draw(self, action_size: int, rng: np.random.Generator) -> CorrelatedNoise:
        """The behaviour of one episode."""
        return CorrelatedNoise(action_size, float(rng.choice(self.persistences)), self.scale, self.drift)


class CorrelatedNoise:
    """Random actions with memory: clip(drift + x_t), x_t = persistence * x_{t-1} + scale * noise (an AR(1)
    process).

    drift: (A,) constant part, such as a hand that tends downwards, where the objects are; () for none.
    """

    def __init__(
        self, action_size: int, persistence: float = 0.7, scale: float = 0.7, drift: tuple[float, ...] = ()
    ):
        if drift and len(drift) != action_size:
            raise UserError(f"drift has {len(drift)} values, the action has {action_size}")
        self.action_size, self.persistence, self.scale = action_size, persistence, scale
        self.drift = np.array(drift) if drift else np.zeros(action_size)

    def begin(self, rng):
        """Start from a uniform action."""
        self.rng, self.value = rng, rng.uniform(-1, 1, self.action_size)

    def act(self, observation, action, reward, is_first, info):
        """The next value of the process."""
        self.value = self.persistence * self.value + self.scale * self.rng.standard_normal(self.action_size)
        return np.clip(self.drift + self.value, -1, 1).astype(np.float32)


class Scripted:
    """A suite's scripted policy with correlated noise of strength `noise` added."""

    def __init__(self, policy, action_size: int, noise: float):
        self.policy, self.noise, self.process = policy, noise, CorrelatedNoise(action_size, 0.8, 0.5)

    def begin(self, rng):
        """Reset script and noise."""
        self.policy.reset(rng)
        self.process.begin(rng)

    def act(self, observation, action, reward, is_first, info):
        """Scripted action plus noise, clipped."""
        jitter = self.process.act(observation, action, reward, is_first, info)
        return np.clip(self.policy(info["reward_inputs"]) + self.noise * jitter, -1, 1).astype(np.float32)


def collect_episode(env: gymnasium.Env, behaviour: Behaviour, seed: int, rng: np.random.Generator,
                    frames: list | None = None) -> dict[str, np.ndarray]:
    """Run one episode and return its arrays with leading T + 1, plus "success" (T + 1,) bool.

    `seed` determines the environment's part, `rng` the behaviour's. `frames` receives rendered pictures.
    """
    observation, info = env.reset(seed=seed)
    behaviour.begin(rng)
    action, reward, done = np.zeros(env.action_space.shape, np.float32), 0.0, False
    rows = [_row(observation, action, 0.0, info, first=True)]
    while not done:
        if frames is not None:
            frames.append(env.unwrapped.render())
        action = np.asarray(
            behaviour.act(observation, action, reward, rows[-1]["is_first"], info), np.float32
        )
        observation, reward, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        rows.append(_row(observation, action, reward, info, last=done, terminal=terminated))
    if frames is not None:
        frames.append(env.unwrapped.render())
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def _row(observation, action, reward, info, first=False, last=False, terminal=False) -> dict:
    row = {key: value for key, value in observation.items() if key.startswith("image_")}
    return row | {
        "proprio": observation.get("proprio", np.zeros(0, np.float32)),
        "action": action,
        "reward": np.float32(reward),
        "reward_present": np.float32(not first),
        "reward_inputs": info["reward_inputs"],
        "success": info["success"],
        "is_first": first,
        "is_last": last,
        "is_terminal": terminal,
        "is_task_first": first,
    }
