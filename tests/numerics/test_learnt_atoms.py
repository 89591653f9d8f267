"""What dictionaries learn from photographs and from digits, trained as the recipes do."""

import pytest
import torch

from gen.evaluate.selectivity import orientation_selectivity
from gen.model import Batch
from gen.models.linear.sparse_coding import SparseCoding
from gen.sources.photos import photos
from tests.numerics.test_dictionary import SIGNED, spec, train


@pytest.fixture(scope="module")
def photo_crops():
    crops = photos().splits
    return {
        split: SIGNED.encode(torch.stack([torch.from_numpy(each.samples[k].image) for k in range(len(each))]))
        .permute(0, 3, 1, 2)
        .contiguous()
        for split, each in crops.items()
    }


@pytest.mark.slow
def test_whitened_photographs_are_made_of_oriented_edges(photo_crops):
    """As the recipe sparse-coding-photos trains. The patches it starts from are not: they must not pass."""
    torch.manual_seed(0)
    m = SparseCoding(spec(1, 32, 32), patch=12, penalty=0.35, whiten=0.3)
    m.initialize(photo_crops["train"])

    def oriented():
        return (orientation_selectivity(m.dictionary.detach().T.unflatten(1, (1, 12, 12))) > 0.5).double().mean()

    assert oriented() < 0.6
    *_, _ = train(m, photo_crops["train"], 30_000, 20)
    assert oriented() >= 0.7
    metrics = m.validate(Batch(photo_crops["test"]))
    assert metrics["zeros"] >= 0.8
    assert metrics["violation"] <= 1e-3
    assert metrics["unused"] == 0


@pytest.mark.slow
def test_on_digits_four_fifths_of_the_codes_are_zero(digits_data):
    images = {split: digits_data.splits[split].samples.images for split in ("train", "test")}
    x = {split: SIGNED.encode(torch.from_numpy(each).permute(0, 3, 1, 2)) for split, each in images.items()}
    torch.manual_seed(0)
    m = SparseCoding(spec(1, 28, 28))
    m.initialize(x["train"][::2])
    before = m.validate(Batch(x["test"]))
    *_, _ = train(m, x["train"], 8_000, 64)
    metrics = m.validate(Batch(x["test"]))
    assert metrics["zeros"] >= 0.8
    assert metrics["violation"] <= 1e-3
    assert metrics["objective"] < 0.85 * before["objective"]
    rebuilt = torch.cat([m.decode(m.encode(part)) for part in x["test"].split(100)])
    assert ((rebuilt - x["test"]) / 2).square().mean() < 10**-2.25  # 22.5 dB
