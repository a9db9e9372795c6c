from collections.abc import Iterator

import numpy as np
import pytest

from export.package import Package
from service.engine import Engine
from tests.packages import VOCABULARY
from tests.service.engine.helpers import running
from tests.service.engine.reference import Oracle, oracles


@pytest.fixture
def engine(package: Package) -> Iterator[Engine]:
    with running(package, threads=2) as engine:
        yield engine


@pytest.fixture(scope="session")
def sources(package: Package) -> list[list[int]]:
    """Of all lengths, in no order, for both targets."""
    random = np.random.default_rng(1)
    tags = list(package.manifest.tags.values())
    return [
        [tags[i % 2], *random.integers(6, 300, size=random.integers(0, 40)).tolist(), package.manifest.special.eos]
        for i in range(24)
    ]


@pytest.fixture(scope="session")
def known(package: Package, sources: list[list[int]]) -> list[Oracle]:
    """What the fp32 graphs say of each source."""
    return oracles(package, "fp32", VOCABULARY, sources)
