"""Named random streams: independent, repeatable, and carried through a checkpoint."""

import itertools

import numpy as np
import torch
from torch import nn

from meta_latent.experiment.runs import checkpoint
from meta_latent.rng import Streams, derive, seeded_construction


def draws(streams, name):
    return streams.numpy(name).random(500), torch.rand(500, generator=streams.torch(name)).double().numpy()


def test_streams_are_repeatable_and_independent():
    found = {(seed, name): draws(Streams(seed), name) for seed in (0, 1) for name in ("a", "b")}
    for key, values in found.items():
        again = draws(Streams(key[0]), key[1])
        assert all(np.array_equal(x, y) for x, y in zip(values, again, strict=True))
    columns = [x for values in found.values() for x in values]
    for x, y in itertools.combinations(columns, 2):
        assert abs(np.corrcoef(x, y)[0, 1]) < 5 / np.sqrt(500)  # standard error of a correlation: 1 / sqrt(n)


def test_a_stream_does_not_depend_on_what_others_draw():
    disturbed = Streams(3)
    draws(disturbed, "other")
    assert all(np.array_equal(x, y) for x, y in zip(draws(disturbed, "a"), draws(Streams(3), "a"), strict=True))


def test_state_survives_a_checkpoint(tmp_path):
    streams = Streams(5)
    draws(streams, "a")
    streams.numpy("a").standard_normal(3)
    checkpoint.save(tmp_path, {"streams": streams.state()})
    resumed = Streams(0)
    resumed.load_state(checkpoint.load(tmp_path)["streams"])
    for name in ("a", "new"):
        assert all(np.array_equal(x, y) for x, y in zip(draws(streams, name), draws(resumed, name), strict=True))


def test_derived_seeds_differ_by_every_part_and_are_the_same_everywhere():
    seeds = {derive(*parts) for parts in ((0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a", 2), (0, "a1"))}
    assert len(seeds) == 7 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive(0, "pretrain") == 3965143055214734835


def test_seeded_construction_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    weights = []
    for seed in (1, 1, 2):
        with seeded_construction(seed):
            weights.append(nn.Linear(3, 3).weight.detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.random.get_rng_state())
