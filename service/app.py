"""The FastAPI application."""

from collections import Counter

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service import __version__, errors, metrics
from service.access import Access
from service.api import admin, deepl, libretranslate, native, stream
from service.boundary import CLIENT_GONE, Boundary
from service.core import Translator
from service.settings import Settings

DESCRIPTION = (
    "Translation that shows where it looked. All errors of an API have one shape; `X-Request-ID` names a request."
)


def create_app(translator: Translator, settings: Settings) -> FastAPI:
    """All routes over one translator."""
    app = FastAPIOffline(
        title="Attentive", version=__version__, description=DESCRIPTION, license_info={"name": "Apache-2.0"}
    )
    app.state.translator = translator
    app.state.access = Access(settings)
    app.state.deepl_characters = Counter()
    app.include_router(native.router)
    app.include_router(admin.router)
    app.include_router(stream.router)
    app.include_router(deepl.router)
    app.include_router(libretranslate.router)
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    app.add_api_route("/", _docs, include_in_schema=False)
    # Exception too: where the Boundary that acts is outside, the framework would have answered before it.
    for kind in (errors.ServiceError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _refuse)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_middleware(Boundary, settings=settings)
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    failure = errors.from_exception(error)
    metrics.REFUSED.labels(failure.code).inc()
    return errors.response(failure, request.state.request_id, request.scope["path"])


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _metrics(request: Request) -> Response:
    request.app.state.translator.observe()
    return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _docs() -> RedirectResponse:
    return RedirectResponse("/docs")
