"""What a latent state model is trained on: named terms, each averaged over batch and time by the caller's
`total`.
"""

from __future__ import annotations

import dataclasses

import torch
from torch.nn import functional

from meta_latent.models.core import Latent
from meta_latent.models.counterfactual import counterfactual_term
from meta_latent.models.encoders import to_float
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.ops import gaussian, shares
from meta_latent.ops.imagination import imagine
from meta_latent.types import SequenceBatch

CALIBRATION = 0.05
"""Weight of the stddev's likelihood beside the squared error of the means; only the stddev sees its
gradient.
"""
METRICS = {
    "embedding": "negative log likelihood of what was seen, given the posterior",
    "divergence": "how far one-step predictions are from what was observed (KL in nats, or squared error)",
    "reward": "weighted squared error of predicted rewards",
    "counterfactual": "weighted squared error of the rewards of other frames of the trial, from every memory in it",
    "task_reward": "the same for the sources' reward functions",
    "continuation": "cross entropy of whether the episode goes on",
    "open_loop": "squared error of latents predicted several steps ahead, unseen",
    "image": "weighted squared error of decoded pictures",
    "image_ahead": "the same of pictures decoded from open-loop predictions",
    "transition": "open-loop squared error of the transition heads on cached latents",
}
"""What the terms of the model's updates mean."""


def draw_heads(mask: torch.Tensor, rng: shares.Draws) -> torch.Tensor:
    """One allowed head per sequence: mask (B, K) bool -> (B,) int64; a row without any allowed head may use
    all.
    """
    weights = mask.float() + (~mask.any(-1, keepdim=True)).float()
    return shares.multinomial(weights.cpu(), 1, False, rng)[:, 0].to(mask.device)


def image_loss(
    decoded: torch.Tensor, images: torch.Tensor, contrast: float, rng: shares.Draws | None = None
) -> torch.Tensor:
    """Weighted squared error per image: (B, 3, H, W) and uint8 (B, H, W, 3) -> (B,).

    A pixel counts 1 + contrast * (its squared distance from the batch's mean image): small objects are not
    lost. rng: says which share of a batch these are, if they are one.
    """
    target = to_float(images)
    weight = 1.0 + contrast * (target - shares.mean(target, rng)).square().mean(1, keepdim=True)
    return (weight * (decoded - target).square()).mean((1, 2, 3))


def loss(
    model: LatentStateModel,
    batch: SequenceBatch,
    rng: shares.Draws,
    task_rewards: torch.Tensor | None = None,
    embeddings: torch.Tensor | None = None,
    known: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Named, weighted loss terms of sequences that each lie within one episode; every term has shape (B, T')
    or (B,).

    Args:
        batch: (B, T) sequences. task_rewards: (B, T, N) rewards of the named source functions (multi-task
            heads).
        embeddings: (B, T, Z) cached embeddings; then no image is encoded or decoded and the encoder does not
            train.
        known: (B, N) bool, which of `task_rewards` are known and so learned from; None: all.
    Source: evidence lower bound of a recurrent state-space model (Hafner et al. 2019) with KL balancing
    (Hafner et al. 2021); the open-loop term is latent overshooting on means. Deviations: see `core`
    and `sequential_core`.
    """
    weights, cached = model.config.loss, embeddings is not None
    size = len(batch.reward)
    if not cached:
        embeddings = embed(model, batch)
    hidden = shares.rand((size, 1), rng).to(embeddings.device) < model.config.reward_dropout
    present = batch.reward_present * (~hidden)
    posterior = model.filter(embeddings, batch.action, batch.reward, present, rng)
    head = draw_heads(batch.head_mask, rng)
    terms = {}
    if model.core.stochastic:
        terms["embedding"] = -weights.embedding * gaussian.log_prob(
            embeddings, posterior.sample, torch.full_like(posterior.sample, weights.embedding_stddev)
        ).mean(-1)
    before = posterior[:, :-1]
    ahead = one_step(model, before, batch.action[:, 1:], head)
    terms["divergence"] = weights.divergence * divergence(model, *with_priors(model, posterior, ahead))
    terms |= _reward_terms(model, before, ahead, batch, task_rewards, known, weights, rng)
    if weights.counterfactual:
        terms["counterfactual"] = weights.counterfactual * counterfactual_term(
            model, posterior.memory, embeddings, batch, weights.counterfactual_frames, rng)  # fmt: skip
    start, target_index, rolled = open_loop(model, posterior, batch.action, head, weights.open_loop_steps, rng)
    rows = torch.arange(size, device=head.device)[:, None]
    targets = posterior.mean[rows, target_index]
    terms["open_loop"] = weights.open_loop * (
        (rolled - targets.detach()).square().mean(-1) + 0.2 * (rolled.detach() - targets).square().mean(-1)
    )
    if not cached and batch.images:
        terms |= _image_terms(model, batch, posterior, rolled, target_index, rows, weights, rng)
    return terms


def embed(model: LatentStateModel, batch: SequenceBatch) -> torch.Tensor:
    """(B, T, Z) embeddings of the frames of (B, T) sequences."""
    images = {camera: x.flatten(0, 1) for camera, x in batch.images.items()}
    return model.embed(images, batch.proprio.flatten(0, 1)).unflatten(0, batch.reward.shape)


def one_step(model: LatentStateModel, before: Latent, actions: torch.Tensor, head: torch.Tensor) -> Latent:
    """The expected latents (B, T) one step after `before` (B, T), with their stddev: sequence b through
    `head[b]`.
    """
    size, steps = actions.shape[:2]
    flat = before.map(lambda x: x.flatten(0, 1))
    found = model.transition(flat, actions.flatten(0, 1), head.repeat_interleave(steps))
    return dataclasses.replace(found.mean(), stddev=found.stddev).map(lambda x: x.unflatten(0, (size, steps)))


def with_priors(model: LatentStateModel, posterior: Latent, ahead: Latent) -> tuple[Latent, torch.Tensor, torch.Tensor]:
    """The posterior where it has a prior, with that prior's mean and stddev: from the second frame on (`ahead`), in
    some cores from the first, (B, T-1) or (B, T).
    """
    if not model.core.first_has_prior:
        return posterior[:, 1:], ahead.mean, ahead.stddev
    first = model.initial(len(ahead.mean))
    return (
        posterior,
        torch.cat([first.mean[:, None], ahead.mean], 1),
        torch.cat([first.stddev[:, None], ahead.stddev], 1),
    )


def divergence(model: LatentStateModel, posterior, mean: torch.Tensor, stddev: torch.Tensor) -> torch.Tensor:
    """How far predictions are from what was observed, (B, T-1): balanced KL in nats, or squared error if
    noiseless.
    """
    weights = model.config.loss
    balance = weights.divergence_balance
    if not model.core.stochastic:
        error = (mean - posterior.mean.detach()).square().sum(-1)
        return balance * error + (1 - balance) * (mean.detach() - posterior.mean).square().sum(-1)
    prior = gaussian.kl(posterior.mean.detach(), posterior.stddev.detach(), mean, stddev).sum(-1)
    back = gaussian.kl(posterior.mean, posterior.stddev, mean.detach(), stddev.detach()).sum(-1)
    floor = weights.free_nats
    return balance * prior.clamp_min(floor) + (1 - balance) * back.clamp_min(floor)


def _reward_terms(model, before, ahead, batch, task_rewards, known, weights, rng) -> dict[str, torch.Tensor]:
    """Rewards are predicted on imagined states only: on a state that was just fed a reward they would
    leak.
    """
    inputs = model.step_inputs(before.memory, batch.action[:, 1:], ahead)
    valid = batch.reward_present[:, 1:]
    guess = model.reward_head(inputs)[..., 0]
    terms = {"reward": weights.reward * valid * (guess - model.scaled(batch.reward[:, 1:])).square()}
    if task_rewards is not None:
        error = (model.task_reward_head(inputs) - model.scaled(task_rewards[:, 1:])).square()
        if known is not None:  # such that the mean is that over what is known
            counts = known.to(error.dtype)
            error = error * (counts / shares.mean(counts, rng).mean())[:, None]
        terms["task_reward"] = weights.task_reward * error.mean(-1)
    if model.continuation_head is not None:
        logits = model.continuation_head(inputs)[..., 0]
        alive = 1.0 - batch.is_terminal[:, 1:].float()
        error = functional.binary_cross_entropy_with_logits(logits, alive, reduction="none")
        if batch.multiplicity is not None:  # every step counts alike: an end is in one window alone
            once = 1.0 / batch.multiplicity[:, 1:]
            error = error * once / shares.mean(once, rng).mean()
        terms["continuation"] = weights.continuation * error
    return terms


def open_loop(model, posterior, actions, head, steps: int, rng):
    """Roll the logged actions from one random start per sequence without looking: start (B,), the indices
    (B, H) that were predicted and the predicted means (B, H, Z)."""
    size, length = actions.shape[:2]
    steps = min(steps, length - 1)
    rows = torch.arange(size, device=actions.device)
    start = shares.randint(length - steps, (size,), rng).to(actions.device)
    index = start[:, None] + torch.arange(1, steps + 1, device=actions.device)
    rolled = imagine(model, posterior[rows, start], lambda k, _: actions[rows, start + k + 1], head, steps)
    return start, index, torch.stack([step.next_latent.sample for step in rolled], 1)


def _image_terms(model, batch, posterior, rolled, index, rows, weights, rng) -> dict[str, torch.Tensor]:
    """Images decoded from the posterior and from the first open-loop predictions."""
    size, length = batch.reward.shape
    ahead = min(weights.decoded_steps, rolled.shape[1])
    samples = torch.cat([posterior.sample.flatten(0, 1), rolled[:, :ahead].flatten(0, 1)])
    decoded, total = model.decode_float(samples), 0.0
    for camera, images in batch.images.items():
        wanted = torch.cat([images.flatten(0, 1), images[rows, index[:, :ahead]].flatten(0, 1)])
        total = total + image_loss(decoded[camera], wanted, weights.pixel_contrast, rng)
    seen, imagined = total.split([size * length, size * ahead])
    return {
        "image": weights.image * seen.unflatten(0, (size, length)),
        "image_ahead": weights.image * imagined.unflatten(0, (size, ahead)),
    }


def transition_loss(
    model: LatentStateModel,
    samples: torch.Tensor,
    memories: torch.Tensor,
    actions: torch.Tensor,
    head: torch.Tensor,
) -> torch.Tensor:
    """Open-loop error of the transition heads on CACHED latents: (B, H + 1, ...) -> (B, H).

    `actions[:, k]` led to `samples[:, k]`; `head`: (B,). Squared error of the means, summed over dimensions.
    A stochastic core adds the negative log-likelihood of one step with the mean held fixed: its stddev stays
    calibrated.
    """
    start = model.unpack(torch.cat([samples[:, 0], memories[:, 0]], -1))
    steps = imagine(model, start, lambda k, _: actions[:, k + 1], head, samples.shape[1] - 1)
    means = torch.stack([step.distribution.loc for step in steps], 1)
    error = (means - samples[:, 1:]).square().sum(-1)
    if model.core.stochastic:
        first = steps[0].distribution
        surprise = -gaussian.log_prob(samples[:, 1], first.loc.detach(), first.stddev).mean(-1)
        error = error + CALIBRATION * surprise[:, None]
    return error


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    """The scalar that is minimised: the sum of the terms' means."""
    return sum(term.mean() for term in terms.values())
