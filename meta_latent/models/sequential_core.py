"""The sequential core: two layers of latents, z1 and z2, of which only z1 reads what is observed.

SLAC (Lee et al. 2019, arXiv 1907.00953) and MELD (Zhao et al. 2020, arXiv 2010.13957), all conditionals diagonal
Gaussians:

* prior: p(z1_0) = N(0, I), p(z2_0 | z1_0), p(z1_t+1 | z2_t, a_t), p(z2_t+1 | z1_t+1, z2_t, a_t), where a_t leads from
  t to t + 1 (it is `action[t + 1]`);
* posterior: q(z1_0 | x_0), q(z1_t+1 | x_t+1, z2_t, a_t), and for z2 the prior itself, so that the divergence has a
  term for z1 only. MELD's x_t is what is seen and the reward that arrived with it.

A latent's `sample`, `mean` and `stddev` are those of z1; its `memory` is [sample, mean, stddev] of z2. A memory whose
stddev is 0, as `Core.initial` makes it, remembers nothing: the row is at its first frame, whatever the others are at.

A posterior has read the reward, and so has z1: unlike in `RecurrentCore`, a reward may be predicted from a z1 that
was imagined, never from one that was filtered. `losses` holds the prior that follows from POSTERIOR samples of the
step before against the posterior. It takes means over time as MELD does (SLAC: sums), and over an image's pixels
(both: sums), so that their weights do not carry over.

What rewards say of the task has one way, through z1 into z2. `loss.embedding` holds z1 to the embedding: where it
weighs too much beside `loss.reward`, the way stays closed (`conv_sequential` has 0.1; MELD's weight of the reward is
some 60).

Deviations:

* z1 is as large as an embedding, q's mean is the embedding plus a correction, and decoders and relations read z1
  alone, so that what an encoder makes explicit stays explicit (SLAC decodes from z1 and z2);
* one network for a first frame and all others, which are told it by a flag and read neither z2 nor an action there
  (SLAC has two of each);
* the reward comes with a presence flag, and is decoded one step ahead, from z2_t and the predicted z1_t+1 (MELD:
  from z1 and z2 of its own step);
* K networks p(z1_t+1 | z2_t, a_t), the transition heads, instead of one; they share p(z2 | ...);
* the mean of z2 is a gated mixture of the sample of z2 before and a new value, as in a GRU, so that a task is still
  known many steps after it was seen (SLAC: a linear output);
* ELU instead of leaky ReLU; the floor of every stddev is `core.min_stddev` (1e-5); KL balancing and free nats
  (`losses.divergence`; none at `divergence_balance=0.5`, `free_nats=0` and twice the weight).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from meta_latent.models.config import CoreConfig, EnsembleConfig
from meta_latent.models.core import Core, Latent, Routing, TransitionDistribution
from meta_latent.nets import MLP

LAYERS = 2
"""Hidden layers of the posterior's network and of z2's."""


class SequentialCore(Core):
    """Posterior, second layer and K transition heads over embeddings of size `size`: see the module's docstring.

    `core.memory` is the size of z2, `core.hidden` the width of its network and of the posterior's; `ensemble` is that
    of p(z1_t+1 | z2_t, a_t). `relate` maps samples (..., Z) to their relations; no network here reads those.
    """

    first_has_prior = True

    def __init__(
        self,
        size: int,
        action_size: int,
        core: CoreConfig,
        ensemble: EnsembleConfig,
        relate: Callable[[torch.Tensor], torch.Tensor] = lambda sample: sample[..., :0],
        relations: int = 0,
    ):
        super().__init__(size, 3 * core.memory, core, ensemble, relate)
        self.width, before = core.memory, core.memory + action_size
        self.posterior = MLP(size + 2 + before + 1, 2 * size, core.hidden, LAYERS, output_scale=0.1)
        self.second = MLP(size + before + 1, 3 * core.memory, core.hidden, LAYERS)
        self.transitions = self.make_heads(before, ensemble)

    def observe(self, memory, embedding, action, reward, present, rng=None) -> Latent:
        """See `Core`."""
        seen = torch.cat([embedding, torch.stack([reward * present, present], -1)], -1)
        return self.latent(*self._step(memory, seen, action, rng))

    def filter(self, embeddings, actions, rewards, present, rng=None, memory=None) -> Latent:
        """See `Core`; a loop over time."""
        if memory is None:
            memory = self.initial(len(embeddings), embeddings.device).memory
        seen = torch.cat([embeddings, torch.stack([rewards * present, present], -1)], -1)
        steps = []
        for now, action in zip(seen.unbind(1), actions.unbind(1), strict=True):
            steps.append(self._step(memory, now, action, rng))
            memory = steps[-1][-1]
        return self.latent(*(torch.stack(parts, 1) for parts in zip(*steps, strict=True)))

    def transition(self, latent: Latent, action: torch.Tensor, head: torch.Tensor | Routing) -> TransitionDistribution:
        """See `Core`: z2 and the action say what z1 comes next."""
        inputs = torch.cat([self.recall(latent.memory), action], -1)
        return TransitionDistribution(self, latent, action, *self.through_heads(inputs, head))

    def remember(self, memory, sample, action, rng=None) -> torch.Tensor:
        """See `Core`: draws z2 (its mean without a generator) from what is both its prior and its posterior."""
        return self._second(sample, self._before(memory, action), rng)

    def recall(self, memory: torch.Tensor) -> torch.Tensor:
        """See `Core`: the sample of z2."""
        return memory[..., : self.width]

    def belief(self, memory: torch.Tensor) -> torch.Tensor:
        """See `Core`: mean and stddev of z2."""
        return memory[..., self.width :]

    def _step(self, memory, seen, action, rng) -> tuple[torch.Tensor, ...]:
        """z1's sample, mean and stddev (B, Z) and the memory after one step; `seen`: embedding, reward, presence."""
        before = self._before(memory, action)
        correction, raw = self.posterior(torch.cat([seen, before], -1)).chunk(2, -1)
        mean, stddev = seen[:, : self.size] + correction, self.stddev(raw)
        sample = self.draw(mean, stddev, rng)
        return sample, mean, stddev, self._second(sample, before, rng)

    def _before(self, memory, action) -> torch.Tensor:
        """z2, action and 1 (B, M' + A + 1): what a step that is not the first goes on from; zeros if it is."""
        begun = (memory[:, -1:] > 0).to(action.dtype)
        return torch.cat([self.recall(memory), action * begun, begun], -1)

    def _second(self, sample, before, rng) -> torch.Tensor:
        """The memory once z1 is `sample`."""
        change, gate, raw = self.second(torch.cat([sample, before], -1)).chunk(3, -1)
        mean, stddev = self.recall(before).lerp(change.tanh(), gate.sigmoid()), self.stddev(raw)
        return torch.cat([self.draw(mean, stddev, rng), mean, stddev], -1)
