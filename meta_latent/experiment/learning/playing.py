"""Agents in environments: fixed episodes, played side by side and scored, never counted as data."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch

from meta_latent.rng import Streams, derive
from meta_latent.types import Step


@dataclass(frozen=True)
class Score:
    """Means over the evaluation's episodes: raw return, normalised score, success (share of episodes that end
    solved).
    """

    raw_return: float
    score: float
    success: float


class Evaluator:
    """Plays the same `episodes` episodes of one task each time it is asked.

    Args:
        bound: an `experiment.suites.Bound`. episodes: how many; episode k always starts from the same state.
    """

    def __init__(self, bound, episodes: int):
        self.bound, self.references = bound, bound.references()
        self.envs = [bound.make() for _ in range(episodes)]
        self.seeds = [evaluation_seed(k) for k in range(episodes)]

    def score(self, agent, rng: Streams, frames: list | None = None) -> Score:
        """Play every episode with the agent's deterministic policy. `frames` receives the first episode's
        pictures.
        """
        rewards, success = play(agent, self.envs, self.seeds, rng, frames)
        raw = float(rewards.mean())
        floor, reference = self.references
        return Score(raw, (raw - floor) / (reference - floor), float(success.mean()))

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()


def evaluation_seed(episode: int) -> int:
    """The seed from which evaluation episode number `episode` starts, in every run."""
    return derive(0, "evaluation", episode) % 2**31


def play(agent, envs, seeds, rng: Streams, frames: list | None = None) -> tuple[np.ndarray, np.ndarray]:
    """One episode per environment, in lockstep: episode returns (n,) and success at the end (n,)."""
    resets = [env.reset(seed=seed) for env, seed in zip(envs, seeds, strict=True)]
    observations, infos = [r[0] for r in resets], [r[1] for r in resets]
    count, size = len(envs), envs[0].action_space.shape[0]
    actions, rewards = np.zeros((count, size), np.float32), np.zeros(count, np.float32)
    totals, alive, first = np.zeros(count), np.ones(count, bool), True
    carry = agent.begin_task(count)
    while alive.any():
        if frames is not None and alive[0]:
            frames.append(picture(envs[0]))
        step = as_step(observations, actions, rewards, np.full(count, first))
        chosen, carry = agent.act(step, carry, rng, explore=False)
        actions, first = chosen.numpy(), False
        for k in np.flatnonzero(alive):
            observations[k], rewards[k], terminated, truncated, infos[k] = envs[k].step(actions[k])
            totals[k] += rewards[k]
            alive[k] = not (terminated or truncated)
    if frames is not None:
        frames.append(picture(envs[0]))
    return totals, np.array([bool(info["success"]) for info in infos])


def picture(env: gymnasium.Env) -> np.ndarray | None:
    """What the environment draws for a video, uint8 (H, W, 3), or None if it draws nothing.

    An environment that cannot draw warns: what was learned is worth more than its film.
    """
    try:
        frame = env.render()
    except NotImplementedError:
        return None
    except Exception as error:  # a user's own environment, which fails in its own way
        warnings.warn(f"no video: render() failed: {type(error).__name__}: {error}", stacklevel=2)
        return None
    drawn = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape[2:] == (3,)
    return frame if drawn else None


def as_step(observations: list[dict], actions: np.ndarray, rewards: np.ndarray, is_first: np.ndarray) -> Step:
    """Observations of several environments as one `Step`; rewards are not shown (their presence flag is
    0).
    """
    images = {
        key.removeprefix("image_"): torch.from_numpy(np.stack([o[key] for o in observations]))
        for key in observations[0]
        if key.startswith("image_")
    }
    proprio = np.stack([o.get("proprio", np.zeros(0, np.float32)) for o in observations])
    flags, no = torch.from_numpy(is_first), torch.zeros(len(observations), dtype=torch.bool)
    return Step(
        images,
        torch.from_numpy(proprio),
        torch.from_numpy(actions),
        torch.from_numpy(rewards),
        torch.zeros(len(observations)),
        flags,
        no,
        no,
        flags,
    )


class Acting:
    """An agent as a `Behaviour` of one environment, exploring."""

    def __init__(self, agent, rng: Streams):
        self.agent, self.rng = agent, rng

    def begin(self, rng: np.random.Generator) -> None:
        """A new task for the agent."""
        self.carry = self.agent.begin_task(1)

    def act(self, observation, action, reward, is_first, info):
        """The agent's next action."""
        step = as_step([observation], action[None], np.array([reward], np.float32), np.array([is_first]))
        chosen, self.carry = self.agent.act(step, self.carry, self.rng, explore=True)
        return chosen[0].numpy()
