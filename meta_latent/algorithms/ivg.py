"""Imagined value gradients (IVG): a policy follows the gradient of its value through a latent model.

Byravan et al., "Imagined Value Gradients", CoRL 2019 (arXiv 1910.04142). The paper's code is not public: the
loop below is a reconstruction from its abstract and project page. Known: N imagined steps through a
deterministic model of expected futures, a stochastic parametric policy, a value function, reuse of the model
across rewards. Ours to choose, and so deviations: TD(lambda) targets from imagination instead of replayed
off-policy returns, an entropy bonus, an ensemble of reward heads on (next latent, relations of keypoints,
action), one transition head per imagined trajectory, a policy average that acts in evaluation, ends, all sizes.

One update, on replayed latents h of the target:
    reward    fit r(h', a) on latents unrolled 0..N steps with the logged actions
    ends      once an episode has ended for good: fit c(h', a), the probability that it goes on (else c = 1)
    policy    maximise  E[ G_k ],  G_k = r_k + discount c_k ((1 - lambda) V'(h_k+1) + lambda G_k+1),  a ~ policy
    value     fit V(h_k) to G_k along the same imagined trajectories, V' a slowly following copy

Both weigh step k with c_0 ... c_k-1, the probability that it is taken at all.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch

from meta_latent.algorithms.registry import Algorithm
from meta_latent.models.losses import METRICS as MODEL_METRICS
from meta_latent.nets import MLP, update_target
from meta_latent.ops.imagination import imagine
from meta_latent.ops.returns import lambda_returns
from meta_latent.policies.actors import Draw, GaussianActor, Temperature
from meta_latent.policies.continuation import METRICS as TARGET_METRICS
from meta_latent.policies.continuation import Continuation, fit_rewards_and_ends
from meta_latent.policies.latent_agent import LatentAgent, LatentParts
from meta_latent.policies.reward_heads import RewardHeads, even
from meta_latent.ranges import between, count, nonnegative, positive, share, whole
from meta_latent.rng import Streams
from meta_latent.types import Averages, Metrics


@dataclass(frozen=True)
class IVGConfig:
    """Hyper-parameters; durations in environment steps or updates.

    Attributes:
        horizon: N, imagined steps.
        discount: of later rewards, per step. mix: lambda of the returns, 1 for N-step returns.
        temperature: first weight of the entropy bonus. target_entropy: nats per action value that it is tuned to hold.
        reward_heads: the reward is the mean of this many. pessimism: how many times their spread is taken from it, so
            that the policy gains nothing where target data are silent.
        reward_hidden: width of each reward head. reward_batch_size: windows of `horizon` steps per update of theirs.
        batch_size: imagined trajectories per update (fastest as a multiple of the number of transition heads).
        updates_per_step: updates per environment step. first_updates: updates when learning starts.
        hidden: width of value and policy networks. layers: hidden layers of these and of the reward heads.
        reward_learning_rate: of the reward heads. reward_weight_decay: decoupled; some hundred samples of a few
            episodes are easily overfitted. value_learning_rate: of the value. policy_learning_rate: of the policy.
        temperature_learning_rate: of the weight of the entropy bonus.
        target_rate: how fast the target value network follows. average_rate: how fast the policy's running average
            follows, which is what acts without exploration. gradient_clip: largest norm per network.
        min_stddev: least spread of the policy before the squashing. max_stddev: largest spread of the policy before the
            squashing.
    """

    horizon: int = count(5, most=1000)
    discount: float = share(0.95, below=True)
    mix: float = share(0.9)
    temperature: float = positive(0.01)
    target_entropy: float = between(-1.0, -100, 100)
    reward_heads: int = count(5, least=2, most=64)  # the spread of one is unknown
    reward_hidden: int = count(64, most=16_384)
    reward_batch_size: int = count(30, most=1_000_000)
    pessimism: float = nonnegative(0.25, most=1000)
    batch_size: int = count(60, least=2, most=1_000_000)
    updates_per_step: float = nonnegative(2.0, most=1000)
    first_updates: int = whole(300)
    hidden: int = count(128, most=16_384)
    layers: int = whole(2, most=64)
    reward_learning_rate: float = positive(1e-3, most=10)
    reward_weight_decay: float = nonnegative(0.1, most=100)
    value_learning_rate: float = positive(1e-3, most=10)
    policy_learning_rate: float = positive(5e-4, most=10)
    temperature_learning_rate: float = positive(3e-3, most=10)
    target_rate: float = share(0.02, above=True)
    average_rate: float = share(0.01, above=True)
    gradient_clip: float = positive(10.0, most=1e9)
    min_stddev: float = positive(0.1, most=100)
    max_stddev: float = positive(0.7, most=100)

    def __post_init__(self):
        if self.min_stddev > self.max_stddev:
            raise ValueError(f"min_stddev={self.min_stddev} is above max_stddev={self.max_stddev}")


class IVG(LatentAgent):
    """See the module's docstring. Build inside `rng.seeded_construction`."""

    def __init__(self, config: IVGConfig, parts: LatentParts):
        model, actions = parts.model, parts.model.spec.action_size
        inputs = model.feature_size + model.relation_size
        actor = GaussianActor(inputs, actions, config.hidden, config.layers, config.min_stddev, config.max_stddev)
        super().__init__(parts, actor)
        self.config = config
        self.reward = RewardHeads(config.reward_heads, model, config.reward_hidden, config.layers, config.pessimism)
        self.value = MLP(inputs, 1, config.hidden, config.layers)
        self.target_value = deepcopy(self.value)
        self.temperature = Temperature(config.temperature, config.target_entropy * actions)
        self.continuation = Continuation(model, config.reward_hidden, config.layers)
        networks = {
            "reward": self.reward,
            "value": self.value,
            "policy": actor,
            "target_value": self.target_value,
            "temperature": self.temperature,
            "continuation": self.continuation,
        }
        rates = {
            "reward": config.reward_learning_rate,
            "value": config.value_learning_rate,
            "policy": config.policy_learning_rate,
            "temperature": config.temperature_learning_rate,
            "continuation": config.reward_learning_rate,
        }
        self.own(networks, rates, {"reward": config.reward_weight_decay})

    def improve(self, steps: int, first: bool, rng: Streams, metrics: Averages) -> None:
        """`updates_per_step` updates of reward, policy and value for each new environment step."""
        count = self.due("improve", self.config.updates_per_step, steps) + self.config.first_updates * first
        if first:
            for _ in range(count):
                metrics.add(self.fit_reward(rng))
        for _ in range(count):
            metrics.add(self.fit_reward(rng))
            metrics.add(self.follow_value_gradient(rng))
            self.updates += 1

    def fit_reward(self, rng: Streams) -> Metrics:
        """One update of the reward heads, and of what says where episodes end once one has, on latents unrolled up to
        `horizon` steps and on observed ones.
        """
        windows = self.cache.windows(self.config.reward_batch_size, self.config.horizon, rng.numpy("reward"))
        return fit_rewards_and_ends(self, windows, self.config.gradient_clip)

    def follow_value_gradient(self, rng: Streams) -> Metrics:
        """One update of policy and value on imagined trajectories; the model is differentiated through, not
        changed. Trajectories that start where an episode ended have no weight.
        """
        config, read, draws = self.config, [], []
        windows = self._windows(config.batch_size, 0, rng)
        start = self.model.unpack(windows.packed[:, 0])

        def act(_, latent):
            read.append(self.features(latent))
            draws.append(self.actor.draw(read[-1], rng.torch("imagine")))
            return draws[-1].action

        steps = imagine(self.model, start, act, even(len(windows.rows), self.model), config.horizon)
        read.append(self.features(steps[-1].next_latent))
        drawn = Draw(*(torch.stack(parts, 1) for parts in zip(*draws, strict=True)))
        log_prob, features = drawn.log_prob(), torch.stack(read, 1)
        states = torch.stack([self.reward.state(step.next_latent) for step in steps], 1)
        rewards = self.reward.estimate(states, drawn.action)
        values = self.target_value(features[:, 1:])[..., 0]
        bonus = -self.temperature.value() * log_prob
        goes_on = self.continuation.estimate(states, drawn.action) if self.cache.ends else torch.ones_like(rewards)
        returns = lambda_returns(rewards + bonus, values, config.discount * goes_on, config.mix)
        began = (~windows.terminal).to(rewards.dtype)
        taken = torch.cat([began, goes_on[:, :-1].detach()], 1).cumprod(1)
        policy_loss = -(taken * returns).mean()
        self.optimise("policy", policy_loss, config.gradient_clip)
        value_error = self.value(features[:, :-1].detach())[..., 0] - returns.detach()
        value_loss = self.optimise("value", (taken * value_error.square()).mean(), config.gradient_clip)
        self.optimise("temperature", self.temperature.loss(log_prob), config.gradient_clip)
        update_target(self.target_value, self.value, config.target_rate)
        self.average_policy(config.average_rate)
        return {
            "imagined_return": float(-policy_loss.detach()),
            "imagined_reward": float(rewards.detach().mean()),
            "value_loss": value_loss,
            "entropy": float(-log_prob.detach().mean()),
            "temperature": float(self.temperature.value()),
        }


ALGORITHM = Algorithm(
    config=IVGConfig,
    build=lambda config, setting: IVG(config, setting.latent_parts()),
    starts=("pretrained", "pretrained+data", "policy", "scratch", "scratch+data"),
    metrics={
        **TARGET_METRICS,
        "imagined_return": "mean return in imagination, with the entropy bonus; a step counts as often as it is taken",
        "imagined_reward": "mean reward of an imagined step",
        "value_loss": "squared error of the value on imagined latents",
        "entropy": "entropy of the policy, in nats",
        "temperature": "weight of the entropy bonus",
        **MODEL_METRICS,
    },
)
