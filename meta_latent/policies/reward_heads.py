"""Rewards of a target, learned on the latents of a model: what algorithms that imagine from pixels share."""

from __future__ import annotations

import torch

from meta_latent.nets import EnsembleMLP
from meta_latent.ops.imagination import imagine


class RewardHeads(EnsembleMLP):
    """An ensemble that reads the state that a step led to and its action. No memory: a reward is about the state.

    Args:
        heads: how many. model: a `LatentStateModel`. hidden, layers: of each. pessimism: how many times their spread
            is taken from their mean, so that a policy gains nothing where target data are silent.
    """

    def __init__(self, heads: int, model, hidden: int, layers: int, pessimism: float):
        super().__init__(heads, model.latent_size + model.relation_size + model.spec.action_size, 1, hidden, layers)
        self.count, self.pessimism = heads, pessimism

    @staticmethod
    def state(latent) -> torch.Tensor:
        """What is read of a latent: (..., Z + R)."""
        return torch.cat([latent.sample, latent.relations], -1)

    def each(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """(..., Z + R) and (..., A) -> (heads, ...), every head's estimate."""
        inputs = torch.cat([state, action], -1)
        flat = inputs.flatten(0, -2).expand(self.count, -1, -1)
        return self(flat)[..., 0].unflatten(1, inputs.shape[:-1])

    def estimate(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """(..., Z + R) and (..., A) -> (...,), their mean less pessimism."""
        estimates = self.each(state, action)
        return estimates.mean(0) - self.pessimism * estimates.std(0)


@torch.no_grad()
def window_states(model, windows, route: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What heads read along windows (B, H + 1, ...): states (B, H, Z + R) unrolled 1 to H steps from the windows' first
    latents with the logged actions, window b through transition head `route[b]`, and the observed states there.
    """
    start = model.unpack(windows.packed[:, 0])
    horizon = windows.actions.shape[1] - 1
    unrolled = imagine(model, start, lambda k, _: windows.actions[:, k + 1], route, horizon)
    seen = windows.samples[:, 1:]
    imagined = torch.stack([RewardHeads.state(step.next_latent) for step in unrolled], 1)
    return imagined, torch.cat([seen, model.relations(seen)], -1)


def reward_errors(
    heads: RewardHeads, states: tuple[torch.Tensor, torch.Tensor], windows
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared errors on the imagined and on the observed `window_states`, every step of the target's episodes
    counted alike (`LatentWindows.weights`): a reward that ends an episode is in one window alone.

    Fitted on observed latents alone, the heads are garbage at the depths that imagining uses, and are exploited. Only
    target data carry the target's reward.
    """
    actions, paid, weights = windows.actions[:, 1:], windows.rewards[:, 1:], windows.weights[:, 1:]
    errors = ((heads.each(state, actions) - paid).square() for state in states)
    imagined, observed = ((weights * error).mean() / weights.mean() for error in errors)
    return imagined, observed


def even(rows: int, model) -> torch.Tensor:
    """Groups of rows, one per transition head, one after the other (rows are in random order). Where K divides the
    rows they are equal, and none has to be moved.
    """
    return (torch.arange(rows) * model.heads // rows).to(model.device)
