"""Typed configuration of the latent state model; sizes that follow from the spec are not repeated here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from meta_latent.models.parts import encoder_names
from meta_latent.ranges import count, counts, nonnegative, one_of, positive, share, whole


@dataclass(frozen=True)
class EncoderConfig:
    """How one camera image becomes an embedding.

    Attributes:
        kind: "keypoints" (convolutions, spatial softmax, expected coordinates + presence), "conv" (strided), or one
            that was registered (`meta_latent.register_encoder`).
        channels: feature maps of each convolution; the first has stride 2 (keypoints), all have stride 2
            (conv).
        keypoints: points per camera (keypoints only).
        embedding: size of the embedding per camera (conv only).
        body_point: add a point whose position is linear in proprioception, the agent's own hand (keypoints
            only).
        context: numbers per camera that describe the background (keypoints only).
        scale: coordinates in [-1, 1] are multiplied by this, so that a movement is a visible change.
        pictured: training starts from pictures like those seen: the background is what most of them show, blobs have
            the colour of what differs from it, and keypoints lie on it (keypoints only). For small pictures in which
            one thing moves.
        standardise: after the first joint updates (a pretraining's, or an adaptation's `first_joint`; never where
            there are none) the embedding gets mean 0 and stddev 1 (conv only), on which the core learns faster. Not
            before: gradients into new weights would be as many times larger.
    """

    kind: str = one_of(encoder_names, "keypoints")
    channels: tuple[int, ...] = counts((16, 16), most=4096)
    keypoints: int = count(8, most=256)
    body_point: bool = True
    embedding: int = count(32, most=16_384)
    context: int = whole(0, most=16_384)
    scale: float = positive(3.0, most=1000)
    standardise: bool = False
    pictured: bool = False


@dataclass(frozen=True)
class CoreConfig:
    """What the model remembers beside the embedding.

    Attributes:
        kind: "rssm" (GRU + Gaussian), "deterministic" (GRU, no noise; IVG) or "sequential" (two layers of Gaussians;
            SLAC, MELD).
        memory: units of the GRU (sequential: size of z2). hidden: width of the posterior's network (sequential: and
            of z2's). min_stddev: floor of every stddev.
    """

    kind: Literal["rssm", "deterministic", "sequential"] = "rssm"
    memory: int = count(64, most=16_384)
    hidden: int = count(64, most=16_384)
    min_stddev: float = positive(0.03, most=100)


@dataclass(frozen=True)
class EnsembleConfig:
    """Transition heads.

    Attributes:
        heads: K, how many. hidden: width of each. layers: hidden layers. shared_layers: how many of these, the first
            ones, are common to all heads.
    """

    heads: int = count(5, most=32)
    hidden: int = count(256, most=16_384)
    layers: int = whole(2, most=64)
    shared_layers: int = whole(0, most=64)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the named loss terms and the lengths of open-loop predictions.

    Attributes:
        image, embedding, divergence, open_loop, task_reward, reward, continuation, counterfactual: weights (0
            leaves a term out).
        pixel_contrast: a pixel's weight is 1 + this * (pixel - its mean over the batch)^2.
        divergence_balance: share of the divergence's gradient that goes to the prior (Dreamer v2's KL
            balancing).
        free_nats: no divergence gradient below this many nats per step (not deterministic).
        embedding_stddev: stddev of p(embedding | sample) (not deterministic).
        open_loop_steps: steps of open-loop prediction. decoded_steps: how many of them are decoded to images.
        counterfactual_frames: other frames of the same sequence whose rewards every memory predicts.
    """

    image: float = nonnegative(100.0)
    pixel_contrast: float = nonnegative(20.0)
    embedding: float = nonnegative(1.0)
    divergence: float = nonnegative(0.1)
    divergence_balance: float = share(0.8)
    free_nats: float = nonnegative(1.0)
    embedding_stddev: float = positive(0.2, most=1000)
    open_loop: float = nonnegative(1.0)
    open_loop_steps: int = count(5, most=1000)
    decoded_steps: int = count(2, most=1000)
    task_reward: float = nonnegative(1.0)
    reward: float = nonnegative(5.0)
    continuation: float = nonnegative(1.0)
    counterfactual: float = nonnegative(0.0)
    counterfactual_frames: int = count(4, most=1000)


@dataclass(frozen=True)
class ModelConfig:
    """The latent state model.

    Attributes:
        reward_input, reward_dropout: whether rewards may be an input, and the share of training sequences
            whose reward input is hidden.
        head_hidden: width of the heads that predict rewards and ends. head_layers: hidden layers of those that predict
            rewards; the one that predicts ends has a single one.
        continuation: also predict whether episodes go on.
        normalise_proprio: proprioception enters the latent with mean 0 and stddev 1, fitted before the first
            update. Losses and noise count every value of the latent alike: without it a hand's centimetres
            drown beside a joint's radians per second.
        normalise_rewards: rewards are read and predicted with mean 0 and stddev 1, fitted likewise.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    core: CoreConfig = field(default_factory=CoreConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    reward_input: bool = True
    reward_dropout: float = share(0.5)
    head_hidden: int = count(128, most=16_384)
    head_layers: int = whole(2, most=64)
    continuation: bool = False
    normalise_proprio: bool = False
    normalise_rewards: bool = False
