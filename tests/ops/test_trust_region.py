"""Products with Hessians, conjugate gradients and trust-region steps, against dense algebra and closed forms."""

import math

import pytest
import torch

from meta_latent.ops.inner_loop import InnerLoop
from meta_latent.ops.policy_gradient import gaussian_divergence, gaussian_log_prob, likelihood_ratio
from meta_latent.ops.trust_region import (
    TrustRegionConfig,
    conjugate_gradient,
    flatten,
    hessian_vector_product,
    trust_region_step,
    unflatten,
)

EXACT = TrustRegionConfig(damping=0.0)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive(size: int, seed: int = 0) -> torch.Tensor:
    root = normal(size, size, seed=seed)
    return root @ root.T + torch.eye(size, dtype=torch.float64)


# Vectors


def test_flat_and_back():
    given = {"a": normal(2, 3, seed=0), "b": normal(seed=1), "c": normal(4, seed=2).expand(2, 4)}
    vector = flatten(given)
    assert vector.shape == (15,) and torch.equal(vector[7:], given["c"].reshape(-1))
    back = unflatten(vector, given)
    assert list(back) == list(given) and all(torch.equal(back[name], given[name]) for name in given)


# Products


def value_of(p: dict[str, torch.Tensor]) -> torch.Tensor:
    return (p["a"].tanh() @ p["b"]).square().sum() + p["b"].exp().sum() + 3.0 * p["linear"].sum()


def test_products_equal_finite_differences():
    at = {"a": normal(3, 2, seed=0), "b": normal(2, seed=1), "linear": normal(2, seed=2), "unused": normal(1, seed=3)}
    at = {name: value.requires_grad_() for name, value in at.items()}
    product, vector, step = hessian_vector_product(value_of(at), at), normal(11, seed=4), 1e-5

    def slope(flat: torch.Tensor) -> torch.Tensor:
        moved = {name: value.detach().requires_grad_() for name, value in unflatten(flat, at).items()}
        return torch.cat([g.flatten() for g in torch.autograd.grad(value_of(moved), list(moved.values()),
                                                                   materialize_grads=True)])  # fmt: skip

    start = flatten(at).detach()
    expected = (slope(start + step * vector) - slope(start - step * vector)) / (2 * step)
    torch.testing.assert_close(product(vector), expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(product(2 * vector), 2 * product(vector))  # may be called again
    assert torch.equal(product(vector)[8:], torch.zeros(3, dtype=torch.float64)) and product(vector)[:8].all()


def test_a_linear_value_has_no_curvature():
    at = {"x": normal(3, seed=0).requires_grad_()}
    assert not hessian_vector_product(at["x"].sum(), at)(normal(3, seed=1)).any()


def test_conjugate_gradient_equals_a_dense_solve():
    matrix, vector = positive(8), normal(8, seed=1)
    exact = torch.linalg.solve(matrix, vector)
    torch.testing.assert_close(conjugate_gradient(matrix.mv, vector, 20, 1e-24), exact, rtol=1e-9, atol=1e-9)
    # The error in the matrix's norm falls with every iteration, and is there before the last.
    errors = []
    for iterations in range(6):
        apart = conjugate_gradient(matrix.mv, vector, iterations) - exact
        errors.append(float(apart @ matrix @ apart))
    assert all(b < a for a, b in zip(errors[:-1], errors[1:], strict=True)) and errors[-1] > 1e-9


def test_conjugate_gradient_stops_when_it_is_exact_enough_at_any_scale():
    matrix, calls = positive(8), []

    def product(x):
        calls.append(1)
        return matrix @ x

    vector, counts = normal(8, seed=1), []
    for scale in (1e-12, 1.0, 1e12):
        calls.clear()
        found = conjugate_gradient(product, scale * vector, 100, 1e-4) / scale
        assert (matrix @ found - vector).norm() <= 1e-2 * vector.norm()
        counts.append(len(calls))
    assert counts[0] == counts[1] == counts[2] < 8
    calls.clear()
    assert torch.equal(conjugate_gradient(product, torch.zeros(8), 10), torch.zeros(8)) and not calls


def test_conjugate_gradient_keeps_what_it_has_where_the_curvature_is_not_positive():
    matrix = torch.tensor([[2.0, 0.0], [0.0, -1.0]])
    assert torch.equal(conjugate_gradient(matrix.mv, torch.tensor([1.0, 0.0]), 10), torch.tensor([0.5, 0.0]))
    assert torch.equal(conjugate_gradient(matrix.mv, torch.tensor([0.0, 1.0]), 10), torch.zeros(2))


# Steps


def test_the_optimum_of_a_linear_objective_within_a_quadratic_limit():
    slope, matrix = normal(6, seed=0), positive(6)
    start = {"a": normal(2, 2, seed=1), "b": normal(2, seed=2)}
    config = TrustRegionConfig(limit=0.3, damping=0.0, iterations=30)

    def objective(p):
        return slope @ flatten(p)

    def divergence(p):
        moved = flatten(p) - flatten(start)
        return 0.5 * moved @ matrix @ moved

    def rounded(p):  # the optimum lies on the limit: rounding may not decide
        return divergence(p) - 1e-12

    found, metrics = trust_region_step(start, objective, rounded, config, divergence)
    natural = torch.linalg.solve(matrix, slope)  # Lagrange: matrix (x - start) is a multiple of the slope
    expected = flatten(start) + natural * (2 * config.limit / (slope @ natural)).sqrt()
    torch.testing.assert_close(flatten(found), expected, rtol=1e-5, atol=1e-5)
    assert metrics["step"] == 1.0 and metrics["divergence"] == pytest.approx(0.3, rel=1e-8)
    assert metrics["improvement"] == pytest.approx(float(slope @ (expected - flatten(start))), rel=1e-6)


def test_steps_on_a_gaussian_bandit_reach_its_optimum():
    # Reward -(a - 2)^2: the expected one is best at mean 2 with the least deviation.
    noise = normal(1, 4000, 1, seed=0)
    p = {"mean": torch.zeros(1, dtype=torch.float64), "log_stddev": torch.zeros(1, dtype=torch.float64)}
    for _ in range(40):
        action = p["mean"] + p["log_stddev"].exp() * noise
        reward = -(action[..., 0] - 2.0).square()
        reward = reward - reward.mean()
        old = gaussian_log_prob(action, p["mean"], p["log_stddev"])
        old_p = p

        def objective(q, action=action, old=old, reward=reward):
            return likelihood_ratio(gaussian_log_prob(action, q["mean"], q["log_stddev"]), old, reward)[0]

        def divergence(q, old_p=old_p):
            return gaussian_divergence(old_p["mean"], old_p["log_stddev"], q["mean"], q["log_stddev"])

        p, metrics = trust_region_step(p, objective, divergence, TrustRegionConfig(limit=0.05))
        assert metrics["divergence"] <= 0.05 and metrics["improvement"] > 0
    assert float(p["mean"]) == pytest.approx(2.0, abs=0.02)
    assert float(p["log_stddev"].exp()) < 0.1


def test_the_first_step_on_a_bandit_is_natural_gradient():
    # The Fisher matrix of a Gaussian in (mean, log stddev) is diag(1 / stddev^2, 2).
    stddev, slope = 0.5, torch.tensor([1.0, -0.5], dtype=torch.float64)
    start = {"mean": torch.zeros(1, dtype=torch.float64),
             "log_stddev": torch.full((1,), math.log(stddev), dtype=torch.float64)}  # fmt: skip

    def divergence(q):
        return gaussian_divergence(start["mean"], start["log_stddev"], q["mean"], q["log_stddev"])

    found, metrics = trust_region_step(start, lambda q: slope @ flatten(q), divergence,
                                       TrustRegionConfig(limit=1e-6, damping=0.0))  # fmt: skip
    natural = slope / torch.tensor([1 / stddev**2, 2.0], dtype=torch.float64)
    moved = flatten(found) - flatten(start)
    torch.testing.assert_close(moved / moved.norm(), natural / natural.norm(), rtol=1e-6, atol=1e-6)
    assert metrics["divergence"] == pytest.approx(metrics["step"] ** 2 * 1e-6, rel=1e-2)


def quadratic(p):
    return 0.5 * p["x"].square().sum()


def test_damping_shortens_the_step():
    # Curvature 1, damping 3: the full step has (1 + 3) / 2 |step|^2 = limit.
    start, config = {"x": torch.zeros(2)}, TrustRegionConfig(damping=3.0)
    found, _ = trust_region_step(start, lambda p: p["x"][0], quadratic, config)
    assert float(found["x"][0]) == pytest.approx(math.sqrt(2 * 0.01 / 4))


def test_curvature_sets_the_direction_and_divergence_the_limit():
    start = {"x": torch.zeros(2)}

    def curvature(p):
        return 0.5 * (p["x"][0] ** 2 + 100 * p["x"][1] ** 2)

    found, metrics = trust_region_step(start, lambda p: p["x"].sum(), quadratic, EXACT, curvature)
    assert float(found["x"][0] / found["x"][1]) == pytest.approx(100.0, rel=1e-4)
    strict, metrics = trust_region_step(start, lambda p: p["x"].sum(), lambda p: 4 * quadratic(p), EXACT, curvature)
    assert metrics["divergence"] <= 0.01 and metrics["step"] == 0.8**4  # 4 * 0.8^8 is the first below 1
    torch.testing.assert_close(strict["x"], found["x"] * 0.8**4)


@pytest.mark.parametrize("first_order_curvature", [False, True])
def test_a_step_through_an_inner_loop_equals_its_closed_form(first_order_curvature):
    # Task n steps from x to S_n x + const., S_n = 1 - rate A_n; policies are Gaussians of deviation 1 about that.
    tasks, rate = 3, 0.2
    curvatures = torch.stack([positive(4, seed=n) for n in range(tasks)]) / 8
    centres, start = normal(tasks, 4, seed=9), {"x": normal(4, seed=10)}

    def loss(p, which):
        away = p["x"] - centres[which]
        return 0.5 * torch.einsum("ni,nij,nj->n", away, curvatures[which], away)

    inner = InnerLoop(tasks, loss, rate)
    old = inner.adapted(start)["x"]

    def divergence(p, second_order=True):
        moved = inner.adapted(p, second_order)["x"] - old
        return 0.5 * moved.square().sum(-1).mean()

    found, metrics = trust_region_step(
        start, lambda p: inner.mean(lambda q, which: -loss(q, which), p), divergence, EXACT,
        (lambda p: divergence(p, second_order=False)) if first_order_curvature else None)  # fmt: skip
    shrink = torch.eye(4, dtype=torch.float64) - rate * curvatures
    slope = -torch.einsum("nij,njk,nk->i", shrink, curvatures, old - centres) / tasks
    products = torch.eye(4, dtype=torch.float64) if first_order_curvature else (shrink @ shrink).mean(0)
    natural = torch.linalg.solve(products, slope)
    full = natural * (2 * EXACT.limit / (natural @ products @ natural)).sqrt()
    assert metrics["step"] > 0 and metrics["divergence"] <= EXACT.limit and metrics["improvement"] > 0
    torch.testing.assert_close(found["x"] - start["x"], metrics["step"] * full, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("objective, divergence", [
    (lambda p: -p["x"].abs().sum() + 0 * p["x"].sum(), quadratic),  # no improvement anywhere
    (lambda p: p["x"].sum() - p["x"].detach().sum(), quadratic),  # a slope that does not hold what it promises
    (lambda p: p["x"].sum(), lambda p: quadratic(p) + 0.02),  # never within the limit
    (lambda p: p["x"].sum() + (p["x"].sum() > 0) * torch.nan, quadratic),
    (lambda p: p["x"].sum() + torch.where(p["x"].sum() > 0, torch.inf, 0.0), quadratic),
    (lambda p: p["x"].sum(), lambda p: quadratic(p) + (p["x"].sum() > 0) * torch.nan),
    (lambda p: p["x"].sum() * torch.nan, quadratic),  # not even the start is finite
    (lambda p: p["x"].sum() * 0.0, quadratic),  # nothing to climb
    (lambda p: p["x"].sum(), lambda p: -quadratic(p)),  # no limit
], ids=["worse", "no better", "too far", "nan", "infinite", "divergence nan", "start nan", "flat", "no limit"],
)  # fmt: skip
def test_the_line_search_rejects(objective, divergence):
    start = {"x": torch.zeros(2), "y": torch.ones(1)}
    found, metrics = trust_region_step(start, objective, divergence, EXACT)
    assert metrics == {"improvement": 0.0, "divergence": 0.0, "step": 0.0}
    assert all(torch.equal(found[name], start[name]) for name in start)


def test_the_line_search_takes_the_longest_step_that_improves():
    def objective(p):  # best at 0.05; the full step goes to sqrt(0.02) = 0.14
        return -(p["x"][0] - 0.05).square() + 0 * p["x"][1]

    found, metrics = trust_region_step({"x": torch.zeros(2)}, objective, quadratic, EXACT)
    full = math.sqrt(0.02)
    assert metrics["step"] == pytest.approx(0.8**2) and full * 0.8 > 0.1 > full * 0.8**2
    assert float(found["x"][0]) == pytest.approx(full * 0.8**2)
    _, metrics = trust_region_step({"x": torch.zeros(2)}, objective, quadratic, TrustRegionConfig(backtracks=2))
    assert metrics["step"] == 0.0


@pytest.mark.parametrize("slope", [1.0, 0.0], ids=["taken", "rejected"])
def test_what_comes_back_are_leaves_like_the_given_ones(slope):
    start = {"x": torch.zeros(2, requires_grad=True), "y": torch.zeros(1), "z": torch.zeros(1, requires_grad=True) * 2}
    found, _ = trust_region_step(start, lambda p: slope * (p["x"].sum() + p["y"].sum()), lambda p: sum(
        0.5 * x.square().sum() for x in p.values()), EXACT)  # fmt: skip
    assert [value.is_leaf for value in found.values()] == [True] * 3
    assert [value.requires_grad for value in found.values()] == [True, False, True]
    assert torch.equal(start["x"], torch.zeros(2)) and float(found["x"].sum().detach() > 0) == slope
    assert found["x"].data_ptr() != start["x"].data_ptr()


def test_the_line_search_looks_among_projected_parameters():
    """Down a slope in both, with a floor under the second at which it stands: all of the step that is left is taken."""
    asked = []

    def objective(p):
        asked.append(float(p["y"].detach()))
        return -(p["x"] + p["y"]).sum()

    def divergence(p):
        return 0.5 * (p["x"].square() + p["y"].square()).sum()

    start = {"x": torch.zeros(1), "y": torch.zeros(1)}
    taken, found = trust_region_step(start, objective, divergence, TrustRegionConfig(limit=0.02),
                                     project=lambda p: p | {"y": p["y"].clamp_min(0.0)})  # fmt: skip
    assert float(taken["y"]) == 0 and min(asked) == 0 and found["step"] == 1
    assert float(taken["x"]) == pytest.approx(-math.sqrt(0.02), rel=1e-3)  # with the other it would have been 0.2 long
