"""The table of contents: one line per chapter, in the order of the lecture."""

from gen.models.linear import factor, sparse_coding  # isort: skip
from gen.models.boltzmann import dbn, rbm  # isort: skip
from gen.models.variational import vae  # isort: skip
from gen.models.adversarial import dcgan, wgan_gp  # isort: skip
from gen.models.autoregressive import pixelcnn  # isort: skip

__all__ = ["dbn", "dcgan", "factor", "pixelcnn", "rbm", "sparse_coding", "vae", "wgan_gp"]
