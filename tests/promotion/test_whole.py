"""Promotion for real: trained, evaluated, registered, measured against its champion, tampered with, rolled back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from gen.data.sample import Collection
from gen.shards.write import write_shards
from gen.store import load_model
from pipelines import cli
from pipelines.evaluate import evaluate
from pipelines.judge import judge
from pipelines.layout import Layout
from pipelines.register import register
from pipelines.tracking.sealed import fetch
from pipelines.tracking.shelf import Shelf
from pipelines.train import train
from tests.project import VAE

pytestmark = pytest.mark.slow
NAME = "vae-digits"


def reproduce(layout: Layout, **training: Any) -> str:
    """Train with these budgets, evaluate and register; the version."""
    sections = {
        "datasets": {"digits": {"source": "digits"}},
        "judge": {"images": 6_400},
        "recipes": {NAME: {**VAE, "training": {**VAE["training"], **training}}},
        "evaluation": {"samples": 200},
        "gates": {NAME: {"nats": {"at_least": -400}}},
        "promotion": {NAME: {"no_regression": {"nats": {"margin": 2.0}, "fid": {"margin": 25.0}}}},
        "resources": {"default": {"workers": 0}},
    }
    with (layout.root / "params.yaml").open("w") as file:
        YAML().dump(sections, file)
    train(NAME, layout)
    evaluate(NAME, layout)
    register(NAME, layout)
    version: str = json.loads(layout.registered(NAME).read_text())["version"]
    return version


def weights_of(version: str, root: Path, into: Path) -> Path:
    """The weights in the artifact store that are those of a version."""
    content = (fetch(root, NAME, version, into).model / "model.safetensors").read_bytes()
    (found,) = [p for p in (root / "mlflow").rglob("model.safetensors") if p.read_bytes() == content]
    return found


def test_from_training_to_rollback(
    digits_data: Collection, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / "a project")
    write_shards(digits_data, layout.shards("digits"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # a stage sets them for its own process
    shelf = Shelf(layout.root)

    def gen(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main(["--root", str(layout.root), *words])
        return code, *capfd.readouterr()

    def aliases() -> dict[str, str]:
        found = shelf.model(NAME)
        assert found is not None
        return dict(found.aliases)

    (layout.root / "params.yaml").write_text("datasets: { digits: { source: digits } }\njudge: { images: 6_400 }\n")
    judge("digits", layout)
    assert reproduce(layout, images=19_200) == "1"
    assert aliases() == {"candidate": "1"}
    code, shown, _ = gen("promote", NAME)
    assert code == 0, shown
    assert aliases() == {"candidate": "1", "champion": "1"}

    assert reproduce(layout, images=28_800) == "2"
    register(NAME, layout)  # again: nothing changes
    code, shown, _ = gen("promote", NAME, "--json")
    report = json.loads(shown)
    assert code == 0, report
    rows = {row["check"]: row for row in report["verdicts"]}
    low, high = (float(x) for x in rows["no regression: nats"]["found"].split("[")[1].rstrip("]").split(", "))
    assert 0 < low < high, "trained for longer, and surely better"
    assert rows["no regression: fid"]["passed"]
    assert aliases() == {"candidate": "2", "champion": "2", "previous": "1"}

    assert reproduce(layout, images=3_200) == "3"  # hardly trained: above its bar, and far below its champion
    code, shown, _ = gen("promote", NAME)
    assert code == 4
    failed = [line for line in shown.splitlines() if line.endswith("FAILED")]
    assert any(line.startswith("no regression: nats") for line in failed)
    assert not [line for line in failed if line.startswith("bar")]
    assert aliases()["champion"] == "2"

    path = weights_of("1", layout.root, tmp_path / "fetched")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, shown, _ = gen("promote", f"{NAME}@1", "--force", "--why", "what harm can a byte do?")
    assert code == 4
    assert "the weights were changed" in shown
    assert "Not even --force helps against 'checksum'." in shown
    path.write_bytes(whole)

    code, shown, _ = gen("rollback", NAME, "--why", "it sees ghosts")
    assert code == 0
    assert aliases() == {"candidate": "3", "champion": "1", "previous": "2"}
    assert gen("history", NAME, "--verify")[0] == 0
    assert '"it sees ghosts"' in gen("history", NAME)[1]
    assert load_model(fetch(layout.root, NAME, "champion", tmp_path / "served").model).meta["images"] == 19_200
