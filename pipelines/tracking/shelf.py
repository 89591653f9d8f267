"""The shelf: registered models, their versions, aliases and tags, as plain values.

What MLflow leaves open is closed here. Aliases are read from the registered model itself, because results of a search
may lack them; a version number is text, although an SQL store sends a number; what is not there is ``None``; and
everything else that goes wrong is a :class:`TrackingError`. There is no logic of promotion here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.tracking.server import answering, client, tracking_uri

PAGE = 1000  # versions in one answer


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a registered model, as it was when it was read.

    Attributes:
        name: of the registered model.
        version: its number, as text.
        tags: of the version, not of the model.
        run_id: of the MLflow run that trained it; empty if there is none.
        description: Markdown.
        created: milliseconds since 1970.
    """

    name: str
    version: str
    tags: Mapping[str, str]
    run_id: str
    description: str
    created: int


@dataclass(frozen=True, slots=True)
class Model:
    """A registered model, as it was when it was read.

    Attributes:
        name: its name.
        aliases: alias -> version.
        tags: of the model, not of its versions.
        description: Markdown.
        created: milliseconds since 1970; a model that was deleted and made again has another one.
    """

    name: str
    aliases: Mapping[str, str]
    tags: Mapping[str, str]
    description: str
    created: int


class Shelf:
    """The registered models of a project's registry.

    Args:
        root: of the project.

    Every method raises :class:`TrackingError` if the registry cannot be reached or refuses.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.uri = root, tracking_uri(root)
        with answering(self.uri):
            self._client: Any = client(root)

    @property
    def database(self) -> Path | None:
        """The file of the embedded database; ``None`` where the registry is a server that other machines may use."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:///") else None

    # ---- reading -----------------------------------------------------------------------------------------------------

    def model(self, name: str) -> Model | None:
        """A registered model, with all its aliases and tags."""
        found = self._if_there(lambda: self._client.get_registered_model(name))
        return None if found is None else _model(found)

    def version(self, name: str, version: str) -> Version | None:
        """One version, with its tags."""
        found = self._if_there(lambda: self._client.get_model_version(name, version))
        return None if found is None else _version(found)

    def versions(self, name: str) -> list[Version]:
        """All versions, oldest first."""
        found, token = [], None
        with answering(self.uri):
            while True:
                page = self._client.search_model_versions(f"name = '{name}'", max_results=PAGE, page_token=token)
                found += [_version(each) for each in page]
                if not (token := page.token):
                    return sorted(found, key=lambda each: int(each.version))

    # ---- writing -----------------------------------------------------------------------------------------------------

    def create(self, name: str, tags: Mapping[str, str]) -> bool:
        """Make a registered model with these tags, unless there is one of that name: one step, one winner.

        Where the name is taken MLflow looks its owner up for the message, and fails otherwise if that one just went.
        """
        with answering(self.uri):
            try:
                self._client.create_registered_model(name, dict(tags))
            except Exception as error:
                if _code(error) in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
                    return False
                raise
        return True

    def delete(self, name: str) -> None:
        """Remove a registered model; it may be gone already."""
        self._if_there(lambda: self._client.delete_registered_model(name))

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version."""
        with answering(self.uri):
            self._client.set_registered_model_alias(name, alias, version)

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; it may be gone already."""
        self._if_there(lambda: self._client.delete_registered_model_alias(name, alias))

    def set_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model. 5,000 characters are what every database keeps."""
        with answering(self.uri):
            self._client.set_registered_model_tag(name, key, value)

    def set_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        with answering(self.uri):
            self._client.set_model_version_tag(name, version, key, value)

    def describe(self, name: str, version: str, description: str) -> None:
        """Set the description of a version, Markdown."""
        with answering(self.uri):
            self._client.update_model_version(name, version, description)

    def _if_there(self, call: Callable[[], Any]) -> Any:
        """What a call returns; ``None`` where MLflow says that the thing does not exist."""
        with answering(self.uri):
            try:
                return call()
            except Exception as error:
                if _code(error) != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None


def _version(found: Any) -> Version:
    return Version(
        name=found.name,
        version=str(found.version),
        tags=dict(found.tags),
        run_id=found.run_id or "",
        description=found.description or "",
        created=int(found.creation_timestamp),
    )


def _model(found: Any) -> Model:
    return Model(
        name=found.name,
        aliases={alias: str(version) for alias, version in dict(found.aliases).items()},
        tags=dict(found.tags),
        description=found.description or "",
        created=int(found.creation_timestamp),
    )


def _code(error: BaseException) -> str:
    return str(getattr(error, "error_code", ""))
