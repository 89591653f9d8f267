"""Sparse codes against closed forms, optimality conditions and scikit-learn."""

from itertools import pairwise

import pytest
import torch
from sklearn.decomposition import sparse_encode
from torch.nn.functional import normalize, softshrink

from gen.inference.sparse import fista, ista, kkt_violation, objective, step_size

PENALTY = 0.3


def problem(n=60, d=16, K=40):
    """Random signals and an overcomplete dictionary with coherent atoms of unit length."""
    torch.manual_seed(0)
    D = normalize(torch.randn(d, K, dtype=torch.float64) + 0.3, dim=0)
    return torch.randn(n, d, dtype=torch.float64), D


@pytest.mark.parametrize("solve", [lambda *a: ista(*a, iterations=1), lambda *a: fista(*a, tolerance=1e-12)])
def test_orthonormal_dictionary_has_a_closed_form(solve):
    x, _ = problem(d=16)
    D = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))[0]
    torch.testing.assert_close(solve(x, D, PENALTY), softshrink(x @ D, PENALTY))


def test_ista_never_raises_the_objective_and_ends_where_fista_does():
    x, D = problem()
    h = torch.randn(len(x), D.shape[1], dtype=torch.float64)
    path = [objective(x, D, h, PENALTY)]
    for _ in range(300):
        h = ista(x, D, PENALTY, iterations=1, start=h)
        path.append(objective(x, D, h, PENALTY))
    assert all((after <= before + 1e-12).all() for before, after in pairwise(path))
    best = objective(x, D, fista(x, D, PENALTY, iterations=5000, tolerance=1e-10), PENALTY)
    assert (path[-1] >= best - 1e-12).all()
    h = ista(x, D, PENALTY, iterations=5000, start=h)
    torch.testing.assert_close(objective(x, D, h, PENALTY), best, rtol=1e-5, atol=0)


def test_fista_meets_the_optimality_conditions():
    x, D = problem()
    h = fista(x, D, PENALTY, tolerance=1e-3)
    g = (h @ D.T - x) @ D
    assert g.abs().max() <= PENALTY * (1 + 1e-3)
    on = h != 0
    assert (g[on] + PENALTY * h[on].sign()).abs().max() <= PENALTY * 1e-3
    assert 0 < on.double().mean() < 0.5


def test_objective_is_that_of_least_angle_regression():
    x, D = problem()
    h = fista(x, D, PENALTY, tolerance=1e-6, iterations=5000)
    reference = sparse_encode(x.numpy(), D.T.numpy(), algorithm="lasso_lars", alpha=PENALTY, max_iter=5000)
    torch.testing.assert_close(
        objective(x, D, h, PENALTY), objective(x, D, torch.from_numpy(reference), PENALTY), rtol=1e-8, atol=0
    )


def test_violation_is_zero_at_the_minimum_only():
    x, D = problem()
    h = fista(x, D, PENALTY, tolerance=1e-10, iterations=5000)
    assert kkt_violation(x, D, h, PENALTY).max() <= 1e-10
    # At h = 0 the gradient is -D^T x, so the violation is known.
    expected = ((x @ D).abs().amax(1) / PENALTY - 1).clamp(min=0)
    torch.testing.assert_close(kkt_violation(x, D, torch.zeros_like(h), PENALTY), expected)
    # A change of one coefficient on the support shows, whatever its sign, and so does a wrong sign.
    row, k = h.abs().argmax() // h.shape[1], h.abs().argmax() % h.shape[1]
    for factor in (0.9, 1.1, -1.0):
        moved = h.clone()
        moved[row, k] *= factor
        assert kkt_violation(x, D, moved, PENALTY)[row] > 1e-2
        assert objective(x, D, moved, PENALTY)[row] > objective(x, D, h, PENALTY)[row]


def test_codes_are_zero_from_the_largest_correlation_on():
    x, D = problem(n=1)
    largest = (x @ D).abs().max().item()
    assert (fista(x, D, largest * 1.0001) == 0).all()
    assert (fista(x, D, largest * 0.99) != 0).any()


def test_codes_do_not_depend_on_the_rest_of_the_batch():
    x, D = problem(n=12)
    together = fista(x, D, PENALTY)
    alone = torch.cat([fista(row[None], D, PENALTY) for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_step_size_is_the_inverse_of_the_largest_curvature():
    _, D = problem()
    assert step_size(D.T @ D) == pytest.approx(1 / torch.linalg.matrix_norm(D, 2).item() ** 2)
    assert torch.isfinite(fista(torch.ones(2, 3), torch.zeros(3, 4), PENALTY)).all()
