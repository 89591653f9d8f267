"""The truths of the toys are true: densities integrate to one, tables sum to one, samples follow them."""

import math

import pytest
import torch

from gen.data.toys import BinaryImages, Gaussian, Mixture, TwoMoons, all_images, bars_and_stripes, grid, ising, ring
from gen.errors import RecipeError


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def plane(half: float, steps: int) -> tuple[torch.Tensor, float]:
    line = torch.linspace(-half, half, steps, dtype=torch.float64)
    return torch.cartesian_prod(line, line), float(line[1] - line[0]) ** 2


GAUSSIAN = Gaussian(
    torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64)
)


@pytest.mark.parametrize("toy", [ring(std=0.2), grid(3, std=0.3), GAUSSIAN], ids=["ring", "grid", "gaussian"])
def test_densities_integrate_to_one(toy) -> None:
    points, area = plane(8.0, 400)
    assert float(toy.log_prob(points).exp().sum()) * area == pytest.approx(1.0, abs=1e-6)


def test_gaussian_is_the_one_of_torch() -> None:
    reference = torch.distributions.MultivariateNormal(GAUSSIAN.mean, GAUSSIAN.covariance)
    x = GAUSSIAN.sample(100_000)
    torch.testing.assert_close(GAUSSIAN.log_prob(x), reference.log_prob(x))
    torch.testing.assert_close(x.mean(0), GAUSSIAN.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), GAUSSIAN.covariance, atol=0.02, rtol=0)


def test_mixture_of_one_is_a_gaussian() -> None:
    mean = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    x = torch.randn(10, 2, dtype=torch.float64)
    one = Gaussian(mean[0], 0.09 * torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(Mixture(mean, 0.3).log_prob(x), one.log_prob(x))


@pytest.mark.parametrize(("toy", "modes"), [(ring(), 8), (grid(), 25)], ids=["ring", "grid"])
def test_samples_visit_all_modes_equally(toy: Mixture, modes: int) -> None:
    x = toy.sample(40_000)
    distance, mode = torch.cdist(x, toy.means).min(1)
    counts = torch.bincount(mode, minlength=modes)
    assert len(counts) == modes
    expected = 40_000 / modes
    assert float(((counts - expected) ** 2 / expected).sum()) < 3 * modes  # chi-square, far beyond its mean
    assert float(distance.square().mean()) == pytest.approx(2 * toy.std**2, rel=0.05)


def test_modes_are_where_the_papers_put_them() -> None:
    torch.testing.assert_close(ring().means.norm(dim=1), torch.full((8,), 2.0))
    torch.testing.assert_close(grid().means.unique(), torch.tensor([-4.0, -2, 0, 2, 4]))


def test_moons_without_blur_are_half_circles() -> None:
    x = TwoMoons(std=0.0).sample(4000)
    upper = (x.norm(dim=1) - 1).abs() < 1e-5
    lower = ((x - torch.tensor([1.0, 0.5])).norm(dim=1) - 1).abs() < 1e-5
    assert bool((upper | lower).all())
    assert bool((x[upper & ~lower, 1] > -1e-5).all()) and bool((x[lower & ~upper, 1] < 0.5 + 1e-5).all())
    assert 0.45 < float(upper.float().mean()) < 0.55


@pytest.mark.parametrize("toy", [bars_and_stripes(2), bars_and_stripes(3), ising(2), ising(3)])
def test_tables_sum_to_one_and_samples_follow_them(toy: BinaryImages) -> None:
    assert float(toy.probability.sum()) == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(toy.log_prob(toy.images.double()), toy.probability.log())
    x = toy.sample(50_000)
    row = toy.log_prob(x.double()).exp()
    assert float(row.min()) > 0, "an impossible image was drawn"
    # E[p(x)] = sum p^2 and E[-log p(x)] = entropy
    assert float(row.mean()) == pytest.approx(float(toy.probability.square().sum()), rel=0.05)
    assert float(-row.log().mean()) == pytest.approx(toy.entropy(), rel=0.02)


def test_all_images_are_all_images() -> None:
    images = all_images(2, 3)
    assert images.shape == (64, 1, 2, 3)
    assert len(images.flatten(1).unique(dim=0)) == 64
    assert images[5].flatten().tolist() == [0, 0, 0, 1, 0, 1]
    with pytest.raises(RecipeError, match="16"):
        all_images(4, 5)


def test_bars_and_stripes_are_counted() -> None:
    toy = bars_and_stripes(3)
    assert int((toy.probability > 0).sum()) == 2 * 2**3 - 2
    assert toy.probability[0] == toy.probability[-1] == 2 / 16  # all off, all on
    assert toy.entropy() == pytest.approx(12 / 16 * math.log(16) + 4 / 16 * math.log(8))


def test_ising_has_the_conditionals_of_its_couplings() -> None:
    """log p(x_i = 1 | rest) - log p(x_i = 0 | rest) = 2 (J sum of neighbours' spins + h)."""
    toy = ising(3, coupling=0.7, field=0.3)
    images = toy.images.double()
    for y in range(3):
        for x in range(3):
            on, off = images.clone(), images.clone()
            on[:, 0, y, x], off[:, 0, y, x] = 1, 0
            neighbours = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
            spins = sum(2 * images[:, 0, j, i] - 1 for j, i in neighbours if 0 <= j < 3 and 0 <= i < 3)
            torch.testing.assert_close(toy.log_prob(on) - toy.log_prob(off), 2 * (0.7 * spins + 0.3))
