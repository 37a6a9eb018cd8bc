"""Pretrain a small latent state model, then look at what it imagines: real frames above imagined ones.

The model sees the first frames of an episode it never trained on; after that it only knows the actions.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import meta_latent
import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, play_episode
from meta_latent.rng import Streams

SEEN, IMAGINED = 4, 8
TABLETOP = {
    "name": "world_model",
    "suite": {"image_size": 32, "cameras": ["top"]},
    "model": "keypoints_rssm",
    "pretrain": {"sources": [{"suite": "tabletop/push"}], "env_steps": 8000, "joint_updates": 500,
                 "filter_updates": 200, "transition_updates": 1000},
}  # fmt: skip
TOY = TABLETOP | {
    "suite": {"image_size": 32},
    "pretrain": TABLETOP["pretrain"] | {"sources": [{"suite": "toy/lqr"}]},
}
QUICK = ("pretrain.env_steps=500", "pretrain.joint_updates=5", "pretrain.filter_updates=5",
         "pretrain.transition_updates=5")  # fmt: skip


def strip(model, episode: dict[str, np.ndarray], camera: str) -> np.ndarray:
    """Frames SEEN - 1, SEEN, ... of the episode above those that the model imagines, uint8 (2 H, W * n,
    3).
    """
    seen = model.encode({key: values[:SEEN] for key, values in episode.items()})[SEEN - 1 :]
    actions = torch.as_tensor(episode["action"][SEEN : SEEN + IMAGINED])[None]
    imagined = model.imagine(seen, actions)[0]
    frames = [*model.decode(seen)[camera].numpy(), *model.decode(imagined)[camera].numpy()]
    real = episode[f"image_{camera}"][SEEN - 1 : SEEN + IMAGINED]
    return np.concatenate([np.concatenate(list(row), 1) for row in (real, frames)], 0)


def main() -> None:
    """Train, collect one more episode, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds, with --toy: only to see that it runs")
    parser.add_argument("--toy", action="store_true", help="a moving dot, not blocks on a table (MuJoCo)")
    parser.add_argument("--out", default="runs", help="folder of all runs")
    arguments = parser.parse_args()
    values = TOY if arguments.toy or arguments.quick else TABLETOP
    config = meta_latent.configure(values, f"out={arguments.out}", *(QUICK if arguments.quick else ()))
    model = meta_latent.load(meta_latent.pretrain(config))

    source = config.pretrain.sources[0]
    suite = task_suites.get(source.suite, **config.suite)
    rows = suite.make_vector(suite.sample("train", 1, seed=0))
    noise = Noise(suite.action_space.shape[0], NoiseConfig(persistences=(0.9,)))
    episode = play_episode(rows, noise, seed=123, rng=Streams(1))
    rows.close()
    camera = next(iter(model.spec.images))
    path = Path(arguments.out) / config.name / "open_loop.png"
    picture = strip(model, episode, camera)
    Image.fromarray(picture.repeat(4, 0).repeat(4, 1)).save(path)
    print(f"{path}: above what happened, below what the model imagined from the first picture on")


if __name__ == "__main__":
    main()
