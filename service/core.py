"""The translator: text to sentences to jobs to reply. Every dialect of HTTP is an adapter over it."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TypeVar

import psutil
from pydantic import ValidationError

from service import errors, logs, metrics, pages, pivot
from service.admission import Admission
from service.cache import Cache
from service.call import Call
from service.dispatch import Dispatch
from service.engine import Hypothesis, Job
from service.gate import Gate
from service.languages import NAMES
from service.plan import Plan, Planner, clean
from service.registry import Model, Opened, Registry
from service.reply import Cells
from service.schemas.reply import (
    AlignmentSource,
    BatchResult,
    ErrorDetail,
    LanguageInfo,
    ModelInfo,
    Sentence,
    TranslateReply,
    Translation,
)
from service.schemas.request import MARKUP, BatchItem, TranslateRequest
from service.serving import Packages
from service.settings import Settings
from service.text.glossary import Glossary
from service.text.protect import Protected
from service.work import Work

logger = logging.getLogger("attentive")

T = TypeVar("T")

INLINE_CHARS = 5000
"""Longer requests are cut into sentences and sub-words in a thread, and replies to them written in one, so that the
others do not wait for them."""


class Translator:
    """Ready once every model has translated something; not ready any more from :meth:`drain` on."""

    def __init__(self, settings: Settings, registry: Registry | None = None) -> None:
        self.settings = settings
        self.packages = Packages(settings, registry.models if registry else ())
        self.cache = Cache(settings.cache_bytes)
        self.admission = Admission(settings.latency_objective_ms / 1000, settings.slots * settings.decode_threads // 2)
        self.gate = Gate(settings)

    @property
    def registry(self) -> Registry:
        return self.packages.serving.registry

    @property
    def planner(self) -> Planner:
        return self.packages.serving.planner

    @property
    def ready(self) -> bool:
        return self.gate.ready

    async def start(self) -> None:
        """Open the packages, unless a registry was given, and translate with each in every direction.

        A package that fails is left out and logged. Without any, the translator stays not ready.
        """
        async with self.gate.starting():
            await self.packages.start()
            self.gate.warm = bool(self.registry.models)
        if not self.gate.warm:
            logger.error("no package in %s can be served", self.settings.packages)

    async def reload(self) -> list[Opened]:
        """See :meth:`service.serving.Packages.reload`. Raises :class:`service.errors.Unavailable` while stopping."""
        self.gate.check_running()
        found = await self.packages.reload()
        self.gate.warm = bool(self.registry.models)
        return found

    def drain(self) -> None:
        """Refuse new work; what has begun goes on."""
        self.gate.drain()

    async def close(self) -> None:
        self.drain()
        await self.packages.close()

    async def translate(
        self, request: TranslateRequest, protected: Sequence[Sequence[Protected]] = ()
    ) -> TranslateReply:
        """``protected``: stretches of each text that must come through, besides those that are found in it; none where
        it is empty. Raises :class:`service.errors.ServiceError`; work that nobody waits for any more leaves the
        engines.
        """
        async with self._under_way(request) as call, self.gate.until(call.deadline):
            return await self._translate(request, protected, call)

    async def stream(self, request: TranslateRequest) -> AsyncGenerator[tuple[int, Sentence | Translation], None]:
        """What :meth:`translate` finds, as soon as it is found: the sentences in order, and after the last one of a
        text its whole translation, each with the index of the text. A page is not found sentence by sentence, nor are
        texts of which one is translated through a third language.

        Raises :class:`service.errors.ServiceError`. Whoever may leave it early uses ``contextlib.aclosing``: then
        nothing of it is left in the engines.
        """
        async with self._under_way(request) as call:
            if request.format in MARKUP:
                async with self.gate.until(call.deadline):
                    reply = await self._translate(request, (), call)
                for found in enumerate(reply.translations):
                    yield found
                return
            async with self.gate.until(call.deadline):
                work = await self._plan(request, (), call)
                pivoted = any(plan.pivot for plan in work.plans)
                whole = await self._finish(work, (), call) if pivoted else None
            if whole is not None:
                for index, translation in enumerate(whole.translations):
                    for sentence in pivot.in_order(translation):
                        yield index, sentence
                    yield index, translation
                return
            async with aclosing(self._results(work, call)) as results:
                while True:
                    # Only here: the deadline must not strike where somebody else's code runs.
                    async with self.gate.until(call.deadline):
                        result = await anext(results, None)
                    if result is None:
                        return
                    yield result

    def detect(self, text: str) -> list[tuple[str, float]]:
        """The served languages with their probabilities for ``text``, best first."""
        return self.planner.rank(clean(text))

    async def translate_each(self, items: Sequence[BatchItem]) -> list[BatchResult]:
        """A result or an error for each item, in order; none spoils another's."""
        return list(await asyncio.gather(*(self._translate_item(item) for item in items)))

    def models(self) -> list[ModelInfo]:
        return [
            ModelInfo(
                name=model.name,
                architecture=model.manifest.architecture,
                directions=model.manifest.directions,
                precision=model.engine.precision,
                provider=model.engine.provider,
                alignment=AlignmentSource(**model.manifest.alignment.model_dump()),
                version=model.manifest.version,
                memory_bytes=model.engine.memory_bytes,
            )
            for model in self.registry.models
        ]

    def languages(self) -> list[LanguageInfo]:
        return [
            LanguageInfo(code=source, name=NAMES.get(source, source), targets=targets)
            for source, targets in self.registry.languages().items()
        ]

    def observe(self) -> None:
        """Bring the metrics that are states, not events, up to date."""
        metrics.READY.set(self.ready)
        metrics.WAIT_SECONDS.set(self.admission.wait)
        self.admission.flush()
        metrics.RESIDENT_BYTES.set(psutil.Process().memory_info().rss)
        self.packages.observe()

    @asynccontextmanager
    async def _under_way(self, request: TranslateRequest) -> AsyncGenerator[Call, None]:
        """Count a request; it has the models that serve at its beginning."""
        async with self.gate.inside(request) as deadline:
            with self.packages.serving.used() as serving:
                yield Call(request, serving, deadline)

    async def _translate(
        self, request: TranslateRequest, protected: Sequence[Sequence[Protected]], call: Call
    ) -> TranslateReply:
        """``request``: the call's own, or a part of it."""
        if request.format in MARKUP:
            planner, depth = call.serving.planner, self.settings.max_html_depth
            texts = await asyncio.to_thread(pages.read_all, request, planner, depth)
            call.note([text.plan for text in texts])
            return await pages.translate(request, texts, partial(self._translate, call=call))
        work = await self._plan(request, protected, call)
        return await self._finish(work, protected, call)

    async def _finish(self, work: Work, protected: Sequence[Sequence[Protected]], call: Call) -> TranslateReply:
        """All translations of what is planned: first those by one model, then those through a third language."""
        async with aclosing(self._results(work, call)) as results:
            found = [result async for _, result in results]
        translations = [result for result in found if isinstance(result, Translation)]
        names = {index: plan.model.name for index, plan in enumerate(work.plans) if plan.model is not None}
        through = [index for index, plan in enumerate(work.plans) if plan.pivot is not None]
        plain = partial(self._translate, call=call)
        spans = [protected[index] if protected else () for index in through]
        cells = Cells(self.settings.max_attention_cells)
        pivoted = await pivot.translate(work.request, [work.plans[index] for index in through], spans, cells, plain)
        for index, (name, translation) in zip(through, pivoted, strict=True):
            names[index], translations[index] = name, translation
        name = names[min(names)] if names else call.serving.registry.named(work.request.model)[0].name
        return TranslateReply(model=name, translations=translations)

    async def _plan(self, request: TranslateRequest, protected: Sequence[Sequence[Protected]], call: Call) -> Work:
        started = time.perf_counter()
        planner, size = call.serving.planner, sum(map(len, [*request.texts, *(request.glossary or {})]))
        cells = Cells(self.settings.max_attention_cells)
        work = await maybe_in_thread(
            size, lambda: Work(_plans(planner, request, protected), request, call.deadline, cells)
        )
        ended = time.perf_counter()
        metrics.TOKENIZE_SECONDS.observe(ended - started)
        logs.phase("tokenize", started, ended)
        call.note(work.plans)
        logs.add(sentences=sum(len(plan.pieces) for plan in work.plans))
        return work

    async def _results(self, work: Work, call: Call) -> AsyncGenerator[tuple[int, Sentence | Translation], None]:
        """See :meth:`stream`."""
        window = min(self.settings.max_request_sentences, self.settings.queue_size)
        dispatch = Dispatch(work.jobs, window, self.cache, self.admission, begun=call.begun)
        results: dict[int, list[Hypothesis]] = {}
        started = time.perf_counter()
        async with aclosing(dispatch.results()) as answers:
            async for index, hypotheses in answers:
                results[index] = hypotheses
                asked = len(work.jobs)
                work.take(index, hypotheses)
                # Whoever reads the sentences in order waits for this one first.
                dispatch.unsent.extendleft(reversed(range(asked, len(work.jobs))))
                for result in work.ready():
                    yield result
        ended = time.perf_counter()
        metrics.INFERENCE_SECONDS.observe(ended - started)
        logs.phase("queue", started, dispatch.joined or ended)
        logs.phase("decode", dispatch.joined or ended, ended)
        _count(work.jobs, [results[index] for index in range(len(work.jobs))])
        call.begun = True
        for result in work.ready():
            yield result

    async def _translate_item(self, item: BatchItem) -> BatchResult:
        try:
            with self.admission.inside():
                answer = await self.translate(TranslateRequest.model_validate(item.model_dump()))
        except ValidationError as error:
            return _failure(errors.from_exception(error))
        except errors.ServiceError as error:
            return _failure(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this item only
            errors.log_unexpected(error, "in a batch")
            return _failure(errors.from_exception(error))
        return BatchResult(translation=answer.translations[0])


def _plans(planner: Planner, request: TranslateRequest, protected: Sequence[Sequence[Protected]]) -> list[Plan]:
    each = protected or [()] * len(request.texts)
    glossary = Glossary(request.glossary or {})
    plans: list[Plan] = []
    sentences = 0
    for text, spans in zip(request.texts, each, strict=True):
        plans.append(planner.plan(text, request, spans, glossary, sentences))
        sentences += plans[-1].sentences
    return plans


def _failure(error: errors.ServiceError) -> BatchResult:
    return BatchResult(error=ErrorDetail(**errors.body(error, None)))


def _count(work: Sequence[tuple[Model, Job]], results: Sequence[list[Hypothesis]]) -> None:
    sentences, read, written = Counter[str](), Counter[str](), Counter[str]()
    for (model, job), hypotheses in zip(work, results, strict=True):
        sentences[model.name] += 1
        read[model.name] += len(job.source_ids) - 1 - bool(model.manifest.tags)
        written[model.name] += len(hypotheses[0].token_ids)
    for metric, counts in ((metrics.SENTENCES, sentences), (metrics.TOKENS_IN, read), (metrics.TOKENS_OUT, written)):
        for name, count in counts.items():
            metric.labels(name).inc(count)
    logs.add(tokens_in=read.total(), tokens_out=written.total())


async def maybe_in_thread(size: int, work: Callable[[], T]) -> T:
    """``work`` on a text of ``size`` characters."""
    return work() if size <= INLINE_CHARS else await asyncio.to_thread(work)
