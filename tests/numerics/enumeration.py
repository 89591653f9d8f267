"""Boltzmann machines of a few units by brute force: every state, in float64, by the definition of the energy."""

import torch

from gen.nets.boltzmann import GaussianRBMLayer, RBMLayer


def states(units):
    """All states of some binary units, (2^units, units)."""
    return ((torch.arange(2**units)[:, None] >> torch.arange(units)) & 1).double()


def index(bits):
    """Positions of rows of bits in :func:`states`."""
    return (bits.long() << torch.arange(bits.shape[1])).sum(1)


def randomise(layer, scale=1.0):
    """Give every parameter and both centres values that no symmetry hides."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=scale)
        layer.mu.uniform_()
        layer.lam.uniform_()
    return layer


def random_layer(visible, hidden, scale=1.0):
    """A binary layer."""
    return randomise(RBMLayer(visible, hidden).double(), scale)


def random_gaussian(visible, hidden, scale=1.0):
    """A layer with real visible units, of scales and deviations between 0.3 and 2."""
    layer = randomise(GaussianRBMLayer(visible, hidden).double(), scale)
    with torch.no_grad():
        layer.scale.uniform_(0.5, 1.5)
        layer.z.uniform_(-1, 0.5)
    return layer


def joint(layer):
    """p(v, h) by the definition of the energy, (2^D, 2^H), and log Z."""
    v, h = states(layer.W.shape[1]), states(layer.W.shape[0])
    score = (v @ layer.b)[:, None] + (h @ layer.c)[None] + v @ layer.W.t() @ h.t()
    return (score - score.flatten().logsumexp(0)).exp().detach(), score.flatten().logsumexp(0).detach()


def assert_distributed(bits, p):
    """Rows of bits follow p, (2^D,): Pearson's statistic within 5 standard deviations of its mean."""
    kept = p * len(bits) > 5
    expected = (p * len(bits))[kept]
    counts = torch.bincount(index(bits), minlength=len(p))[kept]
    statistic, freedom = ((counts - expected) ** 2 / expected).sum(), kept.sum() - 1
    assert (statistic - freedom).abs() < 5 * (2.0 * freedom) ** 0.5


def mixture(layer):
    """The marginal of a layer with real visible units as a mixture of Gaussians, by the definition of the energy.

    Returns p(h), (2^H,); the centres of p(v | h), (2^H, D); their deviations, (D,); and log Z.
    """
    h, sigma2 = states(layer.W.shape[0]), layer.scale.square() * layer.z.exp()
    b = layer.b_0 - layer.lam @ layer.W
    centre = layer.mu + layer.scale * (b + h @ layer.W)
    # Completing the square: |u - b|^2 - 2 u.W'h = |u - b - W'h|^2 - |W'h|^2 - 2 b.W'h, all over exp(z).
    shift = ((h @ layer.W).square() / 2 + b * (h @ layer.W)) / layer.z.exp()
    score = h @ layer.c_0 + shift.sum(1) + (2 * torch.pi * sigma2).log().sum() / 2
    log_z = score.logsumexp(0)
    return (score - log_z).exp().detach(), centre.detach(), sigma2.sqrt().detach(), log_z.detach()


@torch.no_grad()
def exact_samples(layer, count):
    """Independent samples of a Gaussian layer, (count, D)."""
    p, centre, sigma, _ = mixture(layer)
    chosen = centre[torch.multinomial(p, count, replacement=True)]
    return chosen + sigma * torch.randn_like(chosen)
