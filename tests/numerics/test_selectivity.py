"""Orientation selectivity of filters whose tuning is known."""

import math

import pytest
import torch

from gen.evaluate.selectivity import orientation_selectivity, orientation_tuning

SIDE = 12
AXIS = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
Y, X = torch.meshgrid(AXIS, AXIS, indexing="ij")
ANGLES = (0.0, 0.3, math.pi / 4, 1.0, math.pi / 2, 2.5)


def gabor(angle=0.0, frequency=0.2, deviation=2.0, aspect=1.0, phase=0.3):
    """A Gabor of wave vector (cos, sin)(angle), (1, 1, 12, 12); of frequency 0 a blob."""
    u, v = X * math.cos(angle) + Y * math.sin(angle), -X * math.sin(angle) + Y * math.cos(angle)
    envelope = torch.exp(-(u**2 + (aspect * v) ** 2) / (2 * deviation**2))
    return (envelope * torch.cos(2 * math.pi * frequency * u + phase))[None, None]


def index(filters):
    return orientation_selectivity(filters)


@pytest.mark.parametrize("angle", ANGLES)
def test_gratings_and_gabors_are_selective_and_blobs_are_not(angle):
    assert index(gabor(angle, deviation=1e3)) > 0.85  # a grating, cut off at the borders
    assert index(gabor(angle)) > 0.97
    assert index(gabor(angle, frequency=0.25, deviation=1.5)) > 0.97
    assert index(gabor(angle, frequency=0.0, phase=0.0)) < 0.01
    assert 0.5 < index(gabor(angle, frequency=0.0, phase=0.0, deviation=2.0, aspect=3.0)) < 0.97  # a bar


@pytest.mark.parametrize("angle", ANGLES)
def test_the_tuning_curve_peaks_at_the_wave_vector(angle):
    tuning = orientation_tuning(gabor(angle), 180)[0]
    found = tuning.argmax().item() * math.pi / 180
    assert abs(math.remainder(found - angle, math.pi)) < 0.03
    assert tuning.mean() == pytest.approx(1.0)


def test_two_crossed_gratings_have_no_preferred_axis():
    crossed = gabor(0.3) + gabor(0.3 + math.pi / 2, phase=0.3)
    assert index(crossed) < 0.02
    assert index(gabor(0.3) + gabor(0.3 + math.pi / 3)) > 0.5  # their orthogonals are empty


def test_sharpness_of_the_window():
    """Two gratings at right angles with energies 1 and a^2, of one narrow frequency: R is their mixture."""
    a = 0.5
    both = gabor(0.0, frequency=0.25) + a * gabor(math.pi / 2, frequency=0.25)
    assert index(both).item() == pytest.approx((1 - a**2) / (1 + a**2), abs=0.01)


def test_the_index_does_not_depend_on_scale_sign_mean_or_quarter_turns():
    filters = torch.randn(20, 3, SIDE, SIDE, dtype=torch.float64)
    expected = index(filters)
    assert ((expected >= 0) & (expected <= 1)).all()
    for same in (-2 * filters, filters + 5, filters.rot90(1, (2, 3)), filters.flip(3), filters[:, [2, 0, 1]]):
        torch.testing.assert_close(index(same), expected)
    assert index(torch.full((1, 1, SIDE, SIDE), 3.0)) == 0


def test_noise_is_hardly_ever_called_oriented():
    torch.manual_seed(0)
    found = index(torch.randn(2000, 1, SIDE, SIDE))
    assert found.mean() < 0.2
    assert (found > 0.5).double().mean() < 3e-3


def test_a_point_answers_alike_to_all_orientations():
    point = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    point[0, 0, 32, 32] = 1
    torch.testing.assert_close(orientation_tuning(point), torch.ones(1, 36).double(), rtol=0, atol=2e-3)
