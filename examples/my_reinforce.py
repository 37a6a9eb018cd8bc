"""An on-policy algorithm of your own, without a model: REINFORCE with a baseline (Williams 1992).

Every round plays some episodes with the policy as it is, takes one step along their policy gradient, and throws them
away. `imports=[my_reinforce]` on a command line makes its arm known.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from meta_latent.algorithms.registry import Algorithm, register
from meta_latent.ops.policy_gradient import standardised, vpg_loss
from meta_latent.ops.returns import lambda_returns
from meta_latent.policies.actors import GaussianActor
from meta_latent.policies.base_agent import BaseAgent
from meta_latent.policies.optimised import Optimised
from meta_latent.ranges import count, positive, share


@dataclass(frozen=True)
class ReinforceConfig:
    """Settings, each with a default and a range: `algorithms.reinforce.rate=3e-3`.

    Attributes:
        steps_per_round: environment steps that each step of the policy is taken on. rate: learning rate.
        discount: of later rewards, per step. min_stddev: the least spread of actions, before they are squashed.
    """

    steps_per_round: int = count(400)
    rate: float = positive(1e-2, most=10)
    discount: float = share(0.95)
    min_stddev: float = positive(0.2, most=1)


class Reinforce(BaseAgent):
    """A squashed Gaussian policy on proprioception."""

    def __init__(self, config, setting):
        self.config, self.device, self.seen = config, setting.device, 0
        self.actor = GaussianActor(
            setting.spec.proprio, setting.spec.action_size, hidden=32, min_stddev=config.min_stddev
        )
        self.learned = Optimised("reinforce", {"policy": self.actor}, {"policy": config.rate}, setting.device)

    def wants(self):
        """Many episodes of one and the same policy: a gradient from a single one is nearly all noise."""
        return self.config.steps_per_round

    @torch.no_grad()
    def act(self, step, carry, rng, explore):
        """Actions (B, A): drawn while data are collected, else the mean."""
        read = step.proprio
        action = self.actor.sample(read, rng.torch("explore"))[0] if explore else self.actor.mean_action(read)
        return action.cpu(), carry

    def update(self, replay, rng):
        """One step along the gradient of the episodes that are new, each used once."""
        fresh, self.seen = replay.view(since=self.seen), replay.added
        played = [fresh.read(place) for place in range(len(fresh.episodes))]

        def stacked(key, first, last):  # (episodes, steps, ...), padded where an episode was shorter
            rows = [torch.tensor(episode[key][first : len(episode[key]) + last]) for episode in played]
            return pad_sequence(rows, batch_first=True).to(self.device)

        # action[t + 1] is what was chosen at observation t, and reward[t + 1] what it was paid.
        read, action, reward = stacked("proprio", 0, -1), stacked("action", 1, 0), stacked("reward", 1, 0)
        lengths = torch.tensor([len(episode["reward"]) - 1 for episode in played], device=reward.device)
        there = torch.arange(reward.shape[1], device=reward.device) < lengths[:, None]
        ahead = lambda_returns(reward, torch.zeros_like(reward), self.config.discount, 1.0)
        usual = (ahead * there).sum(0) / there.sum(0)  # at the same step of the episode: less is left to earn late
        advantage = standardised((ahead - usual)[None], there[None])
        loss = vpg_loss(self.actor.log_prob(read, action)[None], advantage, there[None]).mean()
        self.learned.step("policy", loss, clip=10.0)
        self.updates += 1
        spread = self.actor(read)[1].detach().exp()
        return {"played_return": float(reward.sum(1).mean()), "stddev": float(spread.mean())}

    def state(self):
        """All that an exact resume needs."""
        return super().state() | {"learned": self.learned.state(), "seen": self.seen}

    def load_state(self, state):
        """Continue from `state()`."""
        super().load_state(state)
        self.learned.load_state(state["learned"])
        self.seen = int(state["seen"])


register("reinforce", Algorithm(
    config=ReinforceConfig,
    build=Reinforce,
    metrics={"played_return": "mean return of the round's episodes", "stddev": "spread of actions, before squashing"},
    warmup=False,  # what a random policy played is no sample of this one
))  # fmt: skip
