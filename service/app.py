"""The FastAPI application."""

from collections import Counter

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service import __version__, errors, metrics
from service.access import Access
from service.api import admin, deepl, glossaries, libretranslate, native, stream
from service.boundary import CLIENT_GONE, Boundary
from service.core import Translator
from service.glossaries import Glossaries
from service.settings import Settings

DESCRIPTION = (
    "Translation that shows where it looked. All errors of an API have one shape; `X-Request-ID` names a request."
)

ROUTERS = (
    native.router,
    admin.router,
    stream.router,
    deepl.router,
    glossaries.one,
    glossaries.many,
    libretranslate.router,
)


def create_app(translator: Translator, settings: Settings) -> FastAPI:
    """All routes over one translator."""
    app = FastAPIOffline(
        title="Attentive", version=__version__, description=DESCRIPTION, license_info={"name": "Apache-2.0"}
    )
    app.state.translator = translator
    app.state.access = Access(settings)
    app.state.deepl_characters = Counter()
    app.state.glossaries = Glossaries(settings)
    for router in ROUTERS:
        app.include_router(router)
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
    if isinstance(failure, errors.MethodNotAllowed):
        failure.headers |= _allowed(request)
    metrics.REFUSED.labels(failure.code).inc()
    return errors.response(failure, request.state.request_id, request.scope["path"])


def _allowed(request: Request) -> dict[str, str]:
    """The methods of all routes of a path: the framework names those of the first one."""
    path = getattr(request.scope.get("route"), "path", None)
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    methods = {method for route in routes if route.path == path for method in route.methods or ()}
    return {"Allow": ", ".join(sorted(methods))} if methods else {}


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _metrics(request: Request) -> Response:
    request.app.state.translator.observe()
    return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _docs() -> RedirectResponse:
    return RedirectResponse("/docs")
