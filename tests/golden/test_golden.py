"""A pure refactor changes no loss. What does change one is written down with `python -m tests.golden.update`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gen.registry import list_models
from tests.golden.losses import GOLDEN, TOLERANCE, losses, path, read


@pytest.mark.parametrize("name", list_models())
def test_ten_steps_give_the_recorded_losses(name: str, toy_shards: Path) -> None:
    remedy = f"python -m tests.golden.update {name}"
    assert path(name).exists(), f"{path(name).name} is missing. Write it: {remedy}"
    recorded, found = read(path(name).read_text()), losses(name, toy_shards)
    assert [row[:2] for row in found] == [row[:2] for row in recorded], f"other updates. If that is meant: {remedy}"
    for (step, group, loss), (_, _, expected) in zip(found, recorded, strict=True):
        assert loss == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE), (
            f"step {step}, {group}. If the algorithm was changed on purpose, say why in the commit: {remedy}"
        )
    assert torch.get_default_dtype() == torch.float32


def test_no_file_is_left_of_a_model_that_is_gone() -> None:
    assert {file.stem for file in GOLDEN.glob("*.txt")} <= set(list_models())
