"""An engine without a network: it repeats the source, so a test knows every translation beforehand."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
import numpy as np
import sentencepiece
from fastapi import FastAPI

from export.package import Alignment, File, Manifest, Special
from service.app import create_app
from service.core import Translator
from service.engine import Engine, Hypothesis, Job, Overloaded
from service.registry import Model, Registry
from service.schemas.reply import Translation
from service.schemas.request import TranslateRequest
from service.settings import Settings
from service.text.tokens import Tokenizer

T = TypeVar("T")

TAGS = {"en": 4, "fr": 5}
PLACEHOLDERS = [6, 7]
"""What a model has that was trained with them; by default a manifest has none."""
ENGLISH = "the cat sleeps on a red table and drinks milk"
FRENCH = "le chat dort sur une table rouge et boit du lait"


def train(path: Path, more: str = "") -> Tokenizer:
    """A tokenizer like the shipped ones: unigram, byte fallback, target tags, two placeholders. ``more``: words that
    it knows besides."""
    words = f"{ENGLISH} {FRENCH} {more}".split()
    sentences = [" ".join(words[number % len(words) :]) + "." for number in range(200)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_prefix=str(path / "tokenizer"),
        vocab_size=330,
        byte_fallback=True,
        control_symbols=["<2en>", "<2fr>"],
        user_defined_symbols=["⟦0⟧", "⟦1⟧"],
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return Tokenizer(path / "tokenizer.model")


def manifest(name: str = "echo", architecture: str = "transformer", **changes: Any) -> Manifest:
    settings: dict[str, Any] = {
        "name": name,
        "version": "1",
        "architecture": architecture,
        "directions": [("en", "fr"), ("fr", "en")],
        "special": Special(pad=0, unk=1, bos=2, eos=3),
        "tags": TAGS,
        "max_length": 40,
        "tokenizer": File(name="tokenizer.model", sha256=""),
        "graphs": {},
        "alignment": Alignment(shift=1, layer=0, heads="mean"),
        "licence": "CC0",
        "training_data": [],
        "parameters": 0,
    }
    return Manifest(**(settings | changes))


class EchoEngine:
    """Answers at once, with the source reversed for every hypothesis after the first.

    ``capacity`` sentences may be under way at a time; ``held`` keeps them there until :meth:`release`;
    ``error`` is what every sentence fails with.
    """

    precision = "int8"
    provider = "CPUExecutionProvider"
    active = 0
    memory_bytes = 1000

    def __init__(self, capacity: int = 1000, held: bool = False, error: Exception | None = None) -> None:
        self.capacity = self.queue_size = capacity
        self.held = held
        self.error = error
        self.jobs: list[Job] = []
        self.waiting: list[tuple[Job, Future[list[Hypothesis]]]] = []
        self.closed = False

    @property
    def queued(self) -> int:
        return len(self.waiting)

    def submit_all(self, jobs: Sequence[Job]) -> list[Future[list[Hypothesis]]]:
        self.waiting = [(job, future) for job, future in self.waiting if not future.done()]
        if len(self.waiting) + len(jobs) > self.capacity:
            raise Overloaded
        pairs: list[tuple[Job, Future[list[Hypothesis]]]] = [(job, Future()) for job in jobs]
        self.jobs += jobs
        self.waiting += pairs
        if not self.held:
            self.release()
        return [future for _, future in pairs]

    def submit(self, job: Job) -> Future[list[Hypothesis]]:
        return self.submit_all([job])[0]

    def release(self) -> None:
        for job, future in self.waiting:
            if not future.set_running_or_notify_cancel():
                continue
            if self.error is not None:
                future.set_exception(self.error)
            else:
                future.set_result([self.hypothesis(job, rank) for rank in range(job.n_best)])
        self.waiting = []

    @staticmethod
    def hypothesis(job: Job, rank: int) -> Hypothesis:
        ids = list(job.source_ids[1:-1])
        attention = np.full((len(ids), len(ids) + 2), 0.1 / (len(ids) + 1), dtype=np.float32)
        attention[np.arange(len(ids)), np.arange(len(ids)) + 1] = 0.9
        return Hypothesis(
            token_ids=ids if rank == 0 else ids[::-1],
            log_prob=-(rank + 1) * 0.5 * (len(ids) + 1),
            score=-(rank + 1) * 0.5,
            truncated=False,
            repeated=False,
            attention=attention if job.attention else None,
        )

    def start(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def model(tokenizer: Tokenizer, engine: EchoEngine, **changes: Any) -> Model:
    return Model(manifest(**changes), cast(Engine, engine), tokenizer)


def started(models: Sequence[Model], **settings: Any) -> Translator:
    """A translator that has warmed up."""
    translator = Translator(Settings(**settings), Registry(models))
    asyncio.run(translator.start())
    return translator


class Client:
    """Requests to an application in this process, each in a loop of its own."""

    def __init__(self, translator: Translator) -> None:
        self.translator = translator
        self.app: FastAPI = create_app(translator, translator.settings)

    def open(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://test")

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with self.open() as client:
                return await client.request(method, path, **options)

        return run(send())

    def translate(self, **body: Any) -> httpx.Response:
        return self.request("POST", "/v1/translate", json={"target": "fr", "source": "en"} | body)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else run until ``condition`` holds."""
    while not condition():
        await asyncio.sleep(0)


def translate(translator: Translator, text: str, **options: object) -> Translation:
    request = TranslateRequest.model_validate({"text": text, "target": "fr", "source": "en"} | options)
    return run(translator.translate(request)).translations[0]
