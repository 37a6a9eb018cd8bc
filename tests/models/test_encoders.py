"""The keypoint encoder's closed-form parts: the body point and the relations."""

import numpy as np
import pytest
import torch

from meta_latent.errors import UserError
from meta_latent.models.config import EncoderConfig, ModelConfig
from meta_latent.models.encoders import BlobDecoder, ConvEncoder, KeypointEncoder
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.losses import image_loss
from meta_latent.rng import seeded_construction
from meta_latent.types import Spec

SHAPE = (32, 32, 3)


def encoder(keypoints=3, **more) -> KeypointEncoder:
    with seeded_construction(0):
        return KeypointEncoder(SHAPE, EncoderConfig(channels=(4, 4), keypoints=keypoints, **more), 3)


def moving_hand(sequences=60, length=4, distraction=0.0, seed=0):
    """A bright 3x3 hand at (0.8 p_0, -0.5 p_1 + 0.2) in the picture, p_2 is idle; a spot may jump."""
    rng = np.random.default_rng(seed)
    proprio = rng.uniform(-0.9, 0.9, (sequences, length, 3)).astype(np.float32)
    images = np.full((sequences, length, *SHAPE), 40, np.uint8)
    for s, t in np.ndindex(sequences, length):
        for x, y in [(0.8 * proprio[s, t, 0], -0.5 * proprio[s, t, 1] + 0.2)] + (
            [tuple(rng.uniform(-0.9, 0.9, 2))] if rng.random() < distraction else []
        ):
            column, row = round((x + 1) / 2 * 31), round((y + 1) / 2 * 31)
            images[s, t, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 250
    return torch.from_numpy(images), torch.from_numpy(proprio)


@pytest.mark.parametrize(("distraction", "tolerance"), [(0.0, 0.05), (0.3, 0.2)])
def test_the_body_point_is_found_from_motion(distraction, tolerance):
    found = encoder()
    found.calibrate(*moving_hand(400, distraction=distraction))
    wanted = torch.tensor([[0.8, 0.0, 0.0], [0.0, -0.5, 0.0]])
    assert torch.allclose(found.body.weight, wanted, atol=tolerance)
    assert torch.allclose(found.body.bias, torch.tensor([0.0, 0.2]), atol=tolerance)


def test_a_still_picture_calibrates_nothing_harmful():
    found = encoder()
    images, proprio = moving_hand(4)
    found.calibrate(images[:, :1].expand(-1, 4, -1, -1, -1), proprio)
    assert torch.isfinite(found.body.weight).all()


def spots(change):
    """(images (2, 3, 8, 8, 3), proprio (2, 3, 1)): one or two pixels brighten by `change`, others by 10."""
    images, places = np.full((2, 3, 8, 8, 3), 20, np.uint8), {}
    places[0, 1], places[0, 2] = [(1, 6)], [(4, 4), (2, 7)]
    places[1, 1] = [(7, 0)]  # nothing changes before the last frame of this sequence
    for (s, t), pixels in places.items():
        images[s, t:] += np.uint8(10)  # a lamp: below what counts as motion
        for k, (row, column) in enumerate(pixels):
            images[s, t:, row, column] += np.uint8(change * (k + 1))
    return images, np.random.default_rng(0).uniform(-1, 1, (2, 3, 1)).astype(np.float32)


def test_the_body_point_is_a_ridge_regression_on_centres_of_motion():
    images, proprio = spots(40)
    place, centres, inputs = np.linspace(-1, 1, 8), [], []
    for s, t in ((0, 1), (0, 2), (1, 1)):
        change = np.abs(images[s, t].astype(int) - images[s, t - 1]).sum(-1)
        weight = np.where(change > 100, change, 0) / change[change > 100].sum()
        centres.append([(weight.sum(0) * place).sum(), (weight.sum(1) * place).sum()])
        inputs.append([(proprio[s, t, 0] + proprio[s, t - 1, 0]) / 2, 1.0])
    penalty = np.sqrt(1e-3 * 3) * np.eye(2)  # rows that ask for coefficients of zero
    wanted = np.linalg.lstsq(np.vstack([inputs, penalty]), np.vstack([centres, np.zeros((2, 2))]))[0]
    with seeded_construction(0):
        found = KeypointEncoder((8, 8, 3), EncoderConfig(channels=(4,), keypoints=3), 1)
    found.calibrate(torch.from_numpy(images), torch.from_numpy(proprio))
    fitted = torch.cat([found.body.weight, found.body.bias[:, None]], 1).detach().numpy()
    np.testing.assert_allclose(fitted, wanted.T, atol=1e-5)
    assert np.abs(wanted).max() > 0.1


def test_faint_changes_are_no_motion():
    with seeded_construction(0):
        found = KeypointEncoder((8, 8, 3), EncoderConfig(channels=(4,), keypoints=3), 1)
    images, proprio = spots(0)
    found.calibrate(torch.from_numpy(images), torch.from_numpy(proprio))
    assert (found.body.weight == 0).all() and (found.body.bias == 0).all()


def test_relations_are_functions_of_distances_alone():
    found = encoder(scale=2.0)
    points = torch.tensor([[0.1, 0.4], [-0.3, 0.2], [0.5, -0.5], [0.0, 0.0]])  # the body point is last

    def embedding(points):
        return torch.cat([2.0 * points[:, 0], 2.0 * points[:, 1], torch.zeros(3)])

    values = found.relations(embedding(points))
    assert values.shape == (found.relation_size,) == (12,)
    distance = np.sqrt(((2.0 * (points[0] - points[2])) ** 2).sum().item() + 0.01)
    assert values[1].item() == pytest.approx(np.exp(-distance), abs=1e-6)
    assert values[6 + 1].item() == pytest.approx(np.exp(-3 * distance), abs=1e-6)
    turned = points @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]]) + 0.3
    assert torch.allclose(found.relations(embedding(turned)), values, atol=1e-5)


def test_without_proprioception_there_is_no_body_point():
    with seeded_construction(0):
        found = KeypointEncoder(SHAPE, EncoderConfig(channels=(4,), keypoints=3), 0)
        decoder = BlobDecoder(SHAPE, EncoderConfig(channels=(4,), keypoints=3), 0)
    images = torch.zeros(2, *SHAPE, dtype=torch.uint8)
    embedding = found(images, torch.zeros(2, 0))
    assert embedding.shape == (2, 9) and found.relation_size == 6
    assert decoder(embedding).shape == (2, 3, 32, 32)
    found.calibrate(images[:, None].expand(-1, 3, -1, -1, -1), torch.zeros(2, 3, 0))


def test_a_strided_encoder_claims_no_relations():
    found = ConvEncoder(SHAPE, EncoderConfig("conv", channels=(4, 4), embedding=5), 3)
    assert found.relations(torch.randn(2, 5)).shape == (2, 0) and found.relation_size == 0


def test_blobs_are_round_gaussians_where_the_embedding_says():
    decoder = BlobDecoder((12, 20, 3), EncoderConfig(keypoints=2, body_point=False), 0)
    embedding = torch.tensor([[0.6, -2.4, -1.5, 0.9, 1.0, 0.5]])  # x of both points, y of both, presence
    with torch.no_grad():
        decoder.log_width.copy_(torch.tensor([0.2, 0.4]).log())
    y, x = torch.meshgrid(torch.linspace(-1, 1, 12), torch.linspace(-1, 1, 20), indexing="ij")
    expected = torch.zeros(3, 12, 20)
    points = ((0.6, -1.5, 1.0, 0.2), (-2.4, 0.9, 0.5, 0.4))
    for (at_x, at_y, presence, width), colour in zip(points, decoder.colour, strict=True):
        squares = (x - at_x / decoder.scale) ** 2 + (y - at_y / decoder.scale) ** 2
        expected += presence * torch.exp(-0.5 * squares / width**2) * colour[:, None, None]
    torch.testing.assert_close(decoder(embedding)[0], expected)


def test_more_convolutions_than_the_picture_can_be_halved_are_refused():
    config = EncoderConfig(kind="conv", channels=(4,) * 5)
    with pytest.raises(UserError, match="16 x 16 pixels cannot be halved 5 times"):
        ConvEncoder((16, 16, 3), config, 0)
    assert ConvEncoder((16, 16, 3), EncoderConfig(kind="conv", channels=(4,) * 4), 0).size == config.embedding


def test_a_standardised_embedding_has_one_scale_and_decodes_to_the_same_picture():
    config = EncoderConfig("conv", channels=(4,), embedding=5, standardise=True)
    with seeded_construction(0):
        m = LatentStateModel(Spec({"top": (8, 8, 3)}, 0, 2), ModelConfig(config))
    draws = torch.Generator().manual_seed(0)
    images = {"top": torch.randint(0, 256, (40, 8, 8, 3), dtype=torch.uint8, generator=draws)}
    before = m.decode_float(m.embed(images, torch.zeros(40, 0)))["top"]
    m.standardise(images)
    embedding = m.embed(images, torch.zeros(40, 0))
    torch.testing.assert_close(embedding.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(embedding.std(0), torch.ones(5))
    torch.testing.assert_close(m.decode_float(embedding)["top"], before, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match="standardise=true is for conv"):
        LatentStateModel(Spec({"top": (8, 8, 3)}, 0, 2), ModelConfig(EncoderConfig(standardise=True)))


@pytest.mark.parametrize("shape", [(50, 50, 3), (17, 30, 3), (16, 16, 3)])
def test_pictures_that_cannot_be_halved_evenly_are_decoded_in_their_own_size(shape):
    config = EncoderConfig(kind="conv", channels=(4, 4, 4), embedding=5)
    model = LatentStateModel(Spec({"top": shape}, 0, 2), ModelConfig(encoder=config))
    images = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    decoded = model.decode_float(model.embed({"top": images}, torch.zeros(2, 0)))["top"]
    assert image_loss(decoded, images, 1.0).shape == (2,)
