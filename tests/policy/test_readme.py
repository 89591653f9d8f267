"""The README's table says what was recorded, of every model, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gen.errors import GenError
from gen.files import read_json
from gen.registry import list_models
from pipelines.documentation.readme import MARKERS, table, update
from pipelines.documentation.record import MEASURED

ROOT = Path(__file__).parents[2]
BEGIN, END = MARKERS


def test_the_table_is_the_one_that_the_records_give() -> None:
    assert f"{BEGIN}\n{table(ROOT)}{END}" in (ROOT / "README.md").read_text(), (
        "run `python -m pipelines.documentation --readme`"
    )


def test_every_model_has_a_row_with_its_number() -> None:
    lines = table(ROOT).splitlines()[2:]
    assert len(lines) == len(list_models())
    assert not [line for line in lines if "not yet measured" in line]
    quoted = read_json(ROOT / MEASURED / "diagonal-bilstm-digits.json")["likelihoods"][-1]["nats"]
    (row,) = (line for line in lines if "autoregressive/diagonal_bilstm.py" in line)
    assert f"{quoted:.2f} nats (exact, binary_dynamic" in row
    assert "79.20 nats, MNIST, fixed binarisation" in row


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        update(tmp_path)
        assert readme.read_text() == f"before\n{BEGIN}\n{table(tmp_path)}{END}\nafter\n"
    assert not (tmp_path / "docs").exists(), "nothing was measured, and there is nothing to see"
    for text in ("no markers", f"{END} {BEGIN}", f"{BEGIN}{BEGIN}{END}"):
        readme.write_text(text)
        with pytest.raises(GenError, match="models:begin"):
            update(tmp_path)
        assert readme.read_text() == text
