"""What reading a file that lies elsewhere is made of: a body of bytes, or one of two ways to fail.

:mod:`gen.remote.web` and :mod:`gen.remote.object_store` make one attempt, :mod:`gen.remote.download` several.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit, urlunsplit

TIMEOUT = 30.0
"""Seconds without a byte, or without a connection, after which an attempt is given up."""

WEB = ("http", "https")
"""Schemes that :mod:`gen.remote.web` speaks; :mod:`gen.remote.object_store` has all others."""

CHUNK = 8 << 20
"""Bytes read at once: the length of a range asked of an object store, and the most held in memory."""


class TransientError(Exception):
    """Worth another attempt: a dropped connection, a timeout, a busy server, a short body.

    Attributes:
        wait: seconds that the server asks to be left alone, 0 if it does not say.
    """

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class RefusedError(Exception):
    """Another attempt would end the same: no such file, no permission, not a URL. Says what to do."""


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a file, from ``start`` on.

    Attributes:
        start: where they begin; not where one asked when the server cannot do that, or the file has changed.
        total: bytes of the whole file, ``None`` where the server does not say.
        version: changes when the file does; ``None`` where the server does not say.
        read: the next bytes, at most as many as asked; none at the end.
    """

    start: int
    total: int | None
    version: str | None
    read: Callable[[int], bytes]


def scheme(url: str) -> str:
    """``https`` of ``https://host/file``; empty for a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return match[1].lower() if match else ""


def shown(url: str) -> str:
    """A URL as messages may show it: no user, no password, and of a query only the names (signatures are secrets)."""
    if not scheme(url):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{scheme(url)}://..."
    query = "&".join(f"{name}=..." for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))
