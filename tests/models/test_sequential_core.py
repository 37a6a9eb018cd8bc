"""The two-layer latent against plain loops over its graph, torch.distributions, and what it must not know."""

from dataclasses import replace

import torch
from torch import distributions
from torch.nn import functional

from meta_latent.models import losses
from meta_latent.models.config import CoreConfig, EnsembleConfig, LossConfig, ModelConfig
from meta_latent.models.core import Latent
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.sequential_core import SequentialCore
from meta_latent.rng import seeded_construction
from meta_latent.types import SequenceBatch, Spec

SIZE, ACTIONS, WIDTH, HEADS, ROWS, STEPS = 4, 2, 5, 3, 6, 7
WEIGHTS = LossConfig(divergence=1.0, divergence_balance=0.3, free_nats=0.0)


def core(dtype=torch.float32):
    with seeded_construction(0):
        made = SequentialCore(SIZE, ACTIONS, CoreConfig("sequential", WIDTH, 8), EnsembleConfig(HEADS, 16, 2))
        for p in (*made.transitions.last.parameters(), *made.posterior[-1].parameters()):
            p.data *= 10.0  # as made, they hardly do anything
    return made.to(dtype)


def model(**more):
    with seeded_construction(0):
        made = LatentStateModel(Spec({}, SIZE, ACTIONS), ModelConfig(
            core=CoreConfig("sequential", WIDTH, 8), ensemble=EnsembleConfig(HEADS, 16, 2), loss=WEIGHTS,
            head_hidden=8, reward_dropout=0.0, **more))  # fmt: skip
        made.core.load_state_dict(core().state_dict())
    return made


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=rng(seed), dtype=dtype)


def sequences():
    """Embeddings (B, T, Z), actions, rewards and presence of episodes from their first frames on."""
    live = (torch.arange(STEPS) > 0).float().expand(ROWS, -1)
    actions, rewards = random(ROWS, STEPS, ACTIONS, seed=1) * live[..., None], random(ROWS, STEPS, seed=2) * live
    return random(ROWS, STEPS, SIZE), actions, rewards, live


def batch():
    proprio, action, reward, present = sequences()
    no = torch.zeros(ROWS, STEPS, dtype=torch.bool)
    mask = functional.one_hot(torch.tensor([0, 1, 2, 2, 1, 0]), HEADS).bool()
    return SequenceBatch({}, proprio, action, reward, present, no, no, no, no, head_mask=mask)


def spread(raw):
    return functional.softplus(raw - 2.0) + CoreConfig().min_stddev


def second_of(c, z1, z2, action):
    """p(z2 | z1, z2 before, action), by hand; at the first frame `z2` is None. Mean and stddev (B, M)."""
    first, z2 = z2 is None, torch.zeros(len(z1), WIDTH) if z2 is None else z2
    flag = torch.full((len(z1), 1), float(not first))
    change, gate, raw = c.second(torch.cat([z1, z2, action * flag, flag], -1)).split(WIDTH, -1)
    return z2 + gate.sigmoid() * (change.tanh() - z2), spread(raw)


def head_of(c, head, z2, action):
    """p(z1 | z2 before, action) of one head, by hand: a distribution over (Z,)."""
    x = torch.cat([z2, action])
    for layer in c.transitions.own:
        x = functional.elu(x @ layer.weight[head] + layer.bias[head, 0])
    x = x @ c.transitions.last.weight[head] + c.transitions.last.bias[head, 0]
    return distributions.Normal(x[:SIZE], spread(x[SIZE:]))


def test_filtering_with_noise_equals_observing_with_the_same_noise():
    c, (embeddings, actions, rewards, present) = core(), sequences()
    whole, noise, memory = c.filter(embeddings, actions, rewards, present, rng()), rng(), c.initial(ROWS).memory
    for t in range(STEPS):
        latent = c.observe(memory, embeddings[:, t], actions[:, t], rewards[:, t], present[:, t], noise)
        for name in ("sample", "mean", "stddev", "memory"):
            torch.testing.assert_close(getattr(whole, name)[:, t], getattr(latent, name))
        memory = latent.memory
    still = c.filter(embeddings, actions, rewards, present)
    assert torch.equal(still.sample, still.mean) and not torch.allclose(whole.sample, still.sample, atol=0.1)


def test_the_posterior_is_that_of_the_graph():
    """q(z1 | x, z2, a) around the embedding, and for z2 its prior given z1, z2 and a, in a plain loop."""
    c, (embeddings, actions, rewards, present) = core(), sequences()
    found, z2 = c.filter(embeddings, actions, rewards, present, rng()), None
    for t in range(STEPS):
        flag = torch.full((ROWS, 1), float(t > 0))
        before = torch.zeros(ROWS, WIDTH) if z2 is None else z2
        signal = torch.stack([rewards[:, t], present[:, t]], -1)
        inputs = [embeddings[:, t], signal, before, actions[:, t] * flag, flag]
        change, raw = c.posterior(torch.cat(inputs, -1)).split(SIZE, -1)
        torch.testing.assert_close(found.mean[:, t], embeddings[:, t] + change)
        torch.testing.assert_close(found.stddev[:, t], spread(raw))
        mean, stddev = second_of(c, found.sample[:, t], z2, actions[:, t])
        torch.testing.assert_close(c.belief(found.memory[:, t]), torch.cat([mean, stddev], -1))
        z2 = c.recall(found.memory[:, t])
        assert not torch.allclose(z2, mean, atol=0.01)


def test_noise_is_gaussian_in_both_layers_seen_and_imagined():
    """Mean 0, variance 1 and kurtosis 3; of uniform noise it would be 1.8."""
    c, rows = core(), 20_000
    memory, action = random(1, 3 * WIDTH).exp().expand(rows, -1), torch.zeros(rows, ACTIONS)
    seen = c.observe(memory, random(1, SIZE).expand(rows, -1), action, action[:, 0], action[:, 0], rng())
    prior = c.transition(seen[:1].map(lambda x: x.expand(rows, -1)), action, torch.zeros(rows, dtype=torch.long))
    for latent in (seen, prior.sample(rng())):
        mean, stddev = c.belief(latent.memory).split(WIDTH, -1)
        for x in ((latent.sample - latent.mean) / latent.stddev, (c.recall(latent.memory) - mean) / stddev):
            moments = torch.stack([x.mean(), x.square().mean(), x.pow(4).mean()])
            # stddevs of a standard Gaussian's x, x^2 and x^4: 1, 2^.5, 96^.5
            error = (moments - torch.tensor([0.0, 1.0, 3.0])).abs() / torch.tensor([1.0, 2**0.5, 96**0.5])
            assert (error < 5 / x.numel() ** 0.5).all()


def test_the_divergence_is_that_of_z1_from_the_prior_after_posterior_samples():
    """A plain loop with torch.distributions; N(0, I) for the first frame; a chain of prior samples is another."""
    m, b = model(), batch()
    found = losses.loss(m, b, rng())["divergence"]
    noise, head = rng(), b.head_mask.int().argmax(-1)
    torch.rand(ROWS, 1, generator=noise)  # which sequences hide their rewards
    posterior = m.filter(b.proprio, b.action, b.reward, b.reward_present, noise)
    wanted, chained = torch.zeros(ROWS, STEPS), torch.zeros(ROWS, STEPS)
    for row in range(ROWS):
        alone = m.core.recall(posterior.memory[row, 0])
        for t in range(STEPS):
            q = distributions.Normal(posterior.mean[row, t], posterior.stddev[row, t])
            p = other = distributions.Normal(torch.zeros(SIZE), torch.ones(SIZE))
            if t:
                z2, action = m.core.recall(posterior.memory[row, t - 1]), b.action[row, t]
                p, other = (head_of(m.core, int(head[row]), z, action) for z in (z2, alone))
                alone = second_of(m.core, other.sample()[None], alone[None], action[None])[0][0]
            wanted[row, t] = distributions.kl_divergence(q, p).sum()
            chained[row, t] = distributions.kl_divergence(q, other).sum()
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found[:, 2:], chained[:, 2:], rtol=0.01)


def test_the_divergence_reaches_the_heads_by_its_balance_and_z2_through_them():
    m, b = model(), batch()
    gradients = {}
    for balance in (0.0, 1.0):
        m.config = replace(m.config, loss=replace(WEIGHTS, divergence_balance=balance))
        m.zero_grad()
        losses.loss(m, b, rng())["divergence"].mean().backward()
        gradients[balance] = {
            part: sum(p.grad.abs().sum() for p in getattr(m.core, part).parameters() if p.grad is not None)
            for part in ("posterior", "second", "transitions")
        }
    assert gradients[0.0]["transitions"] == 0 and all(gradients[1.0][k] > 0 for k in gradients[1.0])
    assert gradients[0.0]["posterior"] > 0


def test_a_first_frame_reads_no_action_whatever_the_other_rows_do():
    c, (embeddings, actions, rewards, present) = core(), sequences()
    old = c.filter(embeddings[:, :3], actions[:, :3], rewards[:, :3], present[:, :3]).memory[:, -1]
    begins = torch.tensor([True, False] * (ROWS // 2))
    memory, now = torch.where(begins[:, None], 0.0, old), [x[:, 3] for x in (embeddings, actions, rewards, present)]
    mixed = c.observe(memory, *now)
    alone = [c.observe(memory[i : i + 1], *(x[i : i + 1] for x in now)) for i in range(ROWS)]
    torch.testing.assert_close(mixed.memory, torch.cat([latent.memory for latent in alone]))
    other = c.observe(memory, now[0], now[1] + 1, *now[2:])
    differs = (other.mean != mixed.mean).any(-1) & (other.memory != mixed.memory).any(-1)
    assert torch.equal(differs, ~begins)
    assert (c.belief(mixed.memory)[:, WIDTH:] >= c.min_stddev).all()  # never again taken for a first frame


def guesses(m, b, shown):
    """Rewards (B, T-1) that the loss's reward head says, with rewards `shown` to the filter."""
    said = []
    handle = m.reward_head.register_forward_hook(lambda *found: said.append(found[-1][..., 0]))
    losses.loss(m, replace(b, reward=shown), rng())
    handle.remove()
    return said[0]


def test_a_reward_is_predicted_from_earlier_ones_alone():
    m, b = model(), batch()
    shown = b.reward.clone().requires_grad_()
    said = guesses(m, b, shown)
    for k in range(STEPS - 1):  # said[:, k] is about reward k + 1
        used = torch.autograd.grad(said[:, k].sum(), shown, retain_graph=True)[0].abs().sum(0) > 0
        assert used.tolist() == [0 < t <= k for t in range(STEPS)]


def test_a_filtered_z1_knows_its_reward_and_a_predicted_one_only_those_before():
    """Why `predict` is given what was predicted."""
    m, (embeddings, actions, rewards, present) = model(), sequences()
    before = m.filter(embeddings[:, :3], actions[:, :3], rewards[:, :3], present[:, :3])[:, -1]
    embedding, action, reward = embeddings[:, 3], actions[:, 3], rewards[:, 3]

    def observed(more, shown=1.0):
        return m.core.observe(before.memory, embedding, action, reward + more, torch.full((ROWS,), shown))

    def paid_next(latent):
        ahead = m.transition(latent, actions[:, 4], torch.zeros(ROWS, dtype=torch.long)).mean()
        return m.predict(latent, actions[:, 4], ahead).reward

    low, high = observed(0.0), observed(9.0)
    a, b = (m.predict(before, action, latent).reward for latent in (low, high))
    assert not torch.equal(a, b) and not torch.equal(paid_next(low), paid_next(high))
    assert torch.equal(m.pack(observed(0.0, shown=0.0)), m.pack(observed(9.0, shown=0.0)))


def imagined_from(c, dtype=torch.float32):
    memory = random(ROWS, 3 * WIDTH, seed=3, dtype=dtype).exp()
    sample = random(ROWS, SIZE, seed=4, dtype=dtype)
    return c.latent(sample, sample, torch.ones_like(sample), memory)


def test_every_row_goes_through_its_head_and_all_through_one_second_layer():
    c, action, head = core(), random(ROWS, ACTIONS, seed=5), torch.tensor([2, 0, 2, 1, 1, 0])
    latent = imagined_from(c)
    found = c.transition(latent, action, head)
    following, z2 = found.sample(rng()), c.recall(latent.memory)
    for row, h in enumerate(head.tolist()):
        wanted = head_of(c, h, z2[row], action[row])
        torch.testing.assert_close(found.loc[row], wanted.mean)
        torch.testing.assert_close(found.stddev[row], wanted.stddev)
        torch.testing.assert_close(found.log_prob(latent.sample)[row], wanted.log_prob(latent.sample[row]).sum())
    mean, stddev = second_of(c, following.sample, z2, action)
    torch.testing.assert_close(c.belief(following.memory), torch.cat([mean, stddev], -1))
    mean, stddev = second_of(c, found.loc, z2, action)
    torch.testing.assert_close(found.mean().memory, torch.cat([mean, mean, stddev], -1))
    heads = [c.transition(latent, action, torch.full_like(head, h)).loc for h in range(HEADS)]
    assert all((heads[i] - heads[j]).abs().max() > 0.01 for i in range(HEADS) for j in range(i))
    found.loc[head == 0].sum().backward()
    gradient = c.transitions.own[0].weight.grad.abs().sum((1, 2))
    assert gradient[0] > 0 and gradient[1] == gradient[2] == 0


def test_transition_gradients_by_finite_differences():
    c, action, head = core(torch.float64), random(ROWS, ACTIONS, seed=5, dtype=torch.float64), torch.arange(6) % HEADS
    start = imagined_from(c, torch.float64)

    def two_steps(memory, action):
        latent = Latent(start.sample, start.mean, start.stddev, memory, start.relations)
        second = c.transition(c.transition(latent, action, head).mean(), 0.5 * action, head).mean()
        return second.sample, second.memory

    assert torch.autograd.gradcheck(two_steps, [x.clone().requires_grad_() for x in (start.memory, action)])


def test_features_are_both_layers_samples_or_parameters():
    m, (embeddings, actions, rewards, present) = model(), sequences()
    latent = m.filter(embeddings, actions, rewards, present, rng())[:, -1]
    z2, mean, stddev = latent.memory.split(WIDTH, -1)
    assert torch.equal(m.features(latent), torch.cat([latent.sample, z2], -1))
    assert torch.equal(m.features(latent, "belief"), torch.cat([latent.mean, latent.stddev, mean, stddev], -1))
    assert m.features(m.unpack(m.pack(latent))).equal(m.features(latent))
