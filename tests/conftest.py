from collections.abc import Iterator
from pathlib import Path

import pytest

from export.package import Package
from models.checkpoint import Run
from tests.packages import ARCHITECTURES, write_package, write_run
from tests.served import Server, serve


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The shipped packages behind the real server, which turns nobody away for being slow on a busy machine."""
    home = tmp_path_factory.mktemp("bentoml")
    with serve(home, latency_objective_ms=0, glossaries_file=home / "glossaries.sqlite") as server:
        yield server


@pytest.fixture(scope="session", params=ARCHITECTURES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished tiny run of each architecture."""
    return write_run(tmp_path_factory.mktemp("run") / request.param, request.param)


@pytest.fixture(scope="session")
def package(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Its package in both precisions."""
    return write_package(run, tmp_path_factory.mktemp("package") / run.config.name)


@pytest.fixture(scope="session")
def transformer_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """One package, for tests that do not ask about architectures."""
    root: Path = tmp_path_factory.mktemp("one")
    return write_package(write_run(root / "run", "transformer"), root / "tiny-transformer")
