"""Where episodes of a target end for good, learned on the latents of a model; and an update of that and of rewards."""

from __future__ import annotations

import torch
from torch.nn import functional

from meta_latent.nets import MLP
from meta_latent.policies.reward_heads import even, reward_errors, window_states
from meta_latent.types import Metrics


class Continuation(MLP):
    """The probability that an episode goes on after a step, read from the state that the step led to and its action, as
    rewards are (`RewardHeads.state`).

    Args:
        model: a `LatentStateModel`. hidden, layers: of the network.
    """

    def __init__(self, model, hidden: int, layers: int):
        super().__init__(model.latent_size + model.relation_size + model.spec.action_size, 1, hidden, layers, 0.0)
        torch.nn.init.constant_(self[-1].bias, 5.0)  # nothing ends, until ends say otherwise

    def estimate(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """(..., Z + R) and (..., A) -> (...,) in 0..1."""
        return self._logits(state, action).sigmoid()

    def error(self, states: tuple[torch.Tensor, torch.Tensor], windows) -> torch.Tensor:
        """Mean cross-entropy, in nats, on the imagined and the observed `window_states` of windows (B, H + 1, ...),
        every step counted alike (`LatentWindows.weights`): an end is in one window alone, a step before it in several.
        """
        goes_on, weights = (~windows.terminal[:, 1:]).to(windows.samples.dtype), windows.weights[:, 1:]
        logits = (self._logits(state, windows.actions[:, 1:]) for state in states)
        errors = [functional.binary_cross_entropy_with_logits(said, goes_on, weights) for said in logits]
        return torch.stack(errors).mean() / weights.mean()

    def _logits(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self(torch.cat([state, action], -1))[..., 0]


def fit_rewards_and_ends(agent, windows, clip: float, owned: bool = False) -> Metrics:
    """One update of a `LatentAgent`'s networks `reward` (`RewardHeads`) and, once an episode that it caches has ended
    for good, `continuation`, on latents unrolled along windows (B, H + 1, ...) and on observed ones.

    owned: each window through the head that alone may train on it; else heads have as many windows each.
    """
    route = windows.head_mask.int().argmax(-1) if owned else even(len(windows.rows), agent.model)
    states = window_states(agent.model, windows, route)
    imagined, observed = reward_errors(agent.networks["reward"], states, windows)
    agent.optimise("reward", (imagined + observed) / 2, clip)
    metrics = {"reward_loss": float(observed.detach()), "reward_loss_imagined": float(imagined.detach())}
    if agent.cache.ends:
        error = agent.networks["continuation"].error(states, windows)
        metrics["continuation_loss"] = agent.optimise("continuation", error, clip)
    return metrics


METRICS = {
    "reward_loss": "squared error of the reward heads on observed latents",
    "reward_loss_imagined": "the same on latents unrolled with the logged actions",
    "continuation_loss": "cross-entropy of where episodes end, in nats; once one has ended for good",
}
"""What `fit_rewards_and_ends` measures."""
