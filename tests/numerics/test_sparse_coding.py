"""Sparse codes and dictionary learning against closed forms, optimality conditions, scikit-learn, a planted truth."""

from itertools import pairwise

import pytest
import torch
from sklearn.decomposition import sparse_encode
from torch.nn.functional import normalize, softshrink, unfold

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference.sparse import fista, ista, kkt_violation, objective, step_size
from gen.model import Batch, Progress
from gen.models.linear.sparse_coding import SparseCoding

SIGNED = Space.parse("signed")
PENALTY = 0.3


def problem(n=60, d=16, K=40):
    """Random signals and an overcomplete dictionary with coherent atoms of unit length."""
    torch.manual_seed(0)
    D = normalize(torch.randn(d, K, dtype=torch.float64) + 0.3, dim=0)
    return torch.randn(n, d, dtype=torch.float64), D


def spec(channels=1, height=9, width=11):
    return DataSpec((channels, height, width), 0, SIGNED)


def build(data_spec, **hyper):
    torch.manual_seed(0)
    return SparseCoding(data_spec, **hyper).double()


def step(m, x, lr):
    """One update as the loop makes it, with plain SGD."""
    updates = m.updates(iter([Batch(x)]), Progress(0, 0, 1))
    update = next(updates)
    (gradient,) = torch.autograd.grad(update.loss, m.groups()[update.group])
    with torch.no_grad():
        m.dictionary -= lr * gradient
    assert next(updates, None) is None
    return update.metrics


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


def test_gradient_with_codes_fixed_is_that_of_the_minimum():
    """Danskin: d/dD min_h F(D, h) = dF/dD at h*, here against central differences of the minimum itself."""
    x, _ = problem(d=16)
    m = build(spec(height=4, width=4), atoms=24, patch=4, penalty=PENALTY)

    def minimum(D):
        h = fista(x, D, PENALTY, iterations=20_000, tolerance=1e-11)
        return objective(x, D, h, PENALTY).mean()

    D = m.dictionary.detach()
    loss, _ = m.reconstruct(x, fista(x, D, PENALTY, iterations=20_000, tolerance=1e-11))
    loss.backward()
    for _ in range(5):
        direction = normalize(torch.randn_like(D), dim=(0, 1))
        difference = (minimum(D + 1e-5 * direction) - minimum(D - 1e-5 * direction)) / 2e-5
        torch.testing.assert_close((m.dictionary.grad * direction).sum(), difference, rtol=1e-5, atol=1e-8)


def test_atoms_stay_in_the_unit_ball_and_projecting_twice_changes_nothing():
    m = build(spec(), atoms=20, patch=5)
    x = torch.rand(8, 1, 9, 11, dtype=torch.float64) * 2 - 1
    m.initialize(x)
    with torch.no_grad():
        m.dictionary[:, 0] *= 0.5
    step(m, x, lr=50.0)
    norms = m.dictionary.norm(dim=0)
    assert norms.max() <= 1 + 1e-6
    before = m.dictionary.detach().clone()
    step(m, x, lr=0.0)
    assert torch.equal(before, m.dictionary)
    with torch.no_grad():
        m.dictionary.mul_(0.5)
    before = m.dictionary.detach().clone()
    step(m, x, lr=0.0)
    assert torch.equal(before, m.dictionary)  # shorter atoms are left alone


@pytest.mark.parametrize(("channels", "height", "width", "patch"), [(1, 9, 11, 4), (3, 8, 8, 8), (2, 10, 7, 3)])
def test_patches_are_cut_and_put_back_exactly(channels, height, width, patch):
    data_spec = spec(channels, height, width)
    d = channels * patch**2
    m = build(data_spec, atoms=d, patch=patch, penalty=1e-9)
    x = torch.rand(3, channels, height, width, dtype=torch.float64) * 2 - 1
    every = (torch.arange(height - patch + 1)[:, None] * width + torch.arange(width - patch + 1)).flatten()
    torch.testing.assert_close(m.extract(x, every), unfold(x, patch).transpose(1, 2).reshape(-1, d))
    per_image = torch.stack([every[:1], every[-1:], every[:1]])
    torch.testing.assert_close(m.extract(x, per_image)[1:2], m.extract(x[1:2], every[-1:]))
    with torch.no_grad():
        m.dictionary.copy_(torch.eye(d))  # every patch is its own code
    torch.testing.assert_close(m.decode(m.encode(x)), x, rtol=0, atol=1e-6)


def test_initial_atoms_are_distinct_patches_of_unit_length():
    m = build(spec(), atoms=10, patch=5)
    x = torch.rand(20, 1, 9, 11, dtype=torch.float64) * 2 - 1
    x[:5] = -1  # blank images cannot become atoms
    m.initialize(x)
    D = m.dictionary.detach()
    torch.testing.assert_close(D.norm(dim=0), torch.ones(10, dtype=torch.float64))
    candidates = normalize(m.centred(m.extract(x, m.tiles))[0], dim=1)
    assert ((candidates @ D).amax(0) > 1 - 1e-12).all()
    assert (D.T @ D).fill_diagonal_(0).max() < 1 - 1e-6


def test_learning_recovers_a_planted_dictionary():
    torch.manual_seed(3)
    K, patch = 12, 5
    truth = torch.randn(patch**2, K, dtype=torch.float64)
    truth = normalize(truth - truth.mean(0), dim=0)

    def draw(count):
        h = (
            torch.randn(count, K, dtype=torch.float64).sign()
            * (1 + torch.rand(count, K))
            * (torch.rand(count, K) < 0.15)
        )
        return (h @ truth.T + 0.01 * torch.randn(count, patch**2)).view(count, 1, patch, patch)

    m = build(spec(1, patch, patch), atoms=K + 4, patch=patch, penalty=0.1, patches_per_image=1)
    m.initialize(draw(200))
    metrics = [step(m, draw(200), lr=1.0) for _ in range(150)]
    matches = (truth.T @ normalize(m.dictionary.detach(), dim=0)).abs().amax(1)
    assert matches.min() > 0.98
    assert metrics[-1]["objective"] < 0.8 * metrics[0]["objective"]


@pytest.mark.parametrize(
    "hyper",
    [{"atoms": 0}, {"patch": 1}, {"patch": 10}, {"penalty": 0.0}, {"patches_per_image": 0}, {"iterations": 0}],
    ids=str,
)
def test_impossible_recipes_are_refused(hyper):
    with pytest.raises(RecipeError, match=f"hyper.{next(iter(hyper))}.*found.*allowed"):
        SparseCoding(spec(), **{"patch": 5, **hyper})
