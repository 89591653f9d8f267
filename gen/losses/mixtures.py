"""The discretised logistic mixture: a head for values whose levels have an order.

    p(x) = sum_k pi_k prod_c P_kc(x_c),    P_kc(level) = sigmoid(b) - sigmoid(a),   a, b = (level's ends - mu_kc) / s_kc
    mu_kc = m_kc + sum_{c' < c} tanh(a_kcc') x_c'

A pixel of C channels belongs to one of K components, and given the component every channel is a logistic variable,
rounded to the nearest level; the first level takes all below it and the last one all above. The means of green and blue
move with the channels before them. A level's neighbours are probable when it is, which a softmax has to learn, and
256 levels take as many outputs as 16 (Salimans et al. 2017, "PixelCNN++", section 2.1 and 2.2).

As the channels of a pixel share their component, those seen already tell which one it is. What one channel is given
those before it is therefore the mixture under the *posterior* of the components,

    p(x_c | x_1, ..., x_{c-1}) = sum_k p(k | x_1, ..., x_{c-1}) P_kc(x_c),    p(k | .) ~ pi_k prod_{c' < c} P_kc'(x_c').
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gen.losses.likelihoods import logistic_log_mass, logistic_scale


class Components(NamedTuple):
    """What the outputs say, in single precision at least. N stands for any number of pixels, in any arrangement.

    Attributes:
        log_pi: log-probabilities of the components, (B, K, ...).
        location: of every channel, on the scale from -1 to 1, (B, K, C, ...).
        raw_log_scale: see :func:`gen.losses.likelihoods.logistic_scale`, (B, K, C, ...).
    """

    log_pi: Tensor
    location: Tensor
    raw_log_scale: Tensor


@dataclass(frozen=True, slots=True)
class LogisticMixture:
    """See module, and :class:`gen.losses.heads.Head`.

    Attributes:
        channels: C.
        levels: the number of levels.
        components: K.
    """

    channels: int
    levels: int
    components: int

    @property
    def noise(self) -> int:
        """See base: one number chooses the component, one the value."""
        return 2

    @property
    def ordered_by_net(self) -> bool:
        """See base."""
        return False

    @property
    def outputs(self) -> int:
        """See base: K logits, C K means, C K scales, C (C - 1) / 2 K coefficients."""
        return self.components * (1 + 2 * self.channels + self.channels * (self.channels - 1) // 2)

    def _read(self, outputs: Tensor, x: Tensor) -> Components:
        """(B, P, ...) and the pixels, (B, C, ...) -> components whose means know the channels before."""
        if outputs.dtype in (torch.float16, torch.bfloat16):  # sums over an image in half precision err by nats
            outputs = outputs.float()
        c = self.channels
        logits, means, scales, slopes = outputs.unflatten(1, (self.components, -1)).split(
            [1, c, c, c * (c - 1) // 2], dim=2
        )
        signed, slopes = (2 * x.to(outputs.dtype) - 1).unsqueeze(1), slopes.tanh()
        location = [means[:, :, :1]]
        for channel in range(1, c):
            first = channel * (channel - 1) // 2
            along = (slopes[:, :, first : first + channel] * signed[:, :, :channel]).sum(2, keepdim=True)
            location.append(means[:, :, channel : channel + 1] + along)
        return Components(logits[:, :, 0].log_softmax(1), torch.cat(location, 2), scales)

    def _log_mass(self, of: Components, x: Tensor) -> Tensor:
        """log P_kc(x_c), (B, K, C, ...)."""
        level = (x.to(of.location.dtype) * (self.levels - 1)).round().unsqueeze(1)
        return logistic_log_mass(of.location, of.raw_log_scale, level, self.levels)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """See base: by how much every channel makes what is known of the pixel less probable."""
        of = self._read(outputs, x)
        log_joint = of.log_pi.unsqueeze(2) + self._log_mass(of, x).cumsum(2)
        log_p = log_joint.logsumexp(1)  # of the channels up to this one, (B, C, ...)
        return log_p.diff(dim=1, prepend=torch.zeros_like(log_p[:, :1]))

    def _posterior(self, of: Components, x: Tensor) -> Tensor:
        """log p(k | channels before), up to a constant, for every channel, (B, K, C, ...)."""
        seen = self._log_mass(of, x)[:, :, :-1].cumsum(2)
        return of.log_pi.unsqueeze(2) + torch.cat([torch.zeros_like(of.location[:, :, :1]), seen], 2)

    def draw(self, outputs: Tensor, x: Tensor, channel: int, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """See base: a component, then a logistic value by its inverse distribution function, rounded.

        A temperature divides the components' log-probabilities and multiplies the scales.
        """
        # Channels from this one on may hold anything, numbers or not: what they say is never looked at.
        of = self._read(outputs, x)
        p = (self._posterior(of, x)[:, :, channel] / temperature).softmax(1)
        k = (p.cumsum(1)[:, :-1] <= noise[:, :1]).sum(1, keepdim=True)  # the last sum is 1, above any noise
        location, raw = (t[:, :, channel].gather(1, k)[:, 0] for t in (of.location, of.raw_log_scale))
        value = location + temperature * logistic_scale(raw) * noise[:, 1].to(raw.dtype).logit()
        last = self.levels - 1
        return (((value + 1) / 2 * last).round().clamp(0, last) / last).to(outputs.dtype)

    def mean(self, outputs: Tensor, x: Tensor) -> Tensor:
        """See base: E[level] is the sum over all levels but the last of the probability to lie above."""
        of = self._read(outputs, x)
        scale, last = logistic_scale(of.raw_log_scale), self.levels - 1
        above = sum(torch.sigmoid((of.location - (2 * k + 1) / last + 1) / scale) for k in range(last))
        mean: Tensor = (self._posterior(of, x).softmax(1) * above).sum(1) / last
        return mean
