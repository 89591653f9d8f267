"""Seals: what every file of a registered version must be, and how a directory is held to it.

    seal.json    beside the files: the size and sha256 of every other one
    gen.seal     a tag of the version, in the registry's database: the sha256 of seal.json

The tag is what is trusted. Whoever can write to the artifact store can change a file, and seal.json with it, but not
the tag. Whoever can write to the registry's database can register what they like; against that there are accounts.

Nothing is loaded to find out: files are hashed, pickles are told by their instructions, of which none is followed, and
MLmodel, where MLflow reads what to import or unpickle, is parsed by YAML's safe loader. A version with a pickle in it
is refused even if it was sealed like that.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path, PurePosixPath
from pickletools import genops
from typing import Any

import yaml

from gen.errors import StoreError
from gen.files import read_json, sha256, write_json

SEAL, TAG = "seal.json", "gen.seal"
FORMAT = 1
MLMODEL = "MLmodel"
LOADER = "mlflow.pyfunc.loaders.code_model"  # runs a file of the model; MLflow's other ways in unpickle or import
PICKLES = (".pkl", ".pickle", ".cloudpickle", ".joblib", ".dill", ".pt", ".pth", ".ckpt")
INSTRUCTIONS = 100  # what follows so many of a pickle's is one
REMEDY = "Nothing of it was loaded. Restore its files, or delete this version in MLflow and register the model again."

Sealed = Mapping[str, Mapping[str, Any]]
"""Files by their POSIX paths in the directory: ``bytes`` and ``sha256``."""


def write_seal(directory: Path) -> str:
    """Write ``seal.json`` for all files of a directory, and return what the tag :data:`TAG` must say."""
    files = {name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for name, path in _files(directory).items()}
    write_json(directory / SEAL, {"format": FORMAT, "files": files})
    return sha256(directory / SEAL)


def check_files(directory: Path, seal: str, what: str) -> None:
    """Hold a directory to a seal, before anything in it is imported, unpickled or loaded.

    Args:
        directory: the files of a version.
        seal: sha256 of its ``seal.json``, as the registry has it.
        what: the version, for messages.

    Raises:
        StoreError: a file is not as it was sealed, or would run when it is loaded. The message names the gravest, and
            says how many more there are.
    """
    if problems := _problems(directory, seal):
        rest = len(problems) - 1
        more = f" {rest} more {'file is' if rest == 1 else 'files are'} not as sealed." if rest else ""
        raise StoreError(f"{what}: {problems[0]}.{more} {REMEDY}")


def intact(directory: Path, seal: str) -> bool:
    """Whether a directory is there and holds what was sealed, and nothing else."""
    return directory.is_dir() and not _problems(directory, seal)


def _files(directory: Path) -> dict[str, Path]:
    """Everything in a directory but directories and the seal itself, in order."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_symlink() or not path.is_dir()]
    return {name: path for path in paths if (name := path.relative_to(directory).as_posix()) != SEAL}


def _problems(directory: Path, seal: str) -> list[str]:
    """What is wrong with the files of a version, the gravest first."""
    found, path = _files(directory), directory / SEAL
    if strange := [name for name, file in found.items() if file.is_symlink() or not file.is_file()]:
        return [f"{strange[0]} is a link or a device, where a file belongs"]
    if path.is_symlink() or not path.is_file():
        return [f"a file is missing: {SEAL}, which says what the others must be"]
    if (actual := sha256(path)) != seal:
        said = f"{SEAL} has the sha256 {actual[:12]}..., but the tag {TAG} in the registry says {seal[:12]}..."
        if _vouched_for(directory):
            return [f"the files belong to another version, or were sealed anew: {said}"]
        return [f"the seal was changed: {said}"]
    try:
        sealed = _read_seal(path)
    except ValueError as problem:
        return [f"{SEAL} {problem}"]
    graded = [_problem(name, found.get(name), sealed.get(name)) for name in sorted({*found, *sealed})]
    return [text for _, text in sorted(filter(None, graded), key=lambda each: each[0])]


def _vouched_for(directory: Path) -> bool:
    """Whether a directory agrees with the seal in it, whatever the registry says."""
    try:
        sealed = _read_seal(directory / SEAL)
    except ValueError:
        return False
    return {name: sha256(path) for name, path in _files(directory).items()} == {
        k: v["sha256"] for k, v in sealed.items()
    }


def _read_seal(path: Path) -> Sealed:
    """The files a seal names. Raises ``ValueError`` if it is none, or names files elsewhere."""
    try:
        content = read_json(path)
        sealed: Sealed = dict(content["files"])
        names = {PurePosixPath(name): str(each["sha256"]) for name, each in sealed.items()}
    except (StoreError, KeyError, TypeError, ValueError):
        raise ValueError("is no list of files") from None
    if content.get("format") != FORMAT:
        raise ValueError(f"has the format {content.get('format')!r}; this version reads {FORMAT}")
    for name in names:
        if name.is_absolute() or ".." in name.parts or "\\" in str(name):
            raise ValueError(f"names '{name}', which is no place in the directory of a model")
    return sealed


# ---- one file ------------------------------------------------------------------------------------------------------


def _problem(name: str, path: Path | None, sealed: Mapping[str, Any] | None) -> tuple[int, str] | None:
    """What is wrong with a file, and how grave it is (0 is the worst); ``None`` if all is well."""
    if path is None:
        return 4, f"a file is missing: {name} was sealed"
    actual = sha256(path)
    unchanged = sealed is not None and sealed["sha256"] == actual
    if _is_pickle(path, marked=unchanged):
        where = "where none belongs" if sealed is None or unchanged else "in place of what was sealed"
        return 0, f"a pickle {where}: {name}"
    if name == MLMODEL and (way := _way_in(path)) is not None:
        return 0, f"the configuration {'is not ours' if unchanged else 'was changed'}: {MLMODEL} {way}"
    if sealed is None:
        return 5, f"a file was added: {name} was not there when the version was sealed"
    if unchanged:
        return None
    gravity, kind = _kind(name)
    return gravity, f"{kind} changed: {name} has the sha256 {actual[:12]}..., but {sealed['sha256'][:12]}... was sealed"


def _kind(name: str) -> tuple[int, str]:
    if name.endswith(".safetensors"):
        return 1, "the weights were"
    if name.endswith(".py"):
        return 3, "the code was"
    return 2, "the configuration was"


def _way_in(path: Path) -> str | None:
    """What an ``MLmodel`` would have MLflow do that ours never does: anything but run a file of the model."""
    try:
        flavors = yaml.safe_load(path.read_bytes())["flavors"]
        python, others = flavors["python_function"], [name for name in flavors if name != "python_function"]
        loader = python["loader_module"]
        pickle = python.get("python_model")
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        return None  # nothing that MLflow could read either
    if pickle is not None:
        return f"points to a pickle, '{pickle}'"
    if others:
        return f"offers the flavour '{others[0]}'; ours have python_function alone"
    return None if loader == LOADER else f"is loaded by '{loader}'; ours are by {LOADER}"


def _is_pickle(path: Path, *, marked: bool) -> bool:
    """Whether a file is a pickle, or an archive that holds one; judged without loading it.

    Args:
        path: the file.
        marked: count only those that begin with a pickle's mark; the oldest kinds have none, and may look like a text.
    """
    if path.name.endswith(PICKLES):
        return True
    with path.open("rb") as file:
        start = file.read(1)
        if start == b"P" and zipfile.is_zipfile(file):
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith(PICKLES) for name in archive.namelist())
        if marked and start != b"\x80":
            return False
        file.seek(0)
        count, last = 0, ""
        try:
            for instruction, _, _ in islice(genops(file), INSTRUCTIONS):
                count, last = count + 1, instruction.name
        except Exception:  # what the readers of its arguments make of other bytes
            return False
    return count == INSTRUCTIONS or (last == "STOP" and count > 1)
