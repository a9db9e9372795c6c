import httpx
import pytest

from service.access import cross_origin
from service.admission import Door
from service.app import create_app
from service.core import Translator
from service.settings import Settings
from service.text.tokens import Tokenizer
from tests.service.fakes import EchoEngine, model, run, started

PAGE = "https://shop.example"
BODY = {"text": "cat", "source": "en", "target": "fr"}


@pytest.fixture
def translator(tokenizer: Tokenizer) -> Translator:
    return started([model(tokenizer, EchoEngine())])


@pytest.fixture
def answer(translator: Translator):
    """What the application answers, opened to some origins."""

    def ask(origins: str, method: str = "POST", origin: str = PAGE, **headers: str) -> httpx.Response:
        app = cross_origin(Door(create_app(translator, Settings()), translator.admission), origins)

        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
                return await client.request(method, "/v1/translate", json=BODY, headers={"Origin": origin} | headers)

        return run(send())

    return ask


def test_by_default_no_page_of_another_origin_may_read_an_answer(answer) -> None:
    found = answer(Settings().cors_origins)
    assert found.status_code == 200
    assert "access-control-allow-origin" not in found.headers


@pytest.mark.parametrize(("origins", "allowed"), [("*", "*"), (f"https://a.example, {PAGE}", PAGE)])
def test_a_page_may_translate_and_read_the_id(answer, origins: str, allowed: str) -> None:
    found = answer(origins)
    assert found.json()["translations"][0]["text"] == "cat"
    assert found.headers["access-control-allow-origin"] == allowed
    assert "X-Request-ID" in found.headers["access-control-expose-headers"]


def test_a_page_of_another_origin_may_not(answer) -> None:
    assert "access-control-allow-origin" not in answer(PAGE, origin="https://evil.example").headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_browser_that_asks_first_is_told_what_it_may_send(answer, method: str) -> None:
    asked = {
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, authorization",
    }
    found = answer(PAGE, "OPTIONS", **asked)
    assert found.status_code == 200
    assert found.headers["access-control-allow-origin"] == PAGE
    assert answer(PAGE, "OPTIONS", origin="https://evil.example", **asked).status_code == 400


def test_a_page_can_read_that_it_is_refused_at_the_door(
    answer, translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    admission = translator.admission
    monkeypatch.setattr(admission, "work", 10_000)
    monkeypatch.setattr(admission, "rate", 1.0)
    found = answer(PAGE)
    assert found.status_code == 429
    assert found.headers["access-control-allow-origin"] == PAGE
    assert "Retry-After" in found.headers["access-control-expose-headers"]
