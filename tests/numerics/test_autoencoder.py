"""The autoencoder: the linear one against principal components, the bent one below them, errors against references."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli

from gen.data.sample import Arrays, Collection
from gen.data.spaces import DataSpec, Space
from gen.losses.reconstruction import CrossEntropy, SquaredError, reconstruction
from gen.model import Batch
from gen.models.autoencoders.autoencoder import Autoencoder


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def principal_axes(x: Tensor, count: int) -> Tensor:
    """The first principal axes of images (N, C, H, W), (count, D), of unit length."""
    flat = x.flatten(1)
    return torch.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:count]


def pca_error(train: Tensor, test: Tensor, count: int) -> Tensor:
    """Mean squared error of a pixel when test images are projected on the principal axes of the training images."""
    axes, mean = principal_axes(train, count), train.flatten(1).mean(0)
    centred = test.flatten(1) - mean
    return (centred - centred @ axes.T @ axes).square().mean()


def descend(model: Autoencoder, x: Tensor, steps: int, *, lr: float, batch: int | None = None) -> None:
    """Train on images (N, C, H, W): on random ones at a time, or on all of them."""
    model.initialize(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        images = x if batch is None else x[torch.randint(len(x), (batch,))]
        loss, _ = model.loss(Batch(images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def test_errors_are_the_negative_log_likelihoods_of_a_unit_gaussian_and_of_bits():
    outputs, x = torch.randn(2, 5, 1, 1, 2, 3).double().unbind(0)
    x = x.squeeze(1)
    torch.testing.assert_close(SquaredError().error(outputs, x), (outputs[:, 0] - x).square().sum((1, 2, 3)))
    bits = (x > 0).double()
    expected = -Bernoulli(logits=outputs[:, 0]).log_prob(bits).sum((1, 2, 3))
    torch.testing.assert_close(CrossEntropy().error(outputs, bits), expected)


@pytest.mark.parametrize("space", ["binary_fixed", "levels(4)", "signed"])
def test_the_conditional_mean_minimises_either_error(space: str):
    """Of all outputs that do not look at the image the start is the best: its gradient vanishes, and others lose."""
    chosen = reconstruction(Space.parse(space))
    x = Space.parse(space).encode(torch.randint(256, (50, 1, 2, 3), dtype=torch.uint8)).double()
    start = (x.mean(0, keepdim=True).logit() if isinstance(chosen, CrossEntropy) else chosen.start(x)).requires_grad_()
    torch.testing.assert_close(chosen.image(start[None]), x.mean((0), keepdim=True))
    loss = chosen.error(start.expand(50, 1, 1, 2, 3), x).mean()
    (gradient,) = torch.autograd.grad(loss, start)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)
    assert chosen.error((start + 0.1).expand(50, 1, 1, 2, 3), x).mean() > loss


def test_a_linear_autoencoder_finds_the_principal_subspace():
    """Correlated pixels with distinct variances: the minimum is the projection on the first three axes [2]."""
    spec = DataSpec((1, 2, 4), 0, Space.parse("signed"))
    basis = torch.linalg.qr(torch.randn(8, 8))[0].double()
    scales = torch.tensor([2.0, 1.5, 1.2, 0.6, 0.5, 0.4, 0.3, 0.2]).double()
    x = (torch.randn(400, 8).double() * scales @ basis.T + 0.5).view(-1, 1, 2, 4)
    model = Autoencoder(spec, latents=3, hidden=()).double()
    descend(model, x, 2_000, lr=0.03)

    rebuilt = model.decode(model.encode(x))
    torch.testing.assert_close((rebuilt - x).square().mean(), pca_error(x, x, 3), rtol=1e-6, atol=0)
    axes = principal_axes(x, 3)
    decoder, encoder = model.decoder[0].weight, model.encoder[1].weight
    for subspace in (decoder, encoder.T):  # columns of either net
        cosines = torch.linalg.svdvals(axes @ torch.linalg.qr(subspace)[0])
        assert cosines.acos().nan_to_num(0.0).max() < 1e-3, "principal angles"
    torch.testing.assert_close(decoder @ encoder, axes.T @ axes, rtol=0, atol=1e-3)  # and nothing but a projection


@pytest.fixture(scope="module")
def signed_digits(digits_data: Collection) -> tuple[Tensor, Tensor]:
    """Training and test digits in ``signed``, where nothing is drawn."""
    space = Space.parse("signed")
    arrays = (digits_data.splits[name].samples for name in ("train", "test"))
    train, test = (torch.from_numpy(a.images).movedim(3, 1) for a in arrays if isinstance(a, Arrays))
    return space.encode(train), space.encode(test)


@pytest.mark.slow
def test_a_linear_autoencoder_is_as_good_as_principal_components_on_digits(signed_digits: tuple[Tensor, Tensor]):
    """Within 1 % on test images; and its plane holds as much of the training images' variance as theirs does."""
    train, test = signed_digits
    model = Autoencoder(DataSpec((1, 28, 28), 10, Space.parse("signed")), latents=32, hidden=())
    descend(model, train, 3_000, lr=3e-3, batch=100)
    found = (model.decode(model.encode(test)) - test).square().mean()
    assert found.item() == pytest.approx(pca_error(train, test, 32).item(), rel=0.01)

    # Axes 32 and 33 are equally strong within 1 %, so single angles mean nothing; variances do, and the first axes do.
    centred = train.flatten(1) - train.flatten(1).mean(0)
    plane = torch.linalg.qr(model.decoder[0].weight.detach())[0]
    held, best = (centred @ plane).square().sum(), (centred @ principal_axes(train, 32).T).square().sum()
    assert held / best > 0.998
    assert torch.linalg.svdvals(principal_axes(train, 8) @ plane).min() > 0.995


@pytest.mark.slow
def test_hidden_layers_bend_the_plane_and_lose_less_on_digits(signed_digits: tuple[Tensor, Tensor]):
    """With as many code units as principal components, test images survive better by a fifth."""
    train, test = signed_digits
    model = Autoencoder(DataSpec((1, 28, 28), 10, Space.parse("signed")), latents=32, hidden=(400,))
    descend(model, train, 2_000, lr=2e-3, batch=100)
    assert (model.decode(model.encode(test)) - test).square().mean() < 0.8 * pca_error(train, test, 32)
