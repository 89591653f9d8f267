"""Denoising autoencoder: an autoencoder that sees a corrupted image and must put out the clean one.

Copying is no longer a solution, however wide the code: to undo noise one has to know what images look like, which
pixels go together and where the manifold of images runs [1, 2]. The best output is the mean of all images that may lie
behind the corrupted one, r*(x~) = E[x | x~], and for Gaussian noise that mean points uphill: x~ moves towards where
images are denser, by sigma^2 times the gradient of the log-density of noisy images [3, 5]. So a network that only ever
learnt to clean up knows the whole density; and as a chain that corrupts and cleans in turn, it draws from it [4].

    min over r = g f of  E_x E_{x~ ~ q(x~|x)}  d(x, r(x~))                    d as in `autoencoder`
    gaussian   x~ = x + sigma e           r*(x~) - x~ = sigma^2 grad log p_sigma(x~),   p_sigma = p * N(0, sigma^2 I)
    masking    x~_i = 0 with probability p
    sampling   x~ ~ q(x~|x),  x ~ P(x|x~),  and so on

P is what the error takes the outputs to be: bits, independent given x~, or, where it is squared, r(x~) itself. If P is
right the chain converges to the data [4]. It is right for weak corruption only, as strong corruption leaves several
images possible, between which the pixels choose together; but weak corruption never leaves a mode, and the chain gets
stuck. For bits of digits sigma = 0.8 lies between and all classes are visited; masking, tried from p = 0.5 to 0.85,
does worse. With squared errors it is a Langevin chain on p_sigma with half the noise, x~ <- x~ + sigma^2 score(x~) +
sigma e, so what it draws is narrower than the data, and rounder. Known pixels that are put back after every step are
completed by it.

Nets: `gen.nets.coders`, as in `autoencoder`. Algorithm: gradient descent with fresh noise at every visit, Adam.

Logged: `error`, d in nats or in units of x^2 per image, which is the loss; `mse`, the squared error of a pixel of
r(x~), and `noise`, that of x~, both in units of x^2.

[1] P. Vincent, H. Larochelle, Y. Bengio, P.-A. Manzagol. Extracting and composing robust features with denoising
    autoencoders. 2008.
[2] P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol. Stacked denoising autoencoders. 2010.
[3] G. Alain, Y. Bengio. What regularized auto-encoders learn from the data-generating distribution. 2014. Theorem 1.
[4] Y. Bengio, L. Yao, G. Alain, P. Vincent. Generalized denoising auto-encoders as generative models. 2013.
[5] K. Miyasawa. An empirical Bayes estimator of the mean of a normal population. 1961. (exact for any sigma)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from gen.data.spaces import DataSpec
from gen.errors import GenError, RecipeError
from gen.inference import corruption as processes
from gen.losses.reconstruction import KINDS, reconstruction
from gen.model import Adam, Batch, GenerativeModel, Metrics, Optim
from gen.nets.coders import Net, decoder, encoder, set_bias
from gen.nets.filters import first_layer
from gen.registry import register

CORRUPTIONS = {"gaussian": processes.gaussian, "masking": processes.masking}


@register("denoising")
class DenoisingAutoencoder(GenerativeModel):
    """See module.

    Args:
        latents: K, numbers in a code; may be more than the image has, as copying does not pay.
        net: ``mlp`` or ``conv``.
        hidden: the encoder's hidden layers, which the decoder mirrors; none for a linear map.
        corruption: ``gaussian`` or ``masking``.
        amount: sigma, in units of x (white is 1 more than black, in ``signed`` 2); or p, the share of masked pixels.
        steps: of the chain that samples.
    """

    spaces = KINDS

    def __init__(
        self,
        spec: DataSpec,
        *,
        latents: int = 128,
        net: Net = "mlp",
        hidden: Sequence[int] = (400,),
        corruption: Literal["gaussian", "masking"] = "gaussian",
        amount: float = 0.5,
        steps: int = 100,
    ) -> None:
        super().__init__(spec)
        if corruption not in CORRUPTIONS:
            raise RecipeError(f"hyper.corruption: found '{corruption}'. Allowed: {', '.join(CORRUPTIONS)}.")
        if not 0 < amount < (1 if corruption == "masking" else float("inf")):
            raise RecipeError(
                f"hyper.amount: found {amount}, allowed above 0, and below 1 for masking. It is a standard deviation "
                "in units of the space, or a share of pixels; try 0.5."
            )
        for name, value in {"latents": latents, "steps": steps}.items():
            if value < 1:
                raise RecipeError(f"hyper.{name}: found {value}, allowed 1 and more; leave it out for the default.")
        self.latents, self.corruption, self.amount, self.steps = latents, corruption, amount, steps
        self.reconstruction = reconstruction(spec.space)
        self.encoder = encoder(spec.shape, latents, net=net, hidden=hidden)
        self.decoder = decoder(latents, 1, spec.shape, net=net, hidden=hidden)

    def optimizers(self) -> dict[str, Optim]:
        """See base. Steps shrink to nothing, which averages over the noise."""
        return {"model": Adam(lr=2e-3, decay="linear")}

    def initialize(self, x: Tensor) -> None:
        """See base. The decoder starts at the mean image, which is what to answer when noise hides everything."""
        set_bias(self.decoder, self.reconstruction.start(x))

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """d(x, r(x~)) with one x~ per image, mean over the batch."""
        noisy = self.corrupt(batch.x)
        outputs = self.decoder(self.encoder(noisy))
        error = self.reconstruction.error(outputs, batch.x).mean()
        rebuilt = self.reconstruction.image(outputs.detach())
        return error, {
            "error": error.detach(),
            "mse": (rebuilt - batch.x).square().mean(),
            "noise": (noisy - batch.x).square().mean(),
        }

    def corrupt(self, x: Tensor, *, temperature: float = 1.0) -> Tensor:
        """See :class:`gen.model.Denoises`: x~ ~ q(x~|x), with sigma or p times the temperature."""
        return CORRUPTIONS[self.corruption](x, self.amount * temperature)

    @torch.no_grad()
    def denoise(self, x: Tensor) -> Tensor:
        """See :class:`gen.model.Denoises`: r(x), or the probabilities of the bits. Real values may leave the space."""
        return self.decode(self.encode(x))

    def score(self, x: Tensor) -> Tensor:
        """Gradient of log p_sigma at noisy images, (r(x) - x) / sigma^2, same shape [3, 5].

        Raises:
            GenError: the corruption is not Gaussian.
        """
        if self.corruption != "gaussian":
            raise GenError(f"score: the corruption is {self.corruption}; only that of gaussian noise is a gradient.")
        return (self.denoise(x) - x) / self.amount**2

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`: f(x) of the image as it is, (B, K)."""
        code: Tensor = self.encoder(x)
        return code

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        """See :class:`gen.model.Encodes`."""
        return self.reconstruction.image(self.decoder(code))

    def sample(self, count: int, *, condition: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See :class:`gen.model.Samples`: ``steps`` steps of the chain; a low temperature corrupts less."""
        blank = next(self.parameters()).new_zeros(count, *self.spec.shape)
        return self._chain(blank, torch.zeros_like(blank, dtype=torch.bool), temperature)

    def complete(self, x: Tensor, known: Tensor) -> Tensor:
        """See :class:`gen.model.Completes`: the chain, put back to the known pixels after every step."""
        return self._chain(x, known, 1.0)

    def pictures(self) -> dict[str, Tensor]:
        """See :class:`gen.model.Pictures`: what units of the encoder's first layer respond to."""
        return {"filters": first_layer(self.encoder, self.spec.shape)}

    @torch.no_grad()
    def _chain(self, given: Tensor, known: Tensor, temperature: float) -> Tensor:
        """Images (B, C, H, W) after ``steps`` steps, from what the decoder makes of the code 0."""
        code = given.new_zeros(len(given), self.latents)
        x = torch.where(known, given, self.reconstruction.draw(self.decoder(code)))
        for _ in range(self.steps):
            outputs = self.decoder(self.encoder(self.corrupt(x, temperature=temperature)))
            x = torch.where(known, given, self.reconstruction.draw(outputs))
        return x
