import pytest
from hypothesis import settings

from service.core import Translator
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, started, train

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def engine() -> EchoEngine:
    return EchoEngine()


@pytest.fixture
def client(tokenizer: Tokenizer, engine: EchoEngine) -> Client:
    return Client(started([model(tokenizer, engine)]))


@pytest.fixture
def translator(tokenizer: Tokenizer, engine: EchoEngine) -> Translator:
    return started([model(tokenizer, engine)])
