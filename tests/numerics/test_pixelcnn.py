"""PixelCNN: a normalised distribution, causal to the last bit, sampled and completed as its conditionals say."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from gen.data.spaces import DataSpec, Space
from gen.model import Batch
from gen.models.autoregressive.pixelcnn import PixelCNN
from gen.nets.masked import MaskedConv2d, PixelByPixel
from tests.numerics.pixel_family import all_images, raster


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def tiny(shape: tuple[int, int, int], space: str, blocks: int = 1, features: int = 12, kernel: int = 3) -> PixelCNN:
    """A PixelCNN in float64 with weights large enough for conditionals that are far from uniform."""
    spec = DataSpec(shape, 0, Space.parse(space))
    model = PixelCNN(spec, features=features, blocks=blocks, kernel=kernel, head=12).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    return model


CASES = [
    ((1, 2, 2), "binary_fixed", 2),
    ((2, 1, 2), "levels(3)", 3),
    ((3, 1, 2), "levels(3)", 3),
    ((1, 3, 3), "binary_fixed", 2),
]


@pytest.mark.parametrize(("shape", "space", "levels"), CASES)
@torch.no_grad()
def test_probabilities_of_all_images_sum_to_one(shape, space, levels):
    log_p = tiny(shape, space).log_prob(all_images(shape, levels))
    assert log_p.std() > 0.1
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("colours", [1, 3])
def test_logits_depend_on_the_past_only_and_on_all_of_it_within_the_field(colours):
    """The set of values with a gradient equals the field worked out from the kernels' offsets: none more, none less."""
    shape, blocks, kernel = (colours, 7, 9), 2, 5
    model = tiny(shape, "levels(3)", blocks, features=24, kernel=kernel)
    x = torch.rand(16, *shape, dtype=torch.float64, requires_grad=True)
    logits = model.logits(x)
    order = raster(shape)
    for target in [order[0], order[-1], (0, 3, 4), (colours - 1, 3, 4), (colours // 2, 4, 7)]:
        c, i, j = target
        (gradient,) = torch.autograd.grad(logits[:, 1:, c, i, j].sum(), x, retain_graph=True)
        touched = {index for index in order if gradient[(slice(None), *index)].abs().max() > 0}
        assert touched == field(target, shape, kernel, blocks)
        assert all(order.index(index) < order.index(target) for index in touched)


def field(
    target: tuple[int, int, int], shape: tuple[int, int, int], kernel: int, blocks: int
) -> set[tuple[int, int, int]]:
    """Values (c, i, j) that can reach the logits of ``target`` through ``blocks`` 3x3 mask B and one k x k mask A."""
    _, height, width = shape
    c, i, j = target
    pixels = {(i, j)}
    for _ in range(blocks):
        steps = [(0, 0), (0, -1), (-1, -1), (-1, 0), (-1, 1)]
        pixels = {(r + a, s + b) for r, s in pixels for a, b in steps}
        pixels = {(r, s) for r, s in pixels if 0 <= r < height and 0 <= s < width}
    half = kernel // 2
    reached = set()
    for (r, s), a, b in product(pixels, range(-half, 1), range(-half, half + 1)):
        if (a < 0 or b < 0) and 0 <= r + a < height and 0 <= s + b < width:
            reached |= {(colour, r + a, s + b) for colour in range(shape[0])}
        elif (a, b) == (0, 0):  # the pixel itself: earlier colours here, every colour where a mask B moved away first
            same = (r, s) == (i, j)
            reached |= {(colour, r, s) for colour in range(c if same else shape[0] - 1)}
    return reached


def test_the_first_value_has_no_past():
    model = tiny((2, 4, 4), "levels(4)")
    logits = model.logits(torch.rand(8, 2, 4, 4, dtype=torch.float64))[:, :, 0, 0, 0]
    assert torch.equal(logits, logits[:1].expand_as(logits))


def test_training_moves_no_masked_weight_and_forward_writes_to_none():
    conv = MaskedConv2d(4, 4, 3, mask="B", colours=2).double()
    before = conv.weight.detach().clone()
    conv(torch.randn(2, 4, 5, 5, dtype=torch.float64)).square().sum().backward()
    assert torch.equal(conv.weight, before)
    assert conv.weight.grad is not None
    assert torch.equal(conv.weight.grad != 0, conv.mask.bool())


def test_binary_likelihood_is_the_bernoulli_of_one_logit():
    model = tiny((1, 4, 4), "binary_fixed")
    x = (torch.rand(5, 1, 4, 4) < 0.5).double()
    logit = model.logits(x)[:, 1]
    reference = torch.distributions.Bernoulli(logits=logit).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(model.log_prob(x), reference)
    torch.testing.assert_close(model.loss(Batch(x))[0], -reference.mean())


@torch.no_grad()
def naive(model: PixelCNN, x: Tensor, known: Tensor) -> Tensor:
    """Ancestral sampling by its definition: the whole network for every value, the noise drawn up front."""
    x, noise = torch.where(known, x, 0.0), torch.rand_like(x)
    for c, i, j in raster(tuple(x.shape[1:])):
        cdf = model.logits(x)[:, :, c, i, j].softmax(1).cumsum(1)
        for b in range(len(x)):
            if not known[b, c, i, j]:
                level = next(
                    k for k in range(model.head.levels) if noise[b, c, i, j] < cdf[b, k] or k == model.head.levels - 1
                )
                x[b, c, i, j] = level / (model.head.levels - 1)
    return x


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("levels", [2, 4])
@pytest.mark.parametrize("shape", [(1, 6, 7), (2, 5, 4), (3, 4, 5), (1, 1, 6), (1, 6, 1)])
def test_cached_draws_are_the_naive_ones_bit_for_bit(shape, levels, kernel, batch):
    model = tiny(shape, f"levels({levels})", blocks=2, kernel=kernel)
    x = torch.randint(levels, (batch, *shape)).double() / (levels - 1)
    for known in (torch.zeros_like(x).bool(), torch.rand_like(x) < 0.4):
        torch.manual_seed(1)
        reference = naive(model, x, known)
        torch.manual_seed(1)
        drawn = model.complete(x, known)
        assert torch.equal(drawn, reference)
        assert not drawn.requires_grad
    torch.manual_seed(2)
    sampled = model.sample(batch)
    torch.manual_seed(2)
    assert torch.equal(sampled, naive(model, x, torch.zeros_like(x).bool()))
    assert batch == 1 or sampled.std() > 0.1


def test_cached_draws_are_the_naive_ones_in_single_precision_with_the_default_net():
    model = PixelCNN(DataSpec((1, 12, 12), 0, Space.parse("binary_dynamic")))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    blank = torch.zeros(4, 1, 12, 12)
    torch.manual_seed(1)
    sampled = model.sample(4)
    torch.manual_seed(1)
    assert torch.equal(sampled, naive(model, blank, blank.bool()))
    assert sampled.dtype == torch.float32


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("colours", [1, 2, 3])
@torch.no_grad()
def test_the_network_pixel_by_pixel_computes_what_the_network_computes(colours, kernel):
    """Every group of features, each when the channels before it are written and the others hold garbage."""
    model = tiny((colours, 6, 5), "levels(4)", blocks=2, kernel=kernel)
    x = torch.rand(3, colours, 6, 5, dtype=torch.float64)
    expected = model.net(x).unflatten(1, (colours, -1))
    net = PixelByPixel(model.net, 3, 5)
    for c, i, j in raster((colours, 6, 5)):
        written = torch.randn(3, colours, dtype=torch.float64)
        written[:, :c] = x[:, :c, i, j]
        net.write(i, j, written)
        torch.testing.assert_close(net.read(i, j).unflatten(1, (colours, -1))[:, c], expected[:, c, :, i, j])
        net.write(i, j, x[:, :, i, j])


def test_a_layer_that_cannot_run_pixel_by_pixel_is_named():
    first = MaskedConv2d(1, 4, 3, mask="A")
    with pytest.raises(TypeError, match="BatchNorm2d has no form"):
        PixelByPixel(nn.Sequential(first, nn.BatchNorm2d(4)), 2, 5)
    with pytest.raises(TypeError, match="first layer must be a MaskedConv2d, found ReLU"):
        PixelByPixel(nn.Sequential(nn.ReLU(), first), 2, 5)


@torch.no_grad()
def test_samples_are_distributed_as_the_enumeration_says():
    shape = (1, 2, 2)
    model, draws = tiny(shape, "binary_fixed"), 20_000
    expected = model.log_prob(all_images(shape, 2)).exp() * draws
    index = (model.sample(draws).flatten(1) * torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).sum(1).long()
    observed = torch.bincount(index, minlength=16)
    assert expected.max() > 2 * expected.min()
    assert ((observed - expected).square() / expected).sum() < 37.7  # chi-square, 15 degrees of freedom, p = 0.001


@torch.no_grad()
def test_completions_are_distributed_as_the_conditional_says():
    """Known first row of a 2x2 image: the second row follows p(x) / sum over its four values."""
    shape, draws = (1, 2, 2), 20_000
    model = tiny(shape, "binary_fixed")
    x = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64).view(1, 1, 2, 2).repeat(draws, 1, 1, 1)
    known = torch.zeros(draws, 1, 2, 2, dtype=torch.bool)
    known[:, :, 0] = True
    drawn = model.complete(x, known)
    joint = model.log_prob(all_images(shape, 2)).exp()[8:12]
    expected = joint / joint.sum() * draws
    observed = torch.bincount((drawn[:, 0, 1, 0] * 2 + drawn[:, 0, 1, 1]).long(), minlength=4)
    assert ((observed - expected).square() / expected).sum() < 16.3  # chi-square, 3 degrees of freedom, p = 0.001


@torch.no_grad()
def test_completion_keeps_the_known_and_never_reads_the_unknown():
    model = tiny((2, 5, 5), "levels(4)")
    x = torch.randint(4, (6, 2, 5, 5)).double() / 3
    known = torch.rand(6, 2, 5, 5) < 0.5
    hidden = torch.where(known, x, torch.nan)
    torch.manual_seed(1)
    completed = model.complete(hidden, known)
    assert torch.equal(completed[known], x[known])
    assert torch.equal(hidden[known], x[known])
    assert (completed[~known] != x[~known]).any()
    torch.manual_seed(1)
    assert torch.equal(model.complete(x, known), completed)
