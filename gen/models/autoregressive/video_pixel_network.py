"""Video pixel network: the chain rule over time, rows, columns and colours of a video.

A video is a sequence of frames, a frame one of pixels, and a distribution over what comes next needs both: what moved
where, and what the rest of this very frame already says about it [1]. Encoders that keep the resolution read every
frame, a convolutional LSTM carries what they say through time, and a PixelCNN draws the next frame, given that. If a
digit can leave a wall in any direction, its pixels agree because each sees those before it. The baseline draws every
pixel from the past alone: it has to blur what it does not know, and pays for it in nats. Time costs nothing in
training, where all frames are known and predicted in one pass; sampling is pixel by pixel within a frame.

    log p(x_T0, ..., x_T-1 | x_0, ..., x_T0-1) = sum_t sum_i log p(x_ti | x_0, ..., x_t-1, x_t1, ..., x_t,i-1)

Net: encoders of residual multiplicative blocks, dilated by 1, 2, 4, 8 and again; the LSTM; a decoder of masked
multiplicative blocks after a 7x7 mask A (section 4 of [1], at a fraction of its size: there 8 blocks of 128 features,
an LSTM of 256 and 12 masked blocks, for 10 frames after 10 of 64x64). The baseline's blocks are not masked, and its
decoder does not see the frame.
Algorithm: gradient descent on -log p of the frames after the context, every frame given the true ones before it.

Metrics: nats of a predicted frame; bits_per_dim.

[1] N. Kalchbrenner, A. van den Oord, K. Simonyan, I. Danihelka, O. Vinyals, A. Graves, K. Kavukcuoglu. Video Pixel
    Networks. 2017.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from gen.checks import at_least, divisible
from gen.data.spaces import DataSpec
from gen.errors import RecipeError
from gen.inference.pixels import Canvas, jacobi
from gen.losses.heads import Softmax
from gen.model import Adam, Batch, GenerativeModel, Metrics, Optim
from gen.nets.masked import MaskedConv2d
from gen.nets.video import ConvLSTM, Convolution, MultiplicativeBlock, dilated
from gen.registry import register

DILATIONS = (1, 2, 4, 8)


@register("video_pixel_network")
class VideoPixelNetwork(GenerativeModel):
    """See module.

    Args:
        context: frames that are given; those after them are predicted.
        pixels: ``dependent`` on those before them in their frame, or ``independent``: the baseline.
        features: h of the multiplicative blocks, 2h outside them; a multiple of the frame's channels.
        encoder: blocks that read a frame.
        states: features of the LSTM.
        decoder: blocks that predict a frame.
    """

    spaces: ClassVar[tuple[str, ...]] = ("binary_dynamic", "binary_fixed", "levels")
    videos: ClassVar[bool] = True

    def __init__(
        self,
        spec: DataSpec,
        *,
        context: int = 4,
        pixels: Literal["dependent", "independent"] = "dependent",
        features: int = 8,
        encoder: int = 2,
        states: int = 16,
        decoder: int = 2,
    ) -> None:
        super().__init__(spec)
        colours, frames = spec.shape[0], spec.frames
        if frames is None:
            raise RecipeError("dataset: found images; a video pixel network needs videos. Use moving_digits or clips.")
        at_least(1, context=context, features=features, states=states, encoder=encoder)
        at_least(0, decoder=decoder)
        if context >= frames:
            raise RecipeError(
                f"hyper.context: found {context} of the {frames} frames of a video, allowed 1 to {frames - 1}: what "
                "follows is predicted."
            )
        divisible(colours, features=features)
        self.context, self.head = context, Softmax.of(spec)
        self.encoder = nn.Sequential(
            nn.Conv2d(colours, 2 * features, 3, padding=1),
            *(MultiplicativeBlock(features, dilated(DILATIONS[n % len(DILATIONS)])) for n in range(encoder)),
        )
        self.memory = ConvLSTM(2 * features, states)
        self.of_past = nn.Conv2d(states, 2 * features, 1)
        self.of_frame = (
            MaskedConv2d(colours, 2 * features, 7, mask="A", colours=colours) if pixels == "dependent" else None
        )

        def masked(inputs: int, outputs: int, kernel: int) -> MaskedConv2d:
            return MaskedConv2d(inputs, outputs, kernel, mask="B", colours=colours)

        convolution: Convolution = masked if pixels == "dependent" else dilated(1)
        self.decoder = nn.Sequential(
            *(MultiplicativeBlock(features, convolution, colours=colours) for _ in range(decoder)),
            nn.ReLU(),
            convolution(2 * features, 2 * features, 1),
            nn.ReLU(),
            convolution(2 * features, self.head.outputs, 1),
        )

    def optimizers(self) -> dict[str, Optim]:
        """See base. The paper's RMSprop gives way to Adam."""
        return {"model": Adam(lr=6e-3, clip=1.0, warmup=500, decay="cosine")}

    def past(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What is known after each frame about the next one.

        Args:
            x: frames that follow each other, (B, C, T, H, W).
            state: of the LSTM after those before them.

        Returns:
            (B, T, 2h, H, W), and the state after the last frame.
        """
        frames = x.transpose(1, 2)
        codes = self.encoder(2 * frames.flatten(0, 1) - 1).unflatten(0, frames.shape[:2])
        said, state = self.memory(codes, state)
        return self.of_past(said.flatten(0, 1)).unflatten(0, frames.shape[:2]), state

    def decode(self, frame: Tensor, past: Tensor) -> Tensor:
        """What the head needs to know about a frame's pixels: (B, C, H, W), (B, 2h, H, W) -> (B, P, H, W)."""
        outputs: Tensor = self.decoder(past if self.of_frame is None else past + self.of_frame(frame))
        return outputs

    def log_probs(self, x: Tensor) -> Tensor:
        """log p of every value after the context, given those before it: (B, C, T, H, W) -> (B, C, T - T0, H, W)."""
        past, _ = self.past(x[:, :, :-1])
        past, frames = past[:, self.context - 1 :], x[:, :, self.context :].transpose(1, 2)
        flat = frames.flatten(0, 1)
        log_p = self.head.log_prob(self.decode(flat, past.flatten(0, 1)), flat)
        return log_p.unflatten(0, frames.shape[:2]).transpose(1, 2)

    def given(self) -> int:
        """See :class:`gen.model.Predicts`."""
        return self.context

    def frame_log_probs(self, x: Tensor) -> Tensor:
        """See :class:`gen.model.Predicts`."""
        return self.log_probs(x).sum((1, 3, 4))

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """See base: -log p in nats per predicted frame."""
        nats = -self.frame_log_probs(batch.x).mean()
        bits = nats.detach() / (math.prod(self.spec.shape) * math.log(2))
        return nats, {"nats": nats.detach(), "bits_per_dim": bits}

    @torch.no_grad()
    def predict(self, context: Tensor, frames: int) -> Tensor:
        """See :class:`gen.model.Predicts`."""
        past, state = self.past(context)
        blank = torch.zeros_like(context[:, :, 0])
        drawn: list[Tensor] = []
        while len(drawn) < frames:
            if drawn:
                past, state = self.past(drawn[-1][:, :, None], state)
            drawn.append(self.draw(Canvas.noisy(self.head, blank, blank.bool()), past[:, -1]))
        return torch.stack(drawn, 2)

    def draw(self, canvas: Canvas, past: Tensor) -> Tensor:
        """The frame of a canvas, (B, C, H, W), given what is known about it, (B, 2h, H, W)."""
        return jacobi(lambda x, rows: self.decode(x, past[rows]), canvas)
