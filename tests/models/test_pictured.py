"""Keypoint models that start from what pictures show (`EncoderConfig.pictured`)."""

import pytest
import torch

from meta_latent.models.config import EncoderConfig
from meta_latent.models.encoders import BlobDecoder, KeypointEncoder
from meta_latent.rng import seeded_construction

SHAPE = (16, 16, 3)
ORANGE = torch.tensor([200, 150, 50])


def moving_square(frames=60):
    """(1, T, 16, 16, 3) uint8: an orange square of 3 x 3 on grey, and its centre (T, 2) in [-1, 1], x before y."""
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(1, 15, (frames, 2), generator=generator)
    images = torch.full((frames, *SHAPE), 30, dtype=torch.uint8)
    for image, (x, y) in zip(images, places, strict=True):
        image[y - 1 : y + 2, x - 1 : x + 2] = ORANGE.to(torch.uint8)
    return images[None], places / 7.5 - 1


def parts(pictured):
    config = EncoderConfig(channels=(16,), keypoints=2, body_point=False, pictured=pictured)
    with seeded_construction(1):
        return KeypointEncoder(SHAPE, config, 0), BlobDecoder(SHAPE, config, 0)


@pytest.mark.parametrize("pictured", [True, False])
def test_keypoints_begin_on_what_moves(pictured):
    images, centres = moving_square()
    encoder, _ = parts(pictured)
    encoder.calibrate(images, torch.zeros(1, images.shape[1], 0))
    found = encoder(images[0], torch.zeros(images.shape[1], 0))[:, :4] / encoder.scale
    errors = [(found[:, [k, 2 + k]] - centres).square().sum(-1).sqrt().mean().item() for k in range(2)]
    assert all((error < 0.15) == pictured for error in errors), errors


def test_the_background_and_the_colour_of_blobs_are_those_seen():
    images, _ = moving_square()
    _, decoder = parts(True)
    own = decoder.colour.detach().clone()
    decoder.calibrate(images)
    assert torch.allclose(decoder.background, torch.full((3, 16, 16), 30 / 255 - 0.5), atol=1e-6)
    assert torch.allclose(decoder.colour, (ORANGE - 30) / 255 + 0.1 * own, atol=1e-3)


def test_pictures_that_are_all_alike_change_nothing_that_matters():
    images = torch.full((1, 5, *SHAPE), 30, dtype=torch.uint8)
    encoder, decoder = parts(True)
    maps, colour = encoder.maps.weight.clone(), decoder.colour.clone()
    encoder.calibrate(images, torch.zeros(1, 5, 0))
    decoder.calibrate(images)
    assert torch.equal(encoder.maps.weight, maps) and torch.equal(decoder.colour, colour)
