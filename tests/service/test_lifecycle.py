import asyncio
import os
import signal
from types import FrameType

from service.lifecycle import Drain
from service.schemas import TranslateRequest
from service.text.tokens import Tokenizer
from tests.service.fakes import EchoEngine, model, run, started, until


def test_sigterm_drains_before_the_server_hears_of_it(tokenizer: Tokenizer) -> None:
    engine = EchoEngine()
    translator = started([model(tokenizer, engine)])
    heard: list[bool] = []

    def server(_number: int, _frame: FrameType | None) -> None:
        heard.append(translator.idle.is_set())

    async def scenario() -> None:
        engine.held = True
        task = asyncio.create_task(translator.translate(TranslateRequest(text="cat", target="fr", source="en")))
        await until(lambda: bool(engine.waiting))
        drain = Drain(translator, seconds=0)
        drain.install()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: drain.task is not None and not translator.ready)
        assert heard == []
        engine.release()
        await task
        assert drain.task is not None
        await drain.task
        assert heard == [True]

    before = signal.signal(signal.SIGTERM, server)
    try:
        run(scenario())
    finally:
        signal.signal(signal.SIGTERM, before)
