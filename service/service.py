"""The BentoML service: the FastAPI application and one native endpoint in front of the same engines."""

import asyncio
import gc
import logging
import os
from typing import Annotated, Generic, TypeVar

import bentoml
from pydantic import Field
from starlette.types import ASGIApp

import service.preload  # noqa: F401 - begins to work
from service import errors, lifecycle, logs
from service.access import Guard, cross_origin, proxies
from service.admission import Door
from service.app import create_app
from service.boundary import Boundary
from service.core import Translator
from service.schemas.reply import BatchResult
from service.schemas.request import BatchItem
from service.settings import Settings, unknown
from service.tracing import Tracing

logger = logging.getLogger("attentive")

T = TypeVar("T")

Items = Annotated[list[BatchItem], Field(fail_fast=True)]
"""Of which the first that is wrong refuses the batch; there is room for many in a body."""

settings = Settings()
# Uvicorn reads it when this module has been imported. By default it believes whatever this machine forwards.
os.environ["FORWARDED_ALLOW_IPS"] = proxies(settings.trusted_proxies)
translator = Translator(settings)
app = create_app(translator, settings)

tracing = Tracing()

logs.configure(settings.log_format)
logging.getLogger("bentoml._internal.server.http_app").addFilter(errors.without_input)

LEFT_OUT = frozenset({"OpenTelemetryMiddleware", "TimeoutMiddleware"})
"""Of BentoML's middleware. Traces and deadlines are ours, and these two took a third of the event loop's time."""


class Guarded(bentoml.Service[T], Generic[T]):
    """With the door outside of BentoML's middleware; a page in a browser must be able to read its refusals too."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        app = super().to_asgi(is_main)
        app.user_middleware = [each for each in app.user_middleware if each.cls.__name__ not in LEFT_OUT]
        return cross_origin(Door(app, translator.admission), settings.cors_origins)


# BentoML's metrics have a time series for every path that anybody asks for; the application serves /metrics itself, and
# logs requests itself, under the id that their callers know.
# What is mounted is not the FastAPI object: BentoML would then answer unknown routes and methods, in its own shape.
@bentoml.asgi_app(app.__call__, path="/")
@bentoml.service(
    name="attentive",
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    service_class=Guarded,
)
class Attentive:
    @bentoml.on_deployment
    def supervise() -> None:
        """In the supervisor, before the worker is started."""
        lifecycle.replace_dead_workers_at_once()

    @bentoml.on_startup
    async def start(self) -> None:
        """Open and warm up the packages beside the server, which already answers that it is not ready."""
        lifecycle.forget_dead_workers()
        if names := unknown(os.environ):
            logger.warning("no settings of this server: %s", ", ".join(names))
        if settings.otlp_endpoint:
            tracing.connect(settings.otlp_endpoint)
        lifecycle.Drain(translator, settings.drain_s, settings.drain_deadline_s).install()
        self.starting = asyncio.create_task(self.open())

    async def open(self) -> None:
        await translator.start()
        # What is there now stays: to look through it took the garbage collector 0.1 s each time.
        gc.collect()
        gc.freeze()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        self.starting.cancel()
        await translator.close()
        await tracing.stop()

    async def __is_ready__(self) -> bool:
        return translator.ready

    @bentoml.api(batchable=True, max_batch_size=settings.batch_max_size, max_latency_ms=settings.batch_max_latency_ms)
    async def translate_batch(self, items: Items) -> list[BatchResult]:
        """A result or an error for each item, in order."""
        # It is a batch of several requests.
        with logs.recording(None):
            return await translator.translate_each(items)


Attentive.add_asgi_middleware(Boundary, settings=settings, tracing=tracing)  # type: ignore[attr-defined]
Attentive.add_asgi_middleware(Guard, access=app.state.access, path="/translate_batch")  # type: ignore[attr-defined]
