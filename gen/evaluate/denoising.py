"""Denoising: how much nearer to the clean image a noisy one comes.

The noise is the model's own, of the kind and strength it was trained with, so the gain is no ranking of models that
were trained with different noise. Both sides are measured as 8-bit images: noise beyond black and white is clipped,
which by itself brings Gaussian noise of sigma = 0.3 on digits from 10.5 to 13.3 decibels. A gain is what comes on top.
"""

from __future__ import annotations

import torch

from gen.evaluate.bench import Bench, Measured, paired
from gen.evaluate.codes import mean_squared_error, peak_signal_to_noise
from gen.evaluate.samples import random_rows
from gen.evaluate.seeds import fixed_seed
from gen.model import Denoises

PAIRS = 32


@torch.no_grad()
def denoising(model: Denoises, bench: Bench) -> Measured:
    """PSNR of noisy and of denoised test images in decibels, and their difference, ``psnr_gain``."""
    space, clean = bench.spec.space, bench.test_view
    noisy, denoised = [], []
    with fixed_seed(bench.seed):
        for x in bench.test_x.split(bench.batch_size):
            corrupted = model.corrupt(x)
            noisy.append(space.decode(corrupted).cpu())
            denoised.append(space.decode(model.denoise(corrupted)).cpu())
    before, after = torch.cat(noisy), torch.cat(denoised)
    psnr_noisy, psnr_denoised = (peak_signal_to_noise(mean_squared_error(x, clean)) for x in (before, after))
    values = {"psnr_noisy": psnr_noisy, "psnr_denoised": psnr_denoised, "psnr_gain": psnr_denoised - psnr_noisy}
    shown = random_rows(len(clean), PAIRS, seed=bench.seed)
    return bench.scores(values, n_real=len(clean), split="test"), {"denoised": paired(before[shown], after[shown])}
