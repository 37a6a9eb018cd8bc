"""What policies are imagined in: K simulators that were learned, and what a policy reads of their states.

`StateSimulators`: the state is what is observed (MB-MPO and ME-TRPO as published). `LatentSimulators`: it is the latent
of a latent state model, whose transition heads are the simulators. Whatever has their methods will do, with `masked`
(ensemble members that learn from what a replay's masks give them, 1: it has none) and `owned` (whether each learns from
training tasks of its own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from meta_latent.errors import UserError
from meta_latent.policies.continuation import Continuation, fit_rewards_and_ends
from meta_latent.policies.latent_agent import LatentAgent, LatentParts
from meta_latent.policies.reward_heads import RewardHeads
from meta_latent.ranges import count, nonnegative, positive, whole
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Averages, Metrics, Step


class ObservedStates:
    """States that are seen as they are: what learners without a model read, and the base of those with models.

    Args:
        size: values of proprioception. device: of the networks. blind: places that policies do not read.
    """

    masked, owned = 1, False  # models of states share out a replay's data without its masks

    def __init__(self, size: int, device: torch.device | str, blind: tuple[int, ...] = ()):
        self.device = torch.device(device)
        self._kept = torch.tensor([i for i in range(size) if i not in blind], device=self.device)
        self.feature_size = len(self._kept)

    def features(self, states: torch.Tensor) -> torch.Tensor:
        """What a policy reads of states (..., S)."""
        return states[..., self._kept]

    def read(self, replay) -> torch.Tensor:
        """Features (n, F) of all that was seen."""
        return self.features(replay.transitions().proprio.to(self.device))

    def begin_task(self, batch_size: int) -> Any:
        """Nothing is remembered: the state is seen."""

    def observe(self, step: Step, carry: Any) -> tuple[torch.Tensor, Any]:
        """What a policy reads at one instant, (B, F), and the carry."""
        return self.features(step.proprio.to(self.device)), carry

    def episodes(self, replay) -> list[torch.Tensor]:
        """Features (T + 1, F) of every episode."""
        found = (replay.read(i)["proprio"] for i in range(len(replay.lengths())))
        return [self.features(torch.from_numpy(states.copy()).to(self.device)) for states in found]

    def state(self) -> dict:
        """Nothing to save."""
        return {}

    def load_state(self, state: dict) -> None:
        """Nothing to continue."""


class StateSimulators(ObservedStates):
    """K dynamics models of observed states, in which rewards and ends are the task suite's own functions.

    Simulated task n, of any multiple of K, is model n mod K with the reward of training task n mod `tasks`.

    Args:
        ensemble: a `DynamicsEnsemble`. size: values of a state. functions: rewards and ends of observed states
            (`registry.Functions`). tasks: how many training tasks there are. owned: model k learns from tasks k, k + K,
            ... alone (dynamics differ between tasks), else every model from all data.
    """

    def __init__(self, ensemble: Any, size: int, functions: Any, tasks: int, owned: bool):
        super().__init__(size, next(ensemble.parameters()).device, functions.invariant)
        self.ensemble, self.functions, self.tasks, self.owned = ensemble, functions, tasks, owned
        self._invariant = torch.zeros(size, device=self.device)
        self._invariant[list(functions.invariant)] = 1
        self._firsts, self._of = [], -1

    @property
    def heads(self) -> int:
        """K."""
        return self.ensemble.heads

    # Learning

    def learn(self, replay, rng: Streams) -> Metrics:
        """Fit the models to all past data, warm-started; what is invariant is moved to the origin."""
        data = replay.transitions()
        moved = data.proprio * self._invariant.cpu()
        data = replace(data, proprio=data.proprio - moved, next_proprio=data.next_proprio - moved)
        owners = data.task_index % self.ensemble.heads if self.owned else None
        return self.ensemble.fit(data, owners, rng.torch("model"))

    def see(self, replay) -> None:
        """Find where episodes began, which is where imagining starts."""
        if self._of == replay.added:
            return
        data, heads = replay.transitions(), self.ensemble.heads
        first = torch.cat([torch.ones(1, dtype=torch.bool), data.episode[1:] != data.episode[:-1]])
        states, owner = data.proprio[first].to(self.device), data.task_index[first] % heads
        self._firsts = [states[owner == k] if self.owned else states for k in range(heads)]
        if not all(map(len, self._firsts)):
            raise UserError(_forgotten(f"{heads} models"))
        self._of = replay.added

    # Imagining

    def begin(self, tasks: int, particles: int, rng: Streams) -> torch.Tensor:
        """States (N, P, S) in which episodes began, of the tasks that the simulator was shown."""
        draws, drawn = rng.torch("begin"), []
        for n in range(tasks):
            states = self._firsts[n % self.ensemble.heads]
            drawn.append(states[torch.randint(len(states), (particles,), generator=draws).to(self.device)])
        return torch.stack(drawn)

    def step(self, states: torch.Tensor, actions: torch.Tensor):
        """States (N, P, S) and actions (N, P, A) -> next states, rewards (N, P), whether that ended it (N, P)."""
        moved = states * self._invariant
        following = self.ensemble.through(states - moved, actions)
        if self.ensemble.config.learned_reward:
            rewards = self.ensemble.rewards(states - moved, actions, following)
        following = following + moved
        task = (torch.arange(len(states)) % self.tasks)[:, None].expand(states.shape[:2])
        if not self.ensemble.config.learned_reward:
            rewards = self.functions.reward(task, following, actions)
        return following, rewards, self.functions.terminated(task, following, actions)

    def state(self) -> dict:
        """Models and their optimiser."""
        return self.ensemble.state()

    def load_state(self, state: dict) -> None:
        """Continue from `state()`."""
        self.ensemble.load_state(state)
        self._of = -1


def _forgotten(simulators: str) -> str:
    return (f"some of the {simulators} have no data of their training tasks: raise transfer.warmup_episodes, so that "
            "each task is played, or transfer.replay.capacity, where trials were forgotten, with another "
            "out=")  # fmt: skip


def check_learned_rewards(config: Any, rewards: Sequence[int], owned: bool) -> None:
    """Raise UserError if one of the models of states would learn what tasks pay that do not pay the same.

    config: a `DynamicsConfig`. rewards: of each training task, a number that tasks share which pay the same. owned: see
        `StateSimulators`.
    """
    learned = [rewards[k :: config.members] if owned else rewards for k in range(config.members)]
    if config.learned_reward and any(len(set(one)) > 1 for one in learned):
        raise UserError(f"models.learned_reward=true: a model learns one reward, and the {len(rewards)} training tasks "
                        "pay differently: set it to false, which takes the suite's own rewards, or, of mb_mpo, "
                        f"models.members={len(rewards)} and own_tasks=true: a model for each task")  # fmt: skip


@dataclass(frozen=True)
class RewardConfig:
    """The reward, learned on latents.

    Attributes:
        heads: the reward is the mean of this many. pessimism: how many times their spread is taken from it.
        hidden: width of each. layers: hidden layers. batch_size: windows per update, `horizon` steps long each.
        horizon: how many steps latents are unrolled that the heads are fitted to, beside observed ones.
        updates_per_step: updates per environment step. first_updates: when learning starts.
        learning_rate: of the heads. weight_decay: decoupled.
    """

    heads: int = count(5, least=2, most=64)
    pessimism: float = nonnegative(0.25, most=1000)
    hidden: int = count(64, most=16_384)
    layers: int = whole(2, most=64)
    batch_size: int = count(30, most=1_000_000)
    horizon: int = count(5, most=1000)
    updates_per_step: float = nonnegative(2.0, most=1000)
    first_updates: int = whole(300)
    learning_rate: float = positive(1e-3, most=10)
    weight_decay: float = nonnegative(0.1, most=100)


class LatentSimulators(LatentAgent):
    """The transition heads of a latent state model, with rewards and ends that are learned on the target.

    Simulated task n, of any multiple of K, is head n mod K; expected next latents. Once an episode of the target has
    ended for good, a step ends an imagined one where it is more likely than not to. Imagining starts from replayed
    latents. As `transfer.adaptation` says, the heads keep learning.

    Args:
        config: of the reward. parts: what the start brings. owned: head k learns from training tasks k, k + K, ...
            alone, and what it imagines begins in theirs; rewards are fitted to latents that the owner unrolled.
    """

    def __init__(self, config: RewardConfig, parts: LatentParts, owned: bool = False):
        super().__init__(parts)
        model, self.owned = self.model, owned
        self.config, self.feature_size = config, model.feature_size + model.relation_size
        self.reward = RewardHeads(config.heads, model, config.hidden, config.layers, config.pessimism)
        with seeded_construction(0):  # draws of its own: what is built after it is what it would be without
            self.continuation = Continuation(model, config.hidden, config.layers)
        networks = {"reward": self.reward, "continuation": self.continuation}
        self.own(networks, dict.fromkeys(networks, config.learning_rate), {"reward": config.weight_decay})
        self._routes: dict[tuple[int, int], Any] = {}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def masked(self) -> int:
        """K: which episodes a head learns from, the replay's masks say."""
        return self.model.heads

    # Learning

    def learn(self, replay, rng: Streams) -> Metrics:
        """Adapt the model, cache latents anew, fit the reward."""
        return self.update(replay, rng)

    def improve(self, steps: int, first: bool, rng: Streams, metrics: Averages) -> None:
        """Updates of rewards and ends for new steps."""
        config = self.config
        for _ in range(self.due("improve", config.updates_per_step, steps) + config.first_updates * first):
            windows = self.cache.windows(config.batch_size, config.horizon, rng.numpy("reward"))
            metrics.add(fit_rewards_and_ends(self, windows, clip=10.0, owned=self.owned))
            self.updates += 1

    def see(self, replay) -> None:
        """Filter what is not cached yet."""
        self.cache.extend(self.model, replay)

    def read(self, replay) -> torch.Tensor:
        """Features (n, F) of all that was seen."""
        return self.features(self._packed(self.cache))

    # Imagining

    def begin(self, tasks: int, particles: int, rng: Streams) -> torch.Tensor:
        """States (N, P, Z + M): latents of the target, from anywhere in its episodes but ends for good."""
        if not self.owned:
            windows = self._windows(tasks * particles, 0, rng)
            states = windows.packed[:, 0]
            goes_on = (~windows.terminal[:, 0]).nonzero().flatten()
            if 0 < len(goes_on) < len(states):
                states = states[goes_on[torch.arange(len(states), device=states.device) % len(goes_on)]]
            return states.unflatten(0, (tasks, particles))
        *_, terminal, mask = (column.cpu() for column in self.cache.flat())
        packed, draws = self._packed(self.cache), rng.torch("begin")
        frames = [(mask[:, k] & ~terminal).nonzero().flatten() for k in range(self.heads)]
        if not all(map(len, frames)):
            raise UserError(_forgotten(f"{self.heads} heads"))
        chosen = [frames[n % self.heads] for n in range(tasks)]
        rows = torch.stack([f[torch.randint(len(f), (particles,), generator=draws)] for f in chosen])
        return packed[rows.to(packed.device)]

    def step(self, states: torch.Tensor, actions: torch.Tensor):
        """States (N, P, Z + M) and actions (N, P, A) -> next states, rewards (N, P), whether that ended it (N, P)."""
        shape = states.shape[:2]
        if shape not in self._routes:
            head = torch.arange(shape[0], device=states.device).repeat_interleave(shape[1]) % self.model.heads
            self._routes[shape] = self.model.route(head)
        latent, action = self.model.unpack(states.flatten(0, 1)), actions.flatten(0, 1)
        following = self.model.transition(latent, action, self._routes[shape]).mean()
        state = self.reward.state(following)
        reward, ended = self.reward.estimate(state, action), torch.zeros(len(action), dtype=torch.bool)
        if self.cache.ends:
            ended = self.continuation.estimate(state, action) < 0.5
        found = self.model.pack(following), reward, ended.to(states.device)
        return tuple(value.unflatten(0, shape) for value in found)

    def features(self, states: torch.Tensor) -> torch.Tensor:
        """What a policy reads of states (..., Z + M): the model's features and relations."""
        return super().features(self.model.unpack(states))

    # Real episodes

    @torch.no_grad()
    def observe(self, step: Step, carry: Any) -> tuple[torch.Tensor, Any]:
        """Filter one instant: what a policy reads, (B, F), and the carry. Every episode on its own."""
        latent = self.model.observe(carry, replace(step, is_task_first=step.is_first).to(self.device))
        return super().features(latent), latent

    def episodes(self, replay) -> list[torch.Tensor]:
        """Features (T + 1, F) of every episode."""
        cache = type(self.cache)()
        cache.extend(self.model, replay)
        return list(self.features(self._packed(cache)).split(cache.lengths))

    @staticmethod
    def _packed(cache) -> torch.Tensor:
        samples, memories, *_ = cache.flat()
        return torch.cat([samples, memories], -1)
