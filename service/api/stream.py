"""The native API, sentence by sentence: server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from service import access, errors, metrics
from service.api.native import ERRORS, Core, unless_disconnected
from service.core import Translator, maybe_in_thread
from service.schemas.reply import (
    DoneEvent,
    ErrorDetail,
    ErrorReply,
    Reply,
    Sentence,
    SentenceEvent,
    Translation,
    TranslationEvent,
)
from service.schemas.request import TranslateRequest

Found = tuple[int, Sentence | Translation]
"""Index of a text, and a sentence of it or, after the last one, all of it."""

REFUSAL = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorReply"}}}

router = APIRouter(prefix="/v1", tags=["translation"], dependencies=[Depends(access.required)])


@dataclass(frozen=True)
class Stream:
    """What a translator has found so far, in order; then None, or what went wrong."""

    first: Found | None
    rest: asyncio.Queue[Found | Exception | None]
    request_id: str


async def begun(body: TranslateRequest, request: Request, translator: Core) -> AsyncIterator[Stream]:
    """A translation that has got somewhere: what fails before is answered like any other request.

    A task of its own takes what is found, so that a slow reader keeps nobody waiting, and nor does it outlive its
    deadline. It ends when the client goes away.
    """
    found: asyncio.Queue[Found | Exception | None] = asyncio.Queue()
    task = asyncio.create_task(_take(translator, body, found))
    try:
        first = await unless_disconnected(request, found.get())
        if isinstance(first, Exception):
            raise first
        yield Stream(first, found, request.state.request_id)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@router.post(
    "/translate/stream",
    response_class=EventSourceResponse,
    response_description="`sentence`, `translation`, `error` and `done` events",
    responses={status: answer | {"content": REFUSAL} for status, answer in ERRORS.items()},
)
async def stream(
    found: Annotated[Stream, Depends(begun)],
) -> AsyncIterator[SentenceEvent | TranslationEvent | DoneEvent | ErrorReply]:
    """Translate a text or a list of texts, and send each sentence as soon as it and all before it are finished.

    The request is that of `/v1/translate`. Each sentence is an event `sentence`, with the index of its text; after the
    last one of a text its whole translation is an event `translation`; the last event is `done`. What goes wrong before
    the first event is answered with its status; afterwards it is told by an event `error`, which is then the last.
    While there is nothing to tell, comments keep the connection alive.
    """
    item: Found | Exception | None = found.first
    count = 0
    while item is not None:
        if isinstance(item, Exception):
            yield _event("error", _failure(item, found.request_id))
            return
        index, result = item
        if isinstance(result, Sentence):
            yield _event("sentence", SentenceEvent(index=index, sentence=result))
        else:
            count += 1
            event = TranslationEvent(index=index, translation=result)
            yield await maybe_in_thread(len(result.text), partial(_event, "translation", event))
        item = await found.rest.get()
    yield _event("done", DoneEvent(translations=count))


async def _take(translator: Translator, body: TranslateRequest, found: asyncio.Queue[Found | Exception | None]) -> None:
    try:
        with translator.admission.inside():
            async with aclosing(translator.stream(body)) as results:
                async for result in results:
                    found.put_nowait(result)
                    # The others' turn: where all is in the cache there is nothing else to wait for.
                    await asyncio.sleep(0)
        found.put_nowait(None)
    except Exception as error:  # noqa: BLE001 - it is raised, or told, where the results are read
        found.put_nowait(error)


def _event(name: str, data: Reply) -> Any:
    """To FastAPI an endpoint yields what its events carry, which is what its description is made from."""
    # As elsewhere, a field of an error may be null and one of a translation may be missing. In ASCII, as there are
    # readers of lines that take other characters than line breaks for their end.
    text = data.model_dump_json(exclude_none=not isinstance(data, ErrorReply), ensure_ascii=True)
    return ServerSentEvent(event=name, raw_data=text)


def _failure(error: Exception, request_id: str) -> ErrorReply:
    failure = errors.from_exception(error)
    metrics.REFUSED.labels(failure.code).inc()
    if isinstance(failure, errors.Internal):
        errors.log_unexpected(error, request_id)
    return ErrorReply(error=ErrorDetail(**errors.body(failure, request_id)))
