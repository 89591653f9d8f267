"""Recurrences: how far does a network of pixels see, and what does it wait for?

An image is a sequence, so a plain LSTM can read it pixel by pixel; it never learns that the pixel above is as near as
the one to the left. A spatial LSTM has both as neighbours. The same choice returns with layers that compute a whole
image [1]. A Row LSTM passes a row on to the next, three pixels wide, and sees a triangle above each pixel. A Diagonal
BiLSTM goes through the image along both diagonals and sees everything before it. A PixelCNN waits for nothing and sees
what its convolutions reach, which is bounded and leaves out a wedge to the upper right; gates of two stacks close that
blind spot [2], not the bound. The field is not assumed here but measured:

    field of pixel p = { q before p : d log p(x_p | x_<p) / d x_q is not 0 for some image }

In double precision a path that exists leaves a trace. What a network waits for are the steps of one layer that must
come one after the other, and the operations that a pass and a sample start, counted as they are started.

[1] A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu. Pixel Recurrent Neural Networks. 2016. Figure 4.
[2] A. van den Oord et al. Conditional Image Generation with PixelCNN Decoders. 2016. Section 2.2.
[3] L. Theis, M. Bethge. Generative Image Modeling Using Spatial LSTMs. 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gen.errors import RecipeError
from gen.model import Samples
from gen.studies.canvas import FAINT, INK, ORANGE, RULE, drawing, nats, percent
from gen.studies.study import Figure, Findings, Trained, study

STEPS: Mapping[str, Callable[[int, int], int]] = {  # of one layer, one after the other, for H x W pixels
    "plain LSTM": lambda height, width: height * width,
    "spatial LSTM": lambda height, width: height + width - 1,
    "PixelCNN": lambda height, width: 1,
    "gated PixelCNN": lambda height, width: 1,
    "Row LSTM": lambda height, width: height,
    "Diagonal BiLSTM": lambda height, width: height + width - 1,
}


class Conditionals(Samples, Protocol):
    """A model of values in order."""

    def log_probs(self, x: Tensor) -> Tensor:
        """log p of every value given those before it, in nats: (B, C, H, W) -> (B, C, H, W)."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is learned."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one model.

    Attributes:
        nats: mean of log p(x).
        bits_per_dim: the same, per value.
        parameters: how many numbers are learned.
        steps: of one layer, one after the other.
        operations_forward: that a pass starts.
        operations_sampling: that a sample starts.
        field: mean |d log p(x_p | .) / d x_q| over images, summed over channels, (H, W).
        seen: share of the pixels before p that are in its field.
    """

    nats: float
    bits_per_dim: float
    parameters: int
    steps: int
    operations_forward: int
    operations_sampling: int
    field: Tensor
    seen: float


class Started(TorchDispatchMode):
    """Counts operations that compute; those that only look at a tensor otherwise are free."""

    count = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See base."""
        self.count += not operation.is_view
        return operation(*args, **(kwargs or {}))


def started(run: Callable[[], object]) -> int:
    """Operations that ``run`` starts, without gradients."""
    with torch.no_grad(), Started() as mode:
        run()
    return mode.count


def field_of(model: Conditionals, x: Tensor, i: int, j: int) -> Tensor:
    """The field of pixel (i, j), see :class:`Row`; of images (B, C, H, W), in double precision. 0 from the pixel on."""
    x = x.double().requires_grad_()
    total = torch.zeros(x.shape[2:], dtype=torch.float64)
    for part in x.split(50):
        with torch.enable_grad():
            log_p = model.log_probs(part)[:, :, i, j].sum()
            (gradient,) = torch.autograd.grad(log_p, part)
        total += gradient.abs().sum((0, 1))
    total[i, j] = 0  # how probable a value is depends on itself
    return total / len(x)


@study("recurrences")
def recurrences(
    *,
    plain: Trained[Conditionals],
    spatial: Trained[Conditionals],
    pixelcnn: Trained[Conditionals],
    gated: Trained[Conditionals],
    row: Trained[Conditionals],
    diagonal: Trained[Conditionals],
    seed: int,
    images: int = 50,
    samples: int = 4,
) -> Findings:
    """See module.

    Args:
        plain: an LSTM in raster order.
        spatial: an LSTM with two neighbours.
        pixelcnn: masked convolutions.
        gated: masked convolutions in two stacks.
        row: LSTMs from row to row.
        diagonal: LSTMs along both diagonals.
        seed: of what is drawn.
        images: test images over which gradients are averaged; likelihoods are those of all.
        samples: drawn while operations are counted; how many does not matter where pixels are computed one by one.
    """
    cast = dict(zip(STEPS, (plain, spatial, pixelcnn, gated, row, diagonal), strict=True))
    for trained in cast.values():
        if trained.spec != plain.spec:
            raise RecipeError(
                f"{trained.recipe} has images {trained.spec.shape} in {trained.spec.space}, and {plain.recipe} "
                f"{plain.spec.shape} in {plain.spec.space}; likelihoods are compared in one space."
            )
    height, width = plain.spec.shape[1:]
    pixel = 2 * height // 3, width // 2
    table = {
        name: _measured(trained, STEPS[name](height, width), pixel, seed=seed, images=images, samples=samples)
        for name, trained in cast.items()
    }
    count, space = len(plain.split("test")[0]), plain.spec.space
    a, b, c, g, r, d = table.values()
    return Findings(
        figures={
            "fields": Figure(
                _fields(table, pixel), "What pixels a pixel's distribution depends on, mean |gradient| by tenfold steps"
            ),
            "table": Figure(_table(table), f"Likelihood of {count} test images in {space}, and what it costs"),
        },
        sentences=(
            f"With the pixel above as a second neighbour, an LSTM reaches {nats(b.nats)} nats where the plain one has "
            f"{nats(a.nats)}, with {b.parameters:,} parameters and {a.parameters:,}, and {b.steps} steps one after the "
            f"other, not {a.steps}.",
            f"Of the pixels before it, one in the middle sees {percent(c.seen)} in the PixelCNN, {percent(g.seen)} in "
            f"the gated one, {percent(r.seen)} in the Row LSTM and {percent(d.seen)} in the Diagonal BiLSTM, which "
            f"reach {nats(c.nats)}, {nats(g.nats)}, {nats(r.nats)} and {nats(d.nats)} nats in layers of {c.steps}, "
            f"{g.steps}, {r.steps} and {d.steps} steps.",
        ),
        numbers={
            name: {key: value for key, value in asdict(each).items() if key != "field"} for name, each in table.items()
        },
    )


def _measured(
    trained: Trained[Conditionals], steps: int, pixel: tuple[int, int], *, seed: int, images: int, samples: int
) -> Row:
    """All about one model."""
    model, spec, x = trained.model, trained.spec, trained.images("test", seed=seed)
    with torch.no_grad():
        log_p = torch.cat([model.log_probs(part).double().flatten(1).sum(1) for part in x.split(100)])
    some = trained.images("test", seed=seed, count=images)
    field = field_of(trained.double().model, some, *pixel)
    torch.manual_seed(seed)
    return Row(
        nats=float(log_p.mean()),
        bits_per_dim=spec.space.bits_per_dim(float(log_p.mean()), spec.dims),
        parameters=sum(p.numel() for p in model.parameters()),
        steps=steps,
        operations_forward=started(lambda: model.log_probs(some)),
        operations_sampling=started(lambda: model.sample(samples)),
        field=field,
        seen=float((field.flatten()[: pixel[0] * spec.shape[2] + pixel[1]] > 0).double().mean()),
    )


def _fields(table: dict[str, Row], pixel: tuple[int, int]) -> bytes:
    """A map for each model: the pixel framed, what it does not see left white."""
    import matplotlib

    columns, size = 3, 1.9
    width, height = columns * (size + 0.2) + 0.2, 2 * (size + 0.4) + 0.1
    colours = matplotlib.colormaps["cividis_r"].with_extremes(bad="white")
    with drawing(width, height) as made:
        for place, (name, each) in enumerate(table.items()):
            left, top = 0.2 + (size + 0.2) * (place % columns), 0.35 + (size + 0.4) * (place // columns)
            axes = made.figure.add_axes((left / width, 1 - (top + size) / height, size / width, size / height))
            decades = torch.where(each.field > 0, (each.field / each.field.amax()).log10(), torch.nan)
            axes.imshow(decades.numpy(), cmap=colours, vmin=-6, vmax=0, interpolation="nearest")
            i, j = pixel
            frame = ([j - 0.5, j + 0.5, j + 0.5, j - 0.5, j - 0.5], [i - 0.5, i - 0.5, i + 0.5, i + 0.5, i - 0.5])
            axes.plot(*frame, color=ORANGE, linewidth=1.8)
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(visible=True, color=RULE)
            axes.set_title(f"{name}: {percent(each.seen)}", fontsize=9.5, pad=4)
    return made.png


def _table(table: dict[str, Row]) -> bytes:
    """The numbers, a line for each model."""
    heads = (
        "nats",
        "bits",
        "parameters",
        "field",
        "steps of\na layer",
        "operations\nof a pass",
        "operations\nof a sample",
    )
    lines = [
        (
            nats(row.nats), f"{row.bits_per_dim:.3f}", f"{row.parameters:,}", percent(row.seen), f"{row.steps:,}",
            f"{row.operations_forward:,}", f"{row.operations_sampling:,}",
        )
        for row in table.values()
    ]  # fmt: skip
    places = (0.325, 0.41, 0.535, 0.62, 0.725, 0.86, 0.985)  # right ends of the columns
    width, height = 6.6, 0.62 + 0.27 * len(lines)
    with drawing(width, height) as made:

        def text(x: float, y: float, words: str, **style: Any) -> None:
            made.figure.text(x, 1 - y / height, words, fontsize=9, va="center", **style)

        for x, head in zip(places, heads, strict=True):
            text(x, 0.25, head, ha="right", color=FAINT)
        for n, (name, cells) in enumerate(zip(table, lines, strict=True)):
            y = 0.62 + 0.27 * n
            text(0.015, y, name, ha="left", color=INK)
            for x, cell in zip(places, cells, strict=True):
                text(x, y, cell, ha="right", color=INK)
    return made.png
