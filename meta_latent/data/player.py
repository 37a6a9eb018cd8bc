"""A trained agent as something that acts: observation in, action out, its memory kept for you."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch

from meta_latent.data.answers import acted
from meta_latent.errors import UserError
from meta_latent.protocols import Agent
from meta_latent.rng import Streams
from meta_latent.types import Spec, Step


class Player:
    """Acts in one environment at a time, with what its agent is shown while it acts and no more::

        player = meta_latent.player("runs/toy/transfer/goal/ivg/pretrained/0")
        env = player.make_env()
        observation, info = env.reset(seed=1)
        player.begin()
        for _ in range(30):
            observation, reward, terminated, truncated, info = env.step(player.act(observation))
            if terminated or truncated:
                break

    An agent that remembers trials (MELD, RL²) is shown the reward too, ``player.act(observation, reward)``, and goes on
    from one episode to the next: ``player.end(observation, reward)`` shows it an episode's last observation, after
    which ``player.begin(same_task=True)`` keeps what it has found out.

    Args:
        agent: see `protocols.Agent`; one that adapts by gradient steps acts as it is before it adapts.
        distribution, task: a `task_suites.TaskDistribution` and one of its tasks, which it plays.
        sees: of "reward" and "task", what the agent is shown.
        explore: draw actions, instead of taking those that it is scored with. seed: of these draws.
    """

    def __init__(
        self, agent: Agent, distribution, task, sees: Collection[str] = (), explore: bool = False, seed: int = 0
    ):
        self.agent, self.distribution, self.task, self.explore = agent, distribution, task, explore
        self._spec = Spec.of(distribution)
        self._sees, self._rng = frozenset(sees), Streams(seed)
        self._told = torch.from_numpy(distribution.task_vector(task))[None] if "task" in self._sees else None
        self.begin()

    def make_env(self):
        """A new environment of its task."""
        return self.distribution.make(self.task)

    def begin(self, same_task: bool = False) -> None:
        """The next observation begins an episode: of another task, or of the same one, so that its memory stays."""
        if not same_task:
            self._carry = self.agent.begin_task(1)
            self._is_task_first = True
        self._is_first = True

    def act(self, observation: Mapping[str, np.ndarray], reward: float | None = None) -> np.ndarray:
        """The action (A,) in [-1, 1] for an observation of one environment; reward: the one that came with it.

        Raises UserError for an observation of another shape, and where the agent sees rewards and is given none.
        """
        if "reward" in self._sees and not self._is_first and reward is None:
            raise UserError("this agent infers its task from rewards: act(observation, reward)")
        action = self._shown(observation, reward)
        self._action = action
        return action[0].numpy().copy()  # what happens to it does not change what was done

    def end(self, observation: Mapping[str, np.ndarray], reward: float, terminated: bool = False) -> None:
        """Show an episode's last observation and reward to an agent that plays on in the same task."""
        self._shown(observation, reward, is_last=True, is_terminal=terminated)

    def _shown(self, observation, reward: float | None, **ends: bool) -> torch.Tensor:
        if reason := self._spec.misfit(observation):
            raise UserError(f"the observation does not fit {self.distribution.name}: {reason}")
        first = self._is_first
        action = torch.zeros(1, self.distribution.action_space.shape[0]) if first else self._action
        told = reward if "reward" in self._sees and not first else None
        step = Step.of(observation, action, reward=told, is_first=first, is_task_first=self._is_task_first,
                       task=self._told, **ends)  # fmt: skip
        action, self._carry = acted(self.agent, step, self._carry, self._rng, self.explore)
        self._is_first = self._is_task_first = False
        return action
