"""RL^2: a recurrent policy that learns to learn, whose memory lasts a trial of several episodes of one task.

Duan et al. 2016 (arXiv 1611.02779) and Wang et al. 2016 (arXiv 1611.05763). A gated recurrent network reads
observation, previous action, previous reward and whether an episode begins; its memory is reset at a trial's start
alone, so that what an episode found out serves the next ones. Trained on-policy with the clipped surrogate of PPO
(Schulman et al. 2017, arXiv 1707.06347), gradients through whole trials.

Returns run over the whole trial: an episode that ends inside of it, by a time limit or for good, cuts nothing, since
exploring pays in later episodes; a trial's end is an end, nothing is bootstrapped there. Deviations: PPO where Duan
et al. took TRPO and Wang et al. A3C; the policy reads the embedding beside the memory; a flag says whether a reward
is shown; an episode's last observation is read too, its action ignored, so that the last reward is not lost; what
the network reads is scaled by the first round's deviations (that round was played without); values are learned
standardised by a running mean and deviation of returns (Yu et al. 2022, arXiv 2103.01955); the entropy bonus is
that of the squashed policy, from one sample.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import nn

from meta_latent.algorithms.registry import Algorithm, Setting
from meta_latent.errors import UserError
from meta_latent.models.observations import ObservationEncoder
from meta_latent.nets import MLP, Standardiser
from meta_latent.ops.advantages import generalised_advantages
from meta_latent.ops.policy_gradient import clipped_surrogate
from meta_latent.policies.actors import GaussianActor
from meta_latent.policies.base_agent import BaseAgent
from meta_latent.policies.optimised import Optimised
from meta_latent.ranges import count, counts, nonnegative, positive, share, whole
from meta_latent.rng import Streams
from meta_latent.types import Averages, Metrics, SequenceBatch, Spec, Step


@dataclass(frozen=True)
class RL2Config:
    """Hyper-parameters.

    Attributes:
        steps_per_round: environment steps between updates, learned from once. epochs: passes over them.
        minibatches: parts of whole trials that a pass is made in. discount: of later rewards, per step.
        mix: lambda of GAE. clip: how far the ratio of new and old probabilities counts.
        value_weight: of the values' error. entropy_weight: of the entropy bonus.
        return_rate: how fast the mean and deviation of returns follow.
        channels: feature maps of each convolution, () for one linear map. embedding: values per camera.
        memory: units of the recurrent network. hidden: width of actor and value. layers: their hidden layers.
        learning_rate: of everything. gradient_clip: largest norm of a gradient.
    """

    steps_per_round: int = count(2000)
    epochs: int = count(8, most=1000)
    minibatches: int = count(4, most=10_000)
    discount: float = share(0.95)
    mix: float = share(0.9)
    clip: float = positive(0.2, most=100)
    value_weight: float = nonnegative(0.5, most=1000)
    entropy_weight: float = nonnegative(0.01, most=1000)
    return_rate: float = share(0.1, above=True)
    channels: tuple[int, ...] = counts((16, 32), most=4096, may_be_empty=True)
    embedding: int = count(32, most=16_384)
    memory: int = count(96, most=16_384)
    hidden: int = count(96, most=16_384)
    layers: int = whole(1, most=64)
    learning_rate: float = positive(1e-3, most=10)
    gradient_clip: float = positive(0.5, most=1e9)


class RecurrentPolicy(nn.Module):
    """Encoder, memory, actor and value. `scale` is the deviation of returns in which values are counted."""

    def __init__(self, config: RL2Config, spec: Spec):
        super().__init__()
        self.encoder = ObservationEncoder(spec, config.channels, config.embedding)
        self.rewards, size = Standardiser(1), self.encoder.size + config.memory
        self.memory = nn.GRU(self.encoder.size + spec.action_size + 3, config.memory, batch_first=True)
        self.actor = GaussianActor(size, spec.action_size, config.hidden, config.layers)
        self.value = MLP(size, 1, config.hidden, config.layers, output_scale=0.1)
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, step: Step, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Steps (B, T) of trials and the memory (B, M) before them -> features (B, T, F) and the memory after."""
        seen = self.encoder(step)
        reward = self.rewards(step.reward[..., None]) * step.reward_present[..., None]
        flags = torch.stack([step.reward_present, step.is_first.float()], -1)
        read = torch.cat([seen, step.action, reward, flags], -1)
        remembered, last = self.memory(read, memory[None].contiguous())
        return torch.cat([seen, remembered], -1), last[0]

    def values(self, features: torch.Tensor) -> torch.Tensor:
        """Standardised returns (...,) that are expected."""
        return self.value(features)[..., 0]

    def calibrate(self, trials: SequenceBatch) -> None:
        """Scale what is read, observations and rewards, by what these trials hold."""
        self.encoder.calibrate(trials, trials.valid)
        self.rewards.fit(trials.reward[trials.reward_present > 0][:, None])

    @torch.no_grad()
    def follow(self, returns: torch.Tensor, rate: float) -> None:
        """Move offset and scale towards mean and deviation of `returns` (n,), all the way with rate 1."""
        self.offset.lerp_(returns.mean(), rate)
        self.scale.lerp_(returns.std(correction=0).clamp_min(1e-3), rate)


@dataclass(frozen=True)
class Round:
    """What one round is learned from; n trials of T steps, `decided` (n, T) where an action was taken.

    action, log_prob, advantage, target (of values): of these steps, zeros elsewhere; the last two standardised.
    """

    trials: SequenceBatch
    decided: torch.Tensor
    action: torch.Tensor
    log_prob: torch.Tensor
    advantage: torch.Tensor
    target: torch.Tensor

    def rows(self, index: torch.Tensor) -> Round:
        """The trials at these places."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        trials = own.pop("trials")
        chosen = {f.name: _rows(getattr(trials, f.name), index) for f in fields(trials)}
        return Round(SequenceBatch(**chosen), **{name: value[index] for name, value in own.items()})


class RL2(BaseAgent):
    """See the module's docstring. Build inside `rng.seeded_construction`."""

    def __init__(self, config: RL2Config, setting: Setting):
        self.config, self.device, self.episodes = config, setting.device, setting.episodes_per_trial
        self.policy = RecurrentPolicy(config, setting.spec)
        self.learned = Optimised("rl2", {"policy": self.policy}, {"policy": config.learning_rate}, setting.device)
        self.seen = 0

    # Acting

    def begin_task(self, batch_size: int) -> torch.Tensor:
        """The empty memory (B, M) with which a trial begins."""
        return torch.zeros(batch_size, self.config.memory, device=self.device)

    @torch.no_grad()
    def act(self, step: Step, carry: torch.Tensor, rng: Streams, explore: bool):
        """Remember one step, then act: -> action (B, A) in [-1, 1], drawn with `explore`, else the mean."""
        features, carry = self.policy(_timed(step.to(self.device)), carry)
        if explore:
            return self.policy.actor.sample(features[:, 0], rng.torch("explore"))[0].cpu(), carry
        return self.policy.actor.mean_action(features[:, 0]).cpu(), carry

    # Learning

    def wants(self) -> int:
        """`steps_per_round` environment steps of this very policy before the next update."""
        return self.config.steps_per_round

    def update(self, replay, rng: Streams) -> Metrics:
        """Learn from the trials that arrived since the last call, each once; all epochs in one call."""
        fresh, arrived = replay.view(since=self.seen), replay.added - self.seen
        if len(fresh.episodes) < arrived:
            raise UserError(f"of the {arrived} episodes of this round the replay kept {len(fresh.episodes)}: raise "
                            "transfer.replay.capacity to several times algorithms.rl2.steps_per_round="
                            f"{self.config.steps_per_round}")  # fmt: skip
        self.seen = replay.added
        trials = fresh.trials(None, self.episodes).to(self.device)
        if not self.updates:  # the policy that acted knew no scales, and hardly looked
            self.policy.calibrate(trials)
        played, metrics = self.prepare(trials), Averages()
        count = len(played.decided)
        for _ in range(self.config.epochs):
            order = torch.randperm(count, generator=rng.torch("update")).to(self.device)
            for rows in order.chunk(self.config.minibatches):
                metrics.add(self.surrogate_update(played.rows(rows), rng))
                self.updates += 1
        return metrics.means()

    @torch.no_grad()
    def prepare(self, trials: SequenceBatch) -> Round:
        """Advantages, and what the policy that acted says of its actions."""
        features, _ = self.policy(trials, self.begin_task(len(trials.reward)))
        decided = trials.valid & ~trials.is_last
        action = trials.action.roll(-1, 1) * decided[..., None]
        log_prob = self.policy.actor.log_prob(features, action) * decided
        values = (self.policy.values(features) * self.policy.scale + self.policy.offset) * decided
        advantage = trial_advantages(trials.reward.roll(-1, 1), values, decided, self.config.discount,
                                     self.config.mix)  # fmt: skip
        returns = advantage + values
        self.policy.follow(returns[decided], self.config.return_rate if self.updates else 1.0)
        target = (returns - self.policy.offset) / self.policy.scale * decided
        spread = advantage[decided].std(correction=0).clamp_min(1e-6)
        advantage = (advantage - advantage[decided].mean()) / spread * decided
        return Round(trials, decided, action, log_prob, advantage, target)

    def surrogate_update(self, played: Round, rng: Streams) -> Metrics:
        """One step on the clipped surrogate, the values' error and the entropy bonus."""
        config, mask = self.config, played.decided
        features, _ = self.policy(played.trials, self.begin_task(len(mask)))
        features = features[mask]
        log_prob, old = self.policy.actor.log_prob(features, played.action[mask]), played.log_prob[mask]
        gain = clipped_surrogate(log_prob[None], old[None], played.advantage[mask][None], config.clip)[0]
        error = (self.policy.values(features) - played.target[mask]).square().mean()
        entropy = -self.policy.actor.sample(features, rng.torch("update"))[1].mean()
        loss = -gain + config.value_weight * error - config.entropy_weight * entropy
        self.learned.step("policy", loss, config.gradient_clip)
        moved = (log_prob - old).detach()
        return {"surrogate": float(gain.detach()), "value_error": float(error.detach()),
                "entropy": float(entropy.detach()), "divergence": float((moved.exp() - 1 - moved).mean()),
                "clipped": float(((moved.exp() - 1).abs() > config.clip).float().mean())}  # fmt: skip

    # Saving

    def state(self) -> dict:
        """Everything that a bit-equal continuation needs; `seen` episodes are not learned from again."""
        return super().state() | self.learned.state() | {"seen": self.seen}

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        super().load_state(state)
        self.learned.load_state(state)
        self.seen = int(state["seen"])


def trial_advantages(
    rewards: torch.Tensor, values: torch.Tensor, decided: torch.Tensor, discount: float, mix: float
) -> torch.Tensor:
    """GAE (n, T) over the steps of trials that are `decided` (n, T), as if there were no others; zeros elsewhere.

    The step before an episode's last observation is followed by the next episode's first one; after a trial's last
    step comes nothing.
    """
    order = decided.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    kept = decided.gather(1, order)
    padded = nn.functional.pad(values.gather(1, order) * kept, (0, 1))
    found = generalised_advantages(rewards.gather(1, order) * kept, padded, discount, mix) * kept
    return torch.zeros_like(found).scatter(1, order, found)


def _timed(step: Step) -> Step:
    """One instant (B, ...) as sequences (B, 1, ...)."""
    values = {f.name: getattr(step, f.name) for f in fields(step)}
    return Step(**{name: {c: x[:, None] for c, x in value.items()} if isinstance(value, dict)
                   else None if value is None else value[:, None] for name, value in values.items()})  # fmt: skip


def _rows(value, index: torch.Tensor):
    """A field of a batch at these rows."""
    if isinstance(value, dict):
        return {camera: images[index] for camera, images in value.items()}
    return None if value is None else value[index]


ALGORITHM = Algorithm(
    config=RL2Config,
    build=RL2,
    metrics={
        "surrogate": "clipped objective of the policy, in standardised advantages",
        "value_error": "squared error of standardised values",
        "entropy": "entropy of the policy, in nats",
        "divergence": "how far a round moved the policy (KL from the one that acted, in nats)",
        "clipped": "share of steps whose probability moved beyond the clip",
    },
    sees=frozenset({"reward"}),
    warmup=False,
)
