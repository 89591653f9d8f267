"""The whole pipeline for real: DVC runs the stages, Ray trains, MLflow tracks and registers, the report shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gen.data.sample import Collection
from gen.files import read_json
from pipelines.roles import PLACES
from tests.project import VAE, Project, make_project

pytestmark = pytest.mark.slow
SMALL = {
    "vae-digits": {**VAE, "training": {**VAE["training"], "images": 9_600, "checkpoint": 3_200}},
    "factor-digits": {
        "model": "linear/factor",
        "dataset": "digits",
        "space": "dequantized",
        "hyper": {"latents": 8},
        "training": {"images": 10_000, "batch": 500},
    },
}
STUDIES = {
    "posteriors": {
        "of": {"vae": "vae-digits", "flow": "vae-digits", "ladder": "vae-digits"},
        "reads": ["models/vae-digits/weights", *["data/shards/digits"] * (PLACES - 1)],
        "options": {"images": 20, "draws": 20},
    }
}
DVC = [sys.executable, "-m", "dvc"]


@pytest.fixture(scope="module")
def project(digits_data: Collection, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Everything reproduced: one recipe on two Ray workers, one in process."""
    project = make_project(tmp_path_factory.mktemp("pipeline") / "a project", digits_data, **SMALL)
    project.set_params(
        datasets={"digits": {"source": "digits"}},
        judge={"images": 6_400},
        recipes=SMALL,
        evaluation={"samples": 200},
        gates={"vae-digits": {"nats": {"at_least": -1000.0}}, "factor-digits": {"nats": {"at_least": 1e9}}},
        resources={"default": {"workers": 0}, "vae-digits": {"workers": 2}},
        studies=STUDIES,
        tour=list(SMALL),
    )
    project.run(*DVC, "repro", "report", timeout=600)
    return project


def stages(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def test_results_are_where_the_layout_says(project: Project) -> None:
    for name in SMALL:
        for part in ("weights/model.safetensors", "weights/model.json", "events.jsonl", "curves.csv", "train.json"):
            assert (project.root / "models" / name / part).is_file(), part
        assert list((project.root / "models" / name / "pictures" / "samples").glob("*.png"))
        card = read_json(project.root / "scores" / name / "card.json")
        assert card["scores"]["fid"]["protocol"]["n_fake"] == 200
        assert read_json(project.root / "registered" / f"{name}.json")["name"] == name
    assert read_json(project.root / "models/vae-digits/weights/model.json")["world"] == 2
    assert read_json(project.root / "scores/vae-digits/gate.json")[0]["passed"]
    assert not read_json(project.root / "scores/factor-digits/gate.json")[0]["passed"]
    page = (project.root / "report/all/report.html").read_text()
    assert "vae-digits" in page
    assert "factor-digits" in page
    found = read_json(project.root / "studies/posteriors/study.json")
    assert found["provenance"]["models"].keys() == {"vae-digits"}
    assert all((project.root / "studies/posteriors" / f"{figure}.png").is_file() for figure in found["figures"])
    assert all(sentence in page for sentence in found["sentences"])


def test_again_at_once_nothing_runs(project: Project) -> None:
    output = project.run(*DVC, "repro", "report")
    assert stages(output) == []
    assert "up to date" in output


def test_touching_one_models_file_reruns_that_model_alone(project: Project) -> None:
    chapter = project.root / "gen/models/variational/vae.py"
    original = chapter.read_text()
    try:
        chapter.write_text(original + "\n# touched\n")
        would_run = stages(project.run(*DVC, "repro", "report", "--dry"))
    finally:
        chapter.write_text(original)
    assert would_run[0] == "train@vae-digits"
    assert not [stage for stage in would_run if "factor" in stage or "judge" in stage or "shard" in stage]


def test_a_study_reruns_with_its_models_and_its_own_file(project: Project) -> None:
    def would_run(touched: str) -> list[str]:
        path = project.root / touched
        original = path.read_text()
        try:
            path.write_text(original + "\n# touched\n")
            return stages(project.run(*DVC, "repro", "study@posteriors", "--dry"))
        finally:
            path.write_text(original)

    assert would_run("gen/studies/posteriors.py") == ["study@posteriors"]
    assert would_run("gen/studies/bounds.py") == []
    assert would_run("gen/models/variational/vae.py") == ["train@vae-digits"]  # what follows depends on its result
    assert would_run("gen/models/linear/factor.py") == []


def test_a_changed_gate_reruns_the_evaluation_alone(project: Project) -> None:
    path = project.root / "params.yaml"
    original = path.read_text()
    try:
        path.write_text(original.replace("1000000000.0", "2000000000.0"))
        assert path.read_text() != original
        would_run = stages(project.run(*DVC, "repro", "report", "--dry"))
    finally:
        path.write_text(original)
    assert would_run[0] == "evaluate@factor-digits"
    assert not [stage for stage in would_run if "train" in stage]


PROBE = """
import json, os, sys
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
import mlflow, mlflow.pyfunc, numpy, pandas
root = sys.argv[1]
mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow/mlflow.db")
model = mlflow.pyfunc.load_model("models:/vae-digits@candidate")
(answer,) = model.predict(pandas.DataFrame({"count": [3]}), params={"seed": 1, "format": "array"})
client = mlflow.MlflowClient()
version = client.get_model_version_by_alias("vae-digits", "candidate")
run = client.get_run(version.run_id)
history = [(m.step, m.value) for m in client.get_metric_history(version.run_id, "train/kl")]
print(json.dumps({
    "shape": list(numpy.array(answer["images"]).shape),
    "status": run.info.status,
    "params": run.data.params,
    "tags": run.data.tags,
    "metrics": run.data.metrics,
    "history": history,
    "inputs": [i.dataset.name for i in run.inputs.dataset_inputs],
    "images": len([a for a in client.list_artifacts(version.run_id, "images")]),
    "version_tags": version.tags,
}))
"""


def test_mlflow_holds_the_run_and_serves_the_model(project: Project, tmp_path: Path) -> None:
    import json

    output = subprocess.run(
        [sys.executable, "-c", PROBE, str(project.root)],
        cwd=tmp_path,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    ).stdout
    found = json.loads(output.splitlines()[-1])
    assert found["shape"][:3] == [3, 28, 28]
    assert found["status"] == "FINISHED"
    assert found["params"]["training.images"] == "9600"
    steps = [step for step, _ in found["history"]]
    assert steps == sorted(set(steps)) == list(range(1_600, 9_601, 1_600)), "each report once, over images seen"
    assert "eval/fid" in found["metrics"]
    assert found["inputs"] == ["digits"]
    assert found["images"] > 0
    for tag in ("git.commit", "gen.recipe", "gen.manifest", "version.ray"):
        assert found["tags"].get(tag), tag
    assert found["version_tags"]["gen.smoke"] == "passed"
    assert not list(tmp_path.iterdir()), "nothing may appear in the current directory"
