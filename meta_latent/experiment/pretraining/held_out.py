"""What a pretrained model knows, on episodes it never trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from meta_latent.data.latents import embed_episode
from meta_latent.experiment.report import figures
from meta_latent.models.losses import one_step
from meta_latent.ops.imagination import imagine

MOVED = 0.02


@torch.no_grad()
def measure(
    model, replay, episodes: np.ndarray, objects: list[int] | None = None, burn_in: int = 5, horizon: int = 5
) -> dict[str, float]:
    """Metrics over the beginnings of episodes, as long as the median one (shorter ones are left out).

    Where that is less than `burn_in` and `horizon` take, both shrink: to no less than one imagined step.

    positions_1_minus_r2: least squares from the latent sample to the privileged reward inputs, fitted on one
    half of the episodes and measured on the other, mean over `objects`: the inputs that locate objects (None:
    all that vary). open_loop_r2: 1 - squared error of the same read-out after `horizon` imagined steps,
    relative to the squared displacement, over those of them that moved by more than `MOVED`.
    reward_1_minus_r2 (and _blind): one-step reward prediction of the sequence's own reward function with
    (without) the rewards as input, after `burn_in` steps.
    """
    data = _tensors(model, replay, episodes)
    burn_in = min(burn_in, data["action"].shape[1] - 2)
    sight, blind = (model.filter(data["embeddings"], data["action"], data["reward"], data["present"] * flag)
                    for flag in (1.0, 0.0))
    half = len(blind.mean) // 2
    inputs = data["reward_inputs"]
    if objects is None:
        objects = (inputs.flatten(0, 1).var(0) > 1e-6).nonzero()[:, 0].tolist()
    inputs = data["reward_inputs"] = inputs[..., objects]
    readout = _least_squares(blind.mean[:half].flatten(0, 1), inputs[:half].flatten(0, 1))
    guess = _apply(readout, blind.mean[half:])
    result = {"positions_1_minus_r2": _unexplained(guess, inputs[half:]).mean().item()}
    result["open_loop_r2"] = _open_loop(model, blind, data, readout, half, burn_in, horizon)
    target = data["reward"][:, burn_in + 1:]
    for name, latent in (("reward_1_minus_r2", sight), ("reward_1_minus_r2_blind", blind)):
        reward = _one_step_reward(model, latent, data["action"])[:, burn_in:]
        result[name] = _unexplained(reward.flatten()[:, None], target.flatten()[:, None]).item()
    return result


def _tensors(model, replay, episodes) -> dict[str, torch.Tensor]:
    lengths = replay.lengths()[episodes]
    length = int(np.median(lengths))
    chosen = episodes[lengths >= length]
    rows = [
        {key: values[:length] for key, values in replay.read(e).items() if len(values.shape) and key != "head_mask"}
        for e in chosen
    ]
    stacked = {key: torch.from_numpy(np.stack([row[key] for row in rows])).to(model.device)
               for key in ("action", "reward", "reward_present", "reward_inputs")}
    stacked["present"] = stacked.pop("reward_present")
    stacked["embeddings"] = torch.stack([embed_episode(model, replay, row) for row in rows])
    return stacked


def _least_squares(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    ones = torch.ones(len(x), 1, device=x.device)
    ridge = 1e-6 * torch.eye(x.shape[1] + 1, device=x.device, dtype=torch.float64)
    a = torch.cat([x, ones], 1).double()
    return torch.linalg.solve(a.T @ a / len(a) + ridge, a.T @ y.double() / len(a))


def _apply(readout: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (torch.cat([x, torch.ones(*x.shape[:-1], 1, device=x.device)], -1).double() @ readout).float()


def _unexplained(guess: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    flat = target.reshape(-1, target.shape[-1])
    error = (guess.reshape(flat.shape) - flat).square().mean(0)
    return error / flat.var(0).clamp_min(1e-12)


def _open_loop(model, latent, data, readout, half, start, horizon) -> float:
    horizon = min(horizon, data["action"].shape[1] - start - 1)
    head = torch.arange(len(latent.sample), device=model.device) % model.heads
    steps = imagine(model, latent[:, start], lambda k, _: data["action"][:, start + 1 + k], head, horizon)
    guess = _apply(readout, steps[-1].next_latent.sample[half:])
    before, after = data["reward_inputs"][half:, start], data["reward_inputs"][half:, start + horizon]
    moved = (after - before).abs() > MOVED
    return (
        1.0
        - (
            (guess - after)[moved].square().sum() / (after - before)[moved].square().sum().clamp_min(1e-12)
        ).item()
    )


def _one_step_reward(model, latent, actions) -> torch.Tensor:
    head = torch.arange(len(actions), device=model.device) % model.heads
    before, action = latent[:, :-1], actions[:, 1:]
    inputs = model.step_inputs(before.memory, action, one_step(model, before, action, head))
    return model.reward_head(inputs)[..., 0]


@torch.no_grad()
def draw_strips(model, replay, episode: int, folder: Path, start: int = 3, horizon: int = 10) -> list[Path]:
    """One PNG per camera: real frames above what the model imagines from step `start` with the logged
    actions.
    """
    data = _tensors(model, replay, np.array([episode]))
    start = min(start, data["action"].shape[1] - 2)
    horizon = min(horizon, data["action"].shape[1] - start - 1)
    latent = model.filter(data["embeddings"], data["action"], data["reward"], data["present"] * 0)[:, start]
    steps = imagine(
        model,
        latent,
        lambda k, _: data["action"][:, start + 1 + k],
        torch.zeros(1, dtype=torch.long, device=model.device),
        horizon,
    )
    samples = torch.cat([latent.sample, *[step.next_latent.sample for step in steps]])
    decoded, paths = model.decode_float(samples), []
    for camera, images in decoded.items():
        real = np.array(replay.read(episode)[f"image_{camera}"][start:start + horizon + 1])
        imagined = (
            (images.add(0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        )
        paths.append(figures.strips(folder / f"imagined_vs_real_{camera}_{episode}.png", real, imagined))
    return paths
