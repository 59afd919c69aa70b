"""The addresses of a server: an ASGI application around a model, with its limits and its errors.

    GET  /v2   /v2/health/live   /v2/health/ready
    GET  /v2/models/NAME[/versions/1]   /v2/models/NAME[/versions/1]/ready
    POST /v2/models/NAME[/versions/1]/infer
    GET  /metrics

An error is JSON, `{"error": "…"}`, as the protocol asks: 400 the request is wrong, 404 there is no such model, 408 the body came too
slowly, 413 it is too large, 415 it is compressed, 503 no place was free. Nothing of a request is written into a log.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .errors import BadRequest, Full
from .metrics import CONTENT_TYPE, Metrics
from .protocol import HEADER, InferenceRequest, answer, parse
from .served_models import VERSION, ServedModel, served_models
from .workers import Workers

if TYPE_CHECKING:
    from ..model import Model

RETRY_AFTER_S = 1
"""Seconds after which a client that found no place may try again."""
Application = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """Bounds of what a server takes.

    Args:
        max_body: most bytes of a request's body, and of one tensor in memory.
        max_batch: most images or tensors of a request.
        max_waiting: most requests that wait besides those that run.
        workers: number of threads that run the model.
        time_limit_s: longest time in seconds for a request, its body included.
    """

    max_body: int = 64 << 20
    max_batch: int = 64
    max_waiting: int = 16
    workers: int = 1
    time_limit_s: float = 60.0


class Service:
    """A model that is served.

    Args:
        model: the model of a bundle.
        limits: bounds of what it takes.

    Attributes:
        stopping: whether the server is about to stop: it is not ready, answers all the same, and asks clients to leave the connection.
        running: number of inference requests that have not been answered yet.
        last_s: time of the event loop at which the last inference request came or was answered.
        answered: number of inference requests that were answered.
    """

    def __init__(self, model: Model, limits: Limits) -> None:
        self.models = served_models(model)
        self.limits, self.metrics = limits, Metrics(model.manifest)
        self.workers = Workers(limits.workers, limits.max_waiting, limits.time_limit_s)
        self.stopping, self.running, self.last_s, self.answered = False, 0, 0.0, 0
        self.metrics.taken.set_function(lambda: self.workers.taken)
        self.metrics.ready.set_function(lambda: not self.stopping)

    def application(self, watch: Callable[[], Coroutine[Any, Any, None]] | None = None) -> Application:
        """Return the ASGI application.

        Args:
            watch: function that runs as long as the application does; None for none.
        """

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            task = None if watch is None else asyncio.create_task(watch())
            yield
            if task is not None:
                task.cancel()
            self.workers.close()

        model = "/v2/models/{name}"
        routes = [
            Route("/v2", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            *(Route(prefix, self._metadata) for prefix in (model, f"{model}/versions/{{version}}")),
            *(Route(f"{prefix}/ready", self._model_ready) for prefix in (model, f"{model}/versions/{{version}}")),
            *(Route(f"{prefix}/infer", self._infer, methods=["POST"]) for prefix in (model, f"{model}/versions/{{version}}")),
            Route("/metrics", self._metrics),
        ]
        inner = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _refused})
        return self._guarded(inner)

    def _guarded(self, inner: Application) -> Application:
        """Return the application that never lets an exception out, and asks clients to leave while the server stops."""

        async def application(scope: Any, receive: Any, send: Any) -> None:
            async def send_on(message: dict[str, Any]) -> None:
                if message["type"] == "http.response.start" and self.stopping:
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
                await send(message)

            try:
                await inner(scope, receive, send_on)
            except Exception as problem:  # a traceback may hold what a client sent
                if scope["type"] != "http":
                    raise
                _log(f"a request failed ({type(problem).__name__})")

        return application

    async def _server(self, request: Request) -> Response:
        return JSONResponse({"name": "bundle", "version": VERSION, "extensions": ["binary_tensor_data"]})

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        return JSONResponse({"ready": not self.stopping}, 503 if self.stopping else 200)

    async def _metadata(self, request: Request) -> Response:
        return JSONResponse(self._model(request).metadata)

    async def _model_ready(self, request: Request) -> Response:
        return JSONResponse({"name": self._model(request).name, "ready": not self.stopping}, 503 if self.stopping else 200)

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    def _model(self, request: Request) -> ServedModel:
        """Return the model that an address names.

        Raises:
            HTTPException: with status 404 when there is none.
        """
        found = self.models.get(request.path_params["name"])
        if found is None or request.path_params.get("version", VERSION) != VERSION:
            raise HTTPException(404, f"there is no such model: there are {' and '.join(map(repr, self.models))}, version {VERSION}.")
        return found

    async def _infer(self, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        model, began = self._model(request), loop.time()
        self.running, self.last_s = self.running + 1, began
        try:
            response = await self._answer(request, model, began + self.limits.time_limit_s)
        finally:
            self.running, self.last_s, self.answered = self.running - 1, loop.time(), self.answered + 1
        self.metrics.requests.labels(model.name, response.status_code).inc()
        self.metrics.seconds.labels(model.name).observe(loop.time() - began)
        return response

    async def _answer(self, request: Request, model: ServedModel, deadline: float) -> Response:
        """Return the answer to an inference request, or the error that it ends with."""
        try:
            with self.workers:
                body = await self._body(request, deadline)
                content, headers = await self.workers.run(lambda: self._work(model, body, request.headers.get(HEADER)), deadline)
        except BadRequest as problem:
            return _error(problem.status, str(problem))
        except Full as problem:
            return _error(503, f"{problem}: try again.", {"Retry-After": str(RETRY_AFTER_S)})
        except TimeoutError:
            return _error(408, f"the body did not come within {self.limits.time_limit_s:g} s.")
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as problem:  # whatever a runtime raises; its text may hold what a client sent
            _log(f"the model failed ({type(problem).__name__})")
            return _error(500, "the model failed on this request.")
        return Response(content, headers=headers)

    def _work(self, model: ServedModel, body: bytes, header_length: str | None) -> tuple[bytes, dict[str, str]]:
        """Return the body and the headers of the answer; runs in a thread, so that the server hears other clients meanwhile."""
        most = model.max_batch(self.limits.max_body, self.limits.max_batch)
        asked: InferenceRequest = parse(body, header_length, model.given, model.made, most)
        with self.metrics.run_seconds.labels(model.name).time():
            outputs = model.run(asked.inputs, asked.outputs)
        self.metrics.items.labels(model.name).inc(len(asked.inputs))
        return answer(asked, model.name, VERSION, outputs, model.made)

    async def _body(self, request: Request, deadline: float) -> bytes:
        """Return the body, of which no more than the limit is ever held.

        Raises:
            BadRequest: when it is too large or compressed.
            TimeoutError: when it comes too slowly.
        """
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            # a few packed bytes can hold gigabytes
            raise BadRequest("the body must not be compressed: leave `Content-Encoding` out.", 415)
        too_large = BadRequest(f"the body has more than {self.limits.max_body} bytes: send fewer images at once.", 413)
        stated = request.headers.get("content-length", "0")
        if len(stated) > 18 or int(stated) > self.limits.max_body:
            raise too_large
        parts, found = [], 0
        async with asyncio.timeout_at(deadline):
            async for part in request.stream():
                found += len(part)
                if found > self.limits.max_body:
                    raise too_large
                parts.append(part)
        return b"".join(parts)


async def _refused(request: Request, problem: Exception) -> Response:
    """Return an error of the routes, such as an unknown address, in the protocol's form."""
    assert isinstance(problem, HTTPException)
    return _error(problem.status_code, str(problem.detail), dict(problem.headers or {}))


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": text}, status, headers)


def _log(line: str) -> None:
    print(f"bundle: {line}", file=sys.stderr, flush=True)
