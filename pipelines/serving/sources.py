"""Where a model comes from: the registry, or the models of this project; and whether there is a newer one."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gen.errors import RecipeError
from gen.files import read_json
from gen.serve import TURN, Answerer
from gen.store import Stored, load_model
from pipelines.layout import Layout

DEFAULT_ALIAS = "champion"


@dataclass(frozen=True, slots=True)
class Hosted:
    """A model that is being served.

    Attributes:
        answerer: answers its requests.
        meta: its ``model.json``.
        name: of the registered model, or of the recipe.
        version: in the registry, or the beginning of the checksum of a local model's weights.
        asked: what was asked for, as ``vae-digits@champion``.
        card: the model card, a page of HTML; empty if there is none.
    """

    answerer: Answerer
    meta: Mapping[str, Any]
    name: str
    version: str
    asked: str
    card: str = ""


class Source(Protocol):
    """Gives models by version."""

    @property
    def asked(self) -> str:
        """What was asked for."""
        ...

    def newest(self) -> str:
        """The version to serve now."""
        ...

    def load(self, version: str) -> Hosted:
        """A version, checked byte for byte, on the device it will run on. No code of its artifacts runs."""
        ...


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered model: what an alias points at, or one version.

    Attributes:
        root: of the project.
        name: of the registered model.
        alias: followed wherever it goes; ``None`` if a version was named.
        fixed: the version that was named.
        device: to run on.
    """

    root: Path
    name: str
    alias: str | None
    fixed: str | None
    device: str

    @property
    def asked(self) -> str:
        """See base."""
        return f"{self.name}@{self.alias}" if self.alias else f"{self.name}/{self.fixed}"

    def newest(self) -> str:
        """See base. Raises :class:`RecipeError` if there is no such model, alias or version."""
        from pipelines.tracking.sealed import find
        from pipelines.tracking.shelf import Shelf

        return find(Shelf(self.root), self.name, self.alias or self.fixed or DEFAULT_ALIAS).version

    def load(self, version: str) -> Hosted:
        """See base: every file is held to the seal of the version before any of it is read."""
        from pipelines.reporting.card import CARD
        from pipelines.tracking.sealed import fetch

        with tempfile.TemporaryDirectory(prefix="gen-serve-") as folder:
            fetched = fetch(self.root, self.name, version, Path(folder) / version)
            stored = _loaded(fetched.model, self.device)
            card = fetched.directory / CARD
            page = card.read_text(encoding="utf-8") if card.exists() else ""
        return Hosted(Answerer(stored.model), stored.meta, self.name, version, self.asked, page)


@dataclass(frozen=True, slots=True)
class Local:
    """The model that was trained last from a recipe of this project."""

    layout: Layout
    recipe: str
    device: str

    @property
    def asked(self) -> str:
        """See base."""
        return self.recipe

    def newest(self) -> str:
        """See base."""
        path = self.layout.weights(self.recipe) / "model.json"
        if not path.exists():
            raise RecipeError(f"{path}: no such file. Train it first: gen train {self.recipe}")
        return str(read_json(path)["files"]["model.safetensors"]["sha256"])[:10]

    def load(self, version: str) -> Hosted:
        """See base."""
        stored = _loaded(self.layout.weights(self.recipe), self.device)
        return Hosted(Answerer(stored.model), stored.meta, self.recipe, version, self.asked)


def _loaded(directory: Path, device: str) -> Stored:
    with TURN:  # another model may be at work
        return load_model(directory, device=device)


def registered(root: Path, target: str, device: str) -> Registered:
    """The source that ``NAME``, ``NAME@alias`` or ``NAME/version`` names."""
    match = re.fullmatch(r"([^@/:]+)(?:@([^@/:]+)|/([1-9][0-9]*))?", target.removeprefix("models:/"))
    if match is None:
        raise RecipeError(
            f"{target}: found no model's name. Give NAME, NAME@alias or NAME/version, as vae-digits@champion."
        )
    name, alias, version = match.groups()
    return Registered(root, name, alias or (None if version else DEFAULT_ALIAS), version, device)
