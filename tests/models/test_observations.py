"""Pictures and proprioception as one vector: calibrated, smooth in an object's place from the first."""

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.models import observations
from meta_latent.models.observations import ObservationEncoder
from meta_latent.rng import seeded_construction
from meta_latent.types import Spec, Step

SUITE = task_suites.get("toy/hidden_goal", image_size=16)


def steps(places, proprio=0):
    """What is seen at places (..., 2)."""
    lead = places.shape[:-1]
    no = torch.zeros(lead, dtype=torch.bool)
    images = {"top": torch.from_numpy(SUITE.observe(places)["image_top"])}
    proprio = 100.0 + 5.0 * torch.randn(*lead, proprio, generator=torch.Generator().manual_seed(0))
    return Step(images, proprio, torch.zeros(*lead, 2), torch.zeros(lead), torch.zeros(lead), no, no, no, no)


def encoder(channels=(), proprio=0):
    with seeded_construction(0):
        return ObservationEncoder(Spec({"top": (16, 16, 3)}, proprio, 2), channels, 32)


@pytest.mark.parametrize("channels", [(), (8,), (8, 16)])
def test_calibrated_values_have_mean_zero_and_deviation_one(channels):
    seen = steps(np.random.default_rng(0).uniform(-1, 1, (20, 10, 2)), proprio=3)
    net = encoder(channels, proprio=3)
    net.calibrate(seen)
    raw = net.standard(net._raw(seen)).flatten(0, 1)
    assert raw.mean(0).abs().max() < 1e-3 and (raw.std(0) - 1).abs().max() < 1e-2
    found = net(seen)
    assert found.shape == (20, 10, net.size) and net.size == 35
    torch.testing.assert_close(found[..., 32:], (seen.proprio - seen.proprio.mean((0, 1))) / seen.proprio.std((0, 1)),
                               atol=1e-2, rtol=1e-2)  # fmt: skip


def test_padding_is_left_out_of_the_calibration():
    places = np.random.default_rng(0).uniform(-1, 1, (4, 10, 2))
    seen, mask = steps(places), torch.zeros(4, 10, dtype=torch.bool)
    mask[:, :7] = True
    net, other = encoder(), encoder()
    net.calibrate(seen, mask)
    seen.images["top"][:, 7:] = 255
    other.calibrate(seen, mask)
    for key, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def left_over(net):
    """Share of the place's variance that a linear map of the untrained embedding does not explain, elsewhere."""
    rng = np.random.default_rng(0)
    net.calibrate(steps(rng.normal(0, 0.3, (400, 2)).clip(-1, 1)))
    places = rng.uniform(-1, 1, (2000, 2))
    wanted = torch.from_numpy(places).float()
    inputs = torch.cat([net(steps(places)).detach(), torch.ones(2000, 1)], 1)
    weights = torch.linalg.lstsq(inputs[:1000], wanted[:1000]).solution
    return float((inputs[1000:] @ weights - wanted[1000:]).square().mean() / wanted.var())


def test_an_untrained_embedding_is_smooth_in_the_place(monkeypatch):
    assert left_over(encoder()) < 0.1
    monkeypatch.setattr(observations, "_smooth", lambda *given: None)
    assert left_over(encoder()) > 0.2
