from collections.abc import Iterator

import pytest

from service.app import create_app
from service.settings import Settings
from service.text.tokens import Tokenizer
from tests.service.client.helpers import Ask, ask_async, ask_sync, listening
from tests.service.fakes import EchoEngine, model, started


@pytest.fixture(scope="module")
def url(tokenizer: Tokenizer) -> Iterator[str]:
    """A server that repeats what it is told."""
    settings = Settings()
    with listening(create_app(started([model(tokenizer, EchoEngine(), max_length=200)]), settings)) as address:
        yield address


@pytest.fixture(params=[ask_sync, ask_async])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param
