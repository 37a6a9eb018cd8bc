"""Sampling BATCH windows of LENGTH uint8 pictures from a full replay in memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.types import Spec


@dataclass
class Sizes:
    """Of what is measured; episodes of `episode` frames."""

    batch: int = 16
    length: int = 50
    side: int = 64
    frames: int = 20_000
    episode: int = 500
    actions: int = 5


SIZES = Sizes()
Call = Callable[[], object]


def episodes() -> Iterator[dict[str, np.ndarray]]:
    """Arrays with leading `episode`, pictures (H, W, 3)."""
    rng, n = np.random.default_rng(0), SIZES.episode
    images = rng.integers(0, 256, (n, SIZES.side, SIZES.side, 3), np.uint8)
    for _ in range(SIZES.frames // n):
        yield {"image": images, "action": rng.random((n, SIZES.actions), np.float32),
               "reward": rng.random(n, np.float32), "first": np.arange(n) == 0}  # fmt: skip


def ours() -> Call:
    """`SequenceReplay.sequences`: windows within one episode, uniform over all of them."""
    replay = SequenceReplay(Spec({"top": (SIZES.side, SIZES.side, 3)}, 0, SIZES.actions, 0), ReplayConfig())
    for one in episodes():
        no, n = np.zeros(SIZES.episode, bool), SIZES.episode
        replay.add_episode({"image_top": one["image"], "proprio": np.zeros((n, 0)), "action": one["action"],
                            "reward": one["reward"], "reward_present": ~one["first"], "reward_inputs": np.zeros((n, 0)),
                            "is_first": one["first"], "is_last": one["first"][::-1], "is_terminal": no,
                            "is_task_first": one["first"]})  # fmt: skip
    rng = np.random.default_rng(1)
    return lambda: replay.sequences(SIZES.batch, SIZES.length, rng)


def copied() -> Call:
    """NumPy's copy of the pictures alone, from any frame on."""
    frames, rng = np.concatenate([one["image"] for one in episodes()]), np.random.default_rng(1)
    within = np.arange(SIZES.length)
    return lambda: frames[rng.integers(len(frames) - SIZES.length, size=SIZES.batch)[:, None] + within]


def sheeprl() -> Call:
    """Its `SequentialReplayBuffer`, which does not know episodes."""
    from sheeprl.data.buffers import SequentialReplayBuffer

    buffer = SequentialReplayBuffer(SIZES.frames, obs_keys=("rgb",), seed=1)
    for one in episodes():
        images = one["image"].transpose(0, 3, 1, 2)
        rows = {"rgb": images, "actions": one["action"], "rewards": one["reward"][:, None],
                "is_first": one["first"][:, None], "terminated": np.zeros((SIZES.episode, 1))}  # fmt: skip
        buffer.add({name: value[:, None] for name, value in rows.items()})
    return lambda: buffer.sample_tensors(SIZES.batch, sequence_length=SIZES.length)


def torchrl() -> Call:
    """Its `TensorDictReplayBuffer` in memory with a `SliceSampler`."""
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer

    sampler = SliceSampler(slice_len=SIZES.length, traj_key="episode", cache_values=True)
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(SIZES.frames), sampler=sampler,
                                    batch_size=SIZES.batch * SIZES.length)  # fmt: skip
    for number, one in enumerate(episodes()):
        n = SIZES.episode
        rows = {"pixels": torch.from_numpy(one["image"]).permute(0, 3, 1, 2), "action": torch.from_numpy(one["action"]),
                "reward": torch.from_numpy(one["reward"]), "is_first": torch.from_numpy(one["first"]),
                "episode": torch.full((n,), number)}  # fmt: skip
        buffer.extend(TensorDict(rows, [n]))
    return buffer.sample


def stable_baselines3() -> Call:
    """As many pictures from its `ReplayBuffer`, which has no sequences: transitions, two pictures each."""
    import gymnasium
    from stable_baselines3.common.buffers import ReplayBuffer

    seen = gymnasium.spaces.Box(0, 255, (3, SIZES.side, SIZES.side), np.uint8)
    buffer = ReplayBuffer(SIZES.frames // 2, seen, gymnasium.spaces.Box(-1, 1, (SIZES.actions,)), device="cpu")
    for _, one in zip(range(SIZES.frames // SIZES.episode // 2), episodes(), strict=False):
        images = one["image"].transpose(0, 3, 1, 2)
        for t in range(SIZES.episode):
            buffer.add(images[t], images[t], one["action"][t], one["reward"][t : t + 1], one["first"][t : t + 1], [{}])
    return lambda: buffer.sample(SIZES.batch * SIZES.length // 2)


def samplers() -> dict[str, Call]:
    """What samples, by library."""
    peers = {"sheeprl": sheeprl, "torchrl": torchrl, "stable_baselines3": stable_baselines3}
    found = {name: make() for name, make in peers.items() if importlib.util.find_spec(name)}
    return {"ours": ours(), "NumPy's copy alone": copied(), **found}
