"""learn2learn's MAML: imported alone, and one adaptation step equals the gradient step written by hand."""

import subprocess
import sys

import pytest
import torch

from meta_latent import learn2learn_core
from meta_latent.errors import UserError

needs_learn2learn = pytest.mark.skipif(not learn2learn_core.installed(), reason="learn2learn is not installed")


@needs_learn2learn
def test_nothing_else_of_learn2learn_is_imported_or_left_behind():
    code = "import sys, meta_latent.learn2learn_core as c; print(c.maml().__name__, *sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found[0] == "MAML"
    assert not [name for name in found if name.split(".")[0] in ("learn2learn", "gym", "torchvision")]
    assert learn2learn_core.maml() is learn2learn_core.maml()


@needs_learn2learn
@pytest.mark.parametrize("first_order", [False, True])
def test_a_step_and_its_meta_gradient_equal_autograd_by_hand(first_order):
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    module = torch.nn.Linear(3, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))

    def loss_of(weight, bias):
        return ((torch.tanh(inputs @ weight.T + bias) - targets) ** 2).mean()

    before = [p.detach().clone() for p in module.parameters()]
    learner = learn2learn_core.maml()(module, lr=0.3, first_order=first_order).clone()
    learner.adapt(loss_of(learner.module.weight, learner.module.bias))
    adapted = [learner.module.weight, learner.module.bias]
    meta = torch.autograd.grad(loss_of(*adapted), list(module.parameters()))

    parameters = [p.clone().requires_grad_() for p in before]
    gradients = torch.autograd.grad(loss_of(*parameters), parameters, create_graph=not first_order)
    by_hand = [p - 0.3 * g for p, g in zip(parameters, gradients, strict=True)]
    meta_by_hand = torch.autograd.grad(loss_of(*by_hand), parameters)

    for ours, hand in zip([*adapted, *meta], [*by_hand, *meta_by_hand], strict=True):
        torch.testing.assert_close(ours, hand, rtol=1e-12, atol=1e-14)
    for parameter, old in zip(module.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    # The two orders differ here, so the comparison above would notice a missing second-order term.
    other = torch.autograd.grad(loss_of(*parameters), parameters, create_graph=first_order)
    other_meta = torch.autograd.grad(
        loss_of(*[p - 0.3 * g for p, g in zip(parameters, other, strict=True)]), parameters
    )
    assert not torch.allclose(other_meta[0], meta[0], rtol=1e-3)


def test_without_it_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(learn2learn_core, "installed", lambda: False)
    learn2learn_core.maml.cache_clear()
    with pytest.raises(UserError, match="make setup.*pip install --no-deps learn2learn"):
        learn2learn_core.maml()
