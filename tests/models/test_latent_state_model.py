"""The latent state model: filtering, shapes, packing; with and without images of several cameras."""

import dataclasses

import numpy as np
import pytest
import torch

from meta_latent.errors import UserError
from meta_latent.models.config import CoreConfig, EncoderConfig, EnsembleConfig, ModelConfig
from meta_latent.models.encoders import to_float, to_uint8
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.rng import seeded_construction
from meta_latent.types import Spec, Step

SPEC = Spec({"side": (8, 8, 3), "top": (16, 16, 3)}, 4, 2, 3)
SMALL = ModelConfig(
    EncoderConfig(channels=(4, 4), keypoints=3, embedding=5),
    CoreConfig(memory=6, hidden=8),
    EnsembleConfig(3, 16, 1),
    head_hidden=8,
    continuation=True,
)
CORES = ("rssm", "deterministic", "sequential")
KINDS = [(e, c) for e in ("keypoints", "conv") for c in CORES]


def model(encoder="keypoints", core="rssm", **more):
    config = dataclasses.replace(
        SMALL,
        encoder=dataclasses.replace(SMALL.encoder, kind=encoder),
        core=dataclasses.replace(SMALL.core, kind=core),
        **more,
    )
    with seeded_construction(0):
        return LatentStateModel(SPEC, config, ("a", "b"))


def steps(rows, length, seed=0):
    """A list of `length` steps, one episode each row."""
    rng = torch.Generator().manual_seed(seed)
    found = []
    for t in range(length):
        first = torch.full((rows,), t == 0)
        images = {
            c: torch.randint(0, 256, (rows, *shape), dtype=torch.uint8, generator=rng)
            for c, shape in SPEC.images.items()
        }
        live = (~first).float()
        found.append(
            Step(
                images,
                torch.randn(rows, 4, generator=rng),
                torch.randn(rows, 2, generator=rng) * live[:, None],
                torch.randn(rows, generator=rng) * live,
                live,
                first,
                ~first & (t == length - 1),
                torch.zeros(rows, dtype=torch.bool),
                first,
            )
        )
    return found


def filtered(m, sequence, present=1.0):
    embeddings = torch.stack([m.embed(s.images, s.proprio) for s in sequence], 1)
    action, reward, shown = (
        torch.stack([getattr(s, k) for s in sequence], 1) for k in ("action", "reward", "reward_present")
    )
    return m.filter(embeddings, action, reward, shown * present)


def observed(m, sequence, latent=None):
    latent = latent or m.initial(len(sequence[0].reward))
    found = []
    for step in sequence:
        latent = m.observe(latent, step)
        found.append(latent)
    return found


@pytest.mark.parametrize(("encoder", "core"), KINDS)
def test_filtering_a_sequence_equals_observing_its_steps(encoder, core):
    m, sequence = model(encoder, core), steps(3, 5)
    whole = filtered(m, sequence)
    for t, latent in enumerate(observed(m, sequence)):
        for name in ("sample", "mean", "stddev", "memory", "relations"):
            torch.testing.assert_close(getattr(whole, name)[:, t], getattr(latent, name))


@pytest.mark.parametrize(("encoder", "core"), KINDS)
def test_every_verb_keeps_the_relations_of_its_sample(encoder, core):
    m, sequence = model(encoder, core), steps(3, 2)
    latent = observed(m, sequence)[-1]
    step = m.transition(latent, sequence[0].action, torch.tensor([0, 1, 0]))
    drawn = step.sample(torch.Generator().manual_seed(0))
    for found in (m.initial(3), latent, filtered(m, sequence), step.mean(), drawn, m.unpack(m.pack(latent))):
        assert torch.equal(found.relations, m.relations(found.sample))
        assert found.relations.shape[-1] == m.relation_size


@pytest.mark.parametrize("core", CORES)
def test_a_sequence_can_go_on_where_another_ended(core):
    m, sequence = model(core=core), steps(2, 6)
    whole, first = filtered(m, sequence), filtered(m, sequence[:3])
    embeddings = torch.stack([m.embed(s.images, s.proprio) for s in sequence[3:]], 1)
    rest = m.filter(
        embeddings,
        *(torch.stack([getattr(s, k) for s in sequence[3:]], 1) for k in ("action", "reward", "reward_present")),
        memory=first.memory[:, -1],
    )
    torch.testing.assert_close(rest.memory, whole.memory[:, 3:])


@pytest.mark.parametrize("core", CORES)
def test_a_task_s_first_step_forgets_the_rows_it_concerns(core):
    m, (first, second) = model(core=core), steps(2, 2)
    before = observed(m, [first])[0]
    mixed = dataclasses.replace(second, is_task_first=torch.tensor([True, False]))
    after, fresh, kept = m.observe(before, mixed), m.observe(m.initial(2), second), m.observe(before, second)
    torch.testing.assert_close(after.memory, torch.stack([fresh.memory[0], kept.memory[1]]))
    assert not torch.allclose(fresh.memory[0], kept.memory[0])


def test_rewards_change_the_memory_only_where_they_are_shown():
    m, sequence = model(), steps(2, 3)
    other = [dataclasses.replace(s, reward=s.reward + 1) for s in sequence]
    assert not torch.allclose(filtered(m, sequence).memory, filtered(m, other).memory)
    torch.testing.assert_close(filtered(m, sequence, 0.0).memory, filtered(m, other, 0.0).memory)
    assert torch.equal(filtered(m, sequence).sample, filtered(m, other).sample)
    blind = model(reward_input=False)
    torch.testing.assert_close(filtered(blind, sequence).memory, filtered(blind, other).memory)


@pytest.mark.parametrize(("encoder", "core"), KINDS)
def test_shapes_of_everything_others_see(encoder, core):
    m = model(encoder, core)
    latent = observed(m, steps(4, 2))[-1]
    action, head = torch.zeros(4, 2), torch.tensor([0, 1, 2, 2])
    z = m.latent_size
    assert z == sum(e.size for e in m.encoders.values()) + 4
    assert m.features(latent).shape == (4, z + 6) == (4, m.feature_size)
    assert m.features(latent, "belief").shape == (4, 2 * z + (12 if core == "sequential" else 6))
    assert m.pack(latent).shape == (4, z + m.core.memory_size) == (4, z + (18 if core == "sequential" else 6))
    with pytest.raises(ValueError, match="'sample' or 'belief'"):
        m.features(latent, "other")
    following = m.transition(latent, action, head).mean()
    prediction = m.predict(latent, action, following)
    assert prediction.reward.shape == prediction.continuation.shape == (4,) and prediction.task_rewards.shape == (4, 2)
    assert ((prediction.continuation > 0) & (prediction.continuation < 1)).all()
    for camera, image in m.decode(latent).items():
        assert image.shape == (4, *SPEC.images[camera]) and image.dtype == torch.uint8


@pytest.mark.parametrize("core", CORES)
def test_pack_and_unpack_are_inverse_and_a_point_has_no_spread(core):
    m = model(core=core)
    latent = observed(m, steps(3, 2))[-1]
    again = m.unpack(m.pack(latent))
    assert torch.equal(again.sample, latent.sample) and torch.equal(again.memory, latent.memory)
    assert (again.stddev == 0).all() and torch.equal(again.mean, latent.sample)


def test_a_fed_reward_cannot_leak_into_its_own_prediction():
    m, sequence = model(), steps(2, 3)
    before = observed(m, sequence[:2])[-1]
    for last in (sequence[2], dataclasses.replace(sequence[2], reward=sequence[2].reward + 9)):
        after = m.observe(before, last)
        found = m.predict(before, last.action, after).reward
        if last is sequence[2]:
            expected = found
    assert torch.equal(found, expected)


@pytest.mark.parametrize("encoder", ["keypoints", "conv"])
def test_each_camera_has_its_own_part_of_the_embedding(encoder):
    m, step = model(encoder), steps(2, 1)[0]
    size = m.encoders["side"].size
    changed = dict(step.images, top=255 - step.images["top"])
    a, b = m.embed(step.images, step.proprio), m.embed(changed, step.proprio)
    assert torch.equal(a[:, :size], b[:, :size]) and torch.equal(a[:, -4:], step.proprio)
    assert not torch.allclose(a[:, size:-4], b[:, size:-4])


def test_keypoints_follow_a_bright_spot():
    """An attention that looks for brightness puts its point where the spot is; x to the right, y
    downwards.
    """
    encoder = model().encoders["top"]
    with torch.no_grad():
        for layer in encoder.features:
            if hasattr(layer, "weight"):
                layer.weight.zero_()
                layer.bias.zero_()
                layer.weight[:, :, layer.weight.shape[2] // 2, layer.weight.shape[3] // 2] = 1.0
        encoder.maps.weight.fill_(5.0)
        image = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
        image[0, 4, 12] = 255
        point = encoder(image, torch.zeros(1, SPEC.proprio))[0]
    assert point[0] == pytest.approx(encoder.scale * (2 * 6 / 7 - 1), abs=0.1)
    assert point[encoder.points] == pytest.approx(encoder.scale * (2 * 2 / 7 - 1), abs=0.1)


def test_images_survive_the_way_to_floats_and_back():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert torch.equal(to_uint8(to_float(images)), images) and to_float(images).abs().max() == 0.5


def test_standardised_proprioception_is_fitted_by_calibrate_and_saved_with_the_weights():
    m, plain, sequence = model(normalise_proprio=True), model(), steps(4, 6)
    images = {c: torch.stack([s.images[c] for s in sequence], 1) for c in SPEC.images}
    proprio = torch.stack([s.proprio for s in sequence], 1) * 0.01 + 0.7
    m.calibrate(images, proprio)
    seen = m.embed(sequence[0].images, proprio[:, 0])[:, -4:]
    torch.testing.assert_close(seen, (proprio[:, 0] - proprio.mean((0, 1))) / proprio.flatten(0, 1).std(0))
    again = model(normalise_proprio=True)
    again.load_state_dict(m.state_dict())
    torch.testing.assert_close(again.embed(sequence[0].images, proprio[:, 0])[:, -4:], seen)
    torch.testing.assert_close(plain.embed(sequence[0].images, proprio[:, 0])[:, -4:], proprio[:, 0])
    assert not any(name.startswith("proprio") for name in plain.state_dict())


def test_rewards_are_read_and_predicted_on_one_scale_that_is_taken_once():
    m = model(normalise_rewards=True)
    m.calibrate_rewards(torch.tensor([1.0, 5.0]))
    m.calibrate_rewards(torch.tensor([-100.0, 100.0]))  # known already
    mean, stddev = 3.0, 8.0**0.5
    torch.testing.assert_close(m.scaled(torch.tensor([3.0, 3.0 + stddev])), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(m.unscaled(torch.tensor([0.0, 1.0])), torch.tensor([mean, mean + stddev]))
    sequence = steps(4, 6)
    embeddings = torch.stack([m.embed(s.images, s.proprio) for s in sequence], 1)
    actions, rewards, present = (torch.stack([getattr(s, name) for s in sequence], 1)
                                 for name in ("action", "reward", "reward_present"))  # fmt: skip
    whole, latent = m.filter(embeddings, actions, rewards, present), m.initial(len(rewards))
    plain = model()
    plain.load_state_dict({k: v for k, v in m.state_dict().items() if not k.startswith("rewards.")})
    by_hand = plain.filter(embeddings, actions, (rewards - mean) / stddev, present)
    torch.testing.assert_close(whole.memory, by_hand.memory)
    for t, step in enumerate(sequence):
        latent = m.observe_embedding(latent, embeddings[:, t], step)
        torch.testing.assert_close(latent.memory, whole.memory[:, t])


@pytest.mark.parametrize("encoder", ["keypoints", "conv"])
def test_imagined_latents_are_decoded_as_they_come(encoder):
    made = model(encoder)
    imagined = made.imagine(made.initial(3), torch.zeros(3, 4, 2))
    whole, one = made.decode(imagined), made.decode(imagined[1, 2])
    for camera, shape in SPEC.images.items():
        assert whole[camera].shape == (3, 4, *shape) and one[camera].shape == shape
        assert torch.equal(whole[camera][1], made.decode(imagined[1])[camera])


@pytest.mark.parametrize("head", [3, -1, 1.5, 1.0, None, [0, 1], torch.tensor([0, 1])])
def test_a_head_that_there_is_not_is_refused(head):
    made = model()
    with pytest.raises(UserError, match="from 0 to 2, as the model has 3 transition heads"):
        made.imagine(made.initial(1), torch.zeros(1, 1, 2), head)


def test_flipped_pictures_are_encoded_and_shown():
    """Renderers count rows from the bottom: what is turned upside down by [::-1] is a view with a negative stride."""
    draws, made = np.random.default_rng(0), model()
    turned = {f"image_{c}": draws.integers(0, 256, (2, *shape), np.uint8)[:, ::-1] for c, shape in SPEC.images.items()}
    rest = {"proprio": np.zeros((2, 4)), "action": np.zeros((2, 2))}
    rest |= dict.fromkeys(("reward", "reward_present"), np.zeros(2))
    copied = {key: x.copy() for key, x in turned.items()}
    assert torch.equal(made.encode(turned | rest).sample, made.encode(copied | rest).sample)
    proprio = np.arange(4, dtype=np.float32)[::-1]
    step = Step.of({key: x[0] for key, x in turned.items()} | {"proprio": proprio}, torch.zeros(1, 2))
    assert step.proprio.tolist() == [[3, 2, 1, 0]]
    assert all(torch.equal(step.images[c][0], torch.from_numpy(copied[f"image_{c}"][0])) for c in SPEC.images)
