"""What a pretrained model knows, on episodes it never trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from meta_latent.data.latents import embed_episode
from meta_latent.models.losses import one_step
from meta_latent.ops.imagination import imagine

MOVED = 0.02
"""How far an input must change over the horizon to count as moved (metres, where it is a position)."""

_STILL = 1e-3
"""Standard deviation below which an input hardly moves: there is nothing to locate."""

_CONSTANT = 1e-4
"""Standard deviation of the reward, relative to its root mean square, below which it is constant."""

POSITIONS = "positions_1_minus_r2"
_OF_POSITIONS = (POSITIONS, "open_loop_r2")


@torch.no_grad()
def measure(
    model,
    replay,
    episodes: np.ndarray,
    objects: list[int] | None = None,
    burn_in: int = 5,
    horizon: int = 5,
    own_heads: bool = False,
) -> dict[str, float | None]:
    """Metrics over the beginnings of episodes, as long as the median one (shorter ones are left out).

    Where that is less than `burn_in` and `horizon` take, both shrink: to no less than one imagined step.

    positions_1_minus_r2: least squares from the latent sample to the privileged reward inputs, fitted on one
    half of the episodes and measured on the other, mean over those of `objects` (the inputs that locate
    objects; None: all) that vary in both.
    open_loop_r2: 1 - squared error of the same read-out after `horizon` imagined steps, relative to the
    squared displacement, over those of them that moved by more than `MOVED`.
    reward_1_minus_r2 (and _blind): one-step reward prediction of the sequence's own reward function with
    (without) the rewards as input, after `burn_in` steps.
    None stands for what could not be measured: no object moved, or the reward is constant (see `describe`).
    own_heads: the head that predicts an episode is that of its source, as `pretrain.own_heads` shares them out, else
    they take turns.
    """
    data = _tensors(model, replay, episodes, own_heads)
    burn_in = min(burn_in, data["action"].shape[1] - 2)
    sight, blind = (
        model.filter(data["embeddings"], data["action"], data["reward"], data["present"] * flag) for flag in (1.0, 0.0)
    )
    result = _positions(model, blind, data, objects, burn_in, horizon)
    target = data["reward"][:, burn_in + 1 :]
    varies = target.std() > _CONSTANT * target.square().mean().sqrt()
    for name, latent in (("reward_1_minus_r2", sight), ("reward_1_minus_r2_blind", blind)):
        reward = _one_step_reward(model, latent, data["action"], data["head"])[:, burn_in:]
        unexplained = _unexplained(reward.flatten()[:, None], target.flatten()[:, None])
        result[name] = unexplained.item() if varies else None
    return result


def describe(metrics: dict[str, float | None]) -> str:
    """What `measure` found, in words for a line of output."""
    return ", ".join(
        f"{name} not measured: {'nothing moved' if name.startswith(_OF_POSITIONS) else 'constant'}"
        if value is None
        else f"{name} {value:.3g}"
        for name, value in metrics.items()
    )


def _positions(model, latent, data, objects: list[int] | None, start: int, horizon: int) -> dict:
    """The metrics of the read-out from latents to what locates the objects."""
    inputs, half = data["reward_inputs"], len(latent.mean) // 2
    moves = torch.minimum(*(part.flatten(0, 1).std(0) for part in (inputs[:half], inputs[half:]))) > _STILL
    chosen = [i for i in (range(len(moves)) if objects is None else objects) if moves[i]]
    if not chosen:
        return dict.fromkeys(_OF_POSITIONS)
    inputs = inputs[..., chosen]
    readout = _least_squares(latent.mean[:half].flatten(0, 1), inputs[:half].flatten(0, 1))
    guess = _apply(readout, latent.mean[half:])
    found = _unexplained(guess, inputs[half:]).mean().item()
    return {
        POSITIONS: found,
        "open_loop_r2": _open_loop(model, latent, data, inputs, readout, start, horizon),
    }


def _tensors(model, replay, episodes, own_heads: bool) -> dict[str, torch.Tensor]:
    lengths = replay.lengths()[episodes]
    length = int(np.median(lengths))
    chosen = episodes[lengths >= length]
    read = [replay.read(e) for e in chosen]
    rows = [
        {key: values[:length] for key, values in row.items() if len(values.shape) and key != "head_mask"}
        for row in read
    ]
    stacked = {
        key: torch.from_numpy(np.stack([row[key] for row in rows])).to(model.device)
        for key in ("action", "reward", "reward_present", "reward_inputs")
    }
    stacked["present"] = stacked.pop("reward_present")
    turns = [int(row["task_index"]) for row in read] if own_heads else range(len(read))
    stacked["head"] = torch.tensor([turn % model.heads for turn in turns], device=model.device)
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
    """Mean squared error per column, relative to the target's variance."""
    flat = target.reshape(-1, target.shape[-1])
    error = (guess.reshape(flat.shape) - flat).square().mean(0)
    return error / flat.var(0)


def _open_loop(model, latent, data, inputs, readout, start, horizon) -> float | None:
    actions, half = data["action"], len(latent.mean) // 2
    horizon = min(horizon, actions.shape[1] - start - 1)
    steps = imagine(model, latent[:, start], lambda k, _: actions[:, start + 1 + k], data["head"], horizon)
    guess = _apply(readout, steps[-1].next_latent.sample[half:])
    before, after = inputs[half:, start], inputs[half:, start + horizon]
    moved = (after - before).abs() > MOVED
    if not moved.any():
        return None
    return 1.0 - ((guess - after)[moved].square().sum() / (after - before)[moved].square().sum()).item()


def _one_step_reward(model, latent, actions, head) -> torch.Tensor:
    before, action = latent[:, :-1], actions[:, 1:]
    inputs = model.step_inputs(before.memory, action, one_step(model, before, action, head))
    return model.unscaled(model.reward_head(inputs)[..., 0])


@torch.no_grad()
def draw_strips(
    model, replay, episode: int, folder: Path, start: int = 3, horizon: int = 10, own_heads: bool = False
) -> list[Path]:
    """One PNG per camera: real frames above what the model imagines from step `start` with the logged
    actions.
    """
    from meta_latent.experiment.report.figures import curve_figures  # a cell that draws nothing loads no matplotlib

    data = _tensors(model, replay, np.array([episode]), own_heads)
    start = min(start, data["action"].shape[1] - 2)
    horizon = min(horizon, data["action"].shape[1] - start - 1)
    latent = model.filter(data["embeddings"], data["action"], data["reward"], data["present"] * 0)[:, start]
    steps = imagine(
        model,
        latent,
        lambda k, _: data["action"][:, start + 1 + k],
        data["head"],
        horizon,
    )
    samples = torch.cat([latent.sample, *[step.next_latent.sample for step in steps]])
    decoded, paths = model.decode_float(samples), []
    for camera, images in decoded.items():
        real = np.array(replay.read(episode)[f"image_{camera}"][start : start + horizon + 1])
        imagined = (images.add(0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        paths.append(curve_figures.strips(folder / f"imagined_vs_real_{camera}_{episode}.png", real, imagined))
    return paths
