"""The application: routes, gate, problems and OpenAPI, put together."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from topos_rt import __version__
from topos_rt.errors import ToposError
from topos_rt.pipeline import HeadPipeline
from topos_rt.server import live, page, routes
from topos_rt.server.gate import Gate
from topos_rt.server.problems import MEDIA_TYPE, Problem, problem_of
from topos_rt.server.schemas import ProblemBody
from topos_rt.server.service import Service
from topos_rt.server.settings import LOG, Settings
from topos_rt.server.uploads import invalid

log = logging.getLogger(LOG)


def create_app(settings: Settings | None = None, pipeline: HeadPipeline | None = None) -> FastAPI:
    """Return the service as an ASGI application; `app.state.service` is its state.

    settings: None is `Settings()`. pipeline: a loaded model, which the caller closes; None loads that of the
    settings when the application starts. Nothing is loaded before.
    """
    service = Service(settings or Settings(), pipeline)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close()

    app = _App(
        title="topos_rt",
        version=__version__,
        summary="One portrait in, one animatable 3D head with a fixed topology out.",
        lifespan=lifespan,
        docs_url=None,  # the pages of FastAPI load scripts from a network
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.include_router(routes.router)
    app.include_router(live.router)
    if service.settings.page:
        app.include_router(page.page_router(page.FOLDER))
    else:
        app.add_api_route("/", _index, include_in_schema=False)
    for kind in (Problem, ToposError, MemoryError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer)
    if service.settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(service.settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
            expose_headers=["Location", "Retry-After", "X-Request-ID"],
        )
    _complete(app)
    return app


class _App(FastAPI):
    """With the gate outside of everything, so that it sees every answer."""

    def build_middleware_stack(self) -> ASGIApp:
        return Gate(super().build_middleware_stack(), self.state.service)


async def _index(request: Request) -> JSONResponse:
    names = ("/v1/models", "/v1/faces", "/v1/heads", "/v1/retopologize", "/openapi.json", "/healthz")
    return JSONResponse({"service": "topos_rt", "version": __version__, "routes": list(names)})


async def _answer(request: Request, error: Exception) -> Response:
    problem = _told(error)
    request.app.state.service.metrics.problems.labels(problem.slug).inc()
    if isinstance(error, ToposError | MemoryError) and problem.status == 500:  # uvicorn logs others itself
        log.error("a request failed", exc_info=error)
    return Response(problem.to_bytes(), problem.status, problem.headers, MEDIA_TYPE)


def _told(error: Exception) -> Problem:
    if isinstance(error, RequestValidationError):
        return invalid(error.errors())
    if isinstance(error, HTTPException):
        return _http(error)
    return problem_of(error)


def _http(error: HTTPException) -> Problem:
    """Return what Starlette refuses as a problem."""
    slug = {404: "not-found", 405: "wrong-method"}.get(error.status_code, "bad-request")
    what = {404: "this address", 405: "this method"}.get(error.status_code, str(error.detail))
    return Problem(slug, what, expected="one of those in /openapi.json", headers=error.headers)


def _complete(app: FastAPI) -> None:
    """Let the OpenAPI document have the problems' schema, and nothing of FastAPI's own errors."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas[ProblemBody.__name__] = ProblemBody.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None) if _fastapis(operation) else None
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _fastapis(operation: dict[str, Any]) -> bool:
    return "application/json" in operation["responses"].get("422", {}).get("content", {})
