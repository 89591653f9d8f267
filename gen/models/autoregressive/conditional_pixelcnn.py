"""Conditional PixelCNN: a gated PixelCNN that is told the class, everywhere alike or place by place.

All conditionals of p(x|y) come from one gated PixelCNN whose gates hear of y. A class is a vector h of its own. Either
h is added to every gate of every layer, at all pixels alike, and says *what* is in the image; or a small
deconvolutional network turns it into a map s = m(h) as large as the image, which says *where* as well [1]. A net that
is told the same everywhere can tell its place by the image's edges alone, as far as they are in its field.

    log p(x|y) = sum_i log p(x_i | x_1, ..., x_{i-1}, y)                                            (eq. 3 of [1])
    everywhere     gate = tanh(W_f * x + V_f h) sigmoid(W_g * x + V_g h)                            (eq. 4 of [1])
    by_location    gate = tanh(W_f * x + V_f * s) sigmoid(W_g * x + V_g * s),  V a 1x1 convolution   (section 2.3)

Given the class, an image costs on the mean at most log K nats less than without, K being the number of classes: all
that can be saved is the class. Summed over the classes, the likelihood of an image alone is exact, and so is its class:

    log p(x) = log sum_y p(y) p(x|y),    p(y|x) = p(y) p(x|y) / p(x)

Net: that of the gated PixelCNN.
Algorithm: gradient descent on -log p(x|y). p(y) is the mean of the classes' frequencies over all batches so far.
Completion: one of each class, of which one is kept, in proportion to p(y) times the probability of the known values
along it. Where the known values come first in raster order, that is p(y | known), exactly; where some come later, it is
importance sampling with one particle for each class, and better than not to look at them.

Metrics: bits_per_dim given the class. Evaluation, which shows images alone, gets log p(x), at the price of K passes.

[1] A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt, A. Graves, K. Kavukcuoglu. Conditional Image Generation
    with PixelCNN Decoders. 2016.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen.checks import at_least
from gen.data.spaces import DataSpec
from gen.errors import DataError, RecipeError
from gen.losses.heads import Softmax
from gen.model import Adam, Batch, Optim, Progress, Update
from gen.nets.coders import decoder
from gen.nets.gated import GatedNet
from gen.nets.gated_steps import GatedByPixel
from gen.pixel_model import SHOWN, PixelModel
from gen.registry import register


@register("conditional_pixelcnn")
class ConditionalPixelCNN(PixelModel):
    """See module.

    Args:
        where: the class is told ``everywhere`` alike or ``by_location``.
        embedding: length of h, and the number of maps in s.
        hidden: of m, channels before each doubling of height and width; without any, m is linear.
        features: p, of either stack; a multiple of the image's channels.
        layers: of both stacks, at least 1; each after the first widens the field by one pixel.
        kernel: width of the first layer, odd, at least 3.
        head: features before the softmax's layer; a multiple of the image's channels.
    """

    head: Softmax
    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")
    conditional: ClassVar[bool] = True
    class_frequencies: Tensor

    def __init__(
        self,
        spec: DataSpec,
        *,
        where: Literal["everywhere", "by_location"] = "everywhere",
        embedding: int = 8,
        hidden: Sequence[int] = (16,),
        features: int = 12,
        layers: int = 8,
        kernel: int = 7,
        head: int = 24,
    ) -> None:
        super().__init__(spec)
        at_least(1, embedding=embedding)
        if spec.num_classes < 1:
            raise RecipeError(
                "dataset: conditional_pixelcnn needs class labels, and these data have none. Use gated_pixelcnn."
            )
        if where not in ("everywhere", "by_location"):
            raise RecipeError(f"hyper.where: found '{where}'. Allowed: everywhere, by_location.")
        self.classes = spec.num_classes
        self.head = Softmax.of(spec)
        colours, height, width = spec.shape
        self.embedding = nn.Embedding(self.classes, embedding)
        self.map = (  # (B, F) -> (B, F, 1, H, W), the 1 being the channels of what is decoded
            decoder(embedding, embedding, (1, height, width), net="conv", hidden=hidden)
            if where == "by_location"
            else nn.Unflatten(1, (embedding, 1, 1, 1))
        )
        self.net = GatedNet(
            colours,
            self.head.outputs,
            features=features,
            layers=layers,
            kernel=kernel,
            head=head,
            condition=embedding,
        )
        self.register_buffer("class_frequencies", torch.full((self.classes,), 1 / self.classes))

    def optimizers(self) -> dict[str, Optim]:
        """See base."""
        return {"model": Adam(lr=8e-3, clip=1.0, warmup=500, decay="cosine")}

    def updates(self, batches: Iterator[Batch], progress: Progress) -> Iterator[Update]:
        """See base. Also keeps the mean over all steps of the classes' frequencies."""
        batch = next(batches)
        seen = F.one_hot(self.condition_of(batch), self.classes).to(self.class_frequencies).mean(0)
        self.class_frequencies.lerp_(seen, 1 / (progress.step + 1))
        yield Update("model", *self.loss(batch))

    def condition_of(self, batch: Batch) -> Tensor:
        """See base: the labels."""
        if batch.y is None:
            raise DataError(
                "conditional_pixelcnn: this batch has no class labels. Give them to all images, or use gated_pixelcnn."
            )
        return batch.y

    def condition(self, labels: Tensor) -> Tensor:
        """What the gates are told: labels, int64 (B,) -> h as (B, F, 1, 1), or s, (B, F, H, W)."""
        maps: Tensor = self.map(self.embedding(labels))
        return maps.squeeze(2)

    def outputs(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See base. The condition is the labels, int64 (B,)."""
        assert condition is not None, "p(x|y) asks for y"
        outputs: Tensor = self.net(x, self.condition(condition))
        return outputs

    def incremental(self, count: int, condition: Tensor | None = None) -> GatedByPixel:
        """See base."""
        assert condition is not None, "p(x|y) asks for y"
        return GatedByPixel(self.net, count, self.spec.shape[2], self.condition(condition))

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See base: log p(x|y); without labels log p(x), the sum over all classes."""
        return self.log_joint(x).logsumexp(1) if condition is None else super().log_prob(x, condition)

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, y) for every y: images (B, C, H, W) -> nats, (B, classes)."""
        log_p = super().log_prob(x.repeat_interleave(self.classes, 0), self._each_class(len(x)))
        return log_p.view(-1, self.classes) + self.class_frequencies.log()

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See base; y ~ p(y) if none is given."""
        if condition is None:
            condition = self.class_frequencies.multinomial(count, replacement=True)
        return super().sample(count, condition=condition, temperature=temperature)

    @torch.no_grad()
    def complete(self, x: Tensor, known: Tensor) -> Tensor:
        """See base, and the module: the class is drawn too, and all known values inform it."""
        each, kept = (t.repeat_interleave(self.classes, 0) for t in (x, known))
        labels = self._each_class(len(x))
        drawn = self.draw(each, kept, labels, 1.0)
        weights = torch.where(kept, self.log_probs(drawn, labels), 0.0).flatten(1).sum(1).view(-1, self.classes)
        chosen = (weights + self.class_frequencies.log()).softmax(1).multinomial(1)[:, 0]
        return drawn.view(-1, self.classes, *self.spec.shape)[torch.arange(len(x), device=x.device), chosen]

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """See :class:`gen.model.Pictures`. Samples, a row of every class."""
        labels = torch.arange(self.classes, device=self.class_frequencies.device).repeat_interleave(SHOWN)
        return {"classes": self.sample(len(labels), condition=labels)}

    def _each_class(self, count: int) -> Tensor:
        """All labels, one after the other, for each of so many images."""
        return torch.arange(self.classes, device=self.class_frequencies.device).repeat(count)
