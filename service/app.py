"""The FastAPI application."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from service import __version__, errors, metrics
from service.api import native
from service.boundary import Boundary
from service.core import Translator
from service.settings import Settings

DESCRIPTION = "Translation that shows where it looked. All errors have one shape; `X-Request-ID` names a request."


def create_app(translator: Translator, settings: Settings) -> FastAPI:
    """All routes over one translator."""
    app = FastAPIOffline(
        title="Attentive", version=__version__, description=DESCRIPTION, license_info={"name": "Apache-2.0"}
    )
    app.state.translator = translator
    app.include_router(native.router)
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    app.add_api_route("/", _docs, include_in_schema=False)
    for kind in (errors.ServiceError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _refuse)
    app.add_middleware(Boundary, max_body_bytes=settings.max_body_bytes)
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    failure = errors.from_exception(error)
    metrics.REFUSED.labels(failure.code).inc()
    return errors.response(failure, request.state.request_id)


async def _metrics(request: Request) -> Response:
    request.app.state.translator.observe()
    return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _docs() -> RedirectResponse:
    return RedirectResponse("/docs")
