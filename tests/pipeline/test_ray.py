"""Ray Train: elastic workers share a batch, and what they learn is what one process learns."""

from __future__ import annotations

import pytest

from gen.data.sample import Collection
from gen.files import read_json
from tests.contracts.runs import worst
from tests.project import VAE, make_project

SMALL = {**VAE, "training": {**VAE["training"], "images": 6_400}}


def test_two_elastic_workers_learn_what_one_process_learns(
    digits_data: Collection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The two read from mapped tars, in threads, ahead of the step; the one holds the data in memory."""
    results = []
    for workers, resident in (("1,2", 0), ("0", 1 << 30)):
        project = make_project(tmp_path_factory.mktemp("ray") / "project", digits_data, **{"vae-digits": SMALL})
        resources = {"default": {"workers": 0, "reading": {"resident_bytes": resident, "prefetch": 2}}}
        project.set_params(**{**project.params(), "resources": resources})
        output = project.gen("train", "vae-digits", "--workers", workers)
        assert "vae-digits: 100 %  6400 images" in output
        assert "Traceback" not in output
        assert "ray" not in output.lower().replace("array", ""), "Ray talks over our lines"
        results.append((project, project.weights("vae-digits")))
    (ray, ours), (_, alone) = results
    assert read_json(ray.root / "models/vae-digits/weights/model.json")["world"] == 2
    assert worst(ours, alone) <= 1e-6
