"""Reloading: changed packages take the place of those that serve."""

import asyncio
import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from export.package import Package
from service import serving
from service.core import Translator
from service.errors import Unavailable
from service.registry import Opened
from service.schemas.reply import TranslateReply
from service.schemas.request import TranslateRequest
from service.settings import Settings
from service.text.tokens import Tokenizer
from tests.packages import sentences
from tests.service.fakes import EchoEngine, model, run, started, until

CLIENTS = 8


async def ask(translator: Translator, text: str = "cat", **options) -> TranslateReply:
    return await translator.translate(TranslateRequest(text=text, target="fr", source="en", **options))


def found(monkeypatch, *opened: Opened) -> None:
    """What the next reload finds in the directory."""
    monkeypatch.setattr(serving, "open_packages", lambda _settings, _models: list(opened))


def test_a_request_ends_with_the_models_it_began_with(tokenizer: Tokenizer, monkeypatch) -> None:
    engines = [EchoEngine() for _ in range(3)]
    models = [model(tokenizer, engine, version=str(number)) for number, engine in enumerate(engines)]
    translator = started(models[:1])

    async def scenario() -> None:
        engines[0].held = True
        first = asyncio.create_task(ask(translator))
        await until(lambda: bool(engines[0].waiting))
        for number in (1, 2):
            found(monkeypatch, Opened("echo", "loaded", models[number], models[number - 1]))
            await translator.reload()
            assert [each.version for each in translator.models()] == [str(number)]
            assert (await ask(translator)).translations[0].text == "cat"
            assert len(engines[number].jobs) == 3
        assert not any(engine.closed for engine in engines)
        engines[0].release()
        assert (await first).translations[0].text == "cat"
        await until(lambda: engines[0].closed and engines[1].closed)
        assert not engines[2].closed
        await translator.close()
        assert engines[2].closed

    run(scenario())


def test_a_model_that_stays_is_not_closed_while_an_older_request_has_it(tokenizer: Tokenizer, monkeypatch) -> None:
    """The request began two reloads ago, when both served; the one it uses goes in the second."""
    old, kept, new = EchoEngine(), EchoEngine(), EchoEngine()
    first, stays, second = (
        model(tokenizer, engine, name=name) for engine, name in ((old, "a"), (kept, "b"), (new, "a"))
    )
    translator = started([first, stays])

    async def scenario() -> None:
        kept.held = True
        slow = asyncio.create_task(ask(translator, model="b"))
        await until(lambda: bool(kept.waiting))
        found(monkeypatch, Opened("a", "loaded", second, first), Opened("b", "unchanged", stays, stays))
        await translator.reload()
        found(monkeypatch, Opened("a", "unchanged", second, second), Opened("b", "removed", None, stays))
        await translator.reload()
        assert [each.name for each in translator.models()] == ["a"]
        assert not kept.closed
        kept.release()
        assert (await slow).translations[0].text == "cat"
        await until(lambda: old.closed and kept.closed)
        assert not new.closed

    run(scenario())


def test_one_that_cannot_translate_leaves_the_old_one_serving(tokenizer: Tokenizer, monkeypatch) -> None:
    sound, broken = EchoEngine(), EchoEngine(error=RuntimeError("secret"))
    before, after = model(tokenizer, sound), model(tokenizer, broken, version="2")
    translator = started([before])
    found(monkeypatch, Opened("echo", "loaded", after, before))
    [opened] = run(translator.reload())
    assert (opened.outcome, opened.model, opened.error) == ("failed", before, "it cannot translate: RuntimeError")
    assert broken.closed
    assert not sound.closed
    assert run(ask(translator)).translations[0].text == "cat"


def test_something_always_serves(tokenizer: Tokenizer, monkeypatch) -> None:
    engine = EchoEngine()
    before = model(tokenizer, engine)
    translator = started([before])
    found(monkeypatch, Opened("echo", "removed", None, before), Opened("new", "failed", None, None, "no"))
    gone, failed = run(translator.reload())
    assert (gone.outcome, gone.model) == ("failed", before)
    assert gone.error
    assert (failed.outcome, failed.model, failed.error) == ("failed", None, "no")
    assert not engine.closed
    assert translator.ready


def test_a_queue_shorter_than_the_list_of_targets_is_long_enough(tokenizer: Tokenizer) -> None:
    assert run(serving.warm_up(model(tokenizer, EchoEngine(capacity=1)))) == ""


def test_nothing_is_reloaded_while_stopping(tokenizer: Tokenizer) -> None:
    translator = started([model(tokenizer, EchoEngine())])
    translator.drain()
    with pytest.raises(Unavailable):
        run(translator.reload())


@pytest.fixture
def packages(transformer_package: Package, tmp_path: Path) -> Path:
    shutil.copytree(transformer_package.path, tmp_path / "one")
    return tmp_path


def add(packages: Path, name: str) -> None:
    """A package like the first, under a name of its own."""
    fresh = shutil.copytree(packages / "one", packages / name)
    manifest = json.loads((fresh / "manifest.json").read_text())
    (fresh / "manifest.json").write_text(json.dumps(manifest | {"name": name}))


def release(packages: Path, version: str, name: str = "one") -> None:
    """Put another version in a package's place, as an operator does: beside it first, then under its name."""
    fresh = shutil.copytree(packages / name, packages / f".{name}.new")
    manifest = json.loads((fresh / "manifest.json").read_text())
    (fresh / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    (packages / name).rename(packages / f".{name}.{version}")
    fresh.rename(packages / name)


def test_nothing_is_dropped_under_load(packages: Path) -> None:
    translator = Translator(Settings(models_dir=packages, threads=1, slots=8, cache_bytes=0))
    texts = sentences(30, seed=3)
    stopped = asyncio.Event()
    answered = 0

    async def client(expected: dict[str, str]) -> None:
        nonlocal answered
        while not stopped.is_set():
            for text in texts:
                assert (await ask(translator, text)).translations[0].text == expected[text]
                answered += 1

    def served(count: int) -> bool:
        return answered > count

    async def scenario() -> None:
        await translator.start()
        expected = {text: (await ask(translator, text)).translations[0].text for text in texts}
        clients = [asyncio.create_task(client(expected)) for _ in range(CLIENTS)]
        engines = []
        for version in ("1", "2", "3"):
            await until(partial(served, answered + CLIENTS))
            engines.append(translator.registry.models[0].engine)
            release(packages, version)
            [opened] = await translator.reload()
            assert (opened.package, opened.outcome) == ("one", "loaded")
            assert opened.before is not None
            assert opened.before.engine is engines[-1]
            assert translator.gate.in_flight == CLIENTS
            assert [each.version for each in translator.models()] == [version]
        await until(partial(served, answered + CLIENTS))
        stopped.set()
        await asyncio.gather(*clients)
        await translator.close()
        for engine in engines:
            with pytest.raises(RuntimeError, match="closed"):
                engine.submit_all([])

    run(scenario())


def test_only_what_has_changed_is_opened(packages: Path) -> None:
    add(packages, "two")
    translator = Translator(Settings(models_dir=packages, threads=1, slots=8))

    async def scenario() -> None:
        await translator.start()
        engines = {each.path.name: each.engine for each in translator.registry.models}
        release(packages, "9", name="two")
        add(packages, "three")
        (packages / "four").mkdir()
        opened = await translator.reload()
        outcomes = [(each.package, each.outcome) for each in opened]
        assert outcomes == [("four", "failed"), ("one", "unchanged"), ("three", "loaded"), ("two", "loaded")]
        assert {each.engine for each in translator.registry.models} & {*engines.values()} == {engines["one"]}
        shutil.rmtree(packages / "two")
        (packages / "one" / "manifest.json").unlink()
        opened = await translator.reload()
        assert [(each.package, each.outcome) for each in opened] == [
            ("four", "failed"),
            ("one", "failed"),
            ("three", "unchanged"),
            ("two", "removed"),
        ]
        assert {each.engine.package.path.name for each in translator.registry.models} == {"one", "three"}
        assert (await ask(translator)).translations
        await translator.close()

    run(scenario())
