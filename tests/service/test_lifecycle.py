import asyncio
import os
import signal
import time
from pathlib import Path
from types import FrameType

import pytest

from service import errors
from service.lifecycle import Drain, forget_dead_workers
from service.schemas.reply import TranslateReply
from service.schemas.request import TranslateRequest
from service.text.tokens import Tokenizer
from tests.service.fakes import EchoEngine, model, run, started, until


class Server:
    """What is there before: it notes when it hears of SIGTERM."""

    def __init__(self) -> None:
        self.heard: list[float] = []
        self.before = signal.signal(signal.SIGTERM, self.handle)

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        self.heard.append(time.monotonic())

    def close(self) -> None:
        signal.signal(signal.SIGTERM, self.before)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


async def translate(translator, text="cat") -> TranslateReply:
    return await translator.translate(TranslateRequest(text=text, target="fr", source="en"))


def test_sigterm_drains_before_the_server_hears_of_it(tokenizer: Tokenizer, server: Server) -> None:
    engine = EchoEngine()
    translator = started([model(tokenizer, engine)])

    async def scenario() -> None:
        engine.held = True
        task = asyncio.create_task(translate(translator))
        await until(lambda: bool(engine.waiting))
        drain = Drain(translator, seconds=0, deadline=60)
        drain.install()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: drain.task is not None and not translator.ready)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(errors.Unavailable):
            await translate(translator)
        assert server.heard == []
        engine.release()
        assert (await task).translations[0].text == "cat"
        assert drain.task is not None
        await drain.task
        await until(lambda: bool(server.heard))

    run(scenario())
    assert len(server.heard) == 1


def test_what_is_not_done_at_the_deadline_is_refused(tokenizer: Tokenizer, server: Server) -> None:
    engine = EchoEngine()
    translator = started([model(tokenizer, engine)])

    async def scenario() -> None:
        engine.held = True
        stuck = [asyncio.create_task(translate(translator)) for _ in range(3)]
        await until(lambda: len(engine.waiting) == 3)
        drain = Drain(translator, seconds=0.01, deadline=0.05)
        drain.install()
        began = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        for result in await asyncio.gather(*stuck, return_exceptions=True):
            assert isinstance(result, errors.Unavailable)
        assert time.monotonic() - began >= 0.05
        await until(lambda: bool(server.heard))
        assert all(future.cancelled() for _, future in engine.waiting)

    run(scenario())
    assert translator.gate.in_flight == 0


def test_the_server_goes_on_listening_for_a_while_without_work(tokenizer: Tokenizer, server: Server) -> None:
    translator = started([model(tokenizer, EchoEngine())])

    async def scenario() -> None:
        Drain(translator, seconds=0.05, deadline=0).install()
        began = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: bool(server.heard))
        assert server.heard[0] - began >= 0.05

    run(scenario())


def test_what_a_dead_worker_left_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    dead = os.posix_spawnp("true", ["true"], os.environ)
    os.waitpid(dead, 0)
    for pid in (dead, os.getpid()):
        (tmp_path / f"gauge_livesum_{pid}.db").touch()
        (tmp_path / f"counter_{pid}.db").touch()
    forget_dead_workers()
    assert {path.name for path in tmp_path.iterdir()} == {
        f"counter_{dead}.db",
        f"counter_{os.getpid()}.db",
        f"gauge_livesum_{os.getpid()}.db",
    }
