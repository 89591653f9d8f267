"""One attempt at reading a file by HTTP.

This is the standard library's client and not fsspec's, because the latter takes an answer that is no longer than the
range it asked for to be that range, cannot ask a server to go on only if the file is still the same (RFC 9110,
13.1.5), and decompresses what a server labels as compressed, so that the checksums of ``.tar.gz`` files fail.
"""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from typing import IO, NoReturn
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from gen import __version__
from gen.remote.transport import CHUNK, TIMEOUT, Body, RefusedError, TransientError, scheme, shown

_BUSY = {408, 425, 429}  # the client errors that pass: timeout, too early, too many requests


@contextmanager
def opened(url: str, start: int, version: str | None) -> Iterator[Body]:
    """See :func:`gen.remote.download.opened`."""
    with _sorted_out():
        try:
            response = _OPENER.open(_request(url, start, version), timeout=TIMEOUT)
        except urllib.error.HTTPError as problem:
            if problem.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
                raise
            problem.close()
            response = _OPENER.open(_request(url, 0, None), timeout=TIMEOUT)
    with response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        begin = 0
        if response.status == http.client.PARTIAL_CONTENT:
            answer = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if answer is None:
                raise RefusedError("the server sends a part without saying which. Use another server")
            begin = int(answer[1])
            total = int(answer[2]) if answer[2] != "*" else None if total is None else begin + total

        def read(most: int) -> bytes:
            with _sorted_out():
                chunk: bytes = response.read1(min(most, CHUNK))
            return chunk

        yield Body(begin, total, _validator(response.headers), read)


def _request(url: str, start: int, version: str | None) -> urllib.request.Request:
    try:
        parts = urlsplit(url)
        userinfo, _, host = parts.netloc.rpartition("@")
        if not host:
            raise ValueError("there is no host")
    except ValueError as problem:
        raise RefusedError(f"is not a URL: {problem}. Write https://HOST/PATH") from None
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~")  # spaces and the like as servers want them
    request = urllib.request.Request(urlunsplit((parts.scheme, host, path, parts.query, "")))
    request.add_header("User-Agent", f"gen/{__version__}")
    request.add_header("Accept-Encoding", "identity")
    if userinfo:
        token = base64.b64encode(unquote(userinfo).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")  # a host it leads to has no use for it
    if start:
        request.add_header("Range", f"bytes={start}-")
        if version:
            request.add_header("If-Range", version)
    return request


def _validator(headers: Message) -> str | None:
    """What If-Range may carry: a strong entity tag or a date."""
    tag: str = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not out of encryption."""

    def redirect_request(  # noqa: PLR0917  # as its base has it
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if scheme(newurl) not in ({"https"} if scheme(req.full_url) == "https" else {"http", "https"}):
            raise RefusedError(f"the server leads on to {shown(newurl)}, which is less safe. Use another URL")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


_OPENER = urllib.request.build_opener(_Redirects)


@contextmanager
def _sorted_out() -> Iterator[None]:
    """Tell what is worth another attempt from what is not."""
    try:
        yield
    except urllib.error.HTTPError as problem:
        problem.close()
        _raise_for(problem)
    except http.client.InvalidURL as problem:
        raise RefusedError(f"is not a URL: {problem}. Write https://HOST/PATH") from None
    except (http.client.IncompleteRead, ValueError):
        raise TransientError("the connection was closed within the body, or the server sends garbage") from None
    except (http.client.HTTPException, OSError) as problem:
        reason = problem.reason if isinstance(problem, urllib.error.URLError) else problem
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise RefusedError(
                f"the server's certificate is not trusted: {reason.verify_message}. Check the host"
            ) from None
        if isinstance(reason, TimeoutError):
            raise TransientError(f"no answer for {TIMEOUT:g} s") from None
        raise TransientError(f"{type(reason).__name__}: {reason}") from None


def _raise_for(problem: urllib.error.HTTPError) -> NoReturn:
    status = f"the server answers {problem.code} {http.client.responses.get(problem.code, '')}".rstrip()
    if problem.code >= 500 or problem.code in _BUSY:
        seconds = problem.headers.get("Retry-After", "")
        raise TransientError(status, float(seconds) if seconds.isdigit() else 0.0) from None
    if problem.code in (401, 403, 407):
        raise RefusedError(f"{status}. Check the URL, and the credentials if it needs any") from None
    raise RefusedError(f"{status}. Check the URL") from None
