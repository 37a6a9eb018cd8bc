"""What policy-gradient learners on (learned) simulators share: rollouts, their advantages, and who acts."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any

import torch

from meta_latent.nets import Standardiser
from meta_latent.ops.advantages import generalised_advantages
from meta_latent.ops.imagination import imagine_groups
from meta_latent.ops.inner_loop import InnerLoop, stacked
from meta_latent.ops.policy_gradient import baseline_features, baseline_values, fit_baseline, standardised, vpg_loss
from meta_latent.policies.base_agent import BaseAgent
from meta_latent.policies.gaussian_mlp import GaussianMLP, Parameters
from meta_latent.ranges import count, positive, share, whole
from meta_latent.rng import Streams
from meta_latent.types import Step

LOOKED_AT = 256
"""Imagined steps whose predictions by all models are compared."""


@dataclass(frozen=True)
class PolicyConfig:
    """The policy, and how advantages are estimated.

    Attributes:
        hidden: width of the tanh network. layers: hidden layers. stddev: of actions, at first. min_stddev: its floor.
        discount: of later rewards, per step. mix: lambda of GAE; 1 takes whole returns.
    """

    hidden: int = count(32, most=16_384)
    layers: int = whole(2, most=64)
    stddev: float = positive(1.0, most=100)
    min_stddev: float = positive(1e-2, most=100)
    discount: float = share(0.99)
    mix: float = share(1.0)


@dataclass(frozen=True)
class Rollouts:
    """P episodes of each of N tasks, at most H steps long.

    Attributes:
        features: (N, P, H, F) what the policy read. actions: (N, P, H, A). advantages: (N, P, H), standardised per
            task. mask: (N, P, H) bool, False after an episode's end. returns: (N,) means, undiscounted.
        states: (N, P, H, S) of the simulators, where the episodes were imagined; else None.
    """

    features: torch.Tensor
    actions: torch.Tensor
    advantages: torch.Tensor
    mask: torch.Tensor
    returns: torch.Tensor
    states: torch.Tensor | None = None

    @classmethod
    def of(cls, features, actions, rewards, mask, config: PolicyConfig, states=None) -> Rollouts:
        """With advantages over a linear baseline that is fitted to these very episodes, task by task
        (Duan et al. 2016b, arXiv 1604.06778); nothing is bootstrapped at the end.
        """
        rewards = torch.where(mask, rewards, 0.0)
        zeros = torch.zeros_like(rewards).flatten(0, 1)
        returns = generalised_advantages(
            rewards.flatten(0, 1), torch.nn.functional.pad(zeros, (0, 1)), config.discount, 1.0
        ).unflatten(0, rewards.shape[:2])
        read = baseline_features(features)
        values = torch.where(mask, baseline_values(read, fit_baseline(read, returns, mask)), 0.0)
        advantages = generalised_advantages(
            rewards.flatten(0, 1), torch.nn.functional.pad(values.flatten(0, 1), (0, 1)), config.discount, config.mix
        ).unflatten(0, rewards.shape[:2])
        return cls(features, actions, standardised(advantages, mask), mask, rewards.sum(-1).mean(-1), states)


class PolicySearch(BaseAgent):
    """An agent with a `GaussianMLP`, on what its simulators let it read; a subclass writes `update`.

    In training, a trial of task i is played by number i of the stacked policies `acting` (M, ...), modulo M; where
    there is one task, and trials are shown ("trial" in `sees`), trial k is by number k. Everywhere else the one
    `policy` plays.

    Args:
        config: sizes. simulators: a `StateSimulators` or the like. tasks: training tasks. horizon: longest episode.
    """

    def __init__(self, config: PolicyConfig, simulators: Any, action_size: int, tasks: int, horizon: int):
        self.policy_config, self.simulators, self.tasks, self.horizon = config, simulators, tasks, horizon
        self.scale = Standardiser(simulators.feature_size).to(simulators.device)
        self.policy = GaussianMLP(simulators.feature_size, action_size, config.hidden, config.layers, config.stddev,
                                  config.min_stddev).to(simulators.device)  # fmt: skip
        self.acting: Parameters = self.together(1)
        self.updates = 0

    @property
    def heads(self) -> int:
        """Ensemble members that learn from what a replay's masks give them."""
        return self.simulators.masked

    @property
    def own_heads(self) -> bool:
        """Whether each of them learns from training tasks of its own."""
        return self.simulators.owned

    def together(self, tasks: int) -> Parameters:
        """The policy's parameters once for each of N tasks, outside the graph."""
        return {name: value.detach().clone() for name, value in stacked(self.policy.values(), tasks).items()}

    # Acting

    def begin_task(self, batch_size: int) -> Any:
        """What is remembered of B tasks."""
        return self.simulators.begin_task(batch_size)

    @torch.no_grad()
    def act(self, step: Step, carry: dict, rng: Streams, explore: bool):
        """Actions (B, A) in [-1, 1], drawn with `explore`, else the mean; and the carry."""
        features, belief = self.simulators.observe(step, carry)
        if step.task_index is None:
            parameters = self.together(1)
            features = self.scale(features)[None]
        else:
            turns = self.tasks == 1 and step.trial is not None
            which = (step.trial if turns else step.task_index) % len(self.acting["log_stddev"])
            parameters = {name: value[which] for name, value in self.acting.items()}
            features = self.scale(features)[:, None]
        chosen = self.policy(parameters, features)
        action = chosen.sample(rng.torch("explore")) if explore else chosen.mean.clamp(-1, 1)
        return action.flatten(0, 1).cpu(), belief

    def adapted_by(self, rollouts: Rollouts, rate: float) -> PolicySearch:
        """Another agent, whose policy took one policy-gradient step on rollouts of one task (N = 1)."""
        step = InnerLoop(1, self.policy_gradient(rollouts), rate, second_order=False)
        found = step.adapted(self.policy.values())
        other = copy(self)
        other.policy = deepcopy(self.policy)
        other.policy.take({name: value[0] for name, value in found.items()})
        return other

    # Learning

    def policy_gradient(self, rollouts: Rollouts) -> Callable[[Parameters, slice], torch.Tensor]:
        """The loss of the inner step: (parameters of tasks (M, ...), which) -> (M,)."""

        def loss(parameters: Parameters, which: slice) -> torch.Tensor:
            log_prob = self.policy(parameters, rollouts.features[which]).log_prob(rollouts.actions[which])
            return vpg_loss(log_prob, rollouts.advantages[which], rollouts.mask[which])

        return loss

    def imagine(self, parameters: Parameters, particles: int, rng: Streams) -> Rollouts:
        """P episodes of each stacked policy n (N, ...) in simulated task n."""
        draws = rng.torch("imagine")

        def choose(states: torch.Tensor) -> torch.Tensor:
            return self.policy(parameters, self.read(states)).sample(draws)

        with torch.no_grad():
            starts = self.simulators.begin(len(parameters["log_stddev"]), particles, rng)
            played = imagine_groups(self.simulators.step, choose, starts, self.horizon)
            return Rollouts.of(self.read(played.states), played.actions, played.rewards, played.mask,
                               self.policy_config, played.states)  # fmt: skip

    @torch.no_grad()
    def real_rollouts(self, replay) -> Rollouts:
        """All episodes of a replay, as those of one task."""
        features = self.simulators.episodes(replay)
        longest, device = max(map(len, features)) - 1, self.simulators.device
        shape = 1, len(features), longest
        read = torch.zeros(*shape, self.simulators.feature_size, device=device)
        actions = torch.zeros(*shape, self.policy.action_size, device=device)
        rewards, mask = torch.zeros(shape, device=device), torch.zeros(shape, dtype=torch.bool, device=device)
        for i, seen in enumerate(features):
            steps, episode = len(seen) - 1, replay.read(i)
            read[0, i, :steps] = self.scale(seen[:-1])
            actions[0, i, :steps] = torch.from_numpy(episode["action"][1:].copy())
            rewards[0, i, :steps] = torch.from_numpy(episode["reward"][1:].copy())
            mask[0, i, :steps] = True
        return Rollouts.of(read, actions, rewards, mask, self.policy_config)

    @torch.no_grad()
    def disagreement(self, rollouts: Rollouts) -> float:
        """How far the models' predictions of the next state lie apart: their standard deviation over the models, a mean
        over what the policy reads, in its units, and over imagined steps (at most `LOOKED_AT` of them).
        """
        states, actions = rollouts.states[rollouts.mask], rollouts.actions[rollouts.mask]
        chosen = slice(None, None, max(1, -(-len(states) // LOOKED_AT)))
        every = (x[chosen].expand(self.simulators.heads, -1, -1) for x in (states, actions))
        following, _, _ = self.simulators.step(*every)
        return float(self.read(following).std(0, correction=0).mean())

    def read(self, states: torch.Tensor) -> torch.Tensor:
        """What the policy reads of simulated states (..., S): scaled features (..., F)."""
        return self.scale(self.simulators.features(states))

    # Saving

    def state(self) -> dict:
        """Everything that a bit-equal continuation needs."""
        return super().state() | {
            "policy": self.policy.state_dict(), "scale": self.scale.state_dict(), "acting": dict(self.acting),
            "simulators": self.simulators.state()}  # fmt: skip

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        super().load_state(state)
        self.policy.load_state_dict(state["policy"])
        self.scale.load_state_dict(state["scale"])
        self.acting = {name: value.to(self.simulators.device) for name, value in state["acting"].items()}
        self.simulators.load_state(state["simulators"])
