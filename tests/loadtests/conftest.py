from collections.abc import Callable
from typing import Any

import pytest

from tests.loadtests.stub import stub


@pytest.fixture(scope="session")
def stub_server() -> Callable[..., Any]:
    return stub
