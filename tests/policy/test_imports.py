"""Imports point one way.

pipelines -> gen.{train, evaluate, studies} -> gen.models -> gen.{losses, inference, nets} -> torch.

Beside them: gen.sources -> gen.shards -> gen.data -> gen.remote."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gen
import pipelines

GEN, PIPELINES = Path(gen.__file__).parent, Path(pipelines.__file__).parent
FILES = sorted([*GEN.rglob("*.py"), *PIPELINES.rglob("*.py")])
FOUNDATION = {"gen", "gen.checks", "gen.errors", "gen.files", "gen.vision", "gen.data.spaces"}
CONTRACT = FOUNDATION | {"gen.model", "gen.registry"}
DATA = FOUNDATION | {"gen.data", "gen.remote"}
BELOW_MODELS = {"gen.nets", "gen.losses", "gen.inference"}
# package -> what it may import of gen; the longest matching package counts
ALLOWED = {
    "gen": CONTRACT | {"gen.recipe", "gen.models"},
    "gen.pixel_model": CONTRACT | {"gen.inference", "gen.losses"},
    "gen.recipe": FOUNDATION | {"gen.data.augment", "gen.data.draws"},
    "gen.remote": {"gen", "gen.errors", "gen.files", "gen.remote"},
    "gen.data": DATA,
    "gen.shards": DATA | {"gen.shards"},
    "gen.sources": DATA | {"gen.shards", "gen.sources"},
    "gen.nets": FOUNDATION | {"gen.nets"},
    "gen.losses": FOUNDATION | {"gen.losses"},
    "gen.inference": FOUNDATION | {"gen.inference", "gen.nets"},
    "gen.models": CONTRACT | BELOW_MODELS | {"gen.pixel_model"},
    "gen.evaluate": CONTRACT | {"gen.evaluate", "gen.store"},
    "gen.studies": CONTRACT | BELOW_MODELS | {"gen.studies", "gen.evaluate", "gen.data.toys"},
    "gen.serve": CONTRACT | DATA | {"gen.serve", "gen.store", "gen.evaluate.seeds"},
    "gen.train": CONTRACT | DATA | {"gen.train", "gen.evaluate", "gen.recipe", "gen.store"},
}
EDGES = {  # a folder ends with a slash
    "ray": {"pipelines/cluster/"},
    "mlflow": {"pipelines/tracking/", "pipelines/served.py"},
    "dvc": set(),
    "webdataset": set(),
}
THIRD_PARTY = {  # what gen may import beyond the standard library
    "gen": {"torch", "numpy", "safetensors"},
    "gen.evaluate": {"torch", "numpy", "safetensors", "PIL", "scipy", "sklearn", "torchmetrics"},
    "gen.remote": {"fsspec"},
    "gen.data": {"torch", "numpy", "PIL"},
    "gen.serve": {"torch", "numpy", "PIL"},
    "gen.shards": {"torch", "numpy"},
    "gen.sources": {"torch", "numpy", "PIL", "mlxtend", "sklearn"},
    "gen.studies": {"torch", "numpy", "matplotlib"},
    "gen.vision": {"torch", "torchvision"},
}


def module_of(path: Path) -> str:
    root = (GEN if path.is_relative_to(GEN) else PIPELINES).parent
    return str(path.relative_to(root).with_suffix("")).replace("/", ".").removesuffix(".__init__")


def imports(path: Path) -> list[str]:
    """Dotted names a file imports, late imports included. `from a import b` counts as a.b where that is a module."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            root = GEN.parent / node.module.replace(".", "/")
            for alias in node.names:
                is_module = (root / f"{alias.name}.py").exists() or (root / alias.name).is_dir()
                found.append(f"{node.module}.{alias.name}" if is_module else node.module)
    return found


def longest(rules: dict[str, set[str]], module: str) -> set[str]:
    names = [name for name in rules if module == name or module.startswith(f"{name}.")]
    return rules[max(names, key=len)]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_arrows_point_down(path: Path) -> None:
    module = module_of(path)
    if not module.startswith("gen") or module == "gen.models":  # the table of contents imports every chapter
        return
    allowed = longest(ALLOWED, module)
    for name in imports(path):
        if name == "gen" or name.startswith("gen."):
            fits = any(name == a or (a != "gen" and name.startswith(f"{a}.")) for a in allowed)
            assert fits, f"{module} may not import {name}"
        assert not name.startswith("pipelines"), f"{module} may not import {name}"


@pytest.mark.parametrize("path", [p for p in FILES if "models" in p.parts and p.name != "__init__.py"], ids=module_of)
def test_chapters_do_not_import_each_other(path: Path) -> None:
    """DVC retrains a model when its own file changes; a chapter that leaned on another would be missed."""
    assert not [name for name in imports(path) if name.startswith("gen.models")]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_edges_are_imported_in_one_place(path: Path) -> None:
    place = str(path.relative_to(GEN.parent))
    for name in imports(path):
        package = name.split(".")[0]
        if package in EDGES:
            fits = any(place == edge or (edge.endswith("/") and place.startswith(edge)) for edge in EDGES[package])
            assert fits, f"{place} imports {package}; allowed only in {EDGES[package] or 'tests'}"


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(GEN)], ids=module_of)
def test_gen_needs_little(path: Path) -> None:
    import sys

    module = module_of(path)
    for name in imports(path):
        package = name.split(".")[0]
        if package not in sys.stdlib_module_names and package != "gen":
            assert package in longest(THIRD_PARTY, module), f"{module} imports {package}"


def test_there_are_no_trainer_subclasses() -> None:
    """The model writes the algorithm; a Trainer per family is how such libraries rot."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                assert "Trainer" not in node.name, f"{path.name}: {node.name}"


def test_gradients_are_taken_in_one_place() -> None:
    """Only the step moves a model, through Parallel.backward; the judge is a classifier of its own."""
    allowed = {"gen/train/parallel.py", "gen/train/step.py", "gen/evaluate/judge.py"}
    for path in FILES:
        place = str(path.relative_to(GEN.parent))
        if ".backward(" in path.read_text():
            assert place in allowed, place


def test_no_pickles() -> None:
    for path in FILES:
        text = path.read_text()
        for banned in ("import pickle", "torch.save(", "torch.load(", "import cloudpickle"):
            assert banned not in text, f"{path.name}: {banned}"
