"""Flows: determinants against autograd, inverses that share no code with them, mass that is kept, masks that hold."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gen.errors import RecipeError
from gen.losses.likelihoods import gaussian_log_prob
from gen.nets.flows import FLOWS, Flow, Householder, InverseAutoregressive, Planar, make_flow
from gen.nets.made import MADE

CONTEXT = 4


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def strong(name: str, steps: int, dims: int, scale: float = 2.0) -> Flow:
    """A flow in float64 whose weights are large enough to bend; every image has a context of its own."""
    built = make_flow(name, steps, dims=dims, context=CONTEXT, hidden=12).double()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.mul_(scale)
    return built


def jacobian(step: nn.Module, z: Tensor, context: Tensor) -> Tensor:
    """dz'/dz for each image by autograd, (B, D, D)."""
    return torch.stack([
        torch.autograd.functional.jacobian(lambda point, told=told: step(point[None], told[None])[0][0], row)
        for row, told in zip(z, context, strict=True)
    ])  # fmt: skip


@torch.no_grad()
def inverse(step: nn.Module, z: Tensor, context: Tensor) -> Tensor:
    """z' -> z, (B, D), step by step and by other means than the step's own."""
    match step:
        case Flow():
            for each in reversed(step.steps):
                z = inverse(each, z, context)
            return z
        case Householder():  # a reflection is its own inverse; here as a matrix
            v = step.normal(context)
            return z - 2 * v * (v * z).sum(1, keepdim=True) / v.square().sum(1, keepdim=True)
        case Planar():  # a = w'z solves a + w'u tanh(a + b) = w'z', whose left side rises with a: bisection
            u, w, b, _ = step.direction(context)
            target, product = (w * z).sum(1, keepdim=True), (w * u).sum(1, keepdim=True)
            low, high = target - product.abs() - 1, target + product.abs() + 1
            for _ in range(60):
                middle = (low + high) / 2
                below = middle + product * torch.tanh(middle + b) < target
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
            return z - u * torch.tanh(low + b)
        case InverseAutoregressive():  # once all earlier dimensions are right, so is the next
            known = torch.zeros_like(z)
            for _ in range(z.shape[1]):
                m, gate = step.net(known, context).unbind(1)
                s = torch.sigmoid(gate + 2.0)
                known = (z - (1 - s) * m) / s
            return known
    raise TypeError(type(step))


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize(("steps", "dims"), [(1, 1), (1, 5), (4, 5)])
def test_log_det_is_that_of_the_jacobian(name: str, steps: int, dims: int) -> None:
    bend, z, context = strong(name, steps, dims), 2 * torch.randn(16, dims).double(), torch.randn(16, CONTEXT).double()
    _, log_det = bend(z, context)
    sign, expected = torch.linalg.slogdet(jacobian(bend, z, context))
    torch.testing.assert_close(log_det, expected, rtol=1e-10, atol=1e-10)
    assert (sign == (-1) ** steps if name == "householder" else sign == 1).all()
    assert name == "householder" or expected.abs().max() > 0.1, "the flow bends nothing: the test says nothing"


@pytest.mark.parametrize("name", FLOWS)
def test_an_inverse_computed_otherwise_leads_back(name: str) -> None:
    bend, z, context = strong(name, 4, 5), 3 * torch.randn(64, 5).double(), torch.randn(64, CONTEXT).double()
    moved, _ = bend(z, context)
    assert (moved - z).norm(dim=1).median() > 0.5
    torch.testing.assert_close(inverse(bend, moved, context), z, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FLOWS)
@torch.no_grad()
def test_the_bent_density_integrates_to_one(name: str) -> None:
    """log q'(z') = log q(z) - log|det| on a grid of z', and its mean is the mean of samples that went through."""
    bend, step = strong(name, 3, 2, scale=1.5), 0.05
    axis = torch.arange(-8.0, 8.0, step, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    context, log_var = torch.randn(1, CONTEXT).double(), torch.tensor([-1.0, 0.5]).double()
    z = inverse(bend, grid, context.expand(len(grid), -1))
    there, log_det = bend(z, context.expand(len(z), -1))
    torch.testing.assert_close(there, grid, rtol=1e-8, atol=1e-8)  # every point of the grid is reached
    density = (gaussian_log_prob(z, torch.zeros_like(z), log_var) - log_det).exp()
    assert density.sum().item() * step**2 == pytest.approx(1.0, abs=1e-4)
    draws = torch.randn(100_000, 2).double() * (0.5 * log_var).exp()
    moved, _ = bend(draws, context.expand(len(draws), -1))
    mean = (density[:, None] * grid).sum(0) * step**2
    error = (moved.mean(0) - mean).abs() / (moved.std(0) / math.sqrt(len(moved)))
    assert (error < 4.5).all()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("hidden", [(12,), (9, 7)])
def test_made_hears_of_all_earlier_inputs_and_of_no_other(hidden: tuple[int, ...], reverse: bool) -> None:
    """By gradients, which are exactly zero where there is no path, and not where there is one."""
    made = MADE(5, 2, hidden=hidden, context=CONTEXT, reverse=reverse).double()
    x, context = torch.randn(8, 5).double().requires_grad_(), torch.randn(8, CONTEXT).double().requires_grad_()
    out = made(x, context)
    assert out.shape == (8, 2, 5)
    for k in range(5):
        for output in range(2):
            by_x, by_context = torch.autograd.grad(out[:, output, k].sum(), (x, context), retain_graph=True)
            earlier = torch.arange(5) > k if reverse else torch.arange(5) < k
            assert (by_x[:, ~earlier] == 0).all()
            assert (by_x[:, earlier] != 0).any(0).all()
            assert (by_context != 0).any(0).all()


def test_iaf_is_triangular_and_turns_round() -> None:
    """One step: dz'_i/dz_j = 0 for j > i. The next goes the other way, so that two leave no dimension unmoved."""
    first, second = strong("iaf", 2, 5).steps
    z, context = torch.randn(4, 5).double(), torch.randn(4, CONTEXT).double()
    forwards, backwards = jacobian(first, z, context), jacobian(second, z, context)
    assert (forwards.triu(1) == 0).all() and (backwards.tril(-1) == 0).all()
    assert (forwards.tril(-1).abs().amax((1, 2)) > 1e-3).all() and (backwards.triu(1).abs().amax((1, 2)) > 1e-3).all()


def test_householder_turns_a_diagonal_covariance_into_a_full_one() -> None:
    bend, context = strong("householder", 3, 4), torch.randn(1, CONTEXT).double()
    U = jacobian(bend, torch.zeros(1, 4).double(), context)[0]
    torch.testing.assert_close(U @ U.T, torch.eye(4).double())
    covariance = U @ torch.diag(torch.tensor([0.1, 1.0, 2.0, 5.0]).double()) @ U.T
    assert (covariance - covariance.diag().diag()).abs().max() > 0.5


def test_planar_stays_invertible_where_the_raw_parameters_are_not() -> None:
    """w'u < -1 would fold the space. The one used instead lies above -1, and u = 0 still moves nothing."""
    step = Planar(3, CONTEXT).double()
    with torch.no_grad():
        step.parameters_of.weight.zero_()
        step.parameters_of.bias.copy_(torch.tensor([-4.0, 0, 0, 3, 0, 0, 0.1]))
        z, context = torch.linspace(-3, 3, 2001).double()[:, None].repeat(1, 3), torch.zeros(2001, CONTEXT).double()
        moved, log_det = step(z, context)
        assert (moved[1:, 0] > moved[:-1, 0]).all() and torch.isfinite(log_det).all() and log_det.min() < -5
        step.parameters_of.bias[:3] = 0
        moved, log_det = step(z, context)
    torch.testing.assert_close(moved, z)
    torch.testing.assert_close(log_det, torch.zeros_like(log_det), rtol=0, atol=1e-12)


def test_flows_that_do_not_exist_are_named() -> None:
    with pytest.raises(RecipeError, match=r"hyper.flow: there is no flow 'planer'.* Did you mean 'planar'"):
        make_flow("planer", 2, dims=2, context=2, hidden=4)
    with pytest.raises(RecipeError, match=r"hyper.steps: found -1"):
        make_flow("iaf", -1, dims=2, context=2, hidden=4)
