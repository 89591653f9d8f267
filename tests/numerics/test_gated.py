"""Gated PixelCNNs: no blind spot, conditions that reach every gate, exact mixtures over classes, honest completions."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from gen.data.spaces import DataSpec, Space
from gen.errors import DataError, RecipeError
from gen.inference.pixels import Canvas, ancestral, naive
from gen.model import Batch, Completes, Encodes, Progress, Samples, Scores
from gen.models.autoregressive.conditional_pixelcnn import ConditionalPixelCNN
from gen.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from gen.models.autoregressive.pixelcnn import PixelCNN
from gen.models.autoregressive.pixelcnn_decoder import PixelCNNDecoder
from gen.nets.gated import GatedNet
from gen.nets.gated_steps import GatedByPixel
from tests.numerics.pixel_family import all_images, raster, some_images

Shape = tuple[int, int, int]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def large(model: Any, by: float = 2.0) -> Any:
    """In float64, with weights so large that no conditional is near uniform."""
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(by)
    return model


def spec(shape: Shape, space: str = "binary_fixed", classes: int = 0) -> DataSpec:
    return DataSpec(shape, classes, Space.parse(space))


def classed(where: str, shape: Shape = (1, 2, 2), **hyper: Any) -> ConditionalPixelCNN:
    """Three classes of unequal frequencies."""
    sizes: dict[str, Any] = {"embedding": 4, "hidden": (), "features": 6, "layers": 2, "kernel": 3, "head": 6, **hyper}
    model = large(ConditionalPixelCNN(spec(shape, classes=3), where=where, **sizes))
    model.class_frequencies.copy_(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))
    return model


# ---- the field -----------------------------------------------------------------------------------------------------


def touched(model: Any, shape: Shape, target: tuple[int, int, int]) -> set[tuple[int, int, int]]:
    """Values (c, i, j) to which the gradient of the outputs for ``target`` is not zero, for some of 16 images."""
    c, i, j = target
    x = torch.rand(16, *shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.outputs(x).unflatten(1, (shape[0], -1))[:, c, :, i, j].sum(), x)
    return {index for index in raster(shape) if gradient[(slice(None), *index)].abs().max() > 0}


def before(shape: Shape, target: tuple[int, int, int], reach: int) -> set[tuple[int, int, int]]:
    """All values before ``target`` in raster order of which row and column are within reach."""
    order = raster(shape)
    earlier = order[: order.index(target)]
    return {(c, i, j) for c, i, j in earlier if target[1] - i <= reach and abs(target[2] - j) <= reach}


@pytest.mark.parametrize(("layers", "kernel"), [(1, 3), (1, 7), (3, 3), (3, 5)])
@pytest.mark.parametrize("colours", [1, 3])
def test_the_field_is_everything_before_within_reach(colours: int, layers: int, kernel: int) -> None:
    shape = (colours, 8, 11)
    hyper = {"features": 8 * colours, "layers": layers, "kernel": kernel, "head": 4 * colours}
    model = large(GatedPixelCNN(spec(shape, "levels(3)"), **hyper), 1.5)
    for target in [(0, 0, 0), (colours - 1, 7, 10), (0, 4, 5), (colours // 2, 6, 2), (colours - 1, 7, 0)]:
        assert touched(model, shape, target) == before(shape, target, kernel // 2 + layers - 1), target


def test_stacked_masks_have_the_blind_spot_to_the_upper_right() -> None:
    """The same question to the plain PixelCNN, of the same reach: it misses what lies beyond the diagonal."""
    shape, target, reach = (1, 8, 13), (0, 6, 6), 4
    plain = large(PixelCNN(spec(shape), features=16, blocks=reach - 1, kernel=3, head=16), 1.5)
    missed = before(shape, target, reach) - touched(plain, shape, target)
    beyond = {(0, 6 - up, 6 + right) for up, right in product(range(1, reach + 1), repeat=2) if right > up}
    assert missed == beyond and len(missed) == 6


# ---- pixel by pixel ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "kernel"), [(1, 3), (2, 7), (4, 5)])
@pytest.mark.parametrize("shape", [(1, 6, 7), (2, 5, 4), (1, 1, 6), (1, 6, 1)])
@pytest.mark.parametrize("condition", [None, (1, 1), "map"])
@torch.no_grad()
def test_by_pixel_is_the_net(shape: Shape, layers: int, kernel: int, condition: Any) -> None:
    """Reading every pixel once and writing it once gives what one pass gives; and draws are those of the definition."""
    colours, height, width = shape
    told = None if condition is None else torch.randn(5, 2, *(shape[1:] if condition == "map" else condition)).double()
    sizes = {"features": 4 * colours, "layers": layers, "kernel": kernel, "head": 3 * colours}
    net = large(GatedNet(colours, 2 * colours, condition=0 if told is None else 2, **sizes))
    x = some_images(shape, "levels(3)", 5)
    expected, grown = net(x, told), GatedByPixel(net, 5, width, told)
    for i, j in product(range(height), range(width)):
        grown.write(i, j, x[:, :, i, j])
        torch.testing.assert_close(grown.read(i, j), expected[:, :, i, j], rtol=1e-10, atol=1e-10)
    head = GatedPixelCNN(spec(shape, "levels(3)"), **sizes).head
    canvas = Canvas.noisy(head, x, torch.rand_like(x) < 0.3)
    drawn = ancestral(GatedByPixel(net, 5, width, told), canvas)
    assert torch.equal(drawn, naive(lambda x, rows: net(x, None if told is None else told[rows]), canvas))


@torch.no_grad()
def test_single_precision_draws_of_the_default_net_are_those_of_the_definition() -> None:
    model = GatedPixelCNN(spec((1, 12, 12)))
    for parameter in model.parameters():
        parameter.mul_(1.5)
    blank = torch.zeros(4, 1, 12, 12)
    torch.manual_seed(1)
    canvas = Canvas.noisy(model.head, blank, blank.bool())
    torch.manual_seed(1)
    assert torch.equal(model.sample(4), naive(lambda x, rows: model.outputs(x), canvas))


# ---- conditions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["everywhere", "by_location"])
def test_every_gate_of_every_layer_is_told_the_class(where: str) -> None:
    """The class changes what is expected of every value, the first one too, and through every layer's own map."""
    model = classed(where, (1, 4, 4), layers=3)
    x = some_images((1, 4, 4), "binary_fixed", 6)
    log_p = model.log_probs(x, torch.tensor([0, 1, 2, 0, 1, 2]))
    other = model.log_probs(x, torch.tensor([1, 2, 0, 1, 2, 0]))
    assert ((log_p - other).abs() > 1e-6).flatten(1).all()
    log_p.sum().backward()
    for layer in (model.net.first, *model.net.layers):
        of_gates = layer.told.weight.grad.flatten(1).abs().sum(1)  # those of the vertical stack, then the horizontal
        assert of_gates.shape == (24,) and (of_gates > 0).all()
    assert (model.embedding.weight.grad.abs().sum(1) > 0).all()


@torch.no_grad()
def test_only_a_map_tells_one_place_from_another() -> None:
    """On a blank canvas, farther from the edges than the net can see, all pixels look alike."""
    blank = torch.zeros(3, 1, 12, 13, dtype=torch.float64)
    inner = (slice(None), slice(None), slice(4, -1), slice(4, -4))
    spread = {}
    for where in ("everywhere", "by_location"):
        outputs = classed(where, (1, 12, 13)).outputs(blank, torch.arange(3))[inner].flatten(1)
        spread[where] = (outputs.amax(1) - outputs.amin(1)).amin()
    assert spread["everywhere"] < 1e-12 and spread["by_location"] > 0.1


@pytest.mark.parametrize("where", ["everywhere", "by_location"])
@torch.no_grad()
def test_the_likelihood_of_an_image_alone_is_the_mixture_over_classes(where: str) -> None:
    model, x = classed(where), all_images((1, 2, 2), 2)
    expected = sum(
        share * model.log_prob(x, torch.full((16,), y)).exp() for y, share in enumerate(model.class_frequencies)
    )
    log_p = model.likelihoods()["exact"].log_prob(x)
    torch.testing.assert_close(log_p.exp(), expected)
    assert abs(float(log_p.exp().sum()) - 1) <= 1e-9
    joint = model.log_joint(x)
    torch.testing.assert_close(joint.exp().sum(0), model.class_frequencies)
    gain = joint - model.class_frequencies.log() - log_p[:, None]  # log p(x|y) - log p(x)
    assert (gain <= -model.class_frequencies.log() + 1e-9).all(), "no more than the class is worth"


def test_classes_are_counted_and_drawn_as_often() -> None:
    model = classed("everywhere")
    labels = [torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 2, 1])]
    for step, y in enumerate(labels):
        next(model.updates(iter([Batch(torch.zeros(4, 1, 2, 2).double(), y)]), Progress(step, 4 * step, 12)))
    torch.testing.assert_close(model.class_frequencies, torch.tensor([6, 5, 1]).double() / 12)
    drawn = model.sample(20_000).flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0]).double()
    expected = model.log_prob(all_images((1, 2, 2), 2)).exp() * 20_000
    observed = torch.bincount(drawn.long(), minlength=16)
    assert ((observed - expected).square() / expected).sum() < 37.7  # chi-square, 15 degrees of freedom, p = 0.001


def chi_square(model: ConditionalPixelCNN, known: Tensor, draws: int = 10_000) -> float:
    """Of completions of one image, (1, 2, 2), whose two known values are 1 and 0, against the exact posterior."""
    images = all_images((1, 2, 2), 2)
    x = torch.zeros(1, 2, 2, dtype=torch.float64)
    x[known] = torch.tensor([1.0, 0.0], dtype=torch.float64)
    fits = (images[:, known] == x[known]).all(1)
    joint = model.log_prob(images[fits]).exp()
    expected = joint / joint.sum() * draws
    drawn = model.complete(x.expand(draws, 1, 2, 2), known.expand(draws, 1, 2, 2))[:, ~known]
    observed = torch.bincount((drawn[:, 0] * 2 + drawn[:, 1]).long(), minlength=4)
    assert expected.max() > 1.5 * expected.min()
    return float(((observed - expected).square() / expected).sum())


@pytest.mark.parametrize("where", ["everywhere", "by_location"])
@torch.no_grad()
def test_completions_of_what_comes_first_are_those_of_the_mixture(where: str) -> None:
    known = torch.tensor([[[True, True], [False, False]]])
    assert chi_square(classed(where), known) < 16.3  # 3 degrees of freedom, p = 0.001


@torch.no_grad()
def test_what_is_known_later_tells_the_class() -> None:
    """Values independent given the class: all that a known one says of an earlier one, it says through the class."""
    model = classed("by_location")
    for layer in (model.net.first, *model.net.layers):
        layer.left.weight.zero_()
        layer.above.weight.zero_()
    model.embedding.weight.mul_(3)
    known = torch.tensor([[[False, False], [True, True]]])
    assert chi_square(model, known) < 16.3
    images = all_images((1, 2, 2), 2)[:4]
    assert model.log_prob(images).std() > 0.1


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"needs class labels.* Use gated_pixelcnn"):
        ConditionalPixelCNN(spec((1, 4, 4)))
    with pytest.raises(RecipeError, match=r"hyper.where: found 'there'. Allowed: everywhere, by_location"):
        ConditionalPixelCNN(spec((1, 4, 4), classes=3), where="there")
    with pytest.raises(RecipeError, match=r"hyper.features: found 16, .* multiples of the image's 3 channels. Use 18"):
        GatedPixelCNN(spec((3, 4, 4)), features=16)
    with pytest.raises(RecipeError, match=r"hyper.kernel: found 4, .* Use 5"):
        GatedPixelCNN(spec((1, 4, 4)), kernel=4)
    with pytest.raises(RecipeError, match=r"hyper.layers: found 0"):
        GatedPixelCNN(spec((1, 4, 4)), layers=0)
    with pytest.raises(DataError, match="no class labels"):
        classed("everywhere").loss(Batch(torch.zeros(4, 1, 2, 2).double()))


# ---- the decoder of a code -----------------------------------------------------------------------------------------


def autoencoder(shape: Shape = (1, 2, 2), **hyper: Any) -> PixelCNNDecoder:
    sizes: dict[str, Any] = {"latents": 3, "hidden": (), "maps": 2, "features": 6, "layers": 2, "kernel": 3, "head": 6}
    return large(PixelCNNDecoder(spec(shape), **{**sizes, **hyper}))


@torch.no_grad()
def test_given_a_code_the_probabilities_of_all_images_sum_to_one() -> None:
    model, x = autoencoder(), all_images((1, 2, 2), 2)
    for code in (2 * torch.randn(4, 3)).double():
        p = model.log_prob(x, code.expand(16, 3)).exp()
        assert p.std() > 0.01 and abs(float(p.sum()) - 1) <= 1e-9


@torch.no_grad()
def test_decoded_images_are_drawn_from_the_distribution_given_the_code() -> None:
    model, draws = autoencoder(), 20_000
    code = torch.tensor([[1.0, -2.0, 0.5]]).double()
    expected = model.log_prob(all_images((1, 2, 2), 2), code.expand(16, 3)).exp() * draws
    drawn = model.decode(code.expand(draws, 3)).flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0]).double()
    observed = torch.bincount(drawn.long(), minlength=16)
    assert ((observed - expected).square() / expected).sum() < 37.7
    torch.manual_seed(3)
    once = model.decode(torch.randn(6, 3).double())
    torch.manual_seed(3)
    assert torch.equal(model.decode(torch.randn(6, 3).double()), once)


def test_the_error_reaches_the_encoder_through_the_code_alone() -> None:
    """All of it is trained end to end; and with the code cut off, the loss is that of a gated PixelCNN."""
    model, x = autoencoder((1, 4, 4)), some_images((1, 4, 4), "binary_fixed", 8)
    model.loss(Batch(x))[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    with torch.no_grad():
        for layer in (model.net.first, *model.net.layers):
            layer.told.weight.zero_()
    blind = GatedPixelCNN(model.spec, features=6, layers=2, kernel=3, head=6).double()
    blind.net.load_state_dict({k: v for k, v in model.net.state_dict().items() if "told" not in k})
    torch.testing.assert_close(model.loss(Batch(x))[0], blind.loss(Batch(x))[0])


def test_it_claims_no_density_and_no_distribution_of_codes() -> None:
    model = autoencoder()
    assert isinstance(model, Encodes)
    assert not isinstance(model, Scores) and not isinstance(model, Samples) and not isinstance(model, Completes)
