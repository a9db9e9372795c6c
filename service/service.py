"""The BentoML service: the FastAPI application and one native endpoint in front of the same engines."""

import asyncio
import logging

import bentoml

from service import errors
from service.app import create_app
from service.boundary import Boundary
from service.core import Translator
from service.lifecycle import Drain
from service.schemas import BatchItem, BatchResult
from service.settings import Settings

settings = Settings()
translator = Translator(settings)
app = create_app(translator, settings)

logging.getLogger("attentive").setLevel(logging.INFO)
logging.getLogger("bentoml._internal.server.http_app").addFilter(errors.without_input)

TIMEOUT_MARGIN_S = 30
"""BentoML's own deadline answers in another shape: it must never be the first."""


# BentoML's metrics have a time series for every path that anybody asks for; the application serves /metrics itself.
# What is mounted is not the FastAPI object: BentoML would then answer unknown routes and methods, in its own shape.
@bentoml.asgi_app(app.__call__, path="/")
@bentoml.service(
    name="attentive",
    workers=1,
    traffic={"timeout": settings.request_timeout_s + TIMEOUT_MARGIN_S},
    metrics={"enabled": False},
)
class Attentive:
    @bentoml.on_startup
    async def start(self) -> None:
        """Open and warm up the packages beside the server, which already answers that it is not ready."""
        Drain(translator, settings.drain_s).install()
        self.starting = asyncio.create_task(translator.start())

    @bentoml.on_shutdown
    async def stop(self) -> None:
        self.starting.cancel()
        await translator.close()

    async def __is_ready__(self) -> bool:
        return translator.ready

    @bentoml.api(batchable=True, max_batch_size=settings.batch_max_size, max_latency_ms=settings.batch_max_latency_ms)
    async def translate_batch(self, items: list[BatchItem]) -> list[BatchResult]:
        """A result or an error for each item, in order."""
        return await translator.translate_each(items)


Attentive.add_asgi_middleware(Boundary, max_body_bytes=settings.max_body_bytes)  # type: ignore[attr-defined]
