"""MELD: infer the task by filtering images AND rewards in a latent state model; act on the belief.

Zhao et al., "MELD: Meta-Reinforcement Learning from Images via Latent State Models", CoRL 2020 (arXiv 2010.13957)
and its code, on the shared `LatentStateModel`. The belief runs through all episodes of a trial and is cleared
between tasks; soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905) reads its parameters, outside the model's
graph; nothing is learned at test time, inference is the adaptation. SLAC (Lee et al. 2020, arXiv 1907.00953) is the
same without rewards as observations, `no_carry` the same with the belief cleared between episodes.

Deviations from MELD's code: the core is the shared model's (`models.core`), and acts on the mean where MELD samples;
the counterfactual reward term (`models.counterfactual`; `counterfactual_weight=0` leaves it out); the critic reads the
reward that the action led to, where MELD's reads the one before; bootstrapped through time limits; trials are
replayed as they were played (`recombine`: MELD's way, any episodes of a task); rewards and ends of most replayed
trials are recomputed for another training task (`relabel`); with source data (+data), half of every batch are source
episodes that are paid and end as of a training task; where `filter` and not `joint` of `transfer.adaptation`
says how the model learns, the encoder does not and embeddings are cached; evaluated is a running average of the policy.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from meta_latent.algorithms.registry import Algorithm, Setting
from meta_latent.data.latents import EmbeddingCache
from meta_latent.errors import UserError
from meta_latent.models.core import Latent
from meta_latent.models.counterfactual import counterfactual_errors, reward_guess
from meta_latent.models.losses import METRICS as MODEL_METRICS
from meta_latent.models.losses import embed
from meta_latent.models.trials import follows
from meta_latent.nets import Standardiser
from meta_latent.policies.latent_agent import CALIBRATION
from meta_latent.policies.soft_actor_critic import METRICS, SoftBatch
from meta_latent.policies.soft_agent import SoftLatentAgent
from meta_latent.ranges import between, count, nonnegative, positive, share, whole
from meta_latent.rng import Streams
from meta_latent.types import Averages, Metrics, SequenceBatch

MISSCALED = 0.02
"""Share of rewards far outside the pretrained model's scale from which on there is a warning."""


@dataclass(frozen=True)
class MELDConfig:
    """Hyper-parameters.

    Attributes:
        steps_per_round: environment steps between updates. updates_per_step: of policy and critics, per environment
            step. first_updates: of them when learning starts; source_updates: so many more where there are source data.
            batch_size: trials per update.
        pixel_batch_size: trials per update of the model on pixels. transitions: of a batch of trials, per update of
            policy and critics. relabel: share of replayed trials that are paid, and end, as of another task.
        recombine: trials of any episodes of a task, instead of those that followed each other.
        reward_weight: of predicted rewards in the model's loss. counterfactual_weight: of those of other frames of
            the trial. counterfactual_frames: how many of them each belief predicts. All instead of `model.loss`.
        reward_scale: multiplies the critics' rewards. discount: of later rewards, per step.
        temperature: first weight of the entropy bonus. target_entropy: nats per action value that it is tuned to hold.
        hidden: width of critics and policy. layers: their hidden layers. learning_rate: of critics and policy.
        temperature_learning_rate: of the weight of the entropy bonus. target_rate: how fast the target critics follow.
        average_rate: how fast the policy's running average follows, which is what is evaluated.
        standardise: policy and critics read beliefs of mean 0 and stddev 1, as they are when learning starts; else
            as they are.
        gradient_clip: largest norm per network.
    """

    steps_per_round: int = whole(200)
    updates_per_step: float = nonnegative(0.15, most=1000)
    first_updates: int = whole(1)
    source_updates: int = whole(0)
    batch_size: int = count(32, most=100_000)
    pixel_batch_size: int = count(32, most=100_000)
    transitions: int = count(512, most=1_000_000)
    relabel: float = share(0.9)
    recombine: bool = False
    reward_weight: float = nonnegative(62.0)
    counterfactual_weight: float = nonnegative(62.0)
    counterfactual_frames: int = count(4, most=1000)
    reward_scale: float = positive(1.0)
    discount: float = share(0.9, below=True)
    temperature: float = positive(0.1)
    target_entropy: float = between(-1.0, -100, 100)
    hidden: int = count(128, most=16_384)
    layers: int = whole(2, most=64)
    learning_rate: float = positive(1e-3, most=10)
    temperature_learning_rate: float = positive(1e-3, most=10)
    target_rate: float = share(0.01, above=True)
    average_rate: float = share(0.1, above=True)
    gradient_clip: float = positive(10.0, most=1e9)
    standardise: bool = True


class MELD(SoftLatentAgent):
    """See the module's docstring. Build inside `rng.seeded_construction`.

    reads_rewards: rewards are observations. remembers_trials: the belief survives an episode's end.
    """

    def __init__(self, config: MELDConfig, setting: Setting, reads_rewards: bool = True, remembers_trials: bool = True):
        check(config, reads_rewards, setting)
        parts = setting.latent_parts()
        model = self.model = parts.model
        self.reads_rewards, self.remembers_trials = reads_rewards, remembers_trials
        self.tasks, self.functions, self.trained_on = setting.tasks, setting.functions, parts.rewards
        self.episodes = setting.episodes_per_trial if remembers_trials else 1
        inputs = self.parameters_of(model.initial(1)).shape[-1]
        self.scales = Standardiser(inputs)
        super().__init__(config, parts, inputs, setting.spec.action_size, {"scales": self.scales})
        self.weights = replace(
            model.config.loss, reward=config.reward_weight, counterfactual=config.counterfactual_weight,
            counterfactual_frames=config.counterfactual_frames)  # fmt: skip
        self.seen, self.source_seen = EmbeddingCache(), EmbeddingCache()

    # Acting

    def features(self, latent: Latent) -> torch.Tensor:
        """What policy and critics read: the belief's parameters, and relations, (..., F), all of one scale."""
        return self.scales(self.parameters_of(latent))

    def parameters_of(self, latent: Latent) -> torch.Tensor:
        """The same as they are."""
        return torch.cat([self.model.features(latent, "belief"), latent.relations], -1)

    # Learning

    def wants(self) -> int:
        """`steps_per_round` environment steps before the next update."""
        return self.config.steps_per_round

    def update(self, replay, rng: Streams) -> Metrics:
        """Learn for the steps that arrived: every update of the model is followed by its share of those of policy and
        critics, on the beliefs that it began with: a forward pass serves both.
        """
        steps, self.seen_steps = replay.env_steps - self.seen_steps, replay.env_steps
        metrics = Averages()
        if not self.began:
            self._begin(replay, rng, metrics)
            return metrics.means()
        stages = ["joint"] * self.due("joint", self.adaptation.joint, steps)
        stages += ["filter"] * self.due("filter", self.adaptation.filter, steps)
        count = self.due("improve", self.config.updates_per_step, steps)
        stages = stages or [""] * count
        for k, stage in enumerate(stages):
            trials, belief = self.infer(stage, replay, rng, metrics)
            for _ in range(count * (k + 1) // len(stages) - count * k // len(stages)):
                self.improve(trials, belief, rng, metrics)
        return metrics.means()

    def _begin(self, replay, rng: Streams, metrics: Averages) -> None:
        """What comes before the first update of the policy, and the `first_updates`: all that the warm-up is worth."""
        joint, self.began = self.adaptation.first_joint, True
        pixels = joint > 0 or self.learner.new_encoder  # one that never learns has its scales to be found too
        steps = replay.sequences(CALIBRATION, 2, rng.numpy("model"), images=pixels)
        (self.learner.calibrate if pixels else self.learner.calibrate_rewards)(
            self._taught(steps, steps.task_index.numpy())
        )
        self._check_rewards(steps.reward[steps.reward_present > 0])
        for _ in range(joint):
            self.infer("joint", replay, rng, metrics)
        if joint:
            self.learner.standardise(steps)
        for _ in range(self.adaptation.first_filter):
            self.infer("filter", replay, rng, metrics)
        trials, belief = self.infer("", replay, rng, metrics)
        if self.config.standardise:
            self.scales.fit(self.parameters_of(belief)[trials.valid])
        more = 0 if self.source is None else self.config.source_updates
        for _ in range(self.config.first_updates + more):
            self.improve(*self.infer("", replay, rng, metrics), rng, metrics)

    def _check_rewards(self, paid: torch.Tensor) -> None:
        """Warn where rewards are not on the scale of those that the pretrained model has read."""
        if self.reads_rewards and self.trained_on is not None:
            low, high = self.trained_on
            room = 0.5 * (high - low)
            outside = ((paid < low - room) | (paid > high + room)).float().mean()
            if outside > MISSCALED:
                warnings.warn(f"{100 * outside:.0f} % of the first rewards lie outside the scale that the model was "
                              f"trained on: {paid.min():.3g} to {paid.max():.3g}, not {low:.3g} to {high:.3g}; what it "
                              "infers from them means little until it has learned", stacklevel=2)  # fmt: skip

    def infer(self, stage: str, replay, rng: Streams, metrics: Averages) -> tuple[SequenceBatch, Latent]:
        """Replayed trials and the beliefs (B, T) along them, which a stage of the model learns from: "joint"
        everything, from pixels, "filter" core and heads, "" nothing.
        """
        trials, shown = self.draw(replay, rng, pixels=stage == "joint")
        if stage == "joint":
            measured, belief = self.learner.trials(trials, shown, self.weights, rng.torch("model"))
            self._forget_embeddings()
        else:
            embeddings = self._embeddings(trials, replay)
            if not stage:
                with torch.no_grad():
                    return trials, self.model.filter(embeddings, shown.action, shown.reward, shown.reward_present)
            measured, belief = self.learner.trials(trials, shown, self.weights, rng.torch("model"), embeddings)
        metrics.add(measured)
        return trials, belief

    def _embeddings(self, trials: SequenceBatch, replay) -> torch.Tensor:
        """(B, T, Z) of trials that were drawn."""
        self.seen.extend(self.model, replay)
        if self.source is None:
            return self.seen.embeddings(trials.frames)
        self.source_seen.extend(self.model, self.source.replay)
        own = self._own(len(trials.frames))
        return torch.cat([self.seen.embeddings(trials.frames[:own]), self.source_seen.embeddings(trials.frames[own:])])

    def _forget_embeddings(self) -> None:
        self.seen.clear()
        self.source_seen.clear()

    def _own(self, count: int) -> int:
        """How many of so many trials are the target's; the others, which come after them, are of the sources."""
        return count if self.source is None else count // 2

    def draw(self, replay, rng: Streams, pixels: bool) -> tuple[SequenceBatch, SequenceBatch]:
        """Whole trials, most of them paid and ended as another training task would have done, with the rewards that are
        learned from, and with those that the memory is fed (which may be sparse where the others are dense, or hidden).
        """
        config, draws = self.config, rng.numpy("trials")
        count = config.pixel_batch_size if pixels else config.batch_size
        mixed = config.recombine or not self.remembers_trials
        own = self._own(count)
        trials = replay.trials(own, self.episodes, draws, mixed, images=pixels)
        if self.source is not None:
            trials = trials.joined(self.source.replay.trials(count - own, self.episodes, draws, True, images=pixels))
        tasks, reward, ends = trials.task_index.numpy().copy(), trials.reward.clone(), trials.is_terminal.clone()
        chosen = np.flatnonzero((draws.random(count) < config.relabel) | (np.arange(count) >= own))
        if len(chosen):
            mine = slice(own)  # of the sources' tasks no rule is known here
            tasks[chosen] = draws.integers(self.tasks, size=len(chosen))
            reward[chosen] = self.functions.paid(tasks, trials, chosen)
            ends[chosen] = self.functions.terminated(
                tasks[chosen], trials.reward_inputs[chosen], trials.action[chosen])  # fmt: skip
            ends[mine] |= self.functions.ended_anyway(trials, mine)  # already so where nothing was relabelled
        trials = replace(trials, reward=reward, is_terminal=ends)
        shown = self.shown(trials)
        return self._taught(trials, tasks).to(self.model.device), shown.to(self.model.device)

    def _taught(self, trials: SequenceBatch, tasks: np.ndarray) -> SequenceBatch:
        """The same, as those of `tasks` (B,), with the rewards that are learned from."""
        function = self.functions.training_reward
        if function is None:
            return trials
        return replace(trials, reward=self.functions.paid(tasks, trials, function=function))

    def shown(self, trials: SequenceBatch) -> SequenceBatch:
        """What the memory is fed of these trials."""
        return trials if self.reads_rewards else trials.without_rewards()

    def improve(self, trials: SequenceBatch, belief: Latent, rng: Streams, metrics: Averages) -> None:
        """One update of critics, policy and temperature on transitions of these trials; none leads over a reset."""
        config, draws = self.config, rng.torch("update")
        row, time = follows(trials).nonzero(as_tuple=True)
        chosen = torch.randint(len(row), (config.transitions,), generator=draws).to(row.device)
        row, time = row[chosen], time[chosen]
        features = self.features(belief)
        now, after = features[row, time], features[row, time + 1]
        metrics.add(self.soft.update(SoftBatch(
            now, after, after, trials.action[row, time + 1], config.reward_scale * trials.reward[row, time + 1],
            ~trials.is_terminal[row, time + 1], config.discount), draws))  # fmt: skip
        self.average_policy(config.average_rate)
        self.updates += 1

    # Looking

    @torch.no_grad()
    def inspect(self, trials) -> dict[str, list[float]]:
        """Per observation of a trial, what the beliefs along these trials say of the rewards of all its frames:
        `counterfactual_error`, 1 - R^2 of what was paid, and `belief_distance`, the root mean square difference from
        what the trial's last belief says. Nothing where other rewards are learned than trials pay.
        """
        if self.functions.training_reward is not None:
            return {}
        batch = trials.trials(None, len(trials.whole_trials()[0])).to(self.model.device)
        belief, embeddings = self.beliefs(batch)
        error, distance = counterfactual_errors(self.model, belief.memory, embeddings, batch)
        return {"counterfactual_error": error.tolist(), "belief_distance": distance.tolist()}

    @torch.no_grad()
    def believed_rewards(self, trials: SequenceBatch, frames: SequenceBatch) -> torch.Tensor:
        """What the beliefs along `trials` (B, T) expect to be paid in `frames` (1, N), reached by their actions:
        rewards (B, T, N). Frames of a grid over the workspace make a map of where each belief looks for the goal.
        """
        memory = self.beliefs(trials.to(self.model.device))[0].memory
        frames = frames.to(self.model.device)
        embeddings, actions = embed(self.model, frames)[0], frames.action[0]
        shape = (len(memory), len(actions))
        guess = [reward_guess(self.model, now[:, None].expand(*shape, -1), embeddings.expand(*shape, -1),
                              actions.expand(*shape, -1)) for now in memory.unbind(1)]  # fmt: skip
        return self.model.unscaled(torch.stack(guess, 1)).cpu()

    def beliefs(self, trials: SequenceBatch) -> tuple[Latent, torch.Tensor]:
        """Beliefs (B, T) along trials, as they are while acting, and embeddings (B, T, Z)."""
        carry, embeddings, found = self.begin_task(len(trials.reward)), embed(self.model, trials), []
        shown = self.shown(trials)
        for t in range(trials.reward.shape[1]):
            present = shown.reward_present[:, t]
            begins = trials.is_first[:, t] & (trials.is_task_first[:, t] | (not self.remembers_trials))
            step = replace(shown, images={}, is_task_first=begins, action=shown.action[:, t],
                           reward=shown.reward[:, t], reward_present=present)  # fmt: skip
            carry = self.model.observe_embedding(carry, embeddings[:, t], step)
            found.append(carry)
        return Latent(*(torch.stack([getattr(b, f.name) for b in found], 1) for f in fields(Latent))), embeddings

    # Saving

    def load_state(self, state: dict) -> None:
        """Continue from `state()`; embeddings are computed again."""
        super().load_state(state)
        self._forget_embeddings()


def check(config: MELDConfig, reads_rewards: bool, setting: Setting) -> None:
    """Raise UserError where rewards are to be read, and the model has no such input, or batches cannot be halved."""
    if reads_rewards and not setting.reward_input:
        raise UserError("MELD infers tasks from rewards, and this model is made without them as an input; use one with "
                        "model.reward_input=true, or the algorithm slac")  # fmt: skip
    if setting.start.endswith("+data") and min(config.batch_size, config.pixel_batch_size) < 2:
        raise UserError("half of every batch are source episodes: batch_size and pixel_batch_size have to be 2 or more")


def entry(reads_rewards: bool, remembers_trials: bool, data: bool = False) -> Algorithm:
    """What is registered of MELD, or of what it is without one of its parts; data: with arms on source data."""
    return Algorithm(
        config=MELDConfig,
        build=lambda config, setting: MELD(config, setting, reads_rewards, remembers_trials),
        starts=("scratch", "pretrained", "encoder", "sequence", *(("scratch+data", "pretrained+data") if data else ())),
        metrics=MODEL_METRICS | METRICS,
        inspects={
            "counterfactual_error": "unexplained share (1 - R^2) of the rewards of all of the trial's frames",
            "belief_distance": "how far these predictions are from those of the trial's last belief, in deviations",
        },
        maps=True,
        needs=frozenset({"functions"}),
        relabels="relabel",
        sees=frozenset({"reward"} if reads_rewards else ()),
        check=lambda config, setting: check(config, reads_rewards, setting),
    )


ALGORITHM = entry(reads_rewards=True, remembers_trials=True, data=True)
SLAC = entry(reads_rewards=False, remembers_trials=True)
NO_CARRY = entry(reads_rewards=True, remembers_trials=False)
