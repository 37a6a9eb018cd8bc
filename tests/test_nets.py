"""Network blocks: what is standardised has mean 0 and stddev 1, and never explodes."""

import torch

from meta_latent.nets import Standardiser


def test_fitted_values_have_mean_zero_and_stddev_one():
    data = torch.randn(500, 4, 3, generator=torch.Generator().manual_seed(0))
    data = data * torch.tensor([1e-2, 1.0, 20.0]) + torch.tensor([0.6, 0.0, -5.0])
    standardise = Standardiser(3)
    torch.testing.assert_close(standardise(data), data.clamp(-10, 10))  # unfitted: the identity
    standardise.fit(data)
    out = standardise(data).flatten(0, 1)
    torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.std(0), torch.ones(3), atol=1e-3, rtol=0)


def test_values_that_did_not_vary_keep_their_unit_and_outliers_are_clipped():
    data = torch.stack([torch.full((10,), 0.3), torch.linspace(-1e-3, 1e-3, 10)], -1)
    standardise = Standardiser(2)
    standardise.fit(data)
    found = standardise(torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(found, torch.tensor([0.2, Standardiser.LIMIT]))
