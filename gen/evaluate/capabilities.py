"""Capabilities: what there is to say about a model that scores, encodes, completes or shows pictures.

Samples, about which there is most to say, have a room of their own: :mod:`gen.evaluate.fidelity`.
"""

from __future__ import annotations

import torch

from gen.evaluate.bench import Bench, Measured, Score, in_space, paired
from gen.evaluate.codes import decode_all, encode_all, linear_probe, mean_squared_error, peak_signal_to_noise
from gen.evaluate.grids import to_uint8
from gen.evaluate.likelihood import log_likelihoods
from gen.evaluate.samples import random_rows
from gen.evaluate.seeds import fixed_seed
from gen.model import Completes, Encodes, Infers, Pictures, Scores

PAIRS = 32
PROBE_IMAGES = 5_000
ACTIVE = 0.01  # variance of a unit's mean over images above which it is used (Burda et al. 2016, section 5.3)


def likelihoods(model: Scores, bench: Bench) -> Measured:
    """``nats`` and ``bits_per_dim`` by the estimator to quote, and ``nats_<estimator>`` by each."""
    scores: dict[str, Score] = {}
    found = log_likelihoods(model, bench.spec, bench.test_x, seed=bench.seed, batch_size=bench.batch_size)
    for suffix, result in [(f"_{each.estimator}", each) for each in found] + [("", found[-1])]:
        scores |= bench.scores(
            {f"nats{suffix}": result.nats, f"bits_per_dim{suffix}": result.bits_per_dim},
            n_real=result.n,
            split="test",
            estimator=result.estimator,
            kind=result.kind,
            standard_error_nats=result.standard_error,
        )
    return scores, {}


def codes(model: Encodes, bench: Bench) -> Measured:
    """How well images survive their codes, and how well a straight line finds the classes there."""
    options = {"seed": bench.seed, "batch_size": bench.batch_size}
    test_codes = encode_all(model, bench.test_x, **options)
    rebuilt = decode_all(model, bench.spec, test_codes, **options)
    mse = mean_squared_error(rebuilt, bench.test_view)
    scores = bench.scores(
        {"reconstruction_mse": mse, "reconstruction_psnr": peak_signal_to_noise(mse)}, n_real=len(rebuilt), split="test"
    )
    (images, labels), (_, test_labels) = bench.train, bench.test
    if labels is not None and test_labels is not None:
        rows = random_rows(len(images), PROBE_IMAGES, seed=bench.seed)
        x = in_space(images[rows], bench.spec.space, seed=bench.seed).to(bench.home)
        probes = {
            "linear_probe": (encode_all(model, x, **options), test_codes),
            "linear_probe_pixels": (x, bench.test_x),
        }
        for name, (of_train, of_test) in probes.items():
            found = linear_probe((of_train, labels[rows]), (of_test, test_labels))
            dims = of_train.flatten(1).shape[1]
            scores |= bench.scores({name: found}, n_train=len(rows), n_real=len(of_test), dims=dims, split="test")
    shown = random_rows(len(rebuilt), PAIRS, seed=bench.seed)
    return scores, {"reconstructions": paired(bench.test_view[shown], rebuilt[shown])}


@torch.no_grad()
def latent_units(model: Infers, bench: Bench) -> Measured:
    """``kl`` in nats per image, how many units carry it (``active_units``), and what each one carries, most first."""
    with fixed_seed(bench.seed):
        means, kl = (
            torch.cat(parts).double().cpu()
            for parts in zip(*map(model.latent_units, bench.test_x.split(bench.batch_size)), strict=True)
        )
    per_unit = kl.mean(0).sort(descending=True).values
    values = {"active_units": float((means.var(0) > ACTIVE).sum()), "kl": float(per_unit.sum())}
    facts = {"units": means.shape[1], "kl_per_unit": [round(nats, 4) for nats in per_unit.tolist()]}
    return bench.scores(values, n_real=len(means), split="test", active_above=ACTIVE, **facts), {}


@torch.no_grad()
def completions(model: Completes, bench: Bench) -> Measured:
    """Test images beside what the model makes of their upper halves; nothing to score, for many answers are right."""
    rows = random_rows(len(bench.test_view), PAIRS, seed=bench.seed)
    x = bench.test_x[rows]
    known = torch.zeros_like(x, dtype=torch.bool)
    known[:, :, : x.shape[2] // 2] = True
    with fixed_seed(bench.seed):
        completed = bench.spec.space.decode(model.complete(x, known)).cpu()
    return {}, {"completions": paired(bench.test_view[rows], completed)}


@torch.no_grad()
def own_pictures(model: Pictures, bench: Bench) -> Measured:
    """Whatever the model shows of itself."""
    with fixed_seed(bench.seed):
        return {}, {name: to_uint8(images).cpu() for name, images in model.pictures().items()}
