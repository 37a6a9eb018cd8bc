"""The inner loop: engines against each other, closed forms of quadratic losses, and finite differences."""

import pytest
import torch

from meta_latent import learn2learn_core
from meta_latent.errors import UserError
from meta_latent.ops import inner_loop
from meta_latent.ops.inner_loop import InnerLoop, group_size, stacked

TASKS, SAMPLES, RATE = 5, 7, 0.3
OURS = ["auto", "stacked", "loop"]
ENGINES = [*OURS, pytest.param("learn2learn", marks=pytest.mark.skipif(
    not learn2learn_core.installed(), reason="learn2learn is not installed"))]  # fmt: skip


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network() -> dict[str, torch.Tensor]:
    """Of two layers, and a parameter that no loss depends on."""
    shapes = {"layer.0.weight": (3, 6), "layer.0.bias": (6,), "layer.1.weight": (6, 2), "unused": (2,)}
    return {name: normal(*shape, seed=k).requires_grad_() for k, (name, shape) in enumerate(shapes.items())}


def loss_on(seed: int):
    inputs, targets = normal(TASKS, SAMPLES, 3, seed=seed), normal(TASKS, SAMPLES, 2, seed=seed + 1)

    def loss(p, which):
        hidden = torch.tanh(inputs[which] @ p["layer.0.weight"] + p["layer.0.bias"][:, None])
        return (hidden @ p["layer.1.weight"] - targets[which]).square().mean((1, 2))

    return loss


def meta_gradient(start, **options) -> torch.Tensor:
    adapted = InnerLoop(TASKS, loss_on(10), RATE, **options).adapted(start)
    gradients = torch.autograd.grad(loss_on(20)(adapted, slice(0, TASKS)).mean(), list(start.values()),
                                    materialize_grads=True)  # fmt: skip
    return torch.cat([g.flatten() for g in gradients])


def by_hand(start, steps: int, second_order: bool) -> torch.Tensor:
    """The same meta-gradient, one task and one step after the other."""
    total = 0.0
    for n in range(TASKS):
        p, which = dict(start), slice(n, n + 1)
        for _ in range(steps):
            value = loss_on(10)({k: x[None] for k, x in p.items()}, which).sum()
            used = [k for k in p if k != "unused"]
            gradients = torch.autograd.grad(value, [p[k] for k in used], create_graph=True)
            p |= {k: p[k] - RATE * (g if second_order else g.detach())
                  for k, g in zip(used, gradients, strict=True)}  # fmt: skip
        total = total + loss_on(20)({k: x[None] for k, x in p.items()}, which).sum() / TASKS
    gradients = torch.autograd.grad(total, list(start.values()), materialize_grads=True)
    return torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_meta_gradient_equals_one_by_hand(engine, second_order, steps):
    start = network()
    found = meta_gradient(start, engine=engine, second_order=second_order, steps=steps, samples=SAMPLES)
    expected = by_hand(start, steps, second_order)
    assert float((found - expected).norm() / expected.norm()) < 1e-12
    other = by_hand(start, steps, not second_order)  # else the comparison would not notice a missing second order
    assert float((found - other).norm() / expected.norm()) > 1e-2


def test_meta_gradient_equals_finite_differences():
    start, step = network(), 1e-6
    found, place = meta_gradient(start, steps=2), 0
    for name, value in start.items():
        for index in range(value.numel()):
            ends = []
            for sign in (1, -1):
                moved = value.detach().clone()
                moved.view(-1)[index] += sign * step
                adapted = InnerLoop(TASKS, loss_on(10), RATE, steps=2).adapted(start | {name: moved})
                ends.append(float(loss_on(20)(adapted, slice(0, TASKS)).mean().detach()))
            assert float(found[place]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-8)
            place += 1


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_mean_after_steps_and_its_gradient(engine, second_order, monkeypatch):
    monkeypatch.setattr(inner_loop, "GROUP_WORK", 2 * SAMPLES * 38)  # "auto" makes groups of 2, 2 and 1
    start, options = network(), {"engine": engine, "second_order": second_order, "steps": 2, "samples": SAMPLES}
    inner = InnerLoop(TASKS, loss_on(10), RATE, **options)
    found, adapted = inner.mean(loss_on(20), start), inner.adapted(start)
    torch.testing.assert_close(found, loss_on(20)(adapted, slice(0, TASKS)).mean(), rtol=1e-13, atol=0)
    gradients = torch.autograd.grad(2 * found, list(start.values()))
    found_slope, expected = torch.cat([g.flatten() for g in gradients]), 2 * by_hand(start, 2, second_order)
    assert float((found_slope - expected).norm() / expected.norm()) < 1e-12
    with torch.no_grad():
        off = inner.mean(loss_on(20), start)
    torch.testing.assert_close(off, found.detach(), rtol=1e-13, atol=0)
    fixed = {name: value.detach() for name, value in start.items()}
    fixed["layer.1.weight"].requires_grad_()
    mean = inner.mean(loss_on(20), fixed)
    (slope,) = torch.autograd.grad(mean, fixed["layer.1.weight"])
    torch.testing.assert_close(slope, gradients[2] / 2, rtol=1e-12, atol=1e-14)


def test_the_mean_after_steps_refuses_a_second_derivative():
    start = network()
    mean = InnerLoop(TASKS, loss_on(10), RATE).mean(loss_on(20), start)
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(mean, list(start.values()), create_graph=True)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("engine", ENGINES)
def test_closed_form_of_quadratic_losses(engine, steps):
    # L_n = (x - c_n)' A_n (x - c_n) / 2: a step maps x - c to (1 - rate A)(x - c), whose Jacobian is 1 - rate A.
    roots, centres = normal(TASKS, 4, 4, seed=1) / 4, normal(TASKS, 4, seed=2)
    curvature = roots @ roots.mT

    def loss(p, which):
        away = p["x"] - centres[which]
        return 0.5 * torch.einsum("ni,nij,nj->n", away, curvature[which], away)

    start = normal(4, seed=3).requires_grad_()
    adapted = InnerLoop(TASKS, loss, RATE, steps, engine=engine).adapted({"x": start})
    shrink = torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - RATE * curvature, steps)
    away = (shrink @ (start - centres)[..., None])[..., 0].detach()
    torch.testing.assert_close(adapted["x"], centres + away, rtol=1e-12, atol=1e-12)
    (found,) = torch.autograd.grad(loss(adapted, slice(0, TASKS)).sum(), start)
    expected = torch.einsum("nij,njk,nk->i", shrink, curvature, away)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_no_loss_depends_on_and_what_no_step_is_taken_on_stay_as_they_are(engine):
    start = network()
    adapted = InnerLoop(TASKS, loss_on(10), RATE, engine=engine).adapted(start)
    own, still = stacked(start, TASKS), InnerLoop(TASKS)
    assert torch.equal(adapted["unused"], own["unused"]) and not torch.equal(
        adapted["layer.0.bias"], own["layer.0.bias"]
    )
    assert all(torch.equal(value, own[name]) for name, value in still.adapted(start).items())
    assert torch.equal(still.mean(loss_on(20), start), loss_on(20)(own, slice(0, TASKS)).mean())


@pytest.mark.parametrize("engine", ENGINES)
def test_without_autograd_the_steps_are_the_same_and_leave_no_graph(engine):
    start, inner = network(), InnerLoop(TASKS, loss_on(10), RATE, steps=2, engine=engine)
    expected = inner.adapted(start)
    with torch.no_grad():
        off = inner.adapted(start)
    constant = inner.adapted({name: value.detach() for name, value in start.items()})
    for name, value in expected.items():
        assert value.requires_grad and not off[name].requires_grad and not constant[name].requires_grad
        assert torch.equal(value, off[name]) and torch.equal(value, constant[name])


def test_groups_of_any_size_give_the_same(monkeypatch):
    start, expected = network(), by_hand(network(), 1, True)
    work = SAMPLES * sum(x.numel() for x in start.values())
    for most in range(1, TASKS + 1):
        monkeypatch.setattr(inner_loop, "GROUP_WORK", most * work)
        found = meta_gradient(start, samples=SAMPLES)
        assert float((found - expected).norm() / expected.norm()) < 1e-12


def test_how_large_groups_are(monkeypatch):
    many = {"x": torch.zeros(20, 10)}
    monkeypatch.setattr(inner_loop, "GROUP_WORK", 1000)
    assert [group_size(many, "auto", samples) for samples in (0, 1, 5, 7, 10, 30, 1000)] == [20, 20, 20, 10, 10, 3, 1]
    assert [group_size(many, engine, 10**6) for engine in ("stacked", "loop", "learn2learn")] == [20, 1, 1]
    assert group_size({"x": torch.zeros(20, 10, device="meta")}, "auto", 10**6) == 20


def test_what_is_wrong_is_named(monkeypatch):
    with pytest.raises(UserError, match="engine: got 'fast', expected one of auto, stacked, loop, learn2learn"):
        InnerLoop(TASKS, loss_on(10), RATE, engine="fast").adapted(network())
    monkeypatch.setattr(learn2learn_core, "maml", lambda: (_ for _ in ()).throw(UserError("not installed; do this")))
    with pytest.raises(UserError, match="do this"):
        InnerLoop(TASKS, loss_on(10), RATE, engine="learn2learn").adapted(network())
