"""PEARL: infer the task from single transitions, whatever their order, and act as if a draw from the belief were true.

Rakelly et al., "Efficient Off-Policy Meta-Reinforcement Learning via Probabilistic Context Variables", ICML 2019 (arXiv
1903.08254). Every transition of a trial is a Gaussian factor over z (`models.context`); policy and critics of
soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905) read the observation beside a draw of the posterior. The
context encoder learns from the critics' error and the KL to the prior; contexts are drawn apart from the transitions
that are learned from, from recent trials. z is drawn when an episode begins and held through it (posterior sampling).

Deviations. Contexts: beginnings of whole trials, of any length down to none, as they are met in tests (PEARL: a fixed
number of recent transitions); the prior is a factor of every belief; most contexts, with the transitions learned from,
which are those of all tasks with the same dynamics, are paid and end as those of a random training task (`relabel`; 0:
as published, each task learns from its own). Critics: twins with target networks and a tuned temperature, no value
network; bootstrapped through time limits; pictures are embedded by an encoder that learns with them; rewards are not
scaled by 5, so that the KL's weight is smaller than 0.1. Options, off as published: `reward_weight`, that z is to tell
the rewards of other frames of its context (as VariBAD, Zintgraf et al. 2020, arXiv 1910.08348; gradients reach the
context encoder); `hold=false`, that z follows the belief at every step of an episode, by the noise that was drawn when
it began. Evaluated is a running average of the policy, by a draw of z.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import nn

from meta_latent.algorithms.registry import Algorithm, Setting
from meta_latent.models.context import ContextEncoder, Evidence
from meta_latent.models.observations import ObservationEncoder
from meta_latent.models.trials import follows
from meta_latent.nets import MLP, update_target
from meta_latent.policies.critics import Twin
from meta_latent.policies.soft_actor_critic import METRICS, SoftBatch
from meta_latent.policies.soft_agent import SoftAgent
from meta_latent.ranges import between, count, counts, nonnegative, positive, share, whole
from meta_latent.rng import Streams
from meta_latent.types import Metrics, SequenceBatch, Spec, Step

CALIBRATION = 512
"""Steps over which the encoders are calibrated."""


@dataclass(frozen=True)
class PEARLConfig:
    """Hyper-parameters.

    Attributes:
        steps_per_round: environment steps between updates. updates_per_step: updates per environment step.
        first_updates: of them when learning starts.
        batch_size: contexts per update. transitions: per update, the same number for every context's task.
        recent: trials, the last ones, that contexts are drawn from. relabel: share of contexts that are paid as a
            random training task pays, with transitions of any task of the same dynamics, which end as it does too.
        latent: size of z. hold: z is held through an episode, else it follows the belief at every step.
        divergence_weight: of the belief's KL from the prior. reward_weight: of rewards predicted from z.
        reward_frames: how many of them each belief predicts.
        reward_scale: multiplies the critics' rewards. discount: of later rewards, per step.
        temperature: first weight of the entropy bonus. target_entropy: nats per action value that it is tuned to hold.
        channels: feature maps of each convolution, () for one linear map. embedding: values per camera.
        hidden: width of all networks. layers: their hidden layers. learning_rate: of critics, encoders and policy.
        temperature_learning_rate: of the weight of the entropy bonus. target_rate: how fast the target critics follow.
        average_rate: how fast the policy's running average follows, which is what is evaluated.
        gradient_clip: largest norm per network.
    """

    steps_per_round: int = whole(200)
    updates_per_step: float = nonnegative(0.4, most=1000)
    first_updates: int = whole(200)
    batch_size: int = count(32, most=100_000)
    transitions: int = count(512, most=1_000_000)
    recent: int = count(100)
    relabel: float = share(0.9)
    latent: int = count(8, most=4096)
    hold: bool = True
    divergence_weight: float = nonnegative(0.003)
    reward_weight: float = nonnegative(0.0)
    reward_frames: int = count(1, most=1000)
    reward_scale: float = positive(1.0)
    discount: float = share(0.9, below=True)
    temperature: float = positive(0.1)
    target_entropy: float = between(-1.0, -100, 100)
    channels: tuple[int, ...] = counts((16, 32), most=4096, may_be_empty=True)
    embedding: int = count(32, most=16_384)
    hidden: int = count(128, most=16_384)
    layers: int = whole(2, most=64)
    learning_rate: float = positive(1e-3, most=10)
    temperature_learning_rate: float = positive(1e-3, most=10)
    target_rate: float = share(0.01, above=True)
    average_rate: float = share(0.1, above=True)
    gradient_clip: float = positive(10.0, most=1e9)


@dataclass(frozen=True)
class Carry:
    """What B trials have told: evidence, what z was drawn from it by which noise (B, Z), the last embedding (B, F)."""

    evidence: Evidence
    noise: torch.Tensor
    z: torch.Tensor
    embedding: torch.Tensor


class Critic(nn.Module):
    """All that learns with the critics' error: both encoders, two critics, and what predicts rewards from z."""

    def __init__(self, config: PEARLConfig, spec: Spec):
        super().__init__()
        self.encoder = ObservationEncoder(spec, config.channels, config.embedding)
        seen, actions, sizes = self.encoder.size, spec.action_size, (config.hidden, config.layers)
        self.context = ContextEncoder(seen, actions, config.latent, *sizes)
        self.size = seen + config.latent
        self.values = Twin(self.size + actions, *sizes)
        self.rewards = MLP(self.size + actions, 1, *sizes)

    def evidence(self, seen: torch.Tensor, trials: SequenceBatch) -> Evidence:
        """What trials with embeddings (B, T, F) have told until each of their frames, (B, T, Z)."""
        found = self.context(seen[:, :-1], trials.action[:, 1:], trials.reward[:, 1:], seen[:, 1:])
        found, pad = found.times(follows(trials)), nn.ZeroPad2d((0, 0, 1, 0))
        return Evidence(pad(found.weighted), pad(found.precision)).up_to()

    def reward_errors(self, z: torch.Tensor, seen: torch.Tensor, trials: SequenceBatch, frame: torch.Tensor):
        """Squared errors (B, T, K) of standardised rewards in frames (B, T, K) of the same trials, guessed from
        z (B, T, Z) and embeddings (B, T, F).
        """
        row = torch.arange(len(frame), device=frame.device)[:, None, None]
        known = z[:, :, None].expand(-1, -1, frame.shape[-1], -1)
        guess = self.rewards(torch.cat([seen[row, frame], known, trials.action[row, frame]], -1))
        return (guess - self.context.scale(trials.reward[row, frame][..., None])).square()[..., 0]

    def calibrate(self, steps: SequenceBatch) -> None:
        """Scale what is read, observations and rewards, by what these windows hold."""
        self.encoder.calibrate(steps)
        self.context.scale.fit(steps.reward[steps.reward_present > 0][:, None])


class PEARL(SoftAgent):
    """See the module's docstring. Build inside `rng.seeded_construction`."""

    def __init__(self, config: PEARLConfig, setting: Setting):
        critic = Critic(config, setting.spec)
        super().__init__("pearl", config, critic, critic.size, setting.spec.action_size, setting.device, averaged=True)
        self.tasks, self.functions, self.episodes = setting.tasks, setting.functions, setting.episodes_per_trial
        self.dynamics = np.array(setting.dynamics or range(setting.tasks))

    # Acting

    def begin_task(self, batch_size: int) -> Carry:
        """Nothing seen; z is drawn at the first observation."""
        none = Evidence.none(batch_size, self.config.latent, device=self.device)
        seen = torch.zeros(batch_size, self.critic.encoder.size, device=self.device)
        return Carry(none, none.weighted, none.weighted, seen)

    @torch.no_grad()
    def act(self, step: Step, carry: Carry, rng: Streams, explore: bool) -> tuple[torch.Tensor, Carry]:
        """Take in one transition, then act by z: -> actions (B, A) in [-1, 1], drawn from the policy with `explore`,
        else the mean of its running average. z is a draw of the belief either way.
        """
        carry = self.remember(step.to(self.device), carry, rng)
        features = torch.cat([carry.embedding, carry.z], -1)
        if explore:
            return self.actor.sample(features, rng.torch("explore"))[0].cpu(), carry
        return self.average_actor.mean_action(features).cpu(), carry

    def remember(self, step: Step, carry: Carry, rng: Streams) -> Carry:
        """The carry after one more observation."""
        seen, first = self.critic.encoder(step), step.is_first[:, None]
        told = self.critic.context(carry.embedding, step.action, step.reward, seen).times(~step.is_first)
        evidence = carry.evidence.times(~step.is_task_first) + told
        noise = torch.where(first, self._noise(len(seen), rng) if first.any() else carry.noise, carry.noise)
        z = evidence.drawn(noise)
        if self.config.hold:
            z = torch.where(first, z, carry.z)
        return Carry(evidence, noise, z, seen)

    def _noise(self, rows: int, rng: Streams) -> torch.Tensor:
        return torch.randn(rows, self.config.latent, generator=rng.torch("belief")).to(self.device)

    # Learning

    def calibrate(self, replay, rng: Streams) -> None:
        """Scale what the encoders give, and rewards, before anything is learned."""
        self.critic.calibrate(replay.sequences(CALIBRATION, 2, rng.numpy("update")).to(self.device))

    def improve(self, replay, rng: Streams) -> Metrics:
        """One update of everything on contexts of recent trials."""
        recent = replay.view(since=replay.added - self.config.recent * self.episodes)
        return self.learn(*self.draw(replay, recent, rng.numpy("update")), rng)

    def draw(self, replay, recent, draws: np.random.Generator) -> tuple[SequenceBatch, SequenceBatch]:
        """Contexts (B, T) of recent trials, and as many pairs of frames (n, 2) for each, in this order: of its own task
        or, where both are paid, and end, as another, of all tasks with its dynamics, which nothing can make another's.
        """
        config = self.config
        contexts = recent.trials(config.batch_size, self.episodes, draws)
        each = max(1, config.transitions // config.batch_size)
        tasks, moved = contexts.task_index.numpy().copy(), round(config.relabel * config.batch_size)
        runs = [(number, len(list(run))) for number, run in groupby(self.dynamics[tasks[:moved]])]
        tasks[:moved] = draws.integers(self.tasks, size=moved)
        parts = [replay.view(np.flatnonzero(self.dynamics == number)).sequences(count * each, 2, draws)
                 for number, count in runs]  # fmt: skip
        parts += [replay.view([task]).sequences(each, 2, draws) for task in tasks[moved:]]
        steps = parts[0]
        for part in parts[1:]:
            steps = steps.joined(part)
        functions, which, ends = self.functions, tasks.repeat(each), steps.is_terminal.clone()
        if moved:
            rows = slice(moved * each)
            by_rule = functions.terminated(which[rows], steps.reward_inputs[rows], steps.action[rows])
            ends[rows] = by_rule | functions.ended_anyway(steps, rows)
        contexts = replace(contexts, reward=functions.paid(tasks, contexts))
        rewards = functions.paid(which, steps, function=functions.training_reward)
        steps = replace(steps, reward=rewards, is_terminal=ends)
        return contexts.to(self.device), steps.to(self.device)

    def learn(self, contexts: SequenceBatch, steps: SequenceBatch, rng: Streams) -> Metrics:
        """One update of everything: critics and encoders, then policy and temperature."""
        config, draws = self.config, rng.torch("update")
        told, divergence, reward_error = self.infer(contexts, draws)
        z = self._drawn(self._some(told, contexts, len(steps.reward), draws), draws)
        seen = self.critic.encoder(steps)
        with torch.no_grad():
            target_seen = self.target_critic.encoder(steps)[:, 1]
        now, after = (torch.cat([seen[:, t], z], -1) for t in (0, 1))
        measured = self.soft.update(SoftBatch(
            now, after.detach(), torch.cat([target_seen, z.detach()], -1), steps.action[:, 1],
            config.reward_scale * steps.reward[:, 1], ~steps.is_terminal[:, 1], config.discount,
            config.divergence_weight * divergence + config.reward_weight * reward_error), draws)  # fmt: skip
        update_target(self.average_actor, self.actor, config.average_rate)
        return measured | {"divergence": float(divergence.detach()), "reward_error": float(reward_error.detach())}

    def infer(self, contexts: SequenceBatch, draws: torch.Generator) -> tuple[Evidence, torch.Tensor, torch.Tensor]:
        """What contexts have told until each frame (B, T, Z), its mean divergence from the prior, and the mean error
        of rewards: for each frame, those of `reward_frames` others of the trial, past and future.
        """
        seen, counts = self.critic.encoder(contexts), contexts.valid
        told = self.critic.evidence(seen, contexts)
        chances = (contexts.reward_present * counts).cpu()
        frames = torch.multinomial(chances, counts.shape[1] * self.config.reward_frames, True, generator=draws)
        frames = frames.view(*counts.shape, -1).to(self.device)
        errors = self.critic.reward_errors(self._drawn(told, draws), seen, contexts, frames)
        return told, told.divergence()[counts].mean(), errors[counts].mean()

    def _some(self, told: Evidence, contexts: SequenceBatch, number: int, draws: torch.Generator) -> Evidence:
        """(number, Z): as many beliefs of every context, each after as many of its frames as is drawn."""
        lengths = contexts.valid.sum(1)
        row = torch.arange(len(lengths), device=self.device).repeat_interleave(number // len(lengths))
        drawn = torch.rand(number, generator=draws).to(self.device)
        return told[row, (drawn * lengths[row]).long()]

    @staticmethod
    def _drawn(told: Evidence, draws: torch.Generator) -> torch.Tensor:
        """A draw of z of each belief."""
        return told.drawn(torch.randn(told.weighted.shape, generator=draws).to(told.weighted.device))


ALGORITHM = Algorithm(
    config=PEARLConfig,
    build=PEARL,
    metrics=METRICS
    | {
        "divergence": "how far beliefs are from the prior (KL in nats)",
        "reward_error": "squared error of standardised rewards that are predicted from z",
    },
    needs=frozenset({"functions"}),
    relabels="relabel",
    sees=frozenset({"reward"}),
)
