"""The table of contents: one line per chapter, in the order of the lecture."""

from gen.models.linear import factor, factor_gradient, sparse_coding  # isort: skip
from gen.models.autoencoders import autoencoder, denoising  # isort: skip
from gen.models.boltzmann import rbm, gaussian_rbm, dbn  # isort: skip
from gen.models.variational import vae, iwae, conditional_vae, flow_vae, ladder_vae  # isort: skip
from gen.models.adversarial import dcgan, wgan_gp  # isort: skip
from gen.models.autoregressive import pixelcnn  # isort: skip

__all__ = [
    "autoencoder",
    "conditional_vae",
    "dbn",
    "dcgan",
    "denoising",
    "factor",
    "factor_gradient",
    "flow_vae",
    "gaussian_rbm",
    "iwae",
    "ladder_vae",
    "pixelcnn",
    "rbm",
    "sparse_coding",
    "vae",
    "wgan_gp",
]
