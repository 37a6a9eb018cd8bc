"""World models: an update on BATCH sequences of LENGTH pictures, and imagination of ROLLOUTS over HORIZON steps.

Every update begins with uint8 pictures and ends with the optimiser's step.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from meta_latent.experiment.settings import config
from meta_latent.models.config import ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import LearnerConfig, ModelLearner
from meta_latent.ops.imagination import imagine
from meta_latent.rng import seeded_construction
from meta_latent.types import SequenceBatch, Spec


@dataclass
class Sizes:
    """Of what is measured."""

    batch: int = 16
    length: int = 32
    side: int = 64
    actions: int = 5
    rollouts: int = 1000
    horizon: int = 15


SIZES = Sizes()
PARAMETERS: dict[str, int] = {}
"""Contestant -> parameters of its world model, filled in as they are made."""

OURS, CONV, EQUAL = "ours, keypoints_rssm", "ours, conv_rssm", "ours, as many parameters as sheeprl's"
SHEEPRL, TORCHRL = "sheeprl DreamerV3 XS", "TorchRL Dreamer"
AS_LARGE = (
    {"encoder": {"kind": "conv", "channels": [24, 48, 96, 192], "embedding": 256},
     "core": {"kind": "rssm", "memory": 256, "hidden": 256},
     "ensemble": {"heads": 5, "hidden": 640, "layers": 3, "shared_layers": 2}},
)  # fmt: skip
"""The convolutions of sheeprl's XS, a memory as large, and heads that take the rest of its 7.5 million parameters."""

Call = Callable[[], object]


def pictures(*lead: int) -> torch.Tensor:
    """(..., side, side, 3) uint8."""
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (*lead, SIZES.side, SIZES.side, 3), dtype=torch.uint8, generator=rng)


def counted(name: str, module: torch.nn.Module) -> torch.nn.Module:
    """The module, its parameters counted under `name`."""
    PARAMETERS[name] = sum(p.numel() for p in module.parameters())
    return module


# Ours


def sequences(heads: int, proprio: int) -> SequenceBatch:
    """(batch, length) from one episode each."""
    lead, rng = (SIZES.batch, SIZES.length), torch.Generator().manual_seed(1)
    no = torch.zeros(lead, dtype=torch.bool)
    values = {name: torch.randn(*lead, *shape, generator=rng)
              for name, shape in {"proprio": (proprio,), "action": (SIZES.actions,), "reward": ()}.items()}  # fmt: skip
    return SequenceBatch(images={"top": pictures(*lead)}, reward_present=torch.ones(lead), is_first=no, is_last=no,
                         is_terminal=no, is_task_first=no, head_mask=torch.ones(SIZES.batch, heads, dtype=torch.bool),
                         **values)  # fmt: skip


def our_model(name: str) -> LatentStateModel:
    """The preset of this name, or the large one. The others see pictures only, and so does it."""
    preset = {OURS: "keypoints_rssm", CONV: "conv_rssm"}.get(name)
    settings = config.load(ModelConfig, [config.find("model", preset)] if preset else AS_LARGE)
    with seeded_construction(0):
        model = LatentStateModel(Spec({"top": (SIZES.side, SIZES.side, 3)}, 0, SIZES.actions), settings)
    return counted(name, model)


def our_update(name: str) -> Call:
    """`ModelLearner.joint`: encoder, core, five heads, open-loop predictions, decoder, reward head."""
    model = our_model(name)
    learner, rng = ModelLearner(model, LearnerConfig()), torch.Generator().manual_seed(0)
    batch = sequences(model.heads, 0)
    return lambda: learner.joint(batch, rng)


def our_imagination(name: str) -> Call:
    """`ops.imagination.imagine`, each rollout through one of the heads."""
    model, rng = our_model(name), torch.Generator().manual_seed(0)
    head = torch.arange(SIZES.rollouts) % model.heads
    actions = torch.randn(SIZES.horizon, SIZES.rollouts, SIZES.actions, generator=rng)
    start = model.initial(SIZES.rollouts)

    @torch.no_grad()
    def run():
        return imagine(model, start, lambda k, _: actions[k], head, SIZES.horizon, rng)

    return run


# sheeprl


def sheeprl_model():
    """Fabric, its configuration and the world model."""
    import gymnasium
    import hydra
    from lightning.fabric import Fabric
    from omegaconf import OmegaConf
    from sheeprl.algos.dreamer_v3.agent import build_agent
    from sheeprl.utils.utils import dotdict

    chosen = ["exp=dreamer_v3", "algo=dreamer_v3_XS", "env=dummy", f"env.screen_size={SIZES.side}",
              "metric.log_level=0", f"algo.per_rank_batch_size={SIZES.batch}",
              f"algo.per_rank_sequence_length={SIZES.length}"]  # fmt: skip
    with hydra.initialize_config_module("sheeprl.configs", version_base="1.3"):
        settings = hydra.compose("config", overrides=chosen)
    settings = dotdict(OmegaConf.to_container(settings, resolve=True, throw_on_missing=False))
    fabric = Fabric(accelerator="cpu", devices=1)
    seen = gymnasium.spaces.Dict({"rgb": gymnasium.spaces.Box(0, 255, (3, SIZES.side, SIZES.side), np.uint8)})
    model = build_agent(fabric, (SIZES.actions,), True, settings, seen)[0]
    return fabric, settings, counted(SHEEPRL, model)


def sheeprl_update() -> Call:
    """Its `world_model_learning`."""
    import hydra
    from sheeprl.algos.dreamer_v3.dreamer_v3 import world_model_learning
    from sheeprl.utils.metric import MetricAggregator

    MetricAggregator.disabled = True
    fabric, settings, model = sheeprl_model()
    adam = hydra.utils.instantiate(settings.algo.world_model.optimizer, params=model.parameters(), _convert_="all")
    optimiser, lead = fabric.setup_optimizers(adam), (SIZES.length, SIZES.batch)
    images = pictures(*lead).permute(0, 1, 4, 2, 3).contiguous()
    rest = {"actions": torch.randn(*lead, SIZES.actions).clamp(-1, 1), "rewards": torch.randn(*lead, 1),
            "terminated": torch.zeros(*lead, 1), "is_first": torch.zeros(*lead, 1)}  # fmt: skip
    return lambda: world_model_learning(fabric, settings, model, optimiser, {"rgb": images.float(), **rest})


def sheeprl_imagination() -> Call:
    """Its loop of `rssm.imagination`."""
    _, settings, model = sheeprl_model()
    world = settings.algo.world_model
    start = (torch.zeros(1, SIZES.rollouts, world.stochastic_size * world.discrete_size),
             torch.zeros(1, SIZES.rollouts, world.recurrent_model.recurrent_state_size))  # fmt: skip
    actions = torch.randn(SIZES.horizon, 1, SIZES.rollouts, SIZES.actions).clamp(-1, 1)

    @torch.no_grad()
    def run():
        sample, memory = start
        for action in actions:
            sample, memory = model.rssm.imagination(sample, memory, action)
            sample = sample.flatten(-2)

    return run


# TorchRL


def torchrl_parts() -> dict[str, torch.nn.Module]:
    """Encoder, decoder, prior, posterior and reward head, each with its own defaults."""
    from torchrl.data import Bounded
    from torchrl.modules import MLP, ObsDecoder, ObsEncoder, RSSMPosterior, RSSMPrior

    memory, state, channels = 200, 30, 32
    edge = SIZES.side
    for _ in range(4):
        edge = (edge - 4) // 2 + 1
    return {"encoder": ObsEncoder(channels=channels, in_channels=3),
            "decoder": ObsDecoder(channels=channels, latent_dim=state + memory, out_channels=3),
            "prior": RSSMPrior(Bounded(-1, 1, (SIZES.actions,)), hidden_dim=memory, rnn_hidden_dim=memory,
                               state_dim=state, action_dim=SIZES.actions),
            "posterior": RSSMPosterior(hidden_dim=memory, state_dim=state, rnn_hidden_dim=memory,
                                       obs_embed_dim=8 * channels * edge * edge),
            "reward": MLP(in_features=state + memory, out_features=1, depth=2, num_cells=200)}  # fmt: skip


def torchrl_update() -> Call:
    """Its `DreamerModelLoss` on a world model of its modules, as its Dreamer puts them together."""
    from tensordict import TensorDict
    from tensordict.nn import ProbabilisticTensorDictModule as Draw
    from tensordict.nn import ProbabilisticTensorDictSequential as DrawnSequential
    from tensordict.nn import TensorDictModule as Module
    from tensordict.nn import TensorDictSequential as Sequential
    from torchrl.modules import RSSMRollout, WorldModelWrapper
    from torchrl.modules.distributions.continuous import IndependentNormal
    from torchrl.objectives import DreamerModelLoss

    parts, ahead = torchrl_parts(), [("next", "state"), ("next", "belief")]
    prior = Module(parts["prior"], in_keys=["state", "belief", "action"],
                   out_keys=[("next", "prior_mean"), ("next", "prior_std"), "_", ("next", "belief")])  # fmt: skip
    posterior = Module(parts["posterior"], in_keys=[("next", "belief"), ("next", "encoded_latents")],
                       out_keys=[("next", "posterior_mean"), ("next", "posterior_std"), ("next", "state")])  # fmt: skip

    def drawn(module, mean, out, dims):
        return DrawnSequential(Module(module, in_keys=ahead, out_keys=[mean]),
                               Draw(in_keys={"loc": mean}, out_keys=[out], distribution_class=IndependentNormal,
                                    distribution_kwargs={"scale": 1.0, "event_dim": dims}))  # fmt: skip

    encoder = Module(parts["encoder"], in_keys=[("next", "pixels")], out_keys=[("next", "encoded_latents")])
    decoder = drawn(parts["decoder"], "loc", ("next", "reco_pixels"), 3)
    reward_head = drawn(parts["reward"], ("next", "loc"), ("next", "reward"), 1)
    observed = Sequential(encoder, RSSMRollout(prior, posterior), decoder)
    model = counted(TORCHRL, WorldModelWrapper(observed, reward_head))
    loss, lead = DreamerModelLoss(model), (SIZES.batch, SIZES.length)
    adam = torch.optim.Adam(model.parameters(), 6e-4, fused=True)
    images = pictures(*lead).permute(0, 1, 4, 2, 3).contiguous()
    rest = {"state": torch.zeros(*lead, 30), "belief": torch.zeros(*lead, 200),
            "action": torch.randn(*lead, SIZES.actions).clamp(-1, 1)}  # fmt: skip
    reward = torch.randn(*lead, 1)

    def run():
        following = {"pixels": images.float() / 255 - 0.5, "reward": reward}
        terms, _ = loss(TensorDict({**rest, "next": TensorDict(following, lead)}, lead))
        adam.zero_grad(set_to_none=True)
        sum(value.sum() for value in terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        adam.step()

    return run


def torchrl_imagination() -> Call:
    """A loop of its `RSSMPrior`."""
    prior = torchrl_parts()["prior"]
    actions = torch.randn(SIZES.horizon, SIZES.rollouts, SIZES.actions).clamp(-1, 1)

    @torch.no_grad()
    def run():
        state, belief = torch.zeros(SIZES.rollouts, 30), torch.zeros(SIZES.rollouts, 200)
        for action in actions:
            _, _, state, belief = prior(state, belief, action)

    return run


def updates() -> dict[str, Call]:
    """An update of each model."""
    peers = {SHEEPRL: sheeprl_update, TORCHRL: torchrl_update}
    return {name: our_update(name) for name in (OURS, CONV, EQUAL)} | made(peers)


def imaginations() -> dict[str, Call]:
    """Rollouts of each model."""
    peers = {SHEEPRL: sheeprl_imagination, TORCHRL: torchrl_imagination}
    return {name: our_imagination(name) for name in (OURS, EQUAL)} | made(peers)


def made(peers: dict[str, Callable[[], Call]]) -> dict[str, Call]:
    """Those whose package, the first word of their name, is installed."""
    return {name: make() for name, make in peers.items() if importlib.util.find_spec(name.split()[0].lower())}
