"""Files that lie elsewhere, brought here whole: ``https://``, ``s3://``, what else fsspec knows, or a path.

    fetch("https://host/faces.tar", Path("faces.tar"), sha256="...")
    listing("https://host/train-{000000..000011}.tar")
    listing("s3://bucket/faces/*.tar")

What arrives is written to a hidden ``.part`` file beside the destination, which takes the final name only when it is
complete, has the right checksum and is on the disk. :mod:`gen.remote.download` says how failures are dealt with.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gen import files
from gen.errors import DataError
from gen.remote.download import ATTEMPTS, Patience, Progress, Sleep, download, keep, opened, partial
from gen.remote.object_store import names
from gen.remote.transport import WEB, scheme, shown

MOST_NAMES = 1_000_000
"""Files that one pattern may name."""


def is_remote(place: str) -> bool:
    """Whether a place is a URL, not a path."""
    return bool(scheme(place))


def fetch(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    bytes: int | None = None,
    attempts: int = ATTEMPTS,
    progress: Progress = lambda done, total: None,
    sleep: Sleep = time.sleep,
) -> str:
    """Bring a file here, whole or not at all.

    A destination that already has the asked checksum is left as it is, without a request; any other is replaced at
    the end. Processes that fetch to the same destination take turns. After a crash or an error the same call goes on
    where it was, if ``sha256`` is given.

    Args:
        url: where it lies: a URL, or a path.
        destination: the file to write.
        sha256: its checksum in hex; needed for ``http://``, which anybody on the way could change.
        bytes: its length.
        attempts: how often in a row it may fail. An attempt that brought at least 1 MiB of news has not failed.
        progress: told, for every chunk, the bytes that are here and the total, 0 where it is not known.
        sleep: how to wait between attempts.

    Returns:
        The sha256 of what arrived.

    Raises:
        DataError: it cannot be had, is not what was expected, or cannot be written.
    """
    path = destination.with_name(f".{destination.name}.part")
    while True:
        with partial(path) as part:
            if part is None:  # another process was at it: it may be done, or may have given up
                continue
            if sha256 is not None and destination.is_file() and files.sha256(destination) == sha256.lower():
                return sha256.lower()
            found = download(url, part, sha256=sha256, bytes=bytes, attempts=attempts, progress=progress, sleep=sleep)
            keep(path, destination)
            return found


def name_of(url: str) -> str:
    """What the file is called there: ``faces.tar`` of ``https://host/data/faces.tar?version=2``."""
    path = urlsplit(url).path if scheme(url) else url
    name = unquote(path).rpartition("/")[2]
    if name in {"", ".", ".."} or not name.isprintable():
        raise DataError(f"{shown(url)}: ends with no file name. Give the URL of one file.")
    return name


def size(url: str, *, attempts: int = ATTEMPTS, sleep: Sleep = time.sleep) -> int:
    """Bytes of a file. Raises :class:`DataError` where that cannot be told."""

    def ask() -> int | None:
        with opened(url) as body:  # a GET that is not read: not every server answers HEAD
            return body.total

    total = Patience(url, attempts, sleep).persist(ask)
    if total is None:
        raise DataError(f"{shown(url)}: the server does not say how long the file is. Fetch it to find out.")
    return total


def listing(place: str, *, attempts: int = ATTEMPTS, sleep: Sleep = time.sleep) -> list[str]:
    """The files that a place stands for.

    ``{000000..000011}`` and ``{train,test}`` are written out, in order, without a request; a folder (it ends with
    ``/``) and a pattern (``*.tar``) are looked up, sorted, which a web server cannot do. Anything else is itself.

    Raises:
        DataError: there are none, too many, or they cannot be listed.
    """
    found = []
    for one in _written_out(place):
        on_web = scheme(one) in WEB
        if one.endswith("/") or re.search(r"\*" if on_web else r"[*?[]", one):  # ? and [ are part of web addresses
            if on_web:
                raise DataError(
                    f"{shown(one)}: a web server has no list of its files. Name each of them, or use braces: "
                    "https://host/train-{000000..000011}.tar"
                )
            matches = Patience(one, attempts, sleep).persist(functools.partial(names, one))
            if not matches:
                raise DataError(f"{shown(one)}: found no file there, needed at least one. Check the name.")
            found += matches
        else:
            found.append(one)
    return found


def _written_out(place: str) -> list[str]:
    """A place without its braces: ``a{0..2}b{x,y}`` is six places, the last brace changes fastest."""
    pieces = re.split(r"\{([^{}]*)\}", place)  # literal, choices, literal, choices, ..., literal
    choices = [_choices(piece, place) if k % 2 else [piece] for k, piece in enumerate(pieces)]
    count = math.prod(len(several) for several in choices)
    if count > MOST_NAMES:
        raise DataError(f"{shown(place)}: stands for {count:,} files, allowed {MOST_NAMES:,}. Check the braces.")
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _choices(inside: str, place: str) -> list[str]:
    """What stands between two braces: ``08..10`` is 08, 09, 10; ``a,b`` is a, b."""
    match = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if match is None:
        return inside.split(",")
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < MOST_NAMES:
        raise DataError(
            f"{shown(place)}: found {{{inside}}}, allowed {{FIRST..LAST}} with FIRST <= LAST and at most "
            f"{MOST_NAMES:,} numbers. Check the braces."
        )
    return [str(k).zfill(len(match[1])) for k in range(first, last + 1)]
