"""Files that are either whole or not there: hashes, atomic directories, JSON that is always valid."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen.errors import GenError, StoreError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex sha256 of a JSON-able value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """The finite ones: JSON has no NaN, and a page or a server that meets one breaks far from the cause."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def fsync(path: Path) -> None:
    """Push a file or a directory entry to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk into an error that says which path and what to do."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full. Free some space (`df -h`)",
            errno.EDQUOT: "the quota is used up. Free some space",
            errno.EFBIG: "the file would be larger than allowed (`ulimit -f`). Raise the limit",
            errno.EROFS: "the file system is read-only. Choose another place or remount it",
            errno.EACCES: "permission denied. Change the owner or choose another place",
            errno.EPERM: "permission denied. Change the owner or choose another place",
        }
        if error.errno not in reasons:
            raise
        raise StoreError(
            f"{path}: could not be written: {reasons[error.errno]}, then run the same command again. "
            "What was there before is untouched."
        ) from error


@contextmanager
def atomic_directory(destination: Path) -> Iterator[Path]:
    """A temporary directory that becomes ``destination`` only when the block ends well.

    Everything in it is synced to disk before the rename; an existing ``destination`` is replaced. If the block
    raises, nothing is left behind and the old contents stay.
    """
    staging = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    with writing(destination):
        for left in destination.parent.glob(f".{destination.name}.*.part"):
            if not _alive(left):
                shutil.rmtree(left, ignore_errors=True)
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            yield staging
            commit(staging, destination)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def _alive(staging: Path) -> bool:
    """Whether the process that writes a staging directory is still there; a killed one cannot clean up."""
    try:
        os.kill(int(staging.name.split(".")[-2]), 0)
    except (ValueError, OverflowError, ProcessLookupError):  # it may have another name than the number of a process
        return False
    except PermissionError:
        return True
    return True


def commit(staging: Path, destination: Path) -> None:
    """Sync a finished directory and put it in place; at any moment the old one is there, or the new one."""
    for path in sorted(staging.rglob("*")):
        fsync(path)
    fsync(staging)
    if destination.exists():
        swapped = destination.with_name(f".{destination.name}.{os.getpid()}.part")  # the next writer removes such
        staging.rename(swapped)
        if not _exchange(swapped, destination):
            retired = destination.with_name(f".{destination.name}.{os.getpid()}.old")
            destination.rename(retired)
            try:
                swapped.rename(destination)
            except OSError:
                retired.rename(destination)
                raise
            swapped = retired
        shutil.rmtree(swapped)
    else:
        staging.rename(destination)
    fsync(destination.parent)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two directories in one step (Linux; some network file systems cannot). Whether it was done."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of <fcntl.h> and <linux/fs.h>
    return renameat2 is not None and renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    staging = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            staging.write_bytes(content)
            fsync(staging)
            staging.replace(path)
            fsync(path.parent)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: readable, sorted as given, refused if it holds NaN or infinity."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, *, error: type[GenError] = StoreError) -> Any:
    """Read JSON; a missing or damaged file is an ``error`` that names it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise error(f"{path}: no such file.") from None
    except (ValueError, UnicodeDecodeError) as problem:
        raise error(f"{path}: damaged: {problem}. Delete it and run the command that wrote it again.") from None


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors: no pickle, contiguous, on the CPU, shared storage copied."""
    from safetensors.torch import save_file  # imports torch, which takes a second: commands that need none start sooner

    with writing(path):
        save_file({name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}, path)


def load_tensors(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Read named tensors. Raises :class:`StoreError` for a missing or damaged file."""
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path, device=str(device))
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file.") from None
    except Exception as problem:  # safetensors raises its own error type and plain ValueErrors
        raise StoreError(f"{path}: damaged: {problem}. Restore it or train again.") from None
    return tensors


def seal(directory: Path) -> dict[str, dict[str, int | str]]:
    """Names, sizes and sha256 of the files of a directory: what :func:`check_seal` holds it to."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(directory.iterdir())
        if path.is_file()
    }


def check_seal(directory: Path, files: Mapping[str, Mapping[str, int | str]]) -> None:
    """Raise :class:`StoreError` unless every sealed file is there, byte for byte."""
    for name, sealed in files.items():
        path = directory / name
        if not path.is_file():
            raise StoreError(f"{path}: missing. Restore the directory or train again.")
        found = sha256(path)
        if found != sealed["sha256"]:
            raise StoreError(
                f"{path}: its sha256 is {found[:12]}..., but {str(sealed['sha256'])[:12]}... was saved: the file was "
                "damaged or changed. Restore it or train again."
            )
