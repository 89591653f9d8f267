"""Fetching a registered version: its files, each one compared with the seal in the registry before any is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen.errors import RecipeError, StoreError, nearest
from gen.files import atomic_directory
from pipelines.tracking.seals import REMEDY, TAG, check_files, intact
from pipelines.tracking.server import answering, client, load_mlflow, reason, tracking_uri
from pipelines.tracking.shelf import Shelf, Version

MODEL = Path("artifacts", "model")
"""Where a version keeps the stored model."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A version whose files are here, and are those that were registered.

    Attributes:
        name: of the registered model.
        version: its number.
        tags: of the version.
        seal: sha256 of its ``seal.json``: what identifies all of its files.
        directory: the files, in MLflow's layout.
    """

    name: str
    version: str
    tags: Mapping[str, str]
    seal: str
    directory: Path

    @property
    def model(self) -> Path:
        """The stored model, for :func:`gen.store.load_model`."""
        return self.directory / MODEL

    @property
    def signature(self) -> Any:
        """MLflow's signature of the model; ``None`` if it has none."""
        load_mlflow()
        from mlflow.models import Model

        return Model.load(str(self.directory)).signature


def fetch(root: Path, name: str, version: str, into: Path) -> Fetched:
    """Download a version and compare every file with its seal, before anything of it is imported or loaded.

    Code is part of what is compared: whoever runs the code of a version, as MLflow does, runs it from here.

    Args:
        root: of the project.
        name: of the registered model.
        version: a number, or an alias.
        into: a directory; it appears, whole, when all is well, and replaces what was there. If it already holds
            the very files of this version, nothing is downloaded.

    Raises:
        RecipeError: there is no such model, version or alias.
        StoreError: the files are not those that were registered, or nothing says what they must be. Nothing of them
            was loaded, and ``into`` is as it was.
        TrackingError: the registry or its artifact store cannot be reached.
    """
    found = find(Shelf(root), name, version)
    what = f"models:/{name}/{found.version}"
    if (seal := found.tags.get(TAG)) is None:
        raise StoreError(
            f"{what}: no seal is recorded (tag {TAG}): nothing says what its files must be, so they are not loaded. "
            "It was registered by something else, or before there were seals; register the model again."
        )
    if not intact(into, seal):
        with atomic_directory(into) as staging:
            _download(root, found, staging)
            _drop_leftovers(staging)
            check_files(staging, seal, what)
    return Fetched(name, found.version, found.tags, seal, into)


def find(shelf: Shelf, name: str, version: str) -> Version:
    """A version by its number or an alias. Raises :class:`RecipeError`, with what there is instead."""
    model = shelf.model(name)
    if model is None:
        raise RecipeError(f"{name}: there is no such registered model. Register it: `dvc repro register@{name}`.")
    number = version if version.isdecimal() else model.aliases.get(version.removeprefix("@"))
    if number is None:
        there = ", ".join(f"@{alias}" for alias in sorted(model.aliases)) or "none"
        raise RecipeError(f"{name}@{version}: there is no such alias. Found: {there}.{nearest(version, model.aliases)}")
    found = shelf.version(name, number)
    if found is None:
        there = ", ".join(each.version for each in shelf.versions(name)) or "none"
        raise RecipeError(f"{name}/{number}: there is no such version. Found: {there}.")
    return found


def _download(root: Path, version: Version, directory: Path) -> None:
    """All that the artifact store has of a version."""
    uri, mlflow = tracking_uri(root), load_mlflow()
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with answering(uri):
        place = client(root).get_model_version_download_uri(version.name, version.version)
        try:
            get_artifact_repository(place, tracking_uri=uri).download_artifacts("", dst_path=str(directory))
        except mlflow.MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise StoreError(  # what is gone, or is a link that leads out of the store
                f"models:/{version.name}/{version.version}: its files cannot be fetched: {reason(error)}. {REMEDY}"
            ) from error


def _drop_leftovers(directory: Path) -> None:
    """Remove what loading a model from the store in place, as plain MLflow does, leaves there: it is not the model's.

    Compiled code is not trusted to be that of the code beside it; Python makes it again.
    """
    (directory / "registered_model_meta").unlink(missing_ok=True)
    for cache in sorted(directory.rglob("__pycache__")):
        for compiled in cache.glob("*.pyc"):
            compiled.unlink()
        if not any(cache.iterdir()):
            cache.rmdir()
