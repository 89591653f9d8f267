"""Adversarial pairs: what the discriminator (critic) minimises, and what the generator minimises against it.

Every function takes logits, D(x) before any sigmoid, of shape (B,), and returns a scalar, the mean over the batch, in
float32 at least: under autocast logits arrive in bfloat16, whose 8 bits would round the mean.

With l the logit and sigma(l) the probability of being real, -log sigma(l) = softplus(-l) and
-log(1 - sigma(l)) = softplus(l); no logarithm of a rounded probability is ever taken.

[1] I. Goodfellow et al. Generative Adversarial Nets. 2014.
[2] M. Arjovsky, S. Chintala, L. Bottou. Wasserstein Generative Adversarial Networks. 2017.
[3] J. H. Lim, J. C. Ye. Geometric GAN. 2017.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E log sigma(D(x)) - E log(1 - sigma(D(G(z)))): [1] eq. 1; 2 log 2 where D cannot tell."""
    return F.softplus(-_wide(real)).mean() + F.softplus(_wide(fake)).mean()


def minimax_generator_loss(fake: Tensor) -> Tensor:
    """E log(1 - sigma(D(G(z)))): the same game as the discriminator's, [1] eq. 1.

    Its gradient in the logit is -sigma(l): it vanishes exactly where D is sure of a fake, i.e. at the start.
    """
    return -F.softplus(_wide(fake)).mean()


def non_saturating_generator_loss(fake: Tensor) -> Tensor:
    """-E log sigma(D(G(z))): [1] section 3; its gradient in the logit, -sigma(-l), is largest for a sure fake.

    It is the discriminator's loss with the labels flipped.
    """
    return F.softplus(-_wide(fake)).mean()


def wasserstein_critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """E D(G(z)) - E D(x): minus the estimate of W1 where D is 1-Lipschitz, [2] eq. 2."""
    return _wide(fake).mean() - _wide(real).mean()


def wasserstein_generator_loss(fake: Tensor) -> Tensor:
    """-E D(G(z)), [2] algorithm 1."""
    return -_wide(fake).mean()


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))), [3]; its generator minimises -E D(G(z)), the Wasserstein one."""
    return F.relu(1 - _wide(real)).mean() + F.relu(1 + _wide(fake)).mean()


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
