"""Stable-Baselines3's soft actor-critic on pixels and proprioception: the model-free baseline that users know.

The learner is theirs (extra `baselines`): networks, replay buffer and updates. Ours: a convolutional feature
extractor for small images (their NatureCNN needs 36 pixels), and the same loop, episodes and evaluations as every
other arm. They draw from global generators; ours seed those from a named stream around each call and put them back
(`rng.seeded_globals`), so that a run can be resumed bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from torch import nn

from meta_latent.algorithms.registry import Algorithm, Setting
from meta_latent.nets import pack_optimiser, unpack_optimiser
from meta_latent.policies.base_agent import BaseAgent
from meta_latent.ranges import count, counts, nonnegative, positive, share, whole
from meta_latent.rng import Streams, seeded_globals
from meta_latent.types import Metrics, Spec, Step


@dataclass(frozen=True)
class StableSACConfig:
    """Hyper-parameters, named as ours.

    Attributes:
        discount: of later rewards, per step. learning_rate: of all networks. batch_size: transitions per update.
        updates_per_step: updates per environment step. target_rate: how fast the target critics follow.
        hidden: width of critics and policy. layers: their hidden layers.
        channels: feature maps of each strided convolution. features: values per camera.
    """

    discount: float = share(0.95)
    learning_rate: float = positive(7e-4, most=10)
    batch_size: int = count(128, least=2, most=1_000_000)
    updates_per_step: float = nonnegative(1.0, most=1000)
    target_rate: float = share(0.01, above=True)
    hidden: int = count(128, most=16_384)
    layers: int = whole(2, most=64)
    channels: tuple[int, ...] = counts((16, 32, 32), most=4096)
    features: int = count(64, most=16_384)


class StableSAC(BaseAgent):
    """Their SAC as an agent of ours: `act` is their policy, `update` fills their buffer and calls their `train`."""

    def __init__(self, config: StableSACConfig, setting: Setting):
        from stable_baselines3 import SAC
        from stable_baselines3.common.logger import Logger

        self.config, self.debt, self.seen, self.filled, self.evicted = config, 0.0, 0, 0, 0
        extractor = {"channels": config.channels, "features": config.features}
        self.model = SAC(
            "MultiInputPolicy",
            _Spaces(setting.spec),
            learning_rate=config.learning_rate,
            buffer_size=setting.budget + 2 * setting.max_episode_steps,
            batch_size=config.batch_size,
            tau=config.target_rate,
            gamma=config.discount,
            policy_kwargs={
                "net_arch": [config.hidden] * config.layers,
                "features_extractor_class": extractor_class(),
                "features_extractor_kwargs": extractor,
            },
            device=setting.device,
        )
        self.model.set_logger(Logger(None, []))

    @property
    def updates(self) -> int:
        """Gradient steps taken."""
        return self.model._n_updates

    # Acting

    def act(self, step: Step, carry: None, rng: Streams, explore: bool):
        """-> actions (B, A) in [-1, 1]; the mean unless `explore`."""
        observation = {f"image_{camera}": images.numpy() for camera, images in step.images.items()}
        if "proprio" in self.model.observation_space.spaces:
            observation["proprio"] = step.proprio.numpy()
        with seeded_globals(rng.torch("explore")) if explore else torch.no_grad():
            actions, _ = self.model.predict(observation, deterministic=not explore)
        return torch.from_numpy(np.asarray(actions, np.float32)), carry

    # Learning

    def update(self, replay, rng: Streams) -> Metrics:
        """Their updates for the steps that arrived since the last call."""
        self.debt += self.config.updates_per_step * self._fill(replay)
        due = int(self.debt)
        self.debt -= due
        if not due:
            return {}
        with seeded_globals(rng.torch("update")):
            self.model.train(due, self.config.batch_size)
        logged = {k.removeprefix("train/"): float(v) for k, v in self.model.logger.name_to_value.items()}
        return {name: logged[name] for name in METRICS if name in logged}

    def _fill(self, replay) -> int:
        """Add to their buffer what it lacks; how many of these steps no update was due for yet.

        Once the replay has forgotten episodes, theirs is made anew of what is left, as after a resume.
        """
        if replay.evicted != self.evicted:
            self.model.replay_buffer.reset()
            self.filled, self.evicted = 0, replay.evicted
        steps, fresh = 0, replay.view(since=self.filled)
        for index in range(len(fresh.episodes)):
            added = self._add(fresh.read(index))
            steps += added if replay.added - len(fresh.episodes) + index >= self.seen else 0
        self.seen = self.filled = replay.added
        return steps

    def _add(self, episode: dict[str, np.ndarray]) -> int:
        observations = {name: episode[name] for name in self.model.observation_space.spaces}
        for name in observations:
            if name.startswith("image_"):
                observations[name] = observations[name].transpose(0, 3, 1, 2)
        steps = len(episode["reward"]) - 1
        for t in range(steps):
            before, after = ({name: x[i][None] for name, x in observations.items()} for i in (t, t + 1))
            # They learn through a time limit where they are told of it.
            cut = bool(episode["is_last"][t + 1] and not episode["is_terminal"][t + 1])
            self.model.replay_buffer.add(
                before,
                after,
                episode["action"][t + 1][None],
                episode["reward"][t + 1][None],
                episode["is_last"][t + 1][None],
                [{"TimeLimit.truncated": cut}],
            )
        return steps

    # Saving

    def state(self) -> dict:
        """Networks and optimisers; their buffer is filled again from the replay."""
        return {
            "policy": self.model.policy.state_dict(),
            "optimisers": {name: pack_optimiser(o) for name, o in self._optimisers().items()},
            "log_temperature": self.model.log_ent_coef.detach().clone(),
            "updates": self.model._n_updates,
            "debt": self.debt,
            "seen": self.seen,
        }

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        self.model.policy.load_state_dict(state["policy"])
        for name, optimiser in self._optimisers().items():
            unpack_optimiser(optimiser, state["optimisers"][name])
        with torch.no_grad():
            self.model.log_ent_coef.copy_(state["log_temperature"])
        self.model._n_updates, self.debt = int(state["updates"]), float(state["debt"])
        self.seen, self.filled = int(state["seen"]), 0
        self.model.replay_buffer.reset()

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        policy = self.model.policy
        return {
            "actor": policy.actor.optimizer,
            "critic": policy.critic.optimizer,
            "temperature": self.model.ent_coef_optimizer,
        }


METRICS = {
    "critic_loss": "squared error of the critics",
    "actor_loss": "what the policy minimises: weighted negative entropy minus the lower critic",
    "ent_coef": "weight of the entropy bonus",
    "ent_coef_loss": "what the weight minimises",
}


class _Spaces(gymnasium.Env):
    """An environment that is nothing but its spaces: all that their constructor asks for."""

    def __init__(self, spec: Spec):
        box = gymnasium.spaces.Box
        found = {f"image_{camera}": box(0, 255, shape, np.uint8) for camera, shape in spec.images.items()}
        if spec.proprio:
            found["proprio"] = box(-np.inf, np.inf, (spec.proprio,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(found)
        self.action_space = box(-1.0, 1.0, (spec.action_size,), np.float32)


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
            self.cameras = nn.ModuleDict({name: _camera(shape, channels, features) for name, shape in cameras.items()})
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


ALGORITHM = Algorithm(
    config=StableSACConfig, build=StableSAC, metrics=METRICS, extra=("baselines", "stable_baselines3")
)
