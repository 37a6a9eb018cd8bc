"""Updates whose batch several learners share, each in a thread: they are one learner's on the whole batch."""

import copy
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, play
from meta_latent.data.latents import LatentWindows
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.models import encoders, losses
from meta_latent.models.config import CoreConfig, EncoderConfig, EnsembleConfig, LossConfig, ModelConfig
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import LearnerConfig, ModelLearner
from meta_latent.ops import shares
from meta_latent.rng import Streams, seeded_construction
from meta_latent.types import Spec

SUITE = task_suites.get("toy/hidden_goal", goals="ring", reward="dense", episode_steps=5, image_size=8)
SPEC, ROWS, UPDATES = Spec.of(SUITE), 7, 4
WEIGHTS = LossConfig(counterfactual=3.0, counterfactual_frames=5)
KINDS = ("joint", "filter", "trials on pixels", "trials", "transition")


@pytest.fixture(scope="module")
def replay():
    """Seven trials of two episodes, whose lengths and heads differ."""
    found, rng = SequenceReplay(SPEC, ReplayConfig(), heads=3), np.random.default_rng(0)
    seeds = np.arange(2 * ROWS).reshape(ROWS, 2)
    rows = SUITE.make_vector(SUITE.sample("train", ROWS, 0))
    played = play(rows, Noise(2, NoiseConfig()), seeds, Streams(0), explore=True, keep=True)
    for k, trial in enumerate(played.episodes):
        for episode in trial:
            found.add_episode(episode, rng.random(3) < 0.6, k)
    return found


@pytest.fixture(autouse=True)
def double(monkeypatch):
    """In float64 nothing is left of how sums are ordered."""
    images = encoders.to_float
    for module in (encoders, losses):
        monkeypatch.setattr(module, "to_float", lambda x: images(x).double())


def learner(core):
    kind = "conv" if core == "sequential" else "keypoints"  # whose relations of a first latent are float32
    config = ModelConfig(EncoderConfig(kind, channels=(4, 4), keypoints=2, embedding=5), CoreConfig(core, 6, 8),
                         EnsembleConfig(3, 8, 1), WEIGHTS, head_hidden=8, continuation=True)  # fmt: skip
    with seeded_construction(0):
        return ModelLearner(LatentStateModel(SPEC, config, ("a", "b")).double(), LearnerConfig(gradient_clip=0.5))


def doubled(value):
    """Floats of a batch, in float64."""
    change = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return dataclasses.replace(value, **{k: x.double() for k, x in change.items()
                                         if isinstance(x, torch.Tensor) and x.is_floating_point()})  # fmt: skip


def inputs_of(kind, model, replay):
    """What the update of a learner takes: its method, the whole batch, and what is no batch."""
    rng = np.random.default_rng(1)
    draws = torch.Generator().manual_seed(2)
    if kind == "transition":
        sizes = (4, model.latent_size), (4, model.core.memory_size), (4, SPEC.action_size), (4,)
        columns = [torch.randn(ROWS, *size, generator=draws, dtype=torch.float64) for size in sizes]
        mask = torch.rand(ROWS, 3, generator=draws) < 0.6
        rows = torch.arange(4).expand(ROWS, 4)
        weights = torch.ones(ROWS, 4, dtype=torch.float64)
        return "transition", {"windows": LatentWindows(*columns, rows > 9, mask, rows, weights)}, {}
    if kind.startswith("trials"):
        batch = doubled(replay.trials(None, 2))
        valid = batch.valid.clone()
        valid[0, -4:], valid[5, -6:] = False, False
        batch = dataclasses.replace(batch, valid=valid)
        shown = dataclasses.replace(batch, reward_present=batch.reward_present * (torch.arange(ROWS) % 2)[:, None])
        found = {"batch": batch, "shown": shown}
        if kind == "trials":
            found["embeddings"] = torch.randn(*valid.shape, model.latent_size, generator=draws, dtype=torch.float64)
        return "trials", found, {"weights": WEIGHTS}
    batch = doubled(replay.sequences(ROWS, 5, rng))
    rewards = torch.randn(ROWS, 5, 2, generator=draws, dtype=torch.float64)
    found = {"batch": batch, "task_rewards": rewards}
    if kind == "filter":
        found["known"] = torch.arange(2 * ROWS).view(ROWS, 2) % 3 > 0
        found["embeddings"] = torch.randn(ROWS, 5, model.latent_size, generator=draws, dtype=torch.float64)
    return kind, found, {}


def part(value, rows):
    if isinstance(value, torch.Tensor):
        return value[rows]
    if isinstance(value, dict):
        return {key: part(item, rows) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(
            value, **{f.name: part(getattr(value, f.name), rows) for f in dataclasses.fields(value)}
        )
    return value


class Sums:
    """Sums over threads that all ask at once."""

    def __init__(self, count):
        self.barrier, self.parts = threading.Barrier(count), [None] * count

    def of(self, rank):
        def total(values):
            self.parts[rank] = values
            self.barrier.wait(timeout=60)
            found = torch.stack(self.parts).sum(0)
            self.barrier.wait(timeout=60)
            return found

        return total


def run(member, kind, inputs, constant, rng, rows=slice(None)):
    """Some updates: what was measured, and where the generator is."""
    generator = rng.generator if isinstance(rng, shares.Share) else rng
    found = [getattr(member, kind)(**part(inputs, rows), **constant, rng=rng, scale=0.5) for _ in range(UPDATES)]
    return [one[0] if isinstance(one, tuple) else one for one in found], generator.get_state()


def shared(members, kind, inputs, constant):
    """The same by several learners in threads."""
    sums = Sums(len(members))

    def one(rank, start, stop):
        rng = shares.Share(torch.Generator().manual_seed(3), start, stop, ROWS, sums.of(rank))
        return run(members[rank], kind, inputs, constant, rng, rng.rows)

    with ThreadPoolExecutor(len(members)) as pool:
        waiting = [pool.submit(one, k, *ends) for k, ends in enumerate(shares.bounds(ROWS, len(members)))]
        return [future.result(timeout=60) for future in waiting]


def difference(a, b):
    """Largest difference of two learners' weights."""
    pairs = zip(a.model.parameters(), b.model.parameters(), strict=True)
    return max(float((x - y).detach().abs().max()) for x, y in pairs)


def compared(kind, core, count, replay):
    """Shared updates beside one learner's: differences of weights and of measures, and how many generators are
    elsewhere.
    """
    alone = learner(core)
    began, members = copy.deepcopy(alone), [learner(core) for _ in range(count)]
    method, inputs, constant = inputs_of(kind, alone.model, replay)
    wanted, after = run(alone, method, inputs, constant, torch.Generator().manual_seed(3))
    found = shared(members, method, inputs, constant)
    assert difference(alone, began) > 1e-3  # something was learned
    pairs = [pair for each, _ in found for pair in zip(each, wanted, strict=True)]
    assert all(one.keys() == whole.keys() for one, whole in pairs)
    measured = max(abs(one[name] / value - 1) for one, whole in pairs for name, value in whole.items())
    astray = sum(not torch.equal(state, after) for _, state in found)
    return max(difference(alone, member) for member in members), measured, astray


@pytest.mark.parametrize(
    ("kind", "core", "count"),
    [(kind, core, 3) for kind in KINDS for core in ("rssm", "sequential", "deterministic")] + [("joint", "rssm", 2)],
)
def test_shares_add_up_to_the_whole(kind, core, count, replay):
    weights, measured, astray = compared(kind, core, count, replay)
    assert weights < 1e-9 and measured < 1e-6 and not astray  # the cross entropy of ends is a float32


def alone_randn(shape, rng):
    return torch.randn(shape, generator=rng.generator if isinstance(rng, shares.Share) else rng)


def other_multinomial(weights, count, replacement, rng):
    return torch.multinomial(weights, count, replacement, generator=torch.Generator())


BREAKS = {
    "mean": ("joint", lambda values, rng: values.detach().mean(0)),
    "averaged": ("transition", lambda values, rng: values),
    "weight": ("filter", lambda rng: 0.5),
    "randn": ("filter", alone_randn),
    "multinomial": ("trials", other_multinomial),
    "add_up": ("transition", lambda tensors, rng: None),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_not_shared_shows(name, replay, monkeypatch):
    """The control: with one of the rules broken, the same comparison fails."""
    kind, broken = BREAKS[name]
    monkeypatch.setattr(shares, name, broken)
    assert max(compared(kind, "rssm", 2, replay)) > 1e-5


def test_a_masked_mean_is_over_all_shares(replay, monkeypatch):
    monkeypatch.setattr(shares, "mean", BREAKS["mean"][1])
    assert max(compared("trials", "rssm", 2, replay)) > 1e-6


@pytest.mark.parametrize(("size", "count"), [(7, 2), (7, 3), (4, 4), (5, 1)])
def test_every_row_is_in_one_share(size, count):
    ends = shares.bounds(size, count)
    assert [row for start, stop in ends for row in range(start, stop)] == list(range(size))
    assert all(size // count <= stop - start <= -(-size // count) for start, stop in ends)


def test_a_draw_that_bypasses_the_shares_fails():
    share = shares.Share(torch.Generator(), 0, 2, 4, lambda x: x)
    with pytest.raises(TypeError):
        torch.randn(2, generator=share)
