"""The gated PixelCNNs of params.yaml, trained on real digits: what theory says of them, and of one beside the other."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from gen.data.reader import everything
from gen.evaluate.samples import draw
from gen.evaluate.seeds import fixed_seed
from gen.store import load_model
from gen.studies.places import RIGHT, ink_by_cell
from gen.train.context import ProcessContext
from gen.train.loop import fit
from pipelines import params
from tests.project import ROOT
from tests.workshop import Workshop

pytestmark = pytest.mark.slow


@torch.no_grad()
def log_p(model: Any, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """log p(x|condition), nats, (N,)."""
    rows = torch.arange(len(x)).split(100)
    parts = [model.log_prob(x[part], None if condition is None else condition[part]) for part in rows]
    return torch.cat(parts).double()


def test_a_class_is_worth_something_and_at_most_what_it_says(trained: Workshop) -> None:
    """Within one model log p(x|y) - log p(x) is at most -log p(y) for every image. Between two models trained apart it
    need not be, even on the mean: what both leave to be learnt counts as well."""
    told, untold = trained("everywhere-pixelcnn-digits"), trained("gated-pixelcnn-digits")
    dataset = params.load(ROOT / "params.yaml").recipes[told.name].dataset
    x, labels = told.images("test"), everything(told.layout.shards(dataset), "test")[1]
    given, alone, model = log_p(told.model, x, labels), log_p(told.model, x), cast(Any, told.model)
    assert (given - alone <= 1e-4 - model.class_frequencies.log()[labels]).all()
    assert 1.5 < (given - alone).mean() <= math.log(10)
    assert (given - log_p(untold.model, x)).mean() > 0


def test_a_digit_is_in_its_place_if_the_place_is_told_by_location(trained: Workshop) -> None:
    cells = torch.arange(9).repeat(50)
    right = {}
    for name in ("conditional-pixelcnn-placed", "everywhere-pixelcnn-placed"):
        model: Any = trained(name).model
        share = ink_by_cell(draw(model, model.spec, len(cells), condition=cells))[torch.arange(len(cells)), cells]
        right[name] = float((share >= RIGHT).double().mean())
    assert right["conditional-pixelcnn-placed"] >= 0.95
    assert right["everywhere-pixelcnn-placed"] <= 0.75


def test_two_stacks_with_gates_are_no_worse_than_stacked_masks(trained: Workshop, tmp_path: Path) -> None:
    """A plain PixelCNN with at least as many parameters, trained on the same images at the rate that suits it best."""
    gated = trained("gated-pixelcnn-digits")
    recipe = params.load(ROOT / "params.yaml").recipes[gated.name]
    plain = replace(
        recipe, name="plain", model="autoregressive/pixelcnn", hyper={"features": 18}, optim={"model": {"lr": 8e-3}}
    )
    shards = gated.layout.shards(recipe.dataset)
    with fixed_seed(0):
        model = load_model(fit(plain, data=shards, directory=tmp_path, context=ProcessContext())).model
    sizes = [sum(p.numel() for p in each.parameters()) for each in (gated.model, model)]
    assert sizes[0] <= sizes[1]
    x = gated.images("test")
    assert log_p(gated.model, x).mean() >= log_p(model, x).mean()
