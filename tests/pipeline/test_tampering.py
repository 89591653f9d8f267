"""Files of a registered version that somebody changed: nothing of them runs; every kind is refused in its own words.

Whoever can write to the artifact store may change any file there, but not the registry's database. What goes through
``fetch`` - the gate of ``gen promote``, ``gen serve``, the smoke test of a registration - compares every file with the
seal in the database before any is used.

Plain ``mlflow.pyfunc.load_model`` and ``mlflow models serve`` know no seal. With
``MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false``, which our commands set, they unpickle nothing, and ``gen.store`` holds
weights and configuration to their own checksums. But they import the code that lies beside the model before anything
looks at it: changed code runs, as one test here shows, and so does a pyc beside it. A model that MLflow loads by itself
is as safe as its artifact store.
"""

import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from dataclasses import dataclass

import pytest
import yaml

from gen.errors import StoreError
from gen.files import sha256
from gen.store import load_model
from pipelines import tracking
from pipelines.layout import Layout
from pipelines.params import load
from pipelines.promotion.gate import examine
from pipelines.serving.sources import registered as source_of
from pipelines.tracking.sealed import fetch
from pipelines.tracking.seals import write_seal
from pipelines.tracking.server import load_mlflow
from pipelines.tracking.shelf import Shelf
from tests.pipeline.tracked import artifacts_of, flip, store, write_events

NAME = "toy"
PARAMS = """
datasets: { digits: { source: digits } }
recipes:
  toy: { model: linear/factor, dataset: digits, space: dequantized, training: { images: 9 } }
gates: { toy: { nll: { at_most: 0 } } }
"""


@pytest.fixture(scope="module")
def project(module_root):
    """Two versions of a model, whole; the files of each are kept."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        (module_root / "params.yaml").write_text(PARAMS)
        run_dir = module_root / "runs" / NAME
        write_events(run_dir, 0, 1, end=True)
        for seed in (0, 1):
            weights = store(module_root / f"weights-{seed}", seed=seed)
            asked = {"run_dir": run_dir, "model_dir": weights, "name": NAME, "metrics": {"nll": -1.0}}
            version = tracking.registry.register(module_root, **asked)["version"]
            shutil.copytree(artifacts_of(module_root, NAME, version), module_root / "kept" / version)
    return module_root


@dataclass(frozen=True)
class Shop:
    """The store with version 1 in it, ready to be broken into."""

    root: object
    files: object
    canary: object

    def bite(self):
        """A pickle that makes the canary appear on being loaded."""
        return pickle.dumps(_Bite(str(self.canary)))

    def code(self):
        """The same as a line of Python."""
        return f"open({str(self.canary)!r}, 'w').close()\n"

    def edit(self, name, *, change):
        content = yaml.safe_load((self.files / name).read_text())
        change(content)
        (self.files / name).write_text(yaml.safe_dump(content))

    def tag(self, value):
        tracking.server.client(self.root).set_model_version_tag(NAME, "1", "gen.seal", value)


class _Bite:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (self.place, "w")


@pytest.fixture
def shop(project, root, tmp_path):
    shop = Shop(project, artifacts_of(project, NAME), tmp_path / "canary")
    seal = tracking.server.client(project).get_model_version(NAME, "1").tags["gen.seal"]
    yield shop
    shutil.rmtree(shop.files, ignore_errors=True)
    shutil.copytree(project / "kept" / "1", shop.files)
    shop.tag(seal)


# ---- attacks: what is done to the files, how `fetch` refuses, how plain MLflow does ---------------------------------


def a_pickled_model_that_mlflow_is_told_to_load(shop):
    def point(content):
        flavor = content["flavors"]["python_function"]
        flavor.update(loader_module="mlflow.pyfunc.model", python_model="python_model.pkl")
        del flavor["model_code_path"]

    (shop.files / "python_model.pkl").write_bytes(shop.bite())
    shop.edit("MLmodel", change=point)


def another_loader_that_unpickles(shop):
    def change(content):
        content["flavors"]["python_function"].update(loader_module="mlflow.sklearn", model_path="notes.txt")

    (shop.files / "notes.txt").write_bytes(shop.bite())
    shop.edit("MLmodel", change=change)


def another_flavor(shop):
    def change(content):
        content["flavors"]["sklearn"] = {"pickled_model": "model.pkl"}

    shop.edit("MLmodel", change=change)


def a_pickle_in_place_of_the_weights(shop):
    (shop.files / "artifacts/model/model.safetensors").write_bytes(shop.bite())


def an_old_pickle_in_place_of_the_configuration(shop):
    (shop.files / "artifacts/model/model.json").write_bytes(pickle.dumps(_Bite(str(shop.canary)), protocol=0))


def a_pickled_checkpoint_beside_the_weights(shop):
    (shop.files / "artifacts/model/latest.ckpt").write_bytes(shop.bite())


def a_pickle_in_an_archive_as_torch_saves_it(shop):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", shop.bite())
    (shop.files / "artifacts/model/weights.bin").write_bytes(archive.getvalue())


def a_bit_of(name, place=-2):
    def attack(shop):
        flip(shop.files / name, place)

    attack.__name__ = f"a bit of {name}"
    return attack


def a_line_of_code(shop):
    with (shop.files / "served.py").open("a") as file:
        file.write(shop.code())


def a_file_that_python_imports_by_itself(shop):
    (shop.files / "code/sitecustomize.py").write_text(shop.code())


def a_module_that_hides_one_of_ours(shop):
    (shop.files / "code/torch.py").write_text(shop.code())


def a_missing(name):
    def attack(shop):
        (shop.files / name).unlink()

    attack.__name__ = f"a missing {name}"
    return attack


def nothing_left(shop):
    shutil.rmtree(shop.files)


def the_files_of_another_version(shop):
    shutil.rmtree(shop.files)
    shutil.copytree(shop.root / "kept" / "2", shop.files)


def the_weights_of_another_version(shop):
    for name in ("model.safetensors", "model.json"):  # these two fit each other
        shutil.copy(shop.root / "kept/2/artifacts/model" / name, shop.files / "artifacts/model" / name)


def changed_and_sealed_anew(shop):
    a_line_of_code(shop)
    write_seal(shop.files)


def a_link_out_of_the_store(shop):
    weights = shop.files / "artifacts/model/model.safetensors"
    weights.unlink()
    weights.symlink_to(shop.root / "weights-0/model.safetensors")


def another_tag(shop):
    shop.tag("0" * 64)


def no_tag(shop):
    tracking.server.client(shop.root).delete_model_version_tag(NAME, "1", "gen.seal")


def a_seal_that_names_a_file_elsewhere(shop):
    path = shop.files / "seal.json"
    content = json.loads(path.read_text())
    content["files"]["../../secret"] = {"bytes": 0, "sha256": "0" * 64}
    path.write_text(json.dumps(content))
    shop.tag(sha256(path))


def a_pickle_that_was_sealed(shop):
    a_pickled_checkpoint_beside_the_weights(shop)
    shop.tag(write_seal(shop.files))


def a_flavor_that_was_sealed(shop):
    another_flavor(shop)
    shop.tag(write_seal(shop.files))


LOADS = None  # plain MLflow sees nothing wrong
ATTACKS = [
    (
        a_pickled_model_that_mlflow_is_told_to_load,
        "the configuration was changed: MLmodel points to a pickle, 'python_model.pkl'.",
        "Deserializing model using pickle is disallowed",
    ),
    (
        another_loader_that_unpickles,
        "the configuration was changed: MLmodel is loaded by 'mlflow.sklearn'; ours are by",
        "Deserializing this model is disallowed",
    ),
    (another_flavor, "MLmodel offers the flavour 'sklearn'", LOADS),
    (
        a_pickle_in_place_of_the_weights,
        "a pickle in place of what was sealed: artifacts/model/model.safetensors.",
        "model.safetensors: its sha256 is",
    ),
    (
        an_old_pickle_in_place_of_the_configuration,
        "a pickle in place of what was sealed: artifacts/model/model.json.",
        "model.json: damaged",
    ),
    (a_pickled_checkpoint_beside_the_weights, "a pickle where none belongs: artifacts/model/latest.ckpt.", LOADS),
    (a_pickle_in_an_archive_as_torch_saves_it, "a pickle where none belongs: artifacts/model/weights.bin.", LOADS),
    (
        a_bit_of("artifacts/model/model.safetensors"),
        "the weights were changed: artifacts/model/model.safetensors has the sha256",
        "damaged or changed",
    ),
    (
        a_bit_of("artifacts/model/model.json", 120),
        "the configuration was changed: artifacts/model/model.json has the sha256",
        "model.json: ",
    ),
    (a_bit_of("MLmodel", -3), "the configuration was changed: MLmodel has the sha256", LOADS),
    (a_bit_of("requirements.txt"), "the configuration was changed: requirements.txt has the sha256", LOADS),
    (a_bit_of("served.py", 20), "the code was changed: served.py has the sha256", LOADS),
    (a_bit_of("code/gen/model.py", 20), "the code was changed: code/gen/model.py has the sha256", LOADS),
    (a_bit_of("seal.json"), "the seal was changed: seal.json has the sha256", LOADS),
    (a_file_that_python_imports_by_itself, "a file was added: code/sitecustomize.py was not there", LOADS),
    (a_module_that_hides_one_of_ours, "a file was added: code/torch.py was not there", LOADS),
    (a_missing("code/gen/model.py"), "a file is missing: code/gen/model.py was sealed.", LOADS),
    (a_missing("artifacts/model/model.safetensors"), "a file is missing: artifacts/model/model.safetensors", "missing"),
    (a_missing("seal.json"), "a file is missing: seal.json, which says what the others must be.", LOADS),
    (nothing_left, "a file is missing: seal.json", "No such artifact"),
    (the_files_of_another_version, "the files belong to another version, or were sealed anew: seal.json", LOADS),
    (the_weights_of_another_version, "the weights were changed: artifacts/model/model.safetensors", LOADS),
    (a_link_out_of_the_store, "its files cannot be fetched", LOADS),
    (another_tag, "but the tag gen.seal in the registry says 000000000000...", LOADS),
    (no_tag, "no seal is recorded (tag gen.seal)", LOADS),
    (a_seal_that_names_a_file_elsewhere, "seal.json names '../../secret', which is no place", LOADS),
    (a_pickle_that_was_sealed, "a pickle where none belongs: artifacts/model/latest.ckpt.", LOADS),
    (a_flavor_that_was_sealed, "the configuration is not ours: MLmodel offers the flavour 'sklearn'", LOADS),
    (changed_and_sealed_anew, "the files belong to another version, or were sealed anew: seal.json", LOADS),
    (a_line_of_code, "the code was changed: served.py has the sha256", LOADS),
]


def called(value):
    return value.__name__.replace("_", " ") if callable(value) else ""


@pytest.mark.parametrize(("attack", "message"), [attack[:2] for attack in ATTACKS], ids=called)
def test_nothing_of_a_changed_version_is_used(shop, tmp_path, attack, message):
    attack(shop)
    into = tmp_path / "fetched"
    with pytest.raises(StoreError) as refusal:
        fetch(shop.root, NAME, "1", into)
    assert message in str(refusal.value)
    assert str(refusal.value).startswith("models:/toy/1: ")
    assert refusal.value.exit_code == 5
    assert not into.exists()
    assert not shop.canary.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"], "nothing is left behind"


PICKLES = (a_pickled_checkpoint_beside_the_weights, a_pickle_in_an_archive_as_torch_saves_it)
PLAIN = [(attack, plain) for attack, _, plain in ATTACKS if plain is not LOADS or attack in PICKLES]


@pytest.mark.parametrize(("attack", "message"), PLAIN, ids=called)
def test_plain_mlflow_unpickles_nothing_and_takes_no_other_weights(shop, attack, message):
    mlflow = load_mlflow()
    attack(shop)
    path = list(sys.path)
    try:
        if message is LOADS:
            mlflow.pyfunc.load_model(str(shop.files))
        else:
            with pytest.raises(Exception, match=message):
                mlflow.pyfunc.load_model(str(shop.files))
    finally:
        sys.path[:] = path
    assert not shop.canary.exists()


@pytest.mark.parametrize(
    "attack",
    [a_pickled_model_that_mlflow_is_told_to_load, a_bit_of("artifacts/model/model.safetensors"), a_line_of_code],
    ids=called,
)
def test_promotion_and_serving_refuse_what_is_not_as_registered(shop, attack):
    message = next(said for known, said, _ in ATTACKS if called(known) == called(attack))
    version = Shelf(shop.root).version(NAME, "1")
    attack(shop)
    with pytest.raises(StoreError) as refusal:
        source_of(shop.root, "toy/1", "cpu").load("1")
    assert message in str(refusal.value)
    verdicts = examine(Layout(shop.root), load(shop.root / "params.yaml"), version, None)
    (checksum,) = [verdict for verdict in verdicts if verdict.check == "checksum"]
    assert checksum.binding, "not even --force helps"
    assert not checksum.passed
    assert message in checksum.why
    assert not shop.canary.exists()


def test_the_gravest_is_said_first_and_the_rest_is_counted(shop, tmp_path):
    for attack in (a_line_of_code, a_bit_of("conda.yaml"), a_bit_of("artifacts/model/model.safetensors")):
        attack(shop)
    with pytest.raises(StoreError, match=r"the weights were changed.* 2 more files are not as sealed"):
        fetch(shop.root, NAME, "1", tmp_path / "fetched")


def test_compiled_code_in_the_store_is_left_there(shop, tmp_path):
    """Loading from an embedded store in place makes Python compile there: no damage, but nothing to be trusted."""
    cache = shop.files / "code/gen/__pycache__"
    cache.mkdir()
    (cache / f"model.{sys.implementation.cache_tag}.pyc").write_bytes(shop.bite())
    (shop.files / "registered_model_meta").write_text("model_name: toy\n")
    fetched = fetch(shop.root, NAME, "1", tmp_path / "fetched")
    assert not list(fetched.directory.rglob("*.pyc"))
    assert not (fetched.directory / "registered_model_meta").exists()
    (cache / "evil.py").write_text(shop.code())
    with pytest.raises(StoreError, match=r"a file was added: code/gen/__pycache__/evil\.py"):
        fetch(shop.root, NAME, "1", tmp_path / "again")


def test_what_was_fetched_before_and_changed_here_is_fetched_again(shop, tmp_path):
    into = fetch(shop.root, NAME, "1", tmp_path / "fetched").directory
    (into / "served.py").write_text(shop.code())
    fetch(shop.root, NAME, "1", into)
    assert shop.code() not in (into / "served.py").read_text()
    a_line_of_code(shop)
    (into / "served.py").write_text(shop.code())
    with pytest.raises(StoreError, match="the code was changed"):
        fetch(shop.root, NAME, "1", into)


def test_plain_mlflow_runs_changed_code(shop):
    """Why promotion and serving do not load by MLflow alone."""
    mlflow = load_mlflow()
    a_line_of_code(shop)
    path = list(sys.path)
    try:
        mlflow.pyfunc.load_model(str(shop.files))
    finally:
        sys.path[:] = path
    assert shop.canary.exists()


# ---- the stored model itself ---------------------------------------------------------------------------------------


def test_no_byte_of_the_configuration_can_change(tmp_path):
    weights = store(tmp_path / "weights")
    load_model(weights)
    path = weights / "model.json"
    content = path.read_bytes()
    for place in range(len(content)):
        flip(path, place)
        with pytest.raises(StoreError, match=r"model\.json: (damaged|format|it is not as it was saved)"):
            load_model(weights)
        path.write_bytes(content)
    for other in (content + b"\n", content.replace(b'"latents": 3', b'"latents":  3'), b"[]", b"{}"):
        path.write_bytes(other)
        with pytest.raises(StoreError, match=r"model\.json"):
            load_model(weights)


def test_an_older_format_is_not_read(tmp_path):
    """It had no seal: reading it would be a way round."""
    weights = store(tmp_path / "weights")
    meta = json.loads((weights / "model.json").read_text())
    (weights / "model.json").write_text(json.dumps({**meta, "format": 1}))
    with pytest.raises(StoreError, match=r"format 1; this version reads 2\. Train the model again"):
        load_model(weights)
