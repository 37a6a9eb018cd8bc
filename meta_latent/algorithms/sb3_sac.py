"""Stable-Baselines3's soft actor-critic on pixels and proprioception: the model-free baseline that users
know.

The learner is theirs (extra `baselines`), with their replay, updates and global seeding; so a run cannot be
resumed bit for bit. Ours: a convolutional feature extractor for small images (their NatureCNN needs 36
pixels), one episode at a time, the same start states as every other arm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from torch import nn

from meta_latent.errors import UserError
from meta_latent.ranges import count, counts, nonnegative, positive, share, whole
from meta_latent.rng import Streams
from meta_latent.types import Metrics, Step

INSTALL = "pip install meta-latent[baselines]"


@dataclass(frozen=True)
class StableSACConfig:
    """Hyper-parameters, named as ours; `channels`: of the strided convolutions, `features`: per camera."""

    discount: float = share(0.95, below=True)
    learning_rate: float = positive(7e-4, most=10)
    batch_size: int = count(128, most=1_000_000)
    updates_per_step: float = nonnegative(1.0, most=1000)
    target_rate: float = share(0.01, above=True)
    hidden: int = count(128, most=16_384)
    layers: int = whole(2, most=64)
    channels: tuple[int, ...] = counts((16, 32, 32), most=4096)
    features: int = count(64, most=16_384)


def require() -> None:
    """Raise UserError if Stable-Baselines3 is not installed."""
    try:
        import stable_baselines3  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"arms of sb3_sac need stable-baselines3 ({error.name or error}): {INSTALL}"
        ) from error


class SeededEpisodes(gymnasium.Wrapper):
    """Episode k starts from `seed_of(k)`, whatever seed the caller of `reset` has in mind."""

    def __init__(self, env: gymnasium.Env, seed_of: Callable[[int], int]):
        super().__init__(env)
        self.seed_of, self.count = seed_of, 0

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Start the next episode."""
        self.count += 1
        return self.env.reset(seed=self.seed_of(self.count - 1), options=options)


class StableSAC:
    """Their SAC behind our verbs `begin_task`, `act`, `update`; data stay in their replay.

    Args:
        env: with Dict observations of `image_CAMERA` (H, W, 3) uint8 and `proprio`; they transpose the
            channels.
        warmup_steps: uniformly random steps before the first update. budget: steps that their replay holds.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        config: StableSACConfig,
        seed: int,
        warmup_steps: int,
        budget: int,
        device: str = "cpu",
    ):
        require()
        from stable_baselines3 import SAC
        from stable_baselines3.common.logger import Logger

        self.config, self.warmup_steps, self._debt = config, warmup_steps, 0.0
        layers = [config.hidden] * config.layers
        kwargs = {
            "net_arch": layers,
            "features_extractor_class": extractor_class(),
            "features_extractor_kwargs": {"channels": config.channels, "features": config.features},
        }
        self.model = SAC(
            "MultiInputPolicy",
            env,
            learning_rate=config.learning_rate,
            buffer_size=budget,
            learning_starts=warmup_steps,
            batch_size=config.batch_size,
            tau=config.target_rate,
            gamma=config.discount,
            train_freq=(1, "episode"),
            gradient_steps=0,
            policy_kwargs=kwargs,
            seed=seed % 2**32,
            device=device,
        )
        self.model.set_logger(Logger(None, []))

    @property
    def env_steps(self) -> int:
        """Environment steps taken."""
        return self.model.num_timesteps

    @property
    def updates(self) -> int:
        """Gradient steps taken."""
        return self.model._n_updates

    def collect(self) -> int:
        """One episode into their replay; its number of steps."""
        before = self.env_steps
        self.model.learn(1, log_interval=None, reset_num_timesteps=False)
        return self.env_steps - before

    def update(self, steps: int) -> Metrics:
        """Their updates for `steps` new environment steps."""
        self._debt += self.config.updates_per_step * steps
        count = int(self._debt)
        self._debt -= count
        self.model.train(count, self.config.batch_size)
        return {
            k.replace("train/", ""): float(v)
            for k, v in self.model.logger.name_to_value.items()
            if "train/" in k
        }

    def begin_task(self, batch_size: int) -> None:
        """There is nothing to remember."""

    def act(self, step: Step, carry: None, rng: Streams, explore: bool):
        """-> actions (B, A) in [-1, 1]; the mean unless `explore`, which draws from torch's global
        generator.
        """
        observation = {f"image_{camera}": images.numpy() for camera, images in step.images.items()}
        if "proprio" in self.model.observation_space.spaces:
            observation["proprio"] = step.proprio.numpy()
        actions, _ = self.model.predict(observation, deterministic=not explore)
        return torch.from_numpy(np.asarray(actions, np.float32)), carry

    def state(self) -> dict:
        """The policy's weights: enough to act, not to go on learning."""
        return {"policy": self.model.policy.state_dict()}

    def load_state(self, state: dict) -> None:
        """Act as the policy of `state()`."""
        self.model.policy.load_state_dict(state["policy"])


def extractor_class() -> type[nn.Module]:
    """A feature extractor of theirs for images of any size: strided convolutions per camera, beside
    proprioception.
    """
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    class SmallImages(BaseFeaturesExtractor):
        """Dict of (B, 3, H, W) float in [0, 1] and (B, P) -> (B, features per camera + P)."""

        def __init__(self, observation_space, channels: tuple[int, ...], features: int):
            spaces = observation_space.spaces
            cameras = {name: space.shape for name, space in spaces.items() if name.startswith("image_")}
            proprio = int(np.prod(spaces["proprio"].shape)) if "proprio" in spaces else 0
            super().__init__(observation_space, features * len(cameras) + proprio)
            self.cameras = nn.ModuleDict(
                {name: _camera(shape, channels, features) for name, shape in cameras.items()}
            )
            self.proprio = bool(proprio)

        def forward(self, observations):
            """Features of every camera, then proprioception."""
            parts = [net(observations[name]) for name, net in self.cameras.items()]
            return torch.cat([*parts, observations["proprio"]] if self.proprio else parts, 1)

    return SmallImages


def _camera(shape: tuple[int, int, int], channels: tuple[int, ...], features: int) -> nn.Module:
    blocks: list[nn.Module] = []
    for inputs, outputs in zip((shape[0], *channels[:-1]), channels, strict=True):
        blocks += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
    body = nn.Sequential(*blocks, nn.Flatten())
    with torch.no_grad():
        size = body(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(body, nn.Linear(size, features), nn.ReLU())
