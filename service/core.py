"""The translator: text to sentences to jobs to reply. Every dialect of HTTP is an adapter over it."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from pydantic import ValidationError

from service import errors, metrics, reply
from service.dispatch import Dispatch
from service.engine import Hypothesis, Job
from service.languages import NAMES
from service.plan import Piece, Plan, Planner
from service.registry import Model, Registry, open_models
from service.schemas import (
    AlignmentSource,
    BatchItem,
    BatchResult,
    ErrorDetail,
    LanguageInfo,
    ModelInfo,
    TranslateReply,
    TranslateRequest,
)
from service.settings import Settings

logger = logging.getLogger("attentive")

T = TypeVar("T")

INLINE_CHARS = 5000
"""Longer requests are cut into sentences and sub-words in a thread, so that the others do not wait for them."""
WARM_UP = "Hello."


class Translator:
    """Ready once every model has translated something; not ready any more from :meth:`drain` on.

    ``idle`` is set while no request is being translated.
    """

    def __init__(self, settings: Settings, registry: Registry | None = None) -> None:
        self.settings = settings
        self._serve(registry or Registry())
        self.in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._warm = False
        self._draining = False

    @property
    def ready(self) -> bool:
        return self._warm and not self._draining

    async def start(self) -> None:
        """Open the packages, unless a registry was given, and translate with each in every direction.

        A package that fails is left out and logged. Without any, the translator stays not ready.
        """
        if not self.registry.models:
            models = await asyncio.to_thread(open_models, self.settings)
            self._serve(Registry(models, default=self.settings.default_model))
        warm = [model for model in self.registry.models if await self._warm_up(model)]
        self._serve(Registry(warm, default=self.settings.default_model))
        self._warm = bool(self.registry.models)
        if not self._warm:
            logger.error("no package in %s can be served", self.settings.packages)

    def _serve(self, registry: Registry) -> None:
        self.registry = registry
        self.planner = Planner(registry, self.settings.detect_confidence)

    async def _warm_up(self, model: Model) -> bool:
        [subwords] = model.tokenizer.encode([WARM_UP])
        targets = [target for _, target in model.manifest.directions]
        work = [(model, Job(source_ids=model.source_ids(subwords, target), attention=True)) for target in targets]
        try:
            await Dispatch(work, window=len(work)).run()
        except Exception:
            logger.exception("package %s refused: it cannot translate", model.name)
            model.engine.close()
            return False
        return True

    def drain(self) -> None:
        """Refuse new work; what has begun goes on."""
        self._draining = True

    async def close(self) -> None:
        self.drain()
        for model in self.registry.models:
            await asyncio.to_thread(model.engine.close)

    async def translate(self, request: TranslateRequest) -> TranslateReply:
        """Raises :class:`service.errors.ServiceError`; work that nobody waits for any more leaves the engines."""
        if not self.ready:
            raise errors.Unavailable("the server is stopping" if self._draining else "the models are not ready yet")
        timeout = self.settings.request_timeout_s
        if request.timeout_ms is not None:
            timeout = min(timeout, request.timeout_ms / 1000)
        self._check_limits(request)
        self._count_in_flight(1)
        try:
            async with asyncio.timeout(timeout):
                return await self._translate(request, time.monotonic() + timeout)
        except TimeoutError as error:
            raise errors.from_exception(error) from error
        finally:
            self._count_in_flight(-1)

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
        for model in self.registry.models:
            metrics.QUEUED.labels(model.name).set(model.engine.queued)
            metrics.DECODING.labels(model.name).set(model.engine.active)

    def _count_in_flight(self, change: int) -> None:
        self.in_flight += change
        metrics.IN_FLIGHT.set(self.in_flight)
        if self.in_flight:
            self.idle.clear()
        else:
            self.idle.set()

    def _check_limits(self, request: TranslateRequest) -> None:
        limits = self.settings
        if len(request.texts) > limits.max_texts:
            raise errors.TooLarge(f"a request takes at most {limits.max_texts} texts", field="text")
        for index, text in enumerate(request.texts):
            if len(text) > limits.max_text_chars:
                field = "text" if isinstance(request.text, str) else f"text[{index}]"
                raise errors.TooLarge(f"a text has at most {limits.max_text_chars} characters", field=field)

    async def _translate(self, request: TranslateRequest, deadline: float) -> TranslateReply:
        started = time.perf_counter()
        size = sum(map(len, request.texts))
        plans = await _maybe_in_thread(size, lambda: [self.planner.plan(text, request) for text in request.texts])
        metrics.TOKENIZE_SECONDS.observe(time.perf_counter() - started)

        work = [
            (plan.model, _job(plan.model, plan.target, piece, request, deadline))
            for plan in plans
            if plan.model is not None
            for piece in plan.pieces
        ]
        started = time.perf_counter()
        window = min(self.settings.max_request_sentences, self.settings.queue_size)
        results = await Dispatch(work, window).run()
        metrics.INFERENCE_SECONDS.observe(time.perf_counter() - started)
        _count(work, results)

        answers = iter(results)
        return TranslateReply(
            model=self._model_name(request, plans),
            translations=await _maybe_in_thread(
                size,
                lambda: [reply.translation(plan, [next(answers) for _ in plan.pieces], request) for plan in plans],
            ),
        )

    def _model_name(self, request: TranslateRequest, plans: Sequence[Plan]) -> str:
        """Of the model that translated the first text that needed one."""
        used = [plan.model.name for plan in plans if plan.model is not None]
        return used[0] if used else self.registry.named(request.model)[0].name

    async def _translate_item(self, item: BatchItem) -> BatchResult:
        try:
            answer = await self.translate(TranslateRequest.model_validate(item.model_dump()))
        except ValidationError as error:
            return _failure(errors.from_exception(error))
        except errors.ServiceError as error:
            return _failure(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this item only
            errors.log_unexpected(error, "in a batch")
            return _failure(errors.from_exception(error))
        return BatchResult(translation=answer.translations[0])


def _job(model: Model, target: str, piece: Piece, request: TranslateRequest, deadline: float) -> Job:
    prefix = piece.prefix.ids if piece.prefix else []
    job = Job(
        source_ids=model.source_ids(piece.ids, target),
        beam_size=max(request.beam_size, request.alternatives + 1),
        n_best=request.alternatives + 1,
        attention=request.attention != "none",
        max_length=request.max_length,
        min_length=piece.min_length,
        length_penalty=request.length_penalty,
        no_repeat_ngram=request.no_repeat_ngram_size,
        prefix=prefix,
        deadline=deadline,
    )
    forced = max(len(prefix), piece.min_length)
    if request.max_length is None and forced:
        # After what was asked for there must be room to end the sentence.
        return replace(job, max_length=job.longest(model.manifest) + forced)
    return job


def _failure(error: errors.ServiceError) -> BatchResult:
    return BatchResult(error=ErrorDetail(**errors.body(error, None)))


def _count(work: Sequence[tuple[Model, Job]], results: Sequence[list[Hypothesis]]) -> None:
    for (model, job), hypotheses in zip(work, results, strict=True):
        metrics.SENTENCES.labels(model.name).inc()
        metrics.TOKENS_IN.labels(model.name).inc(len(job.source_ids) - 2)
        metrics.TOKENS_OUT.labels(model.name).inc(len(hypotheses[0].token_ids))


async def _maybe_in_thread(size: int, work: Callable[[], T]) -> T:
    """``work`` on a text of ``size`` characters."""
    return work() if size <= INLINE_CHARS else await asyncio.to_thread(work)
