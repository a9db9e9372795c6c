"""What is served, and how changed packages take its place without a request that notices."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from service import metrics
from service.dispatch import Dispatch
from service.engine import Job
from service.plan import Planner
from service.registry import Model, Opened, Registry, open_packages
from service.settings import Settings
from service.text import detect

logger = logging.getLogger("attentive")

WARM_UP = "Hello."


class Serving:
    """Models that serve together, from one reload to the next. ``unused`` is set while no request is under way with it:
    a request ends with the models it began with.
    """

    def __init__(self, models: Sequence[Model], settings: Settings) -> None:
        self.registry = Registry(models, default=settings.default_model)
        self.planner = Planner(self.registry, settings.detect_confidence, settings.max_sentences)
        self.users = 0
        self.unused = asyncio.Event()
        self.unused.set()

    @contextmanager
    def used(self) -> Iterator["Serving"]:
        self.users += 1
        self.unused.clear()
        try:
            yield self
        finally:
            self.users -= 1
            if not self.users:
                self.unused.set()


class Packages:
    """The packages in the directory of the settings; with ``models`` those, until the first reload."""

    def __init__(self, settings: Settings, models: Sequence[Model] = ()) -> None:
        self.settings = settings
        self.serving = Serving(models, settings)
        self._loading = asyncio.Lock()
        self._retiring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the packages, unless there are models, and warm up. What fails is left out and logged."""
        if not self.serving.registry.models:
            await self.reload()
        else:
            async with self._loading:
                await self._serve([model for model in self.serving.registry.models if not await warm_up(model)])

    async def reload(self) -> list[Opened]:
        """Serve what is in the directory now, and say what became of each package.

        Packages that have changed are opened and warmed up beside those that serve, then all are swapped at once.
        Requests under way end with the models they began with, which are closed when nobody uses them any more. In
        place of a package that fails the one from the same directory goes on serving, and so does everything if
        otherwise nothing would be left.
        """
        async with self._loading:
            # To read the language model takes as long as to open the packages.
            found, _ = await asyncio.gather(self._open(), asyncio.to_thread(detect.load))
            if not any(each.model for each in found):
                found = [_kept(each) for each in found]
            await self._serve([each.model for each in found if each.model is not None])
        for each in found:
            metrics.RELOADS.labels(each.outcome).inc()
        return found

    async def close(self) -> None:
        if self._retiring is not None:
            await self._retiring
        for model in self.serving.registry.models:
            await asyncio.to_thread(model.engine.close)

    def observe(self) -> None:
        """Bring the metrics that are states, not events, up to date."""
        for model in self.serving.registry.models:
            metrics.QUEUED.labels(model.name).set(model.engine.queued)
            metrics.DECODING.labels(model.name).set(model.engine.active)
            metrics.SLOTS.labels(model.name).set(self.settings.slots * self.settings.decode_threads)
            model.watch.flush()

    async def _open(self) -> list[Opened]:
        opened = await asyncio.to_thread(open_packages, self.settings, self.serving.registry.models)
        return list(await asyncio.gather(*map(self._warmed, opened)))

    @staticmethod
    async def _warmed(opened: Opened) -> Opened:
        if opened.outcome != "loaded" or opened.model is None or not (reason := await warm_up(opened.model)):
            return opened
        return replace(opened, outcome="failed", model=opened.before, error=reason)

    async def _serve(self, models: Sequence[Model]) -> None:
        """From here on these; what is not among them is closed when the last request that uses it has ended."""
        before, self.serving = self.serving, await asyncio.to_thread(Serving, models, self.settings)
        gone = [model for model in before.registry.models if model not in models]
        if gone or before.users:
            self._retiring = asyncio.create_task(self._retire(before, gone, self._retiring))

    @staticmethod
    async def _retire(serving: Serving, models: Sequence[Model], earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await earlier
        await serving.unused.wait()
        for model in models:
            await asyncio.to_thread(model.engine.close)
            model.watch.flush()
            for gauge in (metrics.QUEUED, metrics.DECODING, metrics.SLOTS):
                gauge.labels(model.name).set(0)
            logger.info("package %s %s closed", model.name, model.manifest.version)


def _kept(opened: Opened) -> Opened:
    if opened.outcome != "removed":
        return replace(opened, model=opened.before)
    return replace(opened, outcome="failed", model=opened.before, error="it is gone, but nothing else is left to serve")


async def warm_up(model: Model) -> str:
    """Translate a word in every direction. What went wrong is logged and returned, and the model is closed."""
    [subwords] = model.tokenizer.encode([WARM_UP])
    targets = [target for _, target in model.manifest.directions]
    work = [(model, Job(source_ids=model.source_ids(subwords, target), attention=True)) for target in targets]
    try:
        await Dispatch(work, min(len(work), model.engine.queue_size)).run()
    except Exception as error:
        logger.exception("package %s refused: it cannot translate", model.name)
        await asyncio.to_thread(model.engine.close)
        return f"it cannot translate: {type(error).__name__}"
    return ""
