"""Ray Train: elastic workers share a batch, and what they learn is what one process learns."""

from __future__ import annotations

import pytest

from gen.data.raw import Raw
from gen.files import read_json
from tests.contracts.runs import worst
from tests.project import VAE, make_project

SMALL = {**VAE, "training": {**VAE["training"], "images": 6_400}}


def test_two_elastic_workers_learn_what_one_process_learns(
    raw_digits: Raw, tmp_path_factory: pytest.TempPathFactory
) -> None:
    results = []
    for workers in ("1,2", "0"):
        project = make_project(tmp_path_factory.mktemp("ray") / "project", raw_digits, **{"vae-digits": SMALL})
        output = project.gen("train", "vae-digits", "--workers", workers)
        assert "vae-digits: 100 %  6400 images" in output
        assert "Traceback" not in output
        assert "ray" not in output.lower().replace("array", ""), "Ray talks over our lines"
        results.append((project, project.weights("vae-digits")))
    (ray, ours), (_, alone) = results
    assert read_json(ray.root / "models/vae-digits/weights/model.json")["world"] == 2
    assert worst(ours, alone) <= 1e-6
