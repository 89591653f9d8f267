"""One attempt at reading a file through fsspec: ``s3://``, another store whose package is installed, or a path."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gen.remote.transport import CHUNK, TIMEOUT, Body, RefusedError, TransientError, scheme

_S3 = ("s3", "s3a")
_S3_HINT = (
    "Check the name, and where it is looked for and as whom: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY or AWS_PROFILE; for a public bucket FSSPEC_S3_ANON=true"
)
_MISTAKEN = {errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR}


@contextmanager
def opened(url: str, start: int, version: str | None) -> Iterator[Body]:
    """See :func:`gen.remote.download.opened`."""
    with _sorted_out(url):
        store, path = _store(url)
        info = store.info(path)
        if info["type"] != "file":
            raise RefusedError("is a folder, not a file")
        found = info.get("ETag")
        begin = start if version in (None, found) and start <= info["size"] else 0
        # Uncached reads: each asks for just its range, of the version that was opened.
        file = store.open(path, "rb", block_size=CHUNK, cache_type="none")
    with file:
        file.seek(begin)

        def read(most: int) -> bytes:
            with _sorted_out(url):
                chunk: bytes = file.read(min(most, CHUNK))
            return chunk

        yield Body(begin, info["size"], found, read)


def names(url: str) -> list[str]:
    """The files below a folder (``s3://bucket/faces/``) or that match a pattern (``s3://bucket/faces/*.tar``), sorted.

    Raises:
        TransientError, RefusedError: they cannot be listed.
    """
    with _sorted_out(url):
        store, path = _store(url)
        found = store.find(path, detail=True) if url.endswith("/") else store.glob(path, detail=True)
    listed = sorted(name for name, info in found.items() if info["type"] == "file" and not name.endswith("/"))
    return [store.unstrip_protocol(name) if scheme(url) else name for name in listed]


def _store(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    import fsspec

    options: dict[str, Any] = {}
    if scheme(url) in _S3:
        waits = {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT, "retries": {"total_max_attempts": 1}}
        options = {"config_kwargs": waits, "use_listings_cache": False}
    store, path = fsspec.core.url_to_fs(url, **options)
    if hasattr(store, "retries"):
        store.retries = 1  # s3fs makes five attempts of its own for each of ours, which are those that messages count
    return store, path


@contextmanager
def _sorted_out(url: str) -> Iterator[None]:
    """Tell what is worth another attempt from what is not."""
    hint = _S3_HINT if scheme(url) in _S3 else "Check the name"
    try:
        yield
    except (RefusedError, TransientError):
        raise
    except FileNotFoundError:
        raise RefusedError(f"there is no such file. {hint}") from None
    except PermissionError as problem:
        raise RefusedError(f"access denied ({problem.strerror or problem}). {hint}") from None
    except ImportError as problem:
        raise RefusedError(f"a package is missing ({problem}). Install it") from None
    except Exception as problem:  # each store has its own kinds; what is not known to be hopeless is tried again
        reason = f"{type(problem).__name__}: {problem}"
        if "Credentials" in type(problem).__name__:  # botocore's NoCredentialsError and its kin are plain Exceptions
            raise RefusedError(f"{reason}. {hint}") from None
        if isinstance(problem, ValueError) or (isinstance(problem, OSError) and problem.errno in _MISTAKEN):
            raise RefusedError(f"{reason}. {hint}") from None
        raise TransientError(reason) from None
