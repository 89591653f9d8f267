"""No regression: the intervals hold the truth as often as they claim, a worse model is refused, an equal one is not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gen.errors import GenError
from gen.evaluate.bench import Bench
from gen.evaluate.codes import decode_all, encode_all, mean_squared_error
from gen.evaluate.distances import frechet_distance
from gen.evaluate.judge import Judge
from gen.evaluate.likelihood import log_likelihoods
from gen.evaluate.regression import (
    COMPARISONS,
    basic_interval,
    compare,
    counts,
    frechet_difference,
    moments,
    paired_means,
)
from gen.evaluate.samples import draw
from gen.registry import build
from tests.toys import TOY_HYPER, toy_spec

TRIALS = 200
CLAIMED = 0.9


def covered(trials: int) -> tuple[float, float]:
    """Where the share of intervals that hold the truth may lie: three standard errors about what is claimed."""
    error = 3 * math.sqrt(CLAIMED * (1 - CLAIMED) / trials)
    return CLAIMED - error, CLAIMED + error


# ---- coverage --------------------------------------------------------------------------------------------------------


def scores(generator: torch.Generator, n: int, gain: float) -> tuple[Tensor, Tensor]:
    """Scores of two models: images differ much and both ways for all, models by ``gain``, skewed as nats are."""
    hardness = -torch.empty(n, dtype=torch.float64).exponential_(0.05, generator=generator)
    noise = [torch.empty(n, dtype=torch.float64).exponential_(1.0, generator=generator) - 1 for _ in range(2)]
    return hardness + noise[0] + gain, hardness + noise[1]


@pytest.mark.parametrize("gain", [0.0, -0.5])
def test_paired_intervals_hold_the_truth_as_often_as_claimed(gain):
    generator = torch.Generator().manual_seed(1)
    hits, widths = 0, []
    for _ in range(TRIALS):
        candidate, champion = scores(generator, 200, gain)
        found = paired_means(candidate, champion, 300, generator)
        low, high = basic_interval(found.candidate - found.champion, found.resampled, CLAIMED)
        hits += low <= gain <= high
        widths.append(high - low)
    least, most = covered(TRIALS)
    assert least <= hits / TRIALS <= most
    expected = 2 * 1.645 * math.sqrt(2 / 200)  # of the difference of two noises of variance 1
    assert sum(widths) / TRIALS == pytest.approx(expected, rel=0.1), "what images have in common must cancel"


@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_frechet_intervals_hold_the_truth_at_least_as_often_as_claimed(scale):
    """Real features N(0, I), the champion's N(e, I), the candidate's N(e, s^2 I): FID 1 and 1 + d (s - 1)^2."""
    generator, d, n = torch.Generator().manual_seed(2), 16, 200
    truth = -d * (scale - 1) ** 2
    shift = torch.eye(d, dtype=torch.float64)[0]
    hits = 0
    for _ in range(TRIALS // 4):
        real, candidate, champion = (torch.randn(n, d, dtype=torch.float64, generator=generator) for _ in range(3))
        found = frechet_difference(real, scale * candidate + shift, champion + shift, 200, generator)
        low, high = basic_interval(found.champion - found.candidate, -found.resampled, CLAIMED)
        hits += low <= truth <= high
    least, _ = covered(TRIALS // 4)
    assert hits / (TRIALS // 4) >= least, "conservative, because samples that share a seed are resampled on their own"


def test_the_decision_is_right_as_often_as_it_should_be():
    """Refused: worse by more than the margin. Passed: equal. In between, the margin decides."""
    generator, margin = torch.Generator().manual_seed(3), 0.5
    passed = {}
    for gain in (0.0, -margin, -1.0):
        lows = []
        for _ in range(TRIALS // 2):
            found = paired_means(*scores(generator, 400, gain), 200, generator)
            lows.append(basic_interval(found.candidate - found.champion, found.resampled, 0.95)[0])
        passed[gain] = sum(low >= -margin for low in lows) / len(lows)
    assert passed[0.0] == 1.0
    assert passed[-margin] <= 0.08, "2.5 % is what is claimed for a model that is worse by exactly the margin"
    assert passed[-1.0] == 0.0


# ---- the numbers -----------------------------------------------------------------------------------------------------


def test_resamples_are_of_the_right_size_and_even():
    found = counts(50, 2_000, torch.Generator().manual_seed(0))
    assert found.shape == (2_000, 50)
    assert (found.sum(1) == 50).all()
    torch.testing.assert_close(found.mean(0), torch.ones(50).double(), atol=0.1, rtol=0)
    torch.testing.assert_close(found.var(0).mean(), torch.tensor(1 - 1 / 50).double(), atol=0.02, rtol=0)


def test_weighted_moments_are_those_of_the_resample():
    generator = torch.Generator().manual_seed(0)
    features = 1_000 + torch.randn(700, 5, dtype=torch.float64, generator=generator)
    weights = counts(700, 3, generator)
    mean, covariance = moments(features, weights)
    for k in range(3):
        rows = features.repeat_interleave(weights[k].long(), dim=0)
        torch.testing.assert_close(mean[k], rows.mean(0))
        torch.testing.assert_close(covariance[k], torch.cov(rows.T))


def test_the_difference_of_fids_is_that_of_the_reports():
    generator = torch.Generator().manual_seed(0)
    real, a, b = (torch.randn(300, 8, dtype=torch.float64, generator=generator) for _ in range(3))
    found = frechet_difference(real, 2 * a, b + 1, 10, generator)
    assert found.candidate == pytest.approx(frechet_distance(real, 2 * a), rel=1e-9)
    assert found.champion == pytest.approx(frechet_distance(real, b + 1), rel=1e-9)
    assert found.resampled.shape == (10,)


# ---- models ----------------------------------------------------------------------------------------------------------


def bench(name: str, *, seed: int) -> Bench:
    torch.manual_seed(seed)
    model = build(name, toy_spec(name), **TOY_HYPER[name]).eval()
    torch.manual_seed(99)
    judge = Judge(1, 10).eval()
    images = torch.randint(0, 256, (60, 1, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    test = (images, torch.arange(60) % 10)
    return Bench(model, judge, test, test, seed=0, num_samples=50, batch_size=20, conditions=None)


def test_scores_are_those_of_the_report():
    """What promotion compares is, to the bit, what evaluation reports."""
    mine, theirs = bench("vae", seed=1), bench("vae", seed=2)
    found = compare("nats", mine, theirs, resamples=400)
    for value, at in ((found.candidate, mine), (found.champion, theirs)):
        assert value == log_likelihoods(at.model, at.spec, at.test_x, seed=0, batch_size=20)[-1].nats
    assert found.gain == found.candidate - found.champion
    assert found.low < found.gain < found.high
    found = compare("reconstruction_mse", mine, theirs, resamples=400)
    codes = encode_all(mine.model, mine.test_x, seed=0, batch_size=20)
    rebuilt = decode_all(mine.model, mine.spec, codes, seed=0, batch_size=20)
    assert found.candidate == pytest.approx(mean_squared_error(rebuilt, mine.test_view), rel=1e-12)
    assert found.gain == found.champion - found.candidate, "lower is better"
    found = compare("fid", mine, theirs, resamples=50)
    features, real = (
        mine.judged(draw(mine.model, mine.spec, 50, seed=0, batch_size=20))[0],
        mine.judged(mine.test_view)[0],
    )
    assert found.candidate == pytest.approx(frechet_distance(real, features), rel=1e-6, abs=1e-9)


def test_the_same_seed_gives_the_same_interval_and_a_model_equals_itself():
    at = bench("vae", seed=1)
    assert compare("nats", at, bench("vae", seed=1), resamples=200) == compare("nats", at, at, resamples=200)
    assert compare("nats", at, at)[2:] == (0.0, 0.0, 0.0)
    other = bench("vae", seed=2)
    first, again, another = (compare("fid", at, other, resamples=50, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != another


def test_a_genuinely_worse_model_is_worse():
    good = bench("factor", seed=1)
    worse = bench("factor", seed=1)
    with torch.no_grad():
        for parameter in worse.model.parameters():
            parameter.add_(0.5)
    found = compare("nats", worse, good)
    assert found.high < 0
    assert compare("nats", good, worse).low > 0


def test_what_does_not_compare_is_refused():
    vae = bench("vae", seed=1)
    with pytest.raises(GenError, match="models 1x12x12 in signed, the champion 1x12x12 in binary_dynamic"):
        compare("fid", bench("dcgan", seed=1), vae)
    with pytest.raises(GenError, match="has no such score"):
        compare("nats", bench("dcgan", seed=1), bench("dcgan", seed=1))
    with pytest.raises(GenError, match="scored by iwae_500, the champion by exact"):
        compare("nats", vae, bench("pixelcnn", seed=1))
    assert set(COMPARISONS) == {"nats", "reconstruction_mse", "fid"}
