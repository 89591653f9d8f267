"""The table of contents: one line per chapter, in the order of the lecture."""

from gen.models.linear import factor, factor_gradient, sparse_coding  # isort: skip
from gen.models.autoencoders import autoencoder, denoising  # isort: skip
from gen.models.boltzmann import rbm, gaussian_rbm, dbn  # isort: skip
from gen.models.variational import vae, iwae, conditional_vae, flow_vae, ladder_vae  # isort: skip
from gen.models.adversarial import dcgan, wgan_gp  # isort: skip
from gen.models.autoregressive import pixel_lstm, spatial_lstm, row_lstm, diagonal_bilstm  # isort: skip
from gen.models.autoregressive import pixelcnn, gated_pixelcnn, pixelcnn_pp, multiscale_pixelrnn  # isort: skip
from gen.models.autoregressive import conditional_pixelcnn, pixelcnn_decoder, video_pixel_network  # isort: skip

__all__ = [
    "autoencoder",
    "conditional_pixelcnn",
    "conditional_vae",
    "dbn",
    "dcgan",
    "denoising",
    "diagonal_bilstm",
    "factor",
    "factor_gradient",
    "flow_vae",
    "gated_pixelcnn",
    "gaussian_rbm",
    "iwae",
    "ladder_vae",
    "multiscale_pixelrnn",
    "pixel_lstm",
    "pixelcnn",
    "pixelcnn_decoder",
    "pixelcnn_pp",
    "rbm",
    "row_lstm",
    "sparse_coding",
    "spatial_lstm",
    "vae",
    "video_pixel_network",
    "wgan_gp",
]
