"""HTTP: MLflow's scoring protocol, a schema, and a page. Every refusal is JSON with a code and a reason."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from gen import __version__
from gen.errors import GenError
from gen.serve import Answerer, Request, RequestError, json_schema
from gen.serve.schema import TASKS
from pipelines.serving.engine import Engine
from pipelines.serving.follow import Follower
from pipelines.serving.page import page
from pipelines.serving.protocol import read_body

JSON = "application/json"
CARD_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the server takes on.

    Attributes:
        queue: requests at a time, waiting or in work; one more is told to come back.
        seconds: that a request may take, its body read.
        body: bytes of one.
        body_seconds: in which it has to arrive.
    """

    queue: int = 64
    seconds: float = 120.0
    body: int = 32 << 20
    body_seconds: float = 30.0


class RefusedError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


def make_app(follower: Follower, engine: Engine, limits: Limits) -> FastAPI:
    """The application. The caller ends the follower and the engine."""
    app = FastAPI(title="gen serve", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    busy = 0

    @asynccontextmanager
    async def admitted() -> AsyncIterator[None]:
        nonlocal busy  # the event loop is one thread
        if busy >= limits.queue:
            raise RefusedError(
                503,
                "TEMPORARILY_UNAVAILABLE",
                f"{busy} requests are waiting, allowed are {limits.queue}. Try again soon.",
                retry_after=1,
            )
        busy += 1
        try:
            yield
        finally:
            busy -= 1

    @app.post("/invocations")
    async def invocations(http: HTTPRequest) -> Response:
        _check_type(http.headers.get("content-type"))
        async with admitted():
            body = await _read(http, limits)
            hosted = follower.current
            request = await run_in_threadpool(_understand, body, hosted.answerer)
            work = asyncio.wrap_future(engine.submit(hosted.answerer, request))
            try:
                results = await asyncio.wait_for(work, limits.seconds)
            except TimeoutError:
                raise RefusedError(
                    504, "DEADLINE_EXCEEDED", f"not done in {limits.seconds:g} s. Ask for less, or set --timeout."
                ) from None
            content = await run_in_threadpool(_written, hosted.answerer, request, results)
            return Response(content, media_type=JSON, headers={"X-Model-Version": hosted.version})

    @app.get("/ping")
    @app.get("/health")
    async def ping() -> Response:
        return Response("\n", media_type=JSON)

    @app.get("/version")
    async def version() -> JSONResponse:
        hosted = follower.current
        weights = hosted.meta["files"]["model.safetensors"]["sha256"]
        facts = {"gen": __version__, "model": hosted.name, "version": hosted.version, "asked": hosted.asked}
        return JSONResponse({**facts, "weights": weights, "refused": follower.refused or None})

    @app.get("/schema")
    async def schema() -> JSONResponse:
        answerer = follower.current.answerer
        model, tasks = answerer.model, answerer.tasks
        answers = {name: TASKS[name].answer for name in tasks}
        return JSONResponse(
            {**json_schema(model.spec, tasks, conditional=model.conditional), "tasks": list(tasks), "answers": answers}
        )

    @app.get("/")
    async def index() -> HTMLResponse:
        content, policy = await run_in_threadpool(page, follower.current)
        return HTMLResponse(content, headers={"Content-Security-Policy": policy})

    @app.get("/card")
    async def card() -> HTMLResponse:
        hosted = follower.current
        if not hosted.card:
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"{hosted.asked}: there is no model card.")
        return HTMLResponse(hosted.card, headers={"Content-Security-Policy": CARD_POLICY})

    for error, explain in _EXPLAINED.items():
        app.add_exception_handler(error, explain)
    return app


def _understand(body: bytes, answerer: Answerer) -> Request:
    return answerer.parse(*read_body(body))


def _written(answerer: Answerer, request: Request, results: list) -> bytes:
    return json.dumps({"predictions": answerer.answer(request, results)}, allow_nan=False).encode()


def _check_type(content_type: str | None) -> None:
    """JSON in UTF-8 is the only language."""
    kind, *parameters = [part.strip().lower() for part in (content_type or "").split(";")]
    if kind != JSON or any(p.replace('"', "") != "charset=utf-8" for p in parameters if p):
        raise RefusedError(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            f"Content-Type: found {content_type!r}, allowed '{JSON}'. Send JSON in UTF-8.",
        )


async def _read(http: HTTPRequest, limits: Limits) -> bytes:
    """The body, never more of it than allowed."""
    too_large = RefusedError(
        413, "REQUEST_TOO_LARGE", f"the body is larger than the {limits.body:,} bytes allowed. Send several requests."
    )
    stated = http.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated) > limits.body:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in http.stream():
                body += chunk
                if len(body) > limits.body:
                    raise too_large
    except TimeoutError:
        raise RefusedError(
            408, "REQUEST_TIMEOUT", f"the body did not arrive in {limits.body_seconds:g} s. Send it again."
        ) from None
    return bytes(body)


# ---- refusals ------------------------------------------------------------------------------------------------------


def _refused(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error_code": code, "message": message}, status, headers)


async def _bad_request(http: HTTPRequest, error: RequestError) -> JSONResponse:
    return _refused(400, "INVALID_PARAMETER_VALUE", str(error))


async def _refusal(http: HTTPRequest, error: RefusedError) -> JSONResponse:
    return _refused(error.status, error.code, str(error), error.headers)


async def _no_such_place(http: HTTPRequest, error: HTTPException) -> JSONResponse:
    """What FastAPI itself refuses: an unknown path, another method."""
    places = "POST /invocations; GET /, /card, /schema, /version, /ping, /health"
    code = {404: "ENDPOINT_NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "BAD_REQUEST")
    message = f"{http.method} {http.url.path}: {error.detail}. There are: {places}."
    return _refused(error.status_code, code, message, dict(error.headers or {}))


async def _broken(http: HTTPRequest, error: Exception) -> JSONResponse:
    """Not the fault of the request."""
    reason = str(error) if isinstance(error, GenError) else f"{type(error).__name__}: {error}"
    print(f"{http.method} {http.url.path}: {reason}", file=sys.stderr, flush=True)
    return _refused(
        500, "INTERNAL_ERROR", reason if isinstance(error, GenError) else "the server failed; its log says why."
    )


_EXPLAINED: dict[type[Exception], Callable[..., Awaitable[JSONResponse]]] = {
    RequestError: _bad_request,
    RefusedError: _refusal,
    HTTPException: _no_such_place,
    GenError: _broken,
    Exception: _broken,
}
